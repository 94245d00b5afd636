//! Manifests, indexes and configs as JSON: their types, limits, and the refusal of JSON with two readings.

use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::model::{Digest, DigestError, ErrorKind, Kind, Platform};

/// The bounds on what a registry may send.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of a manifest or index.
    pub manifest: u64,
    /// Bytes of a config.
    pub config: u64,
    /// Layers of an image.
    pub layers: usize,
    /// Bytes of a layer as distributed.
    pub layer: u64,
    /// Indexes within indexes.
    pub nesting: usize,
}

/// The bounds in use: 4 MiB is what registries themselves take at most for a manifest.
pub const LIMITS: Limits =
    Limits { manifest: 4 << 20, config: 8 << 20, layers: 1000, layer: 1 << 40, nesting: 3 };

pub(super) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(super) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(super) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(super) const WASM_CONFIG: &str = "application/vnd.wasm.config.v0+json";

/// A pointer to content (OCI image spec, "Descriptors").
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the content is.
    #[serde(default)]
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
    /// Where else it might be; refused for layers.
    #[serde(default)]
    pub urls: Option<Vec<String>>,
    /// In an index: what it is for.
    #[serde(default)]
    pub platform: Option<WirePlatform>,
    /// In an index: the kind of an artifact.
    #[serde(default)]
    pub artifact_type: Option<String>,
}

/// A platform as an index spells it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct WirePlatform {
    /// `os`
    #[serde(default)]
    pub os: String,
    /// `architecture`
    #[serde(default)]
    pub architecture: String,
    /// `variant`
    #[serde(default)]
    pub variant: Option<String>,
    /// `os.version`
    #[serde(default, rename = "os.version")]
    pub os_version: Option<String>,
    /// `os.features`
    #[serde(default, rename = "os.features")]
    pub os_features: Vec<String>,
}

impl Descriptor {
    /// What it is for, normalised; `None` where the index does not say.
    pub fn platform(&self) -> Option<Platform> {
        match &self.platform {
            Some(p) => Some(Platform::new(&p.os, &p.architecture, p.variant.as_deref())),
            None => (self.artifact_type.as_deref() == Some(WASM_CONFIG)).then(Platform::wasi),
        }
    }
}

/// A manifest of one image.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// The image's config.
    pub config: Descriptor,
    /// Its layers, lowest first.
    pub layers: Vec<Descriptor>,
}

/// What a tag or digest may point to.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "one at a time, and taken apart at once")]
pub enum Document {
    /// Of several images or indexes.
    Index(Vec<Descriptor>),
    /// Of one image.
    Manifest(Manifest),
}

/// A manifest, index or config that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not the JSON that is expected.
    #[error("the {what} is malformed")]
    Json {
        /// Manifest, index or config.
        what: &'static str,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// Two readers could understand it differently (CVE-2021-41190).
    #[error("the manifest is ambiguous: {why}")]
    Ambiguous {
        /// How.
        why: String,
    },
    /// A type that is not known.
    #[error("unsupported media type `{media_type}` of the {what}")]
    MediaType {
        /// Manifest, config or layer.
        what: &'static str,
        /// The type.
        media_type: String,
    },
    /// A layer that is to be fetched from elsewhere.
    #[error("layer {digest} is not distributed by the registry but by other hosts, which is not allowed")]
    ForeignLayer {
        /// The layer.
        digest: Digest,
    },
    /// Larger than the limit.
    #[error("{what}: {value} exceed the limit of {limit}")]
    Limit {
        /// What is counted.
        what: &'static str,
        /// How many there are.
        value: u64,
        /// How many are allowed.
        limit: u64,
    },
    /// Config and manifest disagree.
    #[error("the manifest has {layers} layers but the config has {diff_ids} diff ids")]
    LayerCount {
        /// Layers of the manifest.
        layers: usize,
        /// Entries of `rootfs.diff_ids`.
        diff_ids: usize,
    },
    /// A raw layer whose uncompressed digest is said to be another.
    #[error("wasm layer {digest} has another digest in the config: {diff_id}")]
    WasmDiffId {
        /// The layer's digest.
        digest: Digest,
        /// What the config says.
        diff_id: Digest,
    },
    /// A Wasm image has exactly one layer.
    #[error("a wasm image has one layer, this one has {layers}")]
    WasmLayers {
        /// How many it has.
        layers: usize,
    },
    /// Something that only its own host can run.
    #[error("this is a {what} (`{media_type}`), which needs {host} as its host and is no program by itself")]
    OwnHost {
        /// What it is.
        what: &'static str,
        /// What runs it.
        host: &'static str,
        /// What it is known by.
        media_type: String,
    },
    /// The config is not the one that the manifest names.
    #[error("the manifest names config {expected}, this one is {actual}")]
    ConfigDigest {
        /// The manifest's.
        expected: Digest,
        /// The content's.
        actual: Digest,
    },
    /// A diff id that is none.
    #[error("the config has a bad diff id")]
    DiffId(
        /// Why.
        #[source]
        DigestError,
    ),
    /// A config value that cannot be used.
    #[error("the config's `{field}` is bad: {rule}")]
    Value {
        /// The field.
        field: &'static str,
        /// What it has to be.
        rule: &'static str,
    },
}

