//! A container that an installed runtime runs, as a task.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use runtime_linux::foreign::{self, Identity, Stage};
use runtime_linux::{Mount, Namespace, Network, Plan, Propagation, Shm, cgroups, detached, seccomp};
use rustix::fs::{Mode, OFlags};

use super::command::{Runtime, Streams, aside};
use super::console::Console;
use super::file_error;
use super::process::{Adoption, Child, Process};
use super::{NAME, spec, sweep};
use crate::executor::linux::{self, Pty};
use crate::executor::{
    Create, Exec, ExecError, Exit, Limits, Pause, Refusal, Root, Stats, Stdio, Task, Terminal, Usage,
    WindowSize, drop_later,
};
use crate::model::{ErrorKind, Resources};

/// A container that was made and is not watched yet: that needs the event loop.
pub(super) struct Made {
    runtime: Runtime,
    plan: Plan,
    child: Child,
    terminal: Option<OwnedFd>,
    root: OwnedFd,
}

impl Made {
    pub(super) fn watch(self) -> Result<OciTask, ExecError> {
        let Self { runtime, plan, child, terminal, root } = self;
        let group = runtime.group.clone();
        Ok(OciTask {
            runtime,
            plan,
            group,
            process: Process::watch(child)?,
            terminal: terminal.map(Pty),
            root,
            started: AtomicBool::new(false),
            frozen: Arc::default(),
        })
    }
}

/// Has the runtime make the container, up to the point where only its start is missing.
pub(super) fn create(runtime: Runtime, request: Create) -> Result<Made, ExecError> {
    let mut plan = linux::plan_of(&request)?;
    let shared = |mount: &Mount| {
        let Mount::Bind { propagation, .. } = mount else { return false };
        matches!(propagation, Propagation::Shared | Propagation::Rshared)
    };
    if plan.mounts.iter().any(shared) {
        let what = "pass mounts of the container on to the host (`bind-propagation=shared`)";
        return Err(Refusal::Cannot { executor: NAME, what }.into());
    }
    if runtime.home.exists() {
        // Of a container of this id that ended in a crash.
        sweep(&runtime)?;
    }
    let home = &runtime.home;
    let make = |path: &std::path::Path| {
        std::fs::DirBuilder::new().mode(0o700).create(path).map_err(file_error("making the bundle", path))
    };
    make(home)?;
    let (place, shm) = (runtime.file("rootfs"), runtime.file("shm"));
    make(&place)?;
    make(&shm)?;
    let root = root_of(&request.root)?;
    let identity = identity(&root, &plan)?;
    foreign::make_directory(&root, &plan.cwd).map_err(unprepared)?;
    let filter = seccomp::resolve(&plan.seccomp, &plan.capabilities).map_err(|error| {
        ExecError::failed(ErrorKind::InvalidInput, "reading the system call filter", error)
    })?;
    let joined = joined(&plan)?;
    let paths: Vec<_> = joined.iter().map(|(kind, fd)| (*kind, path_of(fd))).collect();
    let mut stage = Stage::default();
    stage.mounts.push((root.try_clone().map_err(file_error("mounting the root", &place))?, place.clone()));
    if let Shm::Of(peer) = &plan.shm {
        stage.shm = Some((peer.clone(), shm.clone()));
    }
    stage_parts(&mut plan, &mut stage, home)?;
    let config = spec::config(
        &plan,
        &spec::Found {
            root: &place,
            identity: &identity,
            seccomp: filter.as_ref(),
            joined: &paths,
            shm: Some(&shm),
            group: &runtime.group,
        },
    );
    write(&runtime, "config.json", &config)?;
    let pid_file = runtime.file("pid");
    let (bundle, pid) = (home.display().to_string(), pid_file.display().to_string());
    let arguments = ["create", "--bundle", &bundle, "--pid-file", &pid];
    let (terminal, child) = with_streams(&runtime, &stage, &arguments, request.stdio, &pid_file)?;
    Ok(Made { runtime, plan, child, terminal, root })
}

/// What is a part of a volume is attached in the bundle: the runtime would look a path up again, and whoever writes to the volume
/// could have changed it.
fn stage_parts(plan: &mut Plan, stage: &mut Stage, home: &std::path::Path) -> Result<(), ExecError> {
    for (at, mount) in plan.mounts.iter_mut().enumerate() {
        let Mount::Bind { source, subpath, recursive, .. } = mount else { continue };
        if subpath.is_empty() {
            continue;
        }
        let place = home.join(format!("part-{at}"));
        let part = foreign::part(source, subpath, *recursive, &place).map_err(unprepared)?;
        stage.mounts.push((part, place.clone()));
        (*source, *subpath) = (place, String::new());
    }
    Ok(())
}

