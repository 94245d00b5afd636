//! A container's files: what changed in them, and the whole of them, without mounting anything.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::Dir;

use super::layer::attributes::{Facts, Form};
use super::layer::diff::{self, Change, Changed, List};
use super::layer::pack::Pack;
use super::layer::view::View;
use super::{Store, StoreError};
use crate::model::{ContainerId, Digest};

impl Store {
    /// What a container changed, by path. `ours` tells what the runtime itself puts there, empty, to mount on.
    pub fn changes(
        &self,
        id: &ContainerId,
        layers: &[Digest],
        ours: &dyn Fn(&Path) -> bool,
    ) -> Result<Vec<(PathBuf, Change)>, StoreError> {
        let mut list = List::default();
        self.visit(id, layers, ours, &mut list)?;
        Ok(list.0)
    }

    /// Writes what a container changed as the archive of a layer. Returns the bytes of its files.
    pub fn pack_changes(
        &self,
        id: &ContainerId,
        layers: &[Digest],
        ours: &dyn Fn(&Path) -> bool,
        to: &mut dyn Write,
    ) -> Result<u64, StoreError> {
        let mut pack = Pack::new(to);
        self.visit(id, layers, ours, &mut pack)?;
        let bytes = pack.bytes();
        pack.end().map_err(self.failed(id))?;
        Ok(bytes)
    }

    /// Writes all of a container's files as an archive.
    pub fn pack_container(
        &self,
        id: &ContainerId,
        layers: &[Digest],
        to: &mut dyn Write,
    ) -> Result<(), StoreError> {
        let mut pack = Pack::new(to);
        let packed = match self.changed(id)? {
            Some(Changed::Root(root)) => pack.tree(Path::new(""), &root),
            Some(Changed::Upper(_)) => {
                let mut all = self.layer_paths(layers)?;
                all.push(self.container_dir(id).join("upper"));
                View::open(&all).and_then(|view| pack.view(Path::new(""), &view))
            }
            None => View::open(&self.layer_paths(layers)?).and_then(|view| pack.view(Path::new(""), &view)),
        };
        packed.and_then(|()| pack.end()).map_err(self.failed(id))
    }

    fn visit(
        &self,
        id: &ContainerId,
        layers: &[Digest],
        ours: &dyn Fn(&Path) -> bool,
        visitor: &mut dyn diff::Visitor,
    ) -> Result<(), StoreError> {
        // A container that never ran has changed nothing.
        let Some(new) = self.changed(id)? else { return Ok(()) };
        let old = View::open(&self.layer_paths(layers)?).map_err(self.failed(id))?;
        let empty = |dir: &Path| {
            std::fs::read_dir(self.container_dir(id).join("upper").join(dir)).map_or(0, Iterator::count) == 0
        };
        let ours = |path: &Path, facts: &Facts| {
            let placeholder = match facts.form {
                Form::File => facts.size == 0,
                Form::Directory => empty(path),
                _ => false,
            };
            placeholder && ours(path)
        };
        diff::walk(&new, &old, &ours, visitor).map_err(self.failed(id))
    }

    fn changed(&self, id: &ContainerId) -> Result<Option<Changed>, StoreError> {
        for (name, upper) in [("upper", true), ("root", false)] {
            let path = self.container_dir(id).join(name);
            match Dir::open_ambient_dir(&path, ambient_authority()) {
                Ok(dir) => return Ok(Some(if upper { Changed::Upper(dir) } else { Changed::Root(dir) })),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(StoreError::io("open", &path)(error)),
            }
        }
        Ok(None)
    }

    fn layer_paths(&self, layers: &[Digest]) -> Result<Vec<PathBuf>, StoreError> {
        layers
            .iter()
            .map(|layer| {
                let there = self.layers().has(layer);
                there
                    .then(|| self.layers().path(layer))
                    .ok_or_else(|| StoreError::Missing { digest: layer.clone() })
            })
            .collect()
    }

    fn failed(&self, id: &ContainerId) -> impl FnOnce(io::Error) -> StoreError + use<> {
        let path = self.container_dir(id);
        move |source| StoreError::Io { action: "archive", path, source }
    }
}
