//! A network of a container's own on Linux: its programs are started on a thread that has one.
//!
//! The supervisor connects that network as it does any container's, and goes on doing so while the program runs, so only the
//! programs' threads are confined as closely as those of a container without networks.

use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use runtime_linux::aside::Aside;

use crate::executor::{ExecError, NameFiles};
use crate::model::ErrorKind;

/// Whether containers can join networks here.
pub(super) const JOINS: bool = true;

/// The network.
#[derive(Debug)]
pub(super) struct Place {
    thread: Aside,
    confined: Mutex<bool>,
}

fn failed(error: io::Error) -> ExecError {
    ExecError::failed(ErrorKind::Unavailable, "giving the program a network of its own", error)
}

/// Writes the files that tell names, into the very files that are there.
fn write(scratch: &Path, files: &NameFiles) -> Result<(), ExecError> {
    std::fs::write(scratch.join("hosts"), &files.hosts)
        .and_then(|()| std::fs::write(scratch.join("resolv.conf"), &files.resolv_conf))
        .map_err(failed)
}

impl Place {
    pub(super) fn new(scratch: &Path, files: &NameFiles) -> Result<Self, ExecError> {
        write(scratch, files)?;
        let thread = Aside::start(&scratch.join("hosts"), &scratch.join("resolv.conf")).map_err(failed)?;
        Ok(Self { thread, confined: Mutex::default() })
    }

    /// For one more run.
    #[expect(clippy::unused_self, reason = "its files are what is renewed, and its twin needs it")]
    pub(super) fn renew(&self, scratch: &Path, files: &NameFiles) -> Result<(), ExecError> {
        write(scratch, files)
    }

    /// The thread whose network it is.
    pub(super) fn id(&self) -> u32 {
        self.thread.id()
    }

    /// Gives up, for good, what only an escaped guest would use.
    pub(super) fn confine(&self) -> Result<(), ExecError> {
        let mut confined = self.confined.lock().unwrap_or_else(PoisonError::into_inner);
        if !*confined {
            self.run(runtime_linux::wall::raise_around_thread)?.map_err(|error| {
                ExecError::failed(ErrorKind::Unavailable, "confining the sandbox's thread", error)
            })?;
            *confined = true;
        }
        Ok(())
    }

    /// Does something there.
    pub(super) fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ExecError> {
        self.thread.run(job).map_err(failed)
    }
}
