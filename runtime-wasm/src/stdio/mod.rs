//! Files as a guest's standard streams, without threads on Unix.
//!
//! A pipe, socket or terminal is waited for with the runtime's poller, so that a guest that waits can be interrupted, and is read or written only
//! when `poll` says it would not block. It is never set to non-blocking: that flag belongs to the open file, which other processes share.
//! Regular files and `/dev/null` are read and written directly. A write takes at most what a pipe that polls writable has room for.
//!
//! Where polling is not to be had (Windows), reads happen on tokio's blocking threads and writes on the guest's thread.

use std::fs::File;
use std::io::IsTerminal as _;
use std::sync::Arc;

#[cfg(unix)]
mod unix;
#[cfg(unix)]
pub(crate) use unix::{Stdio, readable};
#[cfg(not(unix))]
mod other;
#[cfg(not(unix))]
pub(crate) use other::{Stdio, readable};

/// How a guest learns that nobody reads its output any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// p1: as the error `EPIPE`; wasmtime-wasi would make `EIO` of a closed stream.
    Errno,
    /// p2: as the stream's state `closed`.
    Closed,
}

/// Whether the guest is told that this is a terminal.
fn shown_as_terminal(file: &Arc<File>, granted: bool) -> bool {
    granted && file.is_terminal()
}
