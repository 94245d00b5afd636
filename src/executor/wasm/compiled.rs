//! Modules that are compiled before anybody runs them, and the room that compiled ones take.

use std::collections::BTreeSet;
use std::io::{self, Seek};
use std::path::{Path, PathBuf};

use runtime_wasm::{CacheError, CodeUsage, CompiledCode, Machine, Origin};

use super::memo::Memo;
use super::program::ProgramError;
use super::{loader, memo, program, root};
use crate::executor::{ExecError, Root, Settings};
use crate::model::ErrorKind;

/// Where programs are: directories of layers, and paths in them.
pub type Programs = Vec<(PathBuf, String)>;

/// Where compiled code is, and what for.
#[derive(Debug, Clone)]
pub struct Caches {
    /// The directory of all caches.
    pub dir: PathBuf,
    /// Whether guests are interpreted.
    pub interpreted: bool,
}

impl Caches {
    pub(super) fn of(settings: &Settings) -> Self {
        Self { dir: settings.cache.clone(), interpreted: settings.interpreted }
    }

    fn code(&self) -> PathBuf {
        self.dir.join("wasm")
    }

    pub(super) fn memo(&self) -> Memo {
        Memo::new(self.dir.join("wasm-digests"))
    }

    /// The sandbox's settings; `fuel`: code that counts its instructions.
    pub(super) fn settings(&self, fuel: bool) -> runtime_wasm::Settings {
        let machine = if self.interpreted { Machine::Interpreter } else { Machine::Host };
        runtime_wasm::Settings {
            cache_dir: Some(self.code()),
            fuel,
            machine,
            ..runtime_wasm::Settings::default()
        }
    }

    /// The keys of all code of a program, whatever it is for.
    fn keys(&self, digest: &[u8; 32]) -> impl Iterator<Item = String> {
        [false, true].into_iter().flat_map(|interpreted| {
            let caches = Self { interpreted, ..self.clone() };
            [false, true].map(|fuel| caches.settings(fuel).cache_key(digest))
        })
    }
}

fn failed(error: CacheError) -> ExecError {
    ExecError::failed(ErrorKind::Unavailable, "looking after compiled modules", error)
}

/// Compiles a program of a layer unless that was done before, and tells whether it was. `compiling` is called before.
/// The code is found by every container whose program has the same bytes.
pub fn prepare(
    caches: &Caches,
    layer: &Path,
    path: &str,
    compiling: &mut dyn FnMut(),
) -> Result<bool, ExecError> {
    let root = root::open(&Root::Directory(layer.to_owned()))?;
    let file = program::open(&root, path, path)?;
    let program = loader(caches, false)?
        .compile(&root, &file, &mut |_| compiling())
        .map_err(|source| ProgramError::Load { name: path.to_owned(), source })?;
    Ok(*program.origin() != Origin::Cached)
}

/// What compiled modules take.
pub fn usage(caches: &Caches) -> Result<CodeUsage, ExecError> {
    let code = CompiledCode::open(&caches.code()).map_err(failed)?;
    code.map_or_else(|| Ok(CodeUsage::default()), |code| code.usage().map_err(failed))
}

/// Removes compiled modules, those used longest ago first, until the rest fits; tells how many bytes went.
pub fn trim(caches: &Caches, budget: u64) -> Result<u64, ExecError> {
    let code = CompiledCode::open(&caches.code()).map_err(failed)?;
    code.map_or(Ok(0), |code| code.trim(budget).map_err(failed))
}

/// Removes compiled modules that are none of these programs; tells how many bytes went.
pub fn keep_only(caches: &Caches, programs: &Programs) -> Result<u64, ExecError> {
    let Some(code) = CompiledCode::open(&caches.code()).map_err(failed)? else { return Ok(0) };
    let memo = caches.memo();
    let mut wanted = BTreeSet::new();
    for (layer, path) in programs {
        match digest(&memo, layer, path) {
            Ok(digest) => wanted.extend(caches.keys(&digest)),
            Err(error) => tracing::debug!(%error, path, "looking for a program in a layer"),
        }
    }
    code.retain(|key| wanted.contains(key)).map_err(failed)
}

/// The digest of a program, by memory where it is remembered.
fn digest(memo: &Memo, layer: &Path, path: &str) -> io::Result<[u8; 32]> {
    let root = root::open(&Root::Directory(layer.to_owned())).map_err(io::Error::other)?;
    let mut file = program::open(&root, path, path).map_err(io::Error::other)?;
    let identity = root.identity(&file);
    if let Some(known) = identity.and_then(|identity| memo.recall(&identity)) {
        return Ok(known);
    }
    file.rewind()?;
    Ok(memo::digest(&program::read(&file)?))
}
