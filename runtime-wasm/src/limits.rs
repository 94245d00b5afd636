//! What a guest may hold: memory over all its memories together, table elements, and how many of each.
//!
//! wasmtime's own `StoreLimits` bounds each memory on its own, so a guest with many memories (or a server with many instances)
//! multiplies its limit; a [`Ledger`] counts the sum over everything that runs under one set of grants. Growth beyond a limit fails as the
//! core specification has it (`memory.grow` gives −1), so that an allocator sees "no memory". Memory is given back when an
//! instance ends, never before (WebAssembly cannot shrink one). Open files are counted likewise.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use wasmtime::ResourceLimiter;

/// Upper bounds for one run. The defaults stop bombs and leave ordinary programs alone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Bytes of all linear memories together; 4 GiB by default, which is what one 32-bit memory can address.
    pub memory_bytes: u64,
    /// Elements of all tables together; ten million by default.
    pub table_elements: u64,
    /// Core instances; a component has several. 1000 by default.
    pub instances: usize,
    /// Tables; 1000 by default.
    pub tables: usize,
    /// Memories; 100 by default.
    pub memories: usize,
    /// Files and directories that all programs together hold open, the three streams and what they were given included; one more is
    /// an error to who opens it. 65 536 by default.
    pub files: usize,
    /// Handles that a component holds at once (files, sockets, streams, …); one more is a trap. 131 072 by default.
    pub handles: usize,
    /// Bytes that one call may make the host hold for the guest (strings, lists); 128 MiB by default.
    pub hostcall_bytes: usize,
    /// Processors: 0.5 is half of one, 2 is two; `None` is no limit. Metered by time in guest code.
    pub cpus: Option<f64>,
    /// Instructions, roughly (wasmtime's fuel), after which it traps; deterministic. Needs [`Settings::fuel`](crate::Settings::fuel).
    pub fuel: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 4 << 30,
            table_elements: 10_000_000,
            instances: 1000,
            tables: 1000,
            memories: 100,
            files: 65_536,
            handles: 131_072,
            hostcall_bytes: 128 << 20,
            cpus: None,
            fuel: None,
        }
    }
}

/// What everything under one set of grants holds together.
#[derive(Debug)]
pub(crate) struct Ledger {
    limit: AtomicU64,
    memory: AtomicU64,
    peak: AtomicU64,
    refused: AtomicBool,
    files: AtomicUsize,
    most_files: usize,
}

impl Ledger {
    pub(crate) fn new(limit: u64, most_files: usize) -> Self {
        Self {
            limit: AtomicU64::new(limit),
            files: AtomicUsize::new(0),
            most_files,
            memory: AtomicU64::new(0),
            peak: AtomicU64::new(0),
            refused: AtomicBool::new(false),
        }
    }

    /// Bytes held now, the most there were, and the limit.
    pub(crate) fn memory(&self) -> (u64, u64, u64) {
        let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
        (read(&self.memory), read(&self.peak), read(&self.limit))
    }

    /// Another limit from now on; what is held stays.
    pub(crate) fn set_limit(&self, bytes: u64) {
        self.limit.store(bytes, Ordering::Relaxed);
    }

    /// Whether memory was asked for beyond the limit.
    pub(crate) fn refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    fn take(&self, more: u64) -> bool {
        let limit = self.limit.load(Ordering::Relaxed);
        let taken = self.memory.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
            held.checked_add(more).filter(|sum| *sum <= limit)
        });
        if let Ok(before) = taken {
            self.peak.fetch_max(before + more, Ordering::Relaxed);
        } else {
            self.refused.store(true, Ordering::Relaxed);
        }
        taken.is_ok()
    }

    fn give_back(&self, bytes: u64) {
        self.memory.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn open(&self) -> bool {
        let most = self.most_files;
        let more = |open: usize| open.checked_add(1).filter(|sum| *sum <= most);
        self.files.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }
}

/// Counts what one store holds against [`Limits`] and the common ledger.
#[derive(Debug)]
pub(crate) struct Meter {
    limits: Limits,
    ledger: Arc<Ledger>,
    memory: u64,
    elements: u64,
    pending: u64,
    /// What was left when it was last looked at.
    fuel: u64,
    /// How many files are open.
    files: usize,
    /// Handles of a component that are among them: those that it opened itself.
    opened: HashSet<u32>,
}

impl Meter {
    pub(crate) fn new(limits: Limits, ledger: Arc<Ledger>) -> Self {
        Self { limits, ledger, memory: 0, elements: 0, pending: 0, fuel: 0, files: 0, opened: HashSet::new() }
    }

