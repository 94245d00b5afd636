//! Indexes: reading what a stored one lists, and making new ones, of manifests of any kind.

use serde_json::{Map, Value, json};

use super::manifest::{
    self, DOCKER_INDEX, DOCKER_MANIFEST, Descriptor, Document, ManifestError, OCI_INDEX, OCI_MANIFEST,
    WirePlatform,
};
use crate::model::Digest;

/// A manifest as an index lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexEntry {
    /// The manifest's type.
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
    /// What it is for, as published.
    pub platform: WirePlatform,
}

/// What a document is that a registry or the store has under a name.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "one at a time, and taken apart at once")]
pub enum Found {
    /// An index, and what it lists.
    Index(Vec<Descriptor>),
    /// A manifest: its config and its layers.
    Manifest(Descriptor, Vec<Descriptor>),
}

/// A document as it came.
#[derive(Debug, Clone)]
pub struct Kept {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its type.
    pub media_type: String,
    /// What it lists.
    pub found: Found,
}

/// Reads a manifest or index, by the same rules as one that is pulled.
pub fn entries(bytes: &[u8]) -> Result<Found, ManifestError> {
    Ok(match manifest::document(bytes, None)? {
        Document::Index(entries) => Found::Index(entries),
        Document::Manifest(manifest) => Found::Manifest(manifest.config, manifest.layers),
    })
}

/// The type under which a manifest or index goes to a registry: its own word, or the OCI type of its kind.
pub fn media_type(bytes: &[u8]) -> Result<String, ManifestError> {
    let index = matches!(manifest::document(bytes, None)?, Document::Index(_));
    let own = manifest::strict(bytes, "manifest")?.remove("mediaType");
    Ok(match own {
        Some(Value::String(text)) => text,
        _ if index => OCI_INDEX.into(),
        _ => OCI_MANIFEST.into(),
    })
}

/// The bytes of an index of these manifests: docker's kind where all of them are docker's, else OCI's.
pub fn index(entries: &[IndexEntry]) -> Vec<u8> {
    let docker = !entries.is_empty() && entries.iter().all(|entry| entry.media_type == DOCKER_MANIFEST);
    let manifests: Vec<Value> = entries
        .iter()
        .map(|entry| {
            json!({ "mediaType": entry.media_type, "size": entry.size, "digest": entry.digest,
                "platform": platform(&entry.platform) })
        })
        .collect();
    let media_type = if docker { DOCKER_INDEX } else { OCI_INDEX };
    let index = json!({ "schemaVersion": 2, "mediaType": media_type, "manifests": manifests });
    // Indented as docker does: registries keep it as it is, and people look at it.
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"   ");
    let mut writer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    match serde::Serialize::serialize(&index, &mut writer) {
        Ok(()) => bytes,
        // Writing texts and numbers to memory does not fail; the compact form is the same index.
        Err(_) => index.to_string().into_bytes(),
    }
}

fn platform(platform: &WirePlatform) -> Value {
    let mut map = Map::new();
    map.insert("architecture".into(), platform.architecture.as_str().into());
    map.insert("os".into(), platform.os.as_str().into());
    for (key, value) in [("os.version", &platform.os_version), ("variant", &platform.variant)] {
        if let Some(text) = value.as_ref().filter(|text| !text.is_empty()) {
            map.insert(key.into(), text.as_str().into());
        }
    }
    if !platform.os_features.is_empty() {
        map.insert("os.features".into(), platform.os_features.clone().into());
    }
    Value::Object(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_read_as_it_was_made() {
        let entry = |media_type: &str, os: &str, architecture: &str| IndexEntry {
            media_type: media_type.into(),
            digest: Digest::of(os.as_bytes()),
            size: 7,
            platform: WirePlatform {
                os: os.into(),
                architecture: architecture.into(),
                ..WirePlatform::default()
            },
        };
        for (kinds, expected) in [
            (vec![DOCKER_MANIFEST, DOCKER_MANIFEST], DOCKER_INDEX),
            (vec![DOCKER_MANIFEST, OCI_MANIFEST], OCI_INDEX),
            (vec![], OCI_INDEX),
        ] {
            let made: Vec<_> = kinds.iter().map(|kind| entry(kind, "wasip1", "wasm")).collect();
            let bytes = index(&made);
            assert_eq!(media_type(&bytes).unwrap(), expected);
            let Found::Index(read) = entries(&bytes).unwrap() else { panic!("no index") };
            assert!(
                read.iter().zip(&made).all(|(read, made)| read.digest == made.digest
                    && read.platform.as_ref() == Some(&made.platform))
            );
            assert_eq!(read.len(), made.len());
        }
    }
}
