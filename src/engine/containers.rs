//! What is done with containers after they were made.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::executor::{self, Settings};
use crate::model::{Container, ContainerId, Event, LogDriver, RuntimeStatus, Timestamp};
use crate::reference::resolve;
use crate::state::StateError;
use crate::supervisor::{self, Claim, Liveness, LogReader, SupervisorError};
use crate::watch::Watch;

use super::{Engine, EngineError};

/// What a container whose supervisor was lost is recorded as: killed.
const LOST: i32 = 137;

/// How often a removal that races with the container's own end is tried.
pub(super) const REMOVE_TRIES: u32 = 1000;

/// The pause between two tries.
pub(super) const ENDING: Duration = Duration::from_millis(2);

/// How long a supervisor may take to kill its container and say so; one that needs longer is stopped or stuck.
const ANSWER: Duration = Duration::from_secs(5);

/// A container as it is, not only as it was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerView {
    /// Its record; one that says *running* of a container whose supervisor died is corrected.
    pub container: Container,
    /// Whether it runs.
    pub alive: bool,
}

/// What a removal found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// It is gone.
    Removed,
    /// It was on its way out already.
    AlreadyGone,
}

impl Engine {
    /// Corrects a record by what the kernel says; takes no lock that waits and writes nothing.
    fn view(&self, mut container: Container) -> ContainerView {
        let claims = container.state.status == RuntimeStatus::Running;
        let alive = claims && supervisor::is_alive(&self.run_dir(&container.id));
        if claims && !alive {
            // It may have ended between the two looks: then its record says so by now.
            if let Ok(Some(now)) = self.database.container(&container.id) {
                container = now;
            }
            if container.state.status == RuntimeStatus::Running {
                mark_lost(&mut container);
            }
        }
        ContainerView { container, alive }
    }

    /// All containers, newest first.
    pub fn containers(&self) -> Result<Vec<ContainerView>, EngineError> {
        Ok(self.database.containers()?.into_iter().map(|container| self.view(container)).collect())
    }

    /// The container that a name, an id or a unique prefix of one means.
    pub fn container(&self, query: &str) -> Result<ContainerView, EngineError> {
        let mut found = self.database.containers_matching(query)?;
        let candidates = found.iter().map(|c| (&c.id, c.name.as_str()));
        let id = resolve::container(query, candidates)?.clone();
        match found.iter().position(|c| c.id == id) {
            Some(at) => Ok(self.view(found.swap_remove(at))),
            None => Err(EngineError::NoContainer { query: query.to_owned() }),
        }
    }

    /// Removes a container; a running one only by force, which kills it first. `volumes`: its anonymous volumes as well.
    pub fn remove(&self, query: &str, force: bool, volumes: bool) -> Result<Removal, EngineError> {
        self.store()?.use_reserve();
        let container = self.container(query)?.container;
        let removal = self.remove_one(query, force)?;
        if volumes {
            supervisor::remove_anonymous(&self.database, self.store()?, &container)?;
        }
        Ok(removal)
    }

    fn remove_one(&self, query: &str, force: bool) -> Result<Removal, EngineError> {
        let view = self.container(query)?;
        let container = view.container;
        let run = self.run_dir(&container.id);
        for attempt in 0..REMOVE_TRIES {
            match Liveness::try_claim(&run)? {
                Claim::Free(_claim) => {
                    // As it was recorded, not as it is shown: a lost supervisor's leftovers are swept by that.
                    let recorded = self.database.container(&container.id)?;
                    return self.erase(recorded.as_ref().unwrap_or(&container));
                }
                // A supervisor that has recorded the end holds its lock for some moments more, until its process is gone:
                // `rm` right after `wait` must not take that for a running container.
                Claim::Held if !force => match self.database.container(&container.id)? {
                    Some(now)
                        if now.state.status != RuntimeStatus::Exited
                            && supervisor::holder(&run).is_some() =>
                    {
                        return Err(EngineError::Running { name: container.name, action: "remove" });
                    }
                    _ => std::thread::sleep(ENDING),
                },
                // One that begins just now listens in a moment; one that never does is ended.
                Claim::Held => self.end(&container.id, attempt > REMOVE_TRIES / 2),
            }
        }
        Self::not_being_copied(&run, &container.name, "remove")?;
        Err(EngineError::WillNotEnd { name: container.name })
    }

