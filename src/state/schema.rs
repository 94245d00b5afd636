//! The tables and how they came to be: every version of the schema and the step to it, in one place.
//!
//! `PRAGMA user_version` holds the number of steps taken. A step, once released, is never edited; a new one is appended.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, TransactionBehavior};

use super::{BUSY_TIMEOUT, Failure, StateError};

/// Step *n* leads from version *n* to version *n + 1*.
const STEPS: &[&str] = &[
    "
CREATE TABLE images (
    id TEXT PRIMARY KEY, platform TEXT NOT NULL, pulled TEXT NOT NULL, record TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE names (
    name TEXT NOT NULL, platform TEXT NOT NULL,
    image TEXT NOT NULL REFERENCES images(id) ON DELETE CASCADE,
    PRIMARY KEY (name, platform)
) WITHOUT ROWID;
CREATE INDEX names_image ON names(image);
CREATE TABLE image_content (
    image TEXT NOT NULL REFERENCES images(id) ON DELETE CASCADE,
    kind TEXT NOT NULL CHECK (kind IN ('blob', 'layer')), digest TEXT NOT NULL,
    PRIMARY KEY (image, kind, digest)
) WITHOUT ROWID;
CREATE INDEX image_content_digest ON image_content(kind, digest);
CREATE TABLE containers (
    id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE,
    image TEXT NOT NULL REFERENCES images(id) ON DELETE RESTRICT,
    status TEXT NOT NULL, record TEXT NOT NULL, state TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX containers_image ON containers(image);
CREATE INDEX containers_status ON containers(status);
CREATE TABLE container_layers (
    container TEXT NOT NULL REFERENCES containers(id) ON DELETE CASCADE, digest TEXT NOT NULL,
    PRIMARY KEY (container, digest)
) WITHOUT ROWID;
CREATE INDEX container_layers_digest ON container_layers(digest);
CREATE TABLE leases (id INTEGER PRIMARY KEY AUTOINCREMENT, taken TEXT NOT NULL);
CREATE TABLE lease_content (
    lease INTEGER NOT NULL REFERENCES leases(id) ON DELETE CASCADE, digest TEXT NOT NULL,
    PRIMARY KEY (lease, digest)
) WITHOUT ROWID;
CREATE INDEX lease_content_digest ON lease_content(digest);
",
    "
CREATE TABLE volumes (name TEXT PRIMARY KEY, record TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE container_volumes (
    container TEXT NOT NULL REFERENCES containers(id) ON DELETE CASCADE,
    volume TEXT NOT NULL REFERENCES volumes(name) ON DELETE RESTRICT,
    PRIMARY KEY (container, volume)
) WITHOUT ROWID;
CREATE INDEX container_volumes_volume ON container_volumes(volume);
",
    // A container that is down keeps its connections with networks that are gone, as with docker: no reference there.
    "
CREATE TABLE networks (id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, record TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE endpoints (
    container TEXT NOT NULL REFERENCES containers(id) ON DELETE CASCADE,
    network TEXT NOT NULL, id TEXT NOT NULL, position INTEGER NOT NULL, settings TEXT NOT NULL,
    interface INTEGER, mac TEXT, ipv4 INTEGER, ipv6 BLOB,
    PRIMARY KEY (container, network)
) WITHOUT ROWID;
CREATE INDEX endpoints_network ON endpoints(network);
CREATE INDEX endpoints_held ON endpoints(container) WHERE mac IS NOT NULL;
CREATE UNIQUE INDEX endpoints_mac ON endpoints(network, mac) WHERE mac IS NOT NULL;
CREATE UNIQUE INDEX endpoints_ipv4 ON endpoints(network, ipv4) WHERE ipv4 IS NOT NULL;
CREATE UNIQUE INDEX endpoints_ipv6 ON endpoints(network, ipv6) WHERE ipv6 IS NOT NULL;
CREATE TABLE ports (
    container TEXT NOT NULL REFERENCES containers(id) ON DELETE CASCADE,
    protocol TEXT NOT NULL, address TEXT NOT NULL, port INTEGER NOT NULL, target INTEGER NOT NULL,
    PRIMARY KEY (protocol, port, address)
) WITHOUT ROWID;
CREATE INDEX ports_container ON ports(container);
",
    "
CREATE TABLE events (seq INTEGER PRIMARY KEY, time INTEGER NOT NULL, record TEXT NOT NULL);
",
    // When an image was used last: put into the store, or a container of it made or removed. Triggers, so that no statement
    // that does one of these can forget it.
    "
ALTER TABLE leases ADD COLUMN boot TEXT NOT NULL DEFAULT '';
CREATE TABLE image_use (
    image TEXT PRIMARY KEY REFERENCES images(id) ON DELETE CASCADE,
    used REAL NOT NULL, pinned INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
INSERT INTO image_use (image, used) SELECT id, unixepoch(pulled) FROM images WHERE unixepoch(pulled) IS NOT NULL;
CREATE TRIGGER image_put AFTER INSERT ON images BEGIN
    INSERT INTO image_use (image, used) VALUES (NEW.id, unixepoch('subsec'))
    ON CONFLICT (image) DO UPDATE SET used = excluded.used;
END;
CREATE TRIGGER image_put_again AFTER UPDATE OF pulled ON images BEGIN
    INSERT INTO image_use (image, used) VALUES (NEW.id, unixepoch('subsec'))
    ON CONFLICT (image) DO UPDATE SET used = excluded.used;
END;
CREATE TRIGGER container_made AFTER INSERT ON containers BEGIN
    UPDATE image_use SET used = unixepoch('subsec') WHERE image = NEW.image;
END;
CREATE TRIGGER container_gone AFTER DELETE ON containers BEGIN
    UPDATE image_use SET used = unixepoch('subsec') WHERE image = OLD.image;
END;
",
    "
CREATE TABLE manifest_lists (
    name TEXT NOT NULL, reference TEXT NOT NULL, record TEXT NOT NULL, PRIMARY KEY (name, reference)
) WITHOUT ROWID;
",
    // The image as the name came by it, where that is not what the image came by last.
    "
ALTER TABLE names ADD COLUMN record TEXT;
",
];

/// The version that this program reads and writes.
pub(super) fn current() -> i64 {
    i64::try_from(STEPS.len()).unwrap_or(i64::MAX)
}

/// Brings the schema up to date, or refuses a newer one. One read when there is nothing to do.
///
/// `anew`: an empty one may be in a store that holds something.
pub(super) fn migrate(connection: &mut Connection, path: &Path, anew: bool) -> Result<(), StateError> {
    let failed = |source| Failure::Sqlite(source).named("bring its tables up to date", path);
    let read = |c: &Connection| c.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0));
    let check = |found| {
        if found > current() {
            Err(StateError::NewerSchema { path: path.to_owned(), found, known: current() })
        } else {
            Ok(found)
        }
    };
    let found = check(read(connection).map_err(failed)?)?;
    if found == current() {
        return Ok(());
    }
    // Once more: another process may have made it, and what is there, just now.
    if found == 0 && !anew && holds_something(path) && read(connection).map_err(failed)? == 0 {
        let source = "it is empty, and the store beside it is not".into();
        return Err(StateError::Damaged { path: path.to_owned(), source });
    }
    // Kept in the file: only the first opening pays for it.
    switch_to_wal(connection).map_err(failed)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    // Again, under the write lock: another process may have done it meanwhile.
    let found = check(read(&transaction).map_err(failed)?)?;
    for step in STEPS.iter().skip(usize::try_from(found).unwrap_or(0)) {
        transaction.execute_batch(step).map_err(failed)?;
    }
    transaction.pragma_update(None, "user_version", current()).map_err(failed)?;
    transaction.commit().map_err(failed)
}

/// Whether there is anything in the store that the database is to know of.
fn holds_something(database: &Path) -> bool {
    let Some(root) = database.parent() else { return false };
    ["blobs/sha256", "layers", "volumes", "containers"]
        .iter()
        .any(|folder| std::fs::read_dir(root.join(folder)).is_ok_and(|mut entries| entries.next().is_some()))
}

/// Switches the journal. SQLite does not wait where two processes switch at once, so this does.
fn switch_to_wal(connection: &Connection) -> rusqlite::Result<()> {
    let deadline = Instant::now() + BUSY_TIMEOUT;
    loop {
        match connection.pragma_update(None, "journal_mode", "WAL") {
            Err(error)
                if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                    && Instant::now() < deadline =>
            {
                std::thread::sleep(Duration::from_millis(2));
            }
            outcome => return outcome,
        }
    }
}
