//! The metadata database: images, their names, containers, volumes, networks, leases. One SQLite file, `metadata.db`, in the store's root.
//!
//! Invariants:
//! - Uniqueness (container names, names of images per platform) and "an image in use stays" are constraints of the schema,
//!   so that no race between processes can break them.
//! - Readers never wait: the journal is a WAL, and reading takes no lock that a writer can hold.
//! - Images are committed with an fsync (`synchronous=FULL`). Containers are not (`NORMAL`): after a power cut the last
//!   changes to them may be missing, but never half there, and a container does not survive a power cut running anyway.
//! - What a pull has fetched and not yet recorded is held by a lease; [`Database::collect`] holds the write lock while it
//!   decides and renames, so that no lease can be taken in between. A lease is a row and a lock of the kernel's: it ends
//!   with its process, and whoever comes next sees that it did not end well.
//! - What happens is recorded as an event by the transaction that makes it so.
//!
//! Why not a JSON file per object: names could not be made unique, nor image and tags change together, without
//! reinventing a journal. The connection does not checkpoint on closing: a command must not pay an fsync for its exit.
//! Nor need it be closed: the journal is whole after every transaction.

mod check;
mod containers;
mod endpoints;
mod error;
mod events;
mod images;
mod leases;
mod lists;
mod neighbours;
mod networks;
mod salvage;
mod schema;
mod usage;
mod volumes;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};

pub use check::{DatabaseFlaw, Row};
pub use endpoints::{Taken, Wanted};
pub use error::StateError;
pub use images::StoredImage;
pub use leases::{Abandoned, Content, LeaseId};
pub use neighbours::{Neighbour, Neighbourhood};
pub use salvage::Salvage;
pub use usage::ImageUse;

/// How long the journal may be before a command that wrote moves it into the database, in bytes. Whoever opens a database that
/// nobody else has open reads the whole journal first, so its length is paid at every command.
const JOURNAL: u64 = 1 << 20;

/// How long it may be when a supervisor ends, for which nobody waits, in bytes.
const SETTLED: u64 = 256 << 10;

/// How long a writer waits for another before it gives up.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// The metadata database, open. Shared by threads; between processes SQLite's own locks rule.
#[derive(Debug)]
pub struct Database {
    connection: Mutex<Connection>,
    /// What the connection's commits survive, as it was set last; changed under its lock.
    durable: AtomicU8,
    root: PathBuf,
    /// The locks that keep this process's leases.
    held: Mutex<BTreeMap<i64, File>>,
}

impl Database {
    /// The database's file within the root.
    pub const FILE: &str = "metadata.db";

    /// Opens the database in `root` (a directory that exists), making or upgrading it as needed.
    ///
    /// An empty database in a store that holds something is a lost one: as a new one it would let the next collection remove all.
    pub fn open(root: &Path) -> Result<Self, StateError> {
        Self::open_as(root, false)
    }

