//! WASI containers: translates [`Create`] into grants of `runtime_wasm` and its answers into this boundary's.
//!
//! A guest gets the container's root as `/`, writable, so that what it changes goes to the container's layer; the container's
//! arguments, environment and streams; and nothing else.
//!
//! Invariants:
//! - The program is looked up inside the root by the kernel (or a capability), never by joining host paths.
//! - Nothing is mounted anywhere: an overlay lives as long as the task's descriptor of it.
//! - The guest runs in this process, on a thread: ending the process ends it, whatever it does.
//!
//! **Signals.** A guest has no handlers, so a signal does what it does by default: SIGCHLD, SIGCONT, SIGURG, SIGWINCH (and 0)
//! nothing; those that would stop it for a while are refused; every other one ends it, with status 128+n.
//!
//! **Users.** A sandbox has none: `--user` is refused, and an image's own `USER` has no effect. The terminal of a guest has no
//! session, so its interrupt key is only a key.

mod memo;
#[cfg(target_os = "linux")]
#[path = "root_linux.rs"]
mod root;
#[cfg(not(target_os = "linux"))]
#[path = "root_other.rs"]
mod root;
#[cfg(unix)]
#[path = "terminal_unix.rs"]
mod terminal;
#[cfg(not(unix))]
#[path = "terminal_refused.rs"]
mod terminal;

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use runtime_wasm::{
    GrantError, Grants, Input, Interrupter, LinkError, LoadError, Preopen, Program, RunError, Runtime,
    SetupError, Source,
};
use tokio::sync::watch;

use super::{
    Create, Entry, ExecError, Executor, Exit, Process, Refusal, Settings, Stdio, Task, Terminal, Want,
    Workload,
};
use crate::model::{ContainerId, ErrorKind, NetworkMode, Packaging};
use memo::Memo;
use root::RootDir;
use terminal::Pty;

/// The executor's name.
pub const NAME: &str = "wasm";

/// The host side's view. The aliases are names that others have for running WASI images with wasmtime.
pub const ENTRY: Entry = Entry {
    name: NAME,
    aliases: &["wasmtime", "io.containerd.wasmtime.v1", "io.containerd.wasmtime.v2"],
    admit,
    open,
};

fn admit(workload: &Workload) -> Result<(), Refusal> {
    if !workload.platform.is_wasi() && !workload.names_wasm_file() && workload.packaging == Packaging::Image {
        return Err(Refusal::Platform { executor: NAME, platform: workload.platform.clone() });
    }
    match workload.wants.first() {
        Some(want) => Err(Refusal::Cannot { executor: NAME, what: want.describe() }),
        None => Ok(()),
    }
}

fn open(settings: &Settings) -> Result<Box<dyn Executor>, ExecError> {
    let runtime = Runtime::new(&runtime_wasm::Settings {
        cache_dir: Some(settings.cache.join("wasm")),
        ..runtime_wasm::Settings::default()
    })
    .map_err(|error| {
        let kind = match &error {
            SetupError::Cache(_) => ErrorKind::Unavailable,
            SetupError::Engine(_) => ErrorKind::Unsupported,
        };
        ExecError::failed(kind, "setting up the sandbox", error)
    })?;
    Ok(Box::new(Wasm {
        runtime,
        memo: Memo::new(settings.cache.join("wasm-digests")),
        memory: settings.guest_memory,
    }))
}

/// The executor.
#[derive(Debug)]
struct Wasm {
    runtime: Runtime,
    memo: Memo,
    memory: Option<u64>,
}

/// Why the program that was asked for does not run. The texts are docker's where it has one.
#[derive(Debug, thiserror::Error)]
enum ProgramError {
    #[error("no command specified")]
    None,
    #[error("exec: \"{name}\": no such file or directory")]
    Missing { name: String },
    #[error("exec: \"{name}\": is not a regular file: permission denied")]
    NotRegular { name: String },
    #[error("exec: \"{name}\"")]
    Open { name: String, source: io::Error },
    #[error("exec: \"{name}\"")]
    Load { name: String, source: LoadError },
    #[error("exec: \"{name}\"")]
    Link { name: String, source: LinkError },
}

impl ProgramError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::None => ErrorKind::InvalidInput,
            Self::Missing { .. } => ErrorKind::CommandNotFound,
            Self::NotRegular { .. } | Self::Open { .. } | Self::Link { .. } => {
                ErrorKind::CommandNotExecutable
            }
            Self::Load { source, .. } => match source {
                LoadError::Module(_) | LoadError::Compile(_) | LoadError::TooLarge { .. } => {
                    ErrorKind::CommandNotExecutable
                }
                LoadError::Read(_) | LoadError::Cache(_) => ErrorKind::Unavailable,
                LoadError::Digest { .. } => ErrorKind::Internal,
            },
        }
    }
}

