//! The host's side: starts init, waits for `ready`, starts, signals, reaps.
//!
//! Invariants: pid 1 is a direct child of this process, born of a thread that never ends (the kernel sends the death
//! signal when the *thread* that is the parent ends, which a thread of a pool does at any time); a descriptor of it is
//! open before it starts. A [`Created`] that is dropped kills and reaps its process. Nobody else may `waitpid(-1)`.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio as ChildStdio};
use std::sync::{OnceLock, mpsc};

use rustix::fs::MemfdFlags;
use rustix::process::{Signal, WaitId, WaitIdOptions};

use crate::failure::InitFailure;
use crate::plan::Plan;
use crate::seccomp::ProfileError;
use crate::wire::{self, Job, Payload, Report};

/// A process could not be created.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// A step in the container's process failed.
    #[error(transparent)]
    Init(#[from] InitFailure),
    /// The system call filter is not valid.
    #[error(transparent)]
    Seccomp(#[from] ProfileError),
    /// The binary that serves as init.
    #[error("starting `{path}` as init")]
    Exec {
        /// Its path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Talking to init.
    #[error("talking to init")]
    Channel(#[source] io::Error),
    /// Init ended without a word; perhaps it was killed, or `main_if_init` is not called.
    #[error("init ended without a report")]
    Silent,
}

/// The program could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A step in the container's process failed; [`InitFailure::exit_status`] is docker's exit status for it.
    #[error(transparent)]
    Init(#[from] InitFailure),
    /// Talking to init.
    #[error("talking to init")]
    Channel(#[source] io::Error),
    /// It was started before.
    #[error("already started")]
    Started,
}

/// What the process reads from and writes to.
#[derive(Debug)]
pub enum Stdio {
    /// Three descriptors of the caller's.
    Streams {
        /// Descriptor 0.
        stdin: OwnedFd,
        /// Descriptor 1.
        stdout: OwnedFd,
        /// Descriptor 2.
        stderr: OwnedFd,
    },
    /// The terminal that [`Plan::terminal`] asks for.
    Terminal,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// By itself.
    Code(u8),
    /// By a signal.
    Signal(i32),
}

impl Exit {
    /// As a shell and docker count it: 128 and the signal's number.
    pub fn status(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128_u8.saturating_add(u8::try_from(signal).unwrap_or(127)),
        }
    }
}

/// A process that is set up and waits, or runs.
#[derive(Debug)]
pub struct Created {
    pid: u32,
    pidfd: OwnedFd,
    terminal: Option<OwnedFd>,
    control: Option<OwnedFd>,
    exit: Option<Exit>,
}

/// Runs a job in the one thread that lives as long as the process.
pub(crate) fn in_parent_thread(
    job: impl FnOnce() -> io::Result<std::process::Child> + Send + 'static,
) -> io::Result<std::process::Child> {
    type Job = Box<dyn FnOnce() + Send>;
    static THREAD: OnceLock<io::Result<mpsc::Sender<Job>>> = OnceLock::new();
    let thread = THREAD.get_or_init(|| {
        let (sender, jobs) = mpsc::channel::<Job>();
        let run = move || jobs.iter().for_each(|job| job());
        std::thread::Builder::new()
            .name("umiak-parent".to_owned())
            .stack_size(128 << 10)
            .spawn(run)
            .map(|_| sender)
    });
    let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
    let sender = thread.as_ref().map_err(|error| io::Error::from(error.kind()))?;
    let (answer, result) = mpsc::sync_channel(1);
    sender.send(Box::new(move || drop(answer.send(job())))).map_err(|_| gone())?;
    result.recv().map_err(|_| gone())?
}

/// A view of the binary through which it cannot be written (CVE-2019-5736): a read-only detached mount of it, or
/// a sealed copy in memory where mounting is not possible.
fn protected(exe: &Path) -> io::Result<OwnedFd> {
    let mount = crate::mounts::source(exe, false)
        .and_then(|mount| crate::sys::mount_setattr(&mount, 1, 0, false).map(|()| mount));
    if let Ok(mount) = mount {
        return Ok(mount);
    }
    let copy = rustix::fs::memfd_create("init", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut file = std::fs::File::from(copy);
    io::copy(&mut std::fs::File::open(exe)?, &mut file)?;
    let seals = rustix::fs::SealFlags::WRITE
        | rustix::fs::SealFlags::GROW
        | rustix::fs::SealFlags::SHRINK
        | rustix::fs::SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&file, seals)?;
    Ok(file.into())
}

/// The plan and its filter in a memory file.
fn payload(job: Job) -> Result<std::fs::File, SpawnError> {
    let filter = match &job {
        Job::Container(plan) => crate::seccomp::program(&plan.seccomp, &plan.capabilities),
        Job::Exec(plan) => crate::seccomp::program(&plan.seccomp, &plan.capabilities),
    }?;
    let payload = Payload { job, filter: filter.as_deref().map(wire::pack) };
    let bytes = serde_json::to_vec(&payload).map_err(|error| SpawnError::Channel(error.into()))?;
    let file = rustix::fs::memfd_create("plan", MemfdFlags::CLOEXEC);
    let mut file = std::fs::File::from(file.map_err(|errno| SpawnError::Channel(errno.into()))?);
    io::Write::write_all(&mut file, &bytes).map_err(SpawnError::Channel)?;
    io::Seek::rewind(&mut file).map_err(SpawnError::Channel)?;
    Ok(file)
}

/// Creates the container and its process, up to the point where only [`Created::start`] is missing. `exe` is the
/// binary to run as init, mostly `/proc/self/exe`. Blocks for milliseconds.
pub fn spawn(exe: &Path, plan: &Plan, stdio: Stdio) -> Result<Created, SpawnError> {
    launch(exe, Job::Container(Box::new(plan.clone())), None, stdio)
}

/// Starts init and waits until the process it makes is ready. `target` goes along with the plan.
pub(crate) fn launch(
    exe: &Path,
    job: Job,
    target: Option<BorrowedFd<'_>>,
    stdio: Stdio,
) -> Result<Created, SpawnError> {
    let channel = |errno: rustix::io::Errno| SpawnError::Channel(errno.into());
    let (control, theirs) = rustix::net::socketpair(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::SEQPACKET,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )
    .map_err(channel)?;
    let exec = |source| SpawnError::Exec { path: exe.to_owned(), source };
    let binary = protected(exe).map_err(exec)?;
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&binary));
    let mut child = in_parent_thread(move || {
        let mut command = Command::new(path);
        command.arg0(crate::init::ROLE).env_clear().current_dir("/");
        command.stdin(theirs).stdout(ChildStdio::null()).stderr(ChildStdio::null());
        let child = command.spawn();
        drop(binary);
        child
    })
    .map_err(exec)?;
    // While init starts on another processor: the filter and the plan's bytes.
    let sent = payload(job).and_then(|file| {
        let streams = match &stdio {
            Stdio::Streams { stdin, stdout, stderr } => vec![stdin.as_fd(), stdout.as_fd(), stderr.as_fd()],
            Stdio::Terminal => Vec::new(),
        };
        let fds: Vec<BorrowedFd<'_>> = std::iter::once(file.as_fd()).chain(target).chain(streams).collect();
        wire::send(&control, b"plan", &fds).map_err(channel)
    });
    drop(stdio);
    let result = sent.and_then(|()| await_ready(control));
    // Stage one is gone, or goes as soon as its socket is closed.
    let _status = child.wait();
    result
}

fn hear(control: &OwnedFd) -> Result<(Option<Report>, Vec<OwnedFd>), io::Error> {
    match wire::receive(control) {
        Ok((bytes, _)) if bytes.is_empty() => Ok((None, Vec::new())),
        Ok((bytes, fds)) => Ok((Some(serde_json::from_slice(&bytes)?), fds)),
        Err(rustix::io::Errno::CONNRESET) => Ok((None, Vec::new())),
        Err(errno) => Err(errno.into()),
    }
}

fn patience(control: &OwnedFd, limited: bool) -> Result<(), SpawnError> {
    use rustix::net::sockopt::{Timeout, set_socket_timeout};
    let limit = limited.then_some(std::time::Duration::from_secs(5));
    set_socket_timeout(control, Timeout::Recv, limit).map_err(|errno| SpawnError::Channel(errno.into()))
}

fn await_ready(control: OwnedFd) -> Result<Created, SpawnError> {
    // pid 1 may speak before stage one says that it was born: keep what it says.
    let (mut born, mut ready, mut failed) = (None, None, None);
    while born.is_none() || ready.is_none() && failed.is_none() {
        // Stage one can be killed (by a tiny memory limit) after it cloned: then nobody will ever say so.
        patience(&control, born.is_none() && ready.is_some())?;
        match hear(&control).map_err(SpawnError::Channel)? {
            (Some(Report::Born(pid)), fds) => born = fds.into_iter().next().map(|fd| (pid, fd)),
            (Some(Report::Ready), fds) => ready = Some(fds.into_iter().next()),
            (Some(Report::Failed(failure)), _) => failed = Some(failure),
            (None, _) => break,
        }
    }
    patience(&control, false)?;
    let created =
        born.map(|(pid, pidfd)| Created { pid, pidfd, terminal: None, control: Some(control), exit: None });
    match (failed, created, ready) {
        (Some(failure), _, _) => Err(failure.into()),
        (None, Some(mut created), Some(terminal)) => {
            created.terminal = terminal;
            Ok(created)
        }
        _ => Err(SpawnError::Silent),
    }
}

impl Created {
    /// Its process id, as this process sees it.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Readable (poll, epoll) when the process has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// The host's end of the terminal, once.
    pub fn take_terminal(&mut self) -> Option<OwnedFd> {
        self.terminal.take()
    }

    /// Lets the program run. An error means that it never did; the process is then over.
    pub fn start(&mut self) -> Result<(), StartError> {
        let control = self.control.take().ok_or(StartError::Started)?;
        wire::send(&control, b"start", &[]).map_err(|errno| StartError::Channel(errno.into()))?;
        match hear(&control).map_err(StartError::Channel)? {
            (Some(Report::Failed(failure)), _) => Err(failure.into()),
            _ => Ok(()),
        }
    }

    /// Sends a signal to the process; one that has ended is an error (ESRCH).
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        let signal = Signal::from_named_raw(signal).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(rustix::process::pidfd_send_signal(&self.pidfd, signal)?)
    }

    /// Waits until it ends, and reaps it.
    pub fn wait(&mut self) -> io::Result<Exit> {
        loop {
            if let Some(exit) = self.reap(WaitIdOptions::EXITED)? {
                return Ok(exit);
            }
        }
    }

    /// Reaps it if it has ended.
    pub fn try_wait(&mut self) -> io::Result<Option<Exit>> {
        self.reap(WaitIdOptions::EXITED | WaitIdOptions::NOHANG)
    }

    fn reap(&mut self, options: WaitIdOptions) -> io::Result<Option<Exit>> {
        if self.exit.is_none() {
            let wait = || rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), options);
            let status = rustix::io::retry_on_intr(wait)?;
            self.exit = status.and_then(|status| match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => Some(Exit::Code(u8::try_from(code & 0xff).unwrap_or(u8::MAX))),
                (None, Some(signal)) => Some(Exit::Signal(signal)),
                (None, None) => None,
            });
        }
        Ok(self.exit)
    }
}

impl Drop for Created {
    fn drop(&mut self) {
        if self.exit.is_none() {
            let _ended = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
            let _reaped_elsewhere = self.wait();
        }
    }
}

/// Sets the size of a terminal by its host's end.
pub fn resize(terminal: impl AsFd, rows: u16, cols: u16) -> io::Result<()> {
    let size = rustix::termios::Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(rustix::termios::tcsetwinsize(terminal, size)?)
}
