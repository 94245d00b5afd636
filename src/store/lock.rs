//! Locks between processes: an exclusive `flock` on a file of its own, gone with the process that holds it.
//!
//! The file is removed when the lock is let go, so that no litter stays; whoever waited on a removed file notices that the
//! path no longer leads to it, and tries again. What a crash leaves behind is unlocked and [`super::Store::sweep`] removes it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// An exclusive lock, held until dropped.
#[derive(Debug)]
pub(super) struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    /// Takes the lock, waiting for it.
    pub(super) fn wait(path: &Path) -> io::Result<Self> {
        loop {
            let file = open(path)?;
            file.lock()?;
            if current(&file, path)? {
                return Ok(Self { path: path.to_owned(), _file: file });
            }
        }
    }

    /// Takes the lock unless someone holds it.
    pub(super) fn attempt(path: &Path) -> io::Result<Option<Self>> {
        loop {
            let file = open(path)?;
            match file.try_lock() {
                Ok(()) if current(&file, path)? => {
                    return Ok(Some(Self { path: path.to_owned(), _file: file }));
                }
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Removed while still held. If it fails, an empty file stays until the next sweep.
        if cfg!(unix) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}

/// Whether the path still leads to the open file.
#[cfg(unix)]
fn current(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    let here = file.metadata()?;
    match std::fs::symlink_metadata(path) {
        Ok(there) => Ok(here.ino() == there.ino() && here.dev() == there.dev()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Lock files are never removed here.
#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "the signature of its twin")]
fn current(_: &File, _: &Path) -> io::Result<bool> {
    Ok(true)
}
