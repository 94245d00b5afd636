//! Reading docker's layout: `manifest.json` names config and layers by path, and the config has the layers' digests.

use serde_json::Value;

use super::{Candidate, ImageArchiveError, Wire, document_error, layer_type, manifest, name};
use crate::model::{Digest, LayerKind};
use crate::reference::Reference;
use crate::registry::{self, LIMITS, ManifestError};
use crate::store::archive::{self, ArchiveError, Found, Members};
use crate::store::{Store, StoreError};

pub(super) const MANIFEST: &str = "manifest.json";

/// One image, as `manifest.json` or the older layout lists it.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) config: Vec<u8>,
    pub(super) names: Vec<Reference>,
    /// Members, lowest first.
    pub(super) layers: Vec<String>,
}

/// The images that `manifest.json` lists; `None` if there is none.
pub(super) fn items(store: &Store, members: &Members) -> Result<Option<Vec<Item>>, ImageArchiveError> {
    let Some(bytes) = members.small(store, MANIFEST, LIMITS.manifest)? else { return Ok(None) };
    let wrong = |rule| document_error(MANIFEST)(ManifestError::Value { field: "manifest.json", rule });
    let Value::Array(listed) = registry::unique(&bytes, "manifest.json").map_err(document_error(MANIFEST))?
    else {
        return Err(wrong("a list"));
    };
    if listed.len() > LIMITS.layers {
        let (value, limit) = (listed.len() as u64, LIMITS.layers as u64);
        return Err(document_error(MANIFEST)(ManifestError::Limit { what: "images", value, limit }));
    }
    let texts = |value: Option<&Value>| match value {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(items)) => items
            .iter()
            .map(|item| item.as_str().map(str::to_owned).ok_or_else(|| wrong("lists of texts")))
            .collect(),
        Some(_) => Err(wrong("lists of texts")),
    };
    let mut found = Vec::new();
    for item in &listed {
        let Value::Object(item) = item else { return Err(wrong("a list of objects")) };
        registry::folded(item).map_err(document_error(MANIFEST))?;
        let path = item.get("Config").and_then(Value::as_str).ok_or_else(|| wrong("`Config` is a path"))?;
        let Some(config) = members.small(store, path, LIMITS.config)? else {
            return Err(ArchiveError::Missing { name: path.chars().take(256).collect() }.into());
        };
        let names = texts(item.get("RepoTags"))?.iter().map(|text| name(text)).collect::<Result<_, _>>()?;
        found.push(Item { config, names, layers: texts(item.get("Layers"))? });
    }
    Ok(Some(found))
}

/// Checks an item, and finds its layers' bytes.
pub(super) fn image(
    store: &Store,
    members: &mut Members,
    item: Item,
) -> Result<Candidate, ImageArchiveError> {
    if item.layers.len() > LIMITS.layers {
        let (value, limit) = (item.layers.len() as u64, LIMITS.layers as u64);
        return Err(document_error(MANIFEST)(ManifestError::Limit { what: "layers", value, limit }));
    }
    let mut wires = Vec::new();
    let mut places = Vec::new();
    for path in &item.layers {
        let (place, kind) = layer(store, members, path)?;
        let (digest, size) = match &place {
            Found::Spooled(spooled) => (spooled.digest().clone(), spooled.size()),
            Found::Stored(digest) => {
                (digest.clone(), store.content().size(digest).map_err(ArchiveError::from)?)
            }
        };
        wires.push(Wire::new(layer_type(kind), &digest, size));
        places.push(place);
    }
    let manifest = manifest(&item.config, wires);
    let target = Digest::of(&manifest);
    let image = registry::image_from(&manifest, &item.config, &target).map_err(document_error(MANIFEST))?;
    for layer in image.layers.iter().filter(|layer| layer.kind == LayerKind::Tar) {
        if layer.digest != layer.diff_id {
            let error =
                StoreError::DigestMismatch { expected: layer.diff_id.clone(), found: layer.digest.clone() };
            return Err(ArchiveError::from(error).into());
        }
    }
    Ok(Candidate { names: item.names, image, manifest, config: item.config, index: None, layers: places })
}

/// Where a layer's bytes are, and what they are. What no registry would take is unpacked once.
fn layer(store: &Store, members: &mut Members, path: &str) -> Result<(Found, LayerKind), ImageArchiveError> {
    let found = members.find(path)?;
    let at = match &found {
        Found::Spooled(spooled) => spooled.path().to_owned(),
        Found::Stored(digest) => store.content().path(digest),
    };
    if let Some(kind) = archive::compression(&at).map_err(ArchiveError::from)? {
        return Ok((found, kind));
    }
    let mut plain = archive::open_uncompressed(&at).map_err(ArchiveError::from)?;
    let written = members.spool_mut().write(&mut plain).map_err(ArchiveError::from)?;
    Ok((Found::Spooled(written.map_err(ArchiveError::Damaged)?), LayerKind::Tar))
}
