//! Modules that are compiled before anybody runs them, and the room that compiled ones take.

use std::collections::BTreeSet;
use std::io::{self, Seek};
use std::path::{Path, PathBuf};

use runtime_wasm::{CacheError, CodeUsage, CompiledCode, Origin};

use super::program::{Loader, ProgramError};
use super::{loader, memo, program, root};
use crate::executor::{ExecError, Root};
use crate::model::ErrorKind;

/// Where programs are: directories of layers, and paths in them.
pub type Programs = Vec<(PathBuf, String)>;

/// The directory of compiled code, below that of all caches.
pub(super) fn dir(cache: &Path) -> PathBuf {
    cache.join("wasm")
}

fn failed(error: CacheError) -> ExecError {
    ExecError::failed(ErrorKind::Unavailable, "looking after compiled modules", error)
}

/// Compiles a program of a layer unless that was done before, and tells whether it was. `compiling` is called before.
/// The code is found by every container whose program has the same bytes.
pub fn prepare(
    cache: &Path,
    layer: &Path,
    path: &str,
    compiling: &mut dyn FnMut(),
) -> Result<bool, ExecError> {
    let root = root::open(&Root::Directory(layer.to_owned()))?;
    let file = program::open(&root, path, path)?;
    let program = loader(cache, false)?
        .compile(&root, &file, &mut |_| compiling())
        .map_err(|source| ProgramError::Load { name: path.to_owned(), source })?;
    Ok(*program.origin() != Origin::Cached)
}

/// What compiled modules take.
pub fn usage(cache: &Path) -> Result<CodeUsage, ExecError> {
    let code = CompiledCode::open(&dir(cache)).map_err(failed)?;
    code.map_or_else(|| Ok(CodeUsage::default()), |code| code.usage().map_err(failed))
}

/// Removes compiled modules, those used longest ago first, until the rest fits; tells how many bytes went.
pub fn trim(cache: &Path, budget: u64) -> Result<u64, ExecError> {
    let code = CompiledCode::open(&dir(cache)).map_err(failed)?;
    code.map_or(Ok(0), |code| code.trim(budget).map_err(failed))
}

/// Removes compiled modules that are none of these programs; tells how many bytes went.
pub fn keep_only(cache: &Path, programs: &Programs) -> Result<u64, ExecError> {
    let Some(code) = CompiledCode::open(&dir(cache)).map_err(failed)? else { return Ok(0) };
    // Code that counts its instructions is another.
    let loaders = [loader(cache, false)?, loader(cache, true)?];
    let mut wanted = BTreeSet::new();
    for (layer, path) in programs {
        match digest(&loaders[0], layer, path) {
            Ok(digest) => wanted.extend(loaders.iter().map(|loader| loader.runtime.cache_key(&digest))),
            Err(error) => tracing::debug!(%error, path, "looking for a program in a layer"),
        }
    }
    code.retain(|key| wanted.contains(key)).map_err(failed)
}

/// The digest of a program, by memory where it is remembered.
fn digest(loader: &Loader, layer: &Path, path: &str) -> io::Result<[u8; 32]> {
    let root = root::open(&Root::Directory(layer.to_owned())).map_err(io::Error::other)?;
    let mut file = program::open(&root, path, path).map_err(io::Error::other)?;
    let identity = root.identity(&file);
    if let Some(known) = identity.and_then(|identity| loader.memo.recall(&identity)) {
        return Ok(known);
    }
    file.rewind()?;
    Ok(memo::digest(&program::read(&file)?))
}
