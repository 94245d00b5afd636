//! A process that a runtime made and left to us: the supervisor is its parent from then on.
//!
//! Invariants:
//! - Only while a runtime makes a process does the supervisor take over orphans: those of containers that share the host's
//!   process ids go to the host's first process, as ever. What a runtime that failed leaves is reaped ([`reap_strays`]).
//! - A process is reaped as soon as it ends, also when nobody waits for it: a pid namespace does not end before.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::file_error;
use crate::executor::{ExecError, Exit};
use crate::model::ErrorKind;

/// Held by whoever makes a process: one after the other, so that everyone knows which orphan is whose.
static TURN: Mutex<()> = Mutex::new(());
/// The processes that somebody waits for.
static KNOWN: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

/// While it is there, orphans among our descendants become our children.
#[derive(Debug)]
pub(super) struct Adoption {
    _turn: MutexGuard<'static, ()>,
}

fn adopt(adopting: bool) -> Result<(), Errno> {
    rustix::process::set_child_subreaper(adopting.then(rustix::process::getpid))
}

fn known() -> MutexGuard<'static, BTreeSet<u32>> {
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Adoption {
    pub(super) fn begin() -> Result<Self, ExecError> {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        adopt(true).map_err(|error| {
            let error = std::io::Error::from(error);
            ExecError::failed(ErrorKind::Unavailable, "becoming a reaper of processes", error)
        })?;
        Ok(Self { _turn: turn })
    }
}

impl Drop for Adoption {
    fn drop(&mut self) {
        if let Err(error) = adopt(false) {
            tracing::debug!(%error, "still a reaper of processes");
        }
    }
}

/// Reaps what a runtime that failed has left to us: in a pid namespace, a process that nobody reaps holds up the end of all.
pub(super) fn reap_strays() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let own = std::process::id().to_string();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let stray = |pid: &u32| {
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let stat = read("stat");
        // The name is in parentheses, and may hold some itself.
        let mut fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
        let dead_child = fields.next() == Some("Z") && fields.next() == Some(own.as_str());
        // Commands of the runtime are waited for by those who run them, and are in no container's namespace.
        dead_child && !known().contains(pid) && levels(&read("status")) > 1
    };
    for pid in numbers.filter(stray) {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            let _reaped =
                rustix::process::waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
        }
    }
}

/// In how many pid namespaces a process is, by its `status`.
fn levels(status: &str) -> usize {
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    line.map_or(0, |line| line.split_whitespace().count())
}

/// A child by its number and a descriptor.
#[derive(Debug)]
pub(super) struct Child {
    pub(super) pid: u32,
    pidfd: OwnedFd,
}

impl Child {
    /// The process whose number a runtime wrote to a file. It is our child, so the number is its own until it is reaped.
    pub(super) fn from_file(path: &Path) -> Result<Self, ExecError> {
        let failed = file_error("reading which process the runtime made", path);
        let read = || {
            let text = std::fs::read_to_string(path)?;
            let pid: i32 = text.trim().parse().map_err(std::io::Error::other)?;
            let pid = Pid::from_raw(pid).ok_or(std::io::ErrorKind::InvalidData)?;
            let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
            let pid = pid.as_raw_nonzero().get().cast_unsigned();
            known().insert(pid);
            Ok(Self { pid, pidfd })
        };
        read().map_err(failed)
    }

    /// Kills it and waits for it, where it never became a task.
    pub(super) fn end(&self) {
        let _ended = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
        let _reaped = rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED);
        known().remove(&self.pid);
    }
}

/// A process, watched by the event loop.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) pid: u32,
    /// Readable from the end of the process on, for every waiter.
    ended: AsyncFd<OwnedFd>,
    exit: Mutex<Option<Exit>>,
}

impl Process {
    pub(super) fn watch(child: Child) -> Result<Self, ExecError> {
        let watch =
            |error| ExecError::failed(ErrorKind::Unavailable, "watching the container's process", error);
        #[expect(
            deprecated,
            reason = "sound for an OwnedFd; its successor is unsafe for every type, and this crate has no unsafe code"
        )]
        let ended = AsyncFd::with_interest(child.pidfd, Interest::READABLE).map_err(watch)?;
        Ok(Self { pid: child.pid, ended, exit: Mutex::new(None) })
    }

    /// The end, if it has come; `after` is asked once, when it is first seen, whether it was for want of memory.
    pub(super) fn poll(&self, after: &(dyn Fn() -> bool + Sync)) -> Result<Option<Exit>, ExecError> {
        let mut exit = self.exit.lock().unwrap_or_else(PoisonError::into_inner);
        if exit.is_none() {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
            let status = rustix::process::waitid(WaitId::PidFd(self.ended.get_ref().as_fd()), options);
            let status = status.map_err(|error| {
                let error = std::io::Error::from(error);
                ExecError::failed(ErrorKind::Internal, "asking for the end of the container's process", error)
            })?;
            if status.is_some() {
                known().remove(&self.pid);
            }
            *exit = status.map(|status| {
                let signal = status.terminating_signal().map(|signal| 128 + signal);
                Exit { code: status.exit_status().or(signal).unwrap_or(255), oom_killed: after() }
            });
        }
        Ok(*exit)
    }

    pub(super) async fn wait(&self, after: &(dyn Fn() -> bool + Sync)) -> Result<Exit, ExecError> {
        loop {
            let mut ready = self.ended.readable().await.map_err(|error| {
                ExecError::failed(ErrorKind::Internal, "waiting for the container's process", error)
            })?;
            match self.poll(after)? {
                Some(exit) => return Ok(exit),
                None => ready.clear_ready(),
            }
        }
    }

    /// Sends a signal to the process itself.
    pub(super) fn signal(&self, number: u8) -> Result<(), ExecError> {
        let invalid =
            || ExecError::failed(ErrorKind::InvalidInput, "sending the signal", NoSignal { number });
        let signal = named(number).ok_or_else(invalid)?;
        match rustix::process::pidfd_send_signal(self.ended.get_ref(), signal) {
            Ok(()) => Ok(()),
            Err(Errno::SRCH) => Err(ExecError::NotRunning),
            Err(error) => {
                let error = std::io::Error::from(error);
                Err(ExecError::failed(ErrorKind::Internal, "sending the signal", error))
            }
        }
    }
}

/// Not one that can be sent here.
#[derive(Debug, thiserror::Error)]
#[error("signal {number} cannot be sent to a further process")]
struct NoSignal {
    number: u8,
}

fn named(number: u8) -> Option<Signal> {
    Signal::from_named_raw(i32::from(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_depth_of_a_process_is_read() {
        assert_eq!(levels("Name:\tx\nNSpid:\t77\t3\nNSpgid:\t77\t3\n"), 2);
        assert_eq!(levels("Name:\tx\nNSpid:\t77\n"), 1);
        assert_eq!(levels(""), 0);
    }
}
