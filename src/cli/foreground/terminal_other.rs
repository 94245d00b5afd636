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

/// Typing without being shown: not here.
#[derive(Debug)]
pub(in crate::cli) struct NoEcho;

impl NoEcho {
    /// Refused: a password would be shown on the screen.
    pub(in crate::cli) fn enter() -> std::io::Result<Self> {
        Err(std::io::Error::new(
            std::io::ErrorKind::Unsupported,
            "hiding what is typed is not supported on this system: use --password-stdin",
        ))
    }
}
