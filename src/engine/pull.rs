//! Fetching an image: every layer is downloaded and unpacked at the same time, and nothing is visible before all of it is.
//!
//! A download is appended to the store's partial file; the unpacking thread reads that same file behind it ([`Tail`]). So
//! a slow disk never stalls the connection, a download that is resumed needs no special case (the bytes of the last time
//! are simply there), and no layer is held in memory.
//!
//! While layers are unpacked, what was unpacked so far is written to the disk already ([`Ahead`]): the disk is what a pull waits
//! for in the end.
//!
//! The locks of all layers are taken in one order before anything else is done: two pulls that share layers wait for one
//! another instead of deadlocking, and fetch what they share once.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use futures_util::future::join_all;
use tokio::sync::Semaphore;

use crate::demo;
use crate::model::{Digest, Event, EventType, Image, Layer, Platform};
use crate::reference::Reference;
use crate::registry::{Client, Resolved, Sink, Source};
use crate::store::{Ingest, LayerWriter, Store, StoreError};

use super::progress::{Phase, Progress};
use super::{Engine, EngineError};

/// What a pull did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullStatus {
    /// The image is new, or newer than what there was.
    Downloaded,
    /// It was there already.
    UpToDate,
}

/// The outcome of a pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// The image's id.
    pub image: Digest,
    /// What the name points to at the registry.
    pub digest: Digest,
    /// What was done.
    pub status: PullStatus,
}

impl Engine {
    /// A typed name, with the configuration's aliases applied.
    pub fn parse_reference(&self, typed: &str) -> Result<Reference, EngineError> {
        self.reference(typed)
    }

    /// Fetches the image of a name for the first of the wanted platforms that it has.
    pub fn pull(
        &self,
        reference: &Reference,
        wanted: &[Platform],
        progress: &dyn Progress,
    ) -> Result<Pulled, EngineError> {
        if reference.registry() == demo::REGISTRY {
            return self.pull_demo(reference, wanted);
        }
        let runtime = super::event_loop()?;
        let client = Client::new(&self.config);
        self.pull_with(&runtime, &client, reference, wanted, progress)
    }

    /// Fetches all tags of a repository; `each` hears of every one that is done.
    pub fn pull_all(
        &self,
        repository: &Reference,
        wanted: &[Platform],
        progress: &dyn Progress,
        each: &mut dyn FnMut(Pulled),
    ) -> Result<(), EngineError> {
        let runtime = super::event_loop()?;
        let client = Client::new(&self.config);
        for tag in runtime.block_on(client.tags(repository))? {
            let name = repository.with_tag(&tag)?;
            each(self.pull_with(&runtime, &client, &name, wanted, progress)?);
        }
        Ok(())
    }

    fn pull_with(
        &self,
        runtime: &tokio::runtime::Runtime,
        client: &Client,
        reference: &Reference,
        wanted: &[Platform],
        progress: &dyn Progress,
    ) -> Result<Pulled, EngineError> {
        self.recover();
        progress.pulling(reference.selector(), reference.repository());
        if let Some(pulled) = self.unchanged(reference, wanted, runtime, client)? {
            return Ok(pulled);
        }
        let resolved = runtime.block_on(client.resolve(reference, wanted))?;
        let digests: Vec<Digest> = resolved
            .image
            .layers
            .iter()
            .flat_map(|layer| [layer.digest.clone(), layer.diff_id.clone()])
            .chain([resolved.image.id.clone(), resolved.image.manifest.clone(), resolved.target.clone()])
            .collect();
        // From here to the record, garbage collection leaves these alone.
        let pulled = self.holding(&digests, || {
            let unpacked = self.fetch_anew(client, &resolved, runtime, progress)?;
            let store = self.store()?;
            store.content().put(&resolved.manifest)?;
            store.content().put(&resolved.config)?;
            if let Some(index) = &resolved.index {
                store.content().put(index)?;
            }
            let mut image = resolved.image.clone();
            image.unpacked_size = unpacked;
            let news = Event::new(EventType::Image, "pull", reference.to_string())
                .with("name", reference.familiar_name());
            self.database.record_image(&image, Some(&reference.canonical()), &[news])?;
            Ok(Pulled { image: image.id, digest: resolved.target.clone(), status: PullStatus::Downloaded })
        })?;
        self.store()?.keep_reserve();
        // The image is here: that others could not be removed for it is told, and no failure of the pull.
        if let Err(error) = self.keep_budget(std::slice::from_ref(&pulled.image)) {
            tracing::warn!(%error, "keeping to the disk budget");
        }
        self.compile(&resolved.image, progress);
        Ok(pulled)
    }

