//! What runs under one set of grants shares one account: its memory, its processor time, whether it is frozen.
//!
//! A container's first program, every `exec` and every instance of a server are entries of the same account. A guest looks at it at
//! epoch checks (loops and calls); an epoch passes when somebody interrupts or freezes, and every [`TICK`] while something runs that
//! must be metered: code under a limit of processors, and requests, which must let each other run. Otherwise nothing ticks.
//!
//! **Processors.** A tick seen by guest code is a tick of processor time. Time flows into the account at the allowed rate and up to
//! [`BURST`] is saved; who overdraws it waits. No clock of threads is read, so it is the same on every system.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};
use wasmtime::{AsContextMut, ResourceLimiter, Store, UpdateDeadline};

use crate::limits::{Ledger, Limits, Meter};
use crate::pool::Engines;

/// How often running guests are looked at.
const TICK: Duration = Duration::from_millis(10);
/// For how many further looks the thread that lets epochs pass stays awake: a server's next request comes soon, and waking it for each
/// would cost as much as the request.
const LINGER: u32 = 50;
/// How much unused processor time is saved.
const BURST: Duration = Duration::from_millis(50);

/// What a run of programs uses, now and in total.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of linear memory now.
    pub memory: u64,
    /// The most there were.
    pub memory_peak: u64,
    /// How many there may be.
    pub memory_limit: u64,
    /// Requests that were answered.
    pub requests: u64,
    /// Of them with a status of 500 and above.
    pub failures: u64,
    /// Instructions that were used up, as [`Limits::fuel`] counts them; `None` where nothing counts them. What runs is asked by this
    /// very look, so that its part is known to the next.
    pub fuel: Option<u64>,
}

/// What everything under one set of grants shares. Clones are the same account.
#[derive(Clone)]
pub struct Account(Arc<Inner>);

struct Inner {
    engines: Engines,
    limits: Limits,
    ledger: Arc<Ledger>,
    pace: Mutex<Option<Pace>>,
    frozen: watch::Sender<bool>,
    requests: AtomicU64,
    failures: AtomicU64,
    fuel: AtomicU64,
    ticker: Arc<Ticker>,
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("usage", &self.usage()).finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.ticker.state().closed = true;
        self.ticker.changed.notify_all();
    }
}

/// The flow of processor time.
#[derive(Clone, Copy, Debug)]
struct Pace {
    rate: f64,
    saved: f64,
    at: Instant,
}

impl Pace {
    fn new(rate: f64) -> Self {
        Self { rate, saved: BURST.as_secs_f64() * rate, at: Instant::now() }
    }

    /// Takes one tick; how long to wait until it is paid for.
    fn charge(&mut self, now: Instant) -> Option<Duration> {
        let flowed = now.saturating_duration_since(self.at).as_secs_f64() * self.rate;
        self.at = now;
        self.saved = (self.saved + flowed).min(BURST.as_secs_f64() * self.rate.max(1.0)) - TICK.as_secs_f64();
        // What is less than a nanosecond is rounding.
        (self.saved < -1e-9).then(|| Duration::from_secs_f64((-self.saved / self.rate).min(10.0)))
    }
}

/// The thread that lets epochs pass.
#[derive(Default)]
struct Ticker {
    state: Mutex<Ticking>,
    changed: Condvar,
}

#[derive(Default)]
struct Ticking {
    wanted: usize,
    running: bool,
    asleep: bool,
    closed: bool,
}

impl Ticker {
    fn state(&self) -> MutexGuard<'_, Ticking> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, engines: &Engines) {
        let mut state = self.state();
        let mut unwanted = 0;
        while !state.closed {
            unwanted = if state.wanted == 0 { unwanted + 1 } else { 0 };
            let waited = if unwanted > LINGER {
                state.asleep = true;
                self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
            } else {
                self.changed.wait_timeout(state, TICK).unwrap_or_else(PoisonError::into_inner).0
            };
            state = waited;
            state.asleep = false;
            if state.wanted > 0 {
                engines.next_epoch();
            }
        }
    }
}

/// While this lives, epochs pass.
pub(crate) struct Ticks(Arc<Ticker>);

impl Drop for Ticks {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.wanted = state.wanted.saturating_sub(1);
    }
}

