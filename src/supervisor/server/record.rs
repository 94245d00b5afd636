//! The record that a supervisor keeps true.

use std::time::{Duration, Instant};

use super::failure;
use crate::executor::Exit;
use crate::model::{
    self, Container, ErrorKind, Health, HealthProbe, MountSource, NamespaceMode, NetworkMode, RunState,
    RuntimeStatus, Timestamp, chain,
};
use crate::state::Database;
use crate::store::Store;
use crate::supervisor::health;
use crate::supervisor::protocol::{Failure, Launch, UpdateOrder};
use crate::supervisor::remove_anonymous;

/// After so long without a use the database is let go of.
const REST: Duration = Duration::from_secs(1);

/// The record, and the container's launch that it began with.
pub(super) struct Record {
    pub(super) launch: Launch,
    /// Closed while nothing changes: an idle supervisor keeps no pages for it.
    database: Option<Database>,
    /// When it was used last.
    used: Instant,
    pub(super) state: RunState,
    /// It is stopped to be started again: `--rm` waits for another end.
    pub(super) keep: bool,
    /// It was told to stop, and has not ended yet.
    pub(super) stopping: bool,
    /// The client that launched it was not told of yet.
    attached: bool,
}

impl Record {
    /// `database` is the store's, if it is open already.
    pub(super) fn open(launch: Launch, database: Option<Database>) -> Result<Self, Failure> {
        let database = database.map_or_else(|| Database::open(&launch.root), Ok);
        let database = database.map_err(|error| failure(&error))?;
        // Between the command that launched and this lock another may have removed it.
        let there = database.has_container(&launch.container.id).map_err(|error| failure(&error))?;
        if !there {
            let _ = crate::supervisor::forget(&launch.run);
            return Err(failure(&crate::supervisor::SupervisorError::Removed));
        }
        let mut state = launch.container.state.clone();
        state.restart_count = 0;
        state.stopped_by_user = false;
        let attached = launch.attach;
        Ok(Self {
            launch,
            database: Some(database),
            used: Instant::now(),
            state,
            keep: false,
            stopping: false,
            attached,
        })
    }

    /// Before another run: the containers whose namespaces this one shares may have other processes by now.
    pub(super) fn rejoin(&mut self) -> Result<(), Failure> {
        let host = self.launch.container.host.clone();
        let network = match &host.network {
            NetworkMode::Container(id) => Some(id),
            _ => None,
        };
        let other = |mode: &NamespaceMode| match mode {
            NamespaceMode::Container(id) => Some(id.clone()),
            _ => None,
        };
        if let Some(id) = network {
            self.launch.joins.network = Some(self.first_process("network", id)?);
        }
        if let Some(id) = other(&host.pid) {
            self.launch.joins.pid = Some(self.first_process("PID", &id)?);
        }
        if let Some(id) = other(&host.ipc) {
            self.launch.joins.ipc = Some(self.first_process("IPC", &id)?);
        }
        Ok(())
    }

    /// The first process of another container, which must run.
    fn first_process(&self, kind: &str, id: &str) -> Result<u32, Failure> {
        let database = Database::open(&self.launch.root).map_err(|error| failure(&error))?;
        let found = database.containers_matching(id).map_err(|error| failure(&error))?;
        let run = |other: &Container| self.launch.run.with_file_name(&other.id.as_str()[..24]);
        let other = found.into_iter().find(|other| other.id.as_str() == id && other.state.pid != 0);
        match other.filter(|other| crate::supervisor::is_alive(&run(other))) {
            Some(other) => Ok(other.state.pid),
            None => Err(Failure {
                kind: ErrorKind::Conflict,
                message: format!("cannot join {kind} namespace of container {id}: it is not running"),
                hints: Vec::new(),
            }),
        }
    }

