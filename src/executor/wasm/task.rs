//! One program that runs: the container's first, or an `exec` beside it.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use runtime_wasm::{
    Account, GrantError, Grants, Interrupter, Network, Preopen, Program, Role, RunError, ServeLimits, Serving,
};
use tokio::sync::watch;

use super::NAME;
use super::place::Place;
use super::ports::{self, Listeners};
use super::program::{Loaded, Loader};
use super::root::{self, RootDir};
use super::terminal::{self, Pty};
use crate::executor::{
    Exec, ExecError, ExecRequest, Exit, Limits, Pause, Process, Refusal, Stdio, Task, Terminal, Usage, Want,
};
use crate::model::{ContainerId, ErrorKind, PublishedPort};

/// What all programs of a container share.
#[derive(Debug)]
pub(super) struct Container {
    pub(super) loader: Arc<Loader>,
    /// Held to the end; `None` only while it is dropped.
    pub(super) root: Option<Arc<RootDir>>,
    pub(super) preopens: Vec<Preopen>,
    pub(super) network: Network,
    /// Bounds of a server of HTTP.
    pub(super) serving: ServeLimits,
    /// Where its programs run, if they do so apart from the host.
    pub(super) place: Option<Arc<Place>>,
    pub(super) account: Account,
    /// Whether the process is the container's own, and its programs' threads may be confined for good.
    pub(super) confined: bool,
    /// The first program, as named; `#function` is one of its functions.
    pub(super) program: String,
    pub(super) env: Vec<String>,
    pub(super) cwd: String,
    pub(super) id: ContainerId,
    pub(super) life: Mutex<Life>,
}

/// What of a container changes.
#[derive(Debug, Default)]
pub(super) struct Life {
    pub(super) frozen: bool,
    /// The first program has ended.
    over: bool,
    /// Programs beside the first, which end with it.
    beside: Vec<(Interrupter, Arc<AtomicU8>)>,
}

