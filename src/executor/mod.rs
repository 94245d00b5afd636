//! Executors: what turns a prepared root and a process description into a running container.
//!
//! Two halves, one per process. On the host side (`cli`, `api`, `engine`) an executor is an [`Entry`]: pure data and pure
//! functions that say whether it would take a [`Workload`]. In the supervisor it is a [`Box<dyn Executor>`][Executor], which
//! makes [`Task`]s.
//!
//! Invariants:
//! - Nothing in this file or in [`select`] is Linux-shaped or Wasm-shaped; the adapters (`linux`, `wasm`) and the `fake`
//!   pass one suite, [`conformance`].
//! - Optional abilities are objects ([`Task::terminal`]), not flags: a `None` becomes one typed refusal, in one place.
//! - Which executor runs an image is decided on the host, by [`select`], from the platform, the packaging and the user's
//!   wish; never by sniffing bytes inside a container, and never by an image's annotations.
//!
//! Why two halves: a trait whose methods run in different processes cannot be implemented honestly; every project of this
//! field that had one split it later.

pub mod conformance;
pub mod fake;
#[cfg(target_os = "linux")]
pub mod linux;
#[cfg(not(target_os = "linux"))]
#[path = "linux_refused.rs"]
pub mod linux;
#[cfg(target_os = "linux")]
pub mod oci_cli;
#[cfg(not(target_os = "linux"))]
#[path = "oci_cli_refused.rs"]
pub mod oci_cli;
pub mod runtimes;
mod select;
pub mod wasm;

use std::error::Error as StdError;
use std::fmt::Debug;
use std::fs::File;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

pub use crate::model::Root;
use crate::model::{
    ContainerId, ErrorKind, HostConfig, Kind, OciRuntime, Packaging, Platform, Propagation, PublishedPort,
    Resources,
};
pub use select::{SelectError, default_platforms, entries, select, select_installed};

/// An executor as the host side knows it.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// Its name, kept in the container's record.
    pub name: &'static str,
    /// Other names that `--runtime` takes for it.
    pub aliases: &'static [&'static str],
    /// Whether it takes a workload; pure.
    pub admit: fn(&Workload) -> Result<(), Refusal>,
    /// Makes it, in the supervisor.
    pub open: fn(&Settings) -> Result<Box<dyn Executor>, ExecError>,
}

/// What the choice of an executor depends on.
#[derive(Debug, Clone)]
pub struct Workload {
    /// What the image is for.
    pub platform: Platform,
    /// How it is packaged.
    pub packaging: Packaging,
    /// The program that would run.
    pub program: Option<String>,
    /// What the user asked for beyond running it.
    pub wants: Vec<Want>,
}

impl Workload {
    /// Whether the program's name says that it is WebAssembly.
    pub fn names_wasm_file(&self) -> bool {
        // What follows the mark is a function of the program.
        let file = self.program.as_deref().map(|program| program.split('#').next().unwrap_or(program));
        let extension = file.and_then(|program| Path::new(program).extension());
        extension.is_some_and(|extension| extension == "wasm")
    }
}

/// Something that not every executor can do.
///
/// Each is one flag of the command line: an executor that lacks the ability refuses it by name, before anything is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// The host's network.
    HostNetwork,
    /// Networks of the store.
    Networks,
    /// Ports of the host that lead to it.
    Publish,
    /// Ports of the host for everything that the image exposes.
    PublishAll,
    /// A list of where it may connect to.
    Destinations,
    /// A number of instructions.
    Fuel,
    /// A user of the image's own to run as.
    User,
    /// Linux capabilities other than the default.
    Capabilities,
    /// Everything allowed.
    Privileged,
    /// Devices of the host.
    Devices,
    /// Another system call filter, security module or set of hidden paths.
    Security,
    /// A first process that reaps.
    Init,
    /// Namespaces of the host or of other containers.
    Namespaces,
    /// Users mapped to other ids.
    UserNamespace,
    /// Kernel parameters.
    Sysctls,
    /// Further groups.
    Groups,
    /// A parent for its control group.
    CgroupParent,
    /// A limit of the memory.
    Memory,
    /// What happens at a limit of memory, or before.
    MemoryPolicy,
    /// A limit of processors.
    Cpu,
    /// Shares or sets of processors.
    CpuPlacement,
    /// A limit of the number of processes.
    Pids,
    /// Limits of block devices.
    BlockIo,
    /// A limit of open files.
    OpenFiles,
    /// Further limits of one process (`setrlimit`).
    Ulimits,
    /// An adjustment for the out-of-memory killer.
    OomScore,
    /// Files or directories of the host, or volumes.
    Mounts,
    /// Mounts in memory, or another size of `/dev/shm`.
    Tmpfs,
    /// A read-only root.
    ReadOnlyRoot,
    /// A health check.
    Healthcheck,
}

