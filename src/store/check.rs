//! Looking whether blobs and layers are what their names say, and making layers anew from their blobs.
//!
//! A layer is settled by its blob: unpacked once more beside the one that is there and compared with it, name by name and byte
//! by byte. That needs nothing that was recorded earlier, finds every difference, and what it made is the cure at once. The
//! quick look compares the layer's seal instead.
//!
//! Nothing here decides what a finding means; the engine does.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::layer::{LayerWriter, Seal, difference};
use super::lock::Lock;
use super::{Store, StoreError};
use crate::failpoint::{Point, pass};
use crate::model::{Digest, Layer};

/// How closely to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Sizes, names and times.
    Quick,
    /// Every byte.
    Full,
}

/// What is wrong with a blob or a layer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// It is not there.
    #[error("it is missing")]
    Missing,
    /// It has another size than its image says.
    #[error("it has {found} bytes instead of {expected}")]
    Size {
        /// Bytes by the image's word.
        expected: u64,
        /// Bytes that there are.
        found: u64,
    },
    /// It has other bytes.
    #[error("its content has the digest {found}")]
    Content {
        /// The digest of what is there.
        found: Digest,
    },
    /// It looks otherwise than when it was published.
    #[error("its files are not those that were published ({found} names, {expected} then)")]
    Seal {
        /// Names when it was published.
        expected: u64,
        /// Names now.
        found: u64,
    },
    /// A file in it is another than the blob has.
    #[error("`{path}` {how}")]
    Differs {
        /// The file, within the layer.
        path: String,
        /// In what.
        how: &'static str,
    },
    /// It cannot be read.
    #[error("it cannot be read: {why}")]
    Unreadable {
        /// What the system says.
        why: String,
    },
}

/// What was found out about a layer.
#[derive(Debug)]
pub enum LayerState {
    /// It is as it should be.
    Sound,
    /// It is there, and only its blob could tell more, which is not.
    Unknown,
    /// It is bad. With what it should be, where that could be made.
    Bad(Flaw, Option<LayerWriter>),
}

