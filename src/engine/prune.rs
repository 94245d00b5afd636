//! Removing what nobody uses, and what crashes left.

use std::time::Duration;

use crate::model::{Container, ContainerId, Event, EventType, RuntimeStatus};
use crate::reference::Reference;

use super::usage::tree_size;
use super::{Engine, EngineError, ImageRemoval, ImageView};

/// A partial download that nobody took up for so long is removed.
const PARTIAL: Duration = Duration::from_hours(7 * 24);

impl Engine {
    /// Removes containers that do not run. Tells which, and how many bytes of changes they had.
    pub fn prune_containers(
        &self,
        wanted: impl Fn(&Container) -> bool,
    ) -> Result<(Vec<ContainerId>, u64), EngineError> {
        self.reconcile()?;
        let (mut ids, mut bytes) = (Vec::new(), 0);
        for view in self.containers()? {
            let container = view.container;
            if view.alive || container.state.status == RuntimeStatus::Running || !wanted(&container) {
                continue;
            }
            let dir = self.store()?.container_dir(&container.id);
            let size = tree_size(&dir.join("upper")) + tree_size(&dir.join("root"));
            match self.remove(container.id.as_str(), false, false) {
                Ok(_) => {
                    bytes += size;
                    ids.push(container.id);
                }
                // Somebody started or removed it just now.
                Err(EngineError::Running { .. }) => {}
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        self.note(Event::prune(EventType::Container, bytes));
        Ok((ids, bytes))
    }

    /// Removes images that no container is made of: those without a name, or with `all` every one. Then whatever nothing
    /// refers to any more, and what crashes left.
    pub fn prune_images(
        &self,
        all: bool,
        wanted: impl Fn(&ImageView) -> bool,
    ) -> Result<(Vec<ImageRemoval>, u64), EngineError> {
        let used: std::collections::BTreeSet<_> =
            self.containers()?.into_iter().map(|view| view.container.image).collect();
        let (mut steps, mut bytes) = (Vec::new(), 0);
        for view in self.images()? {
            let takes = (view.names.is_empty() || all) && !used.contains(&view.image.id) && wanted(&view);
            if takes && !self.database.is_pinned(&view.image.id)? {
                let size = self.own_size(&view.image)?;
                let removed = match self.remove_image(view.image.id.as_str(), true) {
                    Ok(removed) => removed,
                    // Somebody removed it, or made a container of it, just now.
                    Err(error) if error.is_not_found() => continue,
                    Err(EngineError::ImageInUse { .. }) => continue,
                    Err(error) => return Err(error),
                };
                if removed.iter().any(|step| matches!(step, ImageRemoval::Deleted(_))) {
                    bytes += size;
                }
                steps.extend(removed);
            }
        }
        self.collect_garbage()?;
        bytes += self.free_compiled();
        self.note(Event::prune(EventType::Image, bytes));
        Ok((steps, bytes))
    }

    /// Gives an image one more name. A name as the source means all its platforms.
    pub fn tag(&self, source: &str, target: &str) -> Result<(), EngineError> {
        let name: Reference = self.reference(target)?;
        if name.digest().is_some() {
            return Err(EngineError::TagDigest);
        }
        let found = self.find_image(source, &[]).map_err(|error| match error {
            EngineError::MissingImage { name } => EngineError::NoImage { name },
            other => other,
        })?;
        let named = match self.reference(source) {
            Ok(reference) if found.names.contains(&reference.canonical()) => {
                self.database.image_by_name(&reference.canonical(), None)?
            }
            _ => vec![found],
        };
        for stored in named {
            self.database.tag(&stored.image, &name.canonical())?;
        }
        Ok(())
    }

    /// Removes what killed processes left.
    pub(super) fn sweep_store(&self) -> Result<(), EngineError> {
        self.database.sweep_leases()?;
        self.store()?.sweep(PARTIAL)?;
        self.sweep_volumes()
    }

    /// Finishes removals of volumes whose records are gone, and undoes the others: of what is recorded, nothing is lost.
    pub(super) fn sweep_volumes(&self) -> Result<(), EngineError> {
        let volumes = self.store()?.volumes();
        for (name, path) in volumes.retired()? {
            let done = self.database.with_volume(&name, |recorded| {
                if recorded { volumes.restore(&name, &path).map(|()| false) } else { Ok(true) }
            })?;
            if done {
                volumes.purge(&path)?;
            }
        }
        Ok(())
    }
}
