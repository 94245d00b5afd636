//! How a container is confined, limited, supervised and what of the host it sees: docker's `HostConfig`.
//!
//! Values as they are once checked: sizes in bytes, times in the unit that the field's docs give, and what docker leaves
//! absent is `None`, an empty list or zero. `HostConfig::default()` is a container with no wish of its own.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::network::{EndpointSettings, ExtraHost, Link, PortBinding};

/// How a container is confined and supervised (docker's `HostConfig`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HostConfig {
    /// The first `--network`.
    pub network: NetworkMode,
    /// What is asked of each network, in order; of the first one at the first place. Nothing where nothing was asked.
    pub networks: Vec<EndpointSettings>,
    /// `-p`.
    pub ports: Vec<PortBinding>,
    /// `-P`: every exposed port gets one of the host's.
    pub publish_all: bool,
    /// `--allow-net`: where a guest of a sandbox may connect to, as `HOST:PORT`.
    pub allow_net: Vec<String>,
    /// `--fuel`: instructions that a guest of a sandbox may carry out.
    pub fuel: Option<u64>,
    /// `--dns`.
    pub dns: Vec<IpAddr>,
    /// `--dns-option`.
    pub dns_options: Vec<String>,
    /// `--dns-search`; one `.` is none at all.
    pub dns_search: Vec<String>,
    /// `--add-host`.
    pub extra_hosts: Vec<ExtraHost>,
    /// `--link`, of a container on the default network; on others it is in `networks`.
    pub links: Vec<Link>,
    /// `--rm`.
    pub auto_remove: bool,
    /// `--restart`.
    pub restart: RestartPolicy,
    /// `--log-driver` and `--log-opt`.
    pub log: LogConfig,
    /// `-v`, `--mount`, `--tmpfs`, `--volumes-from` and the image's volumes; of each target one.
    pub mounts: Vec<Mount>,
    /// `-v` with a source, as given, for `inspect`.
    pub binds: Vec<String>,
    /// `--tmpfs`, as given, for `inspect`: options by path.
    pub tmpfs: BTreeMap<String, String>,
    /// `--mount`, for `inspect`; of an anonymous volume without its name.
    pub mount_specs: Vec<Mount>,
    /// `--annotation`.
    pub annotations: BTreeMap<String, String>,
    /// `--cidfile`, for `inspect`.
    pub container_id_file: String,
    /// `--isolation`, for `inspect`: empty or `default`.
    pub isolation: String,
    /// `--volume-driver`, for `inspect`: empty or `local`.
    pub volume_driver: String,
    /// `--volumes-from`, as given; what they brought is in `mounts`.
    pub volumes_from: Vec<String>,
    /// What `update` can change.
    pub resources: Resources,
    /// `--ulimit`.
    pub ulimits: Vec<Ulimit>,
    /// `--init`: a first process of ours that reaps.
    pub init: bool,
    /// `--privileged`.
    pub privileged: bool,
    /// `--cap-add`, as names without `CAP_`, upper case; `ALL` is one.
    pub cap_add: Vec<String>,
    /// `--cap-drop`, likewise.
    pub cap_drop: Vec<String>,
    /// `--security-opt`, as given, for `inspect`.
    pub security_opt: Vec<String>,
    /// `--security-opt`, understood.
    pub security: Security,
    /// `--read-only`.
    pub read_only: bool,
    /// `--shm-size` in bytes; `None` is 64 MiB.
    pub shm_size: Option<u64>,
    /// `--device`.
    pub devices: Vec<DeviceMapping>,
    /// `--device-cgroup-rule`, as `c 1:3 rwm`.
    pub device_cgroup_rules: Vec<String>,
    /// `--group-add`: names or numbers.
    pub group_add: Vec<String>,
    /// `--sysctl`.
    pub sysctls: BTreeMap<String, String>,
    /// `--oom-score-adj`, −1000 to 1000.
    pub oom_score_adj: i32,
    /// `--pid`.
    pub pid: NamespaceMode,
    /// `--ipc`.
    pub ipc: NamespaceMode,
    /// `--uts`.
    pub uts: NamespaceMode,
    /// `--cgroupns`.
    pub cgroupns: NamespaceMode,
    /// `--userns`.
    pub userns: UserNamespace,
    /// The host's ids that its own user namespace has; given when the container is made.
    pub ids: Option<HostIds>,
    /// `--cgroup-parent` as given, which [`super::GroupParent`] reads; empty is the engine's own.
    pub cgroup_parent: String,
    /// `--stop-timeout` in seconds; negative waits for ever, `None` is 10.
    pub stop_timeout: Option<i64>,
}