impl Account {
    pub(crate) fn new(engines: &Engines, limits: Limits) -> Self {
        Self(Arc::new(Inner {
            engines: engines.clone(),
            limits,
            ledger: Arc::new(Ledger::new(limits.memory_bytes, limits.files)),
            pace: Mutex::new(limits.cpus.filter(|rate| *rate > 0.0).map(Pace::new)),
            frozen: watch::Sender::new(false),
            requests: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            fuel: AtomicU64::new(0),
            ticker: Arc::default(),
        }))
    }

    /// What is used.
    pub fn usage(&self) -> Usage {
        let (memory, memory_peak, memory_limit) = self.0.ledger.memory();
        let fuel = self.0.limits.fuel.map(|_| self.0.fuel.load(Ordering::Relaxed));
        if fuel.is_some() {
            self.0.engines.next_epoch();
        }
        Usage {
            memory,
            memory_peak,
            memory_limit,
            requests: self.0.requests.load(Ordering::Relaxed),
            failures: self.0.failures.load(Ordering::Relaxed),
            fuel,
        }
    }

    /// Stops every guest where it is: code at its next epoch check, a wait when it is over.
    pub fn freeze(&self) {
        self.0.frozen.send_replace(true);
        self.0.engines.next_epoch();
    }

    /// Lets them go on.
    pub fn thaw(&self) {
        self.0.frozen.send_replace(false);
    }

    /// Another limit of memory; what is held stays.
    pub fn limit_memory(&self, bytes: u64) {
        self.0.ledger.set_limit(bytes);
    }

    /// Another limit of processors, for what starts from now on and what ticks already; `None` is no limit.
    pub fn limit_cpus(&self, cpus: Option<f64>) {
        *self.pace() = cpus.filter(|rate| *rate > 0.0).map(Pace::new);
    }

    fn pace(&self) -> MutexGuard<'_, Option<Pace>> {
        self.0.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the limit of memory was met.
    pub(crate) fn starved(&self) -> bool {
        self.0.ledger.refused()
    }

    pub(crate) fn meter(&self) -> Meter {
        Meter::new(self.0.limits, Arc::clone(&self.0.ledger))
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.0.limits
    }

    pub(crate) fn frozen(&self) -> watch::Receiver<bool> {
        self.0.frozen.subscribe()
    }

    pub(crate) fn is_frozen(&self) -> bool {
        *self.0.frozen.borrow()
    }

    /// Counts an answered request.
    pub(crate) fn answered(&self, failed: bool) {
        self.0.requests.fetch_add(1, Ordering::Relaxed);
        self.0.failures.fetch_add(u64::from(failed), Ordering::Relaxed);
    }