    fn open_as(root: &Path, anew: bool) -> Result<Self, StateError> {
        let path = root.join(Self::FILE);
        let failed = |source| StateError::Open { path: path.clone(), source };
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        if path.is_dir() {
            let source = "it is a directory".into();
            return Err(StateError::Damaged { path, source });
        }
        let mut connection = Connection::open_with_flags(&path, flags).map_err(failed)?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(failed)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, true).map_err(failed)?;
        connection.set_prepared_statement_cache_capacity(32);
        schema::migrate(&mut connection, &path, anew)?;
        Ok(Self {
            connection: Mutex::new(connection),
            durable: AtomicU8::default(),
            root: root.to_owned(),
            held: Mutex::default(),
        })
    }

    /// A panic of another thread leaves no transaction open (they roll back when dropped), so poison means nothing here.
    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves what the journal holds into the database, if that is worth it. It waits for the disk, so nobody should wait for
    /// this.
    pub fn settle(&self) {
        self.shorten(&self.lock(), SETTLED);
    }

    /// Moves a journal that is longer into the database, and empties it. `SQLite` does the first by itself, but begins the
    /// journal anew only in a process that saw it moved: short commands, each alone, would let it grow without end.
    ///
    /// Nothing is lost if this fails, or if another process reads the journal: the next writer tries again.
    fn shorten(&self, connection: &Connection, above: u64) {
        let length = std::fs::metadata(self.root.join(format!("{}-wal", Self::FILE)))
            .map_or(0, |metadata| metadata.len());
        if length <= above {
            return;
        }
        // The first waits for the disk while others write; the second has nothing left to move, and keeps them for a moment.
        let step = |mode: &str| {
            connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| row.get(0))
        };
        let moved: rusqlite::Result<bool> = connection
            .busy_timeout(Duration::ZERO)
            .and_then(|()| step("PASSIVE"))
            .and_then(|_: bool| step("TRUNCATE"));
        let restored = connection.busy_timeout(BUSY_TIMEOUT);
        match moved.and_then(|busy| restored.map(|()| busy)) {
            Ok(busy) => tracing::trace!(length, busy, "shortened the journal"),
            Err(error) => tracing::debug!(length, %error, "the journal stays as long as it is"),
        }
    }

    /// Reads, in one statement each.
    fn read<T>(
        &self,
        action: &'static str,
        query: impl FnOnce(&Connection) -> Result<T, Failure>,
    ) -> Result<T, StateError> {
        query(&self.lock()).map_err(|failure| self.named(failure, action))
    }

    /// Writes in one transaction, which holds the write lock from its beginning.
    fn write<T>(
        &self,
        action: &'static str,
        durable: Durable,
        change: impl FnOnce(&Transaction<'_>) -> Result<T, Failure>,
    ) -> Result<T, StateError> {
        let mut connection = self.lock();
        let run = || -> Result<T, Failure> {
            if self.durable.load(Ordering::Relaxed) != durable as u8 {
                connection.pragma_update(None, "synchronous", durable as u8)?;
                self.durable.store(durable as u8, Ordering::Relaxed);
            }
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let value = change(&transaction)?;
            transaction.commit()?;
            Ok(value)
        };
        let value = run().map_err(|failure| self.named(failure, action))?;
        self.shorten(&connection, JOURNAL);
        Ok(value)
    }

    fn named(&self, failure: Failure, action: &'static str) -> StateError {
        failure.named(action, &self.root.join(Self::FILE))
    }
}

/// What a commit survives once it returned: the numbers of `PRAGMA synchronous` (NORMAL, FULL).
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
enum Durable {
    /// The death of the process.
    Process = 1,
    /// A power cut: the WAL is fsynced.
    PowerCut = 2,
}

/// A failure within a query, before the name of what was attempted is added.
#[derive(Debug)]
enum Failure {
    Sqlite(rusqlite::Error),
    State(StateError),
}

impl Failure {
    fn named(self, action: &'static str, path: &Path) -> StateError {
        let path = path.to_owned();
        match self {
            Self::Sqlite(source) => match source.sqlite_error_code() {
                Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                    StateError::Damaged { path, source: source.into() }
                }
                _ => StateError::Database { path, action, source },
            },
            Self::State(error) => error,
        }
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<StateError> for Failure {
    fn from(error: StateError) -> Self {
        Self::State(error)
    }
}

fn decode<T: serde::de::DeserializeOwned>(what: &'static str, text: &str) -> Result<T, Failure> {
    serde_json::from_str(text).map_err(|source| StateError::Record { what, source }.into())
}

fn encode<T: serde::Serialize>(what: &'static str, value: &T) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|source| StateError::Record { what, source }.into())
}

fn digest(text: String) -> Result<crate::model::Digest, Failure> {
    text.parse().map_err(|_| StateError::Malformed { text }.into())
}

#[cfg(test)]
mod network_tests;
#[cfg(test)]
pub(crate) mod tests;