impl Want {
    /// The ability in words that follow "cannot".
    pub fn describe(self) -> &'static str {
        match self {
            Self::HostNetwork => "use the host's network (`--network host`)",
            Self::Networks => "join networks (`--network`)",
            Self::Publish => "publish ports (`-p`)",
            Self::PublishAll => "publish all exposed ports (`-P`)",
            Self::Destinations => "choose where it connects to (`--allow-net`)",
            Self::Fuel => "count instructions (`--fuel`)",
            Self::User => "run as another user (`--user`)",
            Self::Capabilities => "change Linux capabilities (`--cap-add`, `--cap-drop`)",
            Self::Privileged => "run privileged (`--privileged`)",
            Self::Devices => "pass devices (`--device`, `--device-cgroup-rule`)",
            Self::Security => "apply `--security-opt`",
            Self::Init => "run an init process (`--init`)",
            Self::Namespaces => {
                "share namespaces (`--pid`, `--ipc`, `--uts`, `--cgroupns`, `--network container:…`)"
            }
            Self::UserNamespace => "map users (`--userns`)",
            Self::Sysctls => "set kernel parameters (`--sysctl`)",
            Self::Groups => "add groups (`--group-add`)",
            Self::CgroupParent => "choose a parent control group (`--cgroup-parent`)",
            Self::Memory => "limit memory (`--memory`)",
            Self::MemoryPolicy => {
                "reserve memory, or choose what happens at its limit (`--memory-reservation`, `--memory-swappiness`, \
                 `--oom-kill-disable`)"
            }
            Self::Cpu => "limit processors (`--cpus`, `--cpu-quota`)",
            Self::CpuPlacement => {
                "weigh or place processors (`--cpu-shares`, `--cpuset-cpus`, `--cpuset-mems`)"
            }
            Self::Pids => "limit processes (`--pids-limit`)",
            Self::BlockIo => "limit block devices (`--blkio-weight`, `--device-read-bps`)",
            Self::OpenFiles => "limit open files (`--ulimit nofile`)",
            Self::Ulimits => "set process limits (`--ulimit`)",
            Self::OomScore => "adjust the out-of-memory killer (`--oom-score-adj`)",
            Self::Mounts => "mount files or volumes (`-v`, `--mount`)",
            Self::Tmpfs => "mount memory (`--tmpfs`, `--shm-size`)",
            Self::ReadOnlyRoot => "make the root read-only (`--read-only`)",
            Self::Healthcheck => "check its health (`--health-cmd`)",
        }
    }
}

/// Why an executor does not take a workload.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is for other platforms.
    #[error("executor `{executor}` does not run images for {platform}")]
    Platform {
        /// The executor.
        executor: &'static str,
        /// The image's platform.
        platform: Platform,
    },
    /// It lacks an ability.
    #[error("executor `{executor}` cannot {what}")]
    Cannot {
        /// The executor.
        executor: &'static str,
        /// The ability.
        what: &'static str,
    },
    /// This host cannot run it.
    #[error("executor `{executor}` needs a Linux host")]
    Host {
        /// The executor.
        executor: &'static str,
    },
    /// This user may not run it.
    #[error("executor `{executor}` cannot be run by this user: {why}")]
    Privilege {
        /// The executor.
        executor: &'static str,
        /// What is in the way.
        why: &'static str,
    },
}

impl Refusal {
    /// What to try next, one sentence each.
    pub fn hints(&self) -> Vec<String> {
        match self {
            Self::Privilege { .. } => vec!["run the command as root, with `sudo` for example".to_owned()],
            Self::Platform { .. } | Self::Cannot { .. } | Self::Host { .. } => Vec::new(),
        }
    }
}

