//! Which images a disk budget may take: when each was used last, and which are pinned.

use rusqlite::params;

use super::{Database, Durable, StateError};
use crate::model::Digest;

/// What is known of an image's use.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageUse {
    /// The image.
    pub image: Digest,
    /// When it was put into the store, or a container of it made or removed, last: seconds since 1970.
    pub used: f64,
    /// Whether it is to stay.
    pub pinned: bool,
    /// Whether it has a name.
    pub named: bool,
    /// Whether a container is made of it.
    pub in_use: bool,
}

impl Database {
    /// Pins an image, or takes the pin away; whether that changed anything.
    pub fn pin(&self, image: &Digest, pinned: bool) -> Result<bool, StateError> {
        self.write("pin an image", Durable::PowerCut, |t| {
            let changed = t
                .prepare_cached(
                    "INSERT INTO image_use (image, used, pinned) SELECT id, 0, ?2 FROM images WHERE id = ?1 \
                     ON CONFLICT (image) DO UPDATE SET pinned = ?2 WHERE pinned <> ?2",
                )?
                .execute(params![image.as_str(), pinned])?;
            if changed == 0
                && !t.prepare_cached("SELECT 1 FROM images WHERE id = ?1")?.exists([image.as_str()])?
            {
                return Err(StateError::NoImage { id: image.clone() }.into());
            }
            Ok(changed > 0)
        })
    }

    /// Whether an image is pinned.
    pub fn is_pinned(&self, image: &Digest) -> Result<bool, StateError> {
        self.read("look for a pin", |c| {
            Ok(c.prepare_cached("SELECT 1 FROM image_use WHERE image = ?1 AND pinned")?
                .exists([image.as_str()])?)
        })
    }

    /// All images, those used longest ago first; of these, those without a name.
    pub fn image_uses(&self) -> Result<Vec<ImageUse>, StateError> {
        self.read("look when images were used", |c| {
            let mut statement = c.prepare_cached(
                "SELECT i.id, coalesce(u.used, 0), coalesce(u.pinned, 0), \
                 EXISTS (SELECT 1 FROM names n WHERE n.image = i.id) AS named, \
                 EXISTS (SELECT 1 FROM containers k WHERE k.image = i.id) \
                 FROM images i LEFT JOIN image_use u ON u.image = i.id ORDER BY named, 2, 1",
            )?;
            let mut rows = statement.query([])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                found.push(ImageUse {
                    image: super::digest(row.get(0)?)?,
                    used: row.get(1)?,
                    pinned: row.get(2)?,
                    named: row.get(3)?,
                    in_use: row.get(4)?,
                });
            }
            Ok(found)
        })
    }
}