impl From<ProgramError> for ExecError {
    fn from(error: ProgramError) -> Self {
        Self::failed(error.kind(), "loading the program", error)
    }
}

impl Wasm {
    /// Finds the program in the root, compiles it unless its code is cached, and binds its imports.
    fn load(&self, root: &RootDir, process: &Process) -> Result<Program, ProgramError> {
        let name = process.args.first().filter(|name| !name.is_empty()).ok_or(ProgramError::None)?.clone();
        let path = if name.starts_with('/') { name.clone() } else { format!("{}/{name}", process.cwd) };
        let file = match root.open(&format!("./{}", path.trim_start_matches('/'))) {
            Ok(file) => file,
            Err(error) if absent(&error) => return Err(ProgramError::Missing { name }),
            Err(source) => return Err(ProgramError::Open { name, source }),
        };
        match file.metadata() {
            Ok(metadata) if metadata.is_file() => {}
            Ok(_) => return Err(ProgramError::NotRegular { name }),
            Err(source) => return Err(ProgramError::Open { name, source }),
        }
        let program =
            self.compile(root, &file).map_err(|source| ProgramError::Load { name: name.clone(), source })?;
        match program.check() {
            Ok(()) => Ok(program),
            Err(source) => Err(ProgramError::Link { name, source }),
        }
    }

    /// Loads by the remembered digest, so that a program whose code is cached is not even read.
    fn compile(&self, root: &RootDir, file: &File) -> Result<Program, LoadError> {
        let mut compiling = |bytes| tracing::info!(bytes, "compiling the program, once");
        let identity = root.identity(file);
        if let Some(digest) = identity.as_ref().and_then(|identity| self.memo.recall(identity)) {
            let source = Source { input: Input::File(file), digest: Some(digest) };
            match self.runtime.load(&source, &mut compiling) {
                Err(LoadError::Digest { expected, actual }) => {
                    tracing::warn!(
                        expected,
                        actual,
                        "a remembered digest is not the program's; it is read again"
                    );
                }
                outcome => return outcome,
            }
        }
        let bytes = read(file).map_err(LoadError::Read)?;
        let digest = memo::digest(&bytes);
        let source = Source { input: Input::Bytes(&bytes), digest: Some(digest) };
        let program = self.runtime.load(&source, &mut compiling)?;
        if let Some(identity) = &identity {
            self.memo.remember(identity, digest);
        }
        Ok(program)
    }
}

