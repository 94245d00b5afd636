//! Containers' root file systems, made of layers.
//!
//! Invariant: layers are never written to. Two ways: [`overlay`](Overlay) only makes directories and says what is to be
//! mounted (the runtime mounts, in the container's own namespace, so that nothing is ever mounted on the host); [`copy`](struct@Copy) makes a
//! tree of its own, sharing blocks where the file system can.

mod copy;
#[cfg_attr(target_os = "linux", path = "copy_linux.rs")]
#[cfg_attr(not(target_os = "linux"), path = "copy_other.rs")]
mod duplicate;
mod overlay;

use std::fmt::Debug;
use std::fs;
use std::io;
use std::path::PathBuf;

pub use copy::Copy;
pub(super) use copy::copy_tree;
pub use overlay::Overlay;

use super::{Store, StoreError};
use crate::failpoint::{Point, pass};
pub use crate::model::Root;
use crate::model::{ContainerId, Digest};

/// A way to make roots.
pub trait Snapshotter: Debug + Send + Sync {
    /// The name of the way, for `info`.
    fn name(&self) -> &'static str;

    /// Makes a container's root of these layers, lowest first. Repeated, it returns the same root, changes and all.
    fn prepare(&self, id: &ContainerId, layers: &[Digest]) -> Result<Root, StoreError>;

    /// Removes all files of a container; nothing there is no error.
    fn remove(&self, id: &ContainerId) -> Result<(), StoreError>;
}

/// The best way on this host: overlay for root on Linux (in a user namespace where the kernel lets it), else copy.
pub(super) fn detect(store: &Store) -> Box<dyn Snapshotter> {
    if duplicate::can_overlay(&store.container_root()) {
        Box::new(Overlay::new(store))
    } else {
        Box::new(Copy::new(store))
    }
}

/// The layers' directories, lowest first; all must be there.
fn directories(store: &Store, layers: &[Digest]) -> Result<Vec<PathBuf>, StoreError> {
    let find = |layer: &Digest| {
        if store.layers().has(layer) {
            Ok(store.layers().path(layer))
        } else {
            Err(StoreError::Missing { digest: layer.clone() })
        }
    };
    layers.iter().map(find).collect()
}

/// Out of sight first, so that a crash leaves no half container under its own name.
fn remove(store: &Store, id: &ContainerId) -> Result<(), StoreError> {
    let path = store.container_root().join(id.as_str());
    let away = store.container_root().join(format!("gone-{id}"));
    match fs::rename(&path, &away) {
        // Perhaps a removal was killed here, and this is the second.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        other => other.map_err(StoreError::io("remove", &path))?,
    }
    pass(Point::ContainerRetired).map_err(StoreError::io("remove", &away))?;
    match fs::remove_dir_all(&away) {
        // A sweep was here first.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        other => other.map_err(StoreError::io("remove", &away))?,
    }
    pass(Point::ContainerErased).map_err(StoreError::io("remove", &path))
}
