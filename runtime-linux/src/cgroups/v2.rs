//! cgroup v2: one directory; device access is decided by a small eBPF program.
//!
//! Invariant: the caller is not moved; its child is born in the cgroup (`CLONE_INTO_CGROUP`), so no process is ever
//! outside its limits. When the top is a container's own and holds processes, they are moved to the leaf
//! `umiak-host` first (the rule against internal processes), as every nested engine has to.

use std::fs;
use std::os::fd::AsFd;
use std::path::Path;

use super::{Allowed, Cgroup, CgroupError, create_dir, device_rules, io_error, write};
use crate::plan::{CgroupPlan, Limits, ThrottleKind};

const WANTED: &[&str] = &["cpu", "cpuset", "memory", "pids", "io"];

fn enable(cgroup: &Cgroup) -> Result<(), CgroupError> {
    let mut dir = cgroup.hierarchies.v2.clone().ok_or(CgroupError::Missing("cgroup2"))?;
    let top = dir.clone();
    for part in &cgroup.path {
        let offered = fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default();
        let path = dir.join("cgroup.subtree_control");
        let on = fs::read_to_string(&path).unwrap_or_default();
        let has = |list: &str, name: &str| list.split_whitespace().any(|c| c == name);
        let missing = || WANTED.iter().filter(|name| has(&offered, name) && !has(&on, name));
        // Some controllers could be switched on all the same, and would stay when others cannot.
        let procs = || fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
        if dir != top && missing().next().is_some() && !crate::userns::inside() && !procs().is_empty() {
            return Err(CgroupError::Occupied(dir));
        }
        for name in missing() {
            let value = format!("+{name}");
            match write(&path, &value) {
                Err(CgroupError::Io { source, .. })
                    if source.raw_os_error() == Some(libc::EBUSY) && dir == top =>
                {
                    let leaf = top.join("umiak-host");
                    create_dir(&leaf)?;
                    for pid in fs::read_to_string(top.join("cgroup.procs")).unwrap_or_default().lines() {
                        let _gone_or_kernels = write(&leaf.join("cgroup.procs"), pid);
                    }
                    write(&path, &value)?;
                }
                Err(CgroupError::Io { source, .. }) if source.raw_os_error() == Some(libc::EBUSY) => {
                    return Err(CgroupError::Occupied(dir));
                }
                // Above what is delegated to us nothing can be switched on; a limit that lacks its file will say so.
                Err(CgroupError::Io { source, .. })
                    if crate::userns::inside()
                        && [Some(libc::EACCES), Some(libc::EPERM)].contains(&source.raw_os_error()) =>
                {
                    break;
                }
                other => other?,
            }
        }
        dir.push(part);
        create_dir(&dir)?;
    }
    Ok(())
}

/// v1's 2 to 262 144 on v2's 1 to 10 000, as every runtime converts it.
fn cpu_weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

/// Writes what is set into the cgroup's directory.
pub(super) fn apply(dir: &Path, limits: &Limits) -> Result<(), CgroupError> {
    // What v1 calls a limit v2 calls a protection: without one nothing is protected.
    let low = |n: u64| if n == Limits::UNLIMITED { "0".to_owned() } else { n.to_string() };
    let max = |n: i64| if n < 0 { "max".to_owned() } else { n.to_string() };
    let swap = limits.memory_swap.map(|total| {
        if total < 0 {
            total
        } else {
            (total - i64::try_from(limits.memory.unwrap_or(0)).unwrap_or(0)).max(0)
        }
    });
    let quota = (limits.cpu_quota.is_some() || limits.cpu_period.is_some())
        .then(|| format!("{} {}", max(limits.cpu_quota.unwrap_or(-1)), limits.cpu_period.unwrap_or(100_000)));
    for (file, value) in [
        ("memory.max", limits.memory.map(|n| n.to_string())),
        ("memory.swap.max", swap.map(max)),
        ("memory.low", limits.memory_reservation.map(low)),
        ("cpu.max", quota),
        ("cpu.weight", limits.cpu_shares.map(|n| cpu_weight(n).to_string())),
        ("cpuset.cpus", limits.cpuset_cpus.clone()),
        ("cpuset.mems", limits.cpuset_mems.clone()),
        ("pids.max", limits.pids.map(max)),
    ] {
        if let Some(value) = value {
            write(&dir.join(file), &value)?;
        }
    }
    if let Some(weight) = limits.blkio_weight {
        io_weight(dir, weight)?;
    }
    for throttle in &limits.throttles {
        let key = match throttle.kind {
            ThrottleKind::ReadBps => "rbps",
            ThrottleKind::WriteBps => "wbps",
            ThrottleKind::ReadIops => "riops",
            ThrottleKind::WriteIops => "wiops",
        };
        let rate = if throttle.rate == 0 { "max".to_owned() } else { throttle.rate.to_string() };
        write(&dir.join("io.max"), &format!("{}:{} {key}={rate}", throttle.major, throttle.minor))?;
    }
    Ok(())
}

