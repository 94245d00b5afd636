//! Pushing: what a name stands for here goes to its registry as it is, so ids and digests stay.
//!
//! What goes under the tag:
//! - an image that came in an index, with all the others of that index here: the index as it came;
//! - several images of different platforms under one name, from different places: an index made of them;
//! - otherwise the one image's manifest, and if it is one of an index, the caller is told that the index was left out.
//!
//! A layer whose compressed form is not here (another image brought the same files in another compression) is not made up,
//! because its digest would be another one: it is left to the registry if that has it, or fetched from where the image came from.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use futures_util::future::try_join_all;
use tokio::sync::Semaphore;

use super::progress::{Phase, Progress};
use super::{Engine, EngineError};
use crate::demo;
use crate::failpoint::{Point, pass};
use crate::model::{Digest, ErrorKind, Event, EventType, Image, Kind, Platform};
use crate::reference::Reference;
use crate::registry::{
    Client, Descriptor, Found, IndexEntry, LIMITS, Outgoing, Placed, RegistryError, Source, WirePlatform,
    entries, index, media_type,
};
use crate::state::StoredImage;
use crate::store::{Store, StoreError};

/// What to push.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PushOptions {
    /// Only the image of this platform, as a single one.
    pub platform: Option<Platform>,
}

/// What a push did under one tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// The tag.
    pub tag: String,
    /// What it points to now.
    pub digest: Digest,
    /// Bytes of that manifest or index.
    pub size: usize,
    /// The index that the image came in, which was not pushed because others of it are not here.
    pub left_out: Option<Digest>,
}

/// Why something cannot be pushed.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// Nothing here has the name.
    #[error("An image does not exist locally with the tag: {name}")]
    NoTag {
        /// The name, in familiar form.
        name: String,
    },
    /// The name has no image of the platform.
    #[error("image {name} is not here for {wanted}: it is here for {}", available.join(", "))]
    NoPlatform {
        /// The name.
        name: String,
        /// What was wanted.
        wanted: Platform,
        /// What there is.
        available: Vec<String>,
    },
    /// A digest names no place in a repository that could be chosen.
    #[error("cannot push a digest reference")]
    Digest,
    /// `--all-tags` with a tag.
    #[error("tag can't be used with --all-tags/-a")]
    TagAndAll,
    /// The registry that the binary carries takes nothing.
    #[error("{host} is carried by this program and takes no images")]
    BuiltIn {
        /// Its name.
        host: &'static str,
    },
    /// Only the unpacked layer is here, and nobody has the packed one.
    #[error("layer {digest} of {name} is here in its unpacked form only")]
    Unpacked {
        /// The layer.
        digest: Digest,
        /// The image.
        name: String,
        /// Why it cannot be had from where the image came from.
        #[source]
        source: Option<Box<EngineError>>,
    },
}

impl Kind for PushError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NoTag { .. } | Self::NoPlatform { .. } => ErrorKind::NotFound,
            Self::Digest | Self::TagAndAll | Self::BuiltIn { .. } => ErrorKind::InvalidInput,
            Self::Unpacked { .. } => ErrorKind::Unavailable,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Digest => vec!["give the image a name with `umiak tag`, and push that".into()],
            Self::BuiltIn { .. } => vec!["`umiak tag` it with the name of a registry of yours".into()],
            _ => Vec::new(),
        }
    }
}

/// What goes under a tag.
pub(super) struct Plan {
    images: Vec<StoredImage>,
    /// The index over them, if it is not one alone.
    index: Option<Vec<u8>>,
    left_out: Option<Digest>,
}

/// One push: where to, and what it shares among images.
pub(super) struct Pusher<'a> {
    pub(super) client: &'a Client,
    pub(super) store: &'a Store,
    pub(super) to: Source,
    pub(super) slots: Semaphore,
    /// Repositories of the same registry that may have a layer.
    pub(super) lenders: BTreeMap<Digest, Vec<String>>,
    pub(super) progress: &'a dyn Progress,
}

