//! One run of a program: its thread, its end, and how it is stopped.
//!
//! A guest runs on a thread of its own with a small single-threaded tokio runtime, so that a caller's runtime is never blocked by a guest
//! and the start pays for no pool. It is stopped in three ways at once: an epoch for code that loops, a dropped future for a wait (a read of
//! a pipe, a sleep), and, for a system call that hangs (a FIFO or a dead network disk in a preopen), giving up on the thread after
//! [`GRACE`]: the run is then reported as interrupted while its thread stays until the call returns, and the guest
//! ends at its next epoch check (a loop or a call) after that. Ending the process is the last word; a supervisor does that anyway.
//!
//! Not a ticking thread for epochs: nothing ticks while nobody interrupts. An interrupt raises the engine's epoch once; every guest of that
//! engine then looks at its own flag and all but one go on.

use std::fs::File;
use std::future::{Future, poll_fn};
use std::io::Write as _;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use wasmtime::{Engine, ResourceLimiter, Store, UpdateDeadline};
use wasmtime_wasi::I32Exit;

use crate::engine::Program;
use crate::link::{LinkError, Linked};
use crate::wasi::{self, GrantError, Grants};

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
    /// The status as docker would show it: a trap is like an abort (128 + 6), an interrupt like a kill (128 + 9), and 125 is the engine's own.
    pub fn status(&self) -> i32 {
        match self {
            Self::Code(code) => *code,
            Self::Trapped { .. } => 134,
            Self::Interrupted => 137,
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
    /// No thread or no tokio runtime.
    #[error("cannot start the guest's thread")]
    Thread(#[source] std::io::Error),
}

/// What the guest's thread, its interrupters and its waiter share.
#[derive(Debug)]
struct Shared {
    stop: AtomicBool,
    notify: Notify,
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
}

impl std::fmt::Debug for Interrupter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Interrupter").field("shared", &self.shared).finish_non_exhaustive()
    }
}

impl Interrupter {
    /// Ends the guest wherever it is; returns at once. Doing it twice, or after the end, changes nothing.
    pub fn interrupt(&self) {
        if self.shared.stop.swap(true, Ordering::SeqCst) {
            return;
        }
        self.engine.increment_epoch();
        self.shared.notify.notify_one();
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
    /// Starts the program. Errors come before any guest code runs.
    pub fn run(&self, mut grants: Grants) -> Result<Running, RunError> {
        let linked = self.linked(grants.entry.as_deref())?;
        let null = |file: &File| file.try_clone().map(Arc::new).map_err(GrantError::Stderr);
        let stdio = [null(&grants.stdin)?, null(&grants.stdout)?, null(&grants.stderr)?];
        let stderr = Arc::clone(&stdio[2]);
        let engine = self.engine().clone();
        let (sender, done) = oneshot::channel();
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            notify: Notify::new(),
            done: Mutex::new(Some(sender)),
        });
        let interrupter = Interrupter { shared: Arc::clone(&shared), engine: engine.clone() };
        let start: Start = match linked {
            Linked::Core(pre) => {
                let mut store = Store::new(&engine, wasi::p1(&mut grants, stdio)?);
                prepare(&mut store, &shared, |state| &mut state.meter);
                let entry = grants.entry.take().unwrap_or_else(|| "_start".to_owned());
                Box::new(move |shared| {
                    drive(shared, &stderr, async move {
                        let instance = pre.instantiate_async(&mut store).await.map_err(Failure::Instance)?;
                        let entry = instance
                            .get_typed_func::<(), ()>(&mut store, &entry)
                            .map_err(Failure::Instance)?;
                        entry.call_async(&mut store, ()).await.map_err(Failure::Guest)?;
                        Ok(0)
                    })
                })
            }
            Linked::Component(pre) => {
                let mut store = Store::new(&engine, wasi::p2(&mut grants, stdio)?);
                prepare(&mut store, &shared, |state| &mut state.meter);
                Box::new(move |shared| {
                    drive(shared, &stderr, async move {
                        let command = pre.instantiate_async(&mut store).await.map_err(Failure::Instance)?;
                        let result =
                            command.wasi_cli_run().call_run(&mut store).await.map_err(Failure::Guest)?;
                        Ok(i32::from(result.is_err()))
                    })
                })
            }
        };
        // What the guest does not hold closes now: a reader of its pipes must see the end when the guest ends.
        drop(grants);
        std::thread::Builder::new()
            .name("wasm".to_owned())
            .spawn(move || {
                let exit = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| start(&shared)));
                shared.finish(exit.unwrap_or_else(|_| Exit::Failed {
                    message: "the sandbox panicked, which is a bug of the host".to_owned(),
                }));
            })
            .map_err(RunError::Thread)?;
        Ok(Running { done, interrupter })
    }
}

/// Sets limits and the epoch's callback.
fn prepare<T: Send + 'static>(
    store: &mut Store<T>,
    shared: &Arc<Shared>,
    meter: impl (Fn(&mut T) -> &mut crate::limits::Meter) + Send + Sync + 'static,
) {
    store.limiter(move |state| meter(state) as &mut dyn ResourceLimiter);
    let shared = Arc::clone(shared);
    store.epoch_deadline_callback(move |_| {
        if shared.stop.load(Ordering::SeqCst) { Err(Stopped.into()) } else { Ok(UpdateDeadline::Continue(1)) }
    });
    store.set_epoch_deadline(1);
}

/// What the epoch's callback ends a guest with.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
struct Stopped;

/// Where a run failed.
enum Failure {
    Instance(wasmtime::Error),
    Guest(wasmtime::Error),
}

/// Runs the guest to its end, or to an interrupt, on this thread.
fn drive(shared: &Shared, stderr: &File, guest: impl Future<Output = Result<i32, Failure>>) -> Exit {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Exit::Failed { message: format!("no runtime for the guest: {error}") },
    };
    let outcome = runtime.block_on(async {
        let mut guest = pin!(guest);
        let mut stop = pin!(shared.notify.notified());
        poll_fn(|cx| {
            if shared.stop.load(Ordering::SeqCst) || stop.as_mut().poll(cx).is_ready() {
                return Poll::Ready(None);
            }
            guest.as_mut().poll(cx).map(Some)
        })
        .await
    });
    // Not waiting for a blocking call of the host that hangs.
    runtime.shutdown_background();
    match outcome {
        None => Exit::Interrupted,
        Some(Ok(code)) => Exit::Code(code),
        Some(Err(Failure::Guest(error))) => ended(&error, stderr),
        Some(Err(Failure::Instance(error))) => match ended(&error, stderr) {
            // A start function may exit, trap or be interrupted; anything else never ran.
            Exit::Trapped { message } if error.downcast_ref::<wasmtime::Trap>().is_none() => {
                Exit::Failed { message }
            }
            exit => exit,
        },
    }
}

/// What an error out of the guest means.
fn ended(error: &wasmtime::Error, mut stderr: &File) -> Exit {
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
    Exit::Trapped { message }
}
