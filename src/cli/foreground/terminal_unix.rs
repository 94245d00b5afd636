//! The terminal of the user: its size, and raw mode.

use std::io::{self, IsTerminal};

use rustix::termios::{self, OptionalActions, Termios};

use crate::executor::WindowSize;

/// Raw mode on standard input, until dropped: at the ordinary end, at an error and while a panic unwinds.
#[derive(Debug)]
pub(super) struct Raw(Termios);

impl Raw {
    /// Enters raw mode; `None` where standard input is no terminal.
    pub(super) fn enter() -> io::Result<Option<Self>> {
        let stdin = io::stdin();
        if !stdin.is_terminal() {
            return Ok(None);
        }
        let before = termios::tcgetattr(&stdin)?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(&stdin, OptionalActions::Now, &raw)?;
        Ok(Some(Self(before)))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that has gone away needs no restoring.
        let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

/// What is typed on standard input is not shown, until dropped; signals of the terminal work as ever.
#[derive(Debug)]
pub(in crate::cli) struct NoEcho(Termios);

impl NoEcho {
    /// Stops showing what is typed.
    pub(in crate::cli) fn enter() -> io::Result<Self> {
        let stdin = io::stdin();
        let before = termios::tcgetattr(&stdin)?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(termios::LocalModes::ECHO);
        termios::tcsetattr(&stdin, OptionalActions::Now, &hidden)?;
        Ok(Self(before))
    }
}

impl Drop for NoEcho {
    fn drop(&mut self) {
        // A terminal that has gone away needs no restoring.
        let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

/// The size of the user's terminal.
pub(in crate::cli) fn size() -> Option<WindowSize> {
    let size = termios::tcgetwinsize(io::stdout()).or_else(|_| termios::tcgetwinsize(io::stdin())).ok()?;
    Some(WindowSize { rows: size.ws_row, cols: size.ws_col })
}