/// What an executor needs to know of its surroundings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// The engine's own binary, to be run again in another role.
    pub exe: PathBuf,
    /// Where compiled modules are cached.
    pub cache: PathBuf,
    /// Bytes of memory that a sandbox of our own gives a guest at the most; `None` for the sandbox's default.
    pub guest_memory: Option<u64>,
    /// Whether a sandbox of our own interprets its guests, for whom nothing is compiled for the processor.
    pub interpreted: bool,
    /// This process is a container's own, and may give up for good what it needs no more.
    pub own_process: bool,
    /// The container's own directory ([`Create::scratch`]), which may be gone when a task is swept.
    pub scratch: PathBuf,
    /// Where the user wants its limits to be kept (`--cgroup-parent`); empty: wherever the executor keeps them.
    pub group_parent: String,
    /// The installed program that the executor drives, if it drives one.
    pub runtime: Option<OciRuntime>,
}

/// What is known of a container before it is made. It may come out otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prospect {
    /// The directories of its layers, lowest first.
    pub layers: Vec<PathBuf>,
    /// Program and arguments.
    pub args: Vec<String>,
    /// Working directory, absolute.
    pub cwd: String,
    /// Whether its instructions are to be counted.
    pub fuel: bool,
    /// Whether it is granted no network at all: it reaches nothing, and listens nowhere.
    pub offline: bool,
}

/// The process to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Program and arguments.
    pub args: Vec<String>,
    /// `KEY=value`.
    pub env: Vec<String>,
    /// Working directory, absolute.
    pub cwd: String,
    /// `user[:group]`, resolved in the root's own files; empty: root.
    pub user: String,
}

/// The size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub cols: u16,
}

/// Where a process's standard streams go.
#[derive(Debug)]
pub enum Stdio {
    /// Three open files (pipes, or the null device).
    Files {
        /// Read by the process.
        stdin: File,
        /// Written by the process.
        stdout: File,
        /// Written by the process.
        stderr: File,
    },
    /// A terminal of the container's own, reached by [`Task::terminal`].
    Terminal(WindowSize),
}

/// A request to make a task: values only.
#[derive(Debug)]
pub struct Create {
    /// The container's id.
    pub id: ContainerId,
    /// Its root.
    pub root: Root,
    /// An existing directory of the container's own on the host, for an executor's small files. Whoever made it removes it,
    /// after the task.
    pub scratch: PathBuf,
    /// What to run in it.
    pub process: Process,
    /// Host name seen in it.
    pub hostname: String,
    /// Domain name seen in it; empty: none.
    pub domainname: String,
    /// What it is told of names and addresses.
    pub name_files: NameFiles,
    /// How it is confined and limited; whoever chose the executor has seen that it takes every wish in here
    /// ([`Entry::admit`]). `host.mounts` is what was asked for; what to mount is in `mounts`.
    pub host: HostConfig,
    /// What to mount into it, in this order.
    pub mounts: Vec<Mount>,
    /// The containers whose namespaces it shares.
    pub joins: Joins,
    /// Its standard streams.
    pub stdio: Stdio,
}

/// What the files say that tell a container's names. They lie in [`Create::scratch`] as `hosts` and `resolv.conf`, where they may be
/// changed in place while it runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NameFiles {
    /// `/etc/hosts`.
    pub hosts: Vec<u8>,
    /// `/etc/resolv.conf`.
    pub resolv_conf: Vec<u8>,
}

/// One mount, with everything about its source decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mount {
    /// A file or directory of the host: a bind mount of the user's, or a volume.
    Bind {
        /// Absolute.
        source: PathBuf,
        /// What of it is mounted, which no link may lead out of; empty: all of it.
        subpath: String,
        /// Path in the container.
        target: String,
        /// Read-only.
        read_only: bool,
        /// With the mounts below the source.
        recursive: bool,
        /// How mounts made later travel.
        propagation: Propagation,
    },
    /// Memory.
    Tmpfs {
        /// Path in the container.
        target: String,
        /// Bytes.
        size: Option<u64>,
        /// Permission bits.
        mode: Option<u32>,
        /// Read-only.
        read_only: bool,
        /// Further options, as `noexec` or `uid=5`.
        options: Vec<String>,
    },
}

