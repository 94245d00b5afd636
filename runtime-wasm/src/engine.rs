//! The engine's configuration, and loading: from the cache, or by compiling.
//!
//! Epoch interruption is compiled in always: a guest that cannot be stopped is not a sandbox. How instances are allocated is `pool`'s.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use sha2::{Digest as _, Sha256};
use wasmtime::Engine;
#[cfg(feature = "compiler")]
use wasmtime::{Module, component::Component};

use crate::cache::{Cache, CacheError, Code, Found, Refused};
use crate::control::Account;
#[cfg(feature = "compiler")]
use crate::inspect::inspect;
use crate::limits::Limits;
use crate::link::{self, LinkError, Linked, Role};
use crate::module::{self, Kind, ModuleError};
use crate::pool::Engines;

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
    /// What carries the code out.
    pub machine: Machine,
}

/// What carries compiled code out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Machine {
    /// The host's processor.
    #[default]
    Host,
    /// Pulley, wasmtime's interpreter: many times slower, the same code on every system of 64 bits, and no memory is ever made
    /// executable. Needs the feature `interpreter`.
    Interpreter,
}

impl Machine {
    /// Its code's name; what else the code depends on is checked when it is loaded.
    fn name(self) -> String {
        match self {
            Self::Host => format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
            Self::Interpreter => crate::pool::INTERPRETER.to_owned(),
        }
    }
}

impl Settings {
    /// The name under which the code of a module with this SHA-256 is kept, see [`CompiledCode`](crate::CompiledCode). It is the same
    /// in every build, with a compiler or without, so that code can be compiled where there is one.
    pub fn cache_key(&self, digest: &[u8; 32]) -> String {
        Cache::key(digest, &self.machine.name(), self.fuel)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            cache_dir: None,
            max_module_bytes: 512 << 20,
            stack_bytes: 1 << 20,
            fuel: false,
            machine: Machine::Host,
        }
    }
}

