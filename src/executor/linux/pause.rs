//! Freezing a container's control group.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use runtime_linux::cgroups::{Cgroup, CgroupError};

use super::task::LinuxTask;
use crate::executor::{ExecError, Pause};
use crate::model::ErrorKind;

fn failed(action: &'static str) -> impl FnOnce(CgroupError) -> ExecError {
    move |error| {
        let kind = match &error {
            CgroupError::Missing(_) => ErrorKind::Unsupported,
            CgroupError::Busy(_) => ErrorKind::Unavailable,
            _ => ErrorKind::Internal,
        };
        ExecError::failed(kind, action, error)
    }
}

/// Without root there may be nothing to freeze.
#[derive(Debug, thiserror::Error)]
#[error("a container cannot be frozen without a delegated control group")]
struct NoControlGroup;

impl LinuxTask {
    /// Freezes or thaws it on a thread: the kernel may take its time with a process in the middle of something.
    async fn freeze(&self, freeze: bool, action: &'static str) -> Result<(), ExecError> {
        if self.plan.cgroup.is_none() {
            return Err(ExecError::failed(ErrorKind::Unsupported, action, NoControlGroup));
        }
        let (path, frozen) = (self.cgroup.clone(), Arc::clone(&self.frozen));
        // Before it is true, so that no process enters a group that is about to freeze.
        frozen.store(true, Ordering::Relaxed);
        let job = move || {
            let cgroup = Cgroup::open(&path)?;
            let outcome = if freeze { cgroup.freeze() } else { cgroup.thaw() };
            if freeze && outcome.is_err() {
                cgroup.thaw()?;
            }
            outcome
        };
        let outcome = tokio::task::spawn_blocking(job)
            .await
            .map_err(|error| ExecError::failed(ErrorKind::Internal, action, error))?;
        frozen.store(freeze == outcome.is_ok(), Ordering::Relaxed);
        outcome.map_err(failed(action))
    }
}

#[async_trait]
impl Pause for LinuxTask {
    async fn pause(&self) -> Result<(), ExecError> {
        self.freeze(true, "pausing the container").await
    }

    async fn unpause(&self) -> Result<(), ExecError> {
        self.freeze(false, "unpausing the container").await
    }
}
