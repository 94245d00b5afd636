//! The use cases: the only thing that `cli` and `api` may call.
//!
//! An [`Engine`] is a store, a metadata database and a run directory. Opening one costs a few system calls; the store is
//! opened when something needs it. Commands of other processes work on the same files at the same time: what must be unique
//! is unique in the database, and what must be exclusive is a lock of the kernel's.

pub mod archive;
mod blob;
mod boot;
mod budget;
mod check;
mod commit;
#[cfg(target_os = "linux")]
#[path = "company_linux.rs"]
mod company;
mod containers;
mod control;
#[cfg(target_os = "linux")]
pub mod copy;
#[cfg(not(target_os = "linux"))]
#[path = "copy_refused.rs"]
pub mod copy;
#[cfg_attr(target_os = "linux", path = "copy_archive.rs")]
#[cfg_attr(not(target_os = "linux"), path = "copy_archive_refused.rs")]
mod copy_archive;
mod create;
#[cfg_attr(target_os = "linux", path = "discarded_linux.rs")]
#[cfg_attr(not(target_os = "linux"), path = "discarded_other.rs")]
mod discarded;
mod error;
mod events;
mod exec;
mod health;
mod history;
mod ids;
mod images;
mod inspect;
mod instruct;
mod joins;
mod manifests;
mod merge;
mod mounts;
mod networks;
pub mod progress;
mod prune;
mod pull;
mod push;
mod ready;
mod rebuild;
mod recover;
mod registries;
#[cfg_attr(target_os = "linux", path = "rootless_linux.rs")]
#[cfg_attr(not(target_os = "linux"), path = "rootless_other.rs")]
mod rootless;
mod run;
mod session;
mod usage;
mod volumes;
mod wants;
mod wasm;

use std::cell::{OnceCell, RefCell};
use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::model::ContainerId;
use crate::state::Database;
use crate::store::Store;
use run::Ahead;

pub use archive::ImageArchiveError;
pub use boot::Boot;
pub use budget::Trimmed;
pub use check::{CheckError, check_host, check_resources};
pub use commit::{CommitError, CommitOptions, ImportOptions};
pub use containers::{ContainerView, Removal};
pub use copy::{CopyError, CopyOptions};
pub use create::{CreateOptions, PullPolicy};
pub use error::EngineError;
pub use events::{EventFilter, EventStream};
pub use exec::ExecOptions;
pub use health::{CheckOptions, CheckReport, Finding, Outcome};
pub use history::HistoryStep;
pub use images::{ImageRemoval, ImageView};
pub use inspect::Object;
pub use manifests::{Annotation, InspectedManifest, ListError};
pub use merge::{HealthWish, MergeError, Wishes, merge};
pub use mounts::MountError;
pub use networks::{Connection, Connections, NetworkView};
pub use pull::{PullStatus, Pulled};
pub use push::{PushError, PushOptions, Pushed};
pub use ready::Ready;
pub use registries::{RegistryNameError, registry_name};
pub use session::{Control, Output, Session};
pub use usage::{DiskUsage, ImageUsage};
pub use volumes::VolumeView;

/// Where the engine's files are; what is `None` is the default for this user.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The store and the metadata.
    pub root: Option<PathBuf>,
    /// What is gone after a reboot.
    pub run_root: Option<PathBuf>,
    /// The configuration file.
    pub config: Option<PathBuf>,
}

impl Options {
    /// The directories that they mean, absolute: the store's and the one for what is gone after a reboot.
    fn directories(&self) -> Result<(PathBuf, PathBuf), EngineError> {
        let root = self.root.clone().map_or_else(default_root, Ok)?;
        let run_root = match (&self.run_root, &self.root) {
            (Some(run), _) => run.clone(),
            // A store of one's own has a run directory of its own, or two stores would share containers' locks.
            (None, Some(root)) => root.join("run"),
            (None, None) => default_run_root(&root),
        };
        Ok((absolute(root)?, absolute(run_root)?))
    }
}

/// What the user who runs this may do on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confinement {
    /// Not root.
    pub rootless: bool,
    /// The ids that containers may have: `all`, `subordinate ids`, `single id`; `none` where Linux images cannot be run.
    pub ids: &'static str,
    /// What networks containers can have, and why not all.
    pub networks: String,
    /// Where limits can be set: `all`, `delegated`, `none`.
    pub control_groups: &'static str,
}

