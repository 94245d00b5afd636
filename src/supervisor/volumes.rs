//! Anonymous volumes go with their container: after `--rm` by its supervisor, after `rm -v` by the command.

use crate::model::{Container, ErrorKind, Kind, MountSource};
use crate::state::{Database, StateError};
use crate::store::{Store, StoreError};

/// An anonymous volume that could not be removed.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// Its record.
    #[error(transparent)]
    State(#[from] StateError),
    /// Its files.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Kind for VolumeError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::State(error) => error.kind(),
            Self::Store(error) => error.kind(),
        }
    }
}

/// Removes the anonymous volumes of a container whose record is gone, but for those that another container uses.
pub fn remove_anonymous(
    database: &Database,
    store: &Store,
    container: &Container,
) -> Result<(), VolumeError> {
    for mount in &container.host.mounts {
        let MountSource::Volume { name, anonymous: true, .. } = &mount.source else { continue };
        let mut gone = None;
        let removed = database.remove_volume(name, || {
            gone = Some(store.volumes().retire(name)?);
            Ok(())
        });
        match removed {
            Ok(()) | Err(StateError::VolumeInUse { .. } | StateError::NoVolume { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        if let Some(gone) = gone {
            store.volumes().purge(&gone)?;
        }
    }
    Ok(())
}
