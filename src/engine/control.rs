//! What is asked of a container that runs: to stop, to freeze, to change, to tell what it uses.

use crate::executor::Stats;
use crate::model::{ContainerId, Event, Resources, RestartPolicy};
use crate::supervisor::client::Remote;
use crate::supervisor::protocol::{AttachOrder, StopOrder, UpdateOrder};
use crate::supervisor::{self, SupervisorError};

use super::{ContainerView, Engine, EngineError, Session};

impl Engine {
    /// The supervisor of a container that runs; what it was to do is for the message.
    fn supervisor(&self, query: &str, action: &'static str) -> Result<(ContainerView, Remote), EngineError> {
        let view = self.container(query)?;
        let connection =
            if view.alive { supervisor::connect(&self.run_dir(&view.container.id)) } else { None };
        match connection {
            Some(remote) => Ok((view, remote)),
            None => Err(EngineError::NotRunning { name: view.container.name, action }),
        }
    }

    /// What a supervisor says; one that goes without a word has ended with its container.
    pub(super) fn heard<T>(
        answer: Result<T, SupervisorError>,
        name: &str,
        action: &'static str,
    ) -> Result<T, EngineError> {
        answer.map_err(|error| match error {
            SupervisorError::Lost { .. } | SupervisorError::Protocol(_) => {
                EngineError::NotRunning { name: name.to_owned(), action }
            }
            error => error.into(),
        })
    }

    /// Attaches to a container that runs. `stdin`: what is sent goes to its input.
    pub fn attach(&self, query: &str, stdin: bool) -> Result<(ContainerView, Session), EngineError> {
        let (view, remote) = self.supervisor(query, "attach to")?;
        for (is, why) in [
            (view.container.state.paused, "it is paused, unpause it first"),
            (view.container.state.restarting, "it is restarting, wait until it runs"),
        ] {
            if is {
                return Err(EngineError::WrongState { name: view.container.name, action: "attach to", why });
            }
        }
        let attached = remote.attach(AttachOrder { stdin, output: true });
        let client = Self::heard(attached, &view.container.name, "attach to")?;
        self.note(Event::container(&view.container, "attach"));
        Ok((view, Session::new(client, std::collections::VecDeque::new())))
    }

    /// Stops a container: its signal (or `signal`), then after `timeout` seconds SIGKILL. Returns after the end; one that does
    /// not run is no failure, as with docker.
    pub fn stop(&self, query: &str, signal: Option<u8>, timeout: Option<i64>) -> Result<(), EngineError> {
        self.stop_by(query, StopOrder { signal, timeout, keep: false, shutdown: false })
    }

    fn stop_by(&self, query: &str, order: StopOrder) -> Result<(), EngineError> {
        let (view, mut remote) = match self.supervisor(query, "stop") {
            Ok(found) => found,
            Err(EngineError::NotRunning { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        let id = view.container.id;
        let told = remote.watch().and_then(|()| remote.stop(order));
        match told.and_then(|()| remote.ended()) {
            // Without a word it ended by itself just now.
            Ok(_) | Err(SupervisorError::Lost { .. } | SupervisorError::Protocol(_)) => {}
            Err(SupervisorError::Reported(_)) if !self.lives(&id) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn lives(&self, id: &ContainerId) -> bool {
        supervisor::is_alive(&self.run_dir(id))
    }

    /// Stops a container if it runs, and starts it.
    pub fn restart(&self, query: &str, signal: Option<u8>, timeout: Option<i64>) -> Result<(), EngineError> {
        let id = self.container(query)?.container.id;
        self.stop_by(id.as_str(), StopOrder { signal, timeout, keep: true, shutdown: false })?;
        self.when_released(&id);
        // Somebody else may have started it meanwhile: then it runs, which is what was asked for.
        self.start_again(id.as_str(), false, None)?;
        if let Some(container) = self.database.container(&id)? {
            self.note(Event::container(&container, "restart"));
        }
        Ok(())
    }

    /// Waits until a supervisor that told of the end has let go of the container.
    fn when_released(&self, id: &ContainerId) {
        for _ in 0..1000 {
            if !self.lives(id) {
                return;
            }
            std::thread::sleep(super::containers::ENDING);
        }
    }

    /// Freezes a container, or thaws it.
    pub fn pause(&self, query: &str, wanted: bool) -> Result<(), EngineError> {
        let action = if wanted { "pause" } else { "unpause" };
        let (view, mut remote) = self.supervisor(query, action)?;
        Self::heard(remote.pause(wanted), &view.container.name, action)
    }

    /// Changes limits and the restart policy, in the record and, where it runs, in the container.
    pub fn update(
        &self,
        query: &str,
        resources: &Resources,
        restart: Option<RestartPolicy>,
    ) -> Result<(), EngineError> {
        let view = self.container(query)?;
        let mut container = view.container;
        let restarts = restart.is_some_and(|policy| policy != RestartPolicy::No);
        if container.host.auto_remove && restarts {
            return Err(EngineError::WrongState {
                name: container.name,
                action: "update",
                why: "restart policy cannot be updated because AutoRemove is enabled for the container",
            });
        }
        if view.alive
            && let Some(mut remote) = supervisor::connect(&self.run_dir(&container.id))
        {
            let order = UpdateOrder { resources: resources.clone(), restart };
            Self::heard(remote.update(order), &container.name, "update")?;
        }
        container.host.resources.take_over(resources);
        if let Some(policy) = restart {
            container.host.restart = policy;
        }
        Ok(self.database.set_host_config(&container.id, &container.host)?)
    }

    /// Gives a container another name.
    pub fn rename(&self, query: &str, name: &str) -> Result<(), EngineError> {
        let container = self.container(query)?.container;
        if container.name == name {
            let why = "renaming a container with the same name as its current name";
            return Err(EngineError::Rename { name: name.to_owned(), why });
        }
        Ok(self.database.rename_container(&container.id, name)?)
    }

    /// What a container uses; `None` when it does not run.
    pub fn stats(&self, query: &str) -> Result<Option<Stats>, EngineError> {
        match self.supervisor(query, "look at") {
            Ok((view, mut remote)) => match Self::heard(remote.stats(), &view.container.name, "look at") {
                Err(EngineError::NotRunning { .. }) => Ok(None),
                answer => answer,
            },
            Err(EngineError::NotRunning { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Process ids, on this host, of what runs in a container.
    pub fn processes(&self, query: &str) -> Result<Vec<u32>, EngineError> {
        let action = "list the processes of";
        let (view, mut remote) = self.supervisor(query, action)?;
        let processes = Self::heard(remote.processes(), &view.container.name, action)?;
        self.note(Event::container(&view.container, "top"));
        Ok(processes)
    }
}
