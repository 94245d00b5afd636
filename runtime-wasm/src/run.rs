//! One run of a program: its thread, its end, and how it is stopped.
//!
//! A guest runs on a thread of its own with a small single-threaded tokio runtime, so that a caller's runtime is never blocked by a guest
//! and the start pays for no pool. It is stopped in three ways at once: an epoch for code that loops, a dropped future for a wait (a read of
//! a pipe, a sleep), and, for a system call that hangs (a FIFO or a dead network disk in a preopen), giving up on the thread after
//! [`GRACE`]: the run is then reported as interrupted while its thread stays until the call returns, and the guest
//! ends at its next epoch check (a loop or a call) after that. Ending the process is the last word; a supervisor does that anyway.
//!
//! An interrupt raises the engine's epoch once; every guest of that engine then looks at its own flag and all but one go on. Nothing
//! ticks meanwhile, unless something must be metered (see `control`).

use std::fs::File;
use std::future::Future;
use std::io::Write as _;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use wasmtime::{Engine, Store};
use wasmtime_wasi::I32Exit;

use crate::control::{Account, Stop, Stopped};
use crate::engine::Program;
use crate::invoke;
use crate::link::{Export, LinkError, Linked};
use crate::wasi::{self, Confine, GrantError, Grants, Streams};

/// How long an interrupted guest may stay in a system call before it is given up.
const GRACE: Duration = Duration::from_millis(500);

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The program ended by itself, with this status (0 to 255).
    Code(i32),
    /// The program did what WebAssembly forbids; the message has the backtrace, and was written to its standard error.
    Trapped {
        /// For people.
        message: String,
        /// It had asked for more memory than its limit before.
        starved: bool,
    },
    /// [`Interrupter::interrupt`] ended it.
    Interrupted,
    /// It never ran: its limits do not allow its first instance, or the host failed.
    Failed {
        /// For people.
        message: String,
    },
}

impl Exit {
    /// The status as docker would show it: a trap is like an abort (128 + 6), an interrupt like a kill (128 + 9), as is a trap after
    /// memory ran out, and 125 is the engine's own.
    pub fn status(&self) -> i32 {
        match self {
            Self::Code(code) => *code,
            Self::Trapped { starved: false, .. } => 134,
            Self::Interrupted | Self::Trapped { starved: true, .. } => 137,
            Self::Failed { .. } => 125,
        }
    }
}

/// Why a run does not begin.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Imports or the entry point.
    #[error("the program cannot be linked")]
    Link(#[from] LinkError),
    /// A directory, argument or stream.
    #[error("the grants cannot be given")]
    Grant(#[from] GrantError),
    /// It answers requests; [`Program::serve`] runs it.
    #[error("the program is a server of HTTP, and nothing says where it listens")]
    Server,
    /// No thread or no tokio runtime.
    #[error("cannot start the guest's thread")]
    Thread(#[source] std::io::Error),
}

/// What the guest's thread, its interrupters and its waiter share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) stop: Arc<Stop>,
    /// Said to a server that is to answer what it has begun, and no more.
    pub(crate) drain: Stop,
    done: Mutex<Option<oneshot::Sender<Exit>>>,
}

impl Shared {
    /// Reports the end; the first report counts.
    fn finish(&self, exit: Exit) {
        if let Some(done) = self.done.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // Nobody waits any more: then nobody wants to know.
            let _ = done.send(exit);
        }
    }
}

/// Stops one run, from any thread.
#[derive(Clone)]
pub struct Interrupter {
    shared: Arc<Shared>,
    engine: Engine,
    account: Account,
    serves: bool,
}

impl std::fmt::Debug for Interrupter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Interrupter").field("shared", &self.shared).finish_non_exhaustive()
    }
}

impl Interrupter {
    /// Ends the guest wherever it is; returns at once. Doing it twice, or after the end, changes nothing.
    pub fn interrupt(&self) {
        if !self.shared.stop.say() {
            return;
        }
        self.engine.increment_epoch();
        let shared = Arc::clone(&self.shared);
        let spawned =
            std::thread::Builder::new().name("wasm-grace".to_owned()).stack_size(64 << 10).spawn(move || {
                std::thread::sleep(GRACE);
                shared.finish(Exit::Interrupted);
            });
        if let Err(error) = spawned {
            tracing::warn!(%error, "no thread to give up on a guest that hangs in a system call");
        }
    }

    /// Asks a server to end when it has answered what it has begun; it then ends with status 0. False when this is no server.
    pub fn drain(&self) -> bool {
        if self.serves {
            self.shared.drain.say();
        }
        self.serves
    }

    /// What the run and all that share its account use.
    pub fn account(&self) -> &Account {
        &self.account
    }
}

/// The body of a guest's thread.
type Start = Box<dyn FnOnce(&Arc<Shared>) -> Exit + Send>;

/// A program that runs.
#[derive(Debug)]
pub struct Running {
    done: oneshot::Receiver<Exit>,
    interrupter: Interrupter,
}

