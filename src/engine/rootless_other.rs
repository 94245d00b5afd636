//! Running without root, on systems without user namespaces: nothing to enter.

use super::{Engine, EngineError};

impl Engine {
    /// Does nothing.
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "the signature of its twin")]
    pub fn enter_namespace(&self) -> Result<(), EngineError> {
        Ok(())
    }
}

/// Root is nobody special to an engine that only runs sandboxes.
pub(super) fn is_root() -> bool {
    false
}

/// For `info`.
pub(super) fn summary() -> super::Confinement {
    super::Confinement {
        rootless: true,
        ids: "none",
        networks: "none: containers' networks need a Linux host".to_owned(),
        control_groups: "none",
    }
}
