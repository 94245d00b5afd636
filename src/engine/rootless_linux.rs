//! Running without root: when a command enters a user namespace, and what `info` says about it.
//!
//! An ordinary user's command that touches images' files or makes containers first enters a namespace in which it is root
//! ([`runtime_linux::userns`]): about 0.2 ms with a single id, 2 ms with subordinate ids (two set-user-id programs). The
//! supervisors it starts stay in it. Commands that only read the database or talk to a supervisor do not pay for it; they
//! find the same files, since it is the same user on the host. For root all this is one `geteuid`.
//!
//! Every command has a namespace of its own, with the same ids: files made in one are the same owners' in all. Where the
//! kernel refuses namespaces the command goes on without: WASI images still run (roots are copies), and the executor for
//! Linux images says what is in the way.
//!
//! A store made with a single id knows the owners of files only as attributes (see `store::layer`); given subordinate ids
//! later, its layers stay as they are until they are pulled again.

use std::sync::OnceLock;

use runtime_linux::userns::{self, EnterError, IdMappings};

use super::EngineError;

/// Who this process was before it entered a namespace of ours.
#[derive(Debug)]
struct Entered {
    mappings: IdMappings,
}

static ENTERED: OnceLock<Entered> = OnceLock::new();

/// Enters the namespace, unless root runs this. While the process has one thread; a second call does nothing.
pub fn enter() -> Result<(), EngineError> {
    if rustix::process::geteuid().is_root() || ENTERED.get().is_some() {
        return Ok(());
    }
    match userns::enter() {
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
