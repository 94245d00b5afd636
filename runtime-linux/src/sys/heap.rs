//! The static binary's allocator: dlmalloc, which asks the kernel seldom and touches few pages, behind small caches of each thread.
//!
//! dlmalloc alone is right for processes that are short and allocate little, as each of a start is, but has one lock for all threads:
//! a server spends more time at it than in its guest. So every thread keeps some of the small blocks that it freed, by size, and
//! goes to the heap for several at once. How many at once grows with every visit, from one: a process that allocates little touches no
//! page for blocks that it does not use, and an idle thread keeps no more than it freed.
//!
//! Invariants: a block is as large as its size's class says, so that any block of a class serves any size of it; what a cache holds
//! is nobody else's, and goes back to the heap when the thread ends.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::{Cell, UnsafeCell};
use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use dlmalloc::Dlmalloc;

/// What every block is aligned to; what must be aligned to more is not cached.
const ALIGN: usize = 16;
/// Up to here classes are 16 bytes apart, and above 128.
const FINE: usize = 512;
/// The largest size that is cached.
const LARGEST: usize = 2048;
/// Classes of both kinds.
const CLASSES: usize = FINE / ALIGN + (LARGEST - FINE) / 128;
/// Bytes of one class that a thread keeps, in at least eight and at most 64 blocks.
const KEPT: usize = 8 << 10;

/// The class of a size, unless it is too large or aligned to more than all blocks are.
const fn class(size: usize, align: usize) -> Option<usize> {
    if align > ALIGN || size > LARGEST {
        None
    } else if size <= FINE {
        Some(size.saturating_sub(1) / ALIGN)
    } else {
        Some(FINE / ALIGN + (size - FINE - 1) / 128)
    }
}

/// The size of a class's blocks.
const fn size(class: usize) -> usize {
    if class < FINE / ALIGN { (class + 1) * ALIGN } else { FINE + (class + 1 - FINE / ALIGN) * 128 }
}

/// How many blocks of a class a thread keeps.
const fn kept(class: usize) -> usize {
    match KEPT / size(class) {
        0..8 => 8,
        few @ 8..64 => few,
        _ => 64,
    }
}

/// Where a block that is kept holds the address of the next.
#[allow(clippy::cast_ptr_alignment, reason = "every block is aligned to 16 bytes")]
const fn next(block: *mut u8) -> *mut *mut u8 {
    block.cast()
}

/// The heap that all threads share. The lock is the standard library's, which allocates nothing and tries again before it sleeps.
static HEAP: Mutex<Dlmalloc> = Mutex::new(Dlmalloc::new());

fn heap() -> MutexGuard<'static, Dlmalloc> {
    HEAP.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Blocks of one class, each with the address of the next at its beginning.
struct List {
    first: *mut u8,
    count: usize,
    /// How many to fetch next time.
    batch: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing was kept yet.
    New,
    /// The thread's end is told.
    Open,
    /// The thread ends.
    Closed,
}

/// One thread's blocks.
struct Cache {
    lists: UnsafeCell<[List; CLASSES]>,
    state: Cell<State>,
}

thread_local! {
    static CACHE: Cache = const {
        Cache {
            lists: UnsafeCell::new([const { List { first: null_mut(), count: 0, batch: 1 } }; CLASSES]),
            state: Cell::new(State::New),
        }
    };
}

/// Gives everything back that a thread which ends has kept.
extern "C" fn end(_: *mut c_void) {
    CACHE.with(|cache| {
        cache.state.set(State::Closed);
        let mut heap = heap();
        for class in 0..CLASSES {
            // SAFETY: nothing below allocates or runs code of others, so the lists are borrowed once.
            let list = unsafe { &mut (*cache.lists.get())[class] };
            // SAFETY: as `spill` has it.
            unsafe { spill(list, class, 0, &mut heap) };
        }
    });
}

impl Cache {
    /// Whether this thread keeps blocks.
    #[inline]
    fn open(&self) -> bool {
        match self.state.get() {
            State::Open => true,
            State::Closed => false,
            State::New => self.begin(),
        }
    }

    /// Has the thread's end told. The standard library's own way may allocate.
    #[cold]
    fn begin(&self) -> bool {
        static KEY: OnceLock<Option<libc::pthread_key_t>> = OnceLock::new();
        let key = KEY.get_or_init(|| {
            let mut key = 0;
            // SAFETY: the key is written to a place of ours, and the function lives as long as the program.
            (unsafe { libc::pthread_key_create(&raw mut key, Some(end)) } == 0).then_some(key)
        });
        // SAFETY: the value only says that there is one; nobody follows it.
        let told = key.is_some_and(
            |key| unsafe { libc::pthread_setspecific(key, std::ptr::from_ref(self).cast()) } == 0,
        );
        self.state.set(if told { State::Open } else { State::Closed });
        told
    }

