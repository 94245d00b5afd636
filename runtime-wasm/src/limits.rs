//! What a guest may hold: memory over all its memories together, table elements, and how many of each.
//!
//! wasmtime's own `StoreLimits` bounds each memory on its own, so a guest with many memories multiplies its limit; this meter counts the
//! sum. Growth beyond a limit fails as the core specification has it (`memory.grow` gives −1), so that an allocator sees "no memory".
//! Memory is given back when the program ends, never before (WebAssembly cannot shrink one).

use wasmtime::ResourceLimiter;

/// Upper bounds for one run. The defaults stop bombs and leave ordinary programs alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 4 << 30,
            table_elements: 10_000_000,
            instances: 1000,
            tables: 1000,
            memories: 100,
        }
    }
}

/// Counts what one store holds against [`Limits`].
#[derive(Debug)]
pub(crate) struct Meter {
    limits: Limits,
    memory: u64,
    elements: u64,
    pending: u64,
}

impl Meter {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, memory: 0, elements: 0, pending: 0 }
    }
}

/// Adds the growth to `held` when it stays within `limit`.
fn admit(held: &mut u64, current: usize, desired: usize, limit: u64) -> Option<u64> {
    let more = u64::try_from(desired.saturating_sub(current)).ok()?;
    let sum = held.checked_add(more).filter(|sum| *sum <= limit)?;
    *held = sum;
    Some(more)
}

impl ResourceLimiter for Meter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let admitted = admit(&mut self.memory, current, desired, self.limits.memory_bytes);
        self.pending = admitted.unwrap_or(0);
        Ok(admitted.is_some())
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        // The host had no memory after all: what was counted is not held.
        self.memory -= std::mem::take(&mut self.pending).min(self.memory);
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
        Ok(admit(&mut self.elements, current, desired, self.limits.table_elements).is_some())
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

    #[test]
    fn memories_share_one_limit() {
        let mut meter = Meter::new(Limits { memory_bytes: 100, ..Limits::default() });
        assert!(meter.memory_growing(0, 60, None).unwrap());
        assert!(!meter.memory_growing(0, 60, None).unwrap());
        assert!(meter.memory_growing(60, 100, None).unwrap());
        assert!(!meter.memory_growing(100, 101, None).unwrap());
        assert!(!meter.memory_growing(0, 2, Some(1)).unwrap());
    }

    #[test]
    fn growth_the_host_refused_is_not_held() {
        let mut meter = Meter::new(Limits { memory_bytes: 100, ..Limits::default() });
        assert!(meter.memory_growing(0, 100, None).unwrap());
        meter.memory_grow_failed(wasmtime::Error::msg("no memory")).unwrap();
        assert!(meter.memory_growing(0, 100, None).unwrap());
    }
}
