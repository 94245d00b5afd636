//! Roots as overlay mounts: two empty directories for each container, whatever its image's size.

use std::fs;
use std::io;
use std::path::Path;

use super::{Root, Snapshotter, directories};
use crate::model::{ContainerId, Digest};
use crate::store::{Store, StoreError};

/// The overlay way.
#[derive(Debug, Clone)]
pub struct Overlay {
    store: Store,
}

impl Overlay {
    /// In this store.
    pub fn new(store: &Store) -> Self {
        Self { store: store.clone() }
    }
}

impl Snapshotter for Overlay {
    fn name(&self) -> &'static str {
        "overlay"
    }

    fn prepare(&self, id: &ContainerId, layers: &[Digest]) -> Result<Root, StoreError> {
        let mut lower = directories(&self.store, layers)?;
        lower.reverse();
        // A layer that an image has twice counts once, where it is topmost: overlayfs refuses it twice.
        let mut seen = std::collections::HashSet::new();
        lower.retain(|path| seen.insert(path.clone()));
        let container = self.store.container_root().join(id.as_str());
        let (upper, work) = (container.join("upper"), container.join("work"));
        for path in [&upper, &work] {
            fs::create_dir_all(path).map_err(StoreError::io("create", path))?;
        }
        super::duplicate::root_attributes(lower.first().map(AsRef::as_ref), &upper)
            .map_err(StoreError::io("create", &upper))?;
        unmark(&work).map_err(StoreError::io("prepare", &work))?;
        Ok(Root::Overlay { lower, upper, work, volatile: false })
    }

    fn remove(&self, id: &ContainerId) -> Result<(), StoreError> {
        super::remove(&self.store, id)
    }
}

/// Takes away the mark that an earlier volatile mount left. What was written to it is here still: a container that nothing is to
/// survive of does not survive a stop of the machine, so the same kernel runs.
fn unmark(work: &Path) -> io::Result<()> {
    match fs::remove_dir_all(work.join("work/incompat/volatile")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}
