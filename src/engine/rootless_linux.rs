//! Running without root: when a command enters a user namespace, and what `info` says about it.
//!
//! An ordinary user's command that touches images' files or makes containers first enters a namespace in which it is root
//! ([`runtime_linux::userns`]): about 0.2 ms with a single id, 2 ms with subordinate ids (two set-user-id programs). The
//! supervisors it starts stay in it. Commands that only read the database or talk to a supervisor do not pay for it; they
//! find the same files, since it is the same user on the host. For root all this is one `geteuid`.
//!
//! While a container runs, commands join its namespace (20 µs): containers can share namespaces of other kinds, and commands
//! look into containers' trees, only from one user namespace. Otherwise a command makes its own, with the same ids: files made
//! in one are the same owners' in all. So no process has to be kept for the namespace's sake.
//!
//! Where the kernel refuses namespaces the command goes on without: WASI images still run (roots are copies), and the executor
//! for Linux images says what is in the way.
//!
//! A store made with a single id knows the owners of files only as attributes (see `store::layer`); given subordinate ids
//! later, its layers stay as they are until they are pulled again.

use std::sync::OnceLock;

use runtime_linux::userns::{self, EnterError, IdMappings};

use super::{Engine, EngineError};
use crate::model::RuntimeStatus;
use crate::supervisor;

/// Who this process was before it entered a namespace of ours.
#[derive(Debug)]
struct Entered {
    mappings: IdMappings,
}

static ENTERED: OnceLock<Entered> = OnceLock::new();

impl Engine {
    /// Enters the user namespace in which an ordinary user may make containers. For root it does nothing. To be called while the
    /// process has one thread; a second call does nothing.
    pub fn enter_namespace(&self) -> Result<(), EngineError> {
        if rustix::process::geteuid().is_root() || ENTERED.get().is_some() {
            return Ok(());
        }
        enter(|| self.first_processes())
    }

    /// Of containers that run, by their supervisors' locks.
    fn first_processes(&self) -> Result<Vec<u32>, EngineError> {
        let running = self.database.containers_with_status(RuntimeStatus::Running)?;
        let alive = running.iter().filter(|one| supervisor::is_alive(&self.run_dir(&one.id)));
        Ok(alive.map(|one| one.state.pid).collect())
    }
}

fn enter(running: impl FnOnce() -> Result<Vec<u32>, EngineError>) -> Result<(), EngineError> {
    let entered =
        running()?.into_iter().find_map(|pid| userns::join(pid).transpose()).unwrap_or_else(userns::enter);
    match entered {
        Ok(mappings) => {
            let _first = ENTERED.set(Entered { mappings });
            Ok(())
        }
        Err(EnterError::Refused(error)) => {
            tracing::warn!(%error, "the kernel refuses a user namespace; Linux images cannot be run");
            Ok(())
        }
        Err(error) => Err(EngineError::Namespace { source: Box::new(error) }),
    }
}

/// Whether the user outside all namespaces of ours is root.
pub(super) fn is_root() -> bool {
    ENTERED.get().is_none() && rustix::process::geteuid().is_root()
}

/// For `info`: whether this is an ordinary user's engine, how ids are mapped, and where limits can be set.
pub(super) fn summary() -> super::Confinement {
    let ids = match ENTERED.get() {
        Some(entered) if entered.mappings.single() => "single id",
        Some(_) => "subordinate ids",
        None if is_root() => "all",
        None => "none",
    };
    super::Confinement {
        rootless: !is_root(),
        ids,
        control_groups: match runtime_linux::cgroups::base() {
            Some(_) if is_root() => "all",
            Some(_) => "delegated",
            None => "none",
        },
    }
}
