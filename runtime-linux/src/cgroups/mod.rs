//! One interface over cgroup v1 (every controller its own tree, also the hybrid layout) and v2.
//!
//! Invariants: a cgroup is named by a path below the mount points, so a host process that crashed can be cleaned up
//! after by name alone ([`sweep`]); hierarchies are used as they are mounted and never changed. Paths lead from the
//! mount point, as docker's do, so a container is not charged to the caller's own limits.

mod delegated;
pub(crate) mod join;
mod stats;
mod v1;
mod v2;
mod view;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub use delegated::base;

use crate::failure::{Cause, InitFailure, Result, Step};
use crate::plan::{CgroupPlan, Device, DeviceRule, Limits};

pub use stats::Stats;
pub(crate) use view::View;

/// What became of a cgroup that was made.
#[derive(Debug, Default)]
pub(crate) struct Entered {
    /// v2: the directory for `CLONE_INTO_CGROUP`.
    pub(crate) unified: Option<fs::File>,
    /// v1: what the container is to see.
    pub(crate) view: Option<View>,
}

/// A cgroup operation failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CgroupError {
    /// A file of the hierarchy.
    #[error("cgroup `{path}`")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A process did not die, or the kernel kept the cgroup busy.
    #[error("cgroup `{0}` is still in use")]
    Busy(PathBuf),
    /// Of v2: no group can be below one that has processes and controllers.
    #[error("cgroup `{0}` has processes of its own, so that there can be no container below it")]
    Occupied(PathBuf),
    /// The path leads upwards or is empty.
    #[error("cgroup path `{0}` is not below the hierarchy")]
    Path(String),
    /// No hierarchy offers it.
    #[error("no cgroup hierarchy offers `{0}`")]
    Missing(&'static str),
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> CgroupError {
    let path = path.to_owned();
    move |source| CgroupError::Io { path, source }
}

/// The hierarchies of this host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hierarchies {
    /// v1 mounts: their controllers and where they are.
    pub v1: Vec<(Vec<String>, PathBuf)>,
    /// The v2 mount, which has no controllers in a hybrid layout.
    pub v2: Option<PathBuf>,
    /// v1 mounts without controllers, which have a name (`systemd`): nothing of ours goes there, but other runtimes do.
    pub named: Vec<PathBuf>,
}

const CONTROLLERS: &[&str] = &[
    "cpu",
    "cpuacct",
    "cpuset",
    "memory",
    "devices",
    "freezer",
    "blkio",
    "pids",
    "net_cls",
    "net_prio",
    "hugetlb",
    "perf_event",
    "rdma",
    "misc",
];

impl Hierarchies {
    /// Reads `/proc/self/mountinfo`.
    pub fn detect() -> std::result::Result<Self, CgroupError> {
        let path = Path::new("/proc/self/mountinfo");
        fs::read_to_string(path).map(|table| Self::parse(&table)).map_err(io_error(path))
    }

    /// From the text of a mountinfo file (proc(5)).
    pub fn parse(mountinfo: &str) -> Self {
        let mut found = Self::default();
        for line in mountinfo.lines() {
            let Some((left, right)) = line.split_once(" - ") else { continue };
            let (Some(target), mut right) = (left.split(' ').nth(4), right.split(' ')) else { continue };
            let target = PathBuf::from(target.replace("\\040", " ").replace("\\134", "\\"));
            match (right.next(), right.nth(1)) {
                (Some("cgroup2"), _) => found.v2 = found.v2.or(Some(target)),
                (Some("cgroup"), Some(options)) => {
                    let list: Vec<String> =
                        options.split(',').filter(|o| CONTROLLERS.contains(o)).map(str::to_owned).collect();
                    if options.split(',').any(|o| o.starts_with("name=")) && !found.named.contains(&target) {
                        found.named.push(target);
                    } else if !list.is_empty() && !found.v1.iter().any(|(known, _)| *known == list) {
                        found.v1.push((list, target));
                    }
                }
                _ => {}
            }
        }
        found
    }

    /// Whether limits go through v2.
    pub fn unified(&self) -> bool {
        self.v1.is_empty() && self.v2.is_some()
    }

    fn controller(&self, name: &str) -> Option<&Path> {
        self.v1.iter().find(|(list, _)| list.iter().any(|c| c == name)).map(|(_, path)| path.as_path())
    }
}

/// A cgroup, in every hierarchy it lives in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    hierarchies: Hierarchies,
    path: PathBuf,
}

impl Cgroup {
    /// Names a cgroup; touches nothing.
    pub fn open(path: &str) -> std::result::Result<Self, CgroupError> {
        let relative = Path::new(path.trim_start_matches('/'));
        let plain = |c: std::path::Component<'_>| matches!(c, std::path::Component::Normal(_));
        if relative.as_os_str().is_empty() || !relative.components().all(plain) {
            return Err(CgroupError::Path(path.to_owned()));
        }
        Ok(Self { hierarchies: Hierarchies::detect()?, path: relative.to_owned() })
    }

