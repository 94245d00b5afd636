//! Containers: the record that the metadata database keeps of one, and the states it goes through.
//!
//! ```text
//! created ──start──▶ running ⇄ paused            running ──exit──▶ exited ──start──▶ running …
//!                       └─exit─▶ restarting ─back-off─▶ running
//! ```
//! *Paused* and *restarting* are flags of *running*: in all three a supervisor holds the container.
//!
//! Invariant: [`RunState`] is what the container's supervisor wrote last. Whether a container whose record says *running*
//! still lives is a kernel lock that its supervisor holds (see `supervisor`), never this field.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{ContainerId, Digest, HostConfig, Platform, Timestamp};

/// A container as the metadata database keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// Its id.
    pub id: ContainerId,
    /// Its name, unique in the store; without docker's leading slash.
    pub name: String,
    /// When it was created.
    pub created: Timestamp,
    /// Digest of the config of its image: the image's id.
    pub image: Digest,
    /// The image as the user named it, in familiar form.
    pub image_name: String,
    /// `DiffID`s of its layers, lowest first: what its root is made of even when the image's name has moved on.
    pub layers: Vec<Digest>,
    /// The platform that its image is for.
    pub platform: Platform,
    /// Which executor runs it, and why.
    pub executor: ExecutorChoice,
    /// What runs in it.
    pub config: ContainerConfig,
    /// How it is confined and supervised.
    pub host: HostConfig,
    /// What its supervisor wrote last.
    #[serde(default)]
    pub state: RunState,
}

/// Which executor runs a container, and the reason, for `inspect`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecutorChoice {
    /// The executor's name: `linux`, `wasm`, …
    pub name: String,
    /// The rule that chose it, as a sentence.
    pub reason: String,
    /// The installed program that it drives, if it drives one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<OciRuntime>,
}

/// An installed OCI runtime: runc, crun, or another with their command line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OciRuntime {
    /// As the user names it: `crun`, a name of the configuration, or a path.
    pub name: String,
    /// The program.
    pub path: PathBuf,
    /// Arguments in front of every command.
    pub args: Vec<String>,
    /// The first line of what it says of its version, when the container was made.
    pub version: String,
}

/// What runs in a container (docker's `Config`), image defaults and the user's wishes already merged.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerConfig {
    /// Host name; empty: the first 12 digits of the id.
    pub hostname: String,
    /// `--domainname`.
    pub domainname: String,
    /// `user[:group]`, resolved in the container's own files at start.
    pub user: String,
    /// `KEY=value`, later ones win.
    pub env: Vec<String>,
    /// Entry point; may be empty.
    pub entrypoint: Vec<String>,
    /// Command, or the entry point's arguments.
    pub cmd: Vec<String>,
    /// Working directory, absolute; empty is `/`.
    pub working_dir: String,
    /// `--tty`.
    pub tty: bool,
    /// `--interactive`: keep standard input open.
    pub open_stdin: bool,
    /// The client that `run` attached may write to standard input, and its end closes it.
    pub stdin_once: bool,
    /// The standard streams that `run` was told to attach (`-a`), by name; empty: all that there are.
    pub attach: Vec<String>,
    /// Labels of the image and the user's.
    pub labels: std::collections::BTreeMap<String, String>,
    /// Ports that the image exposes, `80/tcp`.
    pub exposed_ports: Vec<String>,
    /// Paths that the image declares as volumes.
    pub volumes: Vec<String>,
    /// Signal that `stop` sends; `None` is `SIGTERM`.
    pub stop_signal: Option<String>,
    /// The image's `SHELL`, for the health check's line; empty is `/bin/sh -c`.
    pub shell: Vec<String>,
    /// The health check; `None`: there is none, or it was switched off.
    pub healthcheck: Option<Healthcheck>,
}

/// A command that tells whether a container does its work. Times are nanoseconds, as in an image's config.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Healthcheck {
    /// `["CMD", program, …]` or `["CMD-SHELL", line]`.
    pub test: Vec<String>,
    /// Between two checks; 0 is 30 s.
    pub interval: u64,
    /// Of one check; 0 is 30 s.
    pub timeout: u64,
    /// After the start, in which failures do not count; 0 is none.
    pub start_period: u64,
    /// Between two checks in the start period; 0 is 5 s.
    pub start_interval: u64,
    /// Failures in a row that make it unhealthy; 0 is 3.
    pub retries: u32,
}

