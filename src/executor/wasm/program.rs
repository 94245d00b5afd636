//! Finds the program in a container's root, compiles it unless its code is cached, and binds its imports.
//!
//! `path#function` names a function of the program instead of its own beginning; a bare `#function` is one of the container's own
//! program.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::{Mutex, PoisonError};

use runtime_wasm::{Input, LinkError, LoadError, Program, Runtime, Source};

use super::memo::{self, Identity, Memo};
use super::root::{self, RootDir};
use crate::executor::{ExecError, Prospect, Root};
use crate::model::ErrorKind;

/// What compiles and remembers.
#[derive(Debug)]
pub(super) struct Loader {
    pub(super) runtime: Runtime,
    pub(super) memo: Memo,
    /// A program that was loaded ahead, and what identifies its file.
    pub(super) ready: Mutex<Option<(Identity, Program)>>,
}

/// A program, and the function to call instead of its beginning.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) program: Program,
    pub(super) entry: Option<String>,
}

/// Why the program that was asked for does not run. The texts are docker's where it has one.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProgramError {
    #[error("no command specified")]
    None,
    #[error("exec: \"{name}\": no such file or directory")]
    Missing { name: String },
    #[error("exec: \"{name}\": is not a regular file: permission denied")]
    NotRegular { name: String },
    #[error("exec: \"{name}\"")]
    Open { name: String, source: io::Error },
    #[error("exec: \"{name}\"")]
    Load { name: String, source: LoadError },
    #[error(
        "exec: \"{name}\": pull the image (for `--fuel`, run it with that) with a build that has a compiler and the same `[wasm] target`, and copy that store's `cache/wasm`"
    )]
    NotCompiled { name: String, source: LoadError },
    #[error("exec: \"{name}\"")]
    Link { name: String, source: LinkError },
}

impl ProgramError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::None => ErrorKind::InvalidInput,
            Self::Missing { .. } => ErrorKind::CommandNotFound,
            Self::NotRegular { .. } | Self::Open { .. } | Self::Link { .. } => {
                ErrorKind::CommandNotExecutable
            }
            Self::Load { source, .. } | Self::NotCompiled { source, .. } => match source {
                LoadError::Module(_) | LoadError::Compile(_) | LoadError::TooLarge { .. } => {
                    ErrorKind::CommandNotExecutable
                }
                LoadError::Read(_) | LoadError::Cache(_) => ErrorKind::Unavailable,
                LoadError::Digest { .. } => ErrorKind::Internal,
                LoadError::NoCompiler { .. } | LoadError::Unusable { .. } => ErrorKind::Unsupported,
            },
        }
    }
}

impl From<ProgramError> for ExecError {
    fn from(error: ProgramError) -> Self {
        Self::failed(error.kind(), "loading the program", error)
    }
}

impl Loader {
    /// Loads what a command line names. A file whose own name has the mark in it is that file.
    pub(super) fn load(&self, root: &RootDir, named: &str, cwd: &str) -> Result<Loaded, ProgramError> {
        match (self.file(root, named, cwd), named.split_once('#')) {
            (Err(ProgramError::Missing { .. }), Some((path, function))) if !path.is_empty() => {
                let program = self.file(root, path, cwd)?;
                checked(program, path, Some(function.to_owned()))
            }
            (program, _) => checked(program?, named, None),
        }
    }

    /// Loads the program that a container will probably have out of its layers, if it was compiled before. That it is the one is
    /// seen when the container is there; nothing of an image is compiled in a process that is not confined yet.
    pub(super) fn anticipate(&self, prospect: &Prospect) {
        let Some(name) = prospect.args.first().filter(|name| !name.is_empty()) else { return };
        let path = absolute(name, &prospect.cwd);
        let ready = prospect.layers.iter().rev().find_map(|layer| {
            let root = root::open(&Root::Directory(layer.clone())).ok()?;
            let identity = root.identity(&open(&root, &path, name).ok()?)?;
            let program = self.runtime.cached(&self.memo.recall(&identity)?)?;
            // Binds its imports, once; what is wrong with them is said by the container's own check.
            let _ = program.check(None);
            Some((identity, program))
        });
        *self.ready.lock().unwrap_or_else(PoisonError::into_inner) = ready;
    }

    fn file(&self, root: &RootDir, name: &str, cwd: &str) -> Result<Program, ProgramError> {
        if name.is_empty() {
            return Err(ProgramError::None);
        }
        let name = name.to_owned();
        let path = absolute(&name, cwd);
        let file = open(root, &path, &name)?;
        let mut compiling = |bytes| tracing::info!(bytes, "compiling the program, once");
        self.compile(root, &file, &mut compiling).map_err(|source| match source {
            LoadError::NoCompiler { .. } | LoadError::Unusable { .. } => {
                ProgramError::NotCompiled { name, source }
            }
            _ => ProgramError::Load { name, source },
        })
    }

    /// Loads by the remembered digest, so that a program whose code is cached is not even read.
    pub(super) fn compile(
        &self,
        root: &RootDir,
        file: &File,
        compiling: &mut dyn FnMut(u64),
    ) -> Result<Program, LoadError> {
        let identity = root.identity(file);
        let ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((of, program)) = ready
            && Some(&of) == identity.as_ref()
        {
            return Ok(program);
        }
        if let Some(digest) = identity.as_ref().and_then(|identity| self.memo.recall(identity)) {
            let source = Source { input: Input::File(file), digest: Some(digest) };
            match self.runtime.load(&source, compiling) {
                Err(LoadError::Digest { expected, actual }) => {
                    tracing::warn!(
                        expected,
                        actual,
                        "a remembered digest is not the program's; it is read again"
                    );
                }
                outcome => return outcome,
            }
        }
        let bytes = read(file).map_err(LoadError::Read)?;
        let digest = memo::digest(&bytes);
        let source = Source { input: Input::Bytes(&bytes), digest: Some(digest) };
        let program = self.runtime.load(&source, compiling)?;
        if let Some(identity) = &identity {
            self.memo.remember(identity, digest);
        }
        Ok(program)
    }
}

fn absolute(name: &str, cwd: &str) -> String {
    if name.starts_with('/') { name.to_owned() } else { format!("{cwd}/{name}") }
}

fn checked(program: Program, name: &str, entry: Option<String>) -> Result<Loaded, ProgramError> {
    match program.check(entry.as_deref()) {
        Ok(()) => Ok(Loaded { program, entry }),
        Err(source) => Err(ProgramError::Link { name: name.to_owned(), source }),
    }
}

/// The whole file; of one that is too large as much as lets the runtime say so.
pub(super) fn read(mut file: &File) -> io::Result<Vec<u8>> {
    let limit = runtime_wasm::Settings::default().max_module_bytes;
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Opens a program at an absolute path of the tree; `name` is what it is called in errors.
pub(super) fn open(root: &RootDir, path: &str, name: &str) -> Result<File, ProgramError> {
    let name = || name.to_owned();
    let file = match root.open(&format!("./{}", path.trim_start_matches('/'))) {
        Ok(file) => file,
        Err(error) if absent(&error) => return Err(ProgramError::Missing { name: name() }),
        Err(source) => return Err(ProgramError::Open { name: name(), source }),
    };
    match file.metadata() {
        Ok(metadata) if metadata.is_file() => Ok(file),
        Ok(_) => Err(ProgramError::NotRegular { name: name() }),
        Err(source) => Err(ProgramError::Open { name: name(), source }),
    }
}

fn absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