impl Engine {
    /// The tags that a repository has here, sorted.
    pub fn local_tags(&self, reference: &Reference) -> Result<Vec<Reference>, EngineError> {
        let mut found: Vec<Reference> = Vec::new();
        for stored in self.database.images()? {
            let names = stored.names.iter().filter_map(|name| name.parse::<Reference>().ok());
            found.extend(names.filter(|name| name.same_repository(reference) && name.digest().is_none()));
        }
        found.sort();
        found.dedup();
        if found.is_empty() {
            return Err(PushError::NoTag { name: reference.familiar_name() }.into());
        }
        Ok(found)
    }

    /// Pushes names of one repository, each under its tag; `each` hears of every one that is done.
    pub fn push(
        &self,
        names: &[Reference],
        options: &PushOptions,
        progress: &dyn Progress,
        each: &mut dyn FnMut(Pushed),
    ) -> Result<(), EngineError> {
        let Some(first) = names.first() else { return Ok(()) };
        if first.registry() == demo::REGISTRY {
            return Err(PushError::BuiltIn { host: demo::REGISTRY }.into());
        }
        if names.iter().any(|name| name.digest().is_some()) {
            return Err(PushError::Digest.into());
        }
        let runtime = super::event_loop()?;
        let client = Client::new(&self.config);
        let pusher = self.pusher(&client, first, progress)?;
        for name in names {
            let plan = self.plan(name, options)?;
            let content = plan.images.iter().flat_map(|stored| content(&stored.image)).collect::<Vec<_>>();
            let outcome = self.holding(&content, || runtime.block_on(pusher.carry_out(name, plan)));
            let done = outcome.map_err(|error| denied(&client, error, name))?;
            let news = Event::new(EventType::Image, "push", name.to_string());
            self.database.note(&[news.with("name", name.familiar_name())])?;
            each(done);
        }
        Ok(())
    }

    pub(super) fn pusher<'a>(
        &'a self,
        client: &'a Client,
        to: &Reference,
        progress: &'a dyn Progress,
    ) -> Result<Pusher<'a>, EngineError> {
        let mut lenders: BTreeMap<Digest, Vec<String>> = BTreeMap::new();
        for stored in self.database.images()?.into_iter().flat_map(StoredImage::versions) {
            for name in stored.names.iter().filter_map(|name| name.parse::<Reference>().ok()) {
                if name.registry() != to.registry() || name.same_repository(to) {
                    continue;
                }
                for digest in stored.image.layers.iter().map(|layer| &layer.digest).chain([&stored.image.id])
                {
                    let known = lenders.entry(digest.clone()).or_default();
                    if !known.iter().any(|one| one == name.repository()) {
                        known.push(name.repository().to_owned());
                    }
                }
            }
        }
        Ok(Pusher {
            client,
            store: self.store()?,
            to: Source { host: to.registry().to_owned(), repository: to.repository().to_owned() },
            slots: Semaphore::new(self.config.push.parallel),
            lenders,
            progress,
        })
    }

    fn plan(&self, name: &Reference, options: &PushOptions) -> Result<Plan, EngineError> {
        let mut images = self.database.image_by_name(&name.canonical(), None)?;
        if images.is_empty() {
            return Err(PushError::NoTag { name: name.to_string() }.into());
        }
        if let Some(wanted) = &options.platform {
            let available = images.iter().map(|stored| stored.image.platform.to_string()).collect();
            images.retain(|stored| wanted.accepts(&stored.image.platform));
            images.truncate(1);
            if images.is_empty() {
                let (name, wanted) = (name.to_string(), wanted.clone());
                return Err(PushError::NoPlatform { name, wanted, available }.into());
            }
            return Ok(Plan { images, index: None, left_out: None });
        }
        let whole =
            images.iter().find_map(|stored| self.whole_index(&stored.image.target, &images).transpose());
        if let Some(bytes) = whole.transpose()? {
            return Ok(Plan { images, index: Some(bytes), left_out: None });
        }
        if let [only] = images.as_slice() {
            let left_out = Some(&only.image.target).filter(|target| **target != only.image.manifest).cloned();
            return Ok(Plan { images, index: None, left_out });
        }
        let store = self.store()?;
        let listed: Result<Vec<_>, _> = images.iter().map(|stored| entry(store, &stored.image)).collect();
        Ok(Plan { index: Some(index(&listed?)), images, left_out: None })
    }

    /// The index with this digest, if it is here and lists these images and no others.
    fn whole_index(&self, target: &Digest, images: &[StoredImage]) -> Result<Option<Vec<u8>>, EngineError> {
        let content = self.store()?.content();
        if !content.has(target) {
            return Ok(None);
        }
        let bytes = content.read_small(target, LIMITS.manifest)?;
        let Ok(Found::Index(listed)) = entries(&bytes) else { return Ok(None) };
        let here = |digest: &Digest| images.iter().any(|stored| stored.image.manifest == *digest);
        let all = listed.iter().all(|entry| here(&entry.digest))
            && images.iter().all(|stored| listed.iter().any(|entry| entry.digest == stored.image.manifest));
        Ok(all.then_some(bytes))
    }
}