impl Running {
    /// A handle that stops this run.
    pub fn interrupter(&self) -> Interrupter {
        self.interrupter.clone()
    }

    /// Blocks until the end. For callers outside any async runtime.
    pub fn wait(self) -> Exit {
        self.done.blocking_recv().unwrap_or_else(|_| lost())
    }

    /// Waits until the end. Dropping the future does not stop the guest.
    pub async fn finished(self) -> Exit {
        self.done.await.unwrap_or_else(|_| lost())
    }
}

fn lost() -> Exit {
    Exit::Failed { message: "the guest's thread ended without a report".to_owned() }
}

impl Program {
    /// Starts the program, or calls its [`entry`](Grants::entry). Errors come before any guest code runs.
    pub fn run(&self, grants: Grants) -> Result<Running, RunError> {
        let linked = self.linked(grants.entry.as_deref())?;
        let account = self.account_of(&grants);
        let streams = Streams::new(&grants, self.kind())?;
        let shared = Shared::pending();
        let (limit, stop) = (GrantError::Limit, &shared.stop);
        let start: Start = match linked {
            Linked::Core(pre) => {
                let mut store = Store::new(self.engine(), wasi::p1(&grants, &streams, &account)?);
                account.govern(&mut store, stop, false, |state| &mut state.meter).map_err(limit)?;
                drive_core(store, pre, &grants, &streams.files, account.clone())
            }
            Linked::Component(pre, export) => {
                let mut store = Store::new(self.engine(), wasi::p2(&grants, &streams, &account, true)?);
                account.govern(&mut store, stop, false, |state| &mut state.meter).map_err(limit)?;
                self.drive_component(store, pre, export, &grants, &streams.files, account.clone())?
            }
        };
        let confine = grants.confine.clone();
        // What the guest does not hold closes now: a reader of its pipes must see the end when the guest ends.
        drop((grants, streams));
        self.begin(shared, account, confine, false, start)
    }

    /// What a run is charged to.
    pub(crate) fn account_of(&self, grants: &Grants) -> Account {
        grants.account.clone().unwrap_or_else(|| Account::new(self.engines(), grants.limits))
    }

    /// Starts the thread.
    pub(crate) fn begin(
        &self,
        shared: Pending,
        account: Account,
        confine: Option<Confine>,
        serves: bool,
        start: Start,
    ) -> Result<Running, RunError> {
        let Pending { shared, done } = shared;
        let interrupter =
            Interrupter { shared: Arc::clone(&shared), engine: self.engine().clone(), account, serves };
        std::thread::Builder::new()
            .name("wasm".to_owned())
            .spawn(move || {
                if let Some(Err(error)) = confine.map(|confine| confine.confine()) {
                    shared.finish(Exit::Failed { message: format!("confining the guest's thread: {error}") });
                    return;
                }
                let exit = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| start(&shared)));
                shared.finish(exit.unwrap_or_else(|_| Exit::Failed {
                    message: "the sandbox panicked, which is a bug of the host".to_owned(),
                }));
            })
            .map_err(RunError::Thread)?;
        Ok(Running { done, interrupter })
    }

    fn drive_component(
        &self,
        mut store: Store<wasi::P2>,
        pre: wasmtime::component::InstancePre<wasi::P2>,
        export: Export,
        grants: &Grants,
        stdio: &[Arc<File>; 3],
        account: Account,
    ) -> Result<Start, RunError> {
        let (entry, args) = (grants.entry.clone(), parameters(grants));
        match export {
            _ if entry.is_some() => {}
            Export::Serve2(_) | Export::Serve3(_) => return Err(RunError::Server),
            Export::Functions => return Err(self.nothing_to_run().into()),
            Export::Run2(_) | Export::Run3(_) => {}
        }
        let [_, stdout, stderr] = stdio.clone();
        Ok(Box::new(move |shared| {
            let errors = Arc::clone(&stderr);
            drive(shared, &account, &stderr, async {
                let ended = match entry {
                    Some(entry) => call(&mut store, &pre, &entry, &args, [&stdout, &errors]).await,
                    None => begin(&mut store, export).await,
                };
                account.burnt(&mut store, |state| &mut state.meter);
                ended
            })
        }))
    }
}

fn drive_core(
    mut store: Store<wasi::P1>,
    pre: wasmtime::InstancePre<wasi::P1>,
    grants: &Grants,
    stdio: &[Arc<File>; 3],
    account: Account,
) -> Start {
    let (entry, args) = (grants.entry.clone(), parameters(grants));
    let [_, stdout, stderr] = stdio.clone();
    Box::new(move |shared| {
        drive(shared, &account, &stderr, async {
            let ended = begin_core(&mut store, &pre, entry.as_deref(), &args, &stdout).await;
            account.burnt(&mut store, |state| &mut state.meter);
            ended
        })
    })
}

