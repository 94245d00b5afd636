//! Images and their names.
//!
//! A name is unique together with the platform of the image it names, so that the `wasi/wasm` and the `linux/amd64` image
//! of one tag live side by side.
//!
//! One image, which is one config, may come by several manifests: with its layers in another compression, or in an index. Every name
//! keeps what it came by, so that its digest stays, it is pushed as it came, and one request tells whether it changed. An image's
//! own record is what it came by last; a name has a record where that differs.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::{Database, Durable, Failure, StateError, decode, digest, encode, events};
use crate::failpoint::{Point, pass};
use crate::model::{ContainerId, Digest, Event, Image, Platform, Timestamp};
use crate::reference::Reference;

/// An image with what the store knows about it beside its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredImage {
    /// The image. Looked up by a name, it is as that name's.
    pub image: Image,
    /// Its names (canonical `name:tag`), sorted; empty for a dangling image.
    pub names: Vec<String>,
    /// When it was put into the store last.
    pub pulled: Timestamp,
    /// The same image as names have it that came by another manifest or index.
    variants: BTreeMap<String, Image>,
}

impl StoredImage {
    /// One for each manifest or index by which its names came, with just those names. Never none.
    pub fn versions(self) -> Vec<Self> {
        if self.variants.is_empty() {
            return vec![self];
        }
        let mut found: Vec<Self> = Vec::new();
        for name in self.names {
            let image = self.variants.get(&name).unwrap_or(&self.image);
            match found.iter_mut().find(|known| same_version(&known.image, image)) {
                Some(known) => known.names.push(name),
                None => found.push(Self {
                    image: image.clone(),
                    names: vec![name],
                    pulled: self.pulled,
                    variants: BTreeMap::new(),
                }),
            }
        }
        found
    }

    /// The image as it came by this manifest or index, if it did.
    #[must_use]
    pub fn found_by(self, manifest: &Digest, target: &Digest) -> Self {
        let is = |image: &Image| (&image.manifest, &image.target) == (manifest, target);
        match self.variants.iter().find(|(_, image)| !is(&self.image) && is(image)) {
            Some((name, _)) => {
                let name = name.clone();
                self.named(&name)
            }
            None => self,
        }
    }

    /// The image as a name has it.
    fn named(mut self, name: &str) -> Self {
        if let Some(image) = self.variants.remove(name) {
            let own = std::mem::replace(&mut self.image, image);
            for other in self.names.iter().filter(|other| *other != name) {
                self.variants.entry(other.clone()).or_insert_with(|| own.clone());
            }
            self.variants.retain(|_, other| !same_version(other, &self.image));
        }
        self
    }
}

/// Whether two records of one image are of one manifest, found in one way.
fn same_version(one: &Image, other: &Image) -> bool {
    (&one.manifest, &one.target) == (&other.manifest, &other.target)
}

const SELECT: &str = "SELECT i.record, i.pulled, (SELECT json_group_array(json_array(name, record)) FROM \
     (SELECT name, record FROM names WHERE image = i.id GROUP BY name ORDER BY name)) FROM images i";

type Row = (String, String, String);

fn row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
}

