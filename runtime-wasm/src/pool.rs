//! The two engines of a runtime: one that allocates on demand, for a program that runs once, and one with a pool, for servers.
//!
//! A pool is address space that is reserved once, in which every instance finds its memories, tables and stack where the last one left
//! them: no system call maps or unmaps anything for a request, and of the memory that the last instance wrote only those pages are
//! put back (from the module's image, which all instances map copy-on-write). One run would pay for the reservation and gain
//! nothing. Both engines compile the same code, so both find it under the same key in the cache.
//!
//! Where the address space does not allow a pool (39 bits of it, or a limit on it), servers allocate on demand as well: slower, and
//! otherwise the same.

use std::sync::{Arc, OnceLock};

use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::engine::{Machine, Settings};

/// Instances at a time: a server has no more than one for each connection.
const INSTANCES: u32 = 4096;
/// Memories and tables of one instance, at the most; a component with more is allocated on demand.
const MEMORIES: u32 = 2;
const TABLES: u32 = 4;
/// Elements of one table.
const ELEMENTS: usize = 100_000;
/// Bytes of a memory that an instance wrote and that are put back by copying; what is beyond is given back to the kernel.
const RESIDENT: usize = 256 << 10;
/// The same for a table, all of which is cleared.
const TABLE_RESIDENT: usize = 16 << 10;

/// The interpreter's code, by wasmtime's name for it.
pub(crate) const INTERPRETER: &str = if cfg!(target_endian = "little") { "pulley64" } else { "pulley64be" };

/// What is common to both, and all that compiled code depends on.
fn config(settings: &Settings) -> wasmtime::Result<Config> {
    let mut config = Config::new();
    if settings.machine == Machine::Interpreter {
        config.target(INTERPRETER)?;
    }
    config.epoch_interruption(true);
    config.max_wasm_stack(settings.stack_bytes);
    // Host calls run on the guest's fiber, above what the guest itself may use.
    config.async_stack_size(settings.stack_bytes.saturating_add(1 << 20));
    // Traps name files and lines where a program carries them, whatever the environment says.
    config.wasm_backtrace_details(wasmtime::WasmBacktraceDetails::Enable);
    config.consume_fuel(settings.fuel);
    Ok(config)
}

/// The engines; clones are the same ones.
#[derive(Clone)]
pub(crate) struct Engines(Arc<Inner>);

struct Inner {
    single: Engine,
    settings: Settings,
    /// Made for the first server.
    pooled: OnceLock<Option<Engine>>,
}

impl std::fmt::Debug for Engines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engines").field("settings", &self.0.settings).finish_non_exhaustive()
    }
}

impl Engines {
    pub(crate) fn new(settings: &Settings) -> wasmtime::Result<Self> {
        let single = Engine::new(&config(settings)?)?;
        Ok(Self(Arc::new(Inner { single, settings: settings.clone(), pooled: OnceLock::new() })))
    }

    /// For a program that runs once.
    pub(crate) fn single(&self) -> &Engine {
        &self.0.single
    }

    /// For servers; `None` where there is no room for a pool.
    pub(crate) fn pooled(&self) -> Option<&Engine> {
        let made = self.0.pooled.get_or_init(|| pooled(&self.0.settings));
        made.as_ref()
    }

    /// Lets an epoch pass: everything that runs looks whether it may go on.
    pub(crate) fn next_epoch(&self) {
        self.0.single.increment_epoch();
        if let Some(Some(engine)) = self.0.pooled.get() {
            engine.increment_epoch();
        }
    }
}

fn pooled(settings: &Settings) -> Option<Engine> {
    // Elsewhere memory is not put back page by page, and reserving is not free.
    if !cfg!(target_os = "linux") {
        return None;
    }
    // Kernels before 6.7 do not tell which pages were written: there all of them are given back.
    [true, false].into_iter().find_map(|scans| {
        let engine = config(settings).and_then(|mut config| {
            config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(scans)));
            Engine::new(&config)
        });
        engine.inspect_err(|error| tracing::debug!(%error, scans, "no pool for instances")).ok()
    })
}

fn pool(scans: bool) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(INSTANCES)
        .max_memories_per_component(MEMORIES)
        .total_memories(INSTANCES * MEMORIES)
        .max_tables_per_component(TABLES)
        .total_tables(INSTANCES * TABLES)
        .total_core_instances(u32::MAX)
        .total_gc_heaps(INSTANCES)
        .total_stacks(INSTANCES * 2)
        .table_elements(ELEMENTS)
        .pagemap_scan(if scans { Enabled::Yes } else { Enabled::No })
        // Without the scan so much would be written at each end, dirty or not.
        .linear_memory_keep_resident(if scans { RESIDENT } else { 0 })
        .table_keep_resident(if scans { TABLE_RESIDENT } else { 0 })
        // As many slots as there are instances at a time, and no more.
        .max_unused_warm_slots(0);
    pool
}
