//! The store: blobs, unpacked layers and containers' files, in one root directory.
//!
//! ```text
//! version            layout version; another one is refused
//! blobs/sha256/HEX   manifests, configs, layers as distributed
//! ingest/            downloads that are not whole: HEX.part, HEX.lock
//! layers/HEX/        unpacked layers, by `DiffID`; tmp-HEX, tmp-HEX.lock while being made; gone-* while being removed;
//!                    tmp-spool-*: an archive that is being read
//! reserve            room that is given up when there is no other, so that something can be removed
//! seals/HEX          what a layer looked like when it was published: a hint for quick checks
//! volumes/NAME/      _data; .gone-* while being removed
//! containers/ID/     upper, work (overlay) or root (copy)
//! ```
//! Invariants:
//! - Nothing is visible before it is whole: a name without a prefix or suffix is complete, verified and durable.
//! - Everything that a crash leaves behind is recognised by its name and by not being locked; [`Store::sweep`] removes it.
//! - Every path that comes from an image is followed component by component through open directories (see [`layer`]).
//!
//! Layers are keyed by `DiffID` and not by chain, so that the layers of one image are unpacked at the same time, straight from
//! the download, and shared in any order. The price is told in [`layer`].

pub mod archive;
mod changes;
mod check;
mod content;
#[cfg_attr(target_os = "linux", path = "durable_linux.rs")]
#[cfg_attr(not(target_os = "linux"), path = "durable_other.rs")]
mod durable;
mod error;
pub mod layer;
mod lock;
mod reserve;
pub mod snapshot;
mod spool;
mod sweep;
mod volumes;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::failpoint::{Point, pass};
use crate::model::{ContainerId, Digest};

pub use check::{Depth, Flaw, LayerState};
pub use content::{Content, Ingest};
pub use error::{EntryRefusal, LayerError, StoreError};
pub use layer::{Applied, LayerWriter, Layers, Limits, Seal};
pub use snapshot::{Root, Snapshotter};
pub use spool::{Spool, Spooled};
pub use sweep::Swept;
pub use volumes::Volumes;

const VERSION: &str = "1";

