//! Manifest lists in the making, by name.

use rusqlite::params;

use super::{Database, Durable, StateError, decode, encode};
use crate::model::ListEntry;

impl Database {
    /// Adds entries to a list, which begins with its first; one of the same reference is replaced.
    pub fn put_list_entries(&self, name: &str, entries: &[ListEntry]) -> Result<(), StateError> {
        self.write("record a manifest list", Durable::PowerCut, |t| {
            let mut add = t.prepare_cached(
                "INSERT OR REPLACE INTO manifest_lists (name, reference, record) VALUES (?1, ?2, ?3)",
            )?;
            for entry in entries {
                add.execute(params![name, entry.reference, encode("a manifest list", entry)?])?;
            }
            Ok(())
        })
    }

    /// The entries of a list, by their references; none if there is no such list.
    pub fn list_entries(&self, name: &str) -> Result<Vec<ListEntry>, StateError> {
        self.read("read a manifest list", |c| {
            let mut statement =
                c.prepare_cached("SELECT record FROM manifest_lists WHERE name = ?1 ORDER BY reference")?;
            let rows = statement.query_map([name], |row| row.get::<_, String>(0))?;
            rows.map(|row| decode("a manifest list", &row?)).collect()
        })
    }

    /// Removes a list; whether there was one.
    pub fn remove_list(&self, name: &str) -> Result<bool, StateError> {
        self.write("remove a manifest list", Durable::PowerCut, |t| {
            Ok(t.prepare_cached("DELETE FROM manifest_lists WHERE name = ?1")?.execute([name])? > 0)
        })
    }
}
