//! A process of the runtime's, watched by the event loop: a container's first, or one of an `exec`.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use runtime_linux::Created;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::failure::not_started;
use crate::executor::{ExecError, Exit};
use crate::model::ErrorKind;

#[derive(Debug)]
pub(super) struct Process {
    /// Its process id on the host.
    pub(super) pid: u32,
    /// Readable from the end of the process on, for every waiter.
    ended: AsyncFd<OwnedFd>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    created: Created,
    /// How it ended, and whether memory was what it ended of.
    exit: Option<Exit>,
}

impl Process {
    pub(super) fn watch(created: Created) -> Result<Self, ExecError> {
        let watch =
            |error| ExecError::failed(ErrorKind::Unavailable, "watching the container's process", error);
        let ended = created.pidfd().try_clone_to_owned().map_err(watch)?;
        #[expect(
            deprecated,
            reason = "sound for an OwnedFd; its successor is unsafe for every type, and this crate has no unsafe code"
        )]
        let ended = AsyncFd::with_interest(ended, Interest::READABLE).map_err(watch)?;
        Ok(Self { pid: created.pid(), ended, state: Mutex::new(State { created, exit: None }) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A descriptor of the process.
    pub(super) fn pidfd(&self) -> io::Result<OwnedFd> {
        self.ended.get_ref().try_clone()
    }

    pub(super) fn start(&self) -> Result<(), ExecError> {
        self.state().created.start().map_err(not_started)
    }

    /// The end, if it has come; `after` is asked once, when it is first seen, whether it was for want of memory.
    fn poll_exit(state: &mut State, after: &(dyn Fn() -> bool + Sync)) -> Result<Option<Exit>, ExecError> {
        if state.exit.is_none() {
            let ended = state.created.try_wait().map_err(|error| {
                ExecError::failed(ErrorKind::Internal, "asking for the end of the container's process", error)
            })?;
            state.exit = ended.map(|ended| Exit { code: ended.status().into(), oom_killed: after() });
        }
        Ok(state.exit)
    }

    pub(super) async fn wait(&self, after: &(dyn Fn() -> bool + Sync)) -> Result<Exit, ExecError> {
        loop {
            let mut ready = self.ended.readable().await.map_err(|error| {
                ExecError::failed(ErrorKind::Internal, "waiting for the container's process", error)
            })?;
            match Self::poll_exit(&mut self.state(), after)? {
                Some(exit) => return Ok(exit),
                None => ready.clear_ready(),
            }
        }
    }

    pub(super) fn signal(&self, signal: u8, after: &(dyn Fn() -> bool + Sync)) -> Result<(), ExecError> {
        let mut state = self.state();
        // A process that has ended but was not reaped takes signals without a word.
        if Self::poll_exit(&mut state, after)?.is_some() {
            return Err(ExecError::NotRunning);
        }
        state.created.signal(signal.into()).map_err(|error| match error.raw_os_error() {
            Some(libc::ESRCH) => ExecError::NotRunning,
            _ if error.kind() == io::ErrorKind::InvalidInput => {
                ExecError::failed(ErrorKind::InvalidInput, "sending the signal", error)
            }
            _ => ExecError::failed(ErrorKind::Internal, "sending the signal", error),
        })
    }
}