/// Why there is no runtime.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// wasmtime refuses the configuration or the machine.
    #[error("cannot set up wasmtime")]
    Engine(#[source] wasmtime::Error),
    /// The interpreter was asked for, and is not a part of this build.
    #[error("this build has no interpreter of WebAssembly (cargo's feature `interpreter`)")]
    NoInterpreter,
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
    /// It is not in the cache, and there is no compiler in this build (cargo's feature `compiler`).
    #[error("the module has not been compiled for {machine}, and this build has no compiler")]
    NoCompiler {
        /// What its code would be for.
        machine: String,
    },
    /// What the cache has of it is refused, and there is no compiler in this build.
    #[error("what was compiled of the module for {machine} is refused, and this build has no compiler")]
    Unusable {
        /// What its code is for.
        machine: String,
        /// Why.
        #[source]
        reason: Refused,
    },
    /// The cache.
    #[error("cannot use the cache of compiled modules")]
    Cache(#[from] CacheError),
}

/// Compiles, caches and starts programs. Cheap to keep, a fraction of a millisecond to make.
#[derive(Debug)]
pub struct Runtime {
    engines: Engines,
    cache: Option<Cache>,
    settings: Settings,
}

impl Runtime {
    /// Sets up wasmtime and opens the cache.
    pub fn new(settings: &Settings) -> Result<Self, SetupError> {
        if settings.machine == Machine::Interpreter && !cfg!(feature = "interpreter") {
            return Err(SetupError::NoInterpreter);
        }
        let engines = Engines::new(settings).map_err(SetupError::Engine)?;
        let cache = settings.cache_dir.as_deref().map(Cache::open).transpose()?;
        Ok(Self { engines, cache, settings: settings.clone() })
    }

    /// An account for runs that share their limits.
    pub fn account(&self, limits: Limits) -> Account {
        Account::new(&self.engines, limits)
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
        let key = self.settings.cache_key(&digest);
        if let Some(cache) = &self.cache {
            match cache.lookup(&self.engines, &key)? {
                Found::Hit(code) => return Ok(self.program(code, Origin::Cached)),
                Found::Absent => {}
                Found::Refused(reason) => {
                    tracing::warn!(%key, %reason, "compiled code in the cache is refused");
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
        let code = self.build(kind, &bytes, &key, &origin, compiling)?;
        Ok(self.program(code, origin))
    }

    /// The program with this SHA-256, if it was compiled before: nothing is compiled. Why it cannot be had is said by [`Self::load`].
    pub fn cached(&self, digest: &[u8; 32]) -> Option<Program> {
        match self.cache.as_ref()?.lookup(&self.engines, &self.settings.cache_key(digest)) {
            Ok(Found::Hit(code)) => Some(self.program(code, Origin::Cached)),
            _ => None,
        }
    }

    #[cfg(not(feature = "compiler"))]
    fn build(
        &self,
        _: Kind,
        _: &[u8],
        _: &str,
        origin: &Origin,
        _: &mut dyn FnMut(u64),
    ) -> Result<Code, LoadError> {
        let machine = self.settings.machine.name();
        Err(match origin {
            Origin::Rebuilt(reason) => LoadError::Unusable { machine, reason: reason.clone() },
            Origin::Cached | Origin::Compiled => LoadError::NoCompiler { machine },
        })
    }

    /// Compiles a program, and keeps its code.
    #[cfg(feature = "compiler")]
    fn build(
        &self,
        kind: Kind,
        bytes: &[u8],
        key: &str,
        _: &Origin,
        compiling: &mut dyn FnMut(u64),
    ) -> Result<Code, LoadError> {
        compiling(bytes.len() as u64);
        let code = self.compile(kind, bytes)?;
        if let Some(cache) = &self.cache {
            let native = match &code {
                Code::Core(module) => module.serialize(),
                Code::Component(component) => component.serialize(),
            };
            cache.store(key, code.shape(&self.engines), &native.map_err(LoadError::Compile)?)?;
        }
        Ok(code)
    }

    #[cfg(feature = "compiler")]
    fn compile(&self, kind: Kind, bytes: &[u8]) -> Result<Code, LoadError> {
        if kind == Kind::CoreP1 {
            return Module::from_binary(self.engines.single(), bytes)
                .map(Code::Core)
                .map_err(LoadError::Compile);
        }
        // What cannot be described does not compile either, and compiling says it better.
        let serves = inspect(bytes).is_ok_and(|contents| contents.role == Role::Server);
        let pooled = if serves { self.engines.pooled() } else { None };
        if let Some(component) = pooled.and_then(|engine| Component::from_binary(engine, bytes).ok()) {
            return Ok(Code::Component(component));
        }
        // It is no server, or has more memories or tables than fit into the pool, or is invalid.
        Component::from_binary(self.engines.single(), bytes).map(Code::Component).map_err(LoadError::Compile)
    }

    fn program(&self, code: Code, origin: Origin) -> Program {
        Program { engines: self.engines.clone(), code, origin, linked: OnceLock::new() }
    }

    fn read(&self, input: Input<'_>) -> Result<Vec<u8>, LoadError> {
        let limit = self.settings.max_module_bytes;
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
    engines: Engines,
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
                component.component_type().imports(self.engine()).map(|(name, _)| name.to_owned()).collect()
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
                let names: Vec<&str> = ty.exports(self.engine()).map(|(name, _)| name).collect();
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
            Code::Component(component) => link::nothing_to_run(self.engine(), component),
            Code::Core(module) => link::entry(module, None)
                .err()
                .unwrap_or(LinkError::NoEntry { entry: "_start".to_owned(), exports: Vec::new() }),
        }
    }

    /// The engine that its code belongs to.
    pub(crate) fn engine(&self) -> &Engine {
        match &self.code {
            Code::Core(module) => module.engine(),
            Code::Component(component) => component.engine(),
        }
    }

    pub(crate) fn engines(&self) -> &Engines {
        &self.engines
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
            Code::Core(module) => link::core(&self.engines, module)?,
            Code::Component(component) => link::component(self.engine(), component)?,
        };
        Ok(self.linked.get_or_init(|| linked).clone())
    }
}
