//! What to run and how: values only, serialisable, so that a plan can be stored, logged and sent to init.
//!
//! Invariant: nothing in a plan refers to the state of the process that made it (no descriptors). Not builders with
//! validation: a plan is checked where it is carried out, by the kernel and by init, and fails there with a name.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Paths hidden from a container that is not privileged, as docker hides them.
pub const MASKED_PATHS: &[&str] = &[
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

/// Paths that are read-only in a container that is not privileged, as docker has them.
pub const READONLY_PATHS: &[&str] =
    &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Everything that init needs to know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The root filesystem.
    pub root: Root,
    /// Whether the root filesystem is read-only to the container.
    pub read_only: bool,
    /// Host name; empty leaves the inherited one.
    pub hostname: String,
    /// NIS domain name; empty leaves the inherited one.
    pub domainname: String,
    /// Program and arguments; the first is looked up in the container's PATH.
    pub args: Vec<String>,
    /// The whole environment, as `KEY=VALUE`.
    pub env: Vec<String>,
    /// Working directory; made when it does not exist.
    pub cwd: String,
    /// `""`, `user`, `uid`, `user:group`, `uid:gid`: resolved in the container's own `/etc/passwd` and `/etc/group`.
    pub user: String,
    /// Supplementary groups by name or number, beside those of `/etc/group`.
    pub additional_groups: Vec<String>,
    /// File mode creation mask.
    pub umask: u32,
    /// Allocate a terminal of this size and make it the process's controlling terminal.
    pub terminal: Option<WindowSize>,
    /// Whose namespaces it is in; the mount namespace is always its own.
    pub namespaces: Namespaces,
    /// The network namespace.
    pub network: Network,
    /// Mounts, in the order in which they are made.
    pub mounts: Vec<Mount>,
    /// Size of `/dev/shm` in bytes, when it is the container's own.
    pub shm_size: u64,
    /// Whose `/dev/shm` it has.
    pub shm: Shm,
    /// The first process is a small one of ours, which starts the program, passes signals on to it, reaps orphans, and ends
    /// with the program's status.
    pub init: bool,
    /// Capabilities by name (`CAP_CHOWN` or `CHOWN`): permitted, effective and bounding set.
    pub capabilities: Vec<String>,
    /// `PR_SET_NO_NEW_PRIVS`.
    pub no_new_privs: bool,
    /// The AppArmor profile, which has to be loaded; `None`: whatever the caller's own says of programs that it runs.
    pub apparmor: Option<String>,
    /// The system call filter.
    pub seccomp: Seccomp,
    /// Paths hidden: [`MASKED_PATHS`] unless told otherwise.
    pub masked_paths: Vec<String>,
    /// Paths made read-only: [`READONLY_PATHS`] unless told otherwise.
    pub readonly_paths: Vec<String>,
    /// Kernel parameters of the new namespaces, `net.ipv4.ip_forward` style names.
    pub sysctls: Vec<(String, String)>,
    /// Resource limits of the process.
    pub rlimits: Vec<Rlimit>,
    /// Devices made in `/dev` beside the standard ones, and allowed.
    pub devices: Vec<Device>,
    /// Further devices that the cgroup allows, made or not.
    pub device_rules: Vec<DeviceRule>,
    /// `/proc/self/oom_score_adj`, −1000 to 1000.
    pub oom_score_adj: Option<i32>,
    /// `/sys` and cgroups writable, every device allowed. Capabilities, seccomp and masks are still as told above.
    pub privileged: bool,
    /// The cgroup to make and join; `None` stays in the caller's.
    pub cgroup: Option<CgroupPlan>,
    /// The ids that there are, when the caller is in a user namespace (see [`crate::userns`]): what only the first
    /// namespace may do is then done in another way.
    pub inside: Option<crate::IdMappings>,
    /// A user namespace of the container's own, with these ids of the caller's namespace; for a caller that is the host's root.
    pub user_namespace: Option<crate::IdMappings>,
}

