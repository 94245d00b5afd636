//! A directory for files on their way in: members of an archive, whose names and use are known only when all were read.
//!
//! It lies among the layers that are being made, under a name and a lock that [`Store::sweep`] knows: what a crash leaves is
//! removed like a half-made layer. A file is written and hashed once; what turns out to be a blob is renamed, not copied.

use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::lock::Lock;
use super::{Store, StoreError};
use crate::failpoint::{Point, pass};
use crate::model::Digest;

/// The directory; removed with all that is still in it when it is dropped.
#[derive(Debug)]
pub struct Spool {
    directory: PathBuf,
    next: u64,
    /// Last, so that the lock is let go after the directory is gone.
    _lock: Lock,
}

/// A file in a [`Spool`].
#[derive(Debug, Clone)]
pub struct Spooled {
    path: PathBuf,
    size: u64,
    digest: Digest,
    hash: Sha256,
}

impl Spooled {
    /// Where it is, as long as its spool is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Their digest.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    pub(super) fn hash(&self) -> &Sha256 {
        &self.hash
    }

    /// Reads a file of at most `limit` bytes into memory.
    pub fn read_small(&self, limit: u64) -> Result<Vec<u8>, StoreError> {
        if self.size > limit {
            return Err(StoreError::TooLarge { digest: self.digest.clone(), limit });
        }
        fs::read(&self.path).map_err(StoreError::io("read", &self.path))
    }
}

/// A file being written into a [`Spool`].
#[derive(Debug)]
pub struct Writing {
    path: PathBuf,
    file: File,
    size: u64,
    hash: Sha256,
}

impl io::Write for Writing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hash.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Writing {
    /// Where it is being written, for errors.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The end of the file.
    pub fn finish(self) -> Spooled {
        let digest = Digest::from_hash(self.hash.clone().finalize().into());
        Spooled { path: self.path, size: self.size, digest, hash: self.hash }
    }
}

impl Store {
    /// Makes a spool.
    pub fn spool(&self) -> Result<Spool, StoreError> {
        let mut unique = [0; 16];
        getrandom::fill(&mut unique)
            .map_err(|_| StoreError::io("name a directory in", self.root())(io::ErrorKind::Other.into()))?;
        let directory = self.layer_root().join(format!("tmp-spool-{}", hex::encode(unique)));
        let lock_path = directory.with_extension("lock");
        let lock = Lock::wait(&lock_path).map_err(StoreError::io("lock", &lock_path))?;
        fs::create_dir(&directory).map_err(StoreError::io("create", &directory))?;
        let spool = Spool { directory, next: 0, _lock: lock };
        pass(Point::SpoolMade).map_err(StoreError::io("create", &spool.directory))?;
        Ok(spool)
    }
}

impl Spool {
    /// Begins a file.
    pub fn create(&mut self) -> Result<Writing, StoreError> {
        let path = self.directory.join(self.next.to_string());
        self.next += 1;
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(StoreError::io("create", &path))?;
        Ok(Writing { path, file, size: 0, hash: Sha256::new() })
    }

    /// Writes all of a stream. An error of the stream itself comes back as `Ok(Err(…))`.
    pub fn write(&mut self, from: &mut dyn Read) -> Result<io::Result<Spooled>, StoreError> {
        let mut writing = self.create()?;
        let mut block = vec![0; 256 << 10];
        loop {
            let count = match from.read(&mut block) {
                Ok(0) => {
                    pass(Point::SpoolWritten).map_err(StoreError::io("write", &writing.path))?;
                    return Ok(Ok(writing.finish()));
                }
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Ok(Err(error)),
            };
            writing.write_all(&block[..count]).map_err(StoreError::io("write", &writing.path))?;
        }
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        // What cannot be removed now is unlocked in a moment, and the next sweep removes it.
        let _ = fs::remove_dir_all(&self.directory);
    }
}