fn passed(path: &Path) -> impl FnOnce(io::Error) -> EngineError {
    move |source| EngineError::Path { path: path.to_owned(), source }
}

/// What a lease has to hold for an image's push.
pub(super) fn content(image: &Image) -> Vec<Digest> {
    let layers = image.layers.iter().map(|layer| layer.digest.clone());
    layers.chain([image.id.clone(), image.manifest.clone(), image.target.clone()]).collect()
}

/// An image as an index lists it.
pub(super) fn entry(store: &Store, image: &Image) -> Result<IndexEntry, EngineError> {
    let bytes = store.content().read_small(&image.manifest, LIMITS.manifest)?;
    let (os, architecture) = image.platform_as_published.split_once('/').unwrap_or_default();
    Ok(IndexEntry {
        media_type: kind_of(&bytes, &image.id)?,
        digest: image.manifest.clone(),
        size: bytes.len() as u64,
        platform: WirePlatform {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            variant: image.platform.variant.clone(),
            ..WirePlatform::default()
        },
    })
}

pub(super) fn kind_of(bytes: &[u8], image: &Digest) -> Result<String, EngineError> {
    let bad = |source| RegistryError::Manifest { name: image.short().to_owned(), source };
    Ok(media_type(bytes).map_err(bad)?)
}

pub(super) fn denied(client: &Client, error: EngineError, name: &Reference) -> EngineError {
    match error {
        EngineError::Registry(error) => client.push_denied(error, name).into(),
        other => other,
    }
}

