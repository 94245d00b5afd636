//! Elsewhere no container has such limits: the executors there refuse them.

use crate::model::Resources;

/// What is said of wishes that are let go.
pub(super) fn discarded(_: &Resources) -> Vec<&'static str> {
    Vec::new()
}
