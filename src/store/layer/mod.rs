//! Unpacked layers, by `DiffID`.
//!
//! A layer is unpacked on its own, into a directory of its own: no other layer is looked at. Consequences, which docker's
//! overlay2 driver shares:
//! - A hard link to a file of a lower layer is refused ([`EntryRefusal::LinkTarget`](super::EntryRefusal)). Builders do not write such
//!   archives: a diff holds every name of a file it holds.
//! - Directories that an archive implies and does not list get mode 0755 and root, and hide a lower layer's mode.
//! - A symbolic link in a lower layer does not redirect this layer's entries; a directory here replaces it.
//!
//! Whiteouts are stored as overlayfs wants them (character device 0:0, `trusted.overlay.opaque`; in a user namespace
//! `user.overlay.opaque`) where the process may make them (Linux, root), else as the marker files of the archive; the copy snapshotter understands both.
//!
//! Paths: entries' names are walked component by component through open directories; symbolic links are resolved by
//! ourselves within the root, as in a chroot. `..` in an entry's name is refused. Devices and ownership that the user may not
//! set are left out and counted in [`Applied`]; the owner wished for is kept in the attribute `user.umiak.owner`, `uid:gid`, of
//! files and directories, which an image cannot set.

pub(super) mod apply;
#[cfg_attr(target_os = "linux", path = "attributes_linux.rs")]
#[cfg_attr(not(target_os = "linux"), path = "attributes_other.rs")]
pub(super) mod attributes;
mod compare;
pub mod diff;
mod facts;
pub mod pack;
#[cfg(test)]
mod round_trip;
mod seal;
mod sparse;
pub(super) mod stream;
pub(super) mod tree;
pub(super) mod view;

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::Dir;

use super::durable::Watch;
use super::lock::Lock;
use super::{LayerError, Store, StoreError};
use crate::failpoint::{Point, pass};
use crate::model::{Digest, LayerKind};

pub(super) use apply::{MARKER, OPAQUE_MARKER};
pub(super) use compare::difference;
pub use seal::Seal;

/// Bounds on what a layer may hold.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Entries of the archive.
    pub entries: u64,
    /// Bytes, both of the uncompressed archive and of its files with their holes.
    pub unpacked: u64,
}

impl Default for Limits {
    /// 5 million entries, 128 GiB.
    fn default() -> Self {
        Self { entries: 5_000_000, unpacked: 128 << 30 }
    }
}

/// What unpacking a layer came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Bytes of the files.
    pub unpacked_size: u64,
    /// Digest of the uncompressed stream; verified.
    pub diff_id: Digest,
    /// Entries of the archive.
    pub entries: u64,
    /// Device nodes left out, because the system or the user cannot make them.
    pub devices_left_out: u64,
    /// Entries whose owner could not be set, because the user is not root.
    pub owners_left_out: u64,
}

/// A view of the store's layers.
#[derive(Debug, Clone, Copy)]
pub struct Layers<'s> {
    pub(super) store: &'s Store,
}

