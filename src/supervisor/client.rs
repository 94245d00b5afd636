//! The other end: making a supervisor, and finding the one of a container.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::endpoint::{self, Connection};
use super::protocol::{
    AttachOrder, Event, ExecOrder, Frame, Launch, NetworkOrder, ProtocolError, Request, StopOrder,
    UpdateOrder,
};
use super::{ROLE, SupervisorError};
use crate::executor::{Exit, Stats};

/// The file that takes a supervisor's own complaints, in the run directory.
const COMPLAINTS: &str = "supervisor.log";

/// A client's connection: the pipes of the command that made the supervisor, or one to its endpoint.
pub struct Client {
    from: Box<dyn Read + Send>,
    to: Sender,
    child: Option<Child>,
    run: PathBuf,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("run", &self.run).finish_non_exhaustive()
    }
}

/// The sending half, for any number of threads.
#[derive(Clone)]
pub struct Sender(Arc<Mutex<Box<dyn Write + Send>>>);

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sender")
    }
}

impl Sender {
    /// Sends a request; an error means that the supervisor has gone.
    pub fn send(&self, request: &Request) -> Result<(), ProtocolError> {
        request.send(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A process in the supervisor's role, not told yet what to supervise. Dropped, it ends before it began.
#[derive(Debug)]
pub struct Unlaunched {
    child: Option<Child>,
    /// Where its complaints go before there is a run directory: a file without a name.
    #[cfg(target_os = "linux")]
    nameless: Option<File>,
}

/// Makes the process of a supervisor; its run directory must exist.
pub fn launch(exe: &Path, run: &Path, id: &str) -> Result<Unlaunched, SupervisorError> {
    let log = run.join(COMPLAINTS);
    let complaints = File::create(&log).map_err(SupervisorError::file("creating", &log))?;
    Ok(Unlaunched {
        child: Some(spawn(exe, id, complaints)?),
        #[cfg(target_os = "linux")]
        nameless: None,
    })
}

/// Makes the process of a supervisor before its container is made. Nothing of it has a name, so nothing stays if this process dies.
#[cfg(target_os = "linux")]
pub fn launch_ahead(exe: &Path, run_root: &Path, id: &str) -> Result<Unlaunched, SupervisorError> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let nameless = rustix::fs::open(run_root, flags, Mode::from_raw_mode(0o644))
        .map(File::from)
        .map_err(|errno| SupervisorError::file("making a file in", run_root)(errno.into()))?;
    let complaints = nameless.try_clone().map_err(SupervisorError::system("keeping a file"))?;
    Ok(Unlaunched { child: Some(spawn(exe, id, complaints)?), nameless: Some(nameless) })
}

fn spawn(exe: &Path, id: &str, complaints: File) -> Result<Child, SupervisorError> {
    let mut command = Command::new(exe);
    command.args([ROLE, id]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(complaints);
    // Whoever wants backtraces of a panic has them still; those of ordinary errors would be captured for each request.
    if std::env::var_os("RUST_BACKTRACE").is_some() {
        command.env("RUST_LIB_BACKTRACE", "0");
    }
    detach(&mut command).map_err(SupervisorError::system("keeping the streams of this process to itself"))?;
    command.spawn().map_err(SupervisorError::system("starting the supervisor"))
}

/// A supervisor leaves its client's session by itself.
#[cfg(not(windows))]
#[expect(clippy::unnecessary_wraps, reason = "the twin for Windows can fail")]
fn detach(_: &mut Command) -> io::Result<()> {
    Ok(())
}

/// A supervisor has no console, and no interrupt of this one's; and it inherits none of the streams of this process, or
/// whoever reads them would wait for the container's end.
#[cfg(windows)]
fn detach(command: &mut Command) -> io::Result<()> {
    use filedescriptor::{FileDescriptor, StdioDescriptor};
    use std::os::windows::process::CommandExt as _;
    const DETACHED_PROCESS: u32 = 0x8;
    const CREATE_NEW_PROCESS_GROUP: u32 = 0x200;
    command.creation_flags(DETACHED_PROCESS | CREATE_NEW_PROCESS_GROUP);
    // A duplicate is not inherited; what it replaces, which may be, is closed.
    for original in [
        FileDescriptor::redirect_stdio(&io::stdin(), StdioDescriptor::Stdin),
        FileDescriptor::redirect_stdio(&io::stdout(), StdioDescriptor::Stdout),
        FileDescriptor::redirect_stdio(&io::stderr(), StdioDescriptor::Stderr),
    ] {
        drop(original.map_err(io::Error::other)?);
    }
    Ok(())
}

impl Unlaunched {
    /// Gives what was made ahead its place in the container's run directory, which must exist.
    #[cfg(target_os = "linux")]
    pub fn settle(&mut self, run: &Path) -> Result<(), SupervisorError> {
        use rustix::fs::{AtFlags, CWD, linkat};
        use std::os::fd::AsRawFd as _;
        let Some(file) = self.nameless.take() else { return Ok(()) };
        let log = run.join(COMPLAINTS);
        let from = format!("/proc/self/fd/{}", file.as_raw_fd());
        linkat(CWD, from, CWD, &log, AtFlags::SYMLINK_FOLLOW)
            .map_err(|errno| SupervisorError::file("naming", &log)(errno.into()))
    }

    /// Tells it what it can get ready for. If it does not hear this it will not hear of its launch either, and that is said.
    pub fn tell(&mut self, what: &Request) {
        if let Some(to) = self.child.as_mut().and_then(|child| child.stdin.as_mut()) {
            let _ = what.send(to);
        }
    }

    /// Tells it what to supervise.
    pub fn go(mut self, launch: Launch) -> Result<Client, SupervisorError> {
        let lost = || SupervisorError::Lost { log: String::new() };
        let child = self.child.as_mut().ok_or_else(lost)?;
        let mut to = child.stdin.take().ok_or_else(lost)?;
        let from = child.stdout.take().ok_or_else(lost)?;
        let run = launch.run.clone();
        Request::Launch(Box::new(launch)).send(&mut to)?;
        let to = Sender(Arc::new(Mutex::new(Box::new(to))));
        Ok(Client { from: Box::new(from), to, child: self.child.take(), run })
    }
}

impl Drop for Unlaunched {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        drop(child.stdin.take());
        // One that has ended by itself is only waited for.
        let _ = child.kill();
        let _ = child.wait();
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
        if let Some(mut child) = self.child.take() {
            let _ = child.wait();
        }
    }

    fn lost(&self) -> SupervisorError {
        let text = std::fs::read_to_string(self.run.join(COMPLAINTS)).unwrap_or_default();
        let tail = text.char_indices().rev().nth(1000).map_or(0, |(at, _)| at);
        SupervisorError::Lost { log: text[tail..].trim().to_owned() }
    }
}

/// A connection to the supervisor of a running container.
pub struct Remote {
    connection: Box<dyn Connection>,
    run: PathBuf,
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("run", &self.run).finish_non_exhaustive()
    }
}

/// Connects to a container's supervisor; `None` when nobody listens.
pub fn connect(run: &Path) -> Option<Remote> {
    endpoint::connect(run).ok().map(|connection| Remote { connection, run: run.to_owned() })
}

struct Writing(Box<dyn Connection>);

impl Write for Writing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

struct Reading(Box<dyn Connection>);

impl Read for Reading {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.read(bytes)
    }
}

