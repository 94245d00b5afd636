//! Starting what should run when the host has started, and stopping everything when it goes down.
//!
//! Whether this is a new boot is told by the kernel's boot id, kept in a file of the store. In a new boot docker's rules
//! decide: `always` runs, `unless-stopped` unless the user stopped it, `on-failure` after a failure. In one that was seen
//! already only containers whose supervisors were lost are started, so the command may be repeated at any time. What never ran
//! is not started by this.

use std::path::PathBuf;

use crate::model::{Container, RestartPolicy, RuntimeStatus};
use crate::supervisor::client::Remote;
use crate::supervisor::protocol::StopOrder;
use crate::supervisor::{self, SupervisorError};

use super::{ContainerView, Engine, EngineError};

/// What became of the containers that should run.
#[derive(Debug, Default)]
pub struct Boot {
    /// Names of those that were started.
    pub started: Vec<String>,
    /// Those that could not be started, and why.
    pub failed: Vec<(String, EngineError)>,
}

/// Whether a container should run. `lost`: it ran, and its supervisor went without a word; `fresh`: the host has started since.
fn wanted(container: &Container, lost: bool, fresh: bool) -> bool {
    let state = &container.state;
    let ended = fresh && state.status == RuntimeStatus::Exited;
    match container.host.restart {
        RestartPolicy::No => false,
        RestartPolicy::Always => lost || ended,
        RestartPolicy::UnlessStopped => (lost || ended) && !state.stopped_by_user,
        RestartPolicy::OnFailure(most) => {
            let failed = ended && state.exit_code != 0 && (most == 0 || state.restart_count < most);
            (lost || failed) && !state.stopped_by_user
        }
    }
}

/// What the kernel calls the time since it started; `None` where it has no name.
fn boot_id() -> Option<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim().to_owned()).filter(|id| !id.is_empty())
}

impl Engine {
    fn boot_file(&self) -> PathBuf {
        self.root.join("boot-id")
    }

    /// Starts the containers that should run.
    pub fn boot(&self) -> Result<Boot, EngineError> {
        let now = boot_id();
        let seen = std::fs::read_to_string(self.boot_file()).ok();
        let fresh = now.is_some() && now != seen;
        let mut waiting: Vec<Container> = Vec::new();
        for recorded in self.database.containers()? {
            let alive = supervisor::is_alive(&self.run_dir(&recorded.id));
            let lost = recorded.state.status == RuntimeStatus::Running && !alive;
            if !alive && wanted(&recorded, lost, fresh) {
                waiting.push(recorded);
            }
        }
        self.reconcile()?;
        waiting.sort_by_key(|container| container.created);
        let mut boot = Boot::default();
        // One that shares another's namespaces has to wait for it: again, as long as that brings something.
        loop {
            let (before, mut left) = (waiting.len(), Vec::new());
            for container in waiting {
                match self.start_again(container.id.as_str(), false, None) {
                    Ok(Some(_)) => boot.started.push(container.name),
                    Ok(None) => {}
                    Err(error) => left.push((container, error)),
                }
            }
            let waits = |(_, error): &(Container, EngineError)| matches!(error, EngineError::Join(_));
            if left.len() == before || !left.iter().any(waits) {
                boot.failed = left.into_iter().map(|(container, error)| (container.name, error)).collect();
                break;
            }
            waiting = left.into_iter().map(|(container, _)| container).collect();
        }
        if let Some(now) = now.filter(|_| fresh) {
            let file = self.boot_file();
            let new = file.with_extension("new");
            std::fs::write(&new, now)
                .and_then(|()| std::fs::rename(&new, &file))
                .map_err(|source| EngineError::Path { path: file, source })?;
        }
        Ok(boot)
    }

    /// Stops all containers at once, as the host's going down does: the next boot starts those that should run. Tells which
    /// were stopped.
    pub fn shut_down(&self, timeout: Option<i64>) -> Result<Vec<String>, EngineError> {
        let mut stopping: Vec<(ContainerView, Remote)> = Vec::new();
        for view in self.containers()?.into_iter().filter(|view| view.alive) {
            let Some(mut remote) = supervisor::connect(&self.run_dir(&view.container.id)) else { continue };
            let order = StopOrder { signal: None, timeout, keep: false, shutdown: true };
            match remote.watch().and_then(|()| remote.stop(order)) {
                Ok(()) => stopping.push((view, remote)),
                // It has just ended.
                Err(
                    SupervisorError::Lost { .. }
                    | SupervisorError::Protocol(_)
                    | SupervisorError::Reported(_),
                ) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let mut stopped = Vec::new();
        for (view, remote) in stopping {
            match remote.ended() {
                Ok(_) | Err(SupervisorError::Lost { .. } | SupervisorError::Protocol(_)) => {
                    stopped.push(view.container.name);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(stopped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        ContainerConfig, ContainerId, Digest, ExecutorChoice, HostConfig, Platform, RunState, Timestamp,
    };

    #[test]
    fn policies_decide_what_runs_after_a_boot() {
        use RestartPolicy::{Always, No, OnFailure, UnlessStopped};
        let (created, running, exited) =
            (RuntimeStatus::Created, RuntimeStatus::Running, RuntimeStatus::Exited);
        for (policy, status, code, stopped, restarts, new_boot, same_boot) in [
            (No, running, 0, false, 0, false, false),
            (Always, running, 0, false, 0, true, true),
            (Always, exited, 0, true, 0, true, false),
            (Always, created, 0, false, 0, false, false),
            (UnlessStopped, running, 0, false, 0, true, true),
            (UnlessStopped, exited, 0, false, 0, true, false),
            (UnlessStopped, exited, 0, true, 0, false, false),
            (OnFailure(0), running, 0, false, 0, true, true),
            (OnFailure(0), exited, 0, false, 0, false, false),
            (OnFailure(0), exited, 1, false, 7, true, false),
            (OnFailure(2), exited, 1, false, 2, false, false),
            (OnFailure(2), exited, 1, true, 0, false, false),
        ] {
            let container = Container {
                id: ContainerId::from_bytes([1; 32]),
                name: "x".into(),
                created: Timestamp::UNIX_EPOCH,
                image: Digest::of(b"x"),
                image_name: "x".into(),
                layers: Vec::new(),
                platform: "linux/amd64".parse::<Platform>().unwrap(),
                executor: ExecutorChoice { name: "linux".into(), reason: String::new(), runtime: None },
                config: ContainerConfig::default(),
                host: HostConfig { restart: policy, ..HostConfig::default() },
                state: RunState {
                    status,
                    exit_code: code,
                    stopped_by_user: stopped,
                    restart_count: restarts,
                    ..RunState::default()
                },
            };
            let lost = status == running;
            let got = (wanted(&container, lost, true), wanted(&container, lost, false));
            assert_eq!(got, (new_boot, same_boot), "{policy:?} {status:?} {code} {stopped}");
        }
    }
}
