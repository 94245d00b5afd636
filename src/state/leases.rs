//! Leases: what a pull has fetched, or found present and relies on, before its image is recorded.
//!
//! A pull takes its lease first, then looks what is present. A collection holds the write lock from its decision until the
//! files are renamed away. So whatever a pull found present either stays, or was gone before it looked.
//!
//! A lease is a row, and a file in `leases/` that its process holds locked: the kernel tells whether the process lives, however
//! long it takes, and no age has to be guessed. Whatever changes the store holds one, with or without content: a row whose lock
//! is free is the mark of an unclean end, which the next command sees by reading a table that is otherwise empty.

use std::collections::HashSet;
use std::fs::{File, TryLockError};
use std::io;
use std::path::PathBuf;

use rusqlite::params;

use super::{Database, Durable, Failure, StateError, digest};
use crate::failpoint::{Point, pass};
use crate::model::{Digest, Timestamp};

/// A lease that is held until it is released or its process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseId(i64);

/// A lease whose process ended without releasing it. Nobody else gets it while this is held.
#[derive(Debug)]
pub struct Abandoned {
    id: i64,
    /// What it held.
    pub content: Vec<Digest>,
    /// Whether the machine was started anew since: what was not on the disk may be lost.
    pub rebooted: bool,
    /// `None` where there is no such file any more.
    _lock: Option<File>,
}

/// What is collected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Blobs by digest: manifests, configs, layers as distributed.
    Blob,
    /// Unpacked layers by `DiffID`.
    Layer,
}

/// What is different after every start of the machine; empty where the system does not tell.
fn boot() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim_end().to_owned()
}

impl Database {
    fn lease_path(&self, id: i64) -> PathBuf {
        self.root.join("leases").join(id.to_string())
    }

