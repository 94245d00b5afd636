//! New images without a build: `commit` of a container, `import` of an archive of files; and `diff` and `export`.
//!
//! The layer is written into the store's spool, its digest and `DiffID` computed on the way, and then taken in like any loaded
//! layer: unpacked again and verified. So what was committed is what anyone who pulls it gets.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::archive::{self, Wire, layer_type};
use super::instruct::{self, InstructError};
use super::{ContainerView, Engine, EngineError};
use crate::failpoint::{Point, pass};
use crate::model::{
    Container, Digest, Event, Image, ImageConfig, Layer, LayerKind, Packaging, Platform, Timestamp,
};
use crate::reference::Reference;
use crate::registry;
use crate::state::LeaseId;
use crate::store::archive::{ArchiveError, Found};
use crate::store::layer::diff::Change;
use crate::store::{Spool, Spooled};

/// What cannot be made into an image.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// `--change` is bad.
    #[error(transparent)]
    Change(#[from] InstructError),
    /// A Wasm image's program is its only layer.
    #[error(
        "container `{name}` is made of an image that is one WebAssembly file, to which nothing can be added"
    )]
    OneFile {
        /// The container.
        name: String,
    },
    /// A name with a digest.
    #[error("refusing to create a tag with a digest reference")]
    Digest,
    /// The config that came out is not acceptable.
    #[error("the image would not be acceptable")]
    Config(#[from] registry::ManifestError),
    /// The archive to import.
    #[error("cannot import the archive")]
    Archive(#[from] ArchiveError),
}

impl crate::model::Kind for CommitError {
    fn kind(&self) -> crate::model::ErrorKind {
        use crate::model::ErrorKind;
        match self {
            Self::OneFile { .. } => ErrorKind::Unsupported,
            Self::Archive(error) => error.kind(),
            _ => ErrorKind::InvalidInput,
        }
    }
}

/// How to commit.
#[derive(Debug, Clone, Default)]
pub struct CommitOptions {
    /// The name of the new image.
    pub name: Option<Reference>,
    /// `-a`
    pub author: String,
    /// `-m`
    pub message: String,
    /// Whether the container stands still meanwhile.
    pub pause: bool,
    /// `-c`: instructions of a Dockerfile.
    pub changes: Vec<String>,
}

/// How to import.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// The name of the new image.
    pub name: Option<Reference>,
    /// `-m`
    pub message: String,
    /// `-c`: instructions of a Dockerfile.
    pub changes: Vec<String>,
    /// What it is for; this host otherwise.
    pub platform: Option<Platform>,
}

/// A layer in the spool.
struct Made {
    diff_id: Digest,
    kind: LayerKind,
    file: Spooled,
}

/// The parts of a new image that are not layers.
struct New {
    platform: Platform,
    author: String,
    config: ImageConfig,
    created: Timestamp,
    step: Map<String, Value>,
}

/// The places that the runtime makes to mount on; docker keeps them in a layer of its own, which no diff shows.
fn ours(path: &Path) -> bool {
    const PLACES: &[&str] = &[
        "dev",
        "proc",
        "sys",
        "dev/pts",
        "dev/shm",
        "dev/console",
        ".dockerenv",
        "etc/hosts",
        "etc/hostname",
        "etc/resolv.conf",
    ];
    PLACES.iter().any(|place| path == Path::new(place))
}

impl Engine {
    /// What a container changed, by path.
    pub fn changes(&self, query: &str) -> Result<Vec<(PathBuf, Change)>, EngineError> {
        let container = self.container(query)?.container;
        Ok(self.store()?.changes(&container.id, &container.layers, &ours)?)
    }

    /// Writes a container's files as an archive; what is mounted over them is not in it.
    pub fn export(&self, query: &str, to: &mut dyn Write) -> Result<(), EngineError> {
        let container = self.container(query)?.container;
        self.store()?.pack_container(&container.id, &container.layers, to)?;
        self.note(Event::container(&container, "export"));
        Ok(())
    }

    /// Makes an image of a container's image and what the container changed. Returns its id.
    pub fn commit(&self, query: &str, options: &CommitOptions) -> Result<Digest, EngineError> {
        check_name(options.name.as_ref())?;
        let view = self.container(query)?;
        let base = self
            .database
            .image(&view.container.image)?
            .ok_or_else(|| EngineError::NoImage { name: view.container.image_name.clone() })?
            .image;
        if base.packaging != Packaging::Image {
            return Err(CommitError::OneFile { name: view.container.name }.into());
        }
        let mut config = config_of(&view.container, &base);
        instruct::apply(&mut config, &options.changes).map_err(CommitError::from)?;
        self.recover();
        let id = self.holding(&[], || self.commit_held(&view, &base, config, options))?;
        let comment = options.message.clone();
        let news = Event::container(&view.container, "commit").with("comment", comment);
        self.note(news.with("imageID", id.as_str()));
        Ok(id)
    }

