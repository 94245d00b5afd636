//! What docker's daemon checks of a container's host side, in its words.
//!
//! Pure but for one question, asked only when a wish depends on it: which processors this process may use.

use crate::model::{ErrorKind, HostConfig, Kind, Resources, RestartPolicy};

/// The least memory that a container is given, bytes.
const LEAST_MEMORY: u64 = 6 << 20;

/// More processors than that no kernel has.
const MOST_CPUS: u32 = 8192;

/// A wish that cannot be, or two that do not go together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CheckError {
    message: String,
}

impl Kind for CheckError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidInput
    }
}

fn refuse<T>(message: impl Into<String>) -> Result<T, CheckError> {
    Err(CheckError { message: message.into() })
}

/// Checks a whole host side.
pub fn check_host(host: &HostConfig) -> Result<(), CheckError> {
    check_resources(&host.resources)?;
    if host.auto_remove && host.restart != RestartPolicy::No {
        return refuse("conflicting options: cannot specify both --restart and --rm");
    }
    if !(-1000..=1000).contains(&host.oom_score_adj) {
        return refuse(format!(
            "Invalid value {}, range for oom score adj is [-1000, 1000]",
            host.oom_score_adj
        ));
    }
    if host.annotations.contains_key("") {
        return refuse("invalid Annotations: the empty string is not permitted as an annotation key");
    }
    for (at, mount) in host.mounts.iter().enumerate() {
        if host.mounts[..at].iter().any(|other| other.target == mount.target) {
            return refuse(format!("Duplicate mount point: {}", mount.target));
        }
    }
    if host.volumes_from.iter().any(String::is_empty) {
        return refuse("volumes-from specification cannot be an empty string");
    }
    Ok(())
}

/// Checks limits, of a new container or of what one has after an update.
pub fn check_resources(resources: &Resources) -> Result<(), CheckError> {
    memory(resources)?;
    cpu(resources)?;
    match resources.blkio_weight {
        Some(weight) if !(10..=1000).contains(&weight) => refuse("Range of blkio weight is from 10 to 1000"),
        _ => Ok(()),
    }
}

fn memory(resources: &Resources) -> Result<(), CheckError> {
    let least = |value: Option<u64>| value.is_some_and(|bytes| bytes < LEAST_MEMORY);
    if least(resources.memory) {
        return refuse("Minimum memory limit allowed is 6MB");
    }
    if let Some(swap) = resources.memory_swap.and_then(|swap| u64::try_from(swap).ok()) {
        match resources.memory {
            None => {
                return refuse(
                    "You should always set the Memory limit when using Memoryswap limit, see usage",
                );
            }
            Some(memory) if swap < memory => {
                return refuse("Minimum memoryswap limit should be larger than memory limit, see usage");
            }
            Some(_) => {}
        }
    }
    if let Some(percent) = resources.memory_swappiness.filter(|percent| *percent > 100) {
        return refuse(format!("invalid value: {percent}. Valid memory swappiness range is 0-100"));
    }
    if least(resources.memory_reservation) {
        return refuse("Minimum memory reservation allowed is 6MB");
    }
    match (resources.memory, resources.memory_reservation) {
        (Some(memory), Some(reservation)) if memory < reservation => {
            refuse("Minimum memory limit can not be less than memory reservation limit, see usage")
        }
        _ => Ok(()),
    }
}

fn cpu(resources: &Resources) -> Result<(), CheckError> {
    if let Some(nano) = resources.nano_cpus {
        if resources.cpu_period.is_some() {
            return refuse("Conflicting options: Nano CPUs and CPU Period cannot both be set");
        }
        if resources.cpu_quota.is_some() {
            return refuse("Conflicting options: Nano CPUs and CPU Quota cannot both be set");
        }
        let there = available().len() as u64;
        if nano > there * 1_000_000_000 {
            return refuse(format!(
                "range of CPUs is from 0.01 to {there}.00, as there are only {there} CPUs available"
            ));
        }
    }
    if resources.cpu_period.is_some_and(|period| !(1_000..=1_000_000).contains(&period)) {
        return refuse(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        );
    }
    if resources.cpu_quota.is_some_and(|quota| (1..1_000).contains(&quota)) {
        return refuse("CPU cfs quota can not be less than 1ms (i.e. 1000)");
    }
    if let Some(text) = &resources.cpuset_cpus {
        let wanted = set(text, "cpus")?;
        let there = available();
        if wanted.iter().any(|cpu| !there.contains(cpu)) {
            return refuse(format!(
                "Requested CPUs are not available - requested {text}, available: {}",
                ranges(&there)
            ));
        }
    }
    match &resources.cpuset_mems {
        Some(text) => set(text, "mems").map(|_| ()),
        None => Ok(()),
    }
}

