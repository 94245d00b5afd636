//! Starting a container.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use crate::executor::{Joins, Prospect, Settings, WindowSize};
use crate::model::{Container, ContainerId, HostConfig, NetworkMode, Root, RuntimeStatus};
use crate::supervisor::client::Unlaunched;
use crate::supervisor::protocol::{Event, Outlook, Request};
use crate::supervisor::{self, Claim, Launch, Liveness};

use super::containers::{ENDING, REMOVE_TRIES};
use super::{Engine, EngineError, Session};

/// A supervisor's process that gets ready while its container is being made: on two processors `run` need not wait for it.
#[derive(Debug)]
pub(super) struct Ahead {
    id: ContainerId,
    process: Unlaunched,
}

impl Ahead {
    /// Makes one; `None` where that cannot be done: then the start makes it, and says what is in the way.
    #[cfg(target_os = "linux")]
    pub(super) fn make(run_root: &Path) -> Option<Self> {
        let id = super::create::random_id().ok()?;
        let exe = std::env::current_exe().ok()?;
        let process = supervisor::client::launch_ahead(&exe, run_root, id.short()).ok()?;
        Some(Self { id, process })
    }

    /// Elsewhere a file has a name from its beginning, and would stay if this process died.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn make(_: &Path) -> Option<Self> {
        None
    }

    /// Tells it of the store, whose database is open by now: two that open it first at once would wait for each other.
    pub(super) fn tell_store(&mut self, root: &Path) {
        self.process.tell(&Request::Store(root.to_owned()));
    }
}

/// What a start has gathered before the container's files are made ready.
struct Prepared {
    run: PathBuf,
    process: Unlaunched,
    joins: Joins,
    claim: Liveness,
}

impl Engine {
    /// The id for a new container that will be started at once: its supervisor's process is there already. `None` where that cannot be.
    pub fn ahead(&self) -> Option<ContainerId> {
        let mut ahead = self.ahead.borrow_mut();
        if ahead.is_none() {
            *ahead = Ahead::make(&self.run_root);
            if let Some(made) = ahead.as_mut() {
                made.tell_store(&self.root);
            }
        }
        ahead.as_ref().map(|ahead| ahead.id.clone())
    }

    /// The process that was made ahead is not needed.
    pub fn never_mind(&self) {
        drop(self.ahead.take());
    }

    /// Tells the process that was made ahead what its container will be.
    pub(super) fn foretell(&self, container: &Container) {
        if let Some(ahead) = self.ahead.borrow_mut().as_mut().filter(|ahead| ahead.id == container.id) {
            self.announce(&mut ahead.process, container);
        }
    }

    /// Tells a process what to get ready for. Whatever is wrong here is wrong at its launch as well, and is said then.
    fn announce(&self, process: &mut Unlaunched, container: &Container) {
        if let Ok(outlook) = self.outlook(container) {
            process.tell(&Request::Outlook(Box::new(outlook)));
        }
    }

    fn outlook(&self, container: &Container) -> Result<Outlook, EngineError> {
        let layers = self.store()?.layers();
        Ok(Outlook {
            executor: container.executor.name.clone(),
            settings: self.settings(container)?,
            prospect: Prospect {
                layers: container.layers.iter().map(|layer| layers.path(layer)).collect(),
                args: container.config.args(),
                cwd: container.config.cwd().to_owned(),
                fuel: container.host.fuel.is_some(),
                offline: offline(&container.host),
            },
        })
    }

    /// What a container's executor needs to know, in a supervisor.
    pub(super) fn settings(&self, container: &Container) -> Result<Settings, EngineError> {
        Ok(Settings {
            exe: std::env::current_exe().map_err(|source| EngineError::OwnBinary { source })?,
            cache: self.root.join("cache"),
            guest_memory: Some(self.guest_memory()),
            interpreted: self.interpreted(),
            own_process: true,
            scratch: self.run_dir(&container.id),
            group_parent: container.host.cgroup_parent.clone(),
            runtime: container.executor.runtime.clone(),
        })
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
        let run = self.run_dir(&container.id);
        // Of two that start one container, one sees the other's claim or its supervisor's.
        let claim = self.claim_to_start(container, &run)?;
        // Under the claim nobody can remove it; before it somebody may have.
        if !self.database.has_container(&container.id)? {
            let _ = supervisor::forget(&run);
            return Err(EngineError::NoContainer { query: container.name.clone() });
        }
        let joins = self.joins(container).inspect_err(|_| self.forget_unstarted(container))?;
        let process = if let Some(ahead) = self.ahead.take().filter(|ahead| ahead.id == container.id) {
            settled(ahead.process, &run)?
        } else {
            let exe = std::env::current_exe().map_err(|source| EngineError::OwnBinary { source })?;
            let mut process = supervisor::client::launch(&exe, &run, container.id.short())?;
            process.tell(&Request::Store(self.root.clone()));
            self.announce(&mut process, container);
            process
        };
        let prepared = Prepared { run, process, joins, claim };
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
        let Prepared { run, process, joins, claim } = prepared;
        let store = self.store()?;
        let mut rootfs = store.snapshots().prepare(&container.id, &container.layers)?;
        if let Root::Overlay { volatile, .. } = &mut rootfs {
            *volatile = container.host.auto_remove;
        }
        let mounts = self.mounts(container, &rootfs)?;
        let launch = Launch {
            root: self.root.clone(),
            run,
            dir: store.container_dir(&container.id),
            container: container.clone(),
            settings: self.settings(container)?,
            rootless: cfg!(unix) && !super::rootless::is_root(),
            rootfs,
            mounts,
            joins,
            window,
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

/// Whether a container is granted no network at all.
fn offline(host: &HostConfig) -> bool {
    let apart = matches!(host.network, NetworkMode::None | NetworkMode::Default);
    apart && host.ports.is_empty() && !host.publish_all && host.allow_net.is_empty()
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
