//! What changes in a plan when the engine runs inside a user namespace, as it does for ordinary users.

use runtime_linux::{IdMappings, Plan, cgroups, userns};

use crate::executor::ExecError;
use crate::model::{ErrorKind, HostConfig, Resources};

/// Limits were asked for where none can be set.
#[derive(Debug, thiserror::Error)]
#[error(
    "limits cannot be set without a delegated control group: {}; leave them out, or run as root, or where systemd manages \
     sessions on cgroup v2, with `systemd-run --user --scope -p Delegate=yes umiak …`",
    wanted.join(", ")
)]
struct NoControlGroup {
    wanted: Vec<&'static str>,
}

/// Adapts a plan to what is possible in the namespace of this process. For root one look at `/proc`.
pub(super) fn adapt(plan: &mut Plan, host: &HostConfig) -> Result<(), ExecError> {
    if !userns::inside() {
        return Ok(());
    }
    let ids = IdMappings::current().map_err(|error| {
        ExecError::failed(ErrorKind::Unavailable, "reading the maps of the user namespace", error)
    })?;
    plan.inside = Some(ids);
    if cgroups::base().is_none() {
        without_control_group(plan, host)?;
    }
    Ok(())
}

/// Refuses to change limits of a container that has no control group.
pub(super) fn changeable(plan: &Plan, resources: &Resources) -> Result<(), ExecError> {
    if plan.cgroup.is_some() {
        return Ok(());
    }
    let refusal = NoControlGroup { wanted: limits(resources) };
    Err(ExecError::failed(ErrorKind::Unsupported, "changing the container's limits", refusal))
}

/// Without a control group: the processes in the pid namespace of the first one, unless that is our own.
pub(super) fn processes(first: u32) -> Vec<u32> {
    let space = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let Some(wanted) = space(&first.to_string()).filter(|found| space("self").as_ref() != Some(found)) else {
        return Vec::new();
    };
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| space(name).as_ref() == Some(&wanted)).filter_map(|name| name.parse().ok()).collect()
}

fn without_control_group(plan: &mut Plan, host: &HostConfig) -> Result<(), ExecError> {
    let mut wanted = limits(&host.resources);
    if !host.cgroup_parent.is_empty() {
        wanted.push("--cgroup-parent");
    }
    if !wanted.is_empty() {
        let refusal = NoControlGroup { wanted };
        return Err(ExecError::failed(ErrorKind::Unsupported, "limiting the container", refusal));
    }
    plan.cgroup = None;
    Ok(())
}

/// The flags of the limits that are set.
fn limits(resources: &Resources) -> Vec<&'static str> {
    let r = resources;
    [
        ("--memory", r.memory.is_some()),
        ("--memory-swap", r.memory_swap.is_some()),
        ("--memory-reservation", r.memory_reservation.is_some()),
        ("--memory-swappiness", r.memory_swappiness.is_some()),
        ("--oom-kill-disable", r.oom_kill_disable),
        ("--cpus", r.nano_cpus.is_some()),
        ("--cpu-shares", r.cpu_shares.is_some_and(|shares| shares > 0)),
        ("--cpu-period", r.cpu_period.is_some()),
        ("--cpu-quota", r.cpu_quota.is_some()),
        ("--cpuset-cpus", r.cpuset_cpus.is_some()),
        ("--cpuset-mems", r.cpuset_mems.is_some()),
        ("--pids-limit", r.pids_limit.is_some_and(|limit| limit > 0)),
        ("--blkio-weight", r.blkio_weight.is_some_and(|weight| weight > 0)),
        ("--device-read-bps", !r.device_read_bps.is_empty()),
        ("--device-write-bps", !r.device_write_bps.is_empty()),
        ("--device-read-iops", !r.device_read_iops.is_empty()),
        ("--device-write-iops", !r.device_write_iops.is_empty()),
    ]
    .into_iter()
    .filter_map(|(flag, set)| set.then_some(flag))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime_linux::{CgroupPlan, Limits, Root};

    #[test]
    fn limits_are_refused_by_name_and_nothing_else_is() {
        let mut plan = Plan::new(Root::Directory("/r".into()), vec!["x".into()]);
        plan.cgroup = Some(CgroupPlan { path: "umiak/x".into(), limits: Limits::default() });
        let wished = Resources { memory: Some(1), nano_cpus: Some(1), ..Resources::default() };
        let host = |resources| HostConfig { resources, ..HostConfig::default() };
        let wished = HostConfig { cgroup_parent: "x".into(), ..host(wished) };
        let error = without_control_group(&mut plan, &wished).unwrap_err();
        let text = std::error::Error::source(&error).unwrap().to_string();
        assert!(
            text.starts_with(
                "limits cannot be set without a delegated control group: --memory, --cpus, --cgroup-parent;"
            ),
            "{text}"
        );
        // No limit is no wish.
        let none = Resources { pids_limit: Some(-1), cpu_shares: Some(0), ..Resources::default() };
        without_control_group(&mut plan, &host(none)).unwrap();
        assert_eq!(plan.cgroup, None);
    }
}
