//! Volumes, and which containers use them.
//!
//! A volume that a container uses cannot be removed: that is a constraint of the schema. A container's volumes are recorded
//! by the transaction that records the container.

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::{Database, Durable, Failure, StateError, decode, encode, events};
use crate::model::{Container, ContainerId, Event, MountSource, Timestamp, Volume};

const WHAT: &str = "a volume";

fn select(
    connection: &Connection,
    rest: &str,
    values: impl rusqlite::Params,
) -> Result<Vec<Volume>, Failure> {
    let mut statement = connection.prepare_cached(&format!("SELECT record FROM volumes {rest}"))?;
    let rows = statement.query_map(values, |row| row.get::<_, String>(0))?;
    rows.map(|row| decode(WHAT, &row?)).collect()
}

fn insert(t: &Transaction<'_>, volume: &Volume) -> Result<bool, Failure> {
    let mut statement = t.prepare_cached("INSERT OR IGNORE INTO volumes (name, record) VALUES (?1, ?2)")?;
    let new = statement.execute(params![volume.name, encode(WHAT, volume)?])? > 0;
    if new {
        events::add(t, &Event::volume(&volume.name, "create"))?;
    }
    Ok(new)
}

/// Records the volumes of a new container; those that are not there yet come into being.
pub(super) fn attach(t: &Transaction<'_>, container: &Container) -> Result<(), Failure> {
    for mount in &container.host.mounts {
        let MountSource::Volume { name, anonymous, .. } = &mount.source else { continue };
        let volume = Volume::new(name, Timestamp::now(), std::collections::BTreeMap::new(), *anonymous)
            .map_err(|error| StateError::VolumeName { source: error })?;
        insert(t, &volume)?;
        t.prepare_cached("INSERT OR IGNORE INTO container_volumes (container, volume) VALUES (?1, ?2)")?
            .execute(params![container.id.as_str(), name])?;
    }
    Ok(())
}

fn users(connection: &Connection, name: &str) -> Result<Vec<ContainerId>, Failure> {
    let mut statement = connection
        .prepare_cached("SELECT container FROM container_volumes WHERE volume = ?1 ORDER BY container")?;
    let rows = statement.query_map([name], |row| row.get::<_, String>(0))?;
    rows.map(|row| {
        let text = row?;
        text.parse().map_err(|_| StateError::Malformed { text }.into())
    })
    .collect()
}

impl Database {
    /// Records a volume; false when there is one of this name already, which stays as it is.
    pub fn create_volume(&self, volume: &Volume) -> Result<bool, StateError> {
        self.write("record a volume", Durable::PowerCut, |t| insert(t, volume))
    }

    /// The volume of this name.
    pub fn volume(&self, name: &str) -> Result<Option<Volume>, StateError> {
        self.read("look up a volume", |c| Ok(select(c, "WHERE name = ?1", [name])?.pop()))
    }

    /// All volumes, by name.
    pub fn volumes(&self) -> Result<Vec<Volume>, StateError> {
        self.read("list volumes", |c| select(c, "ORDER BY name", []))
    }

    /// The containers that use a volume.
    pub fn volume_users(&self, name: &str) -> Result<Vec<ContainerId>, StateError> {
        self.read("look up a volume's users", |c| users(c, name))
    }

    /// Removes a volume that no container uses. `retire` takes its files out of sight while no other process can make a
    /// volume of this name.
    pub fn remove_volume(
        &self,
        name: &str,
        retire: impl FnOnce() -> std::io::Result<()>,
    ) -> Result<(), StateError> {
        self.write("remove a volume", Durable::Process, |t| {
            let there: Option<()> = t
                .prepare_cached("SELECT 1 FROM volumes WHERE name = ?1")?
                .query_row([name], |_| Ok(()))
                .optional()?;
            if there.is_none() {
                return Err(StateError::NoVolume { name: name.to_owned() }.into());
            }
            let users = users(t, name)?;
            if !users.is_empty() {
                return Err(StateError::VolumeInUse { name: name.to_owned(), users }.into());
            }
            t.prepare_cached("DELETE FROM volumes WHERE name = ?1")?.execute([name])?;
            events::add(t, &Event::volume(name, "destroy"))?;
            retire().map_err(|source| StateError::Retire { name: name.to_owned(), source })?;
            Ok(())
        })
    }

    /// Tells `act` whether a volume is recorded, while nobody can record or remove one.
    pub fn with_volume<T>(
        &self,
        name: &str,
        act: impl FnOnce(bool) -> std::io::Result<T>,
    ) -> Result<T, StateError> {
        self.write("look up a volume", Durable::Process, |t| {
            let there = t.prepare_cached("SELECT 1 FROM volumes WHERE name = ?1")?.exists([name])?;
            act(there).map_err(|source| StateError::Retire { name: name.to_owned(), source }.into())
        })
    }
}
