//! Making directories durable where there is no `syncfs`: file by file.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Makes the content of these trees durable.
pub(super) fn sync_trees(_root: &Path, trees: &[PathBuf]) -> io::Result<()> {
    for tree in trees {
        let kind = fs::symlink_metadata(tree)?.file_type();
        if kind.is_dir() {
            let entries =
                fs::read_dir(tree)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
            sync_trees(tree, &entries)?;
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