/// Variables (`KEY=value`) with others over them: what is in both is the other's.
pub fn variables_over(below: &[String], above: &[String]) -> Vec<String> {
    let key = |pair: &str| pair.split('=').next().unwrap_or_default().to_owned();
    let kept = below.iter().filter(|pair| above.iter().all(|over| key(over) != key(pair)));
    kept.chain(above).cloned().collect()
}

impl ContainerConfig {
    /// The whole argument list: entry point, then command.
    pub fn args(&self) -> Vec<String> {
        self.entrypoint.iter().chain(&self.cmd).cloned().collect()
    }

    /// The working directory, absolute.
    pub fn cwd(&self) -> &str {
        if self.working_dir.is_empty() { "/" } else { &self.working_dir }
    }
}

/// The states a container's record can be in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RuntimeStatus {
    /// Made, never started.
    Created,
    /// A supervisor runs it, if the supervisor's lock is held.
    Running,
    /// It ran and ended.
    Exited,
}

/// What a container's supervisor wrote last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunState {
    /// The state.
    pub status: RuntimeStatus,
    /// Its processes are frozen (`pause`).
    #[serde(default)]
    pub paused: bool,
    /// Between two runs: its supervisor waits before it starts it again.
    #[serde(default)]
    pub restarting: bool,
    /// How often its supervisor started it again.
    #[serde(default)]
    pub restart_count: u32,
    /// The user stopped or killed it: `unless-stopped` does not start it again.
    #[serde(default)]
    pub stopped_by_user: bool,
    /// What its health check says; `None` when it has none.
    #[serde(default)]
    pub health: Option<Health>,
    /// Process id of the container's first process on the host; 0 when it is not running.
    #[serde(default)]
    pub pid: u32,
    /// Exit status of the last run, 128+n for a signal.
    #[serde(default)]
    pub exit_code: i32,
    /// Why it could not be started or was lost; empty otherwise.
    #[serde(default)]
    pub error: String,
    /// The kernel's out-of-memory killer ended it.
    #[serde(default)]
    pub oom_killed: bool,
    /// What its supervisor had around the program when it had started it, by the names of `info`; of a Wasm container.
    #[serde(default)]
    pub walls: Vec<String>,
    /// Start of the last run.
    #[serde(default)]
    pub started: Option<Timestamp>,
    /// End of the last run.
    #[serde(default)]
    pub finished: Option<Timestamp>,
}

impl Default for RunState {
    fn default() -> Self {
        Self {
            status: RuntimeStatus::Created,
            paused: false,
            restarting: false,
            restart_count: 0,
            stopped_by_user: false,
            health: None,
            pid: 0,
            exit_code: 0,
            error: String::new(),
            oom_killed: false,
            walls: Vec::new(),
            started: None,
            finished: None,
        }
    }
}

/// What a container's health check says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Health {
    /// The answer.
    pub status: HealthStatus,
    /// Failures in a row.
    pub failing_streak: u32,
    /// The last checks, oldest first, five at the most.
    pub log: Vec<HealthProbe>,
}

/// Docker's words for health.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HealthStatus {
    /// Not known yet.
    #[default]
    Starting,
    /// The last check succeeded.
    Healthy,
    /// Too many checks in a row failed.
    Unhealthy,
}

impl HealthStatus {
    /// The word.
    pub fn text(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// One run of a health check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthProbe {
    /// When it began.
    pub start: Timestamp,
    /// When it ended.
    pub end: Timestamp,
    /// Its exit status; −1 when it took too long or could not be run.
    pub exit_code: i32,
    /// What it wrote, 4 KiB at the most.
    pub output: String,
}

/// A container's root file system, made of layers but not mounted anywhere yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Root {
    /// Read-only layers under one that takes the changes.
    Overlay {
        /// Topmost first, the order of the mount option.
        lower: Vec<PathBuf>,
        /// Takes the changes.
        upper: PathBuf,
        /// Overlayfs's own, empty, on the file system of `upper`.
        work: PathBuf,
        /// Whether `upper` is gone with the container: then nothing that is written to it waits for a disk.
        volatile: bool,
    },
    /// One directory, to be changed in place.
    Directory(PathBuf),
}
