//! A container's root where nothing can be mounted: a directory, held as a capability.
//!
//! Invariant: no path in it leads out of it. Unlike on Linux an absolute link inside it is refused and not followed from the
//! root: the capability has no notion of a root.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use cap_std::fs::Dir;
use runtime_wasm::{Confine, Preopen};

use super::memo::Identity;
use crate::executor::{ExecError, Mount, Refusal, Root};
use crate::model::ErrorKind;

/// A root, as long as this lives.
#[derive(Debug)]
pub(super) struct RootDir {
    dir: Dir,
    path: PathBuf,
}

#[derive(Debug, thiserror::Error)]
#[error("opening `{}`", path.display())]
struct RootError {
    path: PathBuf,
    source: io::Error,
}

/// Opens a root.
pub(super) fn open(root: &Root) -> Result<RootDir, ExecError> {
    let Root::Directory(path) = root else {
        return Err(Refusal::Cannot {
            executor: super::NAME,
            what: "lay directories over one another on this host",
        }
        .into());
    };
    match Dir::open_ambient_dir(path, cap_std::ambient_authority()) {
        Ok(dir) => Ok(RootDir { dir, path: path.clone() }),
        Err(source) => Err(ExecError::failed(
            ErrorKind::Unavailable,
            "preparing the container's root",
            RootError { path: path.clone(), source },
        )),
    }
}

/// No system but Linux has the means: the sandbox is the only wall.
pub(super) fn fence(_: &Arc<RootDir>, _: &[Preopen], _: bool) -> Option<Confine> {
    None
}

impl RootDir {
    /// Tells what a guest is to be given: the root, and beside it each directory that is mounted.
    pub(super) fn mount(&mut self, mounts: &[Mount], read_only: bool) -> Result<Vec<Preopen>, ExecError> {
        let refuse = |what| Err(Refusal::Cannot { executor: super::NAME, what }.into());
        let mut preopens = vec![Preopen { host: self.path.clone(), guest: "/".to_owned(), read_only }];
        for mount in mounts {
            let Mount::Bind { source, subpath, target, read_only, .. } = mount else {
                return refuse("mount memory (`--tmpfs`) on this host");
            };
            if !subpath.is_empty() {
                return refuse("mount a part of a volume on this host");
            }
            if !source.is_dir() {
                return refuse("mount a single file on this host");
            }
            if target == "/" {
                // In the place of the container's own tree, from which only the program comes.
                preopens[0] = Preopen { host: source.clone(), guest: target.clone(), read_only: *read_only };
                continue;
            }
            // So that a listing of the root shows it. A root that has something else there keeps it.
            if let Err(error) = self.dir.create_dir_all(target.trim_start_matches('/')) {
                tracing::debug!(%error, target, "no directory where something is mounted");
            }
            preopens.push(Preopen { host: source.clone(), guest: target.clone(), read_only: *read_only });
        }
        Ok(preopens)
    }

    /// Opens a file in it to be read.
    pub(super) fn open(&self, path: &str) -> io::Result<File> {
        let metadata = self.dir.metadata(path)?;
        if !metadata.is_file() {
            // Opening a FIFO would wait for its writer, and opening a directory is not possible everywhere.
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        Ok(self.dir.open(path)?.into_std())
    }

    /// Nothing here identifies the content of a file without reading it.
    #[expect(clippy::unused_self, reason = "the twin uses it")]
    pub(super) fn identity(&self, _: &File) -> Option<Identity> {
        None
    }
}
