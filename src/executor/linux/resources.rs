//! Limits and counters: from the model's resources to the runtime's limits, and back.

use std::collections::BTreeMap;
use std::path::Path;

use async_trait::async_trait;
use runtime_linux::cgroups::{Cgroup, CgroupError};
use runtime_linux::{Throttle, ThrottleKind};

use super::task::LinuxTask;
use crate::executor::{ExecError, Limits, Stats, Task, Usage};
use crate::model::{ErrorKind, Resources};

/// Microseconds of a period where only `--cpus` is given.
const PERIOD: u64 = 100_000;

/// The kernel's own shares of the processor.
const SHARES: u64 = 1024;

/// The value, or the kernel's own where a change takes it away.
fn or(default: u64) -> impl Fn(u64) -> u64 {
    move |value| if value == 0 { default } else { value }
}

/// With no limit of memory there is none of both together.
fn no_swap_limit(total: i64) -> i64 {
    if total == 0 { -1 } else { total }
}

/// The runtime's word for no limit of bytes.
fn unlimited(bytes: u64) -> u64 {
    if bytes == 0 { runtime_linux::Limits::UNLIMITED } else { bytes }
}

/// A limit that cannot be set.
#[derive(Debug, thiserror::Error)]
enum LimitError {
    /// The device of a rate.
    #[error("`{path}`")]
    Device {
        /// As given.
        path: String,
        /// Why it cannot be used.
        #[source]
        source: std::io::Error,
    },
    /// It is something else.
    #[error("`{path}` is not a block device")]
    NoBlockDevice {
        /// As given.
        path: String,
    },
}

/// The runtime's limits for these resources.
pub(super) fn limits(resources: &Resources) -> Result<runtime_linux::Limits, ExecError> {
    let mut throttles = Vec::new();
    for (kind, list) in [
        (ThrottleKind::ReadBps, &resources.device_read_bps),
        (ThrottleKind::WriteBps, &resources.device_write_bps),
        (ThrottleKind::ReadIops, &resources.device_read_iops),
        (ThrottleKind::WriteIops, &resources.device_write_iops),
    ] {
        for (path, rate) in list {
            let (major, minor) = block_device(path)?;
            throttles.push(Throttle { kind, major, minor, rate: *rate });
        }
    }
    let quota = resources.nano_cpus.map(|nanos| nanos.saturating_mul(PERIOD) / 1_000_000_000);
    Ok(runtime_linux::Limits {
        memory: resources.memory.map(unlimited),
        memory_swap: swap(resources).map(no_swap_limit),
        memory_reservation: resources.memory_reservation.map(unlimited),
        memory_swappiness: resources.memory_swappiness,
        oom_kill_disable: resources.oom_kill_disable,
        cpu_quota: quota
            .and_then(|quota| i64::try_from(quota).ok())
            .or(resources.cpu_quota)
            .map(|quota| if quota == 0 { -1 } else { quota }),
        cpu_period: resources.nano_cpus.map(|_| PERIOD).or(resources.cpu_period).map(or(PERIOD)),
        cpu_shares: resources.cpu_shares.map(or(SHARES)),
        cpuset_cpus: resources.cpuset_cpus.clone(),
        cpuset_mems: resources.cpuset_mems.clone(),
        pids: resources.pids_limit.filter(|limit| *limit != 0),
        blkio_weight: resources.blkio_weight.filter(|weight| *weight > 0),
        throttles,
    })
}

/// The runtime's limits for changes of a running container's: swap that nobody speaks of stays as it is, as docker leaves it.
pub(in crate::executor) fn changes(resources: &Resources) -> Result<runtime_linux::Limits, ExecError> {
    Ok(runtime_linux::Limits { memory_swap: resources.memory_swap.map(no_swap_limit), ..limits(resources)? })
}

/// Docker gives as much swap as memory where only memory is limited.
fn swap(resources: &Resources) -> Option<i64> {
    let doubled = || resources.memory.and_then(|memory| i64::try_from(memory.saturating_mul(2)).ok());
    resources.memory_swap.or_else(doubled)
}

fn block_device(path: &Path) -> Result<(u32, u32), ExecError> {
    let failed = |error: LimitError| ExecError::failed(ErrorKind::InvalidInput, "limiting a device", error);
    let shown = path.display().to_string();
    let stat = rustix::fs::stat(path)
        .map_err(|errno| failed(LimitError::Device { path: shown.clone(), source: errno.into() }))?;
    if !rustix::fs::FileType::from_raw_mode(stat.st_mode).is_block_device() {
        return Err(failed(LimitError::NoBlockDevice { path: shown }));
    }
    Ok((rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev)))
}

