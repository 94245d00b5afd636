//! Landlock: a thread, and all that it starts, reaches the trees that are named, and of all other files nothing, whatever its user may.
//!
//! For a sandbox inside a process of ours: its paths are resolved beneath open directories already, and this holds when that has a
//! hole. What is open stays open. Kernels before 5.13, and those that are built or started without it, do not have it.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;

use crate::sys;

/// What the first version knows: all bits up to making symbolic links.
const FIRST: u64 = (1 << 13) - 1;
/// By the version that brought it: linking between directories, truncating, `ioctl` of devices.
const LATER: [(i64, u64); 3] = [(2, 1 << 13), (3, 1 << 14), (5, 1 << 15)];
/// Reading files, and directories.
const READ: (u64, u64) = (1 << 2, 1 << 3);
/// What nobody gets: executing, making devices, and their `ioctl`s.
const NEVER: u64 = 1 | 1 << 6 | 1 << 11 | 1 << 15;
/// Binding and connecting sockets of TCP, since version 4.
const TCP: u64 = 3;

/// What may be reached.
#[derive(Debug, Clone, Copy)]
pub enum Place<'a> {
    /// A directory and everything below, to read.
    Readable(BorrowedFd<'a>),
    /// The same, to change as well.
    Writable(BorrowedFd<'a>),
    /// A file, to read.
    File(BorrowedFd<'a>),
}

/// Whether the kernel has it.
pub fn available() -> bool {
    sys::landlock_version().is_ok()
}

/// Confines this thread for good; false where the kernel cannot. `network`: whether it may use TCP. Needs no privilege where new
/// privileges were given up before.
pub fn restrict_thread(places: &[Place<'_>], network: bool) -> io::Result<bool> {
    let version = match sys::landlock_version() {
        Ok(version) => version,
        Err(Errno::NOSYS | Errno::OPNOTSUPP) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    let files = LATER.iter().filter(|(since, _)| version >= *since).fold(FIRST, |all, (_, bit)| all | bit);
    let tcp = if version >= 4 && !network { TCP } else { 0 };
    let rules = sys::landlock_rules(files, tcp)?;
    for place in places {
        let (fd, allowed) = match place {
            Place::Readable(fd) => (fd, READ.0 | READ.1),
            Place::Writable(fd) => (fd, files & !NEVER),
            Place::File(fd) => (fd, READ.0),
        };
        sys::landlock_allow(&rules, *fd, allowed)?;
    }
    sys::landlock_restrict(&rules)?;
    Ok(true)
}
