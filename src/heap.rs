//! One heap for all of the static binary: Rust's, and that of the C code in it (SQLite, zstd, the C library itself).
//!
//! musl's own allocator maps and unmaps single pages. SQLite alone made a hundred such calls in each process of a start; each costs
//! its call, a fault, and where there are threads an interrupt of the other processors. This one asks for 64 KiB at a time and keeps them.
//!
//! Invariant: what [`malloc`] and its like return lies behind a [`Header`] that says what was allocated, so that [`free`] can tell the
//! heap the same layout again.

use std::alloc::{Layout, alloc, alloc_zeroed, dealloc, realloc as resize};
use std::ffi::{c_int, c_void};
use std::ptr;

#[global_allocator]
static HEAP: runtime_linux::Allocator = runtime_linux::Allocator;

/// What C code may assume of memory that it did not ask to be aligned (C11 7.22.3: fit for every type), in bytes.
const ALIGN: usize = 16;

/// Lies right before each piece of C's memory.
#[repr(C)]
struct Header {
    /// Bytes in all, this header and what is before it included.
    whole: usize,
    /// From the beginning to the piece itself; the alignment of the whole.
    before: usize,
}

const _: () = assert!(size_of::<Header>() == ALIGN);

impl Header {
    fn layout(&self) -> Option<Layout> {
        Layout::from_size_align(self.whole, self.before).ok()
    }
}

/// Allocates `size` bytes at a multiple of `align` (a power of two, [`ALIGN`] at least); null if there is no memory.
fn piece(size: usize, align: usize, get: unsafe fn(Layout) -> *mut u8) -> *mut c_void {
    let Some(whole) = size.checked_add(align) else { return ptr::null_mut() };
    let Ok(layout) = Layout::from_size_align(whole, align) else { return ptr::null_mut() };
    // SAFETY: the layout is not empty, since `align` is not.
    let base = unsafe { get(layout) };
    if base.is_null() {
        return ptr::null_mut();
    }
    // SAFETY: `base` has `align` bytes before the piece, at least as many as a header takes, and everything is aligned to 16.
    unsafe {
        let at = base.add(align);
        at.cast::<Header>().sub(1).write(Header { whole, before: align });
        at.cast()
    }
}

/// # Safety
/// `at` came from [`piece`] and was not freed.
unsafe fn header(at: *mut c_void) -> Header {
    // SAFETY: `piece` wrote it there.
    unsafe { at.cast::<Header>().sub(1).read() }
}

/// C11 7.22.3.4.
#[unsafe(no_mangle)]
extern "C" fn malloc(size: usize) -> *mut c_void {
    piece(size, ALIGN, alloc)
}

/// C11 7.22.3.2.
#[unsafe(no_mangle)]
extern "C" fn calloc(count: usize, size: usize) -> *mut c_void {
    count.checked_mul(size).map_or(ptr::null_mut(), |size| piece(size, ALIGN, alloc_zeroed))
}

/// C11 7.22.3.3.
///
/// # Safety
/// `at` is null, or came from a function of this module and was not freed.
#[unsafe(no_mangle)]
unsafe extern "C" fn free(at: *mut c_void) {
    if at.is_null() {
        return;
    }
    // SAFETY: the caller's promise; the layout is the one that it was allocated with.
    unsafe {
        let header = header(at);
        if let Some(layout) = header.layout() {
            dealloc(at.cast::<u8>().sub(header.before), layout);
        }
    }
}

/// C11 7.22.3.5.
///
/// # Safety
/// As for [`free`].
#[unsafe(no_mangle)]
unsafe extern "C" fn realloc(at: *mut c_void, size: usize) -> *mut c_void {
    if at.is_null() {
        return malloc(size);
    }
    // SAFETY: the caller's promise.
    let old = unsafe { header(at) };
    let before = old.before;
    let (Some(layout), Some(whole)) = (old.layout(), size.checked_add(before)) else {
        return ptr::null_mut();
    };
    if Layout::from_size_align(whole, before).is_err() {
        return ptr::null_mut();
    }
    // SAFETY: the layout is the one that it was allocated with, and the new size is neither zero nor too large. The header moves with
    // the rest, since it lies in it.
    unsafe {
        let base = resize(at.cast::<u8>().sub(before), layout, whole);
        if base.is_null() {
            return ptr::null_mut();
        }
        let at = base.add(before);
        at.cast::<Header>().sub(1).write(Header { whole, before });
        at.cast()
    }
}

/// C11 7.22.3.1.
#[unsafe(no_mangle)]
extern "C" fn aligned_alloc(align: usize, size: usize) -> *mut c_void {
    if align.is_power_of_two() { piece(size, align.max(ALIGN), alloc) } else { ptr::null_mut() }
}

/// `memalign(3)`.
#[unsafe(no_mangle)]
extern "C" fn memalign(align: usize, size: usize) -> *mut c_void {
    aligned_alloc(align, size)
}

/// `posix_memalign(3)`.
///
/// # Safety
/// `to` can be written.
#[unsafe(no_mangle)]
unsafe extern "C" fn posix_memalign(to: *mut *mut c_void, align: usize, size: usize) -> c_int {
    if !align.is_power_of_two() || align < size_of::<usize>() {
        return libc::EINVAL;
    }
    let at = aligned_alloc(align, size);
    if at.is_null() {
        return libc::ENOMEM;
    }
    // SAFETY: the caller's promise.
    unsafe { to.write(at) };
    0
}

/// `malloc_usable_size(3)`.
///
/// # Safety
/// As for [`free`].
#[unsafe(no_mangle)]
unsafe extern "C" fn malloc_usable_size(at: *mut c_void) -> usize {
    if at.is_null() {
        return 0;
    }
    // SAFETY: the caller's promise.
    let header = unsafe { header(at) };
    header.whole - header.before
}