    /// What holds a container for so long and is no supervisor copies its files.
    pub(super) fn not_being_copied(run: &Path, name: &str, action: &'static str) -> Result<(), EngineError> {
        if supervisor::is_alive(run) && supervisor::holder(run).is_none() {
            let why = "its files are being copied, try again when that has ended";
            return Err(EngineError::WrongState { name: name.to_owned(), action, why });
        }
        Ok(())
    }

    /// Kills a container through its supervisor, or the supervisor itself when it does not answer.
    fn end(&self, id: &ContainerId, at_last: bool) {
        let run = self.run_dir(id);
        let heard = match supervisor::connect(&run) {
            Some(mut supervisor) => {
                supervisor.set_patience(ANSWER);
                let told = supervisor.watch().and_then(|()| supervisor.signal(9));
                let ended = told.and_then(|()| supervisor.ended());
                // Any answer is one, and so is that it has just gone: only silence is not.
                !ended.is_err_and(|error| error.is_silence())
            }
            None => !at_last,
        };
        if !heard && let Some(pid) = supervisor::holder(&run) {
            kill_supervisor(pid);
        }
        // Its last act comes after its last word: the lock falls with the process.
        std::thread::sleep(ENDING);
    }

    /// Removes what is left of a container that nobody supervises.
    pub(super) fn erase(&self, container: &Container) -> Result<Removal, EngineError> {
        self.sweep(container)?;
        self.forget_networks(container)?;
        self.store()?.snapshots().remove(&container.id)?;
        let news =
            if container.state.status == RuntimeStatus::Running { lost(container) } else { Vec::new() };
        let gone = match self.database.remove_container(&container.id, &news) {
            Ok(()) => Removal::Removed,
            Err(StateError::NoContainer { .. }) => Removal::AlreadyGone,
            Err(error) => return Err(error.into()),
        };
        let run = self.run_dir(&container.id);
        supervisor::forget(&run).map_err(|source| EngineError::Path { path: run, source })?;
        Ok(gone)
    }

