//! `save`: images of the store into an archive, or a directory.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::{ImageArchiveError, OCI_INDEX, OCI_MANIFEST, Wire, layer_type};
use crate::engine::{Engine, EngineError, ImageView};
use crate::model::{Digest, Event, Image, Packaging, Platform};
use crate::reference::Reference;
use crate::registry::{self, Document, LIMITS};
use crate::store::Store;

/// Which layouts an archive has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// Docker's and the OCI's, over one set of blobs.
    #[default]
    Both,
    /// The OCI's alone.
    Oci,
}

/// Where it goes.
pub enum Destination<'a> {
    /// A tar archive.
    Stream(&'a mut dyn Write),
    /// A directory that is not there yet, or empty.
    Directory(&'a Path),
}

impl std::fmt::Debug for Destination<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stream(_) => f.write_str("Stream"),
            Self::Directory(path) => f.debug_tuple("Directory").field(path).finish(),
        }
    }
}

/// Images under one name, or one image under none.
struct Chosen {
    name: Option<Reference>,
    images: Vec<ImageView>,
}

/// What an archive is to hold.
#[derive(Default)]
struct Content {
    blobs: BTreeSet<Digest>,
    entries: Vec<Wire>,
    /// Items of `manifest.json`, by image id, in the order of first mention.
    items: Vec<(Digest, Map<String, Value>)>,
    repositories: BTreeMap<String, BTreeMap<String, String>>,
}

impl Engine {
    /// Writes images, named or by id, with all their platforms that are here, or the wanted ones.
    pub fn save(
        &self,
        names: &[String],
        wanted: &[Platform],
        format: Format,
        mut to: Destination<'_>,
    ) -> Result<(), EngineError> {
        let chosen = names.iter().map(|name| self.chosen(name, wanted)).collect::<Result<Vec<_>, _>>()?;
        let store = self.store()?;
        let held: Vec<Digest> = chosen
            .iter()
            .flat_map(|chosen| &chosen.images)
            .flat_map(|view| {
                let image = &view.image;
                let layers = image.layers.iter().map(|layer| layer.digest.clone());
                layers.chain([image.id.clone(), image.manifest.clone(), image.target.clone()])
            })
            .collect();
        let lease = self.database.lease(&held)?;
        let outcome = (|| {
            let mut content = Content::default();
            for chosen in &chosen {
                content.add(store, chosen, !wanted.is_empty())?;
            }
            match &mut to {
                Destination::Stream(stream) => {
                    let mut archive = Archive { to: stream };
                    content.write(store, format, &mut archive)?;
                    archive.end()
                }
                Destination::Directory(path) => content.write(store, format, &mut Directory::new(path)?),
            }
        })();
        self.database.release(lease)?;
        outcome?;
        for view in chosen.iter().flat_map(|chosen| &chosen.images) {
            let id = &view.image.id;
            let name = view.names.first().and_then(|name| name.parse::<Reference>().ok());
            let name = name.map_or_else(|| id.to_string(), |name| name.to_string());
            self.note(Event::image(id, "save", &name));
        }
        Ok(())
    }

    fn chosen(&self, typed: &str, wanted: &[Platform]) -> Result<Chosen, EngineError> {
        let found = self.find_image(typed, wanted).map_err(|error| match error {
            EngineError::MissingImage { .. } if !wanted.is_empty() && self.find_image(typed, &[]).is_ok() => {
                let wanted = wanted.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                ImageArchiveError::NoPlatform { name: typed.to_owned(), wanted }.into()
            }
            EngineError::MissingImage { name } => EngineError::NoImage { name },
            other => other,
        })?;
        let reference = self.reference(typed).ok();
        let Some(name) =
            reference.filter(|name| name.digest().is_none() && found.names.contains(&name.canonical()))
        else {
            return Ok(Chosen { name: None, images: vec![found] });
        };
        let mut images = self.database.image_by_name(&name.canonical(), None)?;
        images
            .retain(|view| wanted.is_empty() || wanted.iter().any(|wish| wish.accepts(&view.image.platform)));
        Ok(Chosen { name: Some(name), images })
    }
}

/// The manifest or index of a digest.
fn read(store: &Store, digest: &Digest) -> Result<(Vec<u8>, Document, String), EngineError> {
    let bytes = store.content().read_small(digest, LIMITS.manifest)?;
    let document = registry::document(&bytes, None).map_err(super::document_error(digest.as_str()))?;
    let said = serde_json::from_slice::<Value>(&bytes).ok();
    let said = said.and_then(|value| Some(value.get("mediaType")?.as_str()?.to_owned()));
    let media_type = said.unwrap_or_else(|| match document {
        Document::Index(_) => OCI_INDEX.to_owned(),
        Document::Manifest(_) => OCI_MANIFEST.to_owned(),
    });
    Ok((bytes, document, media_type))
}

