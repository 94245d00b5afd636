//! cgroup v1: one directory in the tree of every controller that is needed.
//!
//! Invariant: the single-threaded caller joins by writing `0` to `tasks`. Not to `cgroup.procs`: that takes the
//! kernel's global lock on thread groups and waits for an RCU grace period, milliseconds for every hierarchy.

use super::{Allowed, Cgroup, CgroupError, create_dir, device_rules, io_error, write};
use crate::plan::{CgroupPlan, Limits, ThrottleKind};

/// What docker makes, and nothing is limited without being asked in the others.
const ALWAYS: &[&str] = &["pids", "devices", "memory", "freezer", "cpu", "cpuacct", "blkio"];

fn set(
    cgroup: &Cgroup,
    controller: &'static str,
    file: &str,
    value: Option<String>,
) -> Result<(), CgroupError> {
    let Some(value) = value else { return Ok(()) };
    let mount = cgroup.hierarchies.controller(controller).ok_or(CgroupError::Missing(controller))?;
    write(&mount.join(&cgroup.path).join(file), &value)
}

fn text(value: Option<impl ToString>) -> Option<String> {
    value.map(|v| v.to_string())
}

/// cpuset starts empty, and nothing can join it before both files are filled, all the way down.
fn fill_cpuset(cgroup: &Cgroup) -> Result<(), CgroupError> {
    let mount = cgroup.hierarchies.controller("cpuset").ok_or(CgroupError::Missing("cpuset"))?;
    let mut dir = mount.to_owned();
    for part in &cgroup.path {
        let parent = dir.clone();
        dir.push(part);
        create_dir(&dir)?;
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let own = std::fs::read_to_string(dir.join(file)).map_err(io_error(&dir))?;
            if own.trim().is_empty() {
                let inherited = std::fs::read_to_string(parent.join(file)).map_err(io_error(&parent))?;
                write(&dir.join(file), inherited.trim())?;
            }
        }
    }
    Ok(())
}

/// The directories that this plan needs.
fn dirs(cgroup: &Cgroup, plan: &CgroupPlan) -> Vec<std::path::PathBuf> {
    let limits = &plan.limits;
    let cpuset = limits.cpuset_cpus.is_some() || limits.cpuset_mems.is_some();
    let needed =
        |list: &[String]| list.iter().any(|c| ALWAYS.contains(&c.as_str()) || (c == "cpuset" && cpuset));
    let mounts = cgroup.hierarchies.v1.iter().filter(|(list, _)| needed(list));
    mounts.map(|(_, mount)| mount.join(&cgroup.path)).collect()
}

/// Writes what is set; the directories are there.
pub(super) fn apply(cgroup: &Cgroup, limits: &Limits) -> Result<(), CgroupError> {
    let all = "memory.memsw.limit_in_bytes";
    match set(cgroup, "memory", "memory.limit_in_bytes", text(limits.memory)) {
        // Memory may not exceed memory and swap together: when both grow, the sum goes first.
        Err(CgroupError::Io { source, .. })
            if source.raw_os_error() == Some(libc::EINVAL) && limits.memory_swap.is_some() =>
        {
            set(cgroup, "memory", all, text(limits.memory_swap))?;
            set(cgroup, "memory", "memory.limit_in_bytes", text(limits.memory))?;
        }
        other => {
            other?;
            set(cgroup, "memory", all, text(limits.memory_swap))?;
        }
    }
    set(cgroup, "memory", "memory.soft_limit_in_bytes", text(limits.memory_reservation))?;
    set(cgroup, "memory", "memory.swappiness", text(limits.memory_swappiness))?;
    set(cgroup, "memory", "memory.oom_control", limits.oom_kill_disable.then(|| "1".to_owned()))?;
    set(cgroup, "cpu", "cpu.shares", text(limits.cpu_shares))?;
    set(cgroup, "cpu", "cpu.cfs_period_us", text(limits.cpu_period))?;
    set(cgroup, "cpu", "cpu.cfs_quota_us", text(limits.cpu_quota))?;
    let pids = limits.pids.map(|n| if n < 0 { "max".to_owned() } else { n.to_string() });
    set(cgroup, "pids", "pids.max", pids)?;
    if limits.blkio_weight.is_some() {
        weight(cgroup, limits)?;
    }
    for throttle in &limits.throttles {
        let file = match throttle.kind {
            ThrottleKind::ReadBps => "blkio.throttle.read_bps_device",
            ThrottleKind::WriteBps => "blkio.throttle.write_bps_device",
            ThrottleKind::ReadIops => "blkio.throttle.read_iops_device",
            ThrottleKind::WriteIops => "blkio.throttle.write_iops_device",
        };
        let line = format!("{}:{} {}", throttle.major, throttle.minor, throttle.rate);
        set(cgroup, "blkio", file, Some(line))?;
    }
    Ok(())
}