    /// The image that the carried-along registry has of this name.
    fn pull_demo(&self, reference: &Reference, wanted: &[Platform]) -> Result<Pulled, EngineError> {
        if reference.repository() != demo::REPOSITORY || reference.tag().is_none_or(|tag| tag != "latest") {
            return Err(EngineError::MissingImage { name: reference.to_string() });
        }
        self.import_demo(reference)?;
        let stored = self.find_image(&reference.to_string(), wanted)?;
        Ok(Pulled { image: stored.image.id, digest: stored.image.target, status: PullStatus::Downloaded })
    }

    /// One `HEAD` tells whether the tag still points to what is here.
    fn unchanged(
        &self,
        reference: &Reference,
        wanted: &[Platform],
        runtime: &tokio::runtime::Runtime,
        client: &Client,
    ) -> Result<Option<Pulled>, EngineError> {
        let found = self.database.image_by_name(&reference.canonical(), None)?;
        let here = wanted.iter().find_map(|wish| found.iter().find(|s| wish.accepts(&s.image.platform)));
        let Some(stored) = here else { return Ok(None) };
        let store = self.store()?;
        let here = |layer: &Layer| store.layers().has(&layer.diff_id) && store.content().has(&layer.digest);
        let whole = stored.image.layers.iter().all(here);
        // The first wish may be there by now although an older pull had to be content with the second.
        let first = wanted.first().is_none_or(|wish| wish.accepts(&stored.image.platform));
        if !whole || !first || runtime.block_on(client.head(reference))? != stored.image.target {
            return Ok(None);
        }
        Ok(Some(Pulled {
            image: stored.image.id.clone(),
            digest: stored.image.target.clone(),
            status: PullStatus::UpToDate,
        }))
    }

    /// Fetches, and once more from the beginning where bytes of an earlier download turned out to be bad: a machine that lost
    /// its power may have kept the length of a partial file and not what was in it.
    fn fetch_anew(
        &self,
        client: &Client,
        resolved: &Resolved,
        runtime: &tokio::runtime::Runtime,
        progress: &dyn Progress,
    ) -> Result<u64, EngineError> {
        let mut stale = false;
        match self.fetch(client, resolved, runtime, progress, &mut stale) {
            Err(error) if stale => {
                tracing::warn!(%error, "what an earlier download left was bad; fetching it again");
                self.fetch(client, resolved, runtime, progress, &mut false)
            }
            outcome => outcome,
        }
    }

    /// Downloads, unpacks and publishes the layers that are missing; returns the unpacked size of all. `stale` is set when
    /// bytes that were here before were refused, and have been thrown away.
    fn fetch(
        &self,
        client: &Client,
        resolved: &Resolved,
        runtime: &tokio::runtime::Runtime,
        progress: &dyn Progress,
        stale: &mut bool,
    ) -> Result<u64, EngineError> {
        let store = self.store()?;
        let (mut parts, mut unpacked) = claim(store, &resolved.image, progress)?;
        // The largest begins first, or it is unpacked alone in the end.
        parts.sort_by_key(|part| std::cmp::Reverse(part.layer.size));
        let slots = Semaphore::new(self.config.pull.parallel);
        let outcome = std::thread::scope(|scope| {
            let (ahead, due) = Ahead::new();
            scope.spawn(move || due.into_iter().for_each(|()| store.write_back()));
            let mut threads = Vec::new();
            let mut downloads = Vec::new();
            for part in &mut parts {
                let Part { layer, writer, ingest, tail } = part;
                if let Some(writer) = writer {
                    let from = Follow { tail: Arc::clone(tail), at: 0, ahead: Arc::clone(&ahead) };
                    let layer = layer.clone();
                    threads.push(scope.spawn(move || unpack(writer, &layer, from, progress)));
                }
                downloads.push(download(client, &resolved.source, layer, ingest, tail, &slots, progress));
            }
            // Whoever unpacks has it now: it ends with the last of them.
            drop(ahead);
            let fetched: Vec<_> = runtime.block_on(join_all(downloads));
            let placed: Vec<_> =
                threads.into_iter().map(|thread| thread.join().unwrap_or(Err(None))).collect();
            settle(fetched, placed)
        });
        let sizes = match outcome {
            Ok(sizes) => sizes,
            Err(error) => {
                // Bytes that cannot be unpacked are not resumed from: the next pull gets them anew.
                for part in parts.iter_mut().filter(|part| part.tail.lock().refused) {
                    *stale |= part.ingest.is_resumed() && error.kind_is_input();
                    part.ingest.restart()?;
                }
                return Err(error);
            }
        };
        unpacked += sizes.into_iter().sum::<u64>();
        let (writers, ingests): (Vec<_>, Vec<_>) =
            parts.into_iter().map(|part| (part.writer, part.ingest)).unzip();
        store.publish(writers.into_iter().flatten().collect(), ingests)?;
        for layer in &resolved.image.layers {
            progress.layer(layer.digest.short(), Phase::Complete);
        }
        Ok(unpacked)
    }
}

