//! Further processes in a container of an installed runtime.
//!
//! A runtime has no "made but not started" for them, so making one only looks at the container, and the runtime is run at the
//! start. Its number is known from then on.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use runtime_linux::Plan;
use runtime_linux::foreign::Stage;

use super::command::{Runtime, aside};
use super::process::{Process, reap_strays};
use super::task::{self, OciTask};
use super::{file_error, spec};
use crate::executor::linux::{self, Pty};
use crate::executor::{Exec, ExecError, ExecRequest, Exit, Stdio, Task, Terminal};
use crate::model::ErrorKind;

#[async_trait]
impl Exec for OciTask {
    async fn exec(&self, request: ExecRequest) -> Result<Box<dyn Task>, ExecError> {
        if self.frozen.load(Ordering::Relaxed) {
            return Err(ExecError::Paused { id: self.runtime.id.clone() });
        }
        if self.ended()? {
            return Err(ExecError::NotRunning);
        }
        let ExecRequest { process, privileged, stdio } = request;
        let mut plan = self.plan.clone();
        plan.env = linux::environment(&process, &plan.hostname, &stdio);
        plan.args = process.args;
        if !process.cwd.is_empty() {
            plan.cwd = process.cwd;
        }
        if !process.user.is_empty() {
            plan.user = process.user;
        }
        plan.terminal = match stdio {
            Stdio::Terminal(size) => Some(task::window(size)),
            Stdio::Files { .. } => None,
        };
        if privileged {
            plan.capabilities = runtime_linux::caps::ALL.iter().map(|&name| name.to_owned()).collect();
        }
        Ok(Box::new(ExecTask {
            runtime: self.runtime.clone(),
            root: self.inside()?,
            plan,
            stdio: Mutex::new(Some(stdio)),
            begun: OnceLock::new(),
            frozen: Arc::clone(&self.frozen),
        }))
    }
}

/// A process that runs, or ran.
#[derive(Debug)]
struct Begun {
    process: Arc<Process>,
    terminal: Option<Pty>,
}

/// A further process.
#[derive(Debug)]
struct ExecTask {
    runtime: Runtime,
    /// The container's root.
    root: std::os::fd::OwnedFd,
    plan: Plan,
    /// Until it starts.
    stdio: Mutex<Option<Stdio>>,
    begun: OnceLock<Begun>,
    /// The container's.
    frozen: Arc<AtomicBool>,
}

impl ExecTask {
    fn process(&self) -> Result<&Process, ExecError> {
        self.begun.get().map(|begun| begun.process.as_ref()).ok_or(ExecError::NotRunning)
    }
}

#[async_trait]
impl Task for ExecTask {
    fn pid(&self) -> u32 {
        self.begun.get().map_or(0, |begun| begun.process.pid)
    }

    async fn start(&self) -> Result<(), ExecError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let taken = self.stdio.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(stdio) = taken else {
            return Err(ExecError::failed(ErrorKind::Conflict, "starting the program", StartedTwice));
        };
        let description = spec::process(&self.plan, &task::identity(&self.root, &self.plan)?);
        let name = format!("exec-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let runtime = self.runtime.clone();
        let made = aside(move || {
            let pid_name = format!("{name}-pid");
            let (file, pid_file) = (runtime.file(&name), runtime.file(&pid_name));
            task::write(&runtime, &name, &description)?;
            let (process, pid) = (file.display().to_string(), pid_file.display().to_string());
            let arguments = ["exec", "--detach", "--process", &process, "--pid-file", &pid];
            let made = task::with_streams(&runtime, &Stage::default(), &arguments, stdio, &pid_file);
            for path in [&file, &pid_file] {
                match std::fs::remove_file(path) {
                    Err(error) if made.is_ok() => {
                        return Err(file_error("removing a file of the bundle", path)(error));
                    }
                    _ => {}
                }
            }
            made
        });
        let (terminal, child) = made.await.inspect_err(|_| {
            // What the runtime had begun may take a moment to be dead.
            tokio::spawn(async {
                for pause in [0, 10, 100, 1000, 5000] {
                    tokio::time::sleep(Duration::from_millis(pause)).await;
                    let _done = tokio::task::spawn_blocking(reap_strays).await;
                }
            });
        })?;
        let process = Arc::new(Process::watch(child)?);
        let reaped = Arc::clone(&process);
        tokio::spawn(async move {
            if let Err(error) = reaped.wait(&|| false).await {
                tracing::warn!(%error, "waiting for the end of an exec");
            }
        });
        let _first = self.begun.set(Begun { process, terminal: terminal.map(Pty) });
        Ok(())
    }

    async fn wait(&self) -> Result<Exit, ExecError> {
        self.process()?.wait(&|| false).await
    }

    async fn signal(&self, signal: u8) -> Result<(), ExecError> {
        let process = self.process()?;
        // A process that has ended but was not reaped takes signals without a word.
        if process.poll(&|| false)?.is_some() { Err(ExecError::NotRunning) } else { process.signal(signal) }
    }

    async fn delete(self: Box<Self>) -> Result<(), ExecError> {
        match self.signal(9).await {
            // Whoever thaws or kills the container lets the kernel carry it out; it is reaped then.
            Ok(()) if self.frozen.load(Ordering::Relaxed) => Ok(()),
            Ok(()) => self.process()?.wait(&|| false).await.map(drop),
            Err(ExecError::NotRunning) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn terminal(&self) -> Option<&dyn Terminal> {
        self.begun.get()?.terminal.as_ref().map(|pty| pty as &dyn Terminal)
    }
}

/// A task starts once.
#[derive(Debug, thiserror::Error)]
#[error("it has been started before")]
struct StartedTwice;