impl Content {
    fn add(&mut self, store: &Store, chosen: &Chosen, narrowed: bool) -> Result<(), EngineError> {
        let targets: BTreeSet<&Digest> = chosen.images.iter().map(|view| &view.image.target).collect();
        // An index that is here goes along whole, so that its digest survives.
        let index = match targets.iter().next() {
            Some(target)
                if !narrowed
                    && targets.len() == 1
                    && chosen.name.is_some()
                    && store.content().has(target)
                    && chosen.images.iter().all(|view| view.image.manifest != **target) =>
            {
                Some((*target).clone())
            }
            _ => None,
        };
        for view in &chosen.images {
            let image = &view.image;
            self.blobs.extend([image.id.clone(), image.manifest.clone()]);
            self.blobs.extend(image.layers.iter().map(|layer| layer.digest.clone()));
            if index.is_none() {
                let (bytes, _, media_type) = read(store, &image.manifest)?;
                let mut entry = Wire::new(&media_type, &image.manifest, bytes.len() as u64);
                if chosen.images.len() > 1 {
                    let mut platform =
                        json!({ "architecture": image.platform.architecture, "os": image.platform.os });
                    if let Some(variant) = &image.platform.variant {
                        platform["variant"] = json!(variant);
                    }
                    entry.platform = Some(platform);
                }
                self.entry(entry, chosen.name.as_ref());
            }
        }
        if let Some(target) = index {
            let (bytes, _, media_type) = read(store, &target)?;
            self.blobs.insert(target.clone());
            self.entry(Wire::new(&media_type, &target, bytes.len() as u64), chosen.name.as_ref());
        }
        self.docker(chosen);
        Ok(())
    }

    fn entry(&mut self, mut entry: Wire, name: Option<&Reference>) {
        if let Some(name) = name {
            entry.annotations.insert("io.containerd.image.name".into(), name.canonical());
            let tag = name.tag().unwrap_or_default().to_owned();
            entry.annotations.insert("org.opencontainers.image.ref.name".into(), tag);
        }
        let same = |known: &Wire| known.digest == entry.digest && known.annotations == entry.annotations;
        if !self.entries.iter().any(same) {
            self.entries.push(entry);
        }
    }

    /// Docker's layout knows one image for a name, and ordinary ones only.
    fn docker(&mut self, chosen: &Chosen) {
        let native = Platform::linux_native();
        let plain =
            |view: &&ImageView| view.image.packaging == Packaging::Image && view.image.platform.os == "linux";
        let mut images: Vec<&Image> = chosen.images.iter().filter(plain).map(|view| &view.image).collect();
        images.sort_by_key(|image| !native.accepts(&image.platform));
        for (place, image) in images.into_iter().enumerate() {
            if !self.items.iter().any(|(id, _)| *id == image.id) {
                self.items.push((image.id.clone(), item(image)));
            }
            let Some(name) = chosen.name.as_ref().filter(|_| place == 0) else { continue };
            let shown = Value::from(name.to_string());
            if let Some((_, item)) = self.items.iter_mut().find(|(id, _)| *id == image.id) {
                match item.get_mut("RepoTags") {
                    Some(Value::Array(tags)) if !tags.contains(&shown) => tags.push(shown),
                    Some(tags @ Value::Null) => *tags = json!([shown]),
                    _ => {}
                }
            }
            if let (Some(top), Some(tag)) = (image.layers.last(), name.tag()) {
                let tags = self.repositories.entry(name.familiar_name()).or_default();
                tags.insert(tag.to_owned(), top.diff_id.hex().to_owned());
            }
        }
    }

    fn write(&self, store: &Store, format: Format, to: &mut dyn Sink) -> Result<(), EngineError> {
        to.directory("blobs")?;
        to.directory("blobs/sha256")?;
        for digest in &self.blobs {
            let size = store.content().size(digest)?;
            let path = store.content().path(digest);
            let file = File::open(&path).map_err(|source| EngineError::Path { path, source })?;
            let mut verified = Verified { inner: file.take(size), hash: Sha256::new() };
            to.file(&format!("blobs/sha256/{}", digest.hex()), size, &mut verified)?;
            let found = Digest::from_hash(verified.hash.finalize().into());
            if found != *digest {
                return Err(ImageArchiveError::Damaged { expected: digest.clone(), found }.into());
            }
        }
        let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": self.entries });
        small(to, "index.json", &index)?;
        if format == Format::Both && !self.items.is_empty() {
            let items: Vec<_> = self.items.iter().map(|(_, item)| item).collect();
            small(to, "manifest.json", &json!(items))?;
        }
        small(to, "oci-layout", &json!({ "imageLayoutVersion": "1.0.0" }))?;
        if format == Format::Both && !self.repositories.is_empty() {
            small(to, "repositories", &json!(self.repositories))?;
        }
        Ok(())
    }
}