impl Layers<'_> {
    /// Where a layer's files are, or would be.
    pub fn path(&self, diff_id: &Digest) -> PathBuf {
        self.store.layer_root().join(diff_id.hex())
    }

    /// Whether the layer is there.
    pub fn has(&self, diff_id: &Digest) -> bool {
        self.path(diff_id).is_dir()
    }

    /// Bytes of all files of a layer that is there, each counted once; by looking at every one.
    pub fn unpacked_size(&self, diff_id: &Digest) -> Result<u64, StoreError> {
        let mut total = 0;
        let mut pending = vec![self.path(diff_id)];
        while let Some(directory) = pending.pop() {
            let failed = || StoreError::io("list", &directory);
            for entry in fs::read_dir(&directory).map_err(failed())? {
                let entry = entry.map_err(failed())?;
                let metadata = entry.metadata().map_err(failed())?;
                if metadata.is_dir() {
                    pending.push(entry.path());
                } else if metadata.is_file() {
                    // A file with several names is met as often, and rounding is of no account here.
                    total += metadata.len() / links(&metadata);
                }
            }
        }
        Ok(total)
    }

    /// The `DiffIDs` of all layers.
    pub fn list(&self) -> Result<Vec<Digest>, StoreError> {
        super::list_digests(&self.store.layer_root())
    }

    /// Begins to unpack a layer. Waits until another process or thread that unpacks it is done or dead; `None` if the
    /// layer is there then.
    pub fn begin(&self, diff_id: &Digest) -> Result<Option<LayerWriter>, StoreError> {
        if self.has(diff_id) {
            return Ok(None);
        }
        let lock = self.store.layer_lock(diff_id)?;
        if self.has(diff_id) {
            return Ok(None);
        }
        self.writer(diff_id, lock).map(Some)
    }

    /// Begins to unpack a layer once more, whether it is there or not.
    pub(super) fn begin_again(self, diff_id: &Digest) -> Result<LayerWriter, StoreError> {
        self.writer(diff_id, self.store.layer_lock(diff_id)?)
    }

    fn writer(self, diff_id: &Digest, lock: Lock) -> Result<LayerWriter, StoreError> {
        let temporary = self.store.layer_root().join(format!("tmp-{}", diff_id.hex()));
        let root = self.store.root();
        let watch = Watch::begin(root).map_err(StoreError::io("open", root))?;
        // Whoever left this is dead: we have its lock.
        match fs::remove_dir_all(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::io("remove", &temporary)(error));
            }
            _ => fs::create_dir(&temporary).map_err(StoreError::io("create", &temporary))?,
        }
        pass(Point::LayerBegun).map_err(StoreError::io("create", &temporary))?;
        Ok(LayerWriter {
            diff_id: diff_id.clone(),
            target: self.path(diff_id),
            temporary,
            store: self.store.clone(),
            watch,
            applied: false,
            renamed: false,
            limits: Limits::default(),
            _lock: lock,
        })
    }

    fn seal_path(self, diff_id: &Digest) -> PathBuf {
        self.store.seals().join(diff_id.hex())
    }

    /// What a layer looked like when it was published; `None` where nobody kept that.
    pub fn seal(&self, diff_id: &Digest) -> Option<Seal> {
        fs::read_to_string(self.seal_path(diff_id)).ok().as_deref().and_then(Seal::parse)
    }

    /// Whether a layer that is there looks like this.
    pub fn looks_like(&self, diff_id: &Digest, seal: &Seal) -> bool {
        Seal::of(&self.path(diff_id)).is_ok_and(|found| found == *seal)
    }

    /// Keeps what a published layer looks like. The seal itself need not be durable: see its module.
    pub(super) fn reseal(self, diff_id: &Digest) -> Result<(), StoreError> {
        let path = self.path(diff_id);
        let seal = Seal::of(&path).map_err(StoreError::io("read", &path))?;
        self.keep(diff_id, &seal)
    }

    pub(super) fn keep(self, diff_id: &Digest, seal: &Seal) -> Result<(), StoreError> {
        let (path, directory) = (self.seal_path(diff_id), self.store.seals());
        let temporary = directory.join(format!("tmp-{}", diff_id.hex()));
        let write = || fs::write(&temporary, seal.text());
        let written = match write() {
            // A store of an older version.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(&directory).and_then(|()| write())
            }
            other => other,
        };
        written.and_then(|()| fs::rename(&temporary, &path)).map_err(StoreError::io("write", &path))
    }

    /// Takes layers out of sight by a rename, quick enough for [`crate::state::Database::collect`]; the returned
    /// directories are then to be given to [`Self::purge`].
    pub fn retire(&self, diff_ids: &[Digest]) -> Result<Vec<PathBuf>, StoreError> {
        let mut gone = Vec::new();
        for diff_id in diff_ids {
            let (path, away) = (
                self.path(diff_id),
                self.store.layer_root().join(format!("gone-{}-{}", diff_id.hex(), std::process::id())),
            );
            match fs::rename(&path, &away) {
                Ok(()) => {
                    // Without its layer a seal says nothing; one that stays is written over or swept.
                    let _ = fs::remove_file(self.seal_path(diff_id));
                    gone.push(away);
                    pass(Point::LayerRetired).map_err(StoreError::io("remove", &path))?;
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(StoreError::io("remove", &path)(error)),
            }
        }
        Ok(gone)
    }

    /// Deletes what [`Self::retire`] returned.
    pub fn purge(&self, gone: &[PathBuf]) -> Result<(), StoreError> {
        let remove = |path: &PathBuf| match fs::remove_dir_all(path) {
            // A sweep of another process was here first.
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::io("remove", path)(error))
            }
            _ => Ok(()),
        };
        gone.iter().try_for_each(remove)
    }

    /// Removes layers: out of sight first, then deleted.
    pub fn remove(&self, diff_ids: &[Digest]) -> Result<(), StoreError> {
        self.purge(&self.retire(diff_ids)?)
    }
}