    /// A block of a class; null when there is no memory.
    #[inline]
    fn take(&self, class: usize) -> *mut u8 {
        // SAFETY: the cache is this thread's, and nothing between here and the end of the borrow allocates or runs code of others.
        let list = unsafe { &mut (*self.lists.get())[class] };
        let block = list.first;
        if block.is_null() {
            return self.fetch(list, class);
        }
        // SAFETY: a block that is kept holds the address of the next.
        list.first = unsafe { next(block).read() };
        list.count -= 1;
        block
    }

    /// Fetches several, and gives one of them.
    #[cold]
    fn fetch(&self, list: &mut List, class: usize) -> *mut u8 {
        let more = if self.open() { list.batch - 1 } else { 0 };
        list.batch = (list.batch * 2).min(kept(class) / 2);
        let mut heap = heap();
        // SAFETY: no size is zero, and the alignment is a power of two.
        let first = unsafe { heap.malloc(size(class), ALIGN) };
        for _ in 0..more {
            // SAFETY: as above.
            let block = unsafe { heap.malloc(size(class), ALIGN) };
            if block.is_null() {
                break;
            }
            // SAFETY: the block is ours, and large enough for an address.
            unsafe { next(block).write(list.first) };
            list.first = block;
            list.count += 1;
        }
        first
    }

    /// Keeps a block.
    ///
    /// # Safety
    /// It is of this class, and nobody uses it any more.
    #[inline]
    unsafe fn put(&self, block: *mut u8, class: usize) {
        // SAFETY: as in `take`.
        let list = unsafe { &mut (*self.lists.get())[class] };
        // SAFETY: the block is ours now, and large enough for an address.
        unsafe { next(block).write(list.first) };
        list.first = block;
        list.count += 1;
        let most = if self.open() { kept(class) } else { 0 };
        if list.count > most {
            // SAFETY: as `spill` has it.
            unsafe { spill(list, class, most / 2, &mut heap()) };
        }
    }
}

/// Gives blocks back to the heap until so many are left.
///
/// # Safety
/// The list is this thread's, and of this class.
#[cold]
unsafe fn spill(list: &mut List, class: usize, rest: usize, heap: &mut Dlmalloc) {
    while list.count > rest {
        let block = list.first;
        // SAFETY: a block that is kept holds the address of the next, and is given back as it was fetched.
        unsafe {
            list.first = next(block).read();
            heap.free(block, size(class), ALIGN);
        }
        list.count -= 1;
    }
}

/// The allocator, for `#[global_allocator]`.
#[derive(Debug)]
pub struct Allocator;

