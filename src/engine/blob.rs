//! One blob from a registry into the store, with nobody reading behind it.

use std::io;

use crate::model::Digest;
use crate::registry::{Client, Sink, Source};
use crate::store::Ingest;

use super::EngineError;

/// Takes a download's bytes.
struct Plain<'i>(&'i mut Ingest);

impl Sink for Plain<'_> {
    fn offset(&self) -> u64 {
        self.0.offset()
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write(bytes).map_err(io::Error::other)
    }

    fn restart(&mut self) -> io::Result<()> {
        self.0.restart().map_err(io::Error::other)
    }
}

/// Fetches a blob of `size` bytes and publishes it.
pub(super) async fn fetch(
    client: &Client,
    source: &Source,
    digest: &Digest,
    size: u64,
    mut ingest: Ingest,
) -> Result<(), EngineError> {
    client.download(source, digest, size, &mut Plain(&mut ingest), &mut |_| {}).await?;
    Ok(ingest.finish()?)
}