/// Has the runtime make a process with these streams; its terminal, if it has one, and the process.
pub(super) fn with_streams(
    runtime: &Runtime,
    stage: &Stage,
    arguments: &[&str],
    stdio: Stdio,
    pid_file: &std::path::Path,
) -> Result<(Option<OwnedFd>, Child), ExecError> {
    let mut arguments = arguments.to_vec();
    let adoption = Adoption::begin()?;
    let terminal = match stdio {
        Stdio::Files { stdin, stdout, stderr } => {
            arguments.push(runtime.id.as_str());
            runtime.run_on(stage, &arguments, Some(Streams { stdin, stdout, stderr }))?;
            None
        }
        Stdio::Terminal(size) => {
            let name = pid_file.file_name().unwrap_or_default().to_string_lossy();
            let console = Console::listen(&runtime.home, format!("{name}-console"))?;
            let address = console.address();
            arguments.extend(["--console-socket", &address, runtime.id.as_str()]);
            runtime.run_on(stage, &arguments, None)?;
            Some((console, size))
        }
    };
    let child = Child::from_file(pid_file)?;
    drop(adoption);
    let terminal = terminal.map(|(console, size)| console.take(size)).transpose();
    Ok((terminal.inspect_err(|_| child.end())?, child))
}

/// The root as a detached mount: it lasts as long as somebody has it open, and is attached nowhere on the host.
fn root_of(root: &Root) -> Result<OwnedFd, ExecError> {
    let failed = |source: std::io::Error| {
        ExecError::failed(ErrorKind::Unavailable, "mounting the container's root", source)
    };
    match root {
        Root::Overlay { lower, upper, work, volatile } => {
            detached::overlay_fd(lower, Some(detached::Writable { upper, work, volatile: *volatile }))
                .map_err(failed)
        }
        Root::Directory(path) => {
            let flags = rustix::mount::OpenTreeFlags::OPEN_TREE_CLONE
                | rustix::mount::OpenTreeFlags::OPEN_TREE_CLOEXEC
                | rustix::mount::OpenTreeFlags::AT_RECURSIVE;
            rustix::mount::open_tree(rustix::fs::CWD, path, flags).map_err(|error| failed(error.into()))
        }
    }
}

pub(super) fn identity(root: &OwnedFd, plan: &Plan) -> Result<Identity, ExecError> {
    foreign::identity(root, &plan.user, &plan.additional_groups).map_err(unprepared)
}

fn unprepared(error: runtime_linux::InitFailure) -> ExecError {
    linux::not_created(error.into())
}

/// Descriptors of the namespaces that are joined, by the specification's kinds.
fn joined(plan: &Plan) -> Result<Vec<(&'static str, OwnedFd)>, ExecError> {
    let names = &plan.namespaces;
    let network = match &plan.network {
        Network::Join(peer) => Some(peer),
        Network::None | Network::Host => None,
    };
    let of = |namespace: &'_ Namespace| match namespace {
        Namespace::Join(peer) => Some(peer.clone()),
        Namespace::New | Namespace::Inherit => None,
    };
    [
        ("network", "net", network.cloned()),
        ("pid", "pid", of(&names.pid)),
        ("ipc", "ipc", of(&names.ipc)),
        ("uts", "uts", of(&names.uts)),
        ("cgroup", "cgroup", of(&names.cgroup)),
    ]
    .into_iter()
    .filter_map(|(kind, file, peer)| Some((kind, file, peer?)))
    .map(|(kind, file, peer)| Ok((kind, foreign::namespace(&peer, file).map_err(unprepared)?)))
    .collect()
}

/// A path of a descriptor of ours that other processes can open.
fn path_of(fd: &OwnedFd) -> String {
    format!("/proc/{}/fd/{}", std::process::id(), fd.as_raw_fd())
}

/// Writes a file of the bundle.
pub(super) fn write(runtime: &Runtime, name: &str, value: &serde_json::Value) -> Result<(), ExecError> {
    let path = runtime.file(name);
    let written = File::create(&path).and_then(|file| {
        serde_json::to_writer(std::io::BufWriter::new(file), value).map_err(std::io::Error::from)
    });
    written.map_err(file_error("writing the bundle", &path))
}

/// A container's first process.
#[derive(Debug)]
pub(super) struct OciTask {
    pub(super) runtime: Runtime,
    /// How the first process is run, for those that come later.
    pub(super) plan: Plan,
    /// Path of its control group.
    group: String,
    pub(super) process: Process,
    terminal: Option<Pty>,
    /// Held to the end, as the `linux` executor's tasks hold theirs.
    root: OwnedFd,
    started: AtomicBool,
    /// It is paused, or about to be.
    pub(super) frozen: Arc<AtomicBool>,
}

impl OciTask {
    /// What is to be done and known when the first process has just ended.
    fn after(&self) -> bool {
        if !self.plan.namespaces.pid.is_new() {
            self.kill_all();
        }
        cgroups::Cgroup::open(&self.group).and_then(|cgroup| cgroup.oom_killed()).unwrap_or(false)
    }

