//! Staying with a process: its streams are those of the command, its signals and its exit status as well. `run`, `start -a`,
//! `attach` and `exec`.
//!
//! Invariants: output is written as it comes, never buffered; no more input is under way than the supervisor takes
//! ([`Control::WINDOW`]), so a process that reads nothing costs no memory; the terminal is restored on every way out.
//! The threads are not joined: one may be blocked in a read of the terminal, and they end with the process.

pub(super) mod keys;
#[cfg(unix)]
#[path = "signals_unix.rs"]
mod signals;
#[cfg(not(unix))]
#[path = "signals_other.rs"]
mod signals;
#[cfg(unix)]
#[path = "terminal_unix.rs"]
pub(super) mod terminal;
#[cfg(not(unix))]
#[path = "terminal_other.rs"]
pub(super) mod terminal;

use std::io::{self, IsTerminal, Read};
use std::sync::mpsc::{Receiver, Sender, channel};

use super::fault::Fault;
use super::output::Printer;
use crate::engine::{Control, EngineError, Output, Session};
use keys::{Escape, Keys};

/// The longest piece of input, in bytes.
const PIECE: usize = 32 * 1024;

/// Refuses `-it` without a terminal, as docker does.
pub(super) fn check_terminal(interactive: bool, tty: bool) -> Result<(), Fault> {
    if interactive && tty && !io::stdin().is_terminal() { Err(Fault::NoTerminal) } else { Ok(()) }
}

/// How to stay with a process.
#[derive(Debug, Clone)]
pub(super) struct Manner {
    /// The process has a terminal.
    pub(super) tty: bool,
    /// What is typed goes to it.
    pub(super) stdin: bool,
    /// What of its output is shown.
    pub(super) stdout: bool,
    /// What of its errors is shown.
    pub(super) stderr: bool,
    /// Signals go to it.
    pub(super) sig_proxy: bool,
    /// What leaves it running.
    pub(super) keys: Keys,
}

/// How staying ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The process ended with this status.
    Exited(i32),
    /// The user left it running.
    Detached,
    /// A signal ended the command; the process runs on.
    Signalled(u8),
}

impl End {
    /// The command's exit status.
    pub(super) fn status(self) -> u8 {
        match self {
            // A process's status is its low eight bits on every system that has one.
            Self::Exited(code) => code.to_le_bytes()[0],
            Self::Detached => 0,
            Self::Signalled(number) => number.saturating_add(128),
        }
    }
}

/// What the main thread is told.
enum Seen {
    Output(Box<Result<Output, EngineError>>),
    Detached,
    Signal(u8),
}

/// Ready to stay: signals are taken over, so that none falls between here and the start.
#[derive(Debug)]
pub(super) struct Foreground {
    manner: Manner,
    listener: Option<Sender<Control>>,
    news: Sender<Seen>,
    heard: Receiver<Seen>,
}

impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seen")
    }
}

fn system(action: &'static str) -> impl Fn(io::Error) -> Fault {
    move |source| Fault::System { action, source }
}

impl Foreground {
    /// Takes signals over.
    pub(super) fn prepare(manner: Manner) -> Result<Self, Fault> {
        let (news, heard) = channel();
        let fatal = news.clone();
        // Without a proxy a signal ends the command, but not before its terminal is itself again.
        let restore = !manner.sig_proxy && manner.tty && manner.stdin;
        let on_signal = restore.then_some(move |number| fatal.send(Seen::Signal(number)).is_ok());
        let listener = signals::take_over(manner.sig_proxy, manner.tty, on_signal)
            .map_err(system("taking signals over"))?;
        Ok(Self { manner, listener, news, heard })
    }

    /// Stays to the end.
    pub(super) fn stay(self, mut session: Session, printer: &Printer) -> Result<End, Fault> {
        let Self { manner, listener, news, heard } = self;
        let control = session.control();
        if let Some(listener) = listener {
            // The thread ends only when there is nothing more to pass on.
            let _ = listener.send(control.clone());
        }
        let typed = manner.tty && manner.stdin;
        let raw = if typed {
            terminal::Raw::enter().map_err(system("setting the terminal to raw mode"))?
        } else {
            None
        };
        let (credits, taken) = channel();
        if manner.stdin {
            let escape = if raw.is_some() { Escape::new(&manner.keys) } else { Escape::never() };
            let news = news.clone();
            std::thread::Builder::new()
                .name("stdin".into())
                .spawn(move || {
                    if feed(io::stdin().lock(), &control, &taken, escape) == Fed::Detached {
                        // The main thread has gone only when everything is over.
                        let _ = news.send(Seen::Detached);
                    }
                })
                .map_err(system("starting a thread"))?;
        }
        let end = if typed {
            listen(session, news)?;
            let next = || heard.recv().unwrap_or(Seen::Detached);
            show(next, &manner, printer, &credits)
        } else {
            show(|| Seen::Output(Box::new(session.receive())), &manner, printer, &credits)
        };
        drop(raw);
        if matches!(end, Ok(End::Detached)) {
            printer.line_err("read escape sequence")?;
        }
        end
    }
}