impl Remote {
    /// Gives up on a supervisor that does not answer for so long.
    pub fn set_patience(&self, limit: Duration) {
        // Without it the wait is longer and nothing else.
        let _ = self.connection.set_patience(Some(limit));
    }

    /// Sends a request and hears its answer.
    fn ask(&mut self, request: &Request) -> Result<Event, SupervisorError> {
        request.send(&mut self.connection)?;
        loop {
            match Event::receive(&mut self.connection)? {
                Some(Event::Failed(failure)) => return Err(SupervisorError::Reported(failure)),
                // News of the container, for whoever watches as well.
                Some(Event::Started | Event::StdinTaken | Event::Stdout(_) | Event::Stderr(_)) => {}
                Some(answer) => return Ok(answer),
                None => return Err(SupervisorError::Lost { log: String::new() }),
            }
        }
    }

    /// Sends a signal to the container's first process.
    pub fn signal(&mut self, number: u8) -> Result<(), SupervisorError> {
        self.ask(&Request::Signal(number)).map(drop)
    }

    /// Begins to stop the container; [`Self::ended`] tells of the end to whoever watches.
    pub fn stop(&mut self, order: StopOrder) -> Result<(), SupervisorError> {
        self.ask(&Request::Stop(order)).map(drop)
    }

    /// Freezes or thaws the container.
    pub fn pause(&mut self, wanted: bool) -> Result<(), SupervisorError> {
        self.ask(&if wanted { Request::Pause } else { Request::Unpause }).map(drop)
    }