    fn kill_all(&self) {
        let killed = cgroups::Cgroup::open(&self.group).and_then(|cgroup| cgroup.kill_all());
        if let Err(error) = killed {
            tracing::warn!(id = %self.runtime.id, %error, "killing the container's processes");
        }
    }

    pub(super) fn ended(&self) -> Result<bool, ExecError> {
        Ok(self.process.poll(&|| self.after())?.is_some())
    }

    async fn command(&self, arguments: &'static [&'static str]) -> Result<(), ExecError> {
        let runtime = self.runtime.clone();
        aside(move || {
            let arguments: Vec<_> = arguments.iter().copied().chain([runtime.id.as_str()]).collect();
            runtime.run(&arguments)
        })
        .await
    }

    /// The container's root as its processes see it.
    pub(super) fn inside(&self) -> Result<OwnedFd, ExecError> {
        let path = format!("/proc/{}/root", self.process.pid);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(&path, flags, Mode::empty())
            .map_err(|error| file_error("opening the container's root", path.as_ref())(error.into()))
    }
}

#[async_trait]
impl Task for OciTask {
    fn pid(&self) -> u32 {
        self.process.pid
    }

    async fn start(&self) -> Result<(), ExecError> {
        if self.started.swap(true, Ordering::Relaxed) {
            return Err(ExecError::failed(ErrorKind::Conflict, "starting the program", StartedTwice));
        }
        self.command(&["start"]).await
    }

    async fn wait(&self) -> Result<Exit, ExecError> {
        self.process.wait(&|| self.after()).await
    }

    async fn signal(&self, signal: u8) -> Result<(), ExecError> {
        if self.ended()? {
            return Err(ExecError::NotRunning);
        }
        if signal == 0 {
            return Ok(());
        }
        let runtime = self.runtime.clone();
        let sent = aside(move || runtime.run(&["kill", runtime.id.as_str(), &signal.to_string()])).await;
        if self.ended()? {
            return if sent.is_ok() { Ok(()) } else { Err(ExecError::NotRunning) };
        }
        match (signal, sent) {
            // It must die whatever the runtime says; a frozen process of cgroup v1 dies only when it is thawed.
            (9, sent) => {
                if sent.is_err() || self.frozen.load(Ordering::Relaxed) {
                    self.kill_all();
                    return self.process.signal(9);
                }
                Ok(())
            }
            (_, sent) => sent,
        }
    }

    async fn delete(self: Box<Self>) -> Result<(), ExecError> {
        if !self.ended()? {
            self.kill_all();
            match self.process.signal(9) {
                Ok(()) | Err(ExecError::NotRunning) => {}
                Err(error) => return Err(error),
            }
            self.process.wait(&|| false).await?;
        }
        let Self { runtime, root, process, .. } = *self;
        drop(process);
        drop_later(root);
        aside(move || sweep(&runtime)).await
    }

    fn terminal(&self) -> Option<&dyn Terminal> {
        self.terminal.as_ref().map(|pty| pty as &dyn Terminal)
    }

    fn exec(&self) -> Option<&dyn Exec> {
        Some(self)
    }

    fn pause(&self) -> Option<&dyn Pause> {
        Some(self)
    }

    fn usage(&self) -> Option<&dyn Usage> {
        Some(self)
    }

    fn limits(&self) -> Option<&dyn Limits> {
        Some(self)
    }
}

/// A task starts once.
#[derive(Debug, thiserror::Error)]
#[error("it has been started before")]
struct StartedTwice;

#[async_trait]
impl Pause for OciTask {
    async fn pause(&self) -> Result<(), ExecError> {
        // Before it is true, so that no process enters a group that is about to freeze.
        self.frozen.store(true, Ordering::Relaxed);
        let outcome = self.command(&["pause"]).await;
        self.frozen.store(outcome.is_ok(), Ordering::Relaxed);
        outcome
    }

    async fn unpause(&self) -> Result<(), ExecError> {
        let outcome = self.command(&["resume"]).await;
        self.frozen.store(outcome.is_err(), Ordering::Relaxed);
        outcome
    }
}

#[async_trait]
impl Limits for OciTask {
    async fn update(&self, resources: &Resources) -> Result<(), ExecError> {
        let value = spec::resources(&linux::changes(resources)?);
        write(&self.runtime, "update.json", &value)?;
        let runtime = self.runtime.clone();
        aside(move || {
            let file = runtime.file("update.json").display().to_string();
            runtime.run(&["update", "--resources", &file, runtime.id.as_str()])
        })
        .await
    }
}

impl Usage for OciTask {
    fn stats(&self) -> Result<Stats, ExecError> {
        linux::stats(&self.group, self.process.pid)
    }

    fn processes(&self) -> Result<Vec<u32>, ExecError> {
        linux::processes(&self.group, self.process.pid)
    }
}

/// The size of a terminal in the plan's words.
pub(super) fn window(size: WindowSize) -> runtime_linux::WindowSize {
    runtime_linux::WindowSize { rows: size.rows, cols: size.cols }
}