// SAFETY: blocks come from dlmalloc, of the size and alignment that are asked for or of their class's, and go back to it with the same;
// a cache hands out each that it holds once. Nothing here panics or allocates by itself.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match class(layout.size(), layout.align()) {
            Some(class) => CACHE.with(|cache| cache.take(class)),
            // SAFETY: the layout is a valid one.
            None => unsafe { heap().malloc(layout.size(), layout.align()) },
        }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match class(layout.size(), layout.align()) {
            // SAFETY: the caller gives back what it got for this layout.
            Some(class) => CACHE.with(|cache| unsafe { cache.put(block, class) }),
            // SAFETY: as above.
            None => unsafe { heap().free(block, layout.size(), layout.align()) },
        }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if class(layout.size(), layout.align()).is_none() {
            // What comes from the kernel is zero already.
            // SAFETY: the layout is a valid one.
            return unsafe { heap().calloc(layout.size(), layout.align()) };
        }
        // SAFETY: as the caller's.
        let block = unsafe { self.alloc(layout) };
        if !block.is_null() {
            // SAFETY: it is as large as the layout says.
            unsafe { block.write_bytes(0, layout.size()) };
        }
        block
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, wanted: usize) -> *mut u8 {
        let (old, new) = (class(layout.size(), layout.align()), class(wanted, layout.align()));
        match (old, new) {
            (Some(old), Some(new)) if old == new => return block,
            // SAFETY: neither is a block of a class.
            (None, None) => unsafe {
                return heap().realloc(block, layout.size(), layout.align(), wanted);
            },
            _ => {}
        }
        // SAFETY: the caller vouches for the size; the alignment was good before. Both blocks are at least as large as what is copied.
        unsafe {
            let moved = self.alloc(Layout::from_size_align_unchecked(wanted, layout.align()));
            if !moved.is_null() {
                moved.copy_from_nonoverlapping(block, layout.size().min(wanted));
                self.dealloc(block, layout);
            }
            moved
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_has_a_class_that_holds_it_and_wastes_little() {
        for wanted in 1..=LARGEST {
            let class = class(wanted, 8).unwrap();
            assert!(class < CLASSES && size(class) >= wanted, "{wanted}");
            assert!(size(class) - wanted < if wanted <= FINE { ALIGN } else { 128 }, "{wanted}");
        }
        assert_eq!((class(LARGEST + 1, 8), class(64, 32)), (None, None));
        assert_eq!((size(CLASSES - 1), class(1, 1)), (LARGEST, Some(0)));
    }

    /// Fills a block with what tells it from others, and looks whether it still does.
    fn stamp(block: *mut u8, size: usize, stamp: u8) {
        // SAFETY: the tests give blocks of theirs.
        unsafe { block.write_bytes(stamp, size) };
    }

    fn stamped(block: *mut u8, size: usize, stamp: u8) -> bool {
        // SAFETY: as above, and it was written.
        unsafe { std::slice::from_raw_parts(block, size) }.iter().all(|&byte| byte == stamp)
    }

    #[test]
    fn blocks_are_nobody_elses_whoever_frees_them() {
        let (give, got) = std::sync::mpsc::channel::<(usize, usize, u8)>();
        let giver = move |seed: usize| {
            let sizes = (0..20_000_usize).map(|n| (n * 7919 + seed * 104_729) % 5000 + 1);
            for (n, size) in sizes.enumerate() {
                let layout = Layout::from_size_align(size, 8).unwrap();
                // SAFETY: the layout is not of size zero; what was given is freed once, by one of both sides.
                let block = unsafe { Allocator.alloc(layout) };
                assert!(!block.is_null() && (block as usize).is_multiple_of(8));
                let mark = u8::try_from(n % 251).unwrap();
                stamp(block, size, mark);
                if n % 3 == 0 {
                    assert!(stamped(block, size, mark));
                    // SAFETY: as above.
                    unsafe { Allocator.dealloc(block, layout) };
                } else {
                    give.send((block as usize, size, mark)).unwrap();
                }
            }
        };
        let threads: Vec<_> = (0..3)
            .map(|seed| {
                let giver = giver.clone();
                std::thread::spawn(move || giver(seed))
            })
            .collect();
        drop(giver);
        for (block, size, mark) in got {
            let block = block as *mut u8;
            assert!(stamped(block, size, mark), "{size}");
            // SAFETY: the other side gave it away.
            unsafe { Allocator.dealloc(block, Layout::from_size_align(size, 8).unwrap()) };
        }
        for thread in threads {
            thread.join().unwrap();
        }
    }

    #[test]
    fn blocks_grow_and_shrink_over_all_classes_and_keep_what_is_in_them() {
        let mut size = 1;
        // SAFETY: every layout is the one that the block has at that time.
        unsafe {
            let mut block = Allocator.alloc_zeroed(Layout::from_size_align(size, 8).unwrap());
            assert!(stamped(block, 1, 0));
            for wanted in [2, 16, 17, 100, 512, 513, 2000, 2048, 2049, 100_000, 3000, 2048, 600, 512, 30, 1] {
                stamp(block, size, 9);
                block = Allocator.realloc(block, Layout::from_size_align(size, 8).unwrap(), wanted);
                assert!(stamped(block, size.min(wanted), 9), "{wanted}");
                size = wanted;
            }
            Allocator.dealloc(block, Layout::from_size_align(size, 8).unwrap());
            // What was used before comes back as zeroes.
            let used = Allocator.alloc(Layout::from_size_align(64, 8).unwrap());
            stamp(used, 64, 1);
            Allocator.dealloc(used, Layout::from_size_align(64, 8).unwrap());
            let zeroed = Allocator.alloc_zeroed(Layout::from_size_align(64, 8).unwrap());
            assert!(stamped(zeroed, 64, 0));
            Allocator.dealloc(zeroed, Layout::from_size_align(64, 8).unwrap());
            let aligned = Layout::from_size_align(100, 4096).unwrap();
            let page = Allocator.alloc(aligned);
            assert!((page as usize).is_multiple_of(4096));
            Allocator.dealloc(page, aligned);
        }
    }

    #[test]
    fn a_thread_that_ends_gives_back_what_it_kept() {
        let resident = || {
            let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
            pages.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap() * 4096
        };
        let layout = Layout::from_size_align(2000, 8).unwrap();
        let round = move || {
            // SAFETY: the layout is not of size zero.
            let blocks: Vec<usize> = (0..8).map(|_| unsafe { Allocator.alloc(layout) } as usize).collect();
            for block in blocks {
                // SAFETY: each is freed once, with its layout.
                unsafe { Allocator.dealloc(block as *mut u8, layout) };
            }
        };
        std::thread::spawn(round).join().unwrap();
        let before = resident();
        for _ in 0..2000 {
            std::thread::spawn(round).join().unwrap();
        }
        // Kept for ever they would be 32 MB.
        assert!(resident() < before + (16 << 20), "{before} {}", resident());
    }
}
