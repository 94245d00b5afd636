//! Removing what nobody uses, and what crashes left.

use std::path::Path;
use std::time::Duration;

use crate::model::{Container, ContainerId, Event, EventType, RuntimeStatus, Timestamp};
use crate::reference::Reference;

use super::{Engine, EngineError, ImageRemoval, ImageView};

/// What a pull holds is let go of when the pull is older than this: no pull takes a day, and one that does would fetch again.
const LEASE: Duration = Duration::from_hours(24);

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
            if (view.names.is_empty() || all) && !used.contains(&view.image.id) && wanted(&view) {
                let size = view.image.unpacked_size + view.image.distributed_size();
                let removed = self.remove_image(view.image.id.as_str(), true)?;
                if removed.iter().any(|step| matches!(step, ImageRemoval::Deleted(_))) {
                    bytes += size;
                }
                steps.extend(removed);
            }
        }
        self.collect_garbage()?;
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
            self.database.tag(&stored.image.id, &name.canonical())?;
        }
        Ok(())
    }

    /// Lets go of what killed pulls held, and removes what they left.
    pub(super) fn sweep_store(&self) -> Result<(), EngineError> {
        if let Ok(then) = Timestamp::now().checked_sub(LEASE) {
            self.database.expire_leases(then)?;
        }
        self.store()?.sweep(PARTIAL)?;
        Ok(())
    }
}

/// Bytes of a tree's files; what cannot be read counts as nothing.
fn tree_size(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => tree_size(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}