/// A layer that is being fetched.
struct Part {
    layer: Layer,
    /// `None` when only the blob is missing.
    writer: Option<LayerWriter>,
    ingest: Ingest,
    tail: Arc<Tail>,
}

/// Takes the locks of all missing layers, in the order of their digests; tells the unpacked size of those that are here.
fn claim(store: &Store, image: &Image, progress: &dyn Progress) -> Result<(Vec<Part>, u64), EngineError> {
    let mut wanted = BTreeMap::new();
    for layer in &image.layers {
        progress.layer(layer.digest.short(), Phase::Pulling);
        if let Some(other) = wanted.insert(layer.digest.clone(), layer.clone())
            && other.diff_id != layer.diff_id
        {
            let (expected, found) = (other.diff_id, layer.diff_id.clone());
            return Err(StoreError::DigestMismatch { expected, found }.into());
        }
    }
    let mut parts = Vec::new();
    let mut unpacked = 0;
    let mut seen = std::collections::BTreeSet::new();
    for (digest, layer) in wanted {
        let first = seen.insert(layer.diff_id.clone());
        let missing = first && !store.layers().has(&layer.diff_id);
        // A layer may be here without this blob: a collection was killed between the two, or another image has the same
        // layer compressed otherwise. An image has all of its blobs.
        // The blob first: whoever has to wait for another's download is told so.
        let ingest = if !missing && store.content().has(&digest) {
            None
        } else if let Some(ingest) = store.content().try_ingest(&digest, layer.size)? {
            Some(ingest)
        } else {
            progress.layer(digest.short(), Phase::Waiting);
            Some(store.content().ingest(&digest, layer.size)?)
        };
        let writer = if missing { store.layers().begin(&layer.diff_id)? } else { None };
        if first && writer.is_none() {
            unpacked += store.layers().unpacked_size(&layer.diff_id)?;
        }
        let Some(ingest) = ingest.filter(|ingest| writer.is_some() || !ingest.is_complete()) else {
            progress.layer(digest.short(), Phase::Exists);
            continue;
        };
        let tail = Arc::new(
            Tail::new(&ingest)
                .map_err(|source| EngineError::Path { path: ingest.path().to_owned(), source })?,
        );
        parts.push(Part { layer, writer, ingest, tail });
    }
    Ok((parts, unpacked))
}

/// Why a layer could not be unpacked; `None` when only its bytes did not come.
type Unpacked = Result<u64, Option<EngineError>>;

/// The first failure that is a cause and not a consequence.
fn settle(fetched: Vec<Result<(), EngineError>>, placed: Vec<Unpacked>) -> Result<Vec<u64>, EngineError> {
    let mut sizes = Vec::new();
    for outcome in placed {
        match outcome {
            Ok(size) => sizes.push(size),
            Err(Some(error)) => return Err(error),
            Err(None) => {}
        }
    }
    fetched.into_iter().collect::<Result<(), _>>()?;
    Ok(sizes)
}

fn unpack(writer: &mut LayerWriter, layer: &Layer, from: Follow, progress: &dyn Progress) -> Unpacked {
    let tail = Arc::clone(&from.tail);
    match writer.apply(from, layer.kind) {
        Ok(applied) => {
            progress.layer(layer.digest.short(), Phase::Extracting);
            Ok(applied.unpacked_size)
        }
        Err(_) if tail.lock().broken => Err(None),
        Err(error) => {
            tail.lock().refused = true;
            Err(Some(error.into()))
        }
    }
}