/// Processors of `0-2,5`.
fn set(text: &str, what: &str) -> Result<Vec<u32>, CheckError> {
    let mut all = Vec::new();
    for part in text.split(',') {
        let invalid = || refuse(format!("Invalid value {text} for cpuset {what}: invalid format: {part}"));
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !digits(first) || !digits(last) {
            return invalid();
        }
        match (first.parse::<u32>(), last.parse::<u32>()) {
            (Ok(first), Ok(last)) if first <= last && last <= MOST_CPUS => all.extend(first..=last),
            (Ok(first), Ok(last)) if first > last => return invalid(),
            _ => {
                return refuse(format!(
                    "Invalid value {text} for cpuset {what}: value of out range, maximum is {MOST_CPUS}"
                ));
            }
        }
    }
    Ok(all)
}

/// `0-1,3` of sorted numbers.
fn ranges(numbers: &[u32]) -> String {
    let mut parts: Vec<(u32, u32)> = Vec::new();
    for &number in numbers {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => parts.push((number, number)),
        }
    }
    let shown = parts
        .iter()
        .map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") });
    shown.collect::<Vec<_>>().join(",")
}

/// The processors that this process may use.
#[cfg(target_os = "linux")]
fn available() -> Vec<u32> {
    let Ok(set) = rustix::thread::sched_getaffinity(None) else { return vec![0] };
    (0..MOST_CPUS.min(1024)).filter(|cpu| set.is_set(*cpu as usize)).collect()
}

/// As many as the system says that there are.
#[cfg(not(target_os = "linux"))]
fn available() -> Vec<u32> {
    let count = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    (0..u32::try_from(count).unwrap_or(1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Mount, MountSource};

    fn message(change: impl FnOnce(&mut Resources)) -> String {
        let mut resources = Resources::default();
        change(&mut resources);
        check_resources(&resources).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn limits() {
        let m = 1 << 20;
        let least = "Minimum memory limit allowed is 6MB";
        assert_eq!(message(|r| r.memory = Some(5 * m)), least);
        assert_eq!(message(|r| r.memory = Some(6 * m)), "");
        assert_eq!(
            message(|r| (r.memory, r.memory_swap) = (Some(10 * m), Some(5 << 20))),
            "Minimum memoryswap limit should be larger than memory limit, see usage"
        );
        assert_eq!(message(|r| r.memory_swap = Some(-1)), "");
        assert!(message(|r| r.memory_swap = Some(10 << 20)).starts_with("You should always set the Memory"));
        assert_eq!(
            message(|r| r.memory_reservation = Some(5 * m)),
            "Minimum memory reservation allowed is 6MB"
        );
        assert_eq!(
            message(|r| (r.memory, r.memory_reservation) = (Some(10 * m), Some(20 * m))),
            "Minimum memory limit can not be less than memory reservation limit, see usage"
        );
        assert!(message(|r| r.memory_swappiness = Some(101)).starts_with("invalid value: 101."));
        assert!(message(|r| r.nano_cpus = Some(u64::MAX)).starts_with("range of CPUs is from 0.01 to "));
        assert!(
            message(|r| (r.nano_cpus, r.cpu_quota) = (Some(1), Some(1)))
                .ends_with("CPU Quota cannot both be set")
        );
        assert!(
            message(|r| (r.nano_cpus, r.cpu_period) = (Some(1), Some(1)))
                .ends_with("CPU Period cannot both be set")
        );
        for period in [999, 1_000_001] {
            assert!(message(|r| r.cpu_period = Some(period)).starts_with("CPU cfs period can not be"));
        }
        assert_eq!(
            message(|r| r.cpu_quota = Some(999)),
            "CPU cfs quota can not be less than 1ms (i.e. 1000)"
        );
        assert_eq!(message(|r| r.cpu_quota = Some(-5)), "");
        for weight in [9, 1001] {
            assert_eq!(
                message(|r| r.blkio_weight = Some(weight)),
                "Range of blkio weight is from 10 to 1000"
            );
        }
    }

    #[test]
    fn processor_sets() {
        for text in ["a", "0-", "1-0", " 0", ""] {
            assert_eq!(
                message(|r| r.cpuset_cpus = Some(text.into())),
                format!("Invalid value {text} for cpuset cpus: invalid format: {text}")
            );
        }
        assert!(message(|r| r.cpuset_mems = Some("0-100000000".into())).ends_with("maximum is 8192"));
        assert!(
            message(|r| r.cpuset_cpus = Some("8000".into())).starts_with("Requested CPUs are not available")
        );
        assert_eq!(ranges(&[0, 1, 3, 5, 6]), "0-1,3,5-6");
    }

    #[test]
    fn what_does_not_go_together() {
        let refused = |host: &HostConfig| check_host(host).unwrap_err().to_string();
        let host = HostConfig { auto_remove: true, restart: RestartPolicy::Always, ..HostConfig::default() };
        assert_eq!(refused(&host), "conflicting options: cannot specify both --restart and --rm");
        let host = HostConfig { oom_score_adj: 1001, ..HostConfig::default() };
        assert_eq!(refused(&host), "Invalid value 1001, range for oom score adj is [-1000, 1000]");
        let mount = Mount {
            source: MountSource::Tmpfs { size: None, mode: None, options: Vec::new() },
            target: "/x".into(),
            read_only: false,
        };
        let host = HostConfig { mounts: vec![mount.clone(), mount], ..HostConfig::default() };
        assert_eq!(refused(&host), "Duplicate mount point: /x");
    }
}
