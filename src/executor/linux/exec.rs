//! Further processes in a container.
//!
//! Invariants:
//! - A process is reaped as soon as it ends, also when nobody waits for it: a pid namespace does not end before all of its
//!   processes are reaped, and without this a forgotten `exec` would hold up the container's end for ever.
//! - Nothing here waits in the event loop: what enters a container depends on its file systems, and one that hangs must not take
//!   the supervisor with it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use runtime_linux::{ExecPlan, Seccomp};

use super::failure::not_entered;
use super::plan::environment;
use super::process::Process;
use super::task::{LinuxTask, Pty};
use crate::executor::{Exec, ExecError, ExecRequest, Exit, Stdio, Task, Terminal};
use crate::model::ErrorKind;

/// Runs what may wait on a thread of its own.
async fn aside<T: Send + 'static>(
    job: impl FnOnce() -> Result<T, ExecError> + Send + 'static,
) -> Result<T, ExecError> {
    let failed = |error| ExecError::failed(ErrorKind::Internal, "running on a thread", error);
    tokio::task::spawn_blocking(job).await.map_err(failed)?
}

fn exec_plan(task: &LinuxTask, request: &ExecRequest) -> ExecPlan {
    let (plan, process) = (&task.plan, &request.process);
    let mut exec = ExecPlan::like(plan, task.process.pid, process.args.clone());
    exec.env = environment(process, &plan.hostname, &request.stdio);
    if !process.cwd.is_empty() {
        exec.cwd.clone_from(&process.cwd);
    }
    if !process.user.is_empty() {
        exec.user.clone_from(&process.user);
    }
    if let Stdio::Terminal(size) = request.stdio {
        exec.terminal = Some(runtime_linux::WindowSize { rows: size.rows, cols: size.cols });
    }
    if request.privileged {
        exec.capabilities = runtime_linux::caps::ALL.iter().map(|&name| name.to_owned()).collect();
        exec.seccomp = Seccomp::Unconfined;
    }
    exec
}

#[async_trait]
impl Exec for LinuxTask {
    async fn exec(&self, request: ExecRequest) -> Result<Box<dyn Task>, ExecError> {
        if self.frozen.load(Ordering::Relaxed) {
            return Err(ExecError::Paused { id: self.id.clone() });
        }
        let plan = exec_plan(self, &request);
        let watch =
            |error| ExecError::failed(ErrorKind::Unavailable, "watching the container's process", error);
        let (exe, target) = (self.exe.clone(), self.process.pidfd().map_err(watch)?);
        let stdio = super::streams(request.stdio);
        let mut created = aside(move || {
            use std::os::fd::AsFd;
            runtime_linux::exec(&exe, &plan, target.as_fd(), stdio).map_err(not_entered)
        })
        .await?;
        let terminal = created.take_terminal().map(Pty);
        let process = Arc::new(Process::watch(created)?);
        let reaped = Arc::clone(&process);
        tokio::spawn(async move {
            if let Err(error) = reaped.wait(&|| false).await {
                tracing::warn!(%error, "waiting for the end of an exec");
            }
        });
        Ok(Box::new(ExecTask { process, terminal, frozen: Arc::clone(&self.frozen) }))
    }
}

/// A further process.
#[derive(Debug)]
struct ExecTask {
    process: Arc<Process>,
    terminal: Option<Pty>,
    /// The container's.
    frozen: Arc<std::sync::atomic::AtomicBool>,
}

#[async_trait]
impl Task for ExecTask {
    fn pid(&self) -> u32 {
        self.process.pid
    }

    async fn start(&self) -> Result<(), ExecError> {
        let process = Arc::clone(&self.process);
        aside(move || process.start()).await
    }

    async fn wait(&self) -> Result<Exit, ExecError> {
        self.process.wait(&|| false).await
    }

    async fn signal(&self, signal: u8) -> Result<(), ExecError> {
        self.process.signal(signal, &|| false)
    }

    async fn delete(self: Box<Self>) -> Result<(), ExecError> {
        match self.process.signal(9, &|| false) {
            // Whoever thaws or kills the container lets the kernel carry it out; it is reaped then.
            Ok(()) if self.frozen.load(Ordering::Relaxed) => Ok(()),
            Ok(()) => self.process.wait(&|| false).await.map(drop),
            Err(ExecError::NotRunning) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn terminal(&self) -> Option<&dyn Terminal> {
        self.terminal.as_ref().map(|pty| pty as &dyn Terminal)
    }
}
