//! The record that a supervisor keeps true.

use std::time::Duration;

use super::failure;
use crate::executor::Exit;
use crate::model::{Health, HealthProbe, RunState, RuntimeStatus, Timestamp, chain};
use crate::state::Database;
use crate::store::Store;
use crate::supervisor::health;
use crate::supervisor::protocol::{Failure, Launch, UpdateOrder};
use crate::supervisor::remove_anonymous;

/// The record, and the container's launch that it began with.
pub(super) struct Record {
    pub(super) launch: Launch,
    /// Closed while nothing changes: an idle supervisor keeps no pages for it.
    database: Option<Database>,
    pub(super) state: RunState,
    /// It is stopped to be started again: `--rm` waits for another end.
    pub(super) keep: bool,
}

impl Record {
    pub(super) fn open(launch: Launch) -> Result<Self, Failure> {
        let database = Database::open(&launch.root).map_err(|error| failure(&error))?;
        // Between the command that launched and this lock another may have removed it.
        let there = database.container(&launch.container.id).map_err(|error| failure(&error))?;
        if there.is_none() {
            let _ = crate::supervisor::forget(&launch.run);
            return Err(failure(&crate::supervisor::SupervisorError::Removed));
        }
        let mut state = launch.container.state.clone();
        state.restart_count = 0;
        state.stopped_by_user = false;
        Ok(Self { launch, database: Some(database), state, keep: false })
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
        if let (Some(check), Some(health)) = (check, &mut self.state.health) {
            health::note(&check, health, probe, ran);
            self.write();
            self.rest();
        }
    }

    /// The database, for what the record does not write itself.
    pub(super) fn database(&mut self) -> Result<&Database, Failure> {
        let database = match self.database.take() {
            Some(database) => database,
            None => Database::open(&self.launch.root).map_err(|error| failure(&error))?,
        };
        Ok(self.database.insert(database))
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
        self.database = Some(database);
    }

    /// One supervisor in four, by the chance of its id, spares the commands that follow a long journal.
    pub(super) fn settle(&mut self) {
        if self.launch.container.id.as_str().starts_with(['0', '4', '8', 'c']) {
            self.with_database("settling the database's journal", |database, _| database.settle());
        }
    }

    /// Writes the state as it is.
    pub(super) fn write(&mut self) {
        self.with_database("recording the container's state", |database, this| {
            database.set_run_state(&this.launch.container.id, &this.state)
        });
    }

    pub(super) fn started(&mut self, pid: u32) {
        let check = self.launch.container.config.healthcheck.as_ref();
        self.state = RunState {
            status: RuntimeStatus::Running,
            pid,
            started: Some(Timestamp::now()),
            finished: self.state.finished,
            restart_count: self.state.restart_count,
            health: check.and_then(health::command).map(|_| Health::default()),
            ..RunState::default()
        };
        self.write();
    }

    pub(super) fn not_started(&mut self, failure: &Failure) {
        self.state.error.clone_from(&failure.message);
        self.state.exit_code = failure.kind.run_status().into();
        if self.state.status == RuntimeStatus::Running {
            // It was to be started again.
            self.state.status = RuntimeStatus::Exited;
            self.state.restarting = false;
        }
        self.end();
    }

    fn ended(&mut self, exit: Exit) {
        self.state = RunState {
            pid: 0,
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
        self.write();
    }

    pub(super) fn exited(&mut self, exit: Exit) {
        self.ended(exit);
        self.state.status = RuntimeStatus::Exited;
        self.state.restarting = false;
        self.end();
    }

    /// It was to be started again, and the user stopped it meanwhile: the end that is recorded stands.
    pub(super) fn stopped_between(&mut self) {
        self.state.status = RuntimeStatus::Exited;
        self.state.restarting = false;
        self.end();
    }

    /// Records the end, or with `--rm` removes the container.
    fn end(&mut self) {
        if !self.launch.container.host.auto_remove || self.keep {
            self.write();
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
            database.remove_container(&this.launch.container.id)
        });
        if let Some(database) = &self.database
            && let Err(error) = remove_anonymous(database, &store, &self.launch.container)
        {
            tracing::error!(error = chain(&error), "removing the container's anonymous volumes");
        }
        let _ = crate::supervisor::forget(&self.launch.run);
    }
}