    fn commit_held(
        &self,
        view: &ContainerView,
        base: &Image,
        config: ImageConfig,
        options: &CommitOptions,
    ) -> Result<Digest, EngineError> {
        let mut spool = self.store()?.spool()?;
        let made =
            self.standing_still(view, options.pause, || self.write_layer(&view.container, &mut spool))?;
        let created = Timestamp::now();
        let mut step = Map::new();
        step.insert("created".into(), created.to_string().into());
        step.insert("created_by".into(), view.container.config.args().join(" ").into());
        if !options.author.is_empty() {
            step.insert("author".into(), options.author.clone().into());
        }
        if !options.message.is_empty() {
            step.insert("comment".into(), options.message.clone().into());
        }
        let new =
            New { platform: base.platform.clone(), author: options.author.clone(), config, created, step };
        self.compose(Some(base), made.as_ref(), new, options.name.as_ref())
    }

    /// Makes an image of one layer of an archive of files. Returns its id.
    pub fn import(&self, from: &mut dyn Read, options: &ImportOptions) -> Result<Digest, EngineError> {
        check_name(options.name.as_ref())?;
        let mut config = ImageConfig::default();
        instruct::apply(&mut config, &options.changes).map_err(CommitError::from)?;
        self.recover();
        let id = self.holding(&[], || {
            let mut spool = self.store()?.spool()?;
            let made = spool_archive(&mut spool, from)?;
            let created = Timestamp::now();
            let mut step = Map::new();
            step.insert("created".into(), created.to_string().into());
            step.insert("comment".into(), options.message.clone().into());
            let platform = options.platform.clone().unwrap_or_else(Platform::linux_native);
            let new = New { platform, author: String::new(), config, created, step };
            self.compose(None, Some(&made), new, options.name.as_ref())
        })?;
        let name = options.name.as_ref().map_or_else(|| id.to_string(), ToString::to_string);
        self.note(Event::image(&id, "import", &name));
        Ok(id)
    }

    /// Does something while a running container is paused, unless it is paused already or cannot be. One after the other: else
    /// the end of one would let the container go on while another reads its files.
    fn standing_still<T>(
        &self,
        view: &ContainerView,
        pause: bool,
        action: impl FnOnce() -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        let id = view.container.id.as_str();
        if !pause || !view.alive {
            return action();
        }
        // One that ended just now has no directory for it, and nothing to stand still.
        let turn = File::create(self.run_dir(&view.container.id).join("commit.lock"));
        let _turn = turn.and_then(|file| file.lock().map(|()| file)).ok();
        let paused = !self.container(id)?.container.state.paused && self.pause(id, true).is_ok();
        let outcome = action();
        if paused && let Err(error) = self.pause(id, false) {
            // It has ended meanwhile, or a user let it go on: what was read is what it had.
            let stands = |view: ContainerView| view.alive && view.container.state.paused;
            if self.container(id).is_ok_and(stands) {
                return Err(error);
            }
        }
        outcome
    }

    /// The layer of what a container changed; `None` if that is nothing.
    fn write_layer(&self, container: &Container, spool: &mut Spool) -> Result<Option<Made>, EngineError> {
        let store = self.store()?;
        if store.changes(&container.id, &container.layers, &ours)?.is_empty() {
            return Ok(None);
        }
        let writing = spool.create()?;
        let path = writing.path().to_owned();
        let mut both = Both { hash: Sha256::new(), to: GzEncoder::new(writing, Compression::new(4)) };
        store.pack_changes(&container.id, &container.layers, &ours, &mut both)?;
        let diff_id = Digest::from_hash(both.hash.finalize().into());
        let finished = both.to.finish().and_then(|file| pass(Point::LayerPacked).map(|()| file));
        let file = finished.map_err(|source| EngineError::Path { path, source })?.finish();
        Ok(Some(Made { diff_id, kind: LayerKind::TarGzip, file }))
    }

    /// Takes a layer in and records the image.
    fn compose(
        &self,
        base: Option<&Image>,
        made: Option<&Made>,
        new: New,
        name: Option<&Reference>,
    ) -> Result<Digest, EngineError> {
        let mut layers = base.map(|base| base.layers.clone()).unwrap_or_default();
        let mut history = base.map(|base| base.history.clone()).unwrap_or_default();
        let mut step = new.step;
        match made {
            Some(made) => layers.push(Layer {
                digest: made.file.digest().clone(),
                diff_id: made.diff_id.clone(),
                size: made.file.size(),
                kind: made.kind,
            }),
            None => drop(step.insert("empty_layer".into(), true.into())),
        }
        history.push(step.into());
        let mut root = json!({
            "architecture": new.platform.architecture,
            "os": new.platform.os,
            "created": new.created.to_string(),
            "config": instruct::wire(&new.config),
            "rootfs": { "type": "layers", "diff_ids": layers.iter().map(|layer| &layer.diff_id).collect::<Vec<_>>() },
            "history": history,
        });
        if let Some(variant) = &new.platform.variant {
            root["variant"] = json!(variant);
        }
        if !new.author.is_empty() {
            root["author"] = json!(new.author);
        }
        let config = root.to_string().into_bytes();
        let wires = layers.iter().map(|layer| Wire::new(layer_type(layer.kind), &layer.digest, layer.size));
        let manifest = archive::manifest(&config, wires.collect());
        let mut image =
            registry::image_from(&manifest, &config, &Digest::of(&manifest)).map_err(CommitError::from)?;
        let lease = self.database.lease(
            &image
                .layers
                .iter()
                .flat_map(|layer| [layer.digest.clone(), layer.diff_id.clone()])
                .chain([image.id.clone(), image.manifest.clone()])
                .collect::<Vec<_>>(),
        )?;
        let outcome = self.take_in(&mut image, made, base, &manifest, &config, name);
        self.finish(lease, outcome.is_err())?;
        outcome?;
        Ok(image.id)
    }