impl Plan {
    /// A plan with docker's defaults: every namespace new, no network but loopback, default capabilities and filter.
    pub fn new(root: Root, args: Vec<String>) -> Self {
        let owned = |list: &[&str]| list.iter().map(|&s| s.to_owned()).collect();
        Self {
            root,
            read_only: false,
            hostname: String::new(),
            domainname: String::new(),
            args,
            env: vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()],
            cwd: "/".to_owned(),
            user: String::new(),
            additional_groups: Vec::new(),
            umask: 0o022,
            terminal: None,
            namespaces: Namespaces::default(),
            network: Network::None,
            mounts: Vec::new(),
            shm_size: 64 << 20,
            shm: Shm::Own,
            init: false,
            capabilities: owned(crate::caps::DEFAULT),
            no_new_privs: false,
            apparmor: None,
            seccomp: Seccomp::Default,
            masked_paths: owned(MASKED_PATHS),
            readonly_paths: owned(READONLY_PATHS),
            sysctls: Vec::new(),
            rlimits: Vec::new(),
            devices: Vec::new(),
            device_rules: Vec::new(),
            oom_score_adj: None,
            privileged: false,
            cgroup: None,
            inside: None,
            user_namespace: None,
        }
    }
}

/// Where the root filesystem comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Root {
    /// An overlay mounted in the container's namespace alone.
    Overlay {
        /// Read-only layers, topmost first.
        lower: Vec<PathBuf>,
        /// The writable layer.
        upper: PathBuf,
        /// Overlay's scratch directory, on the filesystem of `upper`.
        work: PathBuf,
        /// Whether nothing of it is to survive the kernel: then nothing that is written to `upper` waits for a disk, `fsync` included,
        /// and `work` serves one mount alone (overlayfs's `volatile`).
        volatile: bool,
    },
    /// A directory as it is.
    Directory(PathBuf),
}

/// Size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub cols: u16,
}

/// Another container's first process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Its process id on the host.
    pub pid: u32,
    /// The last component of its cgroup's path, as far as the first `-` at least, by which a number that is somebody else's by now is told; empty: not checked.
    pub cgroup: String,
}

/// Whose namespace of one kind the container is in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Namespace {
    /// A new one.
    #[default]
    New,
    /// The caller's.
    Inherit,
    /// Another container's.
    Join(Peer),
}

impl Namespace {
    /// Whether it is the container's own.
    pub fn is_new(&self) -> bool {
        matches!(self, Self::New)
    }
}

/// Whose namespaces the container is in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespaces {
    /// Process ids. In one that is not its own, what the first process leaves running is killed with the cgroup, by the
    /// caller.
    pub pid: Namespace,
    /// Host and domain name.
    pub uts: Namespace,
    /// System V IPC and POSIX queues.
    pub ipc: Namespace,
    /// The view of the cgroup tree.
    pub cgroup: Namespace,
}

/// Whose `/dev/shm` a container has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shm {
    /// Its own.
    #[default]
    Own,
    /// None: there is no such directory.
    None,
    /// The host's.
    Host,
    /// Another container's.
    Of(Peer),
}

/// The network namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// A new one in which only loopback is up. A caller that wants more configures it between `spawn` and `start`.
    None,
    /// The caller's.
    Host,
    /// Another container's.
    Join(Peer),
}

/// How mounts made later travel between the container's mount and its source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Propagation {
    /// Not at all, nor those of the mounts below.
    #[default]
    Rprivate,
    /// Not at all; into the mounts below, if there are any, from the host.
    Private,
    /// From the host into the container.
    Rslave,
    /// The same: what is below a mount that only receives does not send either.
    Slave,
    /// Both ways, the mounts below included, which are shared with others of the container at least.
    Rshared,
    /// Both ways, when the source is shared on the host; the mounts below stay what they are there.
    Shared,
}

