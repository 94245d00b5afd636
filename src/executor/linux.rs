//! Linux containers: translates [`Create`] into a plan of `runtime_linux` and its answers into this boundary's.
//!
//! Invariants:
//! - Everything that isolates is in the runtime crate; here is only docker's choice of defaults.
//! - A container's cgroup is `umiak/<id>`: it can be swept by the id alone, after any crash.
//! - What a failed `create` made is gone when it returns.
//!
//! Calls into the runtime block for milliseconds, on purpose: a supervisor has nothing else to do then, and a thread for them
//! costs more than they do.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use runtime_linux::{
    Cause, CgroupPlan, Created, InitFailure, Limits, Mount, Network, Plan, Propagation, SpawnError,
    StartError, cgroups,
};
use rustix::fs::{Mode, OFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::{
    Create, Entry, ExecError, Executor, Exit, Process, Refusal, Root, Settings, Stdio, Task, Terminal,
    WindowSize, Workload,
};
use crate::model::{ContainerId, ErrorKind, NetworkMode, Platform};

/// The executor's name.
pub const NAME: &str = "linux";

/// The host side's view.
pub const ENTRY: Entry = Entry { name: NAME, aliases: &[], admit, open };

/// What docker sets when an image does not.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// More than this of a file of the host is not copied into a container, in bytes.
const MAX_HOST_FILE: u64 = 1 << 20;

/// This processor's own platform only: what else the kernel could run (`binfmt_misc`, 32 bits) cannot be told reliably.
fn admit(workload: &Workload) -> Result<(), Refusal> {
    if Platform::linux_native().accepts(&workload.platform) {
        Ok(())
    } else {
        Err(Refusal::Platform { executor: NAME, platform: workload.platform.clone() })
    }
}

fn open(settings: &Settings) -> Result<Box<dyn Executor>, ExecError> {
    if !rustix::process::geteuid().is_root() {
        return Err(Refusal::Privilege { executor: NAME }.into());
    }
    Ok(Box::new(Linux { exe: settings.exe.clone() }))
}

/// The executor.
#[derive(Debug)]
struct Linux {
    /// Run again to be init.
    exe: PathBuf,
}

fn cgroup_path(id: &ContainerId) -> String {
    format!("umiak/{id}")
}

fn sweep(id: &ContainerId) -> Result<(), ExecError> {
    cgroups::sweep(&cgroup_path(id))
        .map_err(|error| ExecError::failed(ErrorKind::Internal, "removing the container's cgroup", error))
}

#[async_trait]
impl Executor for Linux {
    async fn create(&self, request: Create) -> Result<Box<dyn Task>, ExecError> {
        let plan = plan(&request)?;
        let stdio = match request.stdio {
            Stdio::Files { stdin, stdout, stderr } => runtime_linux::Stdio::Streams {
                stdin: stdin.into(),
                stdout: stdout.into(),
                stderr: stderr.into(),
            },
            Stdio::Terminal(_) => runtime_linux::Stdio::Terminal,
        };
        match spawned(&self.exe, &plan, stdio, &request.id) {
            Ok(task) => Ok(Box::new(task)),
            Err(error) => {
                if let Err(left) = sweep(&request.id) {
                    tracing::warn!(id = %request.id, error = %left, "a cgroup is left of a container that was not made");
                }
                Err(error)
            }
        }
    }

    async fn sweep(&self, id: &ContainerId) -> Result<(), ExecError> {
        sweep(id)
    }
}

fn spawned(
    exe: &Path,
    plan: &Plan,
    stdio: runtime_linux::Stdio,
    id: &ContainerId,
) -> Result<LinuxTask, ExecError> {
    let watch = |error| ExecError::failed(ErrorKind::Unavailable, "watching the container's process", error);
    let mut process = runtime_linux::spawn(exe, plan, stdio).map_err(not_created)?;
    let ended = process.pidfd().try_clone_to_owned().map_err(watch)?;
    #[expect(
        deprecated,
        reason = "sound for an OwnedFd; its successor is unsafe for every type, and this crate has no unsafe code"
    )]
    let ended = AsyncFd::with_interest(ended, Interest::READABLE).map_err(watch)?;
    let root = rustix::fs::open(
        format!("/proc/{}/root", process.pid()),
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(|error| watch(error.into()))?;
    Ok(LinuxTask {
        id: id.clone(),
        pid: process.pid(),
        root,
        terminal: process.take_terminal().map(Pty),
        ended,
        state: Mutex::new(State { process, exit: None }),
    })
}