/// Process ids, on the host, of the first processes of the containers whose namespaces are shared.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joins {
    /// `--pid container:X`.
    pub pid: Option<u32>,
    /// `--ipc container:X`.
    pub ipc: Option<u32>,
    /// `--network container:X`.
    pub network: Option<u32>,
    /// Of the same container the [`Create::scratch`] directory: its host name, hosts and name servers are seen as well.
    pub name_files: Option<PathBuf>,
}

/// How a task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// The exit status; 128+n for a signal.
    pub code: i32,
    /// The kernel's out-of-memory killer did it.
    pub oom_killed: bool,
}

/// Drops on a thread what may wait for a disk when it is dropped, such as the last descriptor of an overlay (its end writes
/// its file system out: milliseconds). A process that ends meanwhile does it in the kernel.
fn drop_later(slow: impl Send + 'static) {
    let dropped = std::thread::Builder::new().stack_size(64 << 10).spawn(move || drop(slow));
    if let Err(error) = dropped {
        // Then it was dropped here.
        tracing::debug!(%error, "no thread to drop something slow");
    }
}

/// Makes tasks; lives only in the supervisor process.
#[async_trait]
pub trait Executor: Debug + Send + Sync {
    /// Makes everything ready up to, but not including, the first instruction of the program.
    async fn create(&self, request: Create) -> Result<Box<dyn Task>, ExecError>;
    /// Does ahead what [`Self::create`] will probably need and what needs no container. It must not do what only a confined process
    /// may, and tells nothing: what fails here fails there again.
    fn anticipate(&self, _: &Prospect) {}
    /// Removes what a crash left of a container's tasks; idempotent.
    async fn sweep(&self, id: &ContainerId) -> Result<(), ExecError>;
}

/// One container's process, from creation to the end.
#[async_trait]
pub trait Task: Debug + Send + Sync {
    /// The process id on the host: the container's own first process, or the one that hosts it.
    fn pid(&self) -> u32;
    /// The process or thread whose network namespace is the container's; `None` where it has none to be connected.
    fn network_pid(&self) -> Option<u32> {
        Some(self.pid())
    }
    /// Ports of the host that it listens on itself; none where a network leads to it.
    fn published(&self) -> Vec<PublishedPort> {
        Vec::new()
    }
    /// What keeps its program from the host beside the executor's own means, by the names that `info` has for them. To be asked when
    /// it was started.
    fn walls(&self) -> Vec<&'static str> {
        Vec::new()
    }
    /// Runs the program. An error says whether it was found and executable.
    async fn start(&self) -> Result<(), ExecError>;
    /// Waits for the end; any number of waiters, none misses it.
    async fn wait(&self) -> Result<Exit, ExecError>;
    /// Sends a signal, by its Linux number on every host.
    async fn signal(&self, signal: u8) -> Result<(), ExecError>;
    /// Kills what is left and frees what the task held.
    async fn delete(self: Box<Self>) -> Result<(), ExecError>;
    /// The container's terminal, when it has one. That of a further process may be there only when it has started.
    fn terminal(&self) -> Option<&dyn Terminal> {
        None
    }
    /// Runs further processes beside the first.
    fn exec(&self) -> Option<&dyn Exec> {
        None
    }
    /// Freezes and thaws it.
    fn pause(&self) -> Option<&dyn Pause> {
        None
    }
    /// Tells what it uses.
    fn usage(&self) -> Option<&dyn Usage> {
        None
    }
    /// Changes its limits while it runs.
    fn limits(&self) -> Option<&dyn Limits> {
        None
    }
}

/// A further process in a container: `exec`, and health checks.
#[derive(Debug)]
pub struct ExecRequest {
    /// What to run. Its environment is whole: whoever asks has merged the container's. An empty user or working directory is
    /// the container's.
    pub process: Process,
    /// Every capability and no filter (`--privileged`).
    pub privileged: bool,
    /// Its standard streams; a terminal is one of its own.
    pub stdio: Stdio,
}

/// Runs further processes in a container.
#[async_trait]
pub trait Exec: Debug + Send + Sync {
    /// Makes a process ready, in the namespaces, the root and the limits of the container. It is a task like the first:
    /// started, waited for, signalled and deleted by itself, and it ends with the container.
    async fn exec(&self, request: ExecRequest) -> Result<Box<dyn Task>, ExecError>;
}