/// What network a container has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkMode {
    /// A namespace of its own with only the loopback device.
    #[default]
    None,
    /// As the engine chooses when the container is made: no record has it.
    Default,
    /// A network of the store, by its name: `bridge` is the one that is always there. As typed (a name, an id or the beginning of
    /// one) until the engine replaces it when the container is made.
    Named(String),
    /// The host's, passed on by `pasta`: what an ordinary user can have.
    Pasta,
    /// The host's.
    Host,
    /// Another container's: its name or id as typed, until the engine replaces it with the full id when the container is made.
    Container(String),
}

impl NetworkMode {
    /// As docker shows it.
    pub fn text(&self) -> String {
        match self {
            Self::None => "none".to_owned(),
            Self::Pasta => "pasta".to_owned(),
            Self::Host => "host".to_owned(),
            Self::Container(of) => format!("container:{of}"),
            Self::Default => "default".to_owned(),
            Self::Named(name) => name.clone(),
        }
    }

    /// Whether the container is on networks of the store.
    pub fn is_networked(&self) -> bool {
        matches!(self, Self::Default | Self::Named(_))
    }
}

/// Whose namespace of one kind a container is in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NamespaceMode {
    /// Its own.
    #[default]
    Private,
    /// Its own, which others may join (`--ipc shareable`). Ours can always be joined, so this is kept for `inspect` alone.
    Shareable,
    /// Its own, without what the kind mounts (`--ipc none`: no `/dev/shm`).
    None,
    /// The host's.
    Host,
    /// Another container's: its name or id as typed, until the engine replaces it with the full id when the container is made.
    Container(String),
}

/// Consecutive ids of the host: users and groups 0 and on of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostIds {
    /// The container's user 0.
    pub uid: u32,
    /// The container's group 0.
    pub gid: u32,
    /// How many of each.
    pub count: u32,
}

/// Who the container's users are on the host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UserNamespace {
    /// As the configuration says (`userns-remap`), else the same ids.
    #[default]
    Default,
    /// The same ids, whatever the configuration says.
    Host,
    /// A namespace whose ids are ranges of their own on the host, taken from `/etc/subuid` and `/etc/subgid` (`--userns auto`).
    Auto,
}

/// When a container that ended is started again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// Never.
    #[default]
    No,
    /// When its status was not 0; at most so many times (0: without limit).
    OnFailure(u32),
    /// Always, and after a reboot.
    Always,
    /// Like `Always`, unless the user stopped it.
    UnlessStopped,
}

/// Where a container's output is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogConfig {
    /// The driver.
    pub driver: LogDriver,
    /// `max-size` in bytes; `None`: no rotation.
    pub max_size: Option<u64>,
    /// `max-file`; `None` is 1.
    pub max_file: Option<u32>,
    /// All options as given, for `inspect`.
    pub options: BTreeMap<String, String>,
}

/// The kinds of logs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogDriver {
    /// Docker's `json-file`.
    #[default]
    JsonFile,
    /// None at all; `logs` is refused.
    None,
}

/// One mount of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// What is mounted.
    pub source: MountSource,
    /// Where: absolute, clean.
    pub target: String,
    /// Read-only.
    pub read_only: bool,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MountSource {
    /// A file or directory of the host.
    Bind {
        /// Absolute.
        path: PathBuf,
        /// `bind-propagation`.
        propagation: Propagation,
        /// Without the mounts below it (`bind-nonrecursive`).
        non_recursive: bool,
        /// Make the directory when it is missing: `-v` does, `--mount` does not.
        create: bool,
    },
    /// A volume.
    Volume {
        /// Its name; an anonymous one's is 64 hex digits.
        name: String,
        /// It has no name of the user's, and `--rm` and `rm -v` remove it.
        anonymous: bool,
        /// Do not fill it from the image (`volume-nocopy`).
        no_copy: bool,
        /// A directory inside it (`volume-subpath`); empty: all of it.
        subpath: String,
    },
    /// Memory.
    Tmpfs {
        /// Bytes.
        size: Option<u64>,
        /// Permission bits.
        mode: Option<u32>,
        /// Further mount options of `--tmpfs`, as given: `noexec`, `uid=5`, ….
        options: Vec<String>,
    },
}

/// How mounts made later travel between a bind mount and its source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Propagation {
    /// Not at all, the mounts below included: docker's default.
    #[default]
    Rprivate,
    /// Not at all.
    Private,
    /// Both ways, the mounts below included.
    Rshared,
    /// Both ways.
    Shared,
    /// From the host into the container, the mounts below included.
    Rslave,
    /// From the host into the container.
    Slave,
}

