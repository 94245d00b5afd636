//! Where a container's programs run on Linux: on a thread that is apart from the host, with a network of its own if the container has one.
//!
//! The supervisor connects that network as it does any container's, and goes on doing so while the program runs, so only the
//! programs' threads are confined as closely as those of a container without networks.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use runtime_linux::aside::{Aside, Wish};
use runtime_linux::wall::WallError;
use runtime_linux::{landlock, wall};

use crate::executor::{ExecError, NameFiles};
use crate::model::ErrorKind;

/// Whether containers can join networks here.
pub(super) const JOINS: bool = true;
/// Whether programs run apart from the host also without a network.
pub(super) const APART: bool = true;

/// What looking a name up reads.
pub(super) const NAMES: [&str; 4] =
    ["/etc/hosts", "/etc/resolv.conf", "/etc/host.conf", "/etc/nsswitch.conf"];

/// The place.
#[derive(Debug)]
pub(super) struct Place {
    thread: Aside,
    networked: bool,
    confined: Mutex<bool>,
}

fn failed(error: io::Error) -> ExecError {
    ExecError::failed(ErrorKind::Unavailable, "giving the program namespaces of its own", error)
}

fn unconfined(error: WallError) -> ExecError {
    ExecError::failed(ErrorKind::Unavailable, "confining the sandbox", error)
}

/// Writes the files that tell names, into the very files that are there.
fn write(scratch: &Path, files: &NameFiles) -> Result<(), ExecError> {
    std::fs::write(scratch.join("hosts"), &files.hosts)
        .and_then(|()| std::fs::write(scratch.join("resolv.conf"), &files.resolv_conf))
        .map_err(failed)
}

impl Place {
    /// With a network of its own, whose names are told by these files.
    pub(super) fn networked(scratch: &Path, files: &NameFiles) -> Result<Self, ExecError> {
        write(scratch, files)?;
        let own = [scratch.join("hosts"), scratch.join("resolv.conf")].into_iter();
        let host = NAMES[2..].iter().map(PathBuf::from);
        Self::new(true, own.chain(host))
    }

    /// Without. `names`: it may look names up as the host does, by the files that are there now.
    pub(super) fn without_network(names: bool) -> Result<Self, ExecError> {
        let files = NAMES.iter().filter(|_| names).map(PathBuf::from);
        Self::new(false, files)
    }

    /// Without a network and names, before its container is there; and what confines it is got ready.
    pub(super) fn ahead() -> Result<Self, ExecError> {
        wall::get_ready();
        Self::without_network(false)
    }

    /// Files in the order of their names; those that are not there are left out.
    fn new(networked: bool, files: impl Iterator<Item = PathBuf>) -> Result<Self, ExecError> {
        let files = files.zip(NAMES).filter(|(file, _)| file.is_file()).collect();
        let thread = Aside::start(Wish { network: networked, files }).map_err(failed)?;
        if let Some(error) = thread.refused() {
            tracing::warn!(%error, "the program has no namespaces of its own");
        }
        Ok(Self { thread, networked, confined: Mutex::default() })
    }

    /// For one more run.
    pub(super) fn renew(&self, scratch: &Path, files: &NameFiles) -> Result<(), ExecError> {
        if self.networked { write(scratch, files) } else { Ok(()) }
    }

    /// The thread whose network it is, if it has one.
    pub(super) fn network(&self) -> Option<u32> {
        self.networked.then(|| self.thread.id())
    }

    /// Gives up, for good, what only an escaped guest would use. Of a process without networks: all of it, as soon as everything is
    /// mounted. Of one with networks: only the programs' threads, when they begin.
    pub(super) fn confine(&self) -> Result<(), ExecError> {
        let mut confined = self.confined.lock().unwrap_or_else(PoisonError::into_inner);
        if !*confined {
            if self.networked {
                self.run(wall::raise_around_thread)?.map_err(unconfined)?;
            } else {
                wall::raise().map_err(unconfined)?;
                self.run(wall::restrict_thread)?.map_err(unconfined)?;
            }
            *confined = true;
        }
        Ok(())
    }

    /// What stands around the programs that were started here. `fenced`: each of their threads is confined to the container's files
    /// before it runs guest code, or runs none.
    pub(super) fn walls(&self, fenced: bool) -> Vec<&'static str> {
        let confined = *self.confined.lock().unwrap_or_else(PoisonError::into_inner);
        named(confined, self.thread.refused().is_none(), fenced && landlock::available())
    }

    /// Does something there.
    pub(super) fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ExecError> {
        self.thread.run(job).map_err(failed)
    }
}

/// What stands around a sandbox on this host, for this user; the kernel is asked.
pub(super) fn walls() -> Vec<&'static str> {
    let apart = Aside::start(Wish::default()).is_ok_and(|thread| thread.refused().is_none());
    named(true, apart, landlock::available())
}

fn named(confined: bool, apart: bool, landlock: bool) -> Vec<&'static str> {
    let all =
        [("seccomp", confined), ("capabilities", confined), ("namespaces", apart), ("landlock", landlock)];
    all.into_iter().filter(|(_, stands)| *stands).map(|(name, _)| name).collect()
}