    /// Takes over what `update` changes; the stored record is the command's to write.
    pub(super) fn update(&mut self, order: &UpdateOrder) {
        let host = &mut self.launch.container.host;
        host.resources.take_over(&order.resources);
        if let Some(policy) = order.restart {
            host.restart = policy;
        }
    }

    /// Takes in what the health check found, `ran` after the start.
    pub(super) fn checked(&mut self, probe: HealthProbe, ran: Duration) {
        let check = self.launch.container.config.healthcheck.clone();
        let Some((check, health)) = check.zip(self.state.health.as_mut()) else { return };
        let words = health::command(&self.launch.container.config).unwrap_or_default();
        let before = health.status;
        let (start, end, code) = (probe.start, probe.end, probe.exit_code);
        health::note(&check, health, probe, ran);
        let now = health.status;
        let id = super::session::random_id();
        let mut news = super::session::begun(&self.launch.container, &words, &id, start).to_vec();
        if code >= 0 {
            news.push(super::session::died(&self.launch.container, &id, code).at(end));
        }
        if now != before {
            news.push(self.news(&format!("health_status: {}", now.text())));
        }
        self.write(&news);
    }

    /// Something that happened to the container.
    pub(super) fn news(&self, action: &str) -> model::Event {
        model::Event::container(&self.launch.container, action)
    }

    /// Records what happened without a change of the state.
    pub(super) fn note(&mut self, news: &[model::Event]) {
        self.with_database("recording an event", |database, _| database.note(news));
    }

    /// What happens to the container's volumes at its start and its end.
    fn volumes(&self, action: &str) -> Vec<model::Event> {
        let container = &self.launch.container;
        let mounts = container.host.mounts.iter().filter_map(|mount| match &mount.source {
            MountSource::Volume { name, .. } => Some((mount, name)),
            MountSource::Bind { .. } | MountSource::Tmpfs { .. } => None,
        });
        mounts
            .map(|(mount, name)| {
                let event = model::Event::volume(name, action).with("container", container.id.as_str());
                if action != "mount" {
                    return event;
                }
                event
                    .with("destination", mount.target.as_str())
                    .with("propagation", "")
                    .with("read/write", (!mount.read_only).to_string())
            })
            .collect()
    }

    /// What is told of an end: its kind, then the end itself.
    fn death(&mut self) -> Vec<model::Event> {
        let mut news = Vec::new();
        if self.state.oom_killed {
            news.push(self.news("oom"));
        }
        news.extend(self.volumes("unmount"));
        if std::mem::take(&mut self.stopping) {
            news.push(self.news("stop"));
        }
        let end = self.state.finished.unwrap_or_else(Timestamp::now);
        let ran = self.state.started.map_or(0, |start| end.as_second() - start.as_second());
        let die = self.news("die").with("execDuration", ran.max(0).to_string());
        news.push(die.with("exitCode", self.state.exit_code.to_string()));
        news
    }

    /// When to let go of the database; `None` when that is done.
    pub(super) fn rests_at(&self) -> Option<Instant> {
        self.database.as_ref().map(|_| self.used + REST)
    }

    /// The database, for what the record does not write itself.
    pub(super) fn database(&mut self) -> Result<&Database, Failure> {
        Ok(self.for_launch()?.1)
    }

    /// What is to be launched, and the metadata database.
    pub(super) fn for_launch(&mut self) -> Result<(&Launch, &Database), Failure> {
        let database = match self.database.take() {
            Some(database) => database,
            None => Database::open(&self.launch.root).map_err(|error| failure(&error))?,
        };
        Ok((&self.launch, self.database.insert(database)))
    }

    /// Lets go of the database until something changes.
    pub(super) fn rest(&mut self) {
        self.database = None;
    }

    fn with_database(
        &mut self,
        action: &'static str,
        write: impl FnOnce(&Database, &Self) -> Result<(), crate::state::StateError>,
    ) {
        let database = match self.database.take().map_or_else(|| Database::open(&self.launch.root), Ok) {
            Ok(database) => database,
            Err(error) => {
                tracing::error!(error = chain(&error), action);
                return;
            }
        };
        if let Err(error) = write(&database, self) {
            tracing::error!(error = chain(&error), action);
        }
        (self.database, self.used) = (Some(database), Instant::now());
    }

