//! Roots as copies: every layer copied over the ones below, whiteouts applied. Works everywhere.
//!
//! Links are copied, never followed; hard links within a layer stay hard links.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::Dir;

use super::{Root, Snapshotter, directories, duplicate};
use crate::model::{ContainerId, Digest};
use crate::store::layer::{MARKER, OPAQUE_MARKER, attributes};
use crate::store::{Store, StoreError};

/// The copy way.
#[derive(Debug, Clone)]
pub struct Copy {
    store: Store,
}

impl Copy {
    /// In this store.
    pub fn new(store: &Store) -> Self {
        Self { store: store.clone() }
    }
}

impl Snapshotter for Copy {
    fn name(&self) -> &'static str {
        "copy"
    }

    fn prepare(&self, id: &ContainerId, layers: &[Digest]) -> Result<Root, StoreError> {
        let container = self.store.container_root().join(id.as_str());
        let root = container.join("root");
        if root.is_dir() {
            return Ok(Root::Directory(root));
        }
        let layers = directories(&self.store, layers)?;
        let making = container.join("root.tmp");
        match fs::remove_dir_all(&making) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::io("remove", &making)(error));
            }
            _ => fs::create_dir_all(&making).map_err(StoreError::io("create", &making))?,
        }
        for layer in &layers {
            let copied = Dir::open_ambient_dir(layer, ambient_authority()).and_then(|from| {
                let to = Dir::open_ambient_dir(&making, ambient_authority())?;
                Layer { root: to.try_clone()?, links: HashMap::new() }.merge(&from, &to, Path::new(""))
            });
            copied.map_err(StoreError::io("copy", layer))?;
        }
        fs::rename(&making, &root).map_err(StoreError::io("create", &root))?;
        Ok(Root::Directory(root))
    }

    fn remove(&self, id: &ContainerId) -> Result<(), StoreError> {
        super::remove(&self.store, id)
    }
}

/// Copies a whole tree, with all attributes, into a directory that is there.
pub(in crate::store) fn copy_tree(from: &Dir, to: &Dir) -> io::Result<()> {
    Layer { root: to.try_clone()?, links: HashMap::new() }.merge(from, to, Path::new(""))
}

/// One layer being copied.
struct Layer {
    root: Dir,
    /// Where the files with several names were put first.
    links: HashMap<(u64, u64), PathBuf>,
}

impl Layer {
    fn merge(&mut self, from: &Dir, to: &Dir, at: &Path) -> io::Result<()> {
        let mut names = Vec::new();
        for entry in from.entries()? {
            names.push(entry?.file_name());
        }
        let marked = names.iter().any(|name| name.as_encoded_bytes() == OPAQUE_MARKER);
        if marked || attributes::is_opaque(from) {
            for entry in to.entries()? {
                remove(to, &entry?.file_name())?;
            }
        }
        // Whiteouts are about lower layers, so they come first.
        for name in &names {
            if let Some(hidden) = name.as_encoded_bytes().strip_prefix(MARKER)
                && let Ok(hidden) = std::str::from_utf8(hidden)
                && !hidden.as_bytes().starts_with(MARKER)
            {
                remove(to, OsStr::new(hidden))?;
            }
        }
        for name in names.iter().filter(|name| !name.as_encoded_bytes().starts_with(MARKER)) {
            self.place(from, to, name, &at.join(name))?;
        }
        duplicate::directory(from, to)
    }

    fn place(&mut self, from: &Dir, to: &Dir, name: &OsStr, at: &Path) -> io::Result<()> {
        let metadata = from.symlink_metadata(name)?;
        if attributes::is_whiteout(&metadata) {
            return remove(to, name);
        }
        if metadata.is_dir() {
            let there = to.symlink_metadata(name);
            if !there.is_ok_and(|there| there.is_dir()) {
                remove(to, name)?;
                to.create_dir(name)?;
            }
            return self.merge(&from.open_dir(name)?, &to.open_dir(name)?, at);
        }
        remove(to, name)?;
        if let Some(identity) = duplicate::shared(&metadata) {
            if let Some(first) = self.links.get(&identity) {
                return self.root.hard_link(first, to, name);
            }
            self.links.insert(identity, at.to_owned());
        }
        duplicate::leaf(from, to, name, &metadata)
    }
}

fn remove(parent: &Dir, name: &OsStr) -> io::Result<()> {
    let metadata = match parent.symlink_metadata(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    if metadata.is_dir() { parent.remove_dir_all(name) } else { parent.remove_file(name) }
}
