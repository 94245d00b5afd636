//! The pipeline of unpacking: one thread decompresses, one hashes, the caller places; blocks are shared, not copied.
//!
//! Inflating is the slowest stage, placing the second, hashing the third: with two processors the sum is what counts, and
//! with more the slowest stage alone.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use sha2::{Digest as _, Sha256};

use super::{LayerError, Limits};
use crate::model::{Digest, LayerKind};

const BLOCK: usize = 256 << 10;
/// Blocks in flight to each consumer.
const DEPTH: usize = 16;

type Block = Arc<Vec<u8>>;

/// The uncompressed stream, for whoever places its entries.
#[derive(Debug)]
pub(super) struct Blocks {
    receiver: Receiver<io::Result<Block>>,
    block: Block,
    position: usize,
}

impl Read for Blocks {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        while self.position == self.block.len() {
            match self.receiver.recv() {
                Ok(block) => (self.block, self.position) = (block?, 0),
                Err(_) => return Ok(0),
            }
        }
        let rest = &self.block[self.position..];
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        self.position += count;
        Ok(count)
    }
}

/// Runs the pipeline; returns what `place` returns, and the digest of the whole uncompressed stream.
pub(super) fn run<T>(
    reader: impl Read + Send,
    kind: LayerKind,
    limits: Limits,
    place: impl FnOnce(&mut Blocks) -> Result<T, LayerError>,
) -> Result<(T, Digest), LayerError> {
    let (to_place, receiver) = sync_channel(DEPTH);
    let (to_hash, hashed) = sync_channel::<Block>(DEPTH);
    thread::scope(|scope| {
        let hashing = scope.spawn(move || {
            let mut hash = Sha256::new();
            for block in hashed {
                hash.update(&*block);
            }
            Digest::from_hash(hash.finalize().into())
        });
        let decompression = scope.spawn(move || produce(reader, kind, limits, &to_place, &to_hash));
        let mut blocks = Blocks { receiver, block: Block::default(), position: 0 };
        let placed = place(&mut blocks).and_then(|value| {
            // What follows the end of the archive counts for the digest and is otherwise ignored, as GNU tar does.
            io::copy(&mut blocks, &mut io::sink()).map_err(LayerError::Archive)?;
            Ok(value)
        });
        drop(blocks);
        // A panic of a stage (a bug of ours) is carried on, not hidden.
        let produced = decompression.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let digest = hashing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        produced?;
        Ok((placed?, digest))
    })
}

fn produce(
    reader: impl Read,
    kind: LayerKind,
    limits: Limits,
    to_place: &SyncSender<io::Result<Block>>,
    to_hash: &SyncSender<Block>,
) -> Result<(), LayerError> {
    let mut sent = 0_u64;
    let mut source = decoder(BufReader::with_capacity(BLOCK, reader), kind).map_err(LayerError::Archive)?;
    let mut pool = Pool::default();
    loop {
        let mut block = pool.take();
        // Nobody else has it: see the pool.
        let bytes = Arc::make_mut(&mut block);
        let (filled, failure) = fill(&mut source, bytes);
        if let Some(error) = failure {
            // The placer must not take a damaged stream for one that ended.
            let _ = to_place.send(Err(io::Error::new(error.kind(), "the stream broke off")));
            return Err(LayerError::Archive(error));
        }
        sent += filled as u64;
        if sent > limits.unpacked {
            let _ = to_place.send(Err(io::Error::other("the stream is too long")));
            return Err(LayerError::TooLarge { limit: limits.unpacked, unit: "bytes" });
        }
        let last = filled < BLOCK;
        bytes.truncate(filled);
        pool.remember(&block);
        // A consumer that is gone has failed, and its own error is the one to report.
        if to_place.send(Ok(Arc::clone(&block))).is_err() || to_hash.send(block).is_err() || last {
            return Ok(());
        }
    }
}

/// Reads until a block is full, the stream ends or fails.
fn fill(source: &mut dyn Read, block: &mut [u8]) -> (usize, Option<io::Error>) {
    let mut filled = 0;
    while filled < block.len() {
        match source.read(&mut block[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (filled, Some(error)),
        }
    }
    (filled, None)
}

/// Blocks to be used again once both consumers are done with them: a new one costs the kernel 64 pages to clear. It grows to as
/// many as are in flight at once, which the channels bound.
#[derive(Debug, Default)]
struct Pool(VecDeque<Block>);

impl Pool {
    fn take(&mut self) -> Block {
        match self.0.front() {
            // They come back in the order they went, so the first tells.
            Some(first) if Arc::strong_count(first) == 1 => self.0.pop_front().unwrap_or_default(),
            _ => Block::new(vec![0; BLOCK]),
        }
    }

    fn remember(&mut self, block: &Block) {
        self.0.push_back(Arc::clone(block));
    }
}

/// KiB that unpacking xz may take: its largest preset needs 65 MiB.
const XZ_MEMORY: u32 = 128 << 10;

/// The uncompressed bytes of an archive, whatever it is compressed with.
pub(in crate::store) fn decoder<'r>(
    mut reader: impl BufRead + 'r,
    kind: LayerKind,
) -> io::Result<Box<dyn Read + 'r>> {
    if kind == LayerKind::Wasm {
        return Ok(Box::new(reader));
    }
    let mut magic = [0; 4];
    let mut known = 0;
    while known < magic.len() {
        match reader.read(&mut magic[known..])? {
            0 => break,
            count => known += count,
        }
    }
    let reader = io::Cursor::new(magic).take(known as u64).chain(reader);
    Ok(match magic {
        [0x1f, 0x8b, ..] => Box::new(Gzip { member: Some(flate2::bufread::GzDecoder::new(reader)) }),
        [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18] => {
            Box::new(zstd::stream::read::Decoder::with_buffer(reader)?)
        }
        [b'B', b'Z', b'h', b'1'..=b'9'] => Box::new(bzip2::bufread::MultiBzDecoder::new(reader)),
        [0xfd, b'7', b'z', b'X'] => Box::new(lzma_rust2::XzReader::new_mem_limit(reader, true, XZ_MEMORY)),
        _ => Box::new(reader),
    })
}

/// Concatenated gzip members; zeros after the last one are padding, as gzip has it, and anything else is an error.
#[derive(Debug)]
struct Gzip<R> {
    member: Option<flate2::bufread::GzDecoder<R>>,
}

impl<R: BufRead> Read for Gzip<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.member {
            let count = member.read(into)?;
            if count > 0 || into.is_empty() {
                return Ok(count);
            }
            let Some(mut rest) = self.member.take().map(flate2::bufread::GzDecoder::into_inner) else {
                break;
            };
            if rest.fill_buf()?.first() == Some(&0x1f) {
                self.member = Some(flate2::bufread::GzDecoder::new(rest));
                continue;
            }
            loop {
                let padding = rest.fill_buf()?;
                if padding.is_empty() {
                    return Ok(0);
                }
                if padding.iter().any(|&byte| byte != 0) {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "garbage after the gzip stream"));
                }
                let count = padding.len();
                rest.consume(count);
            }
        }
        Ok(0)
    }
}
