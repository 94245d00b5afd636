//! Leases: what a pull has fetched, or found present and relies on, before its image is recorded.
//!
//! A pull takes its lease first, then looks what is present. A collection holds the write lock from its decision until the
//! files are renamed away. So whatever a pull found present either stays, or was gone before it looked.

use std::collections::HashSet;

use rusqlite::params;

use super::{Database, Durable, StateError};
use crate::model::{Digest, Timestamp};

/// A lease that is held until it is released or expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseId(i64);

/// What is collected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Blobs by digest: manifests, configs, layers as distributed.
    Blob,
    /// Unpacked layers by `DiffID`.
    Layer,
}

impl Database {
    /// Holds some content (digests of blobs, `DiffIDs` of layers) for the caller.
    pub fn lease(&self, content: &[Digest]) -> Result<LeaseId, StateError> {
        self.write("take a lease", Durable::Process, |t| {
            t.prepare_cached("INSERT INTO leases (taken) VALUES (?1)")?
                .execute([Timestamp::now().to_string()])?;
            let lease = t.last_insert_rowid();
            let mut add =
                t.prepare_cached("INSERT OR IGNORE INTO lease_content (lease, digest) VALUES (?1, ?2)")?;
            for digest in content {
                add.execute(params![lease, digest.as_str()])?;
            }
            Ok(LeaseId(lease))
        })
    }

    /// Lets go of a lease; releasing twice is no error.
    pub fn release(&self, lease: LeaseId) -> Result<(), StateError> {
        self.write("release a lease", Durable::Process, |t| {
            t.prepare_cached("DELETE FROM leases WHERE id = ?1")?.execute([lease.0])?;
            Ok(())
        })
    }

    /// Drops the leases taken before `then`: those of pulls that were killed. Returns how many.
    pub fn expire_leases(&self, then: Timestamp) -> Result<usize, StateError> {
        self.write("expire leases", Durable::Process, |t| {
            let mut statement = t.prepare_cached("SELECT id, taken FROM leases")?;
            let rows =
                statement.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)))?;
            let mut expired = 0;
            for row in rows {
                let (id, taken) = row?;
                if taken.parse::<Timestamp>().is_ok_and(|taken| taken >= then) {
                    continue;
                }
                expired += t.prepare_cached("DELETE FROM leases WHERE id = ?1")?.execute([id])?;
            }
            Ok(expired)
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
        self.write("collect what is unused", Durable::Process, |t| {
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
            remove(unused).map_err(|source| StateError::Collect { source: Box::new(source) }.into())
        })
    }
}
