//! What leads an ordinary user's container outside, while it runs: one that ends by itself is started again.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use crate::model::{PublishedPort, chain};
use crate::network::NetworkError;
use crate::network::pasta::Pasta;

/// Before it is started again: the container's own end, which may be the reason, comes first.
const SHORTEST: Duration = Duration::from_millis(200);

/// The pause doubles up to this while it does not stay.
const LONGEST: Duration = Duration::from_mins(1);

/// One that lived so long had been well.
const WELL: Duration = Duration::from_secs(10);

/// A container's way outside.
#[derive(Debug)]
pub(super) struct Outside {
    pid: u32,
    published: Vec<PublishedPort>,
    folder: PathBuf,
    device: &'static str,
    pasta: Option<Pasta>,
    begun: Instant,
    pause: Duration,
    /// When it is to be started again.
    due: Option<Instant>,
}

impl Outside {
    /// Opens it, with the ports that lead in, to the namespace of the container's first process.
    pub(super) fn open(
        pid: u32,
        published: &[PublishedPort],
        folder: &Path,
        device: &'static str,
    ) -> Result<Self, NetworkError> {
        let pasta = Pasta::start(pid, published, folder, device)?;
        Ok(Self {
            pid,
            published: published.to_vec(),
            folder: folder.to_owned(),
            device,
            pasta: Some(pasta),
            begun: Instant::now(),
            pause: SHORTEST,
            due: None,
        })
    }

    /// Waits until it is to be started again. May be given up and begun anew.
    pub(super) async fn lost(&mut self) {
        if let Some(pasta) = &self.pasta
            && self.due.is_none()
            && let Err(error) = pasta.ended().await
        {
            tracing::error!(%error, "waiting for `pasta`");
            // Nothing can be told of it any more.
            std::future::pending::<()>().await;
        }
        let due = *self.due.get_or_insert_with(|| Instant::now() + self.pause);
        tokio::time::sleep_until(due).await;
    }

    /// Starts it again; where that fails, once more after a longer pause.
    pub(super) fn mend(&mut self) {
        self.pause = if self.begun.elapsed() > WELL { SHORTEST } else { (self.pause * 2).min(LONGEST) };
        if self.pasta.take().is_some() {
            tracing::warn!("`pasta` has ended; the container is led outside by another one");
        }
        (self.begun, self.due) = (Instant::now(), None);
        match Pasta::start(self.pid, &self.published, &self.folder, self.device) {
            Ok(pasta) => self.pasta = Some(pasta),
            Err(error) => tracing::warn!(error = chain(&error), "leading the container outside"),
        }
    }
}
