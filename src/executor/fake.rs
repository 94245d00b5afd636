//! An executor without a kernel feature or a sandbox, for tests of the boundary and of the supervisor.
//!
//! It runs a handful of built-in programs on a thread: `true`, `exit N`, `echo TEXT…`, `cat` (standard input to standard
//! output), `loop` (writes
//! `ready`, then runs until a signal), `missing` (not found) and `denied` (not executable). It is part of the library, not of
//! the binary's list of executors.

use std::fs::File;
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

use super::{Create, Entry, ExecError, Executor, Exit, Refusal, Settings, Stdio, Task, Workload};
use crate::model::{ContainerId, ErrorKind};

/// The executor's name.
pub const NAME: &str = "fake";

/// The host side's view.
pub const ENTRY: Entry = Entry { name: NAME, aliases: &[], admit, open };

#[expect(clippy::unnecessary_wraps, reason = "the signature is the boundary's")]
fn admit(_: &Workload) -> Result<(), Refusal> {
    Ok(())
}

#[expect(clippy::unnecessary_wraps, reason = "the signature is the boundary's")]
fn open(_: &Settings) -> Result<Box<dyn Executor>, ExecError> {
    Ok(Box::new(Fake))
}

/// The executor.
#[derive(Debug, Clone, Copy)]
pub struct Fake;

#[derive(Debug)]
struct FakeTask {
    args: Vec<String>,
    stdio: Mutex<Option<(File, File)>>,
    signal: Arc<AtomicI32>,
    exit: watch::Sender<Option<Exit>>,
}

#[derive(Debug, thiserror::Error)]
#[error("exec: \"{program}\": {reason}")]
struct NoProgram {
    program: String,
    reason: &'static str,
}

#[async_trait]
impl Executor for Fake {
    async fn create(&self, request: Create) -> Result<Box<dyn Task>, ExecError> {
        let Stdio::Files { stdin, stdout, .. } = request.stdio else {
            return Err(Refusal::Cannot { executor: NAME, what: "allocate a terminal (`--tty`)" }.into());
        };
        Ok(Box::new(FakeTask {
            args: request.process.args,
            stdio: Mutex::new(Some((stdin, stdout))),
            signal: Arc::default(),
            exit: watch::Sender::new(None),
        }))
    }

    async fn sweep(&self, _: &ContainerId) -> Result<(), ExecError> {
        Ok(())
    }
}

#[async_trait]
impl Task for FakeTask {
    fn pid(&self) -> u32 {
        std::process::id()
    }

    async fn start(&self) -> Result<(), ExecError> {
        let program = self.args.first().cloned().unwrap_or_default();
        let refuse = |kind, reason| {
            Err(ExecError::failed(
                kind,
                "starting the program",
                NoProgram { program: program.clone(), reason },
            ))
        };
        match program.as_str() {
            "missing" => return refuse(ErrorKind::CommandNotFound, "executable file not found in $PATH"),
            "denied" => return refuse(ErrorKind::CommandNotExecutable, "permission denied"),
            _ => {}
        }
        let taken = self.stdio.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        let Some((stdin, stdout)) = taken else { return Err(ExecError::NotRunning) };
        let (args, signal, exit) = (self.args.clone(), Arc::clone(&self.signal), self.exit.clone());
        std::thread::spawn(move || {
            let code = program_main(&args, stdin, stdout, &signal);
            exit.send_replace(Some(Exit { code, oom_killed: false }));
        });
        Ok(())
    }

    async fn wait(&self) -> Result<Exit, ExecError> {
        let mut ended = self.exit.subscribe();
        let exit = ended.wait_for(Option::is_some).await.map_err(|_| ExecError::NotRunning)?;
        exit.ok_or(ExecError::NotRunning)
    }

    async fn signal(&self, signal: u8) -> Result<(), ExecError> {
        if self.exit.borrow().is_some() {
            return Err(ExecError::NotRunning);
        }
        self.signal.store(signal.into(), Ordering::Relaxed);
        Ok(())
    }

    async fn delete(self: Box<Self>) -> Result<(), ExecError> {
        self.signal.store(9, Ordering::Relaxed);
        Ok(())
    }
}

fn program_main(args: &[String], mut stdin: File, mut stdout: File, signal: &AtomicI32) -> i32 {
    let rest = args.get(1..).unwrap_or_default();
    match args.first().map(String::as_str) {
        Some("exit") => rest.first().and_then(|code| code.parse().ok()).unwrap_or(2),
        Some("echo") => i32::from(writeln!(stdout, "{}", rest.join(" ")).is_err()),
        Some("cat") => i32::from(copy(&mut stdin, &mut stdout).is_err()),
        Some("loop") => {
            let _ = stdout.write_all(b"ready\n");
            loop {
                match signal.load(Ordering::Relaxed) {
                    0 => std::thread::sleep(Duration::from_millis(1)),
                    n => break 128 + n,
                }
            }
        }
        _ => 0,
    }
}

fn copy(from: &mut impl Read, to: &mut impl Write) -> std::io::Result<u64> {
    std::io::copy(from, to)
}