async fn begin_core(
    store: &mut Store<wasi::P1>,
    pre: &wasmtime::InstancePre<wasi::P1>,
    entry: Option<&str>,
    args: &[String],
    stdout: &File,
) -> Result<i32, Failure> {
    let instance = pre.instantiate_async(&mut *store).await.map_err(Failure::Instance)?;
    if let Some(entry) = entry {
        return Ok(say(stdout, &invoke::core(store, &instance, entry, args).await?));
    }
    let entry = instance.get_typed_func::<(), ()>(&mut *store, "_start").map_err(Failure::Instance)?;
    entry.call_async(store, ()).await.map_err(Failure::Guest)?;
    Ok(0)
}

/// Calls a function of a component by its name.
async fn call(
    store: &mut Store<wasi::P2>,
    pre: &wasmtime::component::InstancePre<wasi::P2>,
    entry: &str,
    args: &[String],
    [stdout, stderr]: [&File; 2],
) -> Result<i32, Failure> {
    let instance = pre.instantiate_async(&mut *store).await.map_err(Failure::Instance)?;
    let (results, good) = invoke::component(store, &instance, entry, args).await?;
    Ok(if good { say(stdout, &results) } else { say(stderr, &results).max(1) })
}

/// Runs a component that begins and ends.
async fn begin(store: &mut Store<wasi::P2>, export: Export) -> Result<i32, Failure> {
    let result = match export {
        Export::Run2(pre) => {
            let command = pre.instantiate_async(&mut *store).await.map_err(Failure::Instance)?;
            command.wasi_cli_run().call_run(store).await.map_err(Failure::Guest)?
        }
        Export::Run3(pre) => {
            let command = pre.instantiate_async(&mut *store).await.map_err(Failure::Instance)?;
            store
                .run_concurrent(async |accessor| command.wasi_cli_run().call_run(accessor).await)
                .await
                .flatten()
                .map_err(Failure::Guest)?
        }
        // Seen to before the thread was started.
        Export::Serve2(_) | Export::Serve3(_) | Export::Functions => Err(()),
    };
    Ok(i32::from(result.is_err()))
}

/// A run that has not begun.
pub(crate) struct Pending {
    shared: Arc<Shared>,
    done: oneshot::Receiver<Exit>,
}

impl std::ops::Deref for Pending {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

impl Shared {
    pub(crate) fn pending() -> Pending {
        let (sender, done) = oneshot::channel();
        let shared = Self { stop: Arc::default(), drain: Stop::default(), done: Mutex::new(Some(sender)) };
        Pending { shared: Arc::new(shared), done }
    }
}

/// What follows the program's name.
fn parameters(grants: &Grants) -> Vec<String> {
    grants.args.iter().skip(1).cloned().collect()
}

/// Writes a function's results; the status that this gives.
fn say(mut to: &File, text: &str) -> i32 {
    i32::from(to.write_all(text.as_bytes()).is_err())
}

/// Where a run failed.
pub(crate) enum Failure {
    Instance(wasmtime::Error),
    Guest(wasmtime::Error),
}

/// Runs the guest to its end, or to an interrupt, on this thread.
fn drive(
    shared: &Shared,
    account: &Account,
    stderr: &File,
    guest: impl Future<Output = Result<i32, Failure>>,
) -> Exit {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Exit::Failed { message: format!("no runtime for the guest: {error}") },
    };
    let ticks = account.metered();
    let outcome = runtime.block_on(async {
        let mut guest = pin!(guest);
        let mut stop = pin!(shared.stop.set());
        let mut frozen = account.frozen();
        loop {
            let ice = *frozen.borrow_and_update();
            tokio::select! {
                biased;
                () = &mut stop => return None,
                // The account lives as long as this run, so that the word always comes.
                _ = frozen.changed() => {}
                outcome = &mut guest, if !ice => return Some(outcome),
            }
        }
    });
    drop(ticks);
    // Not waiting for a blocking call of the host that hangs.
    runtime.shutdown_background();
    match outcome {
        None => Exit::Interrupted,
        Some(Ok(code)) => Exit::Code(code),
        Some(Err(Failure::Guest(error))) => ended(&error, account, stderr),
        Some(Err(Failure::Instance(error))) => match ended(&error, account, stderr) {
            // A start function may exit, trap or be interrupted; anything else never ran.
            Exit::Trapped { message, .. } if error.downcast_ref::<wasmtime::Trap>().is_none() => {
                Exit::Failed { message }
            }
            exit => exit,
        },
    }
}

/// What an error out of the guest means.
fn ended(error: &wasmtime::Error, account: &Account, mut stderr: &File) -> Exit {
    if let Some(exit) = error.downcast_ref::<I32Exit>() {
        return Exit::Code(exit.0 & 0xff);
    }
    if error.downcast_ref::<Stopped>().is_some() {
        return Exit::Interrupted;
    }
    let message = format!("{error:?}");
    if let Err(error) = writeln!(stderr, "error: {message}") {
        tracing::debug!(%error, "the guest's standard error does not take the report of its trap");
    }
    Exit::Trapped { message, starved: account.starved() }
}