fn item(image: &Image) -> Map<String, Value> {
    let path = |digest: &Digest| Value::from(format!("blobs/sha256/{}", digest.hex()));
    let mut item = Map::new();
    item.insert("Config".into(), path(&image.id));
    item.insert("RepoTags".into(), Value::Null);
    item.insert("Layers".into(), image.layers.iter().map(|layer| path(&layer.digest)).collect());
    let sources: Map<String, Value> = image
        .layers
        .iter()
        .map(|layer| {
            let wire =
                json!({ "mediaType": layer_type(layer.kind), "size": layer.size, "digest": layer.digest });
            (layer.diff_id.to_string(), wire)
        })
        .collect();
    item.insert("LayerSources".into(), sources.into());
    item
}

fn small(to: &mut dyn Sink, name: &str, value: &Value) -> Result<(), EngineError> {
    let bytes = value.to_string().into_bytes();
    to.file(name, bytes.len() as u64, &mut bytes.as_slice())
}

/// Bytes that are hashed as they pass.
struct Verified<R> {
    inner: R,
    hash: Sha256,
}

impl<R: Read> Read for Verified<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(into)?;
        self.hash.update(&into[..count]);
        Ok(count)
    }
}

/// An archive or a directory being written.
trait Sink {
    fn directory(&mut self, name: &str) -> Result<(), EngineError>;
    fn file(&mut self, name: &str, size: u64, from: &mut dyn Read) -> Result<(), EngineError>;
}

fn failed(source: io::Error) -> EngineError {
    ImageArchiveError::Write(source).into()
}

struct Archive<'a> {
    to: &'a mut dyn Write,
}

impl Archive<'_> {
    fn header(name: &str, kind: tar::EntryType, mode: u32, size: u64) -> io::Result<tar::Header> {
        let mut header = tar::Header::new_ustar();
        header.set_path(name)?;
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        // The same images are the same bytes.
        header.set_mtime(0);
        header.set_size(size);
        header.set_cksum();
        Ok(header)
    }

    fn end(self) -> Result<(), EngineError> {
        self.to.write_all(&[0; 1024]).and_then(|()| self.to.flush()).map_err(failed)
    }
}

impl Sink for Archive<'_> {
    fn directory(&mut self, name: &str) -> Result<(), EngineError> {
        let header =
            Self::header(&format!("{name}/"), tar::EntryType::Directory, 0o755, 0).map_err(failed)?;
        self.to.write_all(header.as_bytes()).map_err(failed)
    }

    fn file(&mut self, name: &str, size: u64, from: &mut dyn Read) -> Result<(), EngineError> {
        let header = Self::header(name, tar::EntryType::Regular, 0o644, size).map_err(failed)?;
        self.to.write_all(header.as_bytes()).map_err(failed)?;
        copy(from, self.to).and_then(|count| exact(count, size)).map_err(failed)?;
        let padding = usize::try_from(size.wrapping_neg() % 512).unwrap_or(0);
        self.to.write_all(&[0; 512][..padding]).map_err(failed)
    }
}

/// In large blocks: `io::copy` takes 8 KiB ones.
fn copy(from: &mut dyn Read, to: &mut dyn Write) -> io::Result<u64> {
    let mut block = vec![0; 256 << 10];
    let mut total = 0;
    loop {
        let count = from.read(&mut block)?;
        if count == 0 {
            return Ok(total);
        }
        to.write_all(&block[..count])?;
        total += count as u64;
    }
}

/// A blob that shrinks while it is read would make an archive that means something else.
fn exact(count: u64, size: u64) -> io::Result<()> {
    if count == size { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

struct Directory {
    root: PathBuf,
}

impl Directory {
    fn new(root: &Path) -> Result<Self, EngineError> {
        let failed = |source| EngineError::Path { path: root.to_owned(), source };
        fs::create_dir_all(root).map_err(failed)?;
        if fs::read_dir(root).map_err(failed)?.next().is_some() {
            return Err(ImageArchiveError::NotEmpty { path: root.to_owned() }.into());
        }
        Ok(Self { root: root.to_owned() })
    }
}

impl Sink for Directory {
    fn directory(&mut self, name: &str) -> Result<(), EngineError> {
        let path = self.root.join(name);
        fs::create_dir(&path).map_err(|source| EngineError::Path { path, source })
    }

    fn file(&mut self, name: &str, size: u64, from: &mut dyn Read) -> Result<(), EngineError> {
        let path = self.root.join(name);
        let written = File::create_new(&path)
            .and_then(|mut file| copy(from, &mut file))
            .and_then(|count| exact(count, size));
        written.map_err(|source| EngineError::Path { path, source })
    }
}

impl From<ImageArchiveError> for EngineError {
    fn from(error: ImageArchiveError) -> Self {
        match error {
            // The store's own trouble is told as such.
            ImageArchiveError::Archive(crate::store::archive::ArchiveError::Store(error)) => error.into(),
            error => Self::ImageArchive(Box::new(error)),
        }
    }
}
