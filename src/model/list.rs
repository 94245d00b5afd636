//! Manifest lists in the making (docker's `manifest create`): what an index is going to list.

use serde::{Deserialize, Serialize};

use super::Digest;

/// A manifest that is to be listed, with what people said about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListEntry {
    /// The name by which it was added, in full.
    pub reference: String,
    /// The manifest's type.
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its bytes, as text.
    pub raw: String,
    /// `os`, as it is going to be listed.
    pub os: String,
    /// `architecture`
    pub architecture: String,
    /// `variant`
    pub variant: Option<String>,
    /// `os.version`
    pub os_version: Option<String>,
    /// `os.features`
    pub os_features: Vec<String>,
    /// The image's id, if it was taken from the store and not from a registry.
    pub local: Option<Digest>,
}