/// Docker's defaults, and what the request says.
fn plan(request: &Create) -> Result<Plan, ExecError> {
    let root = match &request.root {
        Root::Overlay { lower, upper, work } => {
            runtime_linux::Root::Overlay { lower: lower.clone(), upper: upper.clone(), work: work.clone() }
        }
        Root::Directory(path) => runtime_linux::Root::Directory(path.clone()),
    };
    let mut plan = Plan::new(root, request.process.args.clone());
    plan.env = environment(&request.process, &request.hostname, &request.stdio);
    plan.cwd.clone_from(&request.process.cwd);
    plan.user.clone_from(&request.process.user);
    plan.hostname.clone_from(&request.hostname);
    plan.domainname.clone_from(&request.domainname);
    plan.network = match request.host.network {
        NetworkMode::None => Network::None,
        NetworkMode::Host => Network::Host,
    };
    if let Stdio::Terminal(WindowSize { rows, cols }) = request.stdio {
        plan.terminal = Some(runtime_linux::WindowSize { rows, cols });
    }
    plan.mounts = name_files(request)?;
    plan.cgroup = Some(CgroupPlan { path: cgroup_path(&request.id), limits: Limits::default() });
    Ok(plan)
}

/// The request's environment over docker's defaults. `HOME` is the runtime's: it knows the user.
fn environment(process: &Process, hostname: &str, stdio: &Stdio) -> Vec<String> {
    let mut defaults = vec![DEFAULT_PATH.to_owned(), format!("HOSTNAME={hostname}")];
    if matches!(stdio, Stdio::Terminal(_)) {
        defaults.push("TERM=xterm".to_owned());
    }
    let key = |pair: &str| pair.split('=').next().unwrap_or_default().to_owned();
    defaults.retain(|default| process.env.iter().all(|pair| key(pair) != key(default)));
    defaults.into_iter().chain(process.env.iter().cloned()).collect()
}

/// `/etc/hostname`, `/etc/hosts` and `/etc/resolv.conf`: copies, so that the container may write to them but not to the
/// host's, mounted over the image's and not written into the container's layer.
fn name_files(request: &Create) -> Result<Vec<Mount>, ExecError> {
    let host = request.host.network == NetworkMode::Host;
    let hosts = if host { host_file("/etc/hosts")? } else { None };
    let hosts = hosts.unwrap_or_else(|| own_hosts(&request.hostname).into_bytes());
    let names = if host { host_file("/etc/resolv.conf")? } else { None };
    [
        ("hostname", format!("{}\n", request.hostname).into_bytes()),
        ("hosts", hosts),
        ("resolv.conf", names.unwrap_or_default()),
    ]
    .into_iter()
    .map(|(name, bytes)| {
        let source = request.scratch.join(name);
        write_plain(&source, &bytes).map_err(|error| {
            ExecError::failed(
                ErrorKind::Unavailable,
                "writing the container's name files",
                FileError::new(&source, error),
            )
        })?;
        let target = format!("/etc/{name}");
        Ok(Mount::Bind {
            source,
            target,
            read_only: false,
            recursive: false,
            propagation: Propagation::Private,
        })
    })
    .collect()
}

fn own_hosts(hostname: &str) -> String {
    format!(
        "127.0.0.1\tlocalhost {hostname}\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n\
         ff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"
    )
}

/// A file of the host, if there is one.
fn host_file(path: &str) -> Result<Option<Vec<u8>>, ExecError> {
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut io::Read::take(File::open(path)?, MAX_HOST_FILE), &mut bytes)?;
        Ok(bytes)
    };
    match read() {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ExecError::failed(
            ErrorKind::Unavailable,
            "reading the host's name files",
            FileError::new(Path::new(path), error),
        )),
    }
}

/// Readable by every user of the container, whatever this process's mask.
fn write_plain(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, bytes)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644))
}

/// An error about a file of the host.
#[derive(Debug, thiserror::Error)]
#[error("`{}`", path.display())]
struct FileError {
    path: PathBuf,
    source: io::Error,
}

impl FileError {
    fn new(path: &Path, source: io::Error) -> Self {
        Self { path: path.to_owned(), source }
    }
}