    /// Makes and locks a lease's file. Only under the write lock: nobody else makes one with this number.
    fn hold(&self, id: i64) -> Result<(), StateError> {
        let path = self.lease_path(id);
        let failed = |action| {
            let path = path.clone();
            move |source| StateError::Lease { action, path, source }
        };
        let open = || File::options().create(true).truncate(false).write(true).open(&path);
        let file = match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                std::fs::create_dir_all(self.root.join("leases")).map_err(failed("create"))?;
                open()
            }
            other => other,
        }
        .map_err(failed("create"))?;
        file.lock().map_err(failed("lock"))?;
        pass(Point::LeaseFile).map_err(failed("create"))?;
        self.held.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(id, file);
        Ok(())
    }

    fn let_go(&self, id: i64) {
        // The row is gone already: a file that stays holds nothing, and a sweep finds it.
        let _ = std::fs::remove_file(self.lease_path(id));
        self.held.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(&id);
    }

    /// Holds some content (digests of blobs, `DiffIDs` of layers) for the caller.
    pub fn lease(&self, content: &[Digest]) -> Result<LeaseId, StateError> {
        let mut held = None;
        let taken = self.write("take a lease", Durable::Process, |t| {
            t.prepare_cached("INSERT INTO leases (taken, boot) VALUES (?1, ?2)")?
                .execute([Timestamp::now().to_string(), boot()])?;
            let lease = t.last_insert_rowid();
            self.hold(lease)?;
            held = Some(lease);
            let mut add =
                t.prepare_cached("INSERT OR IGNORE INTO lease_content (lease, digest) VALUES (?1, ?2)")?;
            for digest in content {
                add.execute(params![lease, digest.as_str()])?;
            }
            Ok(LeaseId(lease))
        });
        if let (Err(_), Some(lease)) = (&taken, held) {
            self.let_go(lease);
        }
        pass(Point::LeaseTaken)
            .map_err(self.lease_failed("take", taken.as_ref().map_or(0, |lease| lease.0)))?;
        taken
    }

    fn lease_failed(&self, action: &'static str, id: i64) -> impl FnOnce(io::Error) -> StateError {
        let path = self.lease_path(id);
        move |source| StateError::Lease { action, path, source }
    }

    fn delete(&self, id: i64) -> Result<(), StateError> {
        self.write("release a lease", Durable::Process, |t| {
            t.prepare_cached("DELETE FROM leases WHERE id = ?1")?.execute([id])?;
            Ok(())
        })
    }

    /// Lets go of a lease; releasing twice is no error.
    pub fn release(&self, lease: LeaseId) -> Result<(), StateError> {
        self.delete(lease.0)?;
        pass(Point::LeaseReleased).map_err(self.lease_failed("release", lease.0))?;
        self.let_go(lease.0);
        Ok(())
    }

    /// The leases whose processes ended without releasing them. Reads one table when there are none.
    pub fn abandoned(&self) -> Result<Vec<Abandoned>, StateError> {
        let rows: Vec<(i64, String)> = self.read("look at leases", |c| {
            let mut statement = c.prepare_cached("SELECT id, boot FROM leases ORDER BY id")?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })?;
        let mut found = Vec::new();
        for (id, taken_in) in rows {
            let lock = match File::options().write(true).open(self.lease_path(id)) {
                Ok(file) => match file.try_lock() {
                    Ok(()) => Some(file),
                    Err(TryLockError::WouldBlock) => continue,
                    Err(TryLockError::Error(error)) => return Err(self.lease_failed("lock", id)(error)),
                },
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(self.lease_failed("open", id)(error)),
            };
            let content = self.read("look at a lease", |c| {
                let mut statement = c.prepare_cached("SELECT digest FROM lease_content WHERE lease = ?1")?;
                let rows = statement.query_map([id], |row| row.get::<_, String>(0))?;
                rows.map(|row| digest(row?)).collect::<Result<Vec<_>, Failure>>()
            })?;
            let rebooted = taken_in.is_empty() || taken_in != boot();
            found.push(Abandoned { id, content, rebooted, _lock: lock });
        }
        Ok(found)
    }

    /// Ends an abandoned lease: what it held was looked at.
    pub fn forget(&self, lease: &Abandoned) -> Result<(), StateError> {
        self.delete(lease.id)?;
        let _ = std::fs::remove_file(self.lease_path(lease.id));
        Ok(())
    }

    /// Removes files of leases that have no row: of processes that ended between the two. Returns how many.
    pub fn sweep_leases(&self) -> Result<u64, StateError> {
        let directory = self.root.join("leases");
        let failed = |source| StateError::Lease { action: "list", path: directory.clone(), source };
        // Under the write lock no process is between the two.
        self.write("look at leases", Durable::Process, |t| {
            let entries = match std::fs::read_dir(&directory) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
                other => other.map_err(failed)?,
            };
            let mut swept = 0;
            for entry in entries {
                let entry = entry.map_err(failed)?;
                let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<i64>().ok()) else {
                    continue;
                };
                let known = t.prepare_cached("SELECT 1 FROM leases WHERE id = ?1")?.exists([id])?;
                let free =
                    || File::options().write(true).open(entry.path()).is_ok_and(|f| f.try_lock().is_ok());
                if !known && free() {
                    swept += u64::from(std::fs::remove_file(entry.path()).is_ok());
                }
            }
            Ok(swept)
        })
    }

    /// Hands those of `present` that no image, container or lease uses to `remove`, which is to rename them out of sight
    /// and nothing slower: the write lock is held meanwhile. Returns what `remove` returns.
    pub fn collect<T, E>(
        &self,
        kind: Content,
        present: &[Digest],
        remove: impl FnOnce(Vec<Digest>) -> Result<T, E>,
    ) -> Result<T, StateError>
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        let failed = |source| StateError::Step { action: "collect what is unused", source };
        let removed = self.write("collect what is unused", Durable::Process, |t| {
            let used = match kind {
                Content::Blob => "SELECT digest FROM image_content WHERE kind = 'blob' UNION SELECT digest FROM lease_content",
                Content::Layer => {
                    "SELECT digest FROM image_content WHERE kind = 'layer' UNION SELECT digest FROM container_layers \
                     UNION SELECT digest FROM lease_content"
                }
            };
            let mut statement = t.prepare_cached(used)?;
            let used: HashSet<String> =
                statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
            let unused = present.iter().filter(|digest| !used.contains(digest.as_str())).cloned().collect();
            pass(Point::CollectDecided).map_err(failed)?;
            remove(unused).map_err(|source| StateError::Collect { source: Box::new(source) }.into())
        })?;
        pass(Point::Collected).map_err(failed)?;
        Ok(removed)
    }
}
