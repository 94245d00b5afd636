//! Running without root: when a command enters a user namespace, and what `info` says about it.
//!
//! An ordinary user's command that touches images' files or makes containers first enters a namespace in which it is root
//! ([`runtime_linux::userns`]): about 0.2 ms with a single id, 2 ms with subordinate ids (two set-user-id programs). The
//! supervisors it starts stay in it. Commands that only read the database or talk to a supervisor do not pay for it; they
//! find the same files, since it is the same user on the host. For root all this is one `geteuid`.
//!
//! While a container runs, or a command is about to run one, commands join its namespace (see [`super::company`]): containers can
//! share namespaces of other kinds and networks, and commands look into containers' trees, only from one user namespace. Otherwise
//! a command makes its own, with the same ids: files made in one are the same owners' in all. So no process has to be kept for
//! the namespace's sake.
//!
//! Where the kernel refuses namespaces the command goes on without: WASI images still run (roots are copies), and the executor
//! for Linux images says what is in the way.
//!
//! A store made with a single id knows the owners of files only as attributes (see `store::layer`); given subordinate ids
//! later, its layers stay as they are until they are pulled again.

use std::sync::OnceLock;

use runtime_linux::userns::{self, EnterError, IdMappings};

use super::company::Company;
use super::{Engine, EngineError};
use crate::model::RuntimeStatus;
use crate::network::{Missing, pasta};
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
        let failed = |source| EngineError::Path { path: self.root.clone(), source };
        let company = Company::open(&self.root).map_err(failed)?;
        let supervisors = self.supervisors()?;
        if enter(supervisors.into_iter().chain(company.commands()))? {
            company.join().map_err(failed)?;
        }
        Ok(())
    }

    /// Those of containers that run.
    fn supervisors(&self) -> Result<Vec<u32>, EngineError> {
        let running = self.database.containers_with_status(RuntimeStatus::Running)?;
        Ok(running.iter().filter_map(|one| supervisor::holder(&self.run_dir(&one.id))).collect())
    }
}

/// Joins the namespace of the first of these processes that is in one, or makes one; whether it could.
fn enter(mut others: impl Iterator<Item = u32>) -> Result<bool, EngineError> {
    match others.find_map(|pid| userns::join(pid).transpose()).unwrap_or_else(userns::enter) {
        Ok(mappings) => {
            let _first = ENTERED.set(Entered { mappings });
            Ok(true)
        }
        Err(EnterError::Refused(error)) => {
            tracing::warn!(%error, "the kernel refuses a user namespace; Linux images cannot be run");
            Ok(false)
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
        networks: networks(),
        control_groups: match runtime_linux::cgroups::base() {
            Some(_) if is_root() => "all",
            Some(_) => "delegated",
            None => "none",
        },
    }
}

/// What networks containers can have.
fn networks() -> String {
    match (is_root(), ENTERED.get().is_some(), pasta::none()) {
        (true, ..) => "all".to_owned(),
        (_, false, _) => "none: the kernel refuses a user namespace".to_owned(),
        (.., None) => "among containers, and outside by pasta".to_owned(),
        (.., Some(Missing::Program)) => "among containers alone: pasta is not installed".to_owned(),
        (.., Some(missing)) => format!("among containers alone: {missing}"),
    }
}
