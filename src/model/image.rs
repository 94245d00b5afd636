//! Images: what the store keeps of one, whatever its packaging was.
//!
//! An image's id is the digest of its config blob, as docker shows it. The record holds what running and showing an image
//! needs, so that neither reads a blob.

use serde::{Deserialize, Serialize};

use super::{Digest, Platform, Timestamp};

/// How an image is packaged: which of the shapes in use matched (shown by `inspect`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Packaging {
    /// An ordinary image: a config and tar layers (OCI or Docker schema 2).
    Image,
    /// An OCI image manifest whose layer is a raw WebAssembly file, with an ordinary image config.
    WasmLayer,
    /// The CNCF "Wasm OCI artifact": config `application/vnd.wasm.config.v0+json`.
    WasmArtifact,
}

/// What a layer's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LayerKind {
    /// A tar archive, as it is.
    Tar,
    /// A tar archive, gzip-compressed.
    TarGzip,
    /// A tar archive, zstd-compressed.
    TarZstd,
    /// A WebAssembly module or component, raw; unpacked it is one file named [`Image::WASM_FILE`].
    Wasm,
}

/// One layer of an image, lowest first in [`Image::layers`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// Digest of the layer as it is distributed.
    pub digest: Digest,
    /// Digest of the uncompressed content: the key of the unpacked layer.
    pub diff_id: Digest,
    /// Bytes as distributed.
    pub size: u64,
    /// What the bytes are.
    pub kind: LayerKind,
}

/// The part of an image's config that running it needs (OCI image config, `config`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageConfig {
    /// `User`: `user[:group]`, names or numbers; empty is root.
    pub user: String,
    /// `Env`: `KEY=value`.
    pub env: Vec<String>,
    /// `Entrypoint`; `None` and empty are the same.
    pub entrypoint: Vec<String>,
    /// `Cmd`.
    pub cmd: Vec<String>,
    /// `WorkingDir`; empty is `/`.
    pub working_dir: String,
    /// `ExposedPorts`: `80/tcp`.
    pub exposed_ports: Vec<String>,
    /// `Volumes`: absolute paths.
    pub volumes: Vec<String>,
    /// `Labels`.
    pub labels: std::collections::BTreeMap<String, String>,
    /// `StopSignal`.
    pub stop_signal: Option<String>,
    /// `Healthcheck`, `OnBuild`, `Shell` and whatever else the config holds, kept as it came.
    pub other: serde_json::Map<String, serde_json::Value>,
}

/// An image in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Digest of the config blob: the image's id.
    pub id: Digest,
    /// Digest of the platform's manifest.
    pub manifest: Digest,
    /// Digest of what the tag pointed to (an index, or the manifest itself): what `Digest:` shows after a pull.
    pub target: Digest,
    /// What it is built for, normalised.
    pub platform: Platform,
    /// `os/architecture` as the publisher spelled it.
    pub platform_as_published: String,
    /// Which shape it came in.
    pub packaging: Packaging,
    /// When it was made, by its own word.
    pub created: Option<Timestamp>,
    /// `author` of the config.
    pub author: Option<String>,
    /// How to run it.
    pub config: ImageConfig,
    /// Lowest first.
    pub layers: Vec<Layer>,
    /// Bytes of all layers, unpacked.
    pub unpacked_size: u64,
    /// `history` of the config, as it came.
    pub history: Vec<serde_json::Value>,
}

impl Image {
    /// The file that a raw WebAssembly layer unpacks to, at the container's root.
    pub const WASM_FILE: &str = "module.wasm";

    /// Bytes of all layers as distributed.
    pub fn distributed_size(&self) -> u64 {
        self.layers.iter().map(|layer| layer.size).sum()
    }
}