/// One mount in the container. Targets are absolute, resolved in the container's root and made when missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mount {
    /// A file or directory of the host.
    Bind {
        /// Absolute path on the host.
        source: PathBuf,
        /// What of it is mounted, looked up once and within it: no link leads out. Empty: all of it.
        #[serde(default)]
        subpath: String,
        /// Path in the container.
        target: String,
        /// Read-only, including the mounts below it when recursive.
        read_only: bool,
        /// Take the mounts below `source` as well.
        recursive: bool,
        /// See [`Propagation`].
        propagation: Propagation,
    },
    /// Memory.
    Tmpfs {
        /// Path in the container.
        target: String,
        /// Options of tmpfs beside the size, such as `mode=1777`; flags such as `noexec` as well.
        options: Vec<String>,
        /// Limit in bytes; `None` is the kernel's default, half of the memory.
        size: Option<u64>,
    },
}

/// The system call filter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seccomp {
    /// Docker's default profile.
    Default,
    /// None.
    Unconfined,
    /// A profile in docker's JSON format.
    Profile(String),
}

/// One limit of `setrlimit(2)`; `u64::MAX` is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// Name in lower case without prefix: `nofile`.
    pub name: String,
    /// The limit that applies.
    pub soft: u64,
    /// How far a process may raise it.
    pub hard: u64,
}

/// A device node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Path in the container.
    pub path: String,
    /// Block device; else character.
    pub block: bool,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    /// What the cgroup allows: letters of `rwm`.
    pub access: String,
}

/// Devices that a cgroup allows; `None` is any number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRule {
    /// `a` (all), `b` (block) or `c` (character).
    pub kind: char,
    /// Major number.
    pub major: Option<u32>,
    /// Minor number.
    pub minor: Option<u32>,
    /// Letters of `rwm`.
    pub access: String,
}

/// A cgroup to make, limit and join.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CgroupPlan {
    /// Below the mount points of the hierarchies, as `umiak/<id>`. Without `.` and `..` components.
    pub path: String,
    /// The limits.
    pub limits: Limits,
}

/// Limits; `None` leaves the kernel's default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes.
    pub memory: Option<u64>,
    /// Memory plus swap, bytes, as docker has it; −1 is no limit.
    pub memory_swap: Option<i64>,
    /// Soft limit, bytes.
    pub memory_reservation: Option<u64>,
    /// Microseconds of processor time in each period.
    pub cpu_quota: Option<i64>,
    /// Microseconds; 100 000 when only a quota is given.
    pub cpu_period: Option<u64>,
    /// Relative weight, v1's scale: 1024 is usual, 2 to 262 144.
    pub cpu_shares: Option<u64>,
    /// Processors, as `0-2,5`.
    pub cpuset_cpus: Option<String>,
    /// Memory nodes.
    pub cpuset_mems: Option<String>,
    /// Number of processes and threads; −1 is no limit.
    pub pids: Option<i64>,
    /// 10 to 1000.
    pub blkio_weight: Option<u16>,
    /// 0 to 100; v1 only.
    pub memory_swappiness: Option<u8>,
    /// Let processes wait for memory instead of killing one; v1 only.
    pub oom_kill_disable: bool,
    /// Rates of block devices.
    pub throttles: Vec<Throttle>,
}

impl Limits {
    /// So many bytes are no limit.
    pub const UNLIMITED: u64 = i64::MAX as u64;
}

/// A rate that a block device gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Throttle {
    /// What is limited.
    pub kind: ThrottleKind,
    /// Major number of the device.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Bytes or operations per second; 0 takes the limit away.
    pub rate: u64,
}

/// What of a block device is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ThrottleKind {
    /// Bytes read per second.
    ReadBps,
    /// Bytes written per second.
    WriteBps,
    /// Reads per second.
    ReadIops,
    /// Writes per second.
    WriteIops,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_survives_the_way_to_init() {
        let mut plan = Plan::new(Root::Directory("/r".into()), vec!["a b".to_owned()]);
        plan.mounts = vec![Mount::Tmpfs { target: "/t".to_owned(), options: vec![], size: Some(u64::MAX) }];
        plan.rlimits = vec![Rlimit { name: "nofile".to_owned(), soft: 1, hard: u64::MAX }];
        plan.cgroup = Some(CgroupPlan {
            path: "a/b".to_owned(),
            limits: Limits { memory_swap: Some(-1), ..Limits::default() },
        });
        let text = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
    }
}
