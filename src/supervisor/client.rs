//! The other end: making a supervisor, and finding the one of a container.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use super::endpoint::{self, Connection};
use super::protocol::{Event, Frame, Launch, ProtocolError, Request};
use super::{ROLE, SupervisorError};
use crate::executor::Exit;

/// The file that takes a supervisor's own complaints, in the run directory.
const COMPLAINTS: &str = "supervisor.log";

/// The connection of the command that made the supervisor.
#[derive(Debug)]
pub struct Client {
    from: std::process::ChildStdout,
    to: Sender,
    child: Child,
    run: std::path::PathBuf,
}

/// The sending half, for any number of threads.
#[derive(Debug, Clone)]
pub struct Sender(Arc<Mutex<std::process::ChildStdin>>);

impl Sender {
    /// Sends a request; an error means that the supervisor has gone.
    pub fn send(&self, request: &Request) -> Result<(), ProtocolError> {
        request.send(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Starts a process in the supervisor's role, not told yet what to supervise.
#[derive(Debug)]
pub struct Unlaunched {
    child: Child,
    run: std::path::PathBuf,
}

/// Makes the process of a supervisor; its run directory must exist.
pub fn launch(exe: &Path, run: &Path, id: &str) -> Result<Unlaunched, SupervisorError> {
    let log = run.join(COMPLAINTS);
    let complaints = File::create(&log).map_err(SupervisorError::file("creating", &log))?;
    let child = Command::new(exe)
        .args([ROLE, id])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(complaints)
        .spawn()
        .map_err(SupervisorError::system("starting the supervisor"))?;
    Ok(Unlaunched { child, run: run.to_owned() })
}

impl Unlaunched {
    /// Tells it what to supervise.
    pub fn go(mut self, launch: Launch) -> Result<Client, SupervisorError> {
        let lost = || SupervisorError::Lost { log: String::new() };
        let mut to = self.child.stdin.take().ok_or_else(lost)?;
        let from = self.child.stdout.take().ok_or_else(lost)?;
        Request::Launch(Box::new(launch)).send(&mut to)?;
        Ok(Client { from, to: Sender(Arc::new(Mutex::new(to))), child: self.child, run: self.run })
    }

    /// Ends it before it began.
    pub fn cancel(mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Client {
    /// The next event; [`SupervisorError::Lost`] when the supervisor ended without its last one.
    pub fn receive(&mut self) -> Result<Event, SupervisorError> {
        match Event::receive(&mut self.from) {
            Ok(Some(event)) => Ok(event),
            Ok(None) => Err(self.lost()),
            Err(error) => Err(error.into()),
        }
    }

    /// The sending half.
    pub fn sender(&self) -> Sender {
        self.to.clone()
    }

    /// Waits for the end of the supervisor's process, which follows its last event.
    pub fn finish(mut self) {
        drop(self.to);
        let _ = self.child.wait();
    }

    fn lost(&self) -> SupervisorError {
        let text = std::fs::read_to_string(self.run.join(COMPLAINTS)).unwrap_or_default();
        let tail = text.char_indices().rev().nth(1000).map_or(0, |(at, _)| at);
        SupervisorError::Lost { log: text[tail..].trim().to_owned() }
    }
}

/// A connection to the supervisor of a running container.
pub struct Remote(Box<dyn Connection>);

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Remote")
    }
}

/// Connects to a container's supervisor; `None` when nobody listens.
pub fn connect(run: &Path) -> Option<Remote> {
    endpoint::connect(run).ok().map(Remote)
}

impl Remote {
    /// Sends a signal to the container's first process.
    pub fn signal(&mut self, number: u8) -> Result<(), SupervisorError> {
        Request::Signal(number).send(&mut self.0)?;
        match Event::receive(&mut self.0)? {
            Some(Event::Failed(failure)) => Err(SupervisorError::Reported(failure)),
            Some(_) => Ok(()),
            None => Err(SupervisorError::Lost { log: String::new() }),
        }
    }

    /// Asks to be told about the end, then waits for it.
    pub fn wait(mut self) -> Result<Exit, SupervisorError> {
        self.watch()?;
        self.ended()
    }

    /// Asks to be told about the end.
    pub fn watch(&mut self) -> Result<(), SupervisorError> {
        Ok(Request::Wait.send(&mut self.0)?)
    }

    /// Waits for the end, after [`Self::watch`].
    pub fn ended(mut self) -> Result<Exit, SupervisorError> {
        loop {
            match Event::receive(&mut self.0)? {
                Some(Event::Exited(exit)) => return Ok(exit),
                Some(Event::Failed(failure)) => return Err(SupervisorError::Reported(failure)),
                Some(_) => {}
                None => return Err(SupervisorError::Lost { log: String::new() }),
            }
        }
    }
}
