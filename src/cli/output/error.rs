//! The one reporter of errors, and the one place where a kind of error becomes an exit status.

use super::Printer;
use super::human::inert;
pub use crate::model::chain;
use crate::model::{ErrorKind, Kind};

/// Which statuses a command promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Statuses {
    /// `run`, `create`: 126 and 127 speak of the container's program, 125 of the engine.
    Runs,
    /// `exec`: 126 and 127 speak of the program, 1 of the engine.
    Program,
    /// Every other command: 1.
    Plain,
}

/// The exit status of a failed command.
pub fn exit_status(kind: ErrorKind, statuses: Statuses) -> u8 {
    match (kind, statuses) {
        (ErrorKind::CommandNotFound, Statuses::Runs | Statuses::Program) => 127,
        (ErrorKind::CommandNotExecutable, Statuses::Runs | Statuses::Program) => 126,
        (ErrorKind::Cancelled, _) => 130,
        (
            ErrorKind::NotFound
            | ErrorKind::Conflict
            | ErrorKind::InvalidInput
            | ErrorKind::Unauthorized
            | ErrorKind::Forbidden
            | ErrorKind::Unsupported
            | ErrorKind::Unavailable
            | ErrorKind::Internal,
            Statuses::Runs,
        ) => 125,
        (_, Statuses::Plain | Statuses::Program) => 1,
    }
}

/// Prints an error, its hints and, for a fault in the request, where to read more; `usage` names the command, `run`.
/// What cannot be written is let go: there is nowhere left to say so.
pub fn report(printer: &Printer, error: &dyn Kind, usage: Option<&str>) {
    let mut lines = vec![format!("umiak: {}", inert(&chain(error)))];
    lines.extend(error.hints().iter().map(|hint| format!("hint: {}", inert(hint))));
    lines.extend(usage.map(|command| format!("\nSee 'umiak {command} --help'")));
    drop(printer.line_err(lines.join("\n")));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    #[derive(Debug, thiserror::Error)]
    #[error("opening `x`")]
    struct Outer(#[source] io::Error);
    impl Kind for Outer {
        fn kind(&self) -> ErrorKind {
            ErrorKind::NotFound
        }
        fn hints(&self) -> Vec<String> {
            vec!["look elsewhere".into()]
        }
    }

    struct Shared(Arc<Mutex<Vec<u8>>>);
    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_chain_is_told_once() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let printer = Printer::to_writers(Box::new(io::sink()), Box::new(Shared(Arc::clone(&seen))));
        report(&printer, &Outer(io::Error::other("no\u{1b} such")), Some("run"));
        let text = String::from_utf8(seen.lock().unwrap().clone()).unwrap();
        let expected =
            "umiak: opening `x`: no\u{fffd} such\nhint: look elsewhere\n\nSee 'umiak run --help'\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn statuses_are_dockers() {
        for (kind, runs, plain) in [
            (ErrorKind::CommandNotFound, 127, 1),
            (ErrorKind::CommandNotExecutable, 126, 1),
            (ErrorKind::NotFound, 125, 1),
            (ErrorKind::Cancelled, 130, 130),
        ] {
            assert_eq!(exit_status(kind, Statuses::Runs), runs);
            assert_eq!(exit_status(kind, Statuses::Plain), plain);
        }
    }
}