/// What a container may use; changed live by `update`. `None` is no limit, or the kernel's default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// `--memory`, bytes.
    pub memory: Option<u64>,
    /// `--memory-swap`: memory and swap together, bytes; −1 is no limit.
    pub memory_swap: Option<i64>,
    /// `--memory-reservation`, bytes.
    pub memory_reservation: Option<u64>,
    /// `--memory-swappiness`, 0 to 100; cgroup v1 only.
    pub memory_swappiness: Option<u8>,
    /// `--kernel-memory` is gone from kernels and not here. `--oom-kill-disable`; cgroup v1 only.
    pub oom_kill_disable: bool,
    /// `--cpus` in billionths of a processor.
    pub nano_cpus: Option<u64>,
    /// `--cpu-shares`, 2 to 262 144, 1024 is usual.
    pub cpu_shares: Option<u64>,
    /// `--cpu-period`, microseconds.
    pub cpu_period: Option<u64>,
    /// `--cpu-quota`, microseconds; −1 is no limit.
    pub cpu_quota: Option<i64>,
    /// `--cpuset-cpus`, as `0-2,5`.
    pub cpuset_cpus: Option<String>,
    /// `--cpuset-mems`.
    pub cpuset_mems: Option<String>,
    /// `--pids-limit`; −1 is no limit.
    pub pids_limit: Option<i64>,
    /// `--blkio-weight`, 10 to 1000.
    pub blkio_weight: Option<u16>,
    /// `--device-read-bps`: (device on the host, bytes per second).
    pub device_read_bps: Vec<(PathBuf, u64)>,
    /// `--device-write-bps`.
    pub device_write_bps: Vec<(PathBuf, u64)>,
    /// `--device-read-iops`: (device on the host, operations per second).
    pub device_read_iops: Vec<(PathBuf, u64)>,
    /// `--device-write-iops`.
    pub device_write_iops: Vec<(PathBuf, u64)>,
}

impl Resources {
    /// Takes over what is set in `changes`; there 0 takes a limit away.
    pub fn take_over(&mut self, changes: &Self) {
        fn limit<T: Copy + Default + PartialEq>(to: &mut Option<T>, from: Option<T>) {
            if from.is_some() {
                *to = from.filter(|value| *value != T::default());
            }
        }
        fn one<T: Clone>(to: &mut Option<T>, from: Option<&T>) {
            if from.is_some() {
                *to = from.cloned();
            }
        }
        fn list<T: Clone>(to: &mut Vec<T>, from: &[T]) {
            if !from.is_empty() {
                *to = from.to_vec();
            }
        }
        limit(&mut self.memory, changes.memory);
        limit(&mut self.memory_swap, changes.memory_swap);
        limit(&mut self.memory_reservation, changes.memory_reservation);
        one(&mut self.memory_swappiness, changes.memory_swappiness.as_ref());
        self.oom_kill_disable |= changes.oom_kill_disable;
        limit(&mut self.nano_cpus, changes.nano_cpus);
        limit(&mut self.cpu_shares, changes.cpu_shares);
        limit(&mut self.cpu_period, changes.cpu_period);
        limit(&mut self.cpu_quota, changes.cpu_quota);
        one(&mut self.cpuset_cpus, changes.cpuset_cpus.as_ref());
        one(&mut self.cpuset_mems, changes.cpuset_mems.as_ref());
        one(&mut self.pids_limit, changes.pids_limit.as_ref());
        limit(&mut self.blkio_weight, changes.blkio_weight);
        list(&mut self.device_read_bps, &changes.device_read_bps);
        list(&mut self.device_write_bps, &changes.device_write_bps);
        list(&mut self.device_read_iops, &changes.device_read_iops);
        list(&mut self.device_write_iops, &changes.device_write_iops);
    }
}

/// One `--ulimit`; −1 is no limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// Lower case, without prefix: `nofile`.
    pub name: String,
    /// The limit that applies.
    pub soft: i64,
    /// How far a process may raise it.
    pub hard: i64,
}

/// `--security-opt`, understood.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Security {
    /// `seccomp=`.
    pub seccomp: SeccompChoice,
    /// `apparmor=`: a profile, or `unconfined`.
    pub apparmor: Option<String>,
    /// `label=`, each as given after the `=`.
    pub labels: Vec<String>,
    /// `no-new-privileges`.
    pub no_new_privileges: bool,
    /// `systempaths=unconfined`: nothing of `/proc` and `/sys` is masked or read-only.
    pub system_paths_unconfined: bool,
}

/// Which system call filter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SeccompChoice {
    /// Docker's default profile.
    #[default]
    Default,
    /// None.
    Unconfined,
    /// A profile in docker's JSON format: the text, read on the host when the container was made.
    Profile(String),
}

/// One `--device`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceMapping {
    /// On the host: a device, or a directory of devices.
    pub host: PathBuf,
    /// In the container.
    pub container: String,
    /// Letters of `rwm`.
    pub access: String,
}
