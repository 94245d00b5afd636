//! Starting a container.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use crate::executor::{Joins, WindowSize};
use crate::model::{Container, ContainerId, RuntimeStatus};
use crate::supervisor::client::Unlaunched;
use crate::supervisor::protocol::Event;
use crate::supervisor::{self, Claim, Launch, Liveness};

use super::containers::{ENDING, REMOVE_TRIES};
use super::{Engine, EngineError, Session};

/// A supervisor's process that gets ready while its container is being made: on two processors `run` need not wait for it.
#[derive(Debug)]
pub struct Ahead {
    id: ContainerId,
    process: Unlaunched,
}

impl Ahead {
    /// The id that the container has to get.
    pub fn id(&self) -> &ContainerId {
        &self.id
    }
}

/// What a start has gathered before the container's files are made ready.
struct Prepared {
    exe: PathBuf,
    run: PathBuf,
    process: Unlaunched,
    joins: Joins,
    claim: Liveness,
}

impl Engine {
    /// Makes the process that will supervise the next new container, for [`Self::start_with`]. `None` where that cannot be done:
    /// then the start makes it, and says what is in the way.
    #[cfg(target_os = "linux")]
    pub fn ahead(&self) -> Option<Ahead> {
        let id = super::create::random_id().ok()?;
        let exe = std::env::current_exe().ok()?;
        let process = supervisor::client::launch_ahead(&exe, &self.root, &self.run_root, id.short()).ok()?;
        Some(Ahead { id, process })
    }

    /// Elsewhere a file has a name from its beginning, and would stay if this process died.
    #[cfg(not(target_os = "linux"))]
    #[expect(clippy::unused_self, reason = "the twin for Linux needs it")]
    pub fn ahead(&self) -> Option<Ahead> {
        None
    }

    /// Starts a created or exited container.
    ///
    /// Returns once the program runs, or with the reason why it does not.
    pub fn start(
        &self,
        container: &Container,
        attach: bool,
        window: Option<WindowSize>,
    ) -> Result<Session, EngineError> {
        self.start_with(container, None, attach, window)
    }

    /// [`Self::start`] of a container that was made with the id of `ahead`.
    pub fn start_with(
        &self,
        container: &Container,
        ahead: Option<Ahead>,
        attach: bool,
        window: Option<WindowSize>,
    ) -> Result<Session, EngineError> {
        let run = self.run_dir(&container.id);
        // Of two that start one container, one sees the other's claim or its supervisor's.
        let claim = self.claim_to_start(container, &run)?;
        // Under the claim nobody can remove it; before it somebody may have.
        if self.database.container(&container.id)?.is_none() {
            let _ = supervisor::forget(&run);
            return Err(EngineError::NoContainer { query: container.name.clone() });
        }
        let joins = self.joins(container).inspect_err(|_| self.forget_unstarted(container))?;
        let exe = std::env::current_exe().map_err(|source| EngineError::OwnBinary { source })?;
        let process = match ahead {
            Some(ahead) if ahead.id == container.id => settled(ahead.process, &run)?,
            _ => supervisor::client::launch(&exe, &self.root, &run, container.id.short())?,
        };
        let prepared = Prepared { exe, run, process, joins, claim };
        match self.launch(container, attach, window, prepared) {
            Ok(running) => Ok(running),
            Err(error) => {
                self.forget_unstarted(container);
                Err(error)
            }
        }
    }

    /// The right to start it. A supervisor that has recorded the end holds its lock for some moments more, until what its container
    /// had is freed: `start` right after `stop` must not take that for a running container. A command that looks whether it may
    /// remove the container holds the lock for moments, and is no supervisor.
    fn claim_to_start(&self, container: &Container, run: &Path) -> Result<Liveness, EngineError> {
        for _ in 0..REMOVE_TRIES {
            match Liveness::try_claim(run)? {
                Claim::Free(claim) => return Ok(claim),
                Claim::Held => match self.database.container(&container.id)? {
                    None => return Err(EngineError::NoContainer { query: container.name.clone() }),
                    Some(now)
                        if now.state.status == RuntimeStatus::Exited || supervisor::holder(run).is_none() =>
                    {
                        std::thread::sleep(ENDING);
                    }
                    Some(_) => break,
                },
            }
        }
        Self::not_being_copied(run, &container.name, "start")?;
        Err(EngineError::Running { name: container.name.clone(), action: "start" })
    }

    /// Starts a container that exists; `None` when it runs already, which is no failure.
    pub fn start_again(
        &self,
        query: &str,
        attach: bool,
        window: Option<WindowSize>,
    ) -> Result<Option<Session>, EngineError> {
        self.reconcile()?;
        let view = self.container(query)?;
        if view.container.state.paused && view.alive {
            return Err(EngineError::WrongState {
                name: view.container.name,
                action: "start",
                why: "it is paused, try unpause instead",
            });
        }
        if view.alive {
            return Ok(None);
        }
        self.start(&view.container, attach, window).map(Some)
    }

    fn launch(
        &self,
        container: &Container,
        attach: bool,
        window: Option<WindowSize>,
        prepared: Prepared,
    ) -> Result<Session, EngineError> {
        let Prepared { exe, run, process, joins, claim } = prepared;
        let store = self.store()?;
        let rootfs = store.snapshots().prepare(&container.id, &container.layers)?;
        let mounts = self.mounts(container, &rootfs)?;
        let launch = Launch {
            root: self.root.clone(),
            run,
            dir: store.container_dir(&container.id),
            exe,
            container: container.clone(),
            rootless: cfg!(unix) && !super::rootless::is_root(),
            rootfs,
            mounts,
            joins,
            window,
            guest_memory: Some(self.guest_memory()),
            interpreted: self.interpreted(),
            attach,
        };
        drop(claim);
        let mut client = process.go(launch)?;
        let mut early = VecDeque::new();
        loop {
            match client.receive()? {
                Event::Started => return Ok(Session::new(client, early)),
                Event::Failed(failure) => {
                    client.finish();
                    return Err(supervisor::SupervisorError::Reported(failure).into());
                }
                // What the program says at once overtakes the news that it runs.
                event @ (Event::Stdout(_) | Event::Stderr(_) | Event::StdinTaken) => early.push_back(event),
                Event::Exited(_) | Event::Done | Event::Stats(_) | Event::Processes(_) => {
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

#[cfg(target_os = "linux")]
fn settled(mut process: Unlaunched, run: &Path) -> Result<Unlaunched, EngineError> {
    process.settle(run)?;
    Ok(process)
}

#[cfg(not(target_os = "linux"))]
#[expect(clippy::unnecessary_wraps, reason = "the twin for Linux can fail")]
fn settled(process: Unlaunched, _run: &Path) -> Result<Unlaunched, EngineError> {
    Ok(process)
}
