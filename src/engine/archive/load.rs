//! `load`: images of an archive into the store.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Mutex;

use super::{Candidate, ImageArchiveError, docker, legacy, oci};
use crate::engine::progress::Progress;
use crate::engine::{Engine, EngineError};
use crate::failpoint::{Point, pass};
use crate::model::{Digest, Event, Image, Layer, Platform};
use crate::reference::Reference;
use crate::state::LeaseId;
use crate::store::archive::{Found, Members};
use crate::store::{Store, StoreError};

/// Layers that are unpacked at the same time; each has three threads.
const AT_ONCE: usize = 3;

/// Where an archive comes from.
pub enum Source {
    /// A pipe or a file.
    Stream(Box<dyn Read>),
    /// A directory that is an OCI image layout.
    Directory(PathBuf),
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stream(_) => f.write_str("Stream"),
            Self::Directory(path) => f.debug_tuple("Directory").field(path).finish(),
        }
    }
}

/// What was loaded, in the archive's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loaded {
    /// An image under a name; `from` is the image that had the name, which is nameless by it.
    Named {
        /// The name.
        name: Reference,
        /// Who had it.
        from: Option<Digest>,
    },
    /// An image that the archive gives no name.
    Nameless(Digest),
}

impl Engine {
    /// Takes the images of an archive in: those of the wanted platforms, or all that are whole in it.
    pub fn load(
        &self,
        from: Source,
        wanted: &[Platform],
        progress: &dyn Progress,
    ) -> Result<Vec<Loaded>, EngineError> {
        self.recover();
        let mut images = Vec::new();
        // Held from the first byte: an archive that was read halfway when its reader was killed is seen, and goes.
        let loaded = self.holding(&[], || {
            let leases = RefCell::new(Vec::new());
            let outcome = self.load_under(from, wanted, &leases, &mut images);
            for lease in leases.into_inner() {
                self.database.release(lease)?;
            }
            if outcome.is_err() {
                // What was taken in already is named by nothing.
                self.collect_garbage()?;
            }
            outcome
        })?;
        for image in &images {
            self.compile(image, progress);
        }
        Ok(loaded)
    }

    fn load_under(
        &self,
        from: Source,
        wanted: &[Platform],
        leases: &RefCell<Vec<LeaseId>>,
        images: &mut Vec<Image>,
    ) -> Result<Vec<Loaded>, EngineError> {
        let store = self.store()?;
        let hold = |digest: &Digest, size| self.hold(digest, size, leases);
        let mut members = match from {
            Source::Stream(stream) => Members::read(store, stream, &hold),
            Source::Directory(path) => Members::read_directory(store, &path, &hold),
        }
        .map_err(ImageArchiveError::from)?;
        let candidates = chosen(candidates(store, &mut members)?, wanted)?;
        pass(Point::ArchiveRead)
            .map_err(|source| EngineError::Path { path: store.root().to_owned(), source })?;
        let digests: Vec<Digest> = candidates
            .iter()
            .flat_map(|candidate| {
                let image = &candidate.image;
                let layers =
                    image.layers.iter().flat_map(|layer| [layer.digest.clone(), layer.diff_id.clone()]);
                layers.chain([image.id.clone(), image.manifest.clone(), image.target.clone()])
            })
            .collect();
        leases.borrow_mut().push(self.database.lease(&digests)?);
        let sizes = place(store, &candidates)?;
        let mut loaded = Vec::new();
        for candidate in candidates {
            let mut image = candidate.image;
            image.unpacked_size = image.layers.iter().filter_map(|layer| sizes.get(&layer.diff_id)).sum();
            for bytes in [Some(&candidate.manifest), Some(&candidate.config), candidate.index.as_ref()]
                .into_iter()
                .flatten()
            {
                store.content().put(bytes)?;
            }
            if candidate.names.is_empty() {
                let news = Event::image(&image.id, "load", image.id.as_str());
                self.database.record_image(&image, None, &[news])?;
                loaded.push(Loaded::Nameless(image.id.clone()));
            }
            for name in candidate.names {
                let news = Event::image(&image.id, "load", &name.to_string());
                let before = self.database.image_by_name(&name.canonical(), Some(&image.platform))?;
                let from = before.into_iter().map(|stored| stored.image.id).find(|id| *id != image.id);
                self.database.record_image(&image, Some(&name.canonical()), &[news])?;
                loaded.push(Loaded::Named { name, from });
            }
            images.push(image);
        }
        Ok(loaded)
    }
}

