//! A client's side of a running process: a container's first one, or one of `exec`.

use std::collections::VecDeque;

use crate::executor::{Exit, WindowSize};
use crate::supervisor::client::Sender;
use crate::supervisor::protocol::{Event, Request};
use crate::supervisor::{self, Client};

use super::EngineError;

/// A connection to a process that runs.
#[derive(Debug)]
pub struct Session {
    client: Client,
    /// What came before the news of the start.
    early: VecDeque<Event>,
}

/// What a running container says.
#[derive(Debug)]
pub enum Output {
    /// Standard output.
    Stdout(Vec<u8>),
    /// Standard error.
    Stderr(Vec<u8>),
    /// One piece of input was taken.
    StdinTaken,
    /// The end.
    Exited(Exit),
}

/// The controlling half, for any number of threads. An error means that the container has ended; its end tells more.
#[derive(Debug, Clone)]
pub struct Control(Sender);

impl Control {
    /// How many pieces of input may be under way.
    pub const WINDOW: usize = supervisor::protocol::STDIN_WINDOW;

    fn send(&self, request: &Request) -> bool {
        self.0.send(request).is_ok()
    }

    /// Passes input on; false when the container has ended.
    pub fn stdin(&self, bytes: Vec<u8>) -> bool {
        self.send(&Request::Stdin(bytes))
    }

    /// Ends the input.
    pub fn end_stdin(&self) -> bool {
        self.send(&Request::StdinEnd)
    }

    /// Sends a signal.
    pub fn signal(&self, number: u8) -> bool {
        self.send(&Request::Signal(number))
    }

    /// Tells the container's terminal its size.
    pub fn resize(&self, size: WindowSize) -> bool {
        self.send(&Request::Resize(size))
    }
}

impl Session {
    pub(super) fn new(client: Client, early: VecDeque<Event>) -> Self {
        Self { client, early }
    }

    /// The controlling half.
    pub fn control(&self) -> Control {
        Control(self.client.sender())
    }

    /// What happens next.
    pub fn receive(&mut self) -> Result<Output, EngineError> {
        loop {
            let event = match self.early.pop_front() {
                Some(event) => event,
                None => self.client.receive()?,
            };
            match event {
                Event::Stdout(bytes) => return Ok(Output::Stdout(bytes)),
                Event::Stderr(bytes) => return Ok(Output::Stderr(bytes)),
                Event::StdinTaken => return Ok(Output::StdinTaken),
                Event::Exited(exit) => return Ok(Output::Exited(exit)),
                Event::Failed(failure) => return Err(supervisor::SupervisorError::Reported(failure).into()),
                Event::Started | Event::Done | Event::Stats(_) | Event::Processes(_) => {}
            }
        }
    }
}