    /// Has a container's executor remove what a lost supervisor left: processes, control groups.
    fn sweep(&self, container: &Container) -> Result<(), EngineError> {
        // One whose start did not come to its record may have left something as well; a start begins with these files.
        let begun = self.run_dir(&container.id).join("hostname").exists();
        if container.state.status != RuntimeStatus::Running && !begun {
            return Ok(());
        }
        let entries = executor::entries();
        let Some(entry) = entries.iter().find(|entry| entry.name == container.executor.name) else {
            return Ok(());
        };
        let executor = (entry.open)(&Settings { own_process: false, ..self.settings(container)? })?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|source| EngineError::Runtime { source })?;
        Ok(runtime.block_on(executor.sweep(&container.id))?)
    }

    /// Makes the records of containers whose supervisors were lost say so, and removes what those left behind.
    ///
    /// Commands that change something call this; it looks only at what is recorded as running.
    pub fn reconcile(&self) -> Result<(), EngineError> {
        self.recover();
        let recorded = self.database.containers_with_status(RuntimeStatus::Running)?;
        let running = recorded.iter().map(|container| container.id.clone()).collect();
        for mut container in recorded {
            let run = self.run_dir(&container.id);
            if supervisor::is_alive(&run) {
                continue;
            }
            let Claim::Free(_claim) = Liveness::try_claim(&run)? else { continue };
            // Under the claim the record cannot change any more; what it says now is the truth.
            match self.database.container(&container.id)? {
                Some(now) if now.state.status == RuntimeStatus::Running => container = now,
                _ => continue,
            }
            if container.host.auto_remove {
                self.erase(&container)?;
                continue;
            }
            self.sweep(&container)?;
            self.forget_networks(&container)?;
            let news = lost(&container);
            mark_lost(&mut container);
            self.database.set_run_state(&container.id, &container.state, &news)?;
        }
        self.reconcile_networks(&running)
    }

    /// Sends a signal to a running container's first process.
    pub fn kill(&self, query: &str, signal: u8) -> Result<(), EngineError> {
        let view = self.container(query)?;
        let not_running = || EngineError::NotRunning { name: view.container.name.clone(), action: "kill" };
        if !view.alive {
            return Err(not_running());
        }
        let Some(mut supervisor) = supervisor::connect(&self.run_dir(&view.container.id)) else {
            return Err(not_running());
        };
        // A container that is killed is ended when the command returns, as far as anyone can see.
        let ends = signal == 9 && supervisor.watch().is_ok();
        Self::heard(supervisor.signal(signal), &view.container.name, "kill")?;
        if ends {
            let _ = supervisor.ended();
        }
        Ok(())
    }

    /// Waits for a container's end and returns its exit status; at once when it does not run.
    pub fn wait(&self, query: &str) -> Result<i32, EngineError> {
        let view = self.container(query)?;
        let id = view.container.id.clone();
        if !view.alive {
            return Ok(view.container.state.exit_code);
        }
        if let Some(supervisor) = supervisor::connect(&self.run_dir(&id)) {
            match supervisor.wait() {
                Ok(exit) => return Ok(exit.code),
                // It ended just now: its record tells how.
                Err(SupervisorError::Lost { .. } | SupervisorError::Protocol(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        match self.database.container(&id)? {
            Some(container) => Ok(self.view(container).container.state.exit_code),
            None => Err(EngineError::NoContainer { query: query.to_owned() }),
        }
    }

    /// What a container wrote, from the beginning or from so many lines before the end.
    pub fn logs(&self, query: &str, tail: Option<usize>) -> Result<LogReader, EngineError> {
        let view = self.container(query)?;
        if view.container.host.log.driver == LogDriver::None {
            return Err(EngineError::NoLog);
        }
        let path = supervisor::log_path(&self.store()?.container_dir(&view.container.id));
        LogReader::open(&path, tail).map_err(|source| EngineError::Path { path, source })
    }

    /// Wakes whoever follows a container's log: when something is written, and when the container ends.
    pub fn watch_logs(&self, container: &Container) -> Result<Watch, EngineError> {
        let files = self.store()?.container_dir(&container.id);
        Ok(Watch::directories(&[&files, &self.run_dir(&container.id)]))
    }

    /// The file that a container's output is kept in; it appears with the first output.
    pub fn log_path(&self, query: &str) -> Result<PathBuf, EngineError> {
        let view = self.container(query)?;
        Ok(supervisor::log_path(&self.store()?.container_dir(&view.container.id)))
    }
}

/// Ends a supervisor that does not answer. It holds the lock that its number was read from, so it is that process still.
#[cfg(unix)]
fn kill_supervisor(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) {
        // It may have ended just now.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

/// No signals here: the process has to be ended by hand, and the removal says that it does not end.
#[cfg(not(unix))]
fn kill_supervisor(_pid: u32) {}

/// What is told of a container whose supervisor was lost: nobody knows how long it ran.
fn lost(container: &Container) -> Vec<Event> {
    vec![Event::container(container, "die").with("exitCode", LOST.to_string())]
}

fn mark_lost(container: &mut Container) {
    let state = &mut container.state;
    state.status = RuntimeStatus::Exited;
    (state.paused, state.restarting) = (false, false);
    state.pid = 0;
    state.exit_code = LOST;
    state.finished = Some(state.finished.unwrap_or_else(Timestamp::now));
    "the container's supervisor was killed".clone_into(&mut state.error);
}
