//! The terminal where it is none of Unix's: no raw mode; what is typed arrives line by line.

use std::io;

use crate::executor::WindowSize;

/// Raw mode, which there is none of.
#[derive(Debug)]
pub(super) struct Raw;

impl Raw {
    /// Refuses: a container with a terminal needs raw mode on the user's.
    pub(super) fn enter() -> io::Result<Option<Self>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// The size of the user's terminal.
pub(in crate::cli) fn size() -> Option<WindowSize> {
    None
}