/// Freezes and thaws a container.
#[async_trait]
pub trait Pause: Debug + Send + Sync {
    /// Stops every process where it is.
    async fn pause(&self) -> Result<(), ExecError>;
    /// Lets them go on.
    async fn unpause(&self) -> Result<(), ExecError>;
}

/// Changes limits while a container runs.
#[async_trait]
pub trait Limits: Debug + Send + Sync {
    /// Applies what is set in `resources`; what is `None` stays as it is.
    async fn update(&self, resources: &Resources) -> Result<(), ExecError>;
}

/// Tells what a container uses. Reads counters and never waits.
pub trait Usage: Debug + Send + Sync {
    /// The counters now.
    fn stats(&self) -> Result<Stats, ExecError>;
    /// Process ids, on the host, of everything that runs in it; the first process first.
    fn processes(&self) -> Result<Vec<u32>, ExecError>;
}

/// What a container used since its start, and what it may use. 0, or `None`, is what an executor cannot tell.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Processor time, nanoseconds.
    pub cpu_total: u64,
    /// Of it in user mode, nanoseconds.
    pub cpu_user: u64,
    /// Of it in the kernel, nanoseconds.
    pub cpu_system: u64,
    /// Enforcement periods of a CPU limit, those in which it was held up, and for how long (nanoseconds).
    pub cpu_throttling: (u64, u64, u64),
    /// Memory in use without inactive file cache, bytes, as docker shows it.
    pub memory: u64,
    /// Of it file cache, bytes.
    pub memory_cache: u64,
    /// The most memory that was in use, bytes.
    pub memory_peak: u64,
    /// How much it may use, bytes.
    pub memory_limit: Option<u64>,
    /// Processes and threads.
    pub pids: u64,
    /// How many there may be.
    pub pids_limit: Option<u64>,
    /// Bytes read from block devices.
    pub block_read: u64,
    /// Bytes written to block devices.
    pub block_write: u64,
    /// By network interface: bytes received and sent.
    pub networks: std::collections::BTreeMap<String, (u64, u64)>,
    /// Requests that a server answered, and how many of them with a status of 500 and above; `None` where nobody counts them.
    #[serde(default)]
    pub requests: Option<(u64, u64)>,
    /// Instructions that were used up, in the units of `--fuel`; `None` where they are not counted.
    #[serde(default)]
    pub fuel: Option<u64>,
}

/// The host's end of a container's terminal.
pub trait Terminal: Debug + Send + Sync {
    /// An open file for what the program writes (read) and what the user types (write).
    fn stream(&self) -> Result<File, ExecError>;
    /// Tells the program that the window changed.
    fn resize(&self, size: WindowSize) -> Result<(), ExecError>;
}

/// A failure of an executor.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The ability is not there.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The executor's own failure, with its class.
    #[error("{action}")]
    Failed {
        /// The class.
        kind: ErrorKind,
        /// What was being done.
        action: &'static str,
        /// What the executor says.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
        /// What is to be tried.
        hints: Vec<String>,
    },
    /// There is no task any more.
    #[error("the container is not running")]
    NotRunning,
    /// Its processes are frozen, and one that joined them would be as well.
    #[error("Container {id} is paused, unpause the container before exec")]
    Paused {
        /// The container.
        id: ContainerId,
    },
}

impl ExecError {
    /// Wraps an executor's own error.
    pub fn failed(
        kind: ErrorKind,
        action: &'static str,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        Self::Failed { kind, action, source: source.into(), hints: Vec::new() }
    }

    /// The same failure, with what is to be tried.
    #[must_use]
    pub fn hinting(mut self, tries: Vec<String>) -> Self {
        if let Self::Failed { hints, .. } = &mut self {
            *hints = tries;
        }
        self
    }
}

impl Kind for ExecError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Refused(_) => ErrorKind::Unsupported,
            Self::Failed { kind, .. } => *kind,
            Self::NotRunning | Self::Paused { .. } => ErrorKind::Conflict,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Refused(refusal) => refusal.hints(),
            Self::Failed { hints, .. } => hints.clone(),
            Self::NotRunning | Self::Paused { .. } => Vec::new(),
        }
    }
}
