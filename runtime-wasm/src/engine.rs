//! The engine's configuration, and loading: from the cache, or by compiling.
//!
//! On-demand allocation, not the pooling allocator: a pool pays off for a server of many instances, one run pays for
//! reserving it. Epoch interruption is compiled in always: a guest that cannot be stopped is not a sandbox.

use std::fs::File;
use std::hash::{Hash as _, Hasher as _};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use sha2::{Digest as _, Sha256};
use wasmtime::component::Component;
use wasmtime::{Config, Engine, Module};

use crate::cache::{Cache, CacheError, Code, Found, Refused};
use crate::control::Account;
use crate::limits::Limits;
use crate::link::{self, LinkError, Linked, Role};
use crate::module::{self, Kind, ModuleError};

/// How a [`Runtime`] is made.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where compiled code is kept; without it every load compiles. Must be ours alone, and is created if absent.
    pub cache_dir: Option<PathBuf>,
    /// The largest module, in bytes; 512 MiB by default.
    pub max_module_bytes: u64,
    /// The guest's call stack in bytes; 1 MiB by default. Deeper recursion traps.
    pub stack_bytes: usize,
    /// Code counts its instructions, so that [`Limits::fuel`](crate::Limits::fuel) can bound them; it is slower and compiled apart.
    pub fuel: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { cache_dir: None, max_module_bytes: 512 << 20, stack_bytes: 1 << 20, fuel: false }
    }
}