    /// Changes limits and the restart policy.
    pub fn update(&mut self, order: UpdateOrder) -> Result<(), SupervisorError> {
        self.ask(&Request::Update(Box::new(order))).map(drop)
    }

    /// Connects the container with a network, or disconnects it.
    pub fn network(&mut self, order: NetworkOrder) -> Result<(), SupervisorError> {
        self.ask(&Request::Network(Box::new(order))).map(drop)
    }

    /// What the container uses; `None` when it has just ended.
    pub fn stats(&mut self) -> Result<Option<Stats>, SupervisorError> {
        Ok(match self.ask(&Request::Stats)? {
            Event::Stats(stats) => Some(*stats),
            _ => None,
        })
    }

    /// What runs in the container; nothing when it has just ended.
    pub fn processes(&mut self) -> Result<Vec<u32>, SupervisorError> {
        Ok(match self.ask(&Request::Processes)? {
            Event::Processes(ids) => ids,
            _ => Vec::new(),
        })
    }

    /// Attaches to the container.
    pub fn attach(mut self, order: AttachOrder) -> Result<Client, SupervisorError> {
        match self.ask(&Request::Attach(order))? {
            Event::Done => self.into_client(),
            _ => Err(SupervisorError::Lost { log: String::new() }),
        }
    }

    /// Has a further process run; its events come from the client, [`Event::Started`] first.
    pub fn exec(mut self, order: ExecOrder) -> Result<Client, SupervisorError> {
        Request::Exec(Box::new(order)).send(&mut self.connection)?;
        self.into_client()
    }

    fn into_client(self) -> Result<Client, SupervisorError> {
        let second =
            self.connection.second().map_err(SupervisorError::system("opening the connection again"))?;
        let to = Sender(Arc::new(Mutex::new(Box::new(Writing(second)))));
        Ok(Client { from: Box::new(Reading(self.connection)), to, child: None, run: self.run })
    }

    /// Asks to be told about the end, then waits for it.
    pub fn wait(mut self) -> Result<Exit, SupervisorError> {
        self.watch()?;
        self.ended()
    }

    /// Asks to be told about the end.
    pub fn watch(&mut self) -> Result<(), SupervisorError> {
        Ok(Request::Wait.send(&mut self.connection)?)
    }

    /// Waits for the end, after [`Self::watch`].
    pub fn ended(mut self) -> Result<Exit, SupervisorError> {
        loop {
            match Event::receive(&mut self.connection)? {
                Some(Event::Exited(exit)) => return Ok(exit),
                Some(Event::Failed(failure)) => return Err(SupervisorError::Reported(failure)),
                Some(_) => {}
                None => return Err(SupervisorError::Lost { log: String::new() }),
            }
        }
    }
}
