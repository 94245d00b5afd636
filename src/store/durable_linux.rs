//! Making directories durable, on Linux: one `syncfs` for everything written, not an fsync per file.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// A hold on the file system, taken before something is written to it: `syncfs` reports the errors that came since then, and
/// those of a write-back that failed earlier would be nobody's otherwise.
#[derive(Debug)]
pub(super) struct Watch(File);

impl Watch {
    /// Watches the file system of `root` from now on.
    pub(super) fn begin(root: &Path) -> io::Result<Self> {
        File::open(root).map(Self)
    }

    /// Makes the content of these trees durable; they are all on the file system that is watched.
    pub(super) fn sync(&self, trees: &[PathBuf]) -> io::Result<()> {
        if trees.is_empty() { Ok(()) } else { Ok(rustix::fs::syncfs(&self.0)?) }
    }
}

/// Writes out what is not on the disk yet, without a promise: whoever watches is told of what fails here as well.
pub(super) fn write_back(root: &Path) {
    if let Ok(root) = File::open(root) {
        let _ = rustix::fs::syncfs(root);
    }
}

/// Makes the entries of a directory durable (`fsync(2)`: the file's own fsync does not).
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Lets two names change places, at once.
pub(super) fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    Ok(renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)?)
}

/// Bytes that may still be written to the file system of a directory.
pub(super) fn room(path: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(path).ok()?;
    found.f_bavail.checked_mul(found.f_frsize)
}
