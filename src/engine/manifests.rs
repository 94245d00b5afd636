//! Manifest lists: tags for several platforms, put together by hand (docker's `manifest`).
//!
//! A list is made here and pushed when it is complete. Its members are images of the store or of a registry, of either kind: a
//! Linux image and a Wasm module under one tag. An image that is here is taken from here, and its content goes along with
//! the list; one that is only at the list's own registry is mounted there, never sent through this machine.

use super::progress::Silent;
use super::push::{Pusher, content, denied, entry};
use super::{Engine, EngineError};
use crate::model::{Digest, ErrorKind, Kind, ListEntry};
use crate::reference::Reference;
use crate::registry::{Client, Found, IndexEntry, RegistryError, WirePlatform, entries, index, media_type};

/// Why a manifest list cannot be.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// No such list, or no such manifest.
    #[error("no such manifest: {name}")]
    NoManifest {
        /// The name.
        name: String,
    },
    /// It is there, and is not to be changed.
    #[error("refusing to amend an existing manifest list with no --amend flag: {name}")]
    Exists {
        /// The list.
        name: String,
    },
    /// The list does not list it.
    #[error("manifest for image {name} does not exist in {list}")]
    NotListed {
        /// The image.
        name: String,
        /// The list.
        list: String,
    },
    /// It is one for several platforms itself.
    #[error("{name} is a manifest list")]
    IsList {
        /// The image.
        name: String,
    },
    /// A registry cannot take what another one has.
    #[error("cannot use source images from a different registry than the target image: {from} != {to}")]
    OtherRegistry {
        /// Where the image is.
        from: String,
        /// Where the list goes.
        to: String,
    },
    /// The registry does not lend from one repository to another.
    #[error("registry {host} does not take {digest} over from {from}")]
    NotMounted {
        /// The registry.
        host: String,
        /// The blob.
        digest: Digest,
        /// The repository that has it.
        from: String,
    },
    /// The image was removed after it was listed.
    #[error("image {name}, which the list has from here, is not here any more")]
    Gone {
        /// The image.
        name: String,
    },
    /// A platform needs both.
    #[error("manifest entry for image {name} needs an operating system and an architecture")]
    NoPlatform {
        /// The image.
        name: String,
    },
}

impl Kind for ListError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NoManifest { .. } | Self::NotListed { .. } | Self::Gone { .. } => ErrorKind::NotFound,
            Self::Exists { .. } => ErrorKind::Conflict,
            Self::IsList { .. } | Self::OtherRegistry { .. } | Self::NoPlatform { .. } => {
                ErrorKind::InvalidInput
            }
            Self::NotMounted { .. } => ErrorKind::Unavailable,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::IsList { .. } => vec!["name one of its images by digest, or by a tag of its own".into()],
            Self::OtherRegistry { .. } | Self::NotMounted { .. } => {
                vec!["pull the image and make the list anew: what is here goes along with the list".into()]
            }
            _ => Vec::new(),
        }
    }
}

/// What is said about an entry; what is `None` or empty stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Annotation {
    /// `architecture`
    pub architecture: Option<String>,
    /// `os`
    pub os: Option<String>,
    /// `os.features`
    pub os_features: Vec<String>,
    /// `os.version`
    pub os_version: Option<String>,
    /// `variant`
    pub variant: Option<String>,
}

/// A manifest or list, to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InspectedManifest {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Whether it is a list.
    pub list: bool,
    /// What it lists, or itself.
    pub entries: Vec<ListEntry>,
}

impl Engine {
    fn list_client(&self, name: &Reference, insecure: bool) -> Client {
        let client = Client::new(&self.config);
        if insecure { client.insecurely(name.registry()) } else { client }
    }

    /// Makes a list, or adds to one.
    pub fn create_list(
        &self,
        list: &Reference,
        members: &[Reference],
        amend: bool,
        insecure: bool,
    ) -> Result<(), EngineError> {
        if !amend && !self.database.list_entries(&list.canonical())?.is_empty() {
            return Err(ListError::Exists { name: list.to_string() }.into());
        }
        let found: Result<Vec<_>, _> = members.iter().map(|member| self.member(member, insecure)).collect();
        Ok(self.database.put_list_entries(&list.canonical(), &found?)?)
    }