impl Container {
    pub(super) fn life(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends everything that runs beside the first program.
    fn end(&self) {
        let mut life = self.life();
        life.over = true;
        for (interrupter, signal) in life.beside.drain(..) {
            let _first = signal.compare_exchange(0, SIGKILL, Ordering::SeqCst, Ordering::SeqCst);
            interrupter.interrupt();
        }
    }

    /// Remembers a program beside the first; one that comes too late ends at once.
    fn join(&self, interrupter: Interrupter, signal: &Arc<AtomicU8>) {
        let late = {
            let mut life = self.life();
            life.beside.push((interrupter, Arc::clone(signal)));
            life.over
        };
        if late {
            self.end();
        }
    }
}

impl Drop for Container {
    /// The last who closes an overlay waits for a disk, and that must not be the event loop.
    fn drop(&mut self) {
        if let Some(root) = self.root.take() {
            crate::executor::drop_later(root);
        }
    }
}

fn not_started(error: RunError) -> ExecError {
    let kind = match &error {
        RunError::Link(_) | RunError::Server => ErrorKind::CommandNotExecutable,
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
    Created(Box<(Grants, Option<Serving>)>),
    Started(Interrupter),
    /// It was taken to be started, and was not.
    Spent,
}

/// A program of a container.
#[derive(Debug)]
pub(super) struct WasmTask {
    pub(super) container: Arc<Container>,
    program: Arc<Program>,
    terminal: Option<Pty>,
    state: Mutex<State>,
    /// It began the container, and ends it.
    first: bool,
    /// What it listens on, on the host.
    published: Vec<PublishedPort>,
    /// The signal that ends the guest; 0 for none yet.
    signal: Arc<AtomicU8>,
    exit: watch::Sender<Option<Exit>>,
}

fn variable(pair: String) -> (String, String) {
    match pair.split_once('=') {
        Some((name, value)) => (name.to_owned(), value.to_owned()),
        None => (pair, String::new()),
    }
}

impl WasmTask {
    /// Makes a program ready: found, compiled, its ports bound.
    pub(super) fn create(
        container: &Arc<Container>,
        process: Process,
        streams: Stdio,
        listeners: Listeners,
    ) -> Result<Self, ExecError> {
        let Some(root) = &container.root else { return Err(ExecError::NotRunning) };
        let mut named = process.args.first().cloned().unwrap_or_default();
        if named.starts_with('#') {
            named.insert_str(0, container.program.split('#').next().unwrap_or_default());
        }
        let Loaded { program, entry } = container.loader.load(root, &named, &process.cwd)?;
        let first = matches!(listeners, Listeners::Wanted(_));
        let mut published = Vec::new();
        let serving = match (program.role(), &entry, listeners) {
            (Role::Server, None, Listeners::Wanted(wanted)) => {
                let networked = container.place.as_ref().filter(|place| place.network().is_some());
                let listeners = if let Some(place) = networked {
                    place.run(move || ports::inside(&wanted))??
                } else {
                    let (listeners, bound) = ports::bind(&wanted)?;
                    published = bound;
                    listeners
                };
                Some(Serving { listeners, limits: container.serving })
            }
            _ => None,
        };
        let (mut grants, terminal) = match streams {
            Stdio::Files { stdin, stdout, stderr } => (Grants::new(stdin, stdout, stderr), None),
            Stdio::Terminal(size) => {
                let (pty, [input, output, errors]) = terminal::open(size)?;
                (Grants { terminal: true, ..Grants::new(input, output, errors) }, Some(pty))
            }
        };
        grants.args = process.args;
        grants.env = process.env.into_iter().map(variable).collect();
        grants.cwd = Some(process.cwd);
        grants.preopens.clone_from(&container.preopens);
        grants.network.clone_from(&container.network);
        grants.account = Some(container.account.clone());
        let fence = || root::fence(root, &container.preopens, container.network.any());
        grants.confine = container.confined.then(fence).flatten();
        grants.entry = entry;
        Ok(Self {
            container: Arc::clone(container),
            program: Arc::new(program),
            terminal,
            state: Mutex::new(State::Created(Box::new((grants, serving)))),
            first,
            published,
            signal: Arc::default(),
            exit: watch::Sender::new(None),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the container's program answers requests.
    pub(super) fn serves(&self) -> bool {
        self.program.role() == Role::Server
    }

    /// Ends the guest with this signal; the first one counts. False when it does not run.
    fn interrupt(&self, signal: u8) -> bool {
        let State::Started(interrupter) = &*self.state() else { return false };
        if signal != SIGKILL && interrupter.drain() {
            return true;
        }
        let _first = self.signal.compare_exchange(0, signal, Ordering::SeqCst, Ordering::SeqCst);
        interrupter.interrupt();
        true
    }
}

const SIGKILL: u8 = 9;

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
    let oom_killed = matches!(end, runtime_wasm::Exit::Trapped { starved: true, .. });
    Exit { code, oom_killed }
}

#[async_trait]
impl Task for WasmTask {
    fn pid(&self) -> u32 {
        std::process::id()
    }

    fn network_pid(&self) -> Option<u32> {
        self.container.place.as_ref().and_then(|place| place.network())
    }

    fn published(&self) -> Vec<PublishedPort> {
        self.published.clone()
    }

    fn walls(&self) -> Vec<&'static str> {
        let place = self.container.place.as_ref();
        place.map_or_else(Vec::new, |place| place.walls(self.container.confined))
    }

    async fn start(&self) -> Result<(), ExecError> {
        let mut state = self.state();
        if !matches!(*state, State::Created(_)) {
            return Err(ExecError::failed(ErrorKind::Conflict, "starting the program", Started));
        }
        let State::Created(made) = std::mem::replace(&mut *state, State::Spent) else {
            return Err(ExecError::NotRunning);
        };
        let program = Arc::clone(&self.program);
        let begin = move || match *made {
            (grants, None) => program.run(grants),
            (grants, Some(serving)) => program.serve(grants, serving),
        };
        // Threads that it starts are where it is started.
        let running = match &self.container.place {
            Some(place) => {
                place.confine()?;
                place.run(begin)?
            }
            None => begin(),
        };
        let running = running.map_err(not_started)?;
        *state = State::Started(running.interrupter());
        drop(state);
        let (signal, ended) = (Arc::clone(&self.signal), self.exit.clone());
        if !self.first {
            self.container.join(running.interrupter(), &signal);
        }
        let container = self.first.then(|| Arc::clone(&self.container));
        tokio::spawn(async move {
            let end = running.finished().await;
            if let Some(container) = container {
                container.end();
            }
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
        if self.exit.borrow().is_none() && self.interrupt(SIGKILL) {
            self.wait().await?;
        }
        Ok(())
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

#[async_trait]
impl Exec for WasmTask {
    /// Another module of the root, or another function of the program, under the container's grants.
    async fn exec(&self, request: ExecRequest) -> Result<Box<dyn Task>, ExecError> {
        {
            let life = self.container.life();
            if life.over {
                return Err(ExecError::NotRunning);
            }
            if life.frozen {
                return Err(ExecError::Paused { id: self.container.id.clone() });
            }
        }
        let mut process = request.process;
        let refused = [(request.privileged, Want::Privileged), (!process.user.is_empty(), Want::User)];
        if let Some((_, want)) = refused.into_iter().find(|(asked, _)| *asked) {
            return Err(Refusal::Cannot { executor: NAME, what: want.describe() }.into());
        }
        if process.cwd.is_empty() {
            process.cwd.clone_from(&self.container.cwd);
        }
        if process.env.is_empty() {
            process.env.clone_from(&self.container.env);
        }
        Ok(Box::new(Self::create(&self.container, process, request.stdio, Listeners::Nothing)?))
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