    /// Counts what a run begins with, whatever the limit is.
    pub(crate) fn given(&mut self, files: usize) {
        self.files += files;
        self.ledger.files.fetch_add(files, Ordering::Relaxed);
    }

    /// Makes room for one more open file; false when there is none.
    pub(crate) fn open(&mut self) -> bool {
        let room = self.ledger.open();
        self.files += usize::from(room);
        room
    }

    /// One file is open no more.
    pub(crate) fn close(&mut self) {
        if self.files > 0 {
            self.files -= 1;
            self.ledger.files.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Which handle the file has that room was made for.
    pub(crate) fn handle(&mut self, handle: u32) {
        self.opened.insert(handle);
    }

    /// A handle is gone; its file is closed if the program opened it.
    pub(crate) fn dropped(&mut self, handle: u32) {
        if self.opened.remove(&handle) {
            self.close();
        }
    }

    /// Notes how much fuel is left; how much was used since the last time.
    pub(crate) fn burn_down_to(&mut self, left: u64) -> u64 {
        std::mem::replace(&mut self.fuel, left).saturating_sub(left)
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.ledger.give_back(self.memory);
        self.ledger.files.fetch_sub(self.files, Ordering::Relaxed);
    }
}

fn growth(current: usize, desired: usize) -> u64 {
    u64::try_from(desired.saturating_sub(current)).unwrap_or(u64::MAX)
}

impl ResourceLimiter for Meter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.pending = 0;
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let more = growth(current, desired);
        if !self.ledger.take(more) {
            return Ok(false);
        }
        self.memory += more;
        self.pending = more;
        Ok(true)
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        // The host had no memory after all: what was counted is not held.
        let back = std::mem::take(&mut self.pending).min(self.memory);
        self.memory -= back;
        self.ledger.give_back(back);
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let sum = self.elements.checked_add(growth(current, desired));
        match sum.filter(|sum| *sum <= self.limits.table_elements) {
            Some(sum) => self.elements = sum,
            None => return Ok(false),
        }
        Ok(true)
    }

    fn instances(&self) -> usize {
        self.limits.instances
    }

    fn tables(&self) -> usize {
        self.limits.tables
    }

    fn memories(&self) -> usize {
        self.limits.memories
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meter(ledger: &Arc<Ledger>) -> Meter {
        Meter::new(Limits::default(), Arc::clone(ledger))
    }

    #[test]
    fn memories_share_one_limit() {
        let ledger = Arc::new(Ledger::new(100, 3));
        let mut meter = meter(&ledger);
        assert!(meter.memory_growing(0, 60, None).unwrap());
        assert!(!meter.memory_growing(0, 60, None).unwrap());
        assert!(ledger.refused());
        assert!(meter.memory_growing(60, 100, None).unwrap());
        assert!(!meter.memory_growing(100, 101, None).unwrap());
        assert!(!meter.memory_growing(0, 2, Some(1)).unwrap());
    }

    #[test]
    fn stores_share_one_limit_and_give_back() {
        let ledger = Arc::new(Ledger::new(100, 3));
        let (mut one, mut two) = (meter(&ledger), meter(&ledger));
        assert!(one.memory_growing(0, 60, None).unwrap());
        assert!(!two.memory_growing(0, 60, None).unwrap());
        drop(one);
        assert!(two.memory_growing(0, 60, None).unwrap());
        assert_eq!(ledger.memory(), (60, 60, 100));
        ledger.set_limit(10);
        assert!(!two.memory_growing(60, 61, None).unwrap());
    }

    #[test]
    fn files_are_counted_over_all_stores() {
        let ledger = Arc::new(Ledger::new(100, 3));
        let (mut one, mut two) = (meter(&ledger), meter(&ledger));
        one.given(1);
        assert!(one.open() && two.open() && !one.open() && !two.open());
        one.handle(7);
        one.dropped(8);
        assert!(!two.open());
        one.dropped(7);
        one.dropped(7);
        assert!(two.open() && !two.open());
        drop(two);
        assert!(one.open() && one.open() && !one.open());
    }

    #[test]
    fn growth_the_host_refused_is_not_held() {
        let ledger = Arc::new(Ledger::new(100, 3));
        let mut meter = meter(&ledger);
        assert!(meter.memory_growing(0, 100, None).unwrap());
        meter.memory_grow_failed(wasmtime::Error::msg("no memory")).unwrap();
        assert!(meter.memory_growing(0, 100, None).unwrap());
    }
}
