//! The download half of a pull: one blob into a [`Sink`], continued across cut connections.

use std::io;

use super::RegistryError;
use super::client::{Client, Source};
use super::exchange::pause;
use crate::model::Digest;

/// How often in a row a download may fail without a single byte of progress.
const FRUITLESS: u32 = 5;
/// How often it may fail at all: a registry that cuts every few bytes is not one to wait for.
const CUTS: u32 = 100;

/// Where the bytes of a blob go. The sink checks the digest when it is complete; the store's writer does.
pub trait Sink {
    /// How many bytes it has, from the beginning; more than 0 if a former download was cut.
    fn offset(&self) -> u64;
    /// Takes the next bytes.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Forgets what it has: the registry begins again.
    fn restart(&mut self) -> io::Result<()>;
}

impl Client {
    /// Fetches the rest of a blob of `size` bytes. `progress` is called with the offset reached, after every write.
    pub async fn download(
        &self,
        source: &Source,
        digest: &Digest,
        size: u64,
        sink: &mut (dyn Sink + Send),
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<(), RegistryError> {
        let write = |source| RegistryError::Write { digest: digest.clone(), source };
        if sink.offset() > size {
            sink.restart().map_err(write)?;
        }
        let (mut fruitless, mut cuts) = (0, 0);
        // An empty blob is asked for as well: the registry may not have it.
        let mut asked = false;
        while sink.offset() < size || !asked && size == 0 {
            asked = true;
            let before = sink.offset();
            let result = self.stream(source, digest, size, sink, progress).await;
            let error = match result {
                Ok(()) if sink.offset() == size => break,
                Ok(()) => RegistryError::Short {
                    host: source.host.clone(),
                    digest: digest.clone(),
                    expected: size,
                    actual: sink.offset(),
                },
                Err(error) => error,
            };
            fruitless = if sink.offset() > before { 0 } else { fruitless + 1 };
            cuts += 1;
            if !error.passes() || fruitless >= FRUITLESS || cuts >= CUTS {
                return Err(error);
            }
            tracing::info!(%error, %digest, offset = sink.offset(), "continuing the download");
            tokio::time::sleep(pause(fruitless, &error)).await;
        }
        Ok(())
    }

    async fn stream(
        &self,
        source: &Source,
        digest: &Digest,
        size: u64,
        sink: &mut (dyn Sink + Send),
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<(), RegistryError> {
        let write = |source| RegistryError::Write { digest: digest.clone(), source };
        let mut stream = self.blob(source, digest, size, sink.offset()).await?;
        if stream.offset != sink.offset() {
            sink.restart().map_err(write)?;
        }
        while let Some(bytes) = stream.chunk().await? {
            sink.write(&bytes).map_err(write)?;
            progress(sink.offset());
            self.inwards.take(bytes.len()).await;
        }
        Ok(())
    }
}