    fn take_in(
        &self,
        image: &mut Image,
        made: Option<&Made>,
        base: Option<&Image>,
        manifest: &[u8],
        config: &[u8],
        name: Option<&Reference>,
    ) -> Result<(), EngineError> {
        let store = self.store()?;
        image.unpacked_size = base.map_or(0, |base| base.unpacked_size);
        if let (Some(made), Some(layer)) = (made, image.layers.last()) {
            image.unpacked_size += archive::place_one(store, layer, &Found::Spooled(made.file.clone()))?;
        }
        store.content().put(manifest)?;
        store.content().put(config)?;
        let name = name.map(Reference::canonical);
        Ok(self.database.put_image(image, name.as_deref())?)
    }

    fn finish(&self, lease: LeaseId, failed: bool) -> Result<(), EngineError> {
        self.database.release(lease)?;
        if failed { self.collect_garbage() } else { Ok(()) }
    }
}

fn check_name(name: Option<&Reference>) -> Result<(), EngineError> {
    match name {
        Some(name) if name.digest().is_some() => Err(CommitError::Digest.into()),
        _ => Ok(()),
    }
}

/// Bytes that are hashed on their way into a compressor.
struct Both<W> {
    hash: Sha256,
    to: W,
}

impl<W: Write> Write for Both<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.to.write(bytes)?;
        self.hash.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// An archive as it came; unpacked once where no layer may be compressed as it is.
fn spool_archive(spool: &mut Spool, from: &mut dyn Read) -> Result<Made, EngineError> {
    let read =
        |result: io::Result<Spooled>| result.map_err(|error| CommitError::from(ArchiveError::Damaged(error)));
    let mut file = read(spool.write(from)?)?;
    if file.size() == 0 {
        return Err(CommitError::from(ArchiveError::Empty).into());
    }
    let kind = if let Some(kind) = crate::store::archive::compression(file.path())? {
        kind
    } else {
        file = read(spool.write(&mut crate::store::archive::open_uncompressed(file.path())?)?)?;
        LayerKind::Tar
    };
    let diff_id = if kind == LayerKind::Tar {
        file.digest().clone()
    } else {
        let mut plain = crate::store::archive::open_uncompressed(file.path())?;
        crate::store::archive::digest(&mut plain)
            .map_err(|error| CommitError::from(ArchiveError::Damaged(error)))?
    };
    Ok(Made { diff_id, kind, file })
}

/// The config of an image that starts what the container started.
fn config_of(container: &Container, base: &Image) -> ImageConfig {
    let own = &container.config;
    let mut other = base.config.other.clone();
    let had = other.remove("Healthcheck").is_some();
    match &own.healthcheck {
        Some(check) => {
            let fields = [
                ("Interval", check.interval),
                ("Timeout", check.timeout),
                ("StartPeriod", check.start_period),
                ("StartInterval", check.start_interval),
                ("Retries", check.retries.into()),
            ];
            let mut wire = Map::new();
            wire.insert("Test".into(), json!(check.test));
            wire.extend(
                fields.into_iter().filter(|(_, n)| *n > 0).map(|(key, n)| (key.to_owned(), n.into())),
            );
            other.insert("Healthcheck".into(), wire.into());
        }
        None if had => {
            other.insert("Healthcheck".into(), json!({ "Test": ["NONE"] }));
        }
        None => {}
    }
    ImageConfig {
        user: own.user.clone(),
        env: own.env.clone(),
        entrypoint: own.entrypoint.clone(),
        cmd: own.cmd.clone(),
        working_dir: own.working_dir.clone(),
        exposed_ports: own.exposed_ports.clone(),
        volumes: own.volumes.clone(),
        labels: own.labels.clone(),
        stop_signal: own.stop_signal.clone(),
        other,
    }
}

impl From<CommitError> for EngineError {
    fn from(error: CommitError) -> Self {
        match error {
            // The store's own trouble is told as such.
            CommitError::Archive(ArchiveError::Store(error)) => error.into(),
            error => Self::Commit(Box::new(error)),
        }
    }
}