    /// Counts the fuel that a store has used since the last time.
    pub(crate) fn burnt<T: 'static>(
        &self,
        mut store: impl AsContextMut<Data = T>,
        meter: fn(&mut T) -> &mut Meter,
    ) {
        // Asking where nothing counts makes an error, with a backtrace where the environment wants those: of each request.
        if self.0.limits.fuel.is_none() {
            return;
        }
        let mut store = store.as_context_mut();
        if let Ok(left) = store.get_fuel() {
            let used = meter(store.data_mut()).burn_down_to(left);
            self.0.fuel.fetch_add(used, Ordering::Relaxed);
        }
    }

    /// Gives a store that works on, for one more request, as much fuel as it began with.
    pub(crate) fn refuel<T: 'static>(
        &self,
        mut store: impl AsContextMut<Data = T>,
        meter: fn(&mut T) -> &mut Meter,
    ) {
        let Some(fuel) = self.0.limits.fuel else { return };
        self.burnt(store.as_context_mut(), meter);
        let mut store = store.as_context_mut();
        // A store that counts takes it; one that does not was refused when it was made.
        if store.set_fuel(fuel).is_ok() {
            meter(store.data_mut()).burn_down_to(fuel);
        }
    }

    /// Lets epochs pass while there is a limit of processors.
    pub(crate) fn metered(&self) -> Option<Ticks> {
        if self.pace().is_none() {
            return None;
        }
        Some(self.ticks())
    }

    /// Lets epochs pass.
    pub(crate) fn ticks(&self) -> Ticks {
        let ticker = &self.0.ticker;
        let mut state = ticker.state();
        state.wanted += 1;
        if !state.running {
            let (shared, engines) = (Arc::clone(ticker), self.0.engines.clone());
            let name = std::thread::Builder::new().name("wasm-ticks".to_owned()).stack_size(64 << 10);
            match name.spawn(move || shared.run(&engines)) {
                Ok(_) => state.running = true,
                Err(error) => {
                    tracing::warn!(%error, "no thread to meter guests: their processor time is not limited");
                }
            }
        } else if state.asleep {
            ticker.changed.notify_all();
        }
        drop(state);
        Ticks(Arc::clone(ticker))
    }

    fn charge(&self) -> Option<Duration> {
        self.pace().as_mut().and_then(|pace| pace.charge(Instant::now()))
    }

    /// Sets the limits of a store, and what happens at its epoch checks. `yields`: others share its thread.
    pub(crate) fn govern<T: Send + 'static>(
        &self,
        store: &mut Store<T>,
        stop: &Arc<Stop>,
        yields: bool,
        meter: fn(&mut T) -> &mut Meter,
    ) -> wasmtime::Result<()> {
        store.limiter(move |state| meter(state) as &mut dyn ResourceLimiter);
        store.set_hostcall_fuel(self.0.limits.hostcall_bytes);
        if let Some(fuel) = self.0.limits.fuel {
            store.set_fuel(fuel)?;
            meter(store.data_mut()).burn_down_to(fuel);
        }
        let (account, stop) = (self.clone(), Arc::clone(stop));
        store.epoch_deadline_callback(move |store| {
            account.burnt(store, meter);
            if stop.is_set() {
                return Err(Stopped.into());
            }
            if *account.0.frozen.borrow() {
                let (mut frozen, stop) = (account.frozen(), Arc::clone(&stop));
                return Ok(UpdateDeadline::YieldCustom(
                    1,
                    Box::pin(async move {
                        tokio::select! {
                            _ = frozen.wait_for(|frozen| !frozen) => {}
                            () = stop.set() => {}
                        }
                    }),
                ));
            }
            if let Some(wait) = account.charge() {
                return Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::time::sleep(wait))));
            }
            Ok(if yields { UpdateDeadline::Yield(1) } else { UpdateDeadline::Continue(1) })
        });
        store.set_epoch_deadline(1);
        Ok(())
    }
}

/// What the epoch's callback ends a guest with.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub(crate) struct Stopped;

/// A word to stop, for any number of listeners, that is never missed.
#[derive(Debug, Default)]
pub(crate) struct Stop {
    set: AtomicBool,
    notify: Notify,
}

impl Stop {
    /// Says it; true the first time.
    pub(crate) fn say(&self) -> bool {
        let first = !self.set.swap(true, Ordering::SeqCst);
        self.notify.notify_waiters();
        first
    }

    pub(crate) fn is_set(&self) -> bool {
        self.set.load(Ordering::SeqCst)
    }

    /// Waits until it is said.
    pub(crate) async fn set(&self) {
        let mut heard = std::pin::pin!(self.notify.notified());
        // Listening begins before the look, so that nothing falls between.
        heard.as_mut().enable();
        if !self.is_set() {
            heard.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_overdraws_waits_at_the_rate() {
        let begun = Instant::now();
        let mut pace = Pace { rate: 0.5, saved: 0.0, at: begun };
        // One tick of work in a tick of time: half of it is not paid for, which takes a whole tick to flow.
        assert_eq!(pace.charge(begun + TICK), Some(TICK));
        // After that wait the account is even, and the next tick of work costs the same.
        assert_eq!(pace.charge(begun + TICK * 3), Some(TICK));
    }

    #[test]
    fn idle_time_is_saved_up_to_a_burst() {
        let begun = Instant::now();
        let mut pace = Pace { rate: 1.0, saved: 0.0, at: begun };
        let later = begun + Duration::from_mins(1);
        let free = (0..100).take_while(|_| pace.charge(later).is_none()).count();
        assert_eq!(u128::try_from(free).unwrap(), BURST.as_millis() / TICK.as_millis());
    }

    #[tokio::test]
    async fn a_word_to_stop_is_heard_before_and_after() {
        let stop = Arc::new(Stop::default());
        let waiting = tokio::spawn({
            let stop = Arc::clone(&stop);
            async move { stop.set().await }
        });
        tokio::task::yield_now().await;
        assert!(stop.say() && !stop.say());
        waiting.await.unwrap();
        stop.set().await;
    }
}
