//! Containers by an installed OCI runtime (runc, crun, or what has their command line): the same plan as the `linux`
//! executor's, written as the runtime specification's bundle.
//!
//! ```text
//! supervisor ──▶ runtime create ──▶ (container's process, waits)      runtime start | exec | kill | pause | update | delete
//!      └──────────── parent, as subreaper, once the runtime has left ────────┘
//! ```
//! Invariants:
//! - What a container is comes from one place ([`linux::plan`](super::linux)); here it is only written down (`spec`).
//! - The root is an overlay that the supervisor holds as a descriptor. It is mounted in a mount namespace that lasts as long as
//!   one command of the runtime, so a crash leaves no mount on the host.
//! - The runtime's state is below the container's run directory, and its control group is the one that ours would be: a crash
//!   is swept with the runtime or, when that is gone or fails, without it.
//! - What the runtime says when it fails is what the user reads.
//!
//! Why not by the runtime's library or by containerd's shim: the command line is the one interface that all of them share.

mod command;
mod console;
mod exec;
mod failure;
mod process;
mod spec;
mod task;

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use runtime_linux::cgroups;

use super::{Create, Entry, ExecError, Executor, Refusal, Settings, Task, Want, Workload, linux};
use crate::model::{ContainerId, ErrorKind, OciRuntime, Platform};
use command::Runtime;

/// The executor's name.
pub const NAME: &str = "oci";

/// The host side's view.
pub const ENTRY: Entry = Entry { name: NAME, aliases: &[], admit, open };

/// As the `linux` executor, without what only that one's init does.
fn admit(workload: &Workload) -> Result<(), Refusal> {
    if !Platform::linux_native().accepts(&workload.platform) {
        return Err(Refusal::Platform { executor: NAME, platform: workload.platform.clone() });
    }
    let missing = [Want::Init, Want::UserNamespace];
    match workload.wants.iter().find(|want| missing.contains(want)) {
        Some(want) => Err(Refusal::Cannot { executor: NAME, what: want.describe() }),
        None => Ok(()),
    }
}

fn open(settings: &Settings) -> Result<Box<dyn Executor>, ExecError> {
    if !rustix::process::geteuid().is_root() || runtime_linux::userns::inside() {
        let why = "an installed runtime is given a root that only the host's root can mount";
        return Err(Refusal::Privilege { executor: NAME, why }.into());
    }
    let Some(runtime) = settings.runtime.clone() else {
        return Err(ExecError::failed(ErrorKind::Internal, "choosing the runtime", NoRuntime));
    };
    Ok(Box::new(Oci {
        runtime,
        scratch: settings.scratch.clone(),
        group_parent: settings.group_parent.clone(),
    }))
}

/// The record names none.
#[derive(Debug, thiserror::Error)]
#[error("the container's record names no installed runtime")]
struct NoRuntime;

/// A file or directory of the bundle.
#[derive(Debug, thiserror::Error)]
#[error("`{}`", path.display())]
struct FileError {
    path: PathBuf,
    source: std::io::Error,
}

fn file_error(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> ExecError {
    move |source| {
        ExecError::failed(ErrorKind::Unavailable, action, FileError { path: path.to_owned(), source })
    }
}

/// The executor.
#[derive(Debug)]
struct Oci {
    runtime: OciRuntime,
    /// Where a container is swept that is not asked for: its own directory, as in the request that made it. Everything that is
    /// the runtime's (bundle, state, log) is in `oci` below that.
    scratch: PathBuf,
    /// Of that container, the parent of its control group.
    group_parent: String,
}

impl Oci {
    fn runtime(&self, scratch: &Path, parent: &str, id: &ContainerId) -> Result<Runtime, ExecError> {
        let group = linux::group::path(parent, scratch, id)?;
        Ok(Runtime::new(&self.runtime, &scratch.join("oci"), id, group))
    }
}

/// Removes what there is of a container: by the runtime, then whatever that left.
fn sweep(runtime: &Runtime) -> Result<(), ExecError> {
    let group = &runtime.group;
    // A frozen or hanging process would hold the runtime up.
    let killed = cgroups::Cgroup::open(group).and_then(|cgroup| cgroup.kill_all());
    if let Err(error) = killed {
        tracing::debug!(id = %runtime.id, %error, "killing what is left of a container");
    }
    process::reap_strays();
    if runtime.home.exists() {
        if let Err(error) = runtime.run(&["delete", "--force", runtime.id.as_str()]) {
            tracing::warn!(error = crate::model::chain(&error), "the runtime cannot remove a container");
        }
        std::fs::remove_dir_all(&runtime.home)
            .map_err(file_error("removing the runtime's files", &runtime.home))?;
    }
    cgroups::sweep(group)
        .map_err(|error| ExecError::failed(ErrorKind::Internal, "removing the container's cgroup", error))
}

#[async_trait]
impl Executor for Oci {
    async fn create(&self, request: Create) -> Result<Box<dyn Task>, ExecError> {
        let runtime = self.runtime(&request.scratch, &request.host.cgroup_parent, &request.id)?;
        let task = command::aside(move || {
            task::create(runtime.clone(), request).inspect_err(|_| {
                if let Err(left) = sweep(&runtime) {
                    tracing::warn!(
                        error = crate::model::chain(&left),
                        "something is left of a container that was not made"
                    );
                }
            })
        });
        Ok(Box::new(task.await?.watch()?))
    }

    async fn sweep(&self, id: &ContainerId) -> Result<(), ExecError> {
        let runtime = self.runtime(&self.scratch, &self.group_parent, id)?;
        command::aside(move || sweep(&runtime)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Packaging;

    #[test]
    fn what_only_our_init_does_is_refused_by_name() {
        let workload = |wants| Workload {
            platform: Platform::linux_native(),
            packaging: Packaging::Image,
            program: None,
            wants,
        };
        assert!(admit(&workload(vec![Want::HostNetwork, Want::Memory, Want::Privileged])).is_ok());
        for (want, flag) in [(Want::Init, "--init"), (Want::UserNamespace, "--userns")] {
            assert!(admit(&workload(vec![want])).unwrap_err().to_string().contains(flag));
        }
    }
}
