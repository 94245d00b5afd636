//! The twin of terminals on systems without pseudo-terminals: it refuses.

use std::fs::File;

use crate::executor::{ExecError, Refusal, Terminal, WindowSize};

/// A terminal that cannot be.
#[derive(Debug)]
pub(super) enum Pty {}

/// Refuses.
pub(super) fn open(_: WindowSize) -> Result<(Pty, [File; 3]), ExecError> {
    Err(Refusal::Cannot { executor: super::NAME, what: "allocate a terminal (`--tty`) on this host" }.into())
}

impl Terminal for Pty {
    fn stream(&self) -> Result<File, ExecError> {
        match *self {}
    }

    fn resize(&self, _: WindowSize) -> Result<(), ExecError> {
        match *self {}
    }
}