    /// An image as an entry: of the store, else of its registry.
    fn member(&self, name: &Reference, insecure: bool) -> Result<ListEntry, EngineError> {
        let here = self.database.image_by_name(&name.canonical(), None)?;
        if here.len() > 1 {
            return Err(ListError::IsList { name: name.to_string() }.into());
        }
        if let [stored] = here.as_slice() {
            let listed = entry(self.store()?, &stored.image)?;
            let raw = self.store()?.content().read_small(&listed.digest, listed.size)?;
            return Ok(made(name, listed, &raw, Some(stored.image.id.clone())));
        }
        let client = self.list_client(name, insecure);
        let resolved = match super::event_loop()?.block_on(client.resolve(name, &[])) {
            Err(RegistryError::NotFound { .. } | RegistryError::Denied { .. }) => {
                return Err(ListError::NoManifest { name: name.to_string() }.into());
            }
            outcome => outcome?,
        };
        if resolved.index.is_some() {
            return Err(ListError::IsList { name: name.to_string() }.into());
        }
        let bad = |source| RegistryError::Manifest { name: name.to_string(), source };
        let (os, architecture) = resolved.image.platform_as_published.split_once('/').unwrap_or_default();
        let listed = IndexEntry {
            media_type: media_type(&resolved.manifest).map_err(bad)?,
            digest: resolved.target,
            size: resolved.manifest.len() as u64,
            platform: WirePlatform {
                os: os.to_owned(),
                architecture: architecture.to_owned(),
                variant: resolved.image.platform.variant.clone(),
                ..WirePlatform::default()
            },
        };
        Ok(made(name, listed, &resolved.manifest, None))
    }

    /// Says more about an entry of a list.
    pub fn annotate(&self, list: &Reference, name: &Reference, said: Annotation) -> Result<(), EngineError> {
        let entries = self.database.list_entries(&list.canonical())?;
        if entries.is_empty() {
            return Err(ListError::NoManifest { name: list.to_string() }.into());
        }
        let full = name.canonical();
        let Some(mut entry) = entries.into_iter().find(|entry| entry.reference == full) else {
            return Err(ListError::NotListed { name: name.to_string(), list: list.to_string() }.into());
        };
        entry.os = said.os.unwrap_or(entry.os);
        entry.architecture = said.architecture.unwrap_or(entry.architecture);
        entry.variant = said.variant.or(entry.variant);
        entry.os_version = said.os_version.or(entry.os_version);
        for feature in said.os_features {
            if !entry.os_features.contains(&feature) {
                entry.os_features.push(feature);
            }
        }
        if entry.os.is_empty() || entry.architecture.is_empty() {
            return Err(ListError::NoPlatform { name: name.to_string() }.into());
        }
        Ok(self.database.put_list_entries(&list.canonical(), &[entry])?)
    }

    /// A manifest: an entry of a list here; a list here; what the registry has; or what the store has.
    pub fn inspect_manifest(
        &self,
        list: Option<&Reference>,
        name: &Reference,
        insecure: bool,
    ) -> Result<InspectedManifest, EngineError> {
        let entries = self.database.list_entries(&list.unwrap_or(name).canonical())?;
        if let Some(list) = list {
            let full = name.canonical();
            let entry = entries.into_iter().find(|entry| entry.reference == full);
            let missing = || ListError::NotListed { name: name.to_string(), list: list.to_string() };
            return Ok(single(entry.ok_or_else(missing)?));
        }
        if !entries.is_empty() {
            return Ok(InspectedManifest { bytes: index(&listed(&entries)), list: true, entries });
        }
        let runtime = super::event_loop()?;
        let client = self.list_client(name, insecure);
        let kept = match runtime.block_on(client.document(name)) {
            Ok(kept) => kept,
            Err(error) => {
                let here = self.database.image_by_name(&name.canonical(), None)?;
                return match (here.as_slice(), error) {
                    ([_], _) => Ok(single(self.member(name, insecure)?)),
                    (_, RegistryError::NotFound { .. } | RegistryError::Denied { .. }) => {
                        Err(ListError::NoManifest { name: name.to_string() }.into())
                    }
                    (_, error) => Err(error.into()),
                };
            }
        };
        let own = |media_type: String, bytes: &[u8], platform: WirePlatform| {
            let (digest, size) = (Digest::of(bytes), bytes.len() as u64);
            let at = name.with_digest(&digest);
            made(&at, IndexEntry { media_type, digest, size, platform }, bytes, None)
        };
        let Found::Index(children) = kept.found else {
            let entry = own(kept.media_type, &kept.bytes, WirePlatform::default());
            return Ok(InspectedManifest { bytes: kept.bytes, list: false, entries: vec![entry] });
        };
        let mut entries = Vec::new();
        for child in children.iter().take(100) {
            let document = runtime.block_on(client.document(&name.with_digest(&child.digest)))?;
            let platform = child.platform.clone().unwrap_or_default();
            entries.push(own(document.media_type, &document.bytes, platform));
        }
        Ok(InspectedManifest { bytes: kept.bytes, list: true, entries })
    }