fn stored((record, pulled, names): Row) -> Result<StoredImage, Failure> {
    let pulled = pulled.parse().map_err(|_| StateError::Malformed { text: pulled })?;
    let listed: Vec<(String, Option<String>)> = decode("an image", &names)?;
    let mut stored = StoredImage {
        image: decode("an image", &record)?,
        names: Vec::new(),
        pulled,
        variants: BTreeMap::new(),
    };
    for (name, record) in listed {
        if let Some(record) = record {
            stored.variants.insert(name.clone(), decode("an image", &record)?);
        }
        stored.names.push(name);
    }
    Ok(stored)
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

/// An image's own record.
fn record(t: &Transaction<'_>, id: &str) -> Result<Option<String>, Failure> {
    let mut statement = t.prepare_cached("SELECT record FROM images WHERE id = ?1")?;
    Ok(statement.query_row([id], |row| row.get(0)).optional()?)
}

/// Before an image's own record is replaced by one of another manifest: names that have none keep the old one.
fn keep_versions(t: &Transaction<'_>, image: &Image) -> Result<(), Failure> {
    let Some(text) = record(t, image.id.as_str())? else { return Ok(()) };
    // One that cannot be read is being mended.
    let Ok(old) = decode::<Image>("an image", &text) else { return Ok(()) };
    if !same_version(&old, image) {
        t.prepare_cached("UPDATE names SET record = ?2 WHERE image = ?1 AND record IS NULL")?
            .execute([image.id.as_str(), &text])?;
    }
    Ok(())
}

/// Gives a name to an image; the image that had it is returned.
fn give(
    t: &Transaction<'_>,
    name: &str,
    image: &Image,
    differing: Option<&str>,
) -> Result<Option<String>, Failure> {
    let platform = image.platform.to_string();
    let had = t
        .prepare_cached("SELECT image FROM names WHERE name = ?1 AND platform = ?2")?
        .query_row([name, &platform], |row| row.get(0))
        .optional()?;
    t.prepare_cached("INSERT OR REPLACE INTO names (name, platform, image, record) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![name, platform, image.id.as_str(), differing])?;
    Ok(had)
}

/// After an image's names changed: its own record is that of one of its names, if it has any, and its content is what all its
/// records tell.
fn settle(t: &Transaction<'_>, id: &str) -> Result<(), Failure> {
    let plain = "SELECT 1 FROM names WHERE image = ?1 AND record IS NULL";
    if !t.prepare_cached(plain)?.exists([id])? {
        let first = "SELECT record FROM names WHERE image = ?1 ORDER BY name LIMIT 1";
        let first: Option<String> = t.prepare_cached(first)?.query_row([id], |row| row.get(0)).optional()?;
        if let Some(first) = first {
            t.prepare_cached("UPDATE images SET record = ?2 WHERE id = ?1")?.execute([id, &first])?;
        }
    }
    t.prepare_cached(
        "UPDATE names SET record = NULL WHERE image = ?1 AND record = (SELECT record FROM images WHERE id = ?1)",
    )?
    .execute([id])?;
    let mut records = t.prepare_cached(
        "SELECT record FROM images WHERE id = ?1 UNION SELECT record FROM names WHERE image = ?1 AND record IS NOT NULL",
    )?;
    let records = records.query_map([id], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
    // Of a record that cannot be read, what is known stays known: a repair needs it.
    let images = records.iter().map(|text| decode("an image", text)).collect::<Result<Vec<Image>, _>>();
    let Ok(images) = images else { return Ok(()) };
    t.prepare_cached("DELETE FROM image_content WHERE image = ?1")?.execute([id])?;
    let mut add =
        t.prepare_cached("INSERT OR IGNORE INTO image_content (image, kind, digest) VALUES (?1, ?2, ?3)")?;
    for image in images {
        for blob in [&image.id, &image.manifest, &image.target] {
            add.execute(params![id, "blob", blob.as_str()])?;
        }
        for layer in &image.layers {
            add.execute(params![id, "blob", layer.digest.as_str()])?;
            add.execute(params![id, "layer", layer.diff_id.as_str()])?;
        }
    }
    Ok(())
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
            keep_versions(t, image)?;
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
            let had = match name {
                Some(name) => give(t, name, image, None)?,
                None => None,
            };
            settle(t, id)?;
            if let Some(had) = had.filter(|had| had != id) {
                settle(t, &had)?;
            }
            pass(Point::ImageWritten).map_err(failed)?;
            events::add_all(t, news)
        })?;
        pass(Point::ImageRecorded).map_err(failed)
    }

    /// Gives an image that is in the store one more name, under which it is as it is here.
    pub fn tag(&self, image: &Image, name: &str) -> Result<(), StateError> {
        let failed = |source| StateError::Step { action: "name an image", source };
        let id = image.id.as_str();
        self.write("name an image", Durable::PowerCut, |t| {
            let Some(own) = record(t, id)? else {
                return Err(StateError::NoImage { id: image.id.clone() }.into());
            };
            let same = decode::<Image>("an image", &own).is_ok_and(|own| same_version(&own, image));
            let differing = if same { None } else { Some(encode("an image", image)?) };
            if let Some(had) = give(t, name, image, differing.as_deref())? {
                settle(t, &had)?;
            }
            settle(t, id)?;
            events::add(t, &Event::image(&image.id, "tag", &familiar(name)))
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
        found = found.into_iter().map(|stored| stored.named(name)).collect();
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
                settle(t, image.as_str())?;
                events::add(t, &Event::image(image, "untag", &familiar(name)))?;
            }
            Ok(images)
        })?;
        pass(Point::Untagged).map_err(failed)?;
        Ok(images)
    }

    /// Takes a name away from one image; other platforms' keep it.
    pub fn untag_image(&self, name: &str, id: &Digest) -> Result<(), StateError> {
        let failed = |source| StateError::Step { action: "remove an image's name", source };
        self.write("remove an image's name", Durable::PowerCut, |t| {
            t.prepare_cached("DELETE FROM names WHERE name = ?1 AND image = ?2")?
                .execute(params![name, id.as_str()])?;
            settle(t, id.as_str())?;
            events::add(t, &Event::image(id, "untag", &familiar(name)))?;
            Ok(())
        })?;
        pass(Point::Untagged).map_err(failed)
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