fn not_changed(error: CgroupError) -> ExecError {
    let kind = match &error {
        CgroupError::Missing(_) => ErrorKind::Unsupported,
        CgroupError::Io { source, .. } => match source.raw_os_error() {
            Some(libc::EINVAL | libc::EBUSY | libc::ERANGE) => ErrorKind::InvalidInput,
            Some(libc::EACCES | libc::EPERM) => ErrorKind::Forbidden,
            _ => ErrorKind::Internal,
        },
        _ => ErrorKind::Internal,
    };
    ExecError::failed(kind, "changing the container's limits", error)
}

fn control_group(path: &str, action: &'static str) -> Result<Cgroup, ExecError> {
    Cgroup::open(path).map_err(|error| ExecError::failed(ErrorKind::Internal, action, error))
}

#[async_trait]
impl Limits for LinuxTask {
    async fn update(&self, resources: &Resources) -> Result<(), ExecError> {
        super::inside::changeable(&self.plan, resources)?;
        let limits = changes(resources)?;
        control_group(&self.cgroup, "changing the container's limits")?.update(&limits).map_err(not_changed)
    }
}

impl Usage for LinuxTask {
    fn stats(&self) -> Result<Stats, ExecError> {
        stats(&self.cgroup, self.pid())
    }

    fn processes(&self) -> Result<Vec<u32>, ExecError> {
        match &self.plan.cgroup {
            Some(_) => processes(&self.cgroup, self.pid()),
            None => Ok(first_of(self.pid(), super::inside::processes(self.pid()))),
        }
    }
}

/// What the processes of a control group have used; `first` is one of them.
pub(in crate::executor) fn stats(group: &str, first: u32) -> Result<Stats, ExecError> {
    let used = control_group(group, "reading what the container uses")?.stats();
    Ok(Stats {
        cpu_total: used.cpu,
        cpu_user: used.cpu_user,
        cpu_system: used.cpu_system,
        cpu_throttling: used.throttling,
        memory: used.memory.saturating_sub(used.inactive_file),
        memory_cache: used.cache,
        memory_peak: used.memory_peak,
        memory_limit: used.memory_limit,
        pids: used.pids,
        pids_limit: used.pids_limit,
        block_read: used.read,
        block_write: used.written,
        networks: networks(&std::fs::read_to_string(format!("/proc/{first}/net/dev")).unwrap_or_default()),
        // What only a sandbox counts.
        requests: None,
        fuel: None,
    })
}

/// The processes of a control group, the first one in front.
pub(in crate::executor) fn processes(group: &str, first: u32) -> Result<Vec<u32>, ExecError> {
    Ok(first_of(first, control_group(group, "listing the container's processes")?.processes()))
}

fn first_of(first: u32, mut all: Vec<u32>) -> Vec<u32> {
    all.retain(|pid| *pid != first);
    all.insert(0, first);
    all
}

/// `/proc/net/dev`: two lines of titles, then `eth0: received-bytes 7 others, sent-bytes …`. Loopback does not count.
fn networks(table: &str) -> BTreeMap<String, (u64, u64)> {
    let interface = |line: &str| {
        let (name, counters) = line.split_once(':')?;
        let mut counters = counters.split_whitespace();
        let received = counters.next()?.parse().ok()?;
        let sent = counters.nth(7)?.parse().ok()?;
        Some((name.trim().to_owned(), (received, sent)))
    };
    table.lines().skip(2).filter_map(interface).filter(|(name, _)| name != "lo").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_flags_become_limits() {
        let resources = Resources {
            memory: Some(64 << 20),
            nano_cpus: Some(1_500_000_000),
            pids_limit: Some(-1),
            ..Resources::default()
        };
        let limits = limits(&resources).unwrap();
        assert_eq!((limits.memory, limits.memory_swap), (Some(64 << 20), Some(128 << 20)));
        assert_eq!((limits.cpu_quota, limits.cpu_period), (Some(150_000), Some(100_000)));
        assert_eq!(limits.pids, Some(-1));
        let unlimited = Resources { memory: Some(1 << 20), memory_swap: Some(-1), ..Resources::default() };
        assert_eq!(super::limits(&unlimited).unwrap().memory_swap, Some(-1));
        assert_eq!(super::limits(&Resources::default()).unwrap(), runtime_linux::Limits::default());
    }

    #[test]
    fn what_is_no_block_device_is_refused() {
        for path in ["/nowhere", "/dev/null"] {
            let resources = Resources { device_read_bps: vec![(path.into(), 1)], ..Resources::default() };
            let error = limits(&resources).unwrap_err();
            assert!(crate::model::chain(&error).contains(path), "{error:?}");
        }
    }

    #[test]
    fn interfaces_are_read_without_loopback() {
        let table =
            "Inter-| Receive\n face |bytes\n    lo: 9 9 0 0 0 0 0 0 9 9 0\n  eth0: 10 2 0 0 0 0 0 0 20 3 0\n";
        assert_eq!(networks(table), [("eth0".to_owned(), (10, 20))].into());
    }
}