/// The weight of block devices: v1's 10 to 1000 as it is for the scheduler of that name, else on v2's 1 to 10 000.
fn io_weight(dir: &Path, weight: u16) -> Result<(), CgroupError> {
    match write(&dir.join("io.bfq.weight"), &format!("default {weight}")) {
        Err(CgroupError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
        other => return other,
    }
    let scaled = 1 + (u64::from(weight.clamp(10, 1000)) - 10) * 9999 / 990;
    write(&dir.join("io.weight"), &format!("default {scaled}"))
}

/// Changes limits of a cgroup in use.
pub(super) fn update(cgroup: &Cgroup, limits: &Limits) -> Result<(), CgroupError> {
    let dir = cgroup.hierarchies.v2.clone().ok_or(CgroupError::Missing("cgroup2"))?.join(&cgroup.path);
    let mut limits = limits.clone();
    if limits.memory.is_none() && limits.memory_swap.is_some_and(|total| total >= 0) {
        // Only swap by itself is known to v2.
        let path = dir.join("memory.max");
        let now = fs::read_to_string(&path).map_err(io_error(&path))?;
        limits.memory = now.trim().parse().ok();
    }
    apply(&dir, &limits)
}

pub(super) fn enter(
    cgroup: &Cgroup,
    plan: &CgroupPlan,
    allowed: &Allowed<'_>,
) -> Result<fs::File, CgroupError> {
    enable(cgroup)?;
    let dir = cgroup.hierarchies.v2.clone().ok_or(CgroupError::Missing("cgroup2"))?.join(&cgroup.path);
    apply(&dir, &plan.limits)?;
    let opened = fs::File::open(&dir).map_err(io_error(&dir))?;
    if !allowed.privileged {
        let program = device_program(&device_rules(allowed));
        crate::sys::attach_device_program(opened.as_fd(), &program)
            .map_err(|errno| io_error(&dir)(errno.into()))?;
    }
    Ok(opened)
}

/// One eBPF instruction (`struct bpf_insn`): opcode, destination and source register, offset, immediate.
fn instruction(code: u8, dst: u8, src: u8, offset: i16, value: i32) -> u64 {
    let mut bytes = [0; 8];
    bytes[0] = code;
    bytes[1] = src << 4 | dst;
    bytes[2..4].copy_from_slice(&offset.to_ne_bytes());
    bytes[4..8].copy_from_slice(&value.to_ne_bytes());
    u64::from_ne_bytes(bytes)
}

/// Allows what a rule allows, and nothing else. The context is `{ access << 16 | type, major, minor }`.
fn device_program(rules: &[(char, i64, i64, &str)]) -> Vec<u64> {
    let mut code = vec![
        instruction(0x61, 2, 1, 0, 0),      // w2 = type and access
        instruction(0xbc, 3, 2, 0, 0),      // w3 = w2
        instruction(0x54, 2, 0, 0, 0xffff), // type
        instruction(0x74, 3, 0, 0, 16),     // access
        instruction(0x61, 4, 1, 4, 0),      // major
        instruction(0x61, 5, 1, 8, 0),      // minor
    ];
    for (kind, major, minor, access) in rules {
        let kind = if *kind == 'b' { 1 } else { 2 };
        let bits = access.chars().fold(0, |bits, c| {
            bits | match c {
                'm' => 1,
                'r' => 2,
                'w' => 4,
                _ => 0,
            }
        });
        // Each check skips to the end of the rule; offsets count from the following instruction.
        let mut checks = vec![instruction(0x56, 2, 0, 0, kind)];
        checks.push(instruction(0xbc, 0, 3, 0, 0));
        checks.push(instruction(0x54, 0, 0, 0, !bits)); // asked for more than this rule gives?
        checks.push(instruction(0x56, 0, 0, 0, 0));
        for (register, number) in [(4, *major), (5, *minor)] {
            if let Ok(number) = i32::try_from(number)
                && number >= 0
            {
                checks.push(instruction(0x56, register, 0, 0, number));
            }
        }
        let length = checks.len() + 2;
        for (at, check) in checks.iter_mut().enumerate() {
            let mut bytes = check.to_ne_bytes();
            if bytes[0] == 0x56 {
                let away = i16::try_from(length - at - 1).unwrap_or(i16::MAX);
                bytes[2..4].copy_from_slice(&away.to_ne_bytes());
                *check = u64::from_ne_bytes(bytes);
            }
        }
        code.extend(checks);
        code.push(instruction(0xb4, 0, 0, 0, 1));
        code.push(instruction(0x95, 0, 0, 0, 0));
    }
    code.push(instruction(0xb4, 0, 0, 0, 0));
    code.push(instruction(0x95, 0, 0, 0, 0));
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_span_both_scales() {
        for (shares, weight) in [(2, 1), (1024, 39), (262_144, 10_000), (0, 1)] {
            assert_eq!(cpu_weight(shares), weight);
        }
    }

    /// The kernel's verifier is the judge. Needs root and a v2 tree.
    #[test]
    fn the_kernel_takes_the_device_program() {
        let found = super::super::Hierarchies::detect().unwrap();
        let Some(mount) = found.v2.filter(|_| rustix::process::geteuid().is_root()) else { return };
        let dir = mount.join(format!("umiak-bpf-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        let program = device_program(&device_rules(&Allowed { devices: &[], rules: &[], privileged: false }));
        let result = crate::sys::attach_device_program(fs::File::open(&dir).unwrap().as_fd(), &program);
        fs::remove_dir(&dir).unwrap();
        assert_eq!(result, Ok(()));
    }

    #[test]
    fn the_device_program_has_one_block_a_rule() {
        assert_eq!(device_program(&[]).len(), 8);
        assert_eq!(device_program(&[('c', 1, 3, "rwm"), ('b', -1, -1, "m")]).len(), 8 + 8 + 6);
    }
}