    /// Spares the commands that follow a long journal.
    pub(super) fn settle(&mut self) {
        self.with_database("settling the database's journal", |database, _| {
            database.settle();
            Ok(())
        });
    }

    /// Writes the state as it is, and what happened.
    pub(super) fn write(&mut self, news: &[model::Event]) {
        self.with_database("recording the container's state", |database, this| {
            database.set_run_state(&this.launch.container.id, &this.state, news)
        });
    }

    /// It runs, as this process and with this around it.
    pub(super) fn started(&mut self, pid: u32, walls: &[&str]) {
        let check = health::command(&self.launch.container.config);
        self.state = RunState {
            status: RuntimeStatus::Running,
            pid,
            walls: walls.iter().map(|&wall| wall.to_owned()).collect(),
            started: Some(Timestamp::now()),
            finished: self.state.finished,
            restart_count: self.state.restart_count,
            health: check.map(|_| Health::default()),
            ..RunState::default()
        };
        let mut news = Vec::new();
        if std::mem::take(&mut self.attached) {
            news.push(self.news("attach"));
        }
        news.extend(self.volumes("mount"));
        news.push(self.news("start"));
        self.write(&news);
    }

    pub(super) fn not_started(&mut self, failure: &Failure) {
        self.state.error.clone_from(&failure.message);
        self.state.exit_code = failure.kind.run_status().into();
        if self.state.status == RuntimeStatus::Running {
            // It was to be started again.
            self.state.status = RuntimeStatus::Exited;
            self.state.restarting = false;
        }
        self.end(&[]);
    }

    fn ended(&mut self, exit: Exit) {
        self.state = RunState {
            pid: 0,
            walls: Vec::new(),
            paused: false,
            exit_code: exit.code,
            oom_killed: exit.oom_killed,
            finished: Some(Timestamp::now()),
            error: String::new(),
            ..self.state.clone()
        };
    }

    /// It ended, and will be started again.
    pub(super) fn restarting(&mut self, exit: Exit) {
        self.ended(exit);
        self.state.restarting = true;
        self.state.restart_count += 1;
        let news = self.death();
        self.write(&news);
    }

    pub(super) fn exited(&mut self, exit: Exit) {
        self.ended(exit);
        self.state.status = RuntimeStatus::Exited;
        self.state.restarting = false;
        let news = self.death();
        self.end(&news);
    }

    /// It was to be started again, and the user stopped it meanwhile: the end that is recorded stands.
    pub(super) fn stopped_between(&mut self) {
        self.state.status = RuntimeStatus::Exited;
        self.state.restarting = false;
        let news = if std::mem::take(&mut self.stopping) { vec![self.news("stop")] } else { Vec::new() };
        self.end(&news);
    }

    /// Records the end, or with `--rm` removes the container.
    fn end(&mut self, news: &[model::Event]) {
        if !self.launch.container.host.auto_remove || self.keep {
            self.write(news);
            return;
        }
        let id = &self.launch.container.id;
        let store = match Store::open(&self.launch.root) {
            Ok(store) => store,
            Err(error) => {
                tracing::error!(error = chain(&error), "removing the container's files");
                return;
            }
        };
        if let Err(error) = store.snapshots().remove(id) {
            tracing::error!(error = chain(&error), "removing the container's files");
        }
        self.with_database("removing the container's record", |database, this| {
            database.remove_container(&this.launch.container.id, news)
        });
        if let Some(database) = &self.database
            && let Err(error) = remove_anonymous(database, &store, &self.launch.container)
        {
            tracing::error!(error = chain(&error), "removing the container's anonymous volumes");
        }
        let _ = crate::supervisor::forget(&self.launch.run);
    }
}
