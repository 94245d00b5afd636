//! A damaged database put aside, and what can still be read of it taken over into a new one.
//!
//! Nothing is thrown away: the old file keeps its bytes under another name. Of every table the rows are read from both ends, so
//! that a bad page in the middle costs what is on it and no more. What then points to a row that is lost is the caller's to mend.

use std::path::{Path, PathBuf};

use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, Transaction, params_from_iter};

use super::{Database, Durable, Failure, StateError};

/// Tables worth saving. Not events, and not leases, whose processes are no more.
const TABLES: &[&str] = &[
    // Before the images: a trigger makes a row of this for each of them.
    "image_use",
    "images",
    "names",
    "image_content",
    "volumes",
    "containers",
    "container_layers",
    "container_volumes",
    "networks",
    "endpoints",
    "ports",
    "manifest_lists",
];

/// What became of a damaged database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Salvage {
    /// Where the damaged file is now; `None` if there was none.
    pub aside: Option<PathBuf>,
    /// Rows that were taken over.
    pub rows: usize,
}

impl Database {
    /// Puts the database of this root aside and makes a new one with what can be read of it. Nobody else may use it meanwhile.
    pub fn salvage(root: &Path) -> Result<(Self, Salvage), StateError> {
        let aside = put_aside(root)?;
        let database = Self::open_as(root, true)?;
        let mut rows = 0;
        if let Some(aside) = aside.as_ref().filter(|aside| aside.is_file()) {
            // What is no database at all cannot be opened, and has nothing.
            if let Ok(old) = Connection::open_with_flags(aside, OpenFlags::SQLITE_OPEN_READ_WRITE) {
                rows = database.take_over(&old)?;
            }
        }
        Ok((database, Salvage { aside, rows }))
    }

    fn take_over(&self, old: &Connection) -> Result<usize, StateError> {
        self.lock()
            .pragma_update(None, "foreign_keys", false)
            .map_err(|e| self.named(e.into(), "take over rows"))?;
        let taken = self.write("take over rows", Durable::PowerCut, |t| {
            TABLES.iter().try_fold(0, |total, table| Ok(total + copy(old, t, table)?))
        });
        self.lock()
            .pragma_update(None, "foreign_keys", true)
            .map_err(|e| self.named(e.into(), "take over rows"))?;
        taken
    }
}

/// Gives the file, and what belongs to it, a name that is free.
fn put_aside(root: &Path) -> Result<Option<PathBuf>, StateError> {
    let path = root.join(Database::FILE);
    if path.symlink_metadata().is_err() {
        return Ok(None);
    }
    let name = |number: u32, end: &str| root.join(format!("{}.damaged-{number}{end}", Database::FILE));
    let taken = |number| ["", "-wal", "-shm"].iter().any(|end| name(number, end).symlink_metadata().is_ok());
    let mut number = 1;
    while taken(number) {
        number += 1;
    }
    for end in ["-wal", "-shm", ""] {
        let from = root.join(format!("{}{end}", Database::FILE));
        match std::fs::rename(&from, name(number, end)) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(StateError::Step { action: "be put aside", source });
            }
            _ => {}
        }
    }
    Ok(Some(name(number, "")))
}

fn columns(c: &Connection, table: &str) -> rusqlite::Result<Vec<String>> {
    let mut statement = c.prepare("SELECT name FROM pragma_table_info(?1)")?;
    statement.query_map([table], |row| row.get(0))?.collect()
}

/// Copies the rows of a table that can be read, in the columns that both have.
fn copy(old: &Connection, new: &Transaction<'_>, table: &str) -> Result<usize, Failure> {
    // Without its schema nothing of it can be read.
    let had = columns(old, table).unwrap_or_default();
    let shared: Vec<_> = columns(new, table)?.into_iter().filter(|column| had.contains(column)).collect();
    if shared.is_empty() {
        return Ok(0);
    }
    let list = shared.join(", ");
    let places = vec!["?"; shared.len()].join(", ");
    let mut insert = new.prepare(&format!("INSERT OR IGNORE INTO {table} ({list}) VALUES ({places})"))?;
    let mut copied = 0;
    for order in ["ASC", "DESC"] {
        let Ok(mut select) = old.prepare(&format!("SELECT {list} FROM {table} ORDER BY 1 {order}")) else {
            continue;
        };
        let row = |row: &rusqlite::Row<'_>| {
            (0..shared.len()).map(|at| row.get(at)).collect::<Result<Vec<Value>, _>>()
        };
        let Ok(rows) = select.query_map([], row) else { continue };
        // The first page that cannot be read ends it.
        for values in rows.map_while(Result::ok) {
            // A row that breaks a rule of its table is as lost as one that cannot be read.
            copied += insert.execute(params_from_iter(values)).unwrap_or(0);
        }
    }
    Ok(copied)
}