/// Hears the process on a thread of its own, so that the main one hears of the detaching keys as well.
fn listen(mut session: Session, news: Sender<Seen>) -> Result<(), Fault> {
    let hear = move || {
        loop {
            let heard = session.receive();
            let last = !matches!(heard, Ok(Output::Stdout(_) | Output::Stderr(_) | Output::StdinTaken));
            if news.send(Seen::Output(Box::new(heard))).is_err() || last {
                return;
            }
        }
    };
    std::thread::Builder::new()
        .name("output".into())
        .spawn(hear)
        .map(drop)
        .map_err(system("starting a thread"))
}

fn show(
    mut next: impl FnMut() -> Seen,
    manner: &Manner,
    printer: &Printer,
    credits: &Sender<()>,
) -> Result<End, Fault> {
    loop {
        match next() {
            Seen::Detached => return Ok(End::Detached),
            Seen::Signal(number) => return Ok(End::Signalled(number)),
            Seen::Output(output) => match (*output)? {
                Output::Stdout(bytes) if manner.stdout => printer.write(&bytes)?,
                Output::Stderr(bytes) if manner.stderr => printer.write_err(&bytes)?,
                Output::Stdout(_) | Output::Stderr(_) => {}
                // Nobody listens once the input has ended.
                Output::StdinTaken => drop(credits.send(())),
                Output::Exited(exit) => return Ok(End::Exited(exit.code)),
            },
        }
    }
}

/// How the input ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fed {
    /// It is over, or the process is.
    Over,
    /// The detaching keys were typed.
    Detached,
}

/// Where input goes; a trait only so that the rule of credits can be tested without a container.
trait Sink {
    fn stdin(&self, bytes: Vec<u8>) -> bool;
    fn end_stdin(&self) -> bool;
}

impl Sink for Control {
    fn stdin(&self, bytes: Vec<u8>) -> bool {
        Self::stdin(self, bytes)
    }

    fn end_stdin(&self) -> bool {
        Self::end_stdin(self)
    }
}

/// Passes input on until it ends, the process does, or the detaching keys are typed.
fn feed(mut from: impl Read, to: &impl Sink, taken: &Receiver<()>, mut escape: Escape) -> Fed {
    let mut credits = Control::WINDOW;
    let mut buffer = vec![0; PIECE];
    loop {
        let read = match from.read(&mut buffer) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // A terminal that was hung up, or a closed descriptor: the input has ended.
            Err(_) => 0,
        };
        if read == 0 {
            to.end_stdin();
            return Fed::Over;
        }
        credits += taken.try_iter().count();
        if credits == 0 {
            if taken.recv().is_err() {
                return Fed::Over;
            }
            credits = 1;
        }
        let (bytes, detached) = escape.pass(&buffer[..read]);
        if detached {
            return Fed::Detached;
        }
        if bytes.is_empty() {
            continue;
        }
        credits -= 1;
        if !to.stdin(bytes) {
            return Fed::Over;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    /// Takes everything; returns the credits itself when told to.
    struct Recorder {
        got: Mutex<Vec<u8>>,
        pieces: Mutex<usize>,
        ended: Mutex<bool>,
        credit: Option<Sender<()>>,
    }

    impl Sink for Recorder {
        fn stdin(&self, bytes: Vec<u8>) -> bool {
            self.got.lock().unwrap().extend(bytes);
            *self.pieces.lock().unwrap() += 1;
            self.credit.as_ref().is_none_or(|credit| credit.send(()).is_ok())
        }

        fn end_stdin(&self) -> bool {
            *self.ended.lock().unwrap() = true;
            true
        }
    }

    fn recorder(credit: Option<Sender<()>>) -> Recorder {
        Recorder { got: Mutex::default(), pieces: Mutex::default(), ended: Mutex::default(), credit }
    }

    #[test]
    fn all_input_arrives_in_order_and_then_its_end() {
        let input: Vec<u8> = (0..PIECE * 40).map(|n| u8::try_from(n % 251).unwrap()).collect();
        let (credit, taken) = channel();
        let to = recorder(Some(credit));
        feed(input.as_slice(), &to, &taken, Escape::never());
        assert!(*to.got.lock().unwrap() == input && *to.ended.lock().unwrap());
    }

    #[test]
    fn a_container_that_takes_nothing_is_sent_no_more_than_the_window() {
        let (credit, taken) = channel();
        drop(credit); // the container has ended
        let to = recorder(None);
        feed(io::repeat(7), &to, &taken, Escape::never());
        assert_eq!(*to.pieces.lock().unwrap(), Control::WINDOW);
        assert!(!*to.ended.lock().unwrap());
    }
}