    fn dirs(&self) -> impl Iterator<Item = PathBuf> + '_ {
        let v1 = self.hierarchies.v1.iter().map(|(_, mount)| mount);
        v1.chain(&self.hierarchies.v2).map(|mount| mount.join(&self.path)).filter(|dir| dir.is_dir())
    }

    fn file(
        &self,
        controller: &'static str,
        v1: &str,
        v2: &str,
    ) -> std::result::Result<PathBuf, CgroupError> {
        if let Some(mount) = self.hierarchies.controller(controller) {
            return Ok(mount.join(&self.path).join(v1));
        }
        match &self.hierarchies.v2 {
            Some(mount) if self.hierarchies.unified() => Ok(mount.join(&self.path).join(v2)),
            _ => Err(CgroupError::Missing(controller)),
        }
    }

    /// The processes in it, each once.
    pub fn processes(&self) -> Vec<u32> {
        let mut pids: Vec<u32> = self
            .dirs()
            .filter_map(|dir| fs::read_to_string(dir.join("cgroup.procs")).ok())
            .flat_map(|text| text.lines().filter_map(|l| l.parse().ok()).collect::<Vec<_>>())
            .filter(|&pid| pid != 0)
            .collect();
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// Kills everything in it: `cgroup.kill` where there is one, else frozen first, so that no fork escapes.
    pub fn kill_all(&self) -> std::result::Result<(), CgroupError> {
        for dir in self.dirs() {
            if fs::write(dir.join("cgroup.kill"), "1").is_ok() {
                return Ok(());
            }
        }
        if self.dirs().next().is_none() || self.processes().is_empty() {
            return Ok(());
        }
        let frozen = self.freeze().is_ok();
        for pid in self.processes() {
            if let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) {
                let _gone = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        if frozen { self.thaw() } else { Ok(()) }
    }

    /// Stops every process in it.
    pub fn freeze(&self) -> std::result::Result<(), CgroupError> {
        self.set_frozen(true)
    }

    /// Lets them go on.
    pub fn thaw(&self) -> std::result::Result<(), CgroupError> {
        self.set_frozen(false)
    }

    fn set_frozen(&self, frozen: bool) -> std::result::Result<(), CgroupError> {
        let path = self.file("freezer", "freezer.state", "cgroup.freeze")?;
        let value = match (self.hierarchies.unified(), frozen) {
            (true, true) => "1",
            (true, false) => "0",
            (false, true) => "FROZEN",
            (false, false) => "THAWED",
        };
        fs::write(&path, value).map_err(io_error(&path))?;
        let done = |text: &str| {
            if self.hierarchies.unified() {
                text.contains(&format!("frozen {value}"))
            } else {
                text.trim() == value
            }
        };
        let state =
            if self.hierarchies.unified() { path.with_file_name("cgroup.events") } else { path.clone() };
        let deadline = Instant::now() + Duration::from_secs(2);
        while !done(&fs::read_to_string(&state).map_err(io_error(&state))?) {
            if Instant::now() > deadline {
                return Err(CgroupError::Busy(path));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// How many processes the kernel killed in it for want of memory.
    pub fn oom_kills(&self) -> std::result::Result<u64, CgroupError> {
        let path = self.file("memory", "memory.oom_control", "memory.events")?;
        let text = fs::read_to_string(&path).map_err(io_error(&path))?;
        Ok(field(&text, "oom_kill"))
    }

    /// Whether the kernel killed a process in it for want of memory.
    pub fn oom_killed(&self) -> std::result::Result<bool, CgroupError> {
        self.oom_kills().map(|count| count > 0)
    }

    /// Changes limits while processes run in it; what is `None` stays.
    pub fn update(&self, limits: &Limits) -> std::result::Result<(), CgroupError> {
        if self.hierarchies.unified() { v2::update(self, limits) } else { v1::update(self, limits) }
    }

    /// Removes it with what is below it, waiting up to two seconds for dying processes.
    pub fn remove(&self) -> std::result::Result<(), CgroupError> {
        let deadline = Instant::now() + Duration::from_secs(2);
        let named = self.hierarchies.named.iter().map(|mount| mount.join(&self.path));
        for dir in self.dirs().chain(named.filter(|dir| dir.is_dir())) {
            remove_tree(&dir, deadline, 0)?;
        }
        Ok(())
    }

    /// Makes it, applies the limits, and (v1) moves this process in; `writable`: the container may
    /// change what it sees.
    pub(crate) fn enter(plan: &CgroupPlan, devices: &Allowed<'_>, writable: bool) -> Result<Entered> {
        let fail = |error: CgroupError| {
            let code = match &error {
                CgroupError::Io { source, .. } => source.raw_os_error().map(Cause::Errno),
                _ => None,
            };
            let subject = match &error {
                CgroupError::Io { path, .. } => path.display().to_string(),
                _ => plan.path.clone(),
            };
            InitFailure::new(
                Step::Cgroup,
                subject,
                code.unwrap_or_else(|| Cause::Unsupported(error.to_string())),
            )
        };
        let cgroup = Self::open(&plan.path).map_err(fail)?;
        if cgroup.hierarchies.unified() {
            let unified = v2::enter(&cgroup, plan, devices).map_err(fail)?;
            Ok(Entered { unified: Some(unified), view: None })
        } else {
            v1::enter(&cgroup, plan, devices).map_err(fail)?;
            Ok(Entered { unified: None, view: Some(View::open(&cgroup, writable)?) })
        }
    }
}

fn field(text: &str, name: &str) -> u64 {
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(key, _)| *key == name)
        .and_then(|(_, value)| value.trim().parse().ok())
        .unwrap_or(0)
}

fn remove_tree(dir: &Path, deadline: Instant, depth: u32) -> std::result::Result<(), CgroupError> {
    loop {
        match fs::remove_dir(dir) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.raw_os_error() != Some(libc::EBUSY) => return Err(io_error(dir)(error)),
            Err(_) if Instant::now() > deadline || depth > 64 => {
                return Err(CgroupError::Busy(dir.to_owned()));
            }
            Err(_) => {}
        }
        let children = fs::read_dir(dir).into_iter().flatten().flatten();
        for child in children.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            remove_tree(&child.path(), deadline, depth + 1)?;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// After a crash of the host process: kills what is in the cgroup and removes it. Does nothing when it is gone.
pub fn sweep(path: &str) -> std::result::Result<(), CgroupError> {
    let cgroup = Cgroup::open(path)?;
    for _ in 0..10 {
        cgroup.kill_all()?;
        if cgroup.processes().is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    cgroup.remove()
}

fn create_dir(path: &Path) -> std::result::Result<(), CgroupError> {
    fs::create_dir_all(path).map_err(io_error(path))
}

fn write(path: &Path, value: &str) -> std::result::Result<(), CgroupError> {
    fs::OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|mut file| io::Write::write_all(&mut file, value.as_bytes()))
        .map_err(io_error(path))
}

/// Device rules `(type, major, minor, access)`; −1 is any. What docker allows.
const DEVICES: &[(char, i64, i64, &str)] = &[
    ('c', -1, -1, "m"),
    ('b', -1, -1, "m"),
    ('c', 1, 3, "rwm"),
    ('c', 1, 5, "rwm"),
    ('c', 1, 7, "rwm"),
    ('c', 1, 8, "rwm"),
    ('c', 1, 9, "rwm"),
    ('c', 5, 0, "rwm"),
    ('c', 5, 1, "rwm"),
    ('c', 5, 2, "rwm"),
    ('c', 136, -1, "rwm"),
];

/// What a plan says of devices.
pub(crate) struct Allowed<'a> {
    /// Made in the container, and allowed.
    pub(crate) devices: &'a [Device],
    /// Allowed as well.
    pub(crate) rules: &'a [DeviceRule],
    /// Everything is allowed.
    pub(crate) privileged: bool,
}

/// Kind, major and minor (−1: any), access.
type Rule<'a> = (char, i64, i64, &'a str);

fn device_rules<'a>(allowed: &Allowed<'a>) -> Vec<Rule<'a>> {
    let made = allowed.devices.iter().map(|d| {
        (if d.block { 'b' } else { 'c' }, i64::from(d.major), i64::from(d.minor), d.access.as_str())
    });
    let number = |n: Option<u32>| n.map_or(-1, i64::from);
    let more = allowed.rules.iter().flat_map(|rule| {
        let kinds: &[char] = match rule.kind {
            'b' => &['b'],
            'c' => &['c'],
            _ => &['b', 'c'],
        };
        kinds.iter().map(|kind| (*kind, number(rule.major), number(rule.minor), rule.access.as_str()))
    });
    DEVICES.iter().copied().chain(made).chain(more).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_read_from_the_mount_table() {
        let hybrid = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
            32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:3 - cgroup cgroup rw,cpu,cpuacct\n\
            35 31 0:32 /x /sys/fs/cgroup/me\\040mory rw - cgroup cgroup rw,memory\n\
            40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
            41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\nbroken\n - \n";
        let found = Hierarchies::parse(hybrid);
        assert!(!found.unified());
        assert_eq!(found.controller("cpuacct"), Some(Path::new("/sys/fs/cgroup/cpu,cpuacct")));
        assert_eq!(found.controller("memory"), Some(Path::new("/sys/fs/cgroup/me mory")));
        assert_eq!(found.controller("pids"), None);
        let pure =
            Hierarchies::parse("30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n");
        assert!(pure.unified());
        assert_eq!(Hierarchies::parse(""), Hierarchies::default());
    }

    #[test]
    fn paths_stay_below_the_hierarchy() {
        for bad in ["", "/", "../x", "a/../b", "/a/../../b"] {
            assert!(matches!(Cgroup::open(bad), Err(CgroupError::Path(_))), "{bad}");
        }
        assert!(Cgroup::open("/umiak/x").is_ok());
    }
}
