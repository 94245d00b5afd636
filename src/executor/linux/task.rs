//! A container's first process as a task.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use runtime_linux::{Created, Plan, cgroups};
use rustix::fs::{Mode, OFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::failure::{not_created, not_started};
use super::{cgroup_path, sweep};
use crate::executor::{ExecError, Exit, Task, Terminal, WindowSize, drop_later};
use crate::model::{ContainerId, ErrorKind};

#[derive(Debug)]
pub(super) struct LinuxTask {
    id: ContainerId,
    pid: u32,
    terminal: Option<Pty>,
    /// Held to the end: the last who lets go of an overlay waits for a disk, and that must not be the process, whose end would
    /// be seen only afterwards.
    root: OwnedFd,
    /// Readable from the end of the process on, for every waiter.
    ended: AsyncFd<OwnedFd>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    process: Created,
    exit: Option<Exit>,
}

impl LinuxTask {
    /// Makes the process, up to the point where only its start is missing.
    pub(super) fn spawn(
        exe: &Path,
        plan: &Plan,
        stdio: runtime_linux::Stdio,
        id: &ContainerId,
    ) -> Result<LinuxTask, ExecError> {
        let watch =
            |error| ExecError::failed(ErrorKind::Unavailable, "watching the container's process", error);
        let mut process = runtime_linux::spawn(exe, plan, stdio).map_err(not_created)?;
        let ended = process.pidfd().try_clone_to_owned().map_err(watch)?;
        #[expect(
            deprecated,
            reason = "sound for an OwnedFd; its successor is unsafe for every type, and this crate has no unsafe code"
        )]
        let ended = AsyncFd::with_interest(ended, Interest::READABLE).map_err(watch)?;
        let root = rustix::fs::open(
            format!("/proc/{}/root", process.pid()),
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(|error| watch(error.into()))?;
        Ok(LinuxTask {
            id: id.clone(),
            pid: process.pid(),
            root,
            terminal: process.take_terminal().map(Pty),
            ended,
            state: Mutex::new(State { process, exit: None }),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The end, if it has come.
    fn poll_exit(&self, state: &mut State) -> Result<Option<Exit>, ExecError> {
        if state.exit.is_none() {
            let ended = state.process.try_wait().map_err(|error| {
                ExecError::failed(ErrorKind::Internal, "asking for the end of the container's process", error)
            })?;
            state.exit =
                ended.map(|ended| Exit { code: ended.status().into(), oom_killed: self.out_of_memory() });
        }
        Ok(state.exit)
    }

    fn out_of_memory(&self) -> bool {
        let killed = cgroups::Cgroup::open(&cgroup_path(&self.id)).and_then(|cgroup| cgroup.oom_killed());
        killed.unwrap_or_else(|error| {
            tracing::debug!(id = %self.id, %error, "no memory controller tells why the container ended");
            false
        })
    }
}

#[async_trait]
impl Task for LinuxTask {
    fn pid(&self) -> u32 {
        self.pid
    }

    async fn start(&self) -> Result<(), ExecError> {
        self.state().process.start().map_err(not_started)
    }

    async fn wait(&self) -> Result<Exit, ExecError> {
        loop {
            let mut ready = self.ended.readable().await.map_err(|error| {
                ExecError::failed(ErrorKind::Internal, "waiting for the container's process", error)
            })?;
            match self.poll_exit(&mut self.state())? {
                Some(exit) => return Ok(exit),
                None => ready.clear_ready(),
            }
        }
    }

    async fn signal(&self, signal: u8) -> Result<(), ExecError> {
        let mut state = self.state();
        // A process that has ended but was not reaped takes signals without a word.
        if self.poll_exit(&mut state)?.is_some() {
            return Err(ExecError::NotRunning);
        }
        state.process.signal(signal.into()).map_err(|error| match error.raw_os_error() {
            Some(libc::ESRCH) => ExecError::NotRunning,
            _ if error.kind() == io::ErrorKind::InvalidInput => {
                ExecError::failed(ErrorKind::InvalidInput, "sending the signal", error)
            }
            _ => ExecError::failed(ErrorKind::Internal, "sending the signal", error),
        })
    }

    async fn delete(self: Box<Self>) -> Result<(), ExecError> {
        let Self { id, state, ended, root, .. } = *self;
        drop(ended);
        // Kills and reaps the first process; with it the kernel ends its whole namespace.
        drop(state);
        drop_later(root);
        sweep(&id)
    }

    fn terminal(&self) -> Option<&dyn Terminal> {
        self.terminal.as_ref().map(|pty| pty as &dyn Terminal)
    }
}

/// The host's end of a terminal.
#[derive(Debug)]
struct Pty(OwnedFd);

impl Terminal for Pty {
    fn stream(&self) -> Result<File, ExecError> {
        self.0
            .try_clone()
            .map(File::from)
            .map_err(|error| ExecError::failed(ErrorKind::Unavailable, "opening the terminal", error))
    }

    fn resize(&self, size: WindowSize) -> Result<(), ExecError> {
        runtime_linux::resize(&self.0, size.rows, size.cols)
            .map_err(|error| ExecError::failed(ErrorKind::Internal, "resizing the terminal", error))
    }
}
