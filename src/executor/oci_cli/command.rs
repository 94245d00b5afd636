//! Running the runtime's commands.
//!
//! Invariants:
//! - Every command runs in a mount namespace of its own ([`Stage`]) and in the bundle's directory, with no descriptor of ours.
//! - A command that does not end is killed, and that is an error: nothing waits for ever for another program.
//! - What it says goes to files of the bundle and not to pipes: a runtime may leave a process behind that holds them open.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use runtime_linux::foreign::Stage;
use rustix::fs::{Mode, OFlags};

use super::failure::{self, Said};
use super::file_error;
use crate::executor::ExecError;
use crate::executor::runtimes::bounded;
use crate::model::{ContainerId, ErrorKind, OciRuntime};

/// How long a command may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// More of what a runtime says is not read, in bytes.
const MAX_SAID: u64 = 64 << 10;

/// Runs what may wait on a thread of its own.
pub(super) async fn aside<T: Send + 'static>(
    job: impl FnOnce() -> Result<T, ExecError> + Send + 'static,
) -> Result<T, ExecError> {
    let failed = |error| ExecError::failed(ErrorKind::Internal, "running on a thread", error);
    tokio::task::spawn_blocking(job).await.map_err(failed)?
}

/// A runtime and one container of it.
#[derive(Debug, Clone)]
pub(super) struct Runtime {
    program: OciRuntime,
    /// The bundle's directory.
    pub(super) home: PathBuf,
    pub(super) id: ContainerId,
    /// The path of its control group.
    pub(super) group: String,
}

/// The standard streams of a command, which are what a new process inherits.
#[derive(Debug)]
pub(super) struct Streams {
    pub(super) stdin: File,
    pub(super) stdout: File,
    pub(super) stderr: File,
}

impl Runtime {
    pub(super) fn new(program: &OciRuntime, home: &Path, id: &ContainerId, group: String) -> Self {
        Self { program: program.clone(), home: home.to_owned(), id: id.clone(), group }
    }

    /// Where a file of the bundle is.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.home.join(name)
    }

    /// Runs a command whose output nobody needs.
    pub(super) fn run(&self, arguments: &[&str]) -> Result<(), ExecError> {
        self.run_on(&Stage::default(), arguments, None)
    }

    /// Runs a command on a prepared stage; with streams of its own, if they are for a new process.
    pub(super) fn run_on(
        &self,
        stage: &Stage,
        arguments: &[&str],
        streams: Option<Streams>,
    ) -> Result<(), ExecError> {
        // Two commands at once must not read each other's words.
        let nonce = nonce();
        let (log, out) = (self.file(&format!("log-{nonce}")), self.file(&format!("out-{nonce}")));
        let make = |path: &Path| File::create(path).map_err(file_error("making the runtime's log", path));
        make(&log)?;
        let said = make(&out)?;
        let copy = |of: &File| of.try_clone().map_err(file_error("making the runtime's log", &out));
        let (stdin, stdout, errors) = match streams {
            Some(Streams { stdin, stdout, stderr }) => (Stdio::from(stdin), stdout, stderr),
            None => (Stdio::null(), copy(&said)?, said),
        };
        let stderr = copy(&errors)?;
        let mut command = Command::new(&self.program.path);
        command.args(&self.program.args);
        command.arg("--root").arg(self.file("state")).arg("--log").arg(&log);
        command.args(["--log-format", "json"]).args(arguments).current_dir(&self.home);
        command.stdin(stdin).stdout(stdout).stderr(stderr);
        // Given by a service manager to the engine, they mean nothing to a container's runtime.
        for name in ["NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"] {
            command.env_remove(name);
        }
        let program = self.program.path.display().to_string();
        let ended = stage.run(|| bounded(command.spawn()?, PATIENCE));
        // Ours are closed with it, or the end of a pipe would never be seen.
        drop(command);
        let failed = ended.as_ref().is_ok_and(|ended| ended.as_ref().is_ok_and(|status| !status.success()));
        let text = if failed { said_in(&log, &out, &errors) } else { String::new() };
        drop(errors);
        let _gone = (std::fs::remove_file(&log), std::fs::remove_file(&out));
        let verb = arguments.first().copied().unwrap_or_default().to_owned();
        match ended.map_err(failure::stage)? {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(failure::command(Said { program, verb, status: status.to_string(), text })),
            Err(source) => Err(failure::unstarted(program, verb, source)),
        }
    }
}

/// A part of a file's name that no other command of this process has.
fn nonce() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// What a runtime said: the errors of its log, else everything that it wrote. Where it wrote to a new process's pipe, it is
/// still in that: nobody reads before a process has begun.
fn said_in(log: &Path, out: &Path, errors: &File) -> String {
    let read = |file: std::io::Result<File>| {
        let mut text = Vec::new();
        let opened = file.map(|file| std::io::Read::take(file, MAX_SAID));
        let _shorter = opened.and_then(|mut file| std::io::Read::read_to_end(&mut file, &mut text));
        String::from_utf8_lossy(&text).trim().to_owned()
    };
    if let Some(text) = failure::errors_of_log(&read(File::open(log))) {
        return text;
    }
    let text = read(File::open(out));
    if !text.is_empty() {
        return text;
    }
    let pipe = format!("/proc/self/fd/{}", errors.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    read(rustix::fs::open(pipe, flags, Mode::empty()).map(File::from).map_err(std::io::Error::from))
}
