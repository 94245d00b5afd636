//! Looking whether the database is sound: the file itself, what its rows point to, and whether each record can be read.
//!
//! Reads only, in statements of their own: nobody waits for a check.

use rusqlite::Connection;

use super::{Database, Durable, Failure, StateError, StoredImage};
use crate::model::{Container, Digest, Image, Volume};

/// Something wrong in the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatabaseFlaw {
    /// `SQLite`'s own words about its file.
    File(String),
    /// A row that points to one that is not there.
    Dangling {
        /// The table it is in.
        table: String,
        /// The table it points to.
        to: String,
    },
    /// A record that cannot be read.
    Record(Row),
}

/// A row whose record cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// `images`, `names`, `containers` or `volumes`.
    pub table: &'static str,
    /// Its key.
    pub key: String,
    /// Why not.
    pub why: String,
}

/// The keys of a table whose records do not decode.
fn unreadable(
    c: &Connection,
    table: &'static str,
    query: &str,
    decode: impl Fn(&str, &str) -> Result<(), String>,
) -> Result<Vec<DatabaseFlaw>, Failure> {
    let mut statement = c.prepare(query)?;
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let key: String = row.get(0)?;
        let text: String = row.get(1)?;
        if let Err(why) = decode(&key, &text) {
            found.push(DatabaseFlaw::Record(Row { table, key, why }));
        }
    }
    Ok(found)
}

fn image(key: &str, text: &str) -> Result<(), String> {
    let image: Image = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if image.id.as_str() == key { Ok(()) } else { Err(format!("it is that of {}", image.id)) }
}

fn version(_: &str, text: &str) -> Result<(), String> {
    serde_json::from_str::<Image>(text).map(drop).map_err(|error| error.to_string())
}

fn container(key: &str, text: &str) -> Result<(), String> {
    let container: Container = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if container.id.as_str() == key { Ok(()) } else { Err(format!("it is that of {}", container.id)) }
}

fn volume(key: &str, text: &str) -> Result<(), String> {
    let volume: Volume = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if volume.name == key { Ok(()) } else { Err(format!("it is that of {}", volume.name)) }
}

impl Database {
    /// Looks at the database; `full` reads all of every index as well.
    pub fn check(&self, full: bool) -> Result<Vec<DatabaseFlaw>, StateError> {
        self.read("check itself", |c| {
            let pragma = if full { "PRAGMA integrity_check(20)" } else { "PRAGMA quick_check(20)" };
            let mut statement = c.prepare(pragma)?;
            let words =
                statement.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
            let mut found: Vec<_> =
                words.into_iter().filter(|word| word != "ok").map(DatabaseFlaw::File).collect();
            let mut statement = c.prepare("PRAGMA foreign_key_check")?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(2)?)))?;
            for row in rows {
                let (table, to) = row?;
                found.push(DatabaseFlaw::Dangling { table, to });
            }
            found.extend(unreadable(c, "images", "SELECT id, record FROM images", image)?);
            let names = "SELECT name, record FROM names WHERE record IS NOT NULL";
            found.extend(unreadable(c, "names", names, version)?);
            found.extend(unreadable(c, "containers", "SELECT id, record FROM containers", container)?);
            found.extend(unreadable(c, "volumes", "SELECT name, record FROM volumes", volume)?);
            Ok(found)
        })
    }

    /// Makes the indexes anew, from the tables: what a damaged index needs.
    pub fn reindex(&self) -> Result<(), StateError> {
        self.write("make its indexes anew", Durable::PowerCut, |t| Ok(t.execute_batch("REINDEX")?))
    }

    /// Removes rows that point to nothing.
    pub fn remove_dangling(&self) -> Result<usize, StateError> {
        self.write("remove rows that point to nothing", Durable::PowerCut, |t| {
            let mut removed = 0;
            for (table, column, to, key) in [
                ("names", "image", "images", "id"),
                ("image_content", "image", "images", "id"),
                ("image_use", "image", "images", "id"),
                ("container_layers", "container", "containers", "id"),
                ("container_volumes", "container", "containers", "id"),
                ("container_volumes", "volume", "volumes", "name"),
                ("lease_content", "lease", "leases", "id"),
                ("endpoints", "container", "containers", "id"),
                ("ports", "container", "containers", "id"),
            ] {
                let statement = format!("DELETE FROM {table} WHERE {column} NOT IN (SELECT {key} FROM {to})");
                removed += t.execute(&statement, [])?;
            }
            Ok(removed)
        })
    }

    /// What makes an image whose record cannot be read: digests of its blobs, and its platform.
    pub fn image_blobs(&self, id: &str) -> Result<Vec<Digest>, StateError> {
        self.read("look up an image's content", |c| {
            let mut statement =
                c.prepare_cached("SELECT digest FROM image_content WHERE image = ?1 AND kind = 'blob'")?;
            let rows = statement.query_map([id], |row| row.get::<_, String>(0))?;
            rows.map(|row| super::digest(row?)).collect()
        })
    }

    /// The images whose records can be read.
    pub fn readable_images(&self) -> Result<Vec<StoredImage>, StateError> {
        let ids = self.keys("SELECT id FROM images")?;
        let mut found = Vec::new();
        for id in ids {
            let Ok(id) = id.parse() else { continue };
            match self.image(&id) {
                Ok(image) => found.extend(image),
                Err(StateError::Record { .. } | StateError::Malformed { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// The containers whose records can be read.
    pub fn readable_containers(&self) -> Result<Vec<Container>, StateError> {
        let ids = self.keys("SELECT id FROM containers")?;
        let mut found = Vec::new();
        for id in ids {
            let Ok(id) = id.parse() else { continue };
            match self.container(&id) {
                Ok(container) => found.extend(container),
                Err(StateError::Record { .. } | StateError::Malformed { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// The volumes whose records can be read.
    pub fn readable_volumes(&self) -> Result<Vec<Volume>, StateError> {
        let mut found = Vec::new();
        for name in self.keys("SELECT name FROM volumes")? {
            match self.volume(&name) {
                Ok(volume) => found.extend(volume),
                Err(StateError::Record { .. } | StateError::Malformed { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    fn keys(&self, query: &str) -> Result<Vec<String>, StateError> {
        self.read("list its records", |c| {
            let mut statement = c.prepare(query)?;
            let rows = statement.query_map([], |row| row.get(0))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// Forgets by which manifest a name came, where that cannot be read: its image is then as it came last.
    pub fn forget_version(&self, name: &str) -> Result<(), StateError> {
        self.write("mend a name", Durable::PowerCut, |t| {
            t.execute("UPDATE names SET record = NULL WHERE name = ?1", [name])?;
            Ok(())
        })
    }

    /// Removes a container's record that cannot be read.
    pub fn forget_container(&self, id: &str) -> Result<(), StateError> {
        self.write("remove a damaged record", Durable::PowerCut, |t| {
            t.execute("DELETE FROM containers WHERE id = ?1", [id])?;
            Ok(())
        })
    }

    /// Writes a volume's record, whether there is one or not.
    pub fn put_volume(&self, volume: &Volume) -> Result<(), StateError> {
        let record =
            super::encode("a volume", volume).map_err(|failure| self.named(failure, "record a volume"))?;
        self.write("record a volume", Durable::PowerCut, |t| {
            t.execute(
                "INSERT INTO volumes (name, record) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET record = ?2",
                [&volume.name, &record],
            )?;
            Ok(())
        })
    }
}
