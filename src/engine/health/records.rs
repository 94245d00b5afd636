//! The database: its file, its rows, and records that cannot be read.

use crate::model::{Digest, Image};
use crate::registry;
use crate::state::{DatabaseFlaw, Row};

use super::super::{Engine, EngineError};
use super::{Check, Outcome};

/// A manifest or config that is read into memory.
const DOCUMENT: u64 = 8 << 20;

impl Check<'_> {
    pub(super) fn database(&mut self) -> Result<(), EngineError> {
        let database = &self.engine.database;
        let flaws = database.check(!self.options.quick)?;
        if flaws.is_empty() {
            return Ok(());
        }
        let file = flaws.iter().any(|flaw| matches!(flaw, DatabaseFlaw::File(_)));
        let dangling = flaws.iter().any(|flaw| matches!(flaw, DatabaseFlaw::Dangling { .. }));
        let mut left = Vec::new();
        if self.options.repair && (file || dangling) {
            if file {
                database.reindex()?;
            }
            if dangling {
                database.remove_dangling()?;
            }
            left = database.check(!self.options.quick)?;
        }
        for flaw in flaws {
            let (subject, problem, how) = match &flaw {
                DatabaseFlaw::Record(row) => {
                    self.record(row);
                    continue;
                }
                DatabaseFlaw::File(words) => {
                    (crate::state::Database::FILE.to_owned(), words.clone(), "its indexes were made anew")
                }
                DatabaseFlaw::Dangling { table, to } => (
                    table.clone(),
                    format!("a row points to one of `{to}` that is not there"),
                    "the row was removed",
                ),
            };
            let outcome = match (self.options.repair, left.contains(&flaw)) {
                (true, false) => Outcome::Repaired(how),
                (true, true) => Outcome::Open(Some(
                    "`umiak system check --repair` once more makes the database anew".to_owned(),
                )),
                (false, _) => Outcome::Open(None),
            };
            self.report.add("database", &subject, &problem, outcome);
        }
        Ok(())
    }

    fn record(&mut self, row: &Row) {
        let problem = format!("its record cannot be read: {}", row.why);
        match row.table {
            "images" => {
                let outcome = self.repaired("its record was made anew from its manifest and config", || {
                    let image = self.engine.image_from_blobs(&row.key)?;
                    Ok(self.engine.database.put_image(&image, None)?)
                });
                self.report.add("image", &row.key, &problem, outcome);
            }
            "names" => {
                let outcome = self.repaired("it names its image as that came last", || {
                    Ok(self.engine.database.forget_version(&row.key)?)
                });
                self.report.add("name", &row.key, &problem, outcome);
            }
            "containers" => {
                let outcome = self.repaired("its record was removed and its files put aside", || {
                    self.engine.put_container_aside(&row.key)
                });
                self.report.add("container", &row.key, &problem, outcome);
            }
            _ => {
                let outcome =
                    self.repaired("its record was made anew", || self.engine.adopt_volume(&row.key));
                self.report.add("volume", &row.key, &problem, outcome);
            }
        }
    }
}

impl Engine {
    /// An image's record, from the blobs that the database says are its.
    fn image_from_blobs(&self, id: &str) -> Result<Image, EngineError> {
        let gone = || EngineError::NoImage { name: id.to_owned() };
        let id: Digest = id.parse().map_err(|_| gone())?;
        let content = self.store()?.content();
        let config = content.read_small(&id, DOCUMENT)?;
        let blobs = self.database.image_blobs(id.as_str())?;
        let others = || blobs.iter().filter(|blob| **blob != id);
        for manifest in others() {
            let Ok(bytes) = content.read_small(manifest, DOCUMENT) else { continue };
            // What the name pointed to is kept only in the record. If it was an index, its digest is the one without a file.
            let absent = others().find(|blob| !content.has(blob)).unwrap_or(manifest);
            let Ok(mut image) = registry::image_from(&bytes, &config, absent) else { continue };
            if image.id == id {
                let sizes =
                    image.layers.iter().filter_map(|layer| self.store().ok()?.layers().seal(&layer.diff_id));
                image.unpacked_size = sizes.map(|seal| seal.bytes).sum();
                return Ok(image);
            }
        }
        Err(gone())
    }

    /// Removes the record of a container that cannot be read, and keeps its files under another name.
    pub(in crate::engine) fn put_container_aside(&self, id: &str) -> Result<(), EngineError> {
        let all = self.store()?.container_root();
        let (from, to) = (all.join(id), all.join(format!("lost-{id}")));
        match std::fs::rename(&from, &to) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(EngineError::Path { path: from, source });
            }
            _ => {}
        }
        Ok(self.database.forget_container(id)?)
    }
}
