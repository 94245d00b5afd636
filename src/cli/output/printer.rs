//! The one writer of the program.
//!
//! Invariant: a closed pipe is not an error to report: the first write that fails with it yields [`OutputError::Closed`],
//! whose status is that of a program ended by `SIGPIPE`, and nothing is printed about it. Not the `print!` macros, because
//! they panic there.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Why output could not be written.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The reader has gone away; end without a word.
    #[error("the reader of the output has gone away")]
    Closed,
    /// Anything else, a full disk for one.
    #[error("writing to {stream}")]
    Write {
        /// `standard output` or `standard error`.
        stream: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl OutputError {
    /// Exit status of a program that a broken pipe ended: 128 + `SIGPIPE`.
    pub const CLOSED_STATUS: u8 = 141;

    fn of(stream: &'static str, source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::BrokenPipe { Self::Closed } else { Self::Write { stream, source } }
    }
}

type Sink = Mutex<Box<dyn Write + Send>>;

/// Standard output and standard error, and what is known of them.
pub struct Printer {
    out: Sink,
    err: Sink,
    out_terminal: bool,
    err_terminal: bool,
    quiet: bool,
}

impl fmt::Debug for Printer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Printer")
            .field("out_terminal", &self.out_terminal)
            .field("err_terminal", &self.err_terminal)
            .field("quiet", &self.quiet)
            .finish_non_exhaustive()
    }
}

fn lock(sink: &Sink) -> MutexGuard<'_, Box<dyn Write + Send>> {
    sink.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Printer {
    /// The process's own standard output and error.
    pub fn standard() -> Self {
        Self {
            out: Mutex::new(Box::new(io::stdout())),
            err: Mutex::new(Box::new(io::stderr())),
            out_terminal: io::stdout().is_terminal(),
            err_terminal: io::stderr().is_terminal(),
            quiet: false,
        }
    }

    /// Any two writers, taken for files: tests and embedding.
    pub fn to_writers(out: Box<dyn Write + Send>, err: Box<dyn Write + Send>) -> Self {
        Self {
            out: Mutex::new(out),
            err: Mutex::new(err),
            out_terminal: false,
            err_terminal: false,
            quiet: false,
        }
    }

    /// The same printer with `--quiet` set or not.
    #[must_use]
    pub fn quiet(mut self, quiet: bool) -> Self {
        self.quiet = quiet;
        self
    }

    /// Whether `--quiet` was given.
    pub fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Whether standard output is a terminal.
    pub fn out_is_terminal(&self) -> bool {
        self.out_terminal
    }

    /// Whether standard error is a terminal.
    pub fn err_is_terminal(&self) -> bool {
        self.err_terminal
    }

    /// Writes bytes to standard output, all of them at once under the lock.
    pub fn write(&self, bytes: &[u8]) -> Result<(), OutputError> {
        let mut sink = lock(&self.out);
        sink.write_all(bytes).and_then(|()| sink.flush()).map_err(|e| OutputError::of("standard output", e))
    }

    /// Writes one line to standard output.
    pub fn line(&self, text: impl fmt::Display) -> Result<(), OutputError> {
        self.write(format!("{text}\n").as_bytes())
    }

    /// Writes bytes to standard error.
    pub fn write_err(&self, bytes: &[u8]) -> Result<(), OutputError> {
        let mut sink = lock(&self.err);
        sink.write_all(bytes).and_then(|()| sink.flush()).map_err(|e| OutputError::of("standard error", e))
    }

    /// Writes one line to standard error.
    pub fn line_err(&self, text: impl fmt::Display) -> Result<(), OutputError> {
        self.write_err(format!("{text}\n").as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Broken(io::ErrorKind);
    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_closed_pipe_is_told_from_a_full_disk() {
        let printer = |kind| Printer::to_writers(Box::new(Broken(kind)), Box::new(io::sink()));
        assert!(matches!(printer(io::ErrorKind::BrokenPipe).line("x"), Err(OutputError::Closed)));
        let full = printer(io::ErrorKind::StorageFull).line("x");
        assert!(matches!(full, Err(OutputError::Write { stream: "standard output", .. })));
        assert!(printer(io::ErrorKind::BrokenPipe).line_err("x").is_ok());
    }
}