/// The class of what init says.
fn class(failure: &InitFailure) -> ErrorKind {
    let missing = [libc::ENOSPC, libc::EDQUOT, libc::ENOMEM, libc::EMFILE, libc::ENFILE, libc::EAGAIN];
    match (failure.exit_status(), &failure.cause) {
        (127, _) => ErrorKind::CommandNotFound,
        (126, _) => ErrorKind::CommandNotExecutable,
        (
            _,
            Cause::UnknownUser(_) | Cause::UnknownGroup(_) | Cause::IdOutOfRange(_) | Cause::Malformed(_),
        ) => ErrorKind::InvalidInput,
        (_, Cause::Refused(_)) => ErrorKind::Forbidden,
        (_, Cause::Unsupported(_)) => ErrorKind::Unsupported,
        (_, Cause::Errno(code) | Cause::Stat(code)) if [libc::EPERM, libc::EACCES].contains(code) => {
            ErrorKind::Forbidden
        }
        (_, Cause::Errno(code) | Cause::Stat(code)) if missing.contains(code) => ErrorKind::Unavailable,
        _ => ErrorKind::Internal,
    }
}

fn not_created(error: SpawnError) -> ExecError {
    let kind = match &error {
        SpawnError::Init(failure) => class(failure),
        SpawnError::Seccomp(_) => ErrorKind::InvalidInput,
        SpawnError::Exec { .. } => ErrorKind::Unavailable,
        _ => ErrorKind::Internal,
    };
    ExecError::failed(kind, "creating the container's process", error)
}

fn not_started(error: StartError) -> ExecError {
    let kind = match &error {
        StartError::Init(failure) => class(failure),
        StartError::Started => ErrorKind::Conflict,
        _ => ErrorKind::Internal,
    };
    ExecError::failed(kind, "starting the program", error)
}

#[derive(Debug)]
struct LinuxTask {
    id: ContainerId,
    pid: u32,
    terminal: Option<Pty>,
    /// Held to the end: the last who lets go of an overlay waits for a disk, and that must not be the process, whose end would
    /// be seen only afterwards.
    root: OwnedFd,
    /// Readable from the end of the process on, for every waiter.
    ended: AsyncFd<OwnedFd>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    process: Created,
    exit: Option<Exit>,
}

impl LinuxTask {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The end, if it has come.
    fn poll_exit(&self, state: &mut State) -> Result<Option<Exit>, ExecError> {
        if state.exit.is_none() {
            let ended = state.process.try_wait().map_err(|error| {
                ExecError::failed(ErrorKind::Internal, "asking for the end of the container's process", error)
            })?;
            state.exit =
                ended.map(|ended| Exit { code: ended.status().into(), oom_killed: self.out_of_memory() });
        }
        Ok(state.exit)
    }

    fn out_of_memory(&self) -> bool {
        let killed = cgroups::Cgroup::open(&cgroup_path(&self.id)).and_then(|cgroup| cgroup.oom_killed());
        killed.unwrap_or_else(|error| {
            tracing::debug!(id = %self.id, %error, "no memory controller tells why the container ended");
            false
        })
    }
}

#[async_trait]
impl Task for LinuxTask {
    fn pid(&self) -> u32 {
        self.pid
    }

    async fn start(&self) -> Result<(), ExecError> {
        self.state().process.start().map_err(not_started)
    }

    async fn wait(&self) -> Result<Exit, ExecError> {
        loop {
            let mut ready = self.ended.readable().await.map_err(|error| {
                ExecError::failed(ErrorKind::Internal, "waiting for the container's process", error)
            })?;
            match self.poll_exit(&mut self.state())? {
                Some(exit) => return Ok(exit),
                None => ready.clear_ready(),
            }
        }
    }

    async fn signal(&self, signal: u8) -> Result<(), ExecError> {
        let mut state = self.state();
        // A process that has ended but was not reaped takes signals without a word.
        if self.poll_exit(&mut state)?.is_some() {
            return Err(ExecError::NotRunning);
        }
        state.process.signal(signal.into()).map_err(|error| match error.raw_os_error() {
            Some(libc::ESRCH) => ExecError::NotRunning,
            _ if error.kind() == io::ErrorKind::InvalidInput => {
                ExecError::failed(ErrorKind::InvalidInput, "sending the signal", error)
            }
            _ => ExecError::failed(ErrorKind::Internal, "sending the signal", error),
        })
    }

    async fn delete(self: Box<Self>) -> Result<(), ExecError> {
        let Self { id, state, ended, root, .. } = *self;
        drop(ended);
        // Kills and reaps the first process; with it the kernel ends its whole namespace.
        drop(state);
        super::drop_later(root);
        sweep(&id)
    }

    fn terminal(&self) -> Option<&dyn Terminal> {
        self.terminal.as_ref().map(|pty| pty as &dyn Terminal)
    }
}

/// The host's end of a terminal.
#[derive(Debug)]
struct Pty(OwnedFd);

