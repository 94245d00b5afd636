//! Making directories durable where there is no `syncfs`: file by file.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Nothing is to be held here: every file reports its own errors.
#[derive(Debug)]
pub(super) struct Watch;

impl Watch {
    /// Begins.
    #[expect(clippy::unnecessary_wraps, reason = "the signature of its twin")]
    pub(super) fn begin(_: &Path) -> io::Result<Self> {
        Ok(Self)
    }

    /// Makes the content of these trees durable.
    #[expect(clippy::unused_self, reason = "the signature of its twin")]
    pub(super) fn sync(&self, trees: &[PathBuf]) -> io::Result<()> {
        sync_trees(trees)
    }
}

/// Files are written out one by one, when they are whole.
pub(super) fn write_back(_: &Path) {}

fn sync_trees(trees: &[PathBuf]) -> io::Result<()> {
    for tree in trees {
        let kind = fs::symlink_metadata(tree)?.file_type();
        if kind.is_dir() {
            let entries =
                fs::read_dir(tree)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
            sync_trees(&entries)?;
            sync_directory(tree)?;
        } else if kind.is_file() {
            fs::OpenOptions::new().read(true).write(cfg!(windows)).open(tree)?.sync_all()?;
        }
    }
    Ok(())
}

/// Makes the entries of a directory durable; Windows has no such call and needs none.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    if cfg!(windows) { Ok(()) } else { File::open(path)?.sync_all() }
}

/// Lets two names change places; a crash in between leaves the second one missing, which a check finds.
pub(super) fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    let away = one.with_extension("away");
    fs::rename(other, &away)?;
    fs::rename(one, other)?;
    fs::rename(&away, one)
}

/// Not told here.
pub(super) fn room(_: &Path) -> Option<u64> {
    None
}
