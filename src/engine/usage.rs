//! What images, containers and volumes take of the disk.
//!
//! Sizes are sums over files, as docker's are: what a file system shares or compresses is not seen.

use std::collections::BTreeMap;
use std::path::Path;

use crate::executor::wasm::CodeUsage;
use crate::model::{Digest, RuntimeStatus};

use super::{ContainerView, Engine, EngineError, ImageView, VolumeView};

/// An image and what it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageUsage {
    /// The image.
    pub view: ImageView,
    /// Bytes that other images use as well.
    pub shared: u64,
    /// Bytes of its own.
    pub unique: u64,
    /// How many containers are made of it.
    pub containers: usize,
}

/// What everything takes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DiskUsage {
    /// Images, newest first.
    pub images: Vec<ImageUsage>,
    /// Bytes of all layers, unpacked and as they were fetched, each once.
    pub layers: u64,
    /// Of them those that containers need.
    pub layers_in_use: u64,
    /// Containers, newest first, and the bytes of their changes.
    pub containers: Vec<(ContainerView, u64)>,
    /// Volumes, the bytes of their files, and how many containers use them.
    pub volumes: Vec<(VolumeView, u64, usize)>,
    /// Modules that are kept compiled.
    pub compiled: CodeUsage,
}

impl Engine {
    /// Bytes of a container's changes, and of its whole root.
    pub fn container_size(&self, view: &ContainerView) -> Result<(u64, u64), EngineError> {
        let image = self.database.image(&view.container.image)?;
        let below = image.map_or(0, |stored| stored.image.unpacked_size);
        let dir = self.store()?.container_dir(&view.container.id);
        let changed = tree_size(&dir.join("upper"));
        // A copied root holds the image's files as well.
        let copied = tree_size(&dir.join("root")).saturating_sub(below);
        let own = changed + copied;
        Ok((own, own + below))
    }

    /// What everything takes.
    pub fn disk_usage(&self) -> Result<DiskUsage, EngineError> {
        let store = self.store()?;
        let mut usage = DiskUsage::default();
        let images = self.images()?;
        // Of each layer what it takes, how many images have it, and whether a container needs it.
        let mut layers: BTreeMap<Digest, (u64, usize, bool)> = BTreeMap::new();
        for layer in images.iter().flat_map(|view| &view.image.layers) {
            let known = layers
                .entry(layer.diff_id.clone())
                .or_insert_with(|| (tree_size(&store.layers().path(&layer.diff_id)) + layer.size, 0, false));
            known.1 += 1;
        }
        for view in self.containers()? {
            for digest in &view.container.layers {
                if let Some(layer) = layers.get_mut(digest) {
                    layer.2 = true;
                }
            }
            let size = self.container_size(&view)?.0;
            usage.containers.push((view, size));
        }
        usage.layers = layers.values().map(|(size, _, _)| size).sum();
        usage.layers_in_use = layers.values().filter(|(_, _, used)| *used).map(|(size, _, _)| size).sum();
        for view in images {
            let (mut shared, mut unique) = (0, 0);
            for layer in &view.image.layers {
                match layers.get(&layer.diff_id) {
                    Some((size, 1, _)) => unique += size,
                    Some((size, _, _)) => shared += size,
                    None => {}
                }
            }
            let of = |(container, _): &&(ContainerView, u64)| container.container.image == view.image.id;
            let containers = usage.containers.iter().filter(of).count();
            usage.images.push(ImageUsage { view, shared, unique, containers });
        }
        for view in self.volumes()? {
            let users = self.database.volume_users(&view.volume.name)?.len();
            let size = store.volumes().size(&view.volume.name);
            usage.volumes.push((view, size, users));
        }
        usage.compiled = self.compiled();
        Ok(usage)
    }
}

impl DiskUsage {
    /// Whether a container counts as active: it runs, paused and restarting included.
    pub fn is_active(view: &ContainerView) -> bool {
        view.alive && view.container.state.status == RuntimeStatus::Running
    }
}

/// Bytes of a tree's files; what cannot be read counts as nothing.
pub(super) fn tree_size(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => tree_size(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}
