//! Which edges of the engine's code an input reached.
//!
//! The compiler gives every edge a counter where `tests/fuzz/instrument` was asked to (LLVM's `SanitizerCoverage`, inline 8-bit
//! counters), and tells where they are before `main`. Without that there are none, and every input is as good as another.
#![expect(unsafe_code, reason = "the compiler hands the counters over as two pointers")]

use std::sync::atomic::{AtomicPtr, AtomicU8, AtomicUsize, Ordering};

static FIRST: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// Called by the constructors that the compiler adds, each with the same range.
#[unsafe(no_mangle)]
extern "C" fn __sanitizer_cov_8bit_counters_init(first: *mut u8, end: *mut u8) {
    FIRST.store(first, Ordering::Relaxed);
    COUNT.store(end.addr() - first.addr(), Ordering::Relaxed);
}

fn counters() -> &'static [AtomicU8] {
    let (first, count) = (FIRST.load(Ordering::Relaxed), COUNT.load(Ordering::Relaxed));
    if first.is_null() {
        return &[];
    }
    // SAFETY: the linker laid this range out for the whole life of the process, and bytes of it are valid as any number. Who
    // counts there does so without atomic instructions; a count that is lost to another thread is no harm.
    unsafe { std::slice::from_raw_parts(first.cast::<AtomicU8>(), count) }
}

/// What was reached so far.
#[derive(Debug)]
pub struct Coverage(Vec<u8>);

impl Coverage {
    /// Nothing yet.
    pub fn new() -> Self {
        Self(vec![0; counters().len()])
    }

    /// Whether there are counters at all.
    pub fn is_guided(&self) -> bool {
        !self.0.is_empty()
    }

    /// How many edges were reached.
    pub fn edges(&self) -> usize {
        self.0.iter().filter(|seen| **seen != 0).count()
    }

    /// Forgets what was counted since the last look.
    pub fn begin(&self) {
        for counter in counters() {
            if counter.load(Ordering::Relaxed) != 0 {
                counter.store(0, Ordering::Relaxed);
            }
        }
    }

    /// Whether an edge was reached that never was before, or a number of times that is of another order.
    pub fn is_new(&mut self) -> bool {
        let mut new = false;
        for (counter, seen) in counters().iter().zip(&mut self.0) {
            let times = counter.load(Ordering::Relaxed);
            if times != 0 {
                let order = 1 << times.ilog2();
                new |= *seen & order == 0;
                *seen |= order;
            }
        }
        new
    }
}

impl Default for Coverage {
    fn default() -> Self {
        Self::new()
    }
}
