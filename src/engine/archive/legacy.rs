//! Reading what docker wrote before 1.10: `repositories`, and a folder for each layer with `json` and `layer.tar`.
//!
//! Such an image has no config of today's form; one is made of the topmost layer's `json`, as docker itself did when it
//! moved old images.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::docker::Item;
use super::{ImageArchiveError, document_error, name};
use crate::model::Digest;
use crate::registry::{self, LIMITS, ManifestError};
use crate::store::Store;
use crate::store::archive::{self, ArchiveError, Found, Members};

const REPOSITORIES: &str = "repositories";

/// The images that `repositories` lists; `None` if there is none.
pub(super) fn items(store: &Store, members: &mut Members) -> Result<Option<Vec<Item>>, ImageArchiveError> {
    let Some(bytes) = members.small(store, REPOSITORIES, LIMITS.manifest)? else { return Ok(None) };
    let wrong = |rule| document_error(REPOSITORIES)(ManifestError::Value { field: "repositories", rule });
    let Value::Object(listed) =
        registry::unique(&bytes, "repositories").map_err(document_error(REPOSITORIES))?
    else {
        return Err(wrong("an object"));
    };
    let mut found: Vec<(String, Item)> = Vec::new();
    for (repository, tags) in &listed {
        let Value::Object(tags) = tags else { return Err(wrong("an object of tags")) };
        for (tag, id) in tags {
            let id = id.as_str().ok_or_else(|| wrong("layers by id"))?;
            let named = name(&format!("{repository}:{tag}"))?;
            if let Some((_, item)) = found.iter_mut().find(|(known, _)| known == id) {
                item.names.push(named);
            } else {
                let mut item = image(store, members, id)?;
                item.names.push(named);
                found.push((id.to_owned(), item));
            }
        }
    }
    Ok(Some(found.into_iter().map(|(_, item)| item).collect()))
}

fn image(store: &Store, members: &mut Members, top: &str) -> Result<Item, ImageArchiveError> {
    let mut chain = Vec::new();
    let mut seen = BTreeSet::new();
    let mut next = Some(top.to_owned());
    while let Some(id) = next {
        let member = format!("{id}/json");
        let hex = id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        let rule = "ids of 64 digits, each with one parent and without end in circles";
        let wrong = || document_error(REPOSITORIES)(ManifestError::Value { field: "repositories", rule });
        if !hex || !seen.insert(id.clone()) || chain.len() >= LIMITS.layers {
            return Err(wrong());
        }
        let Some(bytes) = members.small(store, &member, LIMITS.config)? else {
            return Err(ArchiveError::Missing { name: member }.into());
        };
        let Value::Object(described) = registry::unique(&bytes, "layer").map_err(document_error(&member))?
        else {
            return Err(wrong());
        };
        next = described.get("parent").and_then(Value::as_str).filter(|id| !id.is_empty()).map(str::to_owned);
        chain.push((id, described));
    }
    chain.reverse();
    let (mut layers, mut diff_ids, mut history) = (Vec::new(), Vec::new(), Vec::new());
    for (id, described) in &chain {
        let path = format!("{id}/layer.tar");
        diff_ids.push(diff_id(store, members, &path)?);
        layers.push(path);
        history.push(step(described));
    }
    let mut config = Map::new();
    let described = chain.last().map(|(_, described)| described.clone()).unwrap_or_default();
    for key in ["architecture", "os", "created", "author", "config"] {
        if let Some(value) = described.get(key) {
            config.insert(key.to_owned(), value.clone());
        }
    }
    config.entry("os").or_insert_with(|| "linux".into());
    config.entry("architecture").or_insert_with(|| "amd64".into());
    config.insert("history".into(), history.into());
    config.insert("rootfs".into(), json!({ "type": "layers", "diff_ids": diff_ids }));
    Ok(Item { config: Value::from(config).to_string().into_bytes(), names: Vec::new(), layers })
}

fn step(described: &Map<String, Value>) -> Value {
    let command = described.get("container_config").and_then(|config| config.get("Cmd"));
    let words = command.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let mut step = Map::new();
    step.insert("created".into(), described.get("created").cloned().unwrap_or_default());
    step.insert("created_by".into(), words.collect::<Vec<_>>().join(" ").into());
    step.into()
}

/// The digest of a layer's uncompressed bytes.
fn diff_id(store: &Store, members: &mut Members, path: &str) -> Result<Digest, ImageArchiveError> {
    let at = match members.find(path)? {
        Found::Spooled(spooled) => spooled.path().to_owned(),
        Found::Stored(digest) => store.content().path(&digest),
    };
    let mut plain = archive::open_uncompressed(&at).map_err(ArchiveError::from)?;
    archive::digest(&mut plain).map_err(|error| ArchiveError::Damaged(error).into())
}
