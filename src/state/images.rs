//! Images and their names.
//!
//! A name is unique together with the platform of the image it names, so that the `wasi/wasm` and the `linux/amd64` image
//! of one tag live side by side.

use rusqlite::{Connection, OptionalExtension, params};

use super::{Database, Durable, Failure, StateError, decode, digest, encode, events};
use crate::failpoint::{Point, pass};
use crate::model::{ContainerId, Digest, Event, Image, Platform, Timestamp};
use crate::reference::Reference;

/// An image with what the store knows about it beside its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredImage {
    /// The image.
    pub image: Image,
    /// Its names (canonical `name:tag`), sorted; empty for a dangling image.
    pub names: Vec<String>,
    /// When it was put into the store last.
    pub pulled: Timestamp,
}

const SELECT: &str = "SELECT i.record, i.pulled, (SELECT json_group_array(name) FROM \
     (SELECT DISTINCT name FROM names WHERE image = i.id ORDER BY name)) FROM images i";

type Row = (String, String, String);

fn row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
}

fn stored((record, pulled, names): Row) -> Result<StoredImage, Failure> {
    let pulled = pulled.parse().map_err(|_| StateError::Malformed { text: pulled })?;
    Ok(StoredImage { image: decode("an image", &record)?, names: decode("an image", &names)?, pulled })
}

fn select(
    connection: &Connection,
    rest: &str,
    values: impl rusqlite::Params,
) -> Result<Vec<StoredImage>, Failure> {
    let mut statement = connection.prepare_cached(&format!("{SELECT} {rest}"))?;
    let rows = statement.query_map(values, row)?;
    rows.map(|row| stored(row?)).collect()
}

/// A name as people see it.
fn familiar(name: &str) -> String {
    name.parse::<Reference>().map_or_else(|_| name.to_owned(), |reference| reference.to_string())
}

impl Database {
    /// Records an image, as [`Self::record_image`] does, without a word about it.
    pub fn put_image(&self, image: &Image, name: Option<&str>) -> Result<(), StateError> {
        self.record_image(image, name, &[])
    }

    /// Records an image, and gives it a name if one is given: the name is taken from any other image of the same
    /// platform, which stays, perhaps dangling. Durable once it returns. `news`: what happened (`pull`, `load`, …).
    pub fn record_image(&self, image: &Image, name: Option<&str>, news: &[Event]) -> Result<(), StateError> {
        let failed = |source| StateError::Step { action: "record an image", source };
        self.write("record an image", Durable::PowerCut, |t| {
            let id = image.id.as_str();
            t.prepare_cached(
                "INSERT INTO images (id, platform, pulled, record) VALUES (?1, ?2, ?3, ?4) \
                 ON CONFLICT (id) DO UPDATE SET platform = ?2, pulled = ?3, record = ?4",
            )?
            .execute(params![
                id,
                image.platform.to_string(),
                Timestamp::now().to_string(),
                encode("an image", image)?
            ])?;
            t.prepare_cached("DELETE FROM image_content WHERE image = ?1")?.execute([id])?;
            let mut add = t.prepare_cached(
                "INSERT OR IGNORE INTO image_content (image, kind, digest) VALUES (?1, ?2, ?3)",
            )?;
            for blob in [&image.id, &image.manifest, &image.target] {
                add.execute(params![id, "blob", blob.as_str()])?;
            }
            for layer in &image.layers {
                add.execute(params![id, "blob", layer.digest.as_str()])?;
                add.execute(params![id, "layer", layer.diff_id.as_str()])?;
            }
            if let Some(name) = name {
                t.prepare_cached("INSERT OR REPLACE INTO names (name, platform, image) VALUES (?1, ?2, ?3)")?
                    .execute(params![name, image.platform.to_string(), id])?;
            }
            pass(Point::ImageWritten).map_err(failed)?;
            events::add_all(t, news)
        })?;
        pass(Point::ImageRecorded).map_err(failed)
    }

    /// Gives an image that is in the store one more name.
    pub fn tag(&self, id: &Digest, name: &str) -> Result<(), StateError> {
        let failed = |source| StateError::Step { action: "name an image", source };
        self.write("name an image", Durable::PowerCut, |t| {
            let named = t
                .prepare_cached(
                    "INSERT OR REPLACE INTO names (name, platform, image) SELECT ?2, platform, id FROM images WHERE id = ?1",
                )?
                .execute(params![id.as_str(), name])?;
            if named == 0 {
                return Err(StateError::NoImage { id: id.clone() }.into());
            }
            events::add(t, &Event::image(id, "tag", &familiar(name)))
        })?;
        pass(Point::Tagged).map_err(failed)
    }