impl Store {
    /// Looks at a blob. `size` is what its image says, where it does.
    pub fn check_blob(&self, digest: &Digest, size: Option<u64>, depth: Depth) -> Option<Flaw> {
        let path = self.content().path(digest);
        let unreadable = |error: &io::Error| match error.kind() {
            io::ErrorKind::NotFound => Flaw::Missing,
            _ => Flaw::Unreadable { why: error.to_string() },
        };
        let found = match fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(error) => return Some(unreadable(&error)),
        };
        if let Some(expected) = size.filter(|expected| *expected != found) {
            return Some(Flaw::Size { expected, found });
        }
        // Manifests and configs are small: they are read in any case.
        if depth == Depth::Quick && size.is_some() {
            return None;
        }
        match hash(&path) {
            Ok(found) if found == *digest => None,
            Ok(found) => Some(Flaw::Content { found }),
            Err(error) => Some(unreadable(&error)),
        }
    }

    /// Looks at a layer; a full look needs its blob, and room to unpack it once more.
    pub fn check_layer(&self, layer: &Layer, depth: Depth) -> Result<LayerState, StoreError> {
        let path = self.layers().path(&layer.diff_id);
        if !self.layers().has(&layer.diff_id) {
            return Ok(LayerState::Bad(Flaw::Missing, self.derive(layer)?));
        }
        let seal = self.layers().seal(&layer.diff_id);
        let mut flaw = None;
        if let Some(expected) = &seal {
            match Seal::of(&path) {
                Ok(found) if found == *expected => {}
                Ok(found) => {
                    flaw = Some(Flaw::Seal { expected: expected.entries, found: found.entries });
                }
                Err(error) => flaw = Some(Flaw::Unreadable { why: error.to_string() }),
            }
        }
        if flaw.is_none() && depth == Depth::Quick {
            return Ok(LayerState::Sound);
        }
        let Some(fresh) = self.derive(layer)? else {
            return Ok(flaw.map_or(LayerState::Unknown, |flaw| LayerState::Bad(flaw, None)));
        };
        if let Some(found) = difference(fresh.temporary(), &path) {
            // What exactly differs says more than that the seal does.
            return Ok(LayerState::Bad(found, Some(fresh)));
        }
        // Only what a seal sees and a comparison does not, such as a time: the fresh one is right in that as well.
        if let Some(flaw) = flaw {
            return Ok(LayerState::Bad(flaw, Some(fresh)));
        }
        if seal.is_none() {
            self.layers().reseal(&layer.diff_id)?;
        }
        Ok(LayerState::Sound)
    }

    /// Unpacks a layer from its blob into a temporary directory; `None` where the blob is missing or bad.
    fn derive(&self, layer: &Layer) -> Result<Option<LayerWriter>, StoreError> {
        if self.check_blob(&layer.digest, Some(layer.size), Depth::Full).is_some() {
            return Ok(None);
        }
        let blob = self.content().path(&layer.digest);
        let mut writer = self.layers().begin_again(&layer.diff_id)?;
        match File::open(&blob) {
            Ok(file) => writer.apply(file, layer.kind)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::io("read", &blob)(error)),
        };
        Ok(Some(writer))
    }

    /// Puts a fresh layer in the place of a bad or missing one, durably. The bad one is removed only when `unused` says so
    /// after the exchange; otherwise both are put back, and `false` is returned: files must not vanish under a container.
    pub fn replace_layer(
        &self,
        fresh: LayerWriter,
        unused: impl FnOnce() -> bool,
    ) -> Result<bool, StoreError> {
        pass(Point::RepairReady).map_err(StoreError::io("repair", fresh.temporary()))?;
        if !self.layers().has(fresh.diff_id()) {
            fresh.commit()?;
            return Ok(true);
        }
        let target = self.layers().path(fresh.diff_id());
        let temporary = fresh.temporary().to_owned();
        fresh.watch.sync(std::slice::from_ref(&temporary)).map_err(StoreError::io("sync", &temporary))?;
        let exchange =
            || super::durable::exchange(&temporary, &target).map_err(StoreError::io("publish", &target));
        exchange()?;
        pass(Point::RepairPlaced).map_err(StoreError::io("repair", &target))?;
        if !unused() {
            exchange()?;
            return Ok(false);
        }
        let layers = self.layer_root();
        super::durable::sync_directory(&layers).map_err(StoreError::io("sync", &layers))?;
        self.layers().reseal(fresh.diff_id())?;
        // The bad one is in the temporary directory now, and goes with the writer.
        drop(fresh);
        Ok(true)
    }

    /// What the store's directories hold that no rule explains, by path within the root.
    pub fn strangers(&self) -> Result<Vec<String>, StoreError> {
        let mut found = Vec::new();
        let known_top = [
            "version",
            "reserve",
            "blobs",
            "ingest",
            "layers",
            "seals",
            "volumes",
            "containers",
            "leases",
            "run",
            "cache",
        ];
        names(&self.root, &mut |name| {
            if !known_top.contains(&name) && !name.starts_with("metadata.db") && !name.starts_with("version.")
            {
                found.push(name.to_owned());
            }
        })?;
        let digest = |name: &str| format!("sha256:{name}").parse::<Digest>().is_ok();
        names(&self.blobs(), &mut |name| {
            if !digest(name) {
                found.push(format!("blobs/sha256/{name}"));
            }
        })?;
        names(&self.layer_root(), &mut |name| {
            if !digest(name) && !name.starts_with("tmp-") && !name.starts_with("gone-") {
                found.push(format!("layers/{name}"));
            }
        })?;
        names(&self.ingests(), &mut |name| {
            let hex = name.split('.').next().unwrap_or_default();
            if !digest(hex) {
                found.push(format!("ingest/{name}"));
            }
        })?;
        Ok(found)
    }

    /// Waits until nobody unpacks this layer, and holds it meanwhile.
    pub(super) fn layer_lock(&self, diff_id: &Digest) -> Result<Lock, StoreError> {
        let path = self.layer_root().join(format!("tmp-{}.lock", diff_id.hex()));
        Lock::wait(&path).map_err(StoreError::io("lock", &path))
    }
}

fn names(directory: &Path, visit: &mut dyn FnMut(&str)) -> Result<(), StoreError> {
    let failed = || StoreError::io("list", directory);
    match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed()(error)),
        Ok(entries) => {
            for entry in entries {
                visit(&entry.map_err(failed())?.file_name().to_string_lossy());
            }
            Ok(())
        }
    }
}

fn hash(path: &Path) -> io::Result<Digest> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut block = vec![0; 1 << 18];
    loop {
        match file.read(&mut block)? {
            0 => return Ok(Digest::from_hash(hash.finalize().into())),
            count => hash.update(&block[..count]),
        }
    }
}