/// The whole file; of one that is too large as much as lets the runtime say so.
fn read(mut file: &File) -> io::Result<Vec<u8>> {
    let limit = runtime_wasm::Settings::default().max_module_bytes;
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

#[async_trait]
impl Executor for Wasm {
    /// Blocks while a program is compiled for the first time: a supervisor has nothing else to do then.
    async fn create(&self, request: Create) -> Result<Box<dyn Task>, ExecError> {
        if request.host.network != NetworkMode::None {
            return Err(Refusal::Cannot { executor: NAME, what: Want::HostNetwork.describe() }.into());
        }
        let root = root::open(&request.root)?;
        let program = self.load(&root, &request.process)?;
        let (mut grants, terminal) = grants(request.process, request.stdio, &root)?;
        if let Some(bytes) = self.memory {
            grants.limits.memory_bytes = bytes;
        }
        Ok(Box::new(WasmTask {
            program,
            terminal,
            state: Mutex::new(State::Created(Box::new(grants))),
            root,
            signal: Arc::default(),
            exit: watch::Sender::new(None),
        }))
    }

    /// Nothing outlives the process that made it.
    async fn sweep(&self, _: &ContainerId) -> Result<(), ExecError> {
        Ok(())
    }
}

fn grants(process: Process, streams: Stdio, root: &RootDir) -> Result<(Grants, Option<Pty>), ExecError> {
    let (mut grants, terminal) = match streams {
        Stdio::Files { stdin, stdout, stderr } => (Grants::new(stdin, stdout, stderr), None),
        Stdio::Terminal(size) => {
            let (pty, [input, output, errors]) = terminal::open(size)?;
            (Grants { terminal: true, ..Grants::new(input, output, errors) }, Some(pty))
        }
    };
    grants.args = process.args;
    grants.env = process
        .env
        .into_iter()
        .map(|pair| match pair.split_once('=') {
            Some((name, value)) => (name.to_owned(), value.to_owned()),
            None => (pair, String::new()),
        })
        .collect();
    grants.cwd = Some(process.cwd);
    grants.preopens = vec![Preopen { host: root.host_path(), guest: "/".to_owned(), read_only: false }];
    Ok((grants, terminal))
}

fn not_started(error: RunError) -> ExecError {
    let kind = match &error {
        RunError::Link(_) => ErrorKind::CommandNotExecutable,
        RunError::Grant(GrantError::Nul { .. }) => ErrorKind::InvalidInput,
        RunError::Grant(_) | RunError::Thread(_) => ErrorKind::Unavailable,
    };
    ExecError::failed(kind, "starting the program", error)
}

/// A task was started before.
#[derive(Debug, thiserror::Error)]
#[error("it was started before")]
struct Started;

#[derive(Debug)]
enum State {
    /// What it will run with.
    Created(Box<Grants>),
    Started(Interrupter),
    /// It was taken to be started, and was not.
    Spent,
}

#[derive(Debug)]
struct WasmTask {
    program: Program,
    terminal: Option<Pty>,
    /// Held to the end: the last who closes an overlay waits for a disk, and that must not be the guest.
    root: RootDir,
    state: Mutex<State>,
    /// The signal that ends the guest; 0 for none yet.
    signal: Arc<AtomicU8>,
    exit: watch::Sender<Option<Exit>>,
}

impl WasmTask {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the guest with this signal; the first one counts. False when it does not run.
    fn interrupt(&self, signal: u8) -> bool {
        let State::Started(interrupter) = &*self.state() else { return false };
        let _first = self.signal.compare_exchange(0, signal, Ordering::SeqCst, Ordering::SeqCst);
        interrupter.interrupt();
        true
    }
}

/// What an end means here.
fn exit(end: &runtime_wasm::Exit, signal: u8) -> Exit {
    let code = match end {
        runtime_wasm::Exit::Interrupted => 128 + i32::from(signal),
        runtime_wasm::Exit::Failed { message } => {
            tracing::error!(message, "the program could not run");
            end.status()
        }
        _ => end.status(),
    };
    Exit { code, oom_killed: false }
}

#[async_trait]
impl Task for WasmTask {
    fn pid(&self) -> u32 {
        std::process::id()
    }

    async fn start(&self) -> Result<(), ExecError> {
        let mut state = self.state();
        if !matches!(*state, State::Created(_)) {
            return Err(ExecError::failed(ErrorKind::Conflict, "starting the program", Started));
        }
        let State::Created(grants) = std::mem::replace(&mut *state, State::Spent) else {
            return Err(ExecError::NotRunning);
        };
        let running = self.program.run(*grants).map_err(not_started)?;
        *state = State::Started(running.interrupter());
        drop(state);
        let (signal, ended) = (Arc::clone(&self.signal), self.exit.clone());
        tokio::spawn(async move {
            let end = running.finished().await;
            ended.send_replace(Some(exit(&end, signal.load(Ordering::SeqCst))));
        });
        Ok(())
    }

    async fn wait(&self) -> Result<Exit, ExecError> {
        let mut ended = self.exit.subscribe();
        let exit = ended.wait_for(Option::is_some).await.map_err(|_| ExecError::NotRunning)?;
        exit.ok_or(ExecError::NotRunning)
    }

    async fn signal(&self, signal: u8) -> Result<(), ExecError> {
        if self.exit.borrow().is_some() || !matches!(*self.state(), State::Started(_)) {
            return Err(ExecError::NotRunning);
        }
        match action(signal) {
            Some(Action::Ignore) => Ok(()),
            Some(Action::End) if self.interrupt(signal) => Ok(()),
            Some(Action::End) => Err(ExecError::NotRunning),
            Some(Action::Stop) => {
                Err(Refusal::Cannot { executor: NAME, what: "stop a program for a while" }.into())
            }
            None => {
                Err(ExecError::failed(ErrorKind::InvalidInput, "sending the signal", NoSignal { signal }))
            }
        }
    }

    async fn delete(self: Box<Self>) -> Result<(), ExecError> {
        if self.exit.borrow().is_none() && self.interrupt(9) {
            self.wait().await?;
        }
        super::drop_later(self.root);
        Ok(())
    }

    fn terminal(&self) -> Option<&dyn Terminal> {
        self.terminal.as_ref().map(|pty| pty as &dyn Terminal)
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{signal} is not the number of a signal")]
struct NoSignal {
    signal: u8,
}

/// What a signal does to a program without handlers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Ignore,
    Stop,
    End,
}

/// The default action, signal(7), by Linux number.
fn action(signal: u8) -> Option<Action> {
    match signal {
        0 | 17 | 18 | 23 | 28 => Some(Action::Ignore),
        19..=22 => Some(Action::Stop),
        1..=64 => Some(Action::End),
        65.. => None,
    }
}

#[cfg(test)]
mod tests;