    /// The image with this id.
    pub fn image(&self, id: &Digest) -> Result<Option<StoredImage>, StateError> {
        self.read("read an image", |c| Ok(select(c, "WHERE i.id = ?1", [id.as_str()])?.pop()))
    }

    /// The images of a name: one for each platform, or those that satisfy `platform`.
    pub fn image_by_name(
        &self,
        name: &str,
        platform: Option<&Platform>,
    ) -> Result<Vec<StoredImage>, StateError> {
        let mut found = self.read("look up an image's name", |c| {
            select(c, "JOIN names n ON n.image = i.id WHERE n.name = ?1 ORDER BY n.platform", [name])
        })?;
        if let Some(wish) = platform {
            found.retain(|stored| wish.accepts(&stored.image.platform));
        }
        Ok(found)
    }

    /// All images, those recorded last first.
    pub fn images(&self) -> Result<Vec<StoredImage>, StateError> {
        self.read("list images", |c| select(c, "ORDER BY i.pulled DESC, i.id", []))
    }

    /// The images whose id begins with these hex digits (without `sha256:`).
    pub fn images_by_id_prefix(&self, prefix: &str) -> Result<Vec<StoredImage>, StateError> {
        if prefix.is_empty() || !prefix.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            return Ok(Vec::new());
        }
        let first = format!("sha256:{prefix}");
        self.read("look up an image's id", |c| {
            // `g` follows every hex digit, so this range is the prefix, and the primary key answers it.
            select(c, "WHERE i.id >= ?1 AND i.id < ?1 || 'g' ORDER BY i.id", [&first])
        })
    }

    /// Takes a name away, on every platform; the images that had it are returned and stay.
    pub fn untag(&self, name: &str) -> Result<Vec<Digest>, StateError> {
        let failed = |source| StateError::Step { action: "remove an image's name", source };
        let images = self.write("remove an image's name", Durable::PowerCut, |t| {
            let mut statement = t.prepare_cached("DELETE FROM names WHERE name = ?1 RETURNING image")?;
            let images = statement.query_map([name], |row| row.get::<_, String>(0))?;
            let images: Vec<Digest> = images.map(|image| digest(image?)).collect::<Result<_, Failure>>()?;
            for image in &images {
                events::add(t, &Event::image(image, "untag", &familiar(name)))?;
            }
            Ok(images)
        })?;
        pass(Point::Untagged).map_err(failed)?;
        Ok(images)
    }

    /// Removes an image's record and its names; refused while containers are made of it.
    pub fn remove_image(&self, id: &Digest) -> Result<(), StateError> {
        let failed = |source| StateError::Step { action: "remove an image", source };
        self.write("remove an image", Durable::PowerCut, |t| {
            let mut users = t.prepare_cached("SELECT id FROM containers WHERE image = ?1 ORDER BY id")?;
            let users = users.query_map([id.as_str()], |row| row.get::<_, String>(0))?;
            let containers = users
                .map(|user| {
                    let text = user?;
                    text.parse::<ContainerId>().map_err(|_| StateError::Malformed { text }.into())
                })
                .collect::<Result<Vec<_>, Failure>>()?;
            if !containers.is_empty() {
                return Err(StateError::InUse { image: id.clone(), containers }.into());
            }
            match t.prepare_cached("DELETE FROM images WHERE id = ?1")?.execute([id.as_str()])? {
                0 => Err(StateError::NoImage { id: id.clone() }.into()),
                _ => events::add(t, &Event::image(id, "delete", id.as_str())),
            }
        })?;
        pass(Point::ImageRemoved).map_err(failed)
    }

    /// Whether an image with this id is recorded, without reading it.
    pub fn has_image(&self, id: &Digest) -> Result<bool, StateError> {
        self.read("look for an image", |c| {
            let mut statement = c.prepare_cached("SELECT 1 FROM images WHERE id = ?1")?;
            Ok(statement.query_row([id.as_str()], |_| Ok(())).optional()?.is_some())
        })
    }
}
