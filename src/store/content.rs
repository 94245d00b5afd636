//! The content store: blobs by digest, in the layout of an OCI image layout's `blobs/sha256/`.
//!
//! Invariant: a file in `blobs/` has the bytes that its name says and is durable; what is incomplete is in `ingest/` under
//! another name. A partial download survives the death of its process, and its hash is computed again when it is taken up.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest as _, Sha256};

use super::durable::{Watch, sync_directory};
use super::lock::Lock;
use super::{Store, StoreError};
use crate::failpoint::{Point, pass};
use crate::model::Digest;

/// A view of the store's blobs.
#[derive(Debug, Clone, Copy)]
pub struct Content<'s> {
    pub(super) store: &'s Store,
}

impl Content<'_> {
    /// Where a blob is, or would be.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.store.blobs().join(digest.hex())
    }

    /// Whether the blob is there.
    pub fn has(&self, digest: &Digest) -> bool {
        self.path(digest).is_file()
    }

    /// Bytes of the blob.
    pub fn size(&self, digest: &Digest) -> Result<u64, StoreError> {
        let path = self.path(digest);
        match fs::metadata(&path) {
            Ok(metadata) => Ok(metadata.len()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(StoreError::Missing { digest: digest.clone() })
            }
            Err(error) => Err(StoreError::io("read", &path)(error)),
        }
    }

    /// Reads a blob of at most `limit` bytes into memory, and verifies its digest.
    pub fn read_small(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, StoreError> {
        if self.size(digest)? > limit {
            return Err(StoreError::TooLarge { digest: digest.clone(), limit });
        }
        let path = self.path(digest);
        let mut bytes = Vec::new();
        File::open(&path)
            .and_then(|file| file.take(limit).read_to_end(&mut bytes))
            .map_err(StoreError::io("read", &path))?;
        let found = Digest::of(&bytes);
        if found == *digest {
            Ok(bytes)
        } else {
            Err(StoreError::DigestMismatch { expected: digest.clone(), found })
        }
    }

    /// Stores a small blob; durable once it returns.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let digest = Digest::of(bytes);
        if self.has(&digest) {
            return Ok(digest);
        }
        let unique = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}.put-{}-{unique}", digest.hex(), std::process::id());
        let temporary = self.store.ingests().join(name);
        let written = File::create(&temporary)
            .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
            .and_then(|()| pass(Point::PutWritten))
            .and_then(|()| fs::rename(&temporary, self.path(&digest)))
            .and_then(|()| pass(Point::PutRenamed))
            .and_then(|()| sync_directory(&self.store.blobs()));
        written.map_err(|error| {
            let _ = fs::remove_file(&temporary);
            StoreError::io("write", &self.path(&digest))(error)
        })?;
        Ok(digest)
    }

    /// Begins, or takes up, the download of a blob. Exclusive for each digest among all processes: waits until another
    /// that fetches the same blob is done or dead; then, perhaps, the blob [is complete](Ingest::is_complete) already.
    pub fn ingest(&self, digest: &Digest, size: u64) -> Result<Ingest, StoreError> {
        let path = self.lock_path(digest);
        let lock = Lock::wait(&path).map_err(StoreError::io("lock", &path))?;
        Ingest::open(*self, lock, digest, size)
    }

    /// Like [`Self::ingest`], but `None` at once if another process fetches the blob.
    pub fn try_ingest(&self, digest: &Digest, size: u64) -> Result<Option<Ingest>, StoreError> {
        let path = self.lock_path(digest);
        let lock = Lock::attempt(&path).map_err(StoreError::io("lock", &path))?;
        lock.map(|lock| Ingest::open(*self, lock, digest, size)).transpose()
    }

    /// The digests of all blobs.
    pub fn list(&self) -> Result<Vec<Digest>, StoreError> {
        super::list_digests(&self.store.blobs())
    }

    /// Removes blobs; absent ones are no error. What has a blob open keeps reading it.
    pub fn remove(&self, digests: &[Digest]) -> Result<(), StoreError> {
        for digest in digests {
            let path = self.path(digest);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(StoreError::io("remove", &path)(error));
                }
                _ => pass(Point::BlobRemoved).map_err(StoreError::io("remove", &path))?,
            }
        }
        Ok(())
    }

    fn lock_path(self, digest: &Digest) -> PathBuf {
        self.store.ingests().join(format!("{}.lock", digest.hex()))
    }
}

/// A download in progress. Dropped unfinished, the bytes stay for the next attempt.
#[derive(Debug)]
pub struct Ingest {
    digest: Digest,
    size: u64,
    offset: u64,
    hash: Sha256,
    file: Option<File>,
    partial: PathBuf,
    target: PathBuf,
    resumed: bool,
    watch: Watch,
    /// Last, so that the lock is let go after the file is closed.
    _lock: Lock,
}