/// The images of an archive, in whatever layout it has.
fn candidates(store: &Store, members: &mut Members) -> Result<Vec<Candidate>, ImageArchiveError> {
    if let Some(mut found) = (oci::Layout { store, members }).images()? {
        if found.iter().any(|candidate| candidate.names.is_empty())
            && let Some(items) = docker::items(store, members)?
        {
            for item in items {
                let id = Digest::of(&item.config);
                let nameless = found.iter_mut().find(|known| known.image.id == id && known.names.is_empty());
                if let Some(nameless) = nameless {
                    nameless.names = item.names;
                }
            }
        }
        return Ok(found);
    }
    let items = match docker::items(store, members)? {
        Some(items) => Some(items),
        None => legacy::items(store, members)?,
    };
    let items = items.ok_or(ImageArchiveError::NoImage)?;
    items.into_iter().map(|item| docker::image(store, members, item)).collect()
}

fn chosen(found: Vec<Candidate>, wanted: &[Platform]) -> Result<Vec<Candidate>, ImageArchiveError> {
    if found.is_empty() {
        return Err(ImageArchiveError::NoImage);
    }
    if wanted.is_empty() {
        return Ok(found);
    }
    let list = |all: &mut dyn Iterator<Item = &Platform>| {
        let mut all: Vec<_> = all.map(ToString::to_string).collect();
        all.sort_unstable();
        all.dedup();
        all.join(", ")
    };
    let offered = list(&mut found.iter().map(|candidate| &candidate.image.platform));
    let fits = |c: &Candidate| wanted.iter().any(|wish| wish.accepts(&c.image.platform));
    let chosen: Vec<_> = found.into_iter().filter(fits).collect();
    if chosen.is_empty() {
        return Err(ImageArchiveError::Platform { wanted: list(&mut wanted.iter()), offered });
    }
    Ok(chosen)
}

/// Unpacks and publishes all layers, a few at a time; their unpacked sizes.
fn place(store: &Store, candidates: &[Candidate]) -> Result<BTreeMap<Digest, u64>, EngineError> {
    let mut wanted: BTreeMap<&Digest, (&Layer, &Found)> = BTreeMap::new();
    for candidate in candidates {
        for (layer, place) in candidate.image.layers.iter().zip(&candidate.layers) {
            if let Some((other, _)) = wanted.insert(&layer.digest, (layer, place))
                && other.diff_id != layer.diff_id
            {
                let (expected, found) = (other.diff_id.clone(), layer.diff_id.clone());
                return Err(StoreError::DigestMismatch { expected, found }.into());
            }
        }
    }
    let sizes = Mutex::new(BTreeMap::new());
    let queue = Mutex::new(wanted.into_values());
    let work = || -> Result<(), EngineError> {
        loop {
            let Ok(Some((layer, from))) = queue.lock().map(|mut queue| queue.next()) else { return Ok(()) };
            let size = place_one(store, layer, from)?;
            if let Ok(mut sizes) = sizes.lock() {
                sizes.insert(layer.diff_id.clone(), size);
            }
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            // A panic (a bug of ours) is carried on, not hidden.
            .try_for_each(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })?;
    Ok(sizes.into_inner().unwrap_or_default())
}

/// Unpacks one layer and takes its blob over, both published together.
pub(in crate::engine) fn place_one(store: &Store, layer: &Layer, from: &Found) -> Result<u64, EngineError> {
    let path = match from {
        Found::Spooled(spooled) => spooled.path().to_owned(),
        Found::Stored(digest) => store.content().path(digest),
    };
    let mut writers = Vec::new();
    let size = match store.layers().begin(&layer.diff_id)? {
        None => store.layers().unpacked_size(&layer.diff_id)?,
        Some(mut writer) => {
            let file =
                File::open(&path).map_err(|source| EngineError::Path { path: path.clone(), source })?;
            let applied = writer.apply(file, layer.kind)?;
            writers.push(writer);
            applied.unpacked_size
        }
    };
    let ingests = match from {
        Found::Spooled(spooled) => vec![store.content().adopt(spooled)?],
        Found::Stored(_) => Vec::new(),
    };
    store.publish(writers, ingests)?;
    Ok(size)
}
