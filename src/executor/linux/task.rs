//! A container's first process as a task.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use runtime_linux::{Plan, cgroups};
use rustix::fs::{Mode, OFlags};

use super::failure::not_created;
use super::process::Process;
use super::sweep;
use crate::executor::{Exec, ExecError, Exit, Limits, Pause, Task, Terminal, Usage, WindowSize, drop_later};
use crate::model::{ContainerId, ErrorKind};

#[derive(Debug)]
pub(super) struct LinuxTask {
    pub(super) id: ContainerId,
    pub(super) process: Process,
    terminal: Option<Pty>,
    /// Held to the end: the last who lets go of an overlay waits for a disk, and that must not be the process, whose end would
    /// be seen only afterwards.
    root: OwnedFd,
    /// Run again to be the init of an `exec`.
    pub(super) exe: PathBuf,
    /// How the first process was run, for those that come later.
    pub(super) plan: Plan,
    /// Path of its control group; of none where it has none.
    pub(super) cgroup: String,
    /// It is paused, or about to be.
    pub(super) frozen: Arc<AtomicBool>,
}

impl LinuxTask {
    /// Makes the process, up to the point where only its start is missing.
    pub(super) fn spawn(
        exe: &Path,
        plan: Plan,
        stdio: runtime_linux::Stdio,
        id: &ContainerId,
    ) -> Result<LinuxTask, ExecError> {
        let mut created = runtime_linux::spawn(exe, &plan, stdio).map_err(not_created)?;
        let terminal = created.take_terminal().map(Pty);
        let process = Process::watch(created)?;
        let root = rustix::fs::open(
            format!("/proc/{}/root", process.pid),
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(|error| {
            let error = std::io::Error::from(error);
            ExecError::failed(ErrorKind::Unavailable, "watching the container's process", error)
        })?;
        let cgroup = plan.cgroup.as_ref().map_or_else(|| format!("umiak/{id}"), |cgroup| cgroup.path.clone());
        let (id, exe, frozen) = (id.clone(), exe.to_owned(), Arc::default());
        Ok(LinuxTask { id, process, terminal, root, exe, plan, cgroup, frozen })
    }

    /// What is to be done and known when the first process has just ended: in a pid namespace that is not its own, nobody has
    /// killed the others, and they would hold the container's streams open.
    fn after(&self) -> bool {
        if !self.plan.namespaces.pid.is_new() {
            self.kill_all();
        }
        let killed = cgroups::Cgroup::open(&self.cgroup).and_then(|cgroup| cgroup.oom_killed());
        killed.unwrap_or_else(|error| {
            tracing::debug!(id = %self.id, %error, "no memory controller tells why the container ended");
            false
        })
    }

    /// Kills what is in the control group, thawing it.
    fn kill_all(&self) {
        let killed = cgroups::Cgroup::open(&self.cgroup).and_then(|cgroup| cgroup.kill_all());
        if let Err(error) = killed {
            tracing::warn!(id = %self.id, %error, "killing the container's processes");
        }
    }
}

#[async_trait]
impl Task for LinuxTask {
    fn pid(&self) -> u32 {
        self.process.pid
    }

    async fn start(&self) -> Result<(), ExecError> {
        self.process.start()
    }

    async fn wait(&self) -> Result<Exit, ExecError> {
        self.process.wait(&|| self.after()).await
    }

    async fn signal(&self, signal: u8) -> Result<(), ExecError> {
        self.process.signal(signal, &|| self.after())?;
        // A frozen process of cgroup v1 dies only when it is thawed.
        if signal == 9 && self.frozen.load(Ordering::Relaxed) {
            self.kill_all();
        }
        Ok(())
    }

    async fn delete(self: Box<Self>) -> Result<(), ExecError> {
        match self.process.signal(9, &|| false) {
            Ok(()) => {
                if self.frozen.load(Ordering::Relaxed) || !self.plan.namespaces.pid.is_new() {
                    self.kill_all();
                }
                // Not by dropping it: the kernel ends its namespace when further processes are reaped, which is done by others in
                // this event loop.
                self.process.wait(&|| false).await?;
            }
            Err(ExecError::NotRunning) => {}
            Err(error) => return Err(error),
        }
        let Self { process, root, cgroup, .. } = *self;
        drop(process);
        drop_later(root);
        sweep(&cgroup)
    }

    fn terminal(&self) -> Option<&dyn Terminal> {
        self.terminal.as_ref().map(|pty| pty as &dyn Terminal)
    }

    fn exec(&self) -> Option<&dyn Exec> {
        Some(self)
    }

    fn usage(&self) -> Option<&dyn Usage> {
        Some(self)
    }

    fn limits(&self) -> Option<&dyn Limits> {
        Some(self)
    }

    fn pause(&self) -> Option<&dyn Pause> {
        Some(self)
    }
}

/// The host's end of a terminal.
#[derive(Debug)]
pub(in crate::executor) struct Pty(pub(in crate::executor) OwnedFd);

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