async fn download(
    client: &Client,
    source: &Source,
    layer: &Layer,
    ingest: &mut Ingest,
    tail: &Arc<Tail>,
    slots: &Semaphore,
    progress: &dyn Progress,
) -> Result<(), EngineError> {
    let short = layer.digest.short();
    if slots.available_permits() == 0 {
        progress.layer(short, Phase::Waiting);
    }
    // The semaphore is never closed.
    let _slot = slots.acquire().await;
    let outcome = if ingest.is_complete() {
        Ok(())
    } else {
        let mut sink = Feed { ingest, tail };
        let mut report = |done| progress.layer(short, Phase::Downloading { done, total: layer.size });
        client.download(source, &layer.digest, layer.size, &mut sink, &mut report).await
    };
    tail.end(outcome.is_ok());
    if outcome.is_ok() {
        progress.layer(short, Phase::Downloaded);
    }
    Ok(outcome?)
}

/// How much of a partial file may be read.
#[derive(Debug)]
struct Tail {
    file: File,
    state: Mutex<Reach>,
    moved: Condvar,
}

#[derive(Debug)]
struct Reach {
    available: u64,
    ended: bool,
    broken: bool,
    refused: bool,
}

impl Tail {
    fn new(ingest: &Ingest) -> io::Result<Self> {
        Ok(Self {
            file: File::open(ingest.path())?,
            state: Mutex::new(Reach {
                available: ingest.offset(),
                ended: ingest.is_complete(),
                broken: false,
                refused: false,
            }),
            moved: Condvar::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Reach> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reach(&self, available: u64) {
        self.lock().available = available;
        self.moved.notify_all();
    }

    fn end(&self, whole: bool) {
        let mut state = self.lock();
        state.ended = true;
        state.broken = !whole;
        drop(state);
        self.moved.notify_all();
    }
}

/// Packed bytes after which what was unpacked of them is written out.
const AHEAD: u64 = 64 << 20;

/// Counts what all layers of a pull unpack, and says when there is enough of it to be written out.
struct Ahead {
    unpacked: AtomicU64,
    due: SyncSender<()>,
}

impl Ahead {
    fn new() -> (Arc<Self>, Receiver<()>) {
        let (due, waits) = sync_channel(1);
        (Arc::new(Self { unpacked: AtomicU64::new(0), due }), waits)
    }

    fn count(&self, bytes: u64) {
        let before = self.unpacked.fetch_add(bytes, Ordering::Relaxed);
        if before / AHEAD != (before + bytes) / AHEAD {
            // One that is due already will do for this as well.
            let _ = self.due.try_send(());
        }
    }
}

/// Reads a partial file behind its download.
struct Follow {
    tail: Arc<Tail>,
    at: u64,
    ahead: Arc<Ahead>,
}

impl Read for Follow {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.tail.lock();
        while state.available <= self.at && !state.ended {
            state = self.tail.moved.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.broken {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        let ready = usize::try_from(state.available.saturating_sub(self.at)).unwrap_or(usize::MAX);
        drop(state);
        let wanted = buffer.len().min(ready);
        let read = read_at(&self.tail.file, &mut buffer[..wanted], self.at)?;
        self.at += read as u64;
        self.ahead.count(read as u64);
        Ok(read)
    }
}

#[cfg(unix)]
fn read_at(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buffer, at)
}

#[cfg(windows)]
fn read_at(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buffer, at)
}

/// Takes a download's bytes.
struct Feed<'a> {
    ingest: &'a mut Ingest,
    tail: &'a Tail,
}

impl Sink for Feed<'_> {
    fn offset(&self) -> u64 {
        self.ingest.offset()
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.tail.lock().refused {
            return Err(io::Error::from(io::ErrorKind::InvalidData));
        }
        self.ingest.write(bytes).map_err(io::Error::other)?;
        self.tail.reach(self.ingest.offset());
        Ok(())
    }

    fn restart(&mut self) -> io::Result<()> {
        // What was read of the old bytes stands: the digest tells at the end whether the new ones are the same.
        self.ingest.restart().map_err(io::Error::other)?;
        self.tail.reach(0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writing_out_is_due_once_for_every_so_many_bytes() {
        let (ahead, due) = Ahead::new();
        for (bytes, times) in [(AHEAD - 1, 0), (1, 1), (AHEAD - 1, 0), (5 * AHEAD, 1), (1, 1), (1, 0)] {
            ahead.count(bytes);
            assert_eq!(due.try_iter().count(), times, "{bytes}");
        }
        // Nobody waits while nobody takes it up.
        ahead.count(AHEAD);
        ahead.count(AHEAD);
        drop(ahead);
        assert_eq!(due.into_iter().count(), 1, "it ends with those who count");
    }
}