impl Pusher<'_> {
    async fn carry_out(&self, name: &Reference, plan: Plan) -> Result<Pushed, EngineError> {
        let tag = name.tag().unwrap_or_default();
        let alone = plan.index.is_none();
        let mut pushed = None;
        for stored in &plan.images {
            pushed = Some(self.image(stored, alone.then_some(tag)).await?);
        }
        let (digest, size) = match (&plan.index, pushed) {
            (Some(bytes), _) => {
                let kind = kind_of(bytes, &Digest::of(bytes))?;
                (self.manifest(Some(tag), bytes, &kind).await?, bytes.len())
            }
            (None, Some(pushed)) => pushed,
            (None, None) => return Err(PushError::NoTag { name: name.to_string() }.into()),
        };
        Ok(Pushed { tag: tag.to_owned(), digest, size, left_out: plan.left_out })
    }

    /// Pushes an image: its blobs, and then its manifest, under a tag or by digest alone.
    pub(super) async fn image(
        &self,
        stored: &StoredImage,
        tag: Option<&str>,
    ) -> Result<(Digest, usize), EngineError> {
        let bytes = self.store.content().read_small(&stored.image.manifest, LIMITS.manifest)?;
        let bad = |source| RegistryError::Manifest { name: stored.image.id.short().to_owned(), source };
        let (config, mut layers) = match entries(&bytes).map_err(bad)? {
            Found::Manifest(config, layers) => (config, layers),
            Found::Index(_) => {
                return Err(StoreError::Missing { digest: stored.image.manifest.clone() }.into());
            }
        };
        let mut seen = std::collections::BTreeSet::new();
        layers.retain(|layer| seen.insert(layer.digest.clone()));
        for layer in &layers {
            self.progress.layer(layer.digest.short(), Phase::Preparing);
        }
        try_join_all(layers.iter().map(|layer| self.blob(stored, layer, true))).await?;
        // After the layers: a registry that has the config of an image tends to be taken for one that has the image.
        self.blob(stored, &config, false).await?;
        let kind = media_type(&bytes).map_err(bad)?;
        Ok((self.manifest(tag, &bytes, &kind).await?, bytes.len()))
    }

    async fn manifest(&self, tag: Option<&str>, bytes: &[u8], kind: &str) -> Result<Digest, EngineError> {
        let digest = self.client.put_manifest(&self.to, tag, bytes, kind).await?;
        pass(Point::ManifestPushed).map_err(passed(self.store.root()))?;
        Ok(digest)
    }

    async fn blob(&self, stored: &StoredImage, blob: &Descriptor, shown: bool) -> Result<(), EngineError> {
        let (short, total) = (blob.digest.short(), blob.size);
        let say = |phase| {
            if shown {
                self.progress.layer(short, phase);
            }
        };
        if self.slots.available_permits() == 0 {
            say(Phase::Waiting);
        }
        // The semaphore is never closed.
        let _slot = self.slots.acquire().await;
        let from = self.lenders.get(&blob.digest).map(Vec::as_slice).unwrap_or_default();
        let content = self.store.content();
        if !content.has(&blob.digest) {
            if self.client.has_blob(&self.to, &blob.digest).await? {
                say(Phase::Present);
                return Ok(());
            }
            if let Some(lender) = self.client.mount(&self.to, &blob.digest, from).await? {
                self.progress.mounted(short, &lender);
                return Ok(());
            }
            self.fetch(stored, blob).await?;
        }
        let (digest, path) = (blob.digest.clone(), content.path(&blob.digest));
        let outgoing = Outgoing { size: content.size(&digest)?, digest, path };
        let report = |done| say(Phase::Pushing { done, total });
        match self.client.upload(&self.to, &outgoing, from, &report).await? {
            Placed::Existed => say(Phase::Present),
            Placed::Mounted(lender) if shown => self.progress.mounted(short, &lender),
            Placed::Mounted(_) => {}
            Placed::Uploaded => {
                pass(Point::BlobPushed).map_err(passed(&outgoing.path))?;
                say(Phase::Pushed);
            }
        }
        Ok(())
    }

    /// Gets a blob from where the image came from, by any of its names.
    async fn fetch(&self, stored: &StoredImage, blob: &Descriptor) -> Result<(), EngineError> {
        let mut last = None;
        for name in stored.names.iter().filter_map(|name| name.parse::<Reference>().ok()) {
            let source =
                Source { host: name.registry().to_owned(), repository: name.repository().to_owned() };
            if source == self.to {
                continue;
            }
            let ingest = self.store.content().ingest(&blob.digest, blob.size)?;
            match super::blob::fetch(self.client, &source, &blob.digest, blob.size, ingest).await {
                Ok(()) => return Ok(()),
                Err(error) => last = Some(Box::new(error)),
            }
        }
        let name = stored.names.first().cloned().unwrap_or_else(|| stored.image.id.short().to_owned());
        Err(PushError::Unpacked { digest: blob.digest.clone(), name, source: last }.into())
    }
}
