//! Making directories durable, on Linux: one `syncfs` for everything written, not an fsync per file.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// Makes the content of these trees durable; they are all on the file system of `root`.
pub(super) fn sync_trees(root: &Path, trees: &[PathBuf]) -> io::Result<()> {
    if trees.is_empty() { Ok(()) } else { Ok(rustix::fs::syncfs(File::open(root)?)?) }
}

/// Makes the entries of a directory durable (`fsync(2)`: the file's own fsync does not).
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