impl Ingest {
    fn open(content: Content<'_>, lock: Lock, digest: &Digest, size: u64) -> Result<Self, StoreError> {
        let partial = content.store.ingests().join(format!("{}.part", digest.hex()));
        let target = content.path(digest);
        let root = content.store.root();
        let watch = Watch::begin(root).map_err(StoreError::io("open", root))?;
        let mut ingest = Self {
            digest: digest.clone(),
            size,
            offset: 0,
            hash: Sha256::new(),
            file: None,
            partial,
            target,
            resumed: false,
            watch,
            _lock: lock,
        };
        if content.has(digest) {
            let found = content.size(digest)?;
            if found != size {
                return Err(ingest.size_mismatch(found));
            }
            ingest.offset = size;
            return Ok(ingest);
        }
        let path = ingest.partial.clone();
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(StoreError::io("open", &path))?;
        let mut block = vec![0; 1 << 18];
        loop {
            let read = file.read(&mut block).map_err(StoreError::io("read", &path))?;
            if read == 0 {
                break;
            }
            ingest.hash.update(&block[..read]);
            ingest.offset += read as u64;
        }
        ingest.file = Some(file);
        if ingest.offset > size {
            ingest.restart()?;
        }
        ingest.resumed = ingest.offset > 0;
        pass(Point::IngestOpened).map_err(StoreError::io("open", &path))?;
        Ok(ingest)
    }

    fn size_mismatch(&self, found: u64) -> StoreError {
        StoreError::SizeMismatch { digest: self.digest.clone(), expected: self.size, found }
    }

    /// What is being fetched.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Bytes that are here: where the download is to go on.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether the blob is in the store already: another process fetched it.
    pub fn is_complete(&self) -> bool {
        self.file.is_none()
    }

    /// The file with the bytes that are here so far, for a reader of what was fetched earlier.
    pub fn path(&self) -> &Path {
        if self.is_complete() { &self.target } else { &self.partial }
    }

    /// Appends bytes; more than announced are refused. Nothing happens if the blob is complete.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let end = self.offset + bytes.len() as u64;
        let Some(file) = &mut self.file else { return Ok(()) };
        if end > self.size {
            return Err(self.size_mismatch(end));
        }
        file.write_all(bytes).map_err(StoreError::io("write", &self.partial))?;
        self.hash.update(bytes);
        self.offset = end;
        pass(Point::IngestWritten).map_err(StoreError::io("write", &self.partial))
    }

    /// Throws away what is here: the registry cannot resume, or the bytes turned out to be wrong.
    pub fn restart(&mut self) -> Result<(), StoreError> {
        if let Some(file) = &mut self.file {
            file.set_len(0)
                .and_then(|()| file.seek(SeekFrom::Start(0)))
                .map_err(StoreError::io("truncate", &self.partial))?;
            self.offset = 0;
            self.hash = Sha256::new();
            self.resumed = false;
        }
        Ok(())
    }

    /// Verifies size and digest and publishes the blob, durably. Wrong bytes are thrown away; missing ones can still come.
    pub fn finish(mut self) -> Result<(), StoreError> {
        self.verify()?;
        if let Some(file) = &self.file {
            file.sync_all().map_err(StoreError::io("write", &self.partial))?;
        }
        self.rename()?;
        self.target
            .parent()
            .map_or(Ok(()), |blobs| sync_directory(blobs).map_err(StoreError::io("write", blobs)))
    }

    pub(super) fn verify(&mut self) -> Result<(), StoreError> {
        if self.is_complete() {
            return Ok(());
        }
        if self.offset != self.size {
            return Err(self.size_mismatch(self.offset));
        }
        let found = Digest::from_hash(self.hash.clone().finalize().into());
        if found != self.digest {
            self.restart()?;
            return Err(StoreError::DigestMismatch { expected: self.digest.clone(), found });
        }
        Ok(())
    }

    /// Whether it began with bytes of an earlier download. After a power cut those may be wrong.
    pub fn is_resumed(&self) -> bool {
        self.resumed
    }

    pub(super) fn watch(&self) -> &Watch {
        &self.watch
    }

    pub(super) fn partial(&self) -> Option<PathBuf> {
        self.file.as_ref().map(|_| self.partial.clone())
    }

    /// Only after [`Self::verify`] and a sync.
    pub(super) fn rename(&mut self) -> Result<(), StoreError> {
        if self.file.take().is_some() {
            fs::rename(&self.partial, &self.target).map_err(StoreError::io("publish", &self.target))?;
            pass(Point::PublishBlob).map_err(StoreError::io("publish", &self.target))?;
        }
        Ok(())
    }
}