/// Unpacks an archive, plain or compressed, into a directory that others may change meanwhile: a container's. Names stay below
/// it, links resolved as in a chroot. Returns the bytes of files.
pub fn unpack_files(into: Dir, from: impl Read + Send) -> Result<u64, LayerError> {
    let limits = Limits::default();
    let place = |blocks: &mut stream::Blocks| apply::archive(into, blocks, limits, apply::Purpose::Files);
    let (placed, _) = stream::run(from, LayerKind::Tar, limits, place)?;
    Ok(placed.bytes)
}

/// A layer being unpacked. Dropped before it is published, it leaves nothing.
#[derive(Debug)]
pub struct LayerWriter {
    diff_id: Digest,
    target: PathBuf,
    temporary: PathBuf,
    store: Store,
    pub(super) watch: Watch,
    applied: bool,
    renamed: bool,
    limits: Limits,
    /// Last, so that the lock is let go after the directory is gone or renamed.
    _lock: Lock,
}

impl LayerWriter {
    /// Sets other bounds than the default.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// `DiffID` of the layer.
    pub fn diff_id(&self) -> &Digest {
        &self.diff_id
    }

    /// Unpacks the layer from its bytes as distributed. The compression of an archive is told from its first bytes, not from
    /// `kind`: published media types are often wrong, and the `DiffID` settles what the content is.
    ///
    /// Decompression and hashing have threads of their own; entries are placed on the caller's. `reader` is read to its
    /// end. Blocking: not for an async thread.
    pub fn apply(&mut self, reader: impl Read + Send, kind: LayerKind) -> Result<Applied, StoreError> {
        let refused = |source| StoreError::Layer { layer: self.diff_id.clone(), source };
        let directory = Dir::open_ambient_dir(&self.temporary, ambient_authority())
            .map_err(StoreError::io("open", &self.temporary))?;
        let limits = self.limits;
        let (placed, found) = stream::run(reader, kind, limits, |stream| match kind {
            LayerKind::Wasm => apply::wasm(&directory, stream),
            LayerKind::Tar | LayerKind::TarGzip | LayerKind::TarZstd => {
                apply::archive(directory, stream, limits, apply::Purpose::Layer)
            }
        })
        .map_err(refused)?;
        if found != self.diff_id {
            return Err(StoreError::DigestMismatch { expected: self.diff_id.clone(), found });
        }
        pass(Point::LayerApplied).map_err(StoreError::io("write", &self.temporary))?;
        self.applied = true;
        Ok(Applied {
            unpacked_size: placed.bytes,
            diff_id: found,
            entries: placed.entries,
            devices_left_out: placed.devices,
            owners_left_out: placed.owners,
        })
    }

    /// Publishes the layer, durably. For several at once see [`Store::publish`], which syncs once.
    pub fn commit(mut self) -> Result<(), StoreError> {
        let seal = Seal::of(&self.temporary).map_err(StoreError::io("read", &self.temporary))?;
        self.watch
            .sync(std::slice::from_ref(&self.temporary))
            .map_err(StoreError::io("sync", &self.temporary))?;
        pass(Point::LayerSynced).map_err(StoreError::io("sync", &self.temporary))?;
        self.rename()?;
        let layers = self.store.layer_root();
        super::durable::sync_directory(&layers).map_err(StoreError::io("sync", &layers))?;
        self.store.layers().keep(&self.diff_id, &seal)
    }

    pub(super) fn temporary(&self) -> &Path {
        &self.temporary
    }

    /// Only after a sync. A layer that was not applied whole is never renamed.
    pub(super) fn rename(&mut self) -> Result<(), StoreError> {
        if !self.applied {
            return Err(StoreError::Missing { digest: self.diff_id.clone() });
        }
        fs::rename(&self.temporary, &self.target).map_err(StoreError::io("publish", &self.target))?;
        self.renamed = true;
        pass(Point::PublishLayer).map_err(StoreError::io("publish", &self.target))
    }
}

impl Drop for LayerWriter {
    fn drop(&mut self) {
        if !self.renamed {
            // What cannot be removed now is unlocked in a moment, and the next sweep or attempt removes it.
            let _ = fs::remove_dir_all(&self.temporary);
        }
    }
}

/// What placing the entries came to.
#[derive(Debug, Default)]
struct Placed {
    bytes: u64,
    entries: u64,
    devices: u64,
    owners: u64,
}

/// A layer's error with the entry's name.
fn write_error(path: &Path) -> impl FnOnce(io::Error) -> LayerError + '_ {
    move |source| LayerError::Write { path: path.display().to_string(), source }
}

#[cfg(unix)]
fn links(metadata: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::nlink(metadata).max(1)
}

#[cfg(not(unix))]
fn links(_: &fs::Metadata) -> u64 {
    1
}