/// The engine.
#[derive(Debug)]
pub struct Engine {
    root: PathBuf,
    run_root: PathBuf,
    config: Config,
    config_path: Option<PathBuf>,
    database: Database,
    store: OnceCell<Store>,
    /// What was wrong with the database, where it was made anew.
    rebuilt: Option<String>,
    /// The supervisor's process of the container that is about to be made.
    ahead: RefCell<Option<Ahead>>,
}

impl Engine {
    /// Opens (or makes) the engine's files.
    pub fn open(options: &Options) -> Result<Self, EngineError> {
        Self::open_with(options, |root, _| Ok((Database::open(root)?, None)))
    }

    /// [`Self::open`] for a command that will start a new container, with what [`Ready::begin`] began.
    pub fn open_to_run(options: &Options, ready: Option<Ready>) -> Result<Self, EngineError> {
        let ready = ready.filter(|ready| ready.fits(options)).or_else(|| Ready::begin(options));
        let Some(ready) = ready else { return Self::open(options) };
        let mut ahead = None;
        let engine = Self::open_with(options, |root, _| {
            let database = match ready.finish() {
                Some((made, database)) => {
                    ahead = made;
                    database?
                }
                None => Database::open(root)?,
            };
            Ok((database, None))
        })?;
        engine.ahead.replace(ahead);
        Ok(engine)
    }

    fn open_with(
        options: &Options,
        open: impl FnOnce(&Path, &Path) -> Result<(Database, Option<String>), EngineError>,
    ) -> Result<Self, EngineError> {
        let (root, run_root) = options.directories()?;
        private_dir(&root)?;
        let config = Config::load(options.config.as_deref())?;
        let (database, rebuilt) = open(&root, &run_root)?;
        let config_path = options.config.clone().map(absolute).transpose()?;
        Ok(Self {
            root,
            run_root,
            config,
            config_path,
            database,
            store: OnceCell::new(),
            rebuilt,
            ahead: RefCell::new(None),
        })
    }

    /// The root of the store.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The directory for what is gone after a reboot.
    pub fn run_root(&self) -> &Path {
        &self.run_root
    }

    /// The configuration file, where it is not the usual one.
    pub fn config_path(&self) -> Option<&Path> {
        self.config_path.as_deref()
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    fn store(&self) -> Result<&Store, EngineError> {
        if let Some(store) = self.store.get() {
            return Ok(store);
        }
        let opened = Store::open(&self.root)?;
        Ok(self.store.get_or_init(|| opened))
    }

    /// What is said of a container's wishes that this host lets go.
    pub fn discarded(&self, container: &crate::model::Container) -> Vec<&'static str> {
        let mut said = discarded::discarded(&container.host.resources);
        said.extend(self.shut_in(container));
        said
    }

    /// Bytes of memory of a sandboxed guest, by the configuration.
    fn guest_memory(&self) -> u64 {
        self.config.wasm.memory_mib << 20
    }

    /// Whether sandboxed guests are interpreted, by the configuration.
    fn interpreted(&self) -> bool {
        self.config.wasm.target == crate::config::WasmTarget::Pulley64
    }

    /// A container's run directory: its lock, its supervisor's endpoint and complaints.
    fn run_dir(&self, id: &ContainerId) -> PathBuf {
        run_dir(&self.run_root, id)
    }
}

fn run_dir(run_root: &Path, id: &ContainerId) -> PathBuf {
    run_root.join(&id.as_str()[..24])
}

/// What carries out exchanges with registries, in this thread.
fn event_loop() -> Result<tokio::runtime::Runtime, EngineError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| EngineError::Runtime { source })
}

fn absolute(path: PathBuf) -> Result<PathBuf, EngineError> {
    std::path::absolute(&path).map_err(|source| EngineError::Path { path, source })
}

/// Makes a directory that only its owner may enter, with its parents.
fn private_dir(path: &Path) -> Result<(), EngineError> {
    if path.is_dir() {
        return Ok(());
    }
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(|source| EngineError::Path { path: path.to_owned(), source })
}

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn default_root() -> Result<PathBuf, EngineError> {
    if rootless::is_root() {
        return Ok("/var/lib/umiak".into());
    }
    let data = if cfg!(windows) {
        variable("LOCALAPPDATA")
    } else {
        variable("XDG_DATA_HOME").or_else(|| variable("HOME").map(|home| home.join(".local/share")))
    };
    data.map(|data| data.join("umiak")).ok_or(EngineError::NoHome)
}

fn default_run_root(root: &Path) -> PathBuf {
    if rootless::is_root() {
        return "/run/umiak".into();
    }
    variable("XDG_RUNTIME_DIR").map_or_else(|| root.join("run"), |runtime| runtime.join("umiak"))
}
