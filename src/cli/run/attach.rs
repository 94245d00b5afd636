//! The foreground of `run`: a container's streams are those of the command, its signals and its exit status as well.
//!
//! Invariants: output is written as it comes, never buffered; no more input is under way than the supervisor takes
//! ([`Control::WINDOW`]), so a container that reads nothing costs no memory; the terminal is restored on every way out.
//! The threads are not joined: one may be blocked in a read of the terminal, and they end with the process.

use std::io::{self, IsTerminal, Read};
use std::sync::mpsc::{Receiver, Sender, channel};

use super::{signals, terminal};
use crate::cli::fault::Fault;
use crate::cli::output::Printer;
use crate::engine::{Control, Engine, Output};
use crate::model::Container;

/// The longest piece of input, in bytes.
const PIECE: usize = 32 * 1024;

/// Refuses `-it` without a terminal, as docker does.
pub(super) fn check_terminal(interactive: bool, tty: bool) -> Result<(), Fault> {
    if interactive && tty && !io::stdin().is_terminal() { Err(Fault::NoTerminal) } else { Ok(()) }
}

/// Starts a container and stays with it; its exit status.
pub(super) fn run(
    engine: &Engine,
    printer: &Printer,
    container: &Container,
    sig_proxy: bool,
) -> Result<i32, Fault> {
    let system = |action| move |source| Fault::System { action, source };
    let config = &container.config;
    let listener = signals::take_over(sig_proxy, config.tty).map_err(system("taking signals over"))?;
    let window = if config.tty { terminal::size() } else { None };
    let mut running = engine.start(container, true, window)?;
    let control = running.control();
    if let Some(listener) = listener {
        // The thread ends only when there is nothing more to pass on.
        let _ = listener.send(control.clone());
    }
    let raw = if config.tty && config.open_stdin {
        terminal::Raw::enter().map_err(system("setting the terminal to raw mode"))?
    } else {
        None
    };
    let (credits, taken) = channel();
    if config.open_stdin {
        std::thread::Builder::new()
            .name("stdin".into())
            .spawn(move || feed(io::stdin().lock(), &control, &taken))
            .map_err(system("starting a thread"))?;
    }
    let status = show(&mut running, printer, &credits);
    drop(raw);
    status
}

fn show(running: &mut crate::engine::Session, printer: &Printer, credits: &Sender<()>) -> Result<i32, Fault> {
    loop {
        match running.receive()? {
            Output::Stdout(bytes) => printer.write(&bytes)?,
            Output::Stderr(bytes) => printer.write_err(&bytes)?,
            // Nobody listens once the input has ended.
            Output::StdinTaken => drop(credits.send(())),
            Output::Exited(exit) => return Ok(exit.code),
        }
    }
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

/// Passes input on until it ends or the container does.
fn feed(mut from: impl Read, to: &impl Sink, taken: &Receiver<()>) {
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
            return;
        }
        credits += taken.try_iter().count();
        if credits == 0 {
            if taken.recv().is_err() {
                return;
            }
            credits = 1;
        }
        credits -= 1;
        if !to.stdin(buffer[..read].to_vec()) {
            return;
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
        feed(input.as_slice(), &to, &taken);
        assert!(*to.got.lock().unwrap() == input && *to.ended.lock().unwrap());
    }

    #[test]
    fn a_container_that_takes_nothing_is_sent_no_more_than_the_window() {
        let (credit, taken) = channel();
        drop(credit); // the container has ended
        let to = recorder(None);
        feed(io::repeat(7), &to, &taken);
        assert_eq!(*to.pieces.lock().unwrap(), Control::WINDOW);
        assert!(!*to.ended.lock().unwrap());
    }
}
