//! Owner, mode and identity of files on Unix.

use std::fs::{DirBuilder, File, Metadata};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt as _};
use rustix::fs::{Mode, OFlags};

use super::{Identity, Refused};

pub(super) fn create_private(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

pub(super) fn open_directory(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::open(path, flags, Mode::empty())?))
}

pub(super) fn check(meta: &Metadata) -> Result<(), Refused> {
    if meta.uid() != rustix::process::geteuid().as_raw() {
        return Err(Refused::Owner { uid: meta.uid() });
    }
    if meta.mode() & 0o022 != 0 {
        return Err(Refused::Mode { mode: meta.mode() & 0o7777 });
    }
    Ok(())
}

pub(super) fn identity(meta: &Metadata) -> Identity {
    // The sign of a time before 1970 does not matter: only equality does.
    let time = |seconds: i64, nanoseconds: i64| {
        seconds.wrapping_mul(1_000_000_000).wrapping_add(nanoseconds).cast_unsigned()
    };
    [
        meta.dev(),
        meta.ino(),
        meta.size(),
        time(meta.mtime(), meta.mtime_nsec()),
        time(meta.ctime(), meta.ctime_nsec()),
    ]
}

/// Opening must neither follow a link nor wait for a FIFO's writer.
pub(super) fn no_follow() -> OpenOptions {
    let mut options = OpenOptions::new();
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    options.read(true).custom_flags(flags.bits().cast_signed());
    options
}

pub(super) fn is_link(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error())
}

pub(super) fn private(options: &mut OpenOptions) {
    options.mode(0o600);
}

pub(super) fn sync_directory(dir: &Dir) -> io::Result<()> {
    Ok(rustix::fs::fsync(dir)?)
}

/// The open file's own name where the kernel has one, so that what was checked is what is mapped.
pub(super) fn map_path(file: &File, path: &Path) -> PathBuf {
    let own = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    if cfg!(target_os = "linux") && own.exists() { own } else { path.to_owned() }
}