/// The store, open. Cheap to clone; any number of processes may have it open.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// Opens the store in `root`, and makes it if there is none. An existing one costs one small read.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let store = Self { root: root.to_owned() };
        let version = root.join("version");
        match fs::read_to_string(&version) {
            Ok(text) if text.trim_end() == VERSION => return Ok(store),
            Ok(text) => {
                return Err(StoreError::Version {
                    path: root.to_owned(),
                    found: text.trim_end().chars().take(40).collect(),
                    known: VERSION,
                });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(StoreError::io("read", &version)(error)),
        }
        make_private(root).map_err(StoreError::io("create", root))?;
        for directory in
            [store.blobs(), store.ingests(), store.layer_root(), store.seals(), store.container_root()]
        {
            fs::create_dir_all(&directory).map_err(StoreError::io("create", &directory))?;
        }
        // The version file last: whoever reads it finds the directories. Two processes write the same bytes.
        let temporary = root.join(format!("version.{}", std::process::id()));
        let write = || {
            let mut file = fs::File::create(&temporary)?;
            io::Write::write_all(&mut file, format!("{VERSION}\n").as_bytes())?;
            file.sync_all()?;
            fs::rename(&temporary, &version)?;
            // An empty version file after a power cut would be another layout's.
            for directory in [root.join("blobs"), root.to_owned(), root.parent().unwrap_or(root).to_owned()] {
                durable::sync_directory(&directory)?;
            }
            Ok(())
        };
        write().map_err(StoreError::io("write", &version))?;
        store.keep_reserve();
        Ok(store)
    }

    /// The root directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Blobs by digest.
    pub fn content(&self) -> Content<'_> {
        Content { store: self }
    }

    /// Unpacked layers by `DiffID`.
    pub fn layers(&self) -> Layers<'_> {
        Layers { store: self }
    }

    /// Volumes by name.
    pub fn volumes(&self) -> Volumes<'_> {
        Volumes { store: self }
    }

    /// Containers' root file systems, by the best means of this host.
    pub fn snapshots(&self) -> Box<dyn Snapshotter> {
        snapshot::detect(self)
    }

    /// Makes layers and blobs visible together: all verified, one sync, the renames, then the directories' fsync.
    ///
    /// If a blob's bytes are wrong, nothing is published; every layer was verified when it was applied.
    pub fn publish(&self, mut layers: Vec<LayerWriter>, mut ingests: Vec<Ingest>) -> Result<(), StoreError> {
        for ingest in &mut ingests {
            ingest.verify()?;
        }
        let failed = || StoreError::io("publish", &self.root);
        pass(Point::PublishVerified).map_err(failed())?;
        let seals = self.sync(&layers, &ingests)?;
        pass(Point::PublishSynced).map_err(failed())?;
        for ingest in &mut ingests {
            ingest.rename()?;
        }
        for layer in &mut layers {
            layer.rename()?;
        }
        for (changed, directory) in
            [(!ingests.is_empty(), self.blobs()), (!layers.is_empty(), self.layer_root())]
        {
            if changed {
                durable::sync_directory(&directory).map_err(StoreError::io("sync", &directory))?;
            }
        }
        pass(Point::Published).map_err(failed())?;
        for (layer, seal) in layers.iter().zip(&seals) {
            self.layers().keep(layer.diff_id(), seal)?;
        }
        Ok(())
    }

    /// Writes out what is not on the disk yet, whoever wrote it. This promises nothing; but the kernel would begin only after seconds,
    /// and [`Self::publish`] would wait for all of it at once.
    pub fn write_back(&self) {
        durable::write_back(&self.root);
    }

    /// Makes all of this durable, and looks meanwhile what the layers look like: the disk is slow, and the processor free.
    fn sync(&self, layers: &[LayerWriter], ingests: &[Ingest]) -> Result<Vec<Seal>, StoreError> {
        let mut trees: Vec<PathBuf> = ingests.iter().filter_map(Ingest::partial).collect();
        trees.extend(layers.iter().map(|layer| layer.temporary().to_owned()));
        // What was begun first has watched the longest.
        let watch = layers.first().map(|layer| &layer.watch).or(ingests.first().map(Ingest::watch));
        std::thread::scope(|scope| {
            let looking = scope.spawn(|| {
                let seal = |layer: &LayerWriter| {
                    Seal::of(layer.temporary()).map_err(StoreError::io("read", layer.temporary()))
                };
                layers.iter().map(seal).collect::<Result<Vec<_>, _>>()
            });
            let synced = watch.map_or(Ok(()), |watch| watch.sync(&trees));
            let seals = looking.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            synced.map_err(StoreError::io("sync", &self.root))?;
            seals
        })
    }

    /// The directory of a container's files.
    pub fn container_dir(&self, id: &ContainerId) -> PathBuf {
        self.container_root().join(id.as_str())
    }

    pub(crate) fn blobs(&self) -> PathBuf {
        self.root.join("blobs").join("sha256")
    }

    pub(crate) fn ingests(&self) -> PathBuf {
        self.root.join("ingest")
    }

    pub(crate) fn layer_root(&self) -> PathBuf {
        self.root.join("layers")
    }

    pub(crate) fn seals(&self) -> PathBuf {
        self.root.join("seals")
    }

    pub(crate) fn container_root(&self) -> PathBuf {
        self.root.join("containers")
    }
}

#[cfg(unix)]
fn make_private(root: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(root)
}

#[cfg(not(unix))]
fn make_private(root: &Path) -> io::Result<()> {
    fs::create_dir_all(root)
}

/// The entries of a directory whose names are 64 hex digits.
fn list_digests(directory: &Path) -> Result<Vec<Digest>, StoreError> {
    let failed = || StoreError::io("list", directory);
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed())? {
        let name = entry.map_err(failed())?.file_name();
        if let Some(Ok(digest)) = name.to_str().map(|hex| format!("sha256:{hex}").parse()) {
            found.push(digest);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