impl Terminal for Pty {
    fn stream(&self) -> Result<File, ExecError> {
        self.0
            .try_clone()
            .map(File::from)
            .map_err(|error| ExecError::failed(ErrorKind::Unavailable, "opening the terminal", error))
    }

    fn resize(&self, size: WindowSize) -> Result<(), ExecError> {
        runtime_linux::resize(&self.0, size.rows, size.cols)
            .map_err(|error| ExecError::failed(ErrorKind::Internal, "resizing the terminal", error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executor::Joins;
    use crate::model::{HostConfig, Packaging};
    use runtime_linux::Step;

    fn create(env: &[&str], stdio: Stdio, scratch: &Path) -> Create {
        Create {
            id: ContainerId::from_bytes([7; 32]),
            root: Root::Directory("/nowhere".into()),
            scratch: scratch.to_owned(),
            process: Process {
                args: vec!["true".into()],
                env: env.iter().map(|&pair| pair.to_owned()).collect(),
                cwd: "/work".into(),
                user: "www".into(),
            },
            hostname: "boat".into(),
            domainname: String::new(),
            host: HostConfig::default(),
            mounts: Vec::new(),
            joins: Joins::default(),
            stdio,
        }
    }

    #[test]
    fn only_images_for_this_processor_are_taken() {
        for (platform, taken) in [
            (Platform::linux_native(), true),
            (Platform::wasi(), false),
            (Platform::new("linux", "s390x", None), false),
            (Platform::new("windows", std::env::consts::ARCH, None), false),
        ] {
            let workload =
                Workload { platform, packaging: Packaging::Image, program: None, wants: Vec::new() };
            assert_eq!(admit(&workload).is_ok(), taken, "{}", workload.platform);
        }
    }

    #[test]
    fn a_plan_has_dockers_defaults_and_the_requests_values() {
        let dir = tempfile::tempdir().unwrap();
        let terminal = Stdio::Terminal(WindowSize { rows: 5, cols: 6 });
        let plan = plan(&create(&["PATH=/x", "A=b=c"], terminal, dir.path())).unwrap();
        assert_eq!(plan.env, ["HOSTNAME=boat", "TERM=xterm", "PATH=/x", "A=b=c"]);
        assert_eq!((plan.user.as_str(), plan.cwd.as_str(), plan.hostname.as_str()), ("www", "/work", "boat"));
        assert_eq!(plan.network, Network::None);
        assert_eq!(plan.terminal, Some(runtime_linux::WindowSize { rows: 5, cols: 6 }));
        assert_eq!(plan.cgroup.unwrap().path, format!("umiak/{}", "07".repeat(32)));
        assert!(!plan.capabilities.is_empty() && !plan.masked_paths.is_empty() && !plan.privileged);
        let hosts = std::fs::read_to_string(dir.path().join("hosts")).unwrap();
        assert!(hosts.starts_with("127.0.0.1\tlocalhost boat\n"), "{hosts}");
        assert_eq!(std::fs::read_to_string(dir.path().join("hostname")).unwrap(), "boat\n");
    }

    #[test]
    fn a_scratch_directory_that_is_not_there_is_named() {
        let stdio = Stdio::Terminal(WindowSize { rows: 1, cols: 1 });
        let error = plan(&create(&[], stdio, Path::new("/nowhere"))).unwrap_err();
        let source = std::error::Error::source(&error).unwrap();
        assert_eq!(source.to_string(), "`/nowhere/hostname`");
    }

    #[test]
    fn the_class_of_a_failure_gives_dockers_status() {
        let failure = |step, cause| InitFailure { step, subject: "x".into(), cause };
        for (step, cause, kind) in [
            (Step::Exec, Cause::NotInPath, ErrorKind::CommandNotFound),
            (Step::Exec, Cause::Stat(libc::ENOENT), ErrorKind::CommandNotFound),
            (Step::Exec, Cause::Errno(libc::EACCES), ErrorKind::CommandNotExecutable),
            (Step::Exec, Cause::IsDirectory, ErrorKind::CommandNotExecutable),
            (Step::User, Cause::UnknownUser("x".into()), ErrorKind::InvalidInput),
            (Step::Mount, Cause::Errno(libc::EPERM), ErrorKind::Forbidden),
            (Step::Cgroup, Cause::Errno(libc::ENOSPC), ErrorKind::Unavailable),
            (Step::Seccomp, Cause::Unsupported("x".into()), ErrorKind::Unsupported),
            (Step::Root, Cause::Errno(libc::EIO), ErrorKind::Internal),
        ] {
            assert_eq!(class(&failure(step, cause.clone())), kind, "{step:?} {cause:?}");
        }
    }
}
