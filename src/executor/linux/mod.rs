//! Linux containers: translates [`Create`] into a plan of `runtime_linux` and its answers into this boundary's.
//!
//! Invariants:
//! - Everything that isolates is in the runtime crate; here is only docker's choice of defaults.
//! - A container's cgroup can be swept after any crash, by what the crash leaves (see `group`).
//! - What a failed `create` made is gone when it returns.
//!
//! Calls into the runtime block for milliseconds, on purpose: a supervisor has nothing else to do then, and a thread for them
//! costs more than they do.

mod exec;
mod failure;
pub(super) mod group;
mod inside;
pub(super) mod mounts;
mod namespaces;
mod pause;
mod plan;
mod process;
mod resources;
mod security;
mod task;

use std::path::PathBuf;

use async_trait::async_trait;
use runtime_linux::cgroups;

use super::{Create, Entry, ExecError, Executor, Refusal, Settings, Stdio, Task, Want, Workload};
use crate::model::{ContainerId, ErrorKind, Platform};
use task::LinuxTask;

pub(in crate::executor) use failure::not_created;
pub(in crate::executor) use plan::{environment, plan as plan_of};
pub(in crate::executor) use resources::{changes, processes, stats};
pub(in crate::executor) use task::Pty;

/// The executor's name.
pub const NAME: &str = "linux";

/// What docker calls its default way of running a container; none of these is a program.
const ALIASES: &[&str] = &["io.containerd.runc.v2", "io.containerd.runc.v1"];

/// The host side's view.
pub const ENTRY: Entry = Entry { name: NAME, aliases: ALIASES, admit, open };

/// This processor's own platform only: what else the kernel could run (`binfmt_misc`, 32 bits) cannot be told reliably.
fn admit(workload: &Workload) -> Result<(), Refusal> {
    if !Platform::linux_native().accepts(&workload.platform) {
        return Err(Refusal::Platform { executor: NAME, platform: workload.platform.clone() });
    }
    let lacking = [Want::Destinations, Want::Fuel];
    match workload.wants.iter().find(|want| lacking.contains(want)) {
        Some(want) => Err(Refusal::Cannot { executor: NAME, what: want.describe() }),
        None => Ok(()),
    }
}

fn open(settings: &Settings) -> Result<Box<dyn Executor>, ExecError> {
    if !rustix::process::geteuid().is_root() {
        let why = runtime_linux::userns::obstacle().unwrap_or("the kernel refuses a user namespace");
        return Err(Refusal::Privilege { executor: NAME, why }.into());
    }
    Ok(Box::new(Linux {
        exe: settings.exe.clone(),
        scratch: settings.scratch.clone(),
        group_parent: settings.group_parent.clone(),
    }))
}

/// The executor.
#[derive(Debug)]
struct Linux {
    /// Run again to be init.
    exe: PathBuf,
    /// Where a container is swept that is not asked for, with its parent group.
    scratch: PathBuf,
    group_parent: String,
}

fn sweep(group: &str) -> Result<(), ExecError> {
    cgroups::sweep(group)
        .map_err(|error| ExecError::failed(ErrorKind::Internal, "removing the container's cgroup", error))
}

fn streams(stdio: Stdio) -> runtime_linux::Stdio {
    match stdio {
        Stdio::Files { stdin, stdout, stderr } => runtime_linux::Stdio::Streams {
            stdin: stdin.into(),
            stdout: stdout.into(),
            stderr: stderr.into(),
        },
        Stdio::Terminal(_) => runtime_linux::Stdio::Terminal,
    }
}

#[async_trait]
impl Executor for Linux {
    async fn create(&self, request: Create) -> Result<Box<dyn Task>, ExecError> {
        let plan = plan::plan(&request)?;
        let group = plan.cgroup.as_ref().map(|group| group.path.clone());
        match LinuxTask::spawn(&self.exe, plan, streams(request.stdio), &request.id) {
            Ok(task) => Ok(Box::new(task)),
            Err(error) => {
                if let Some(Err(left)) = group.map(|group| sweep(&group)) {
                    tracing::warn!(id = %request.id, error = %left, "a cgroup is left of a container that was not made");
                }
                Err(error)
            }
        }
    }

    async fn sweep(&self, id: &ContainerId) -> Result<(), ExecError> {
        sweep(&group::path(&self.group_parent, &self.scratch, id)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Packaging;

    #[test]
    fn only_images_for_this_processor_are_taken() {
        for (platform, taken) in [
            (Platform::linux_native(), true),
            (Platform::wasi(), false),
            (Platform::new("linux", "s390x", None), false),
            (Platform::new("windows", std::env::consts::ARCH, None), false),
        ] {
            let workload =
                Workload { platform, packaging: Packaging::Image, program: None, wants: Vec::new() };
            assert_eq!(admit(&workload).is_ok(), taken, "{}", workload.platform);
            let workload = Workload { wants: vec![Want::Fuel], ..workload };
            assert!(admit(&workload).is_err());
        }
    }
}