impl Kind for ManifestError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::MediaType { .. } | Self::WasmLayers { .. } | Self::OwnHost { .. } => ErrorKind::Unsupported,
            Self::ForeignLayer { .. } => ErrorKind::Forbidden,
            _ => ErrorKind::InvalidInput,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::OwnHost { .. } => vec![
                "a component of it that is a WASI command or an HTTP server runs here when it is published as a Wasm artifact (`application/wasm`)".to_owned(),
            ],
            Self::MediaType { what: "manifest", media_type } if media_type.contains("manifest.v1") => {
                vec!["the image is in docker's old schema 1: push it again with a current tool".into()]
            }
            Self::MediaType { .. } => {
                vec!["what the name points to may be an artifact and not an image".into()]
            }
            _ => Vec::new(),
        }
    }
}

/// Reads a manifest or index; `header` is the `Content-Type` it was served with, if it was served.
pub fn document(bytes: &[u8], header: Option<&str>) -> Result<Document, ManifestError> {
    within("bytes of the manifest", bytes.len() as u64, LIMITS.manifest)?;
    let value = strict(bytes, "manifest")?;
    let media_type = media_type(&value, header)?;
    let ambiguous = |why: &str| ManifestError::Ambiguous { why: why.to_owned() };
    let has = |key: &str| value.contains_key(key);
    let index = match media_type.as_deref() {
        Some(OCI_INDEX | DOCKER_INDEX) => true,
        Some(OCI_MANIFEST | DOCKER_MANIFEST) => false,
        Some(other) => {
            return Err(ManifestError::MediaType {
                what: "manifest",
                media_type: other.chars().take(200).collect(),
            });
        }
        None if has("fsLayers") => {
            return Err(ManifestError::MediaType { what: "manifest", media_type: "manifest.v1+json".into() });
        }
        None => has("manifests"),
    };
    if has("manifests") && (has("layers") || has("config")) {
        return Err(ambiguous("it has both `manifests` and `layers` or `config`"));
    }
    let json = |source| ManifestError::Json { what: "manifest", source };
    if value.get("schemaVersion").and_then(Value::as_u64) != Some(2) {
        return Err(json(serde_json::Error::custom("`schemaVersion` is not 2")));
    }
    let mut value = value;
    if index {
        let entries = value.remove("manifests").unwrap_or_default();
        return Vec::deserialize(entries).map(Document::Index).map_err(json);
    }
    let manifest = Manifest::deserialize(Value::Object(value)).map_err(json)?;
    within("layers", manifest.layers.len() as u64, LIMITS.layers as u64)?;
    within("bytes of the config", manifest.config.size, LIMITS.config)?;
    for layer in &manifest.layers {
        within("bytes of a layer", layer.size, LIMITS.layer)?;
    }
    Ok(Document::Manifest(manifest))
}

/// The type of a manifest: what header and body say, which must agree.
fn media_type(value: &Map<String, Value>, header: Option<&str>) -> Result<Option<String>, ManifestError> {
    let body = match value.get("mediaType") {
        None => None,
        Some(Value::String(text)) => Some(text.clone()),
        Some(_) => return Err(ManifestError::Ambiguous { why: "`mediaType` is not a text".into() }),
    };
    let header = header
        .map(|text| text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
        // Plain file servers and some registries do not know the type.
        .filter(|text| {
            !matches!(text.as_str(), "" | "application/json" | "text/plain" | "application/octet-stream")
        });
    match (&body, &header) {
        (Some(body), Some(header)) if body != header => Err(ManifestError::Ambiguous {
            why: format!("it is served as `{header:.100}` and says `{body:.100}` itself"),
        }),
        _ => Ok(body.or(header)),
    }
}

pub(super) fn within(what: &'static str, value: u64, limit: u64) -> Result<(), ManifestError> {
    if value > limit { Err(ManifestError::Limit { what, value, limit }) } else { Ok(()) }
}

/// An object without duplicate keys at any depth; at the top not even keys that differ in case alone, because Go's readers
/// take those for one.
pub(super) fn strict(bytes: &[u8], what: &'static str) -> Result<Map<String, Value>, ManifestError> {
    let json = |source| ManifestError::Json { what, source };
    let Value::Object(map) = unique(bytes, what)? else {
        return Err(json(serde_json::Error::custom("not an object")));
    };
    folded(&map)?;
    Ok(map)
}

/// Any JSON without duplicate keys at any depth.
pub fn unique(bytes: &[u8], what: &'static str) -> Result<Value, ManifestError> {
    let json = |source| ManifestError::Json { what, source };
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Unique.deserialize(&mut reader).map_err(json)?;
    reader.end().map_err(json)?;
    Ok(value)
}

/// Refuses keys that differ in case alone.
pub fn folded(map: &Map<String, Value>) -> Result<(), ManifestError> {
    let mut seen = HashSet::new();
    match map.keys().find(|key| !seen.insert(key.to_lowercase())) {
        Some(key) => {
            Err(ManifestError::Ambiguous { why: format!("key `{key:.100}` occurs in two spellings") })
        }
        None => Ok(()),
    }
}

/// Deserialises any JSON value, refusing duplicate keys; `serde_json` itself bounds the depth.
struct Unique;

impl<'de> DeserializeSeed<'de> for Unique {
    type Value = Value;
    fn deserialize<D: serde::Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Unique {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Unique)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let value = entries.next_value_seed(Unique)?;
            if map.contains_key(&key) {
                return Err(A::Error::custom(format!("duplicate key `{key:.100}`")));
            }
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}
