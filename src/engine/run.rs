//! Starting a container and staying attached to it.

use std::collections::VecDeque;
use std::path::PathBuf;

use crate::executor::{Exit, Joins, WindowSize};
use crate::model::Container;
use crate::supervisor::client::{Sender, Unlaunched};
use crate::supervisor::protocol::{Event, Request};
use crate::supervisor::{self, Claim, Client, Launch, Liveness};

use super::{Engine, EngineError};

/// A started container, seen by the command that started it.
#[derive(Debug)]
pub struct Running {
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

impl Running {
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
                Event::Started | Event::Done => {}
            }
        }
    }
}

/// A supervisor's process that starts up while its container's record is still being made.
#[derive(Debug)]
pub(super) struct Prepared {
    process: Unlaunched,
    run: PathBuf,
    joins: Joins,
}

impl Engine {
    /// Starts a created or exited container.
    ///
    /// Returns once the program runs, or with the reason why it does not.
    pub fn start(
        &self,
        container: &Container,
        attach: bool,
        window: Option<WindowSize>,
    ) -> Result<Running, EngineError> {
        let run = self.run_dir(&container.id);
        // Of two that start one container, one sees the other's claim or its supervisor's.
        let claim = match Liveness::try_claim(&run)? {
            Claim::Free(claim) => claim,
            Claim::Held => {
                return Err(EngineError::Running { name: container.name.clone(), action: "start" });
            }
        };
        let joins = self.joins(container)?;
        let exe = std::env::current_exe().map_err(|source| EngineError::OwnBinary { source })?;
        let process = supervisor::client::launch(&exe, &run, container.id.short())?;
        let prepared = Prepared { process, run, joins };
        match self.launch(container, attach, window, exe, prepared, claim) {
            Ok(running) => Ok(running),
            Err(error) => {
                self.forget_unstarted(container);
                Err(error)
            }
        }
    }

    fn launch(
        &self,
        container: &Container,
        attach: bool,
        window: Option<WindowSize>,
        exe: PathBuf,
        prepared: Prepared,
        claim: Liveness,
    ) -> Result<Running, EngineError> {
        let Prepared { process, run, joins } = prepared;
        let store = self.store()?;
        let rootfs = match store.snapshots().prepare(&container.id, &container.layers) {
            Ok(rootfs) => rootfs,
            Err(error) => {
                process.cancel();
                return Err(error.into());
            }
        };
        let launch = Launch {
            root: self.root.clone(),
            run,
            dir: store.container_dir(&container.id),
            exe,
            container: container.clone(),
            rootfs,
            mounts: Vec::new(),
            joins,
            window,
            guest_memory: Some(self.guest_memory()),
            attach,
        };
        drop(claim);
        let mut client = process.go(launch)?;
        let mut early = VecDeque::new();
        loop {
            match client.receive()? {
                Event::Started => return Ok(Running { client, early }),
                Event::Failed(failure) => {
                    client.finish();
                    return Err(supervisor::SupervisorError::Reported(failure).into());
                }
                // What the program says at once overtakes the news that it runs.
                event @ (Event::Stdout(_) | Event::Stderr(_) | Event::StdinTaken) => early.push_back(event),
                Event::Exited(_) | Event::Done => {
                    return Err(supervisor::SupervisorError::Lost { log: String::new() }.into());
                }
            }
        }
    }

    /// With `--rm`, nothing is left of a container that could not be started, whoever failed.
    fn forget_unstarted(&self, container: &Container) {
        if container.host.auto_remove {
            // It is gone already when the supervisor lived to see the failure.
            let _ = self.erase(container);
        }
    }
}