/// Why there is no runtime.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// wasmtime refuses the configuration or the machine.
    #[error("cannot set up wasmtime")]
    Engine(#[source] wasmtime::Error),
    /// The cache.
    #[error("cannot use the cache of compiled modules")]
    Cache(#[from] CacheError),
}

/// Where a module's bytes are.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// A file by name; the caller vouches for the path.
    Path(&'a Path),
    /// A file already open, at its start.
    File(&'a File),
    /// Memory.
    Bytes(&'a [u8]),
}

/// A module to load.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Its bytes; not read at all when the digest is known and the code is cached.
    pub input: Input<'a>,
    /// The SHA-256 of the bytes, where the caller has verified it already.
    pub digest: Option<[u8; 32]>,
}

/// Where a program's code came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The cache.
    Cached,
    /// It was compiled.
    Compiled,
    /// It was compiled because what the cache had was refused.
    Rebuilt(Refused),
}

/// Why a module does not load.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The header.
    #[error("this is no program")]
    Module(#[from] ModuleError),
    /// It cannot be read.
    #[error("cannot read the module")]
    Read(#[source] std::io::Error),
    /// It is too large.
    #[error("the module is larger than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: u64,
    },
    /// The bytes are not those the caller named.
    #[error("the module's sha256 is {actual}, not {expected}")]
    Digest {
        /// What was asked for.
        expected: String,
        /// What is there.
        actual: String,
    },
    /// wasmtime refuses it: invalid, or beyond what it implements.
    #[error("the module does not compile")]
    Compile(#[source] wasmtime::Error),
    /// The cache.
    #[error("cannot use the cache of compiled modules")]
    Cache(#[from] CacheError),
}

/// Compiles, caches and starts programs. Cheap to keep, a fraction of a millisecond to make.
#[derive(Debug)]
pub struct Runtime {
    engine: Engine,
    cache: Option<Cache>,
    max_module_bytes: u64,
}

impl Runtime {
    /// Sets up wasmtime and opens the cache.
    pub fn new(settings: &Settings) -> Result<Self, SetupError> {
        let mut config = Config::new();
        config.epoch_interruption(true);
        config.max_wasm_stack(settings.stack_bytes);
        // Host calls run on the guest's fiber, above what the guest itself may use.
        config.async_stack_size(settings.stack_bytes.saturating_add(1 << 20));
        // Traps name files and lines where a program carries them, whatever the environment says.
        config.wasm_backtrace_details(wasmtime::WasmBacktraceDetails::Enable);
        config.consume_fuel(settings.fuel);
        let engine = Engine::new(&config).map_err(SetupError::Engine)?;
        let cache = settings.cache_dir.as_deref().map(Cache::open).transpose()?;
        Ok(Self { engine, cache, max_module_bytes: settings.max_module_bytes })
    }

    /// An account for runs that share their limits.
    pub fn account(&self, limits: Limits) -> Account {
        Account::new(&self.engine, limits)
    }

    /// Loads a program. `compiling` is called with the module's size in bytes before a compilation, which takes about a second for 5 MB.
    pub fn load(&self, source: &Source<'_>, compiling: &mut dyn FnMut(u64)) -> Result<Program, LoadError> {
        let mut bytes = None;
        let digest = if let Some(digest) = source.digest {
            digest
        } else {
            let read = bytes.insert(self.read(source.input)?);
            module::kind(read)?;
            Sha256::digest(&*read).into()
        };
        let mut origin = Origin::Compiled;
        let key = Cache::key(&digest, self.compatibility());
        if let Some(cache) = &self.cache {
            match cache.lookup(&self.engine, &key)? {
                Found::Hit(code) => return Ok(self.program(code, Origin::Cached)),
                Found::Absent => {}
                Found::Refused(reason) => {
                    tracing::warn!(%key, %reason, "compiled code in the cache is refused and built again");
                    origin = Origin::Rebuilt(reason);
                }
            }
        }
        let bytes = match bytes {
            Some(bytes) => bytes,
            None => self.read(source.input)?,
        };
        let actual: [u8; 32] = Sha256::digest(&bytes).into();
        if actual != digest {
            return Err(LoadError::Digest { expected: hex::encode(digest), actual: hex::encode(actual) });
        }
        let kind = module::kind(&bytes)?;
        compiling(bytes.len() as u64);
        let code = match kind {
            Kind::CoreP1 => Module::from_binary(&self.engine, &bytes).map(Code::Core),
            Kind::ComponentP2 => Component::from_binary(&self.engine, &bytes).map(Code::Component),
        }
        .map_err(LoadError::Compile)?;
        if let Some(cache) = &self.cache {
            let native = match &code {
                Code::Core(module) => module.serialize(),
                Code::Component(component) => component.serialize(),
            };
            cache.store(&key, kind, &native.map_err(LoadError::Compile)?)?;
        }
        Ok(self.program(code, origin))
    }

    /// The name under which the code of a module with this SHA-256 is kept, see [`CompiledCode`](crate::CompiledCode).
    pub fn cache_key(&self, digest: &[u8; 32]) -> String {
        Cache::key(digest, self.compatibility())
    }

    fn program(&self, code: Code, origin: Origin) -> Program {
        Program { engine: self.engine.clone(), code, origin, linked: OnceLock::new() }
    }

    /// A number for everything wasmtime says its code depends on. A collision is harmless: loading checks again.
    fn compatibility(&self) -> u64 {
        let mut hasher = std::hash::DefaultHasher::new();
        self.engine.precompile_compatibility_hash().hash(&mut hasher);
        hasher.finish()
    }

    fn read(&self, input: Input<'_>) -> Result<Vec<u8>, LoadError> {
        let limit = self.max_module_bytes;
        let mut bytes = Vec::new();
        let read = match input {
            Input::Path(path) => {
                File::open(path).and_then(|file| file.take(limit.saturating_add(1)).read_to_end(&mut bytes))
            }
            Input::File(file) => file.take(limit.saturating_add(1)).read_to_end(&mut bytes),
            Input::Bytes(slice) => slice.take(limit.saturating_add(1)).read_to_end(&mut bytes),
        };
        read.map_err(LoadError::Read)?;
        if bytes.len() as u64 > limit {
            return Err(LoadError::TooLarge { limit });
        }
        Ok(bytes)
    }
}

/// A program in memory, ready to run any number of times.
pub struct Program {
    engine: Engine,
    code: Code,
    origin: Origin,
    linked: OnceLock<Linked>,
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Program")
            .field("kind", &self.kind())
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}

impl Program {
    /// What it is.
    pub fn kind(&self) -> Kind {
        match self.code {
            Code::Core(_) => Kind::CoreP1,
            Code::Component(_) => Kind::ComponentP2,
        }
    }

    /// Where its code came from.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Everything it imports, as `module.name` or `wasi:cli/exit@0.2.3`.
    pub fn imports(&self) -> Vec<String> {
        match &self.code {
            Code::Core(module) => {
                module.imports().map(|import| format!("{}.{}", import.module(), import.name())).collect()
            }
            Code::Component(component) => {
                component.component_type().imports(&self.engine).map(|(name, _)| name.to_owned()).collect()
            }
        }
    }

    /// How it is run.
    pub fn role(&self) -> Role {
        match &self.code {
            Code::Core(module) if module.get_export("_start").is_some() => Role::Command,
            Code::Core(_) => Role::Library,
            Code::Component(component) => {
                let ty = component.component_type();
                let names: Vec<&str> = ty.exports(&self.engine).map(|(name, _)| name).collect();
                link::role(&names.iter().copied())
            }
        }
    }

    /// Finds every import nobody provides, and a missing entry point, without running anything. `entry` is a function to call
    /// instead of the program's own beginning.
    pub fn check(&self, entry: Option<&str>) -> Result<(), LinkError> {
        match self.linked(entry)? {
            Linked::Component(_, link::Export::Functions) if entry.is_none() => Err(self.nothing_to_run()),
            _ => Ok(()),
        }
    }

    pub(crate) fn nothing_to_run(&self) -> LinkError {
        match &self.code {
            Code::Component(component) => link::nothing_to_run(&self.engine, component),
            Code::Core(module) => link::entry(module, None)
                .err()
                .unwrap_or(LinkError::NoEntry { entry: "_start".to_owned(), exports: Vec::new() }),
        }
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The program with its imports bound; bound once.
    pub(crate) fn linked(&self, entry: Option<&str>) -> Result<Linked, LinkError> {
        if let Code::Core(module) = &self.code {
            link::entry(module, entry)?;
        }
        if let Some(linked) = self.linked.get() {
            return Ok(linked.clone());
        }
        let linked = match &self.code {
            Code::Core(module) => link::core(&self.engine, module)?,
            Code::Component(component) => link::component(&self.engine, component)?,
        };
        Ok(self.linked.get_or_init(|| linked).clone())
    }
}
