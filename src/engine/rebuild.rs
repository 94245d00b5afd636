//! The metadata database made anew, where its file is damaged beyond what a check can mend.
//!
//! In this order: what can still be read of the old one; images, from the manifests and configs that are here, by their ids alone
//! where their names are lost; containers that are lost keep their files under another name. Volumes are found by the check that
//! follows. The damaged file stays, under another name.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Engine, EngineError, Options, run_dir};
use crate::model::{ContainerId, Digest};
use crate::registry::{self, Document, LIMITS};
use crate::state::{Database, DatabaseFlaw, StateError};
use crate::supervisor;

impl Engine {
    /// Opens the engine's files as [`Self::open`] does, and makes the database anew if it is damaged and cannot be mended.
    pub fn open_mending(options: &Options) -> Result<Self, EngineError> {
        let engine = Self::open_with(options, |root, run_root| {
            let (why, opened) = match Database::open(root) {
                Ok(database) => match damage(&database)? {
                    None => return Ok((database, None)),
                    Some(why) => (why, Some(database)),
                },
                Err(error @ StateError::Damaged { .. }) => (super::error::chain(&error), None),
                Err(error) => return Err(error.into()),
            };
            drop(opened);
            if let Some(id) = alive(root, run_root) {
                return Err(EngineError::Alive { id });
            }
            let (database, salvage) = Database::salvage(root)?;
            let aside = salvage.aside.map(|path| format!("; the old file is `{}`", path.display()));
            let told = format!("{why}; {} rows could be read{}", salvage.rows, aside.unwrap_or_default());
            Ok((database, Some(told)))
        })?;
        if engine.rebuilt.is_some() {
            engine.restore_images()?;
            engine.set_lost_containers_aside()?;
            engine.database.remove_dangling()?;
        }
        Ok(engine)
    }

    /// Records the images whose manifest, config and layers are here.
    fn restore_images(&self) -> Result<(), EngineError> {
        let content = self.store()?.content();
        let (mut manifests, mut indexes) = (Vec::new(), BTreeMap::new());
        for digest in content.list()? {
            // What is larger, or no such document, is a layer or a config.
            let Ok(bytes) = content.read_small(&digest, LIMITS.manifest) else { continue };
            match registry::document(&bytes, None) {
                Ok(Document::Manifest(manifest)) => manifests.push((digest, bytes, manifest.config.digest)),
                Ok(Document::Index(entries)) => {
                    indexes.extend(entries.into_iter().map(|entry| (entry.digest, digest.clone())));
                }
                Err(_) => {}
            }
        }
        for (digest, bytes, config) in manifests {
            self.restore_image(&digest, &bytes, &config, indexes.get(&digest))?;
        }
        Ok(())
    }

    fn restore_image(
        &self,
        digest: &Digest,
        manifest: &[u8],
        config: &Digest,
        index: Option<&Digest>,
    ) -> Result<(), EngineError> {
        let store = self.store()?;
        let Ok(config) = store.content().read_small(config, LIMITS.config) else { return Ok(()) };
        let Ok(mut image) = registry::image_from(manifest, &config, index.unwrap_or(digest)) else {
            return Ok(());
        };
        let whole = image.layers.iter().all(|layer| store.layers().has(&layer.diff_id));
        if !whole || self.database.has_image(&image.id)? {
            return Ok(());
        }
        let sizes = image.layers.iter().filter_map(|layer| store.layers().unpacked_size(&layer.diff_id).ok());
        image.unpacked_size = sizes.sum();
        Ok(self.database.put_image(&image, None)?)
    }

    /// Containers without a record, or without their image's, keep their files under another name.
    fn set_lost_containers_aside(&self) -> Result<(), EngineError> {
        let mut kept = Vec::new();
        for container in self.database.readable_containers()? {
            if self.database.has_image(&container.image)? {
                kept.push(container.id);
            }
        }
        for id in ids(&self.root) {
            if !kept.contains(&id) {
                self.put_container_aside(id.as_str())?;
            }
        }
        for container in self.database.readable_containers()? {
            if !kept.contains(&container.id) {
                self.database.forget_container(container.id.as_str())?;
            }
        }
        Ok(())
    }
}

/// What is wrong with a database that can be opened, if making its indexes anew does not help.
fn damage(database: &Database) -> Result<Option<String>, EngineError> {
    let look = || match database.check(true) {
        Ok(flaws) => Ok(flaws.into_iter().find_map(|flaw| match flaw {
            DatabaseFlaw::File(words) => Some(words),
            _ => None,
        })),
        Err(error @ StateError::Damaged { .. }) => Ok(Some(super::error::chain(&error))),
        Err(error) => Err(error),
    };
    if look()?.is_none() {
        return Ok(None);
    }
    // Where this fails, the look that follows tells.
    let _tried = database.reindex();
    Ok(look()?)
}

/// The containers that have files.
fn ids(root: &Path) -> Vec<ContainerId> {
    let entries = std::fs::read_dir(root.join("containers")).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn alive(root: &Path, run_root: &Path) -> Option<ContainerId> {
    ids(root).into_iter().find(|id| supervisor::is_alive(&run_dir(run_root, id)))
}