/// The weight of block devices: the file depends on the scheduler that the kernel was built with.
fn weight(cgroup: &Cgroup, limits: &Limits) -> Result<(), CgroupError> {
    match set(cgroup, "blkio", "blkio.weight", text(limits.blkio_weight)) {
        Err(CgroupError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
        other => return other,
    }
    set(cgroup, "blkio", "blkio.bfq.weight", text(limits.blkio_weight))
}

/// Changes limits of a cgroup in use.
pub(super) fn update(cgroup: &Cgroup, limits: &Limits) -> Result<(), CgroupError> {
    if limits.cpuset_cpus.is_some() || limits.cpuset_mems.is_some() {
        let mount = cgroup.hierarchies.controller("cpuset").ok_or(CgroupError::Missing("cpuset"))?;
        if !mount.join(&cgroup.path).is_dir() {
            // The container was begun without: its processes move in now.
            fill_cpuset(cgroup)?;
            for pid in cgroup.processes() {
                write(&mount.join(&cgroup.path).join("cgroup.procs"), &pid.to_string())?;
            }
        }
        set(cgroup, "cpuset", "cpuset.cpus", limits.cpuset_cpus.clone())?;
        set(cgroup, "cpuset", "cpuset.mems", limits.cpuset_mems.clone())?;
    }
    if (limits.blkio_weight.is_some() || !limits.throttles.is_empty())
        && let Some(mount) = cgroup.hierarchies.controller("blkio")
        && !mount.join(&cgroup.path).is_dir()
    {
        create_dir(&mount.join(&cgroup.path))?;
        for pid in cgroup.processes() {
            write(&mount.join(&cgroup.path).join("cgroup.procs"), &pid.to_string())?;
        }
    }
    apply(cgroup, limits)
}

pub(super) fn enter(cgroup: &Cgroup, plan: &CgroupPlan, allowed: &Allowed<'_>) -> Result<(), CgroupError> {
    let limits = &plan.limits;
    let cpuset = limits.cpuset_cpus.is_some() || limits.cpuset_mems.is_some();
    let dirs = dirs(cgroup, plan);
    for dir in &dirs {
        create_dir(dir)?;
    }
    if cpuset {
        fill_cpuset(cgroup)?;
        set(cgroup, "cpuset", "cpuset.cpus", limits.cpuset_cpus.clone())?;
        set(cgroup, "cpuset", "cpuset.mems", limits.cpuset_mems.clone())?;
    }
    apply(cgroup, limits)?;
    if !allowed.privileged {
        set(cgroup, "devices", "devices.deny", Some("a".to_owned()))?;
        let any = |n: i64| if n < 0 { "*".to_owned() } else { n.to_string() };
        for (kind, major, minor, access) in device_rules(allowed) {
            let rule = format!("{kind} {}:{} {access}", any(major), any(minor));
            set(cgroup, "devices", "devices.allow", Some(rule))?;
        }
    }
    dirs.iter().try_for_each(|dir| write(&dir.join("tasks"), "0"))
}