    /// Pushes a list with what it lists; `each` hears of every manifest. The list's digest.
    pub fn push_list(
        &self,
        list: &Reference,
        purge: bool,
        insecure: bool,
        each: &mut dyn FnMut(&Reference, &Digest),
    ) -> Result<Digest, EngineError> {
        let all = self.database.list_entries(&list.canonical())?;
        if all.is_empty() {
            return Err(ListError::NoManifest { name: list.to_string() }.into());
        }
        let client = self.list_client(list, insecure);
        let runtime = super::event_loop()?;
        let pusher = self.pusher(&client, list, &Silent)?;
        for entry in &all {
            let outcome = if let Some(id) = &entry.local {
                let gone = || ListError::Gone { name: entry.reference.clone() };
                let stored = self.database.image(id)?.ok_or_else(gone)?;
                if stored.image.manifest != entry.digest {
                    return Err(gone().into());
                }
                let send = || runtime.block_on(pusher.image(&stored, None)).map(drop);
                self.holding(&content(&stored.image), send)
            } else {
                runtime.block_on(pusher.take_over(list, entry))
            };
            outcome.map_err(|error| denied(&client, error, list))?;
            each(&list.with_digest(&entry.digest), &entry.digest);
        }
        let bytes = index(&listed(&all));
        let bad = |source| RegistryError::Manifest { name: list.to_string(), source };
        let kind = media_type(&bytes).map_err(bad)?;
        let put = runtime.block_on(client.put_manifest(&pusher.to, list.tag(), &bytes, &kind));
        let digest = put.map_err(|error| client.push_denied(error, list))?;
        if purge {
            self.database.remove_list(&list.canonical())?;
        }
        Ok(digest)
    }

    /// Forgets a list.
    pub fn remove_list(&self, list: &Reference) -> Result<(), EngineError> {
        if self.database.remove_list(&list.canonical())? {
            Ok(())
        } else {
            Err(ListError::NoManifest { name: list.to_string() }.into())
        }
    }
}

fn made(name: &Reference, listed: IndexEntry, raw: &[u8], local: Option<Digest>) -> ListEntry {
    ListEntry {
        reference: name.canonical(),
        media_type: listed.media_type,
        digest: listed.digest,
        raw: String::from_utf8_lossy(raw).into_owned(),
        os: listed.platform.os,
        architecture: listed.platform.architecture,
        variant: listed.platform.variant,
        os_version: listed.platform.os_version,
        os_features: listed.platform.os_features,
        local,
    }
}

fn single(entry: ListEntry) -> InspectedManifest {
    InspectedManifest { bytes: entry.raw.clone().into_bytes(), list: false, entries: vec![entry] }
}

fn listed(entries: &[ListEntry]) -> Vec<IndexEntry> {
    let one = |entry: &ListEntry| IndexEntry {
        media_type: entry.media_type.clone(),
        digest: entry.digest.clone(),
        size: entry.raw.len() as u64,
        platform: WirePlatform {
            os: entry.os.clone(),
            architecture: entry.architecture.clone(),
            variant: entry.variant.clone(),
            os_version: entry.os_version.clone(),
            os_features: entry.os_features.clone(),
        },
    };
    entries.iter().map(one).collect()
}

impl Pusher<'_> {
    /// Makes the registry take a manifest over from another repository of its own.
    async fn take_over(&self, list: &Reference, entry: &ListEntry) -> Result<(), EngineError> {
        let from: Reference = entry.reference.parse()?;
        if from.registry() != list.registry() {
            let (from, to) = (from.registry().to_owned(), list.registry().to_owned());
            return Err(ListError::OtherRegistry { from, to }.into());
        }
        if from.same_repository(list) {
            return Ok(());
        }
        let bad = |source| RegistryError::Manifest { name: entry.reference.clone(), source };
        let Found::Manifest(config, layers) = entries(entry.raw.as_bytes()).map_err(bad)? else {
            return Err(ListError::IsList { name: entry.reference.clone() }.into());
        };
        let lender = from.repository().to_owned();
        for blob in layers.iter().chain([&config]) {
            if self.client.has_blob(&self.to, &blob.digest).await? {
                continue;
            }
            if self.client.mount(&self.to, &blob.digest, std::slice::from_ref(&lender)).await?.is_none() {
                let (host, digest) = (self.to.host.clone(), blob.digest.clone());
                return Err(ListError::NotMounted { host, digest, from: lender }.into());
            }
        }
        self.client.put_manifest(&self.to, None, entry.raw.as_bytes(), &entry.media_type).await?;
        Ok(())
    }
}
