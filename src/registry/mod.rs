//! Registries: finding an image by name, choosing its platform, and fetching its blobs (OCI distribution spec 1.1).
//!
//! The only place that speaks HTTP. [`Client::resolve`] asks a registry, its mirrors first, for the manifest and config of
//! the platform wanted; [`download`](Client::download) fetches a blob into a [`Sink`], continuing across cut connections.
//! [`upload`](Client::upload) and [`put_manifest`](Client::put_manifest) are the way back, [`credentials`] is who we are.
//! [`image_from`] and [`select`] are pure, so that archives are read by the same rules.
//!
//! Invariants: nothing a registry says is believed before its digest is checked; every body has a limit; redirects are
//! followed here and not by the HTTP library, so a token is only ever sent to the host that demanded it, and an HTTPS
//! registry never leads to plain HTTP. JSON that two readers could understand differently is refused.
//!
//! Why not `oci-client`: it reads manifests, tokens and errors without limit and does not hand out `Retry-After`, and neither
//! can be added from outside. `reqwest` is what it is built on itself.

mod auth;
mod catalog;
mod client;
pub mod credentials;
mod download;
mod error;
mod exchange;
mod image;
mod index;
mod manifest;
mod secret;
mod select;
mod throttle;
mod trust;
mod upload;

pub use auth::{Challenge, LoggedIn, challenge};
pub use catalog::{Hit, Tags};
pub use client::{BlobStream, Client, Resolved, Source};
pub use download::Sink;
pub use error::RegistryError;
pub use image::image_from;
pub use index::{Found, IndexEntry, Kept, entries, index, media_type};
pub use manifest::{
    Descriptor, Document, LIMITS, Limits, Manifest, ManifestError, WirePlatform, document, folded, unique,
};
pub use secret::Secret;
pub use select::select;
pub use upload::{Outgoing, Placed};

#[cfg(test)]
mod tests;
