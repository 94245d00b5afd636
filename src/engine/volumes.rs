//! Volumes: made, listed, removed.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::model::{Event, EventType, Timestamp, Volume};

use super::{Engine, EngineError};

/// A volume as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeView {
    /// Its record.
    pub volume: Volume,
    /// Where its files are.
    pub mountpoint: PathBuf,
}

impl Engine {
    /// Where a volume's files are, or would be.
    pub fn volume_path(&self, name: &str) -> Result<PathBuf, EngineError> {
        Ok(self.store()?.volumes().data(name))
    }

    fn view_volume(&self, volume: Volume) -> Result<VolumeView, EngineError> {
        Ok(VolumeView { mountpoint: self.volume_path(&volume.name)?, volume })
    }

    pub(super) fn make_volume_files(&self, name: &str) -> Result<(), EngineError> {
        // Checked here as well: this name becomes a path.
        Volume::new(name, Timestamp::UNIX_EPOCH, BTreeMap::new(), false)?;
        Ok(self.store()?.volumes().make(name)?)
    }

    /// Makes a volume; one of this name that is there already is returned as it is. Without a name it gets a random one.
    pub fn create_volume(
        &self,
        name: Option<&str>,
        labels: BTreeMap<String, String>,
        options: BTreeMap<String, String>,
    ) -> Result<VolumeView, EngineError> {
        let name = match name {
            Some(name) if !name.is_empty() => name.to_owned(),
            _ => hex::encode(super::create::random_bytes()?),
        };
        let volume = Volume::new(&name, Timestamp::now(), labels, false)?.with_options(options)?;
        self.make_volume_files(&name)?;
        let volume = if self.database.create_volume(&volume)? {
            volume
        } else {
            self.database.volume(&name)?.unwrap_or(volume)
        };
        self.view_volume(volume)
    }

    /// All volumes, by name.
    pub fn volumes(&self) -> Result<Vec<VolumeView>, EngineError> {
        self.database.volumes()?.into_iter().map(|volume| self.view_volume(volume)).collect()
    }

    /// The volume of this name.
    pub fn volume(&self, name: &str) -> Result<VolumeView, EngineError> {
        match self.database.volume(name)? {
            Some(volume) => self.view_volume(volume),
            None => Err(crate::state::StateError::NoVolume { name: name.to_owned() }.into()),
        }
    }

    /// Whether a container uses a volume.
    pub fn volume_is_used(&self, name: &str) -> Result<bool, EngineError> {
        Ok(!self.database.volume_users(name)?.is_empty())
    }

    /// Removes a volume that no container uses, and its files.
    pub fn remove_volume(&self, name: &str) -> Result<(), EngineError> {
        let store = self.store()?;
        store.use_reserve();
        self.holding(&[], || {
            let mut gone = None;
            let removed = self.database.remove_volume(name, || {
                gone = Some(store.volumes().retire(name)?);
                Ok(())
            });
            if let Err(error) = removed {
                // What was out of sight already comes back: the volume is recorded still.
                let _ = self.sweep_volumes();
                return Err(error.into());
            }
            match gone {
                Some(gone) => Ok(store.volumes().purge(&gone)?),
                None => Ok(()),
            }
        })
    }

    /// Removes volumes that no container uses: anonymous ones, or with `all` every one. `wanted` narrows them further. Tells
    /// which, and how many bytes they had.
    pub fn prune_volumes(
        &self,
        all: bool,
        wanted: impl Fn(&Volume) -> bool,
    ) -> Result<(Vec<String>, u64), EngineError> {
        let (mut names, mut bytes) = (Vec::new(), 0);
        for volume in self.database.volumes()? {
            if !(all || volume.anonymous) || !wanted(&volume) || self.volume_is_used(&volume.name)? {
                continue;
            }
            let size = self.store()?.volumes().size(&volume.name);
            match self.remove_volume(&volume.name) {
                Ok(()) => {
                    bytes += size;
                    names.push(volume.name);
                }
                // Somebody took it, or removed it, just now.
                Err(EngineError::State(
                    crate::state::StateError::VolumeInUse { .. } | crate::state::StateError::NoVolume { .. },
                )) => {}
                Err(error) => return Err(error),
            }
        }
        self.note(Event::prune(EventType::Volume, bytes));
        Ok((names, bytes))
    }
}
