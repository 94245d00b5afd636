//! PAX sparse files (GNU tar's formats 0.0, 0.1 and 1.0): where the pieces of a file with holes go.
//!
//! In 0.x the map stands in the PAX records, in 1.0 before the data. Invariants: pieces are in order, do not overlap and end
//! within the file, whose size was bounded before the first of them is written; a hole is never written.

use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use cap_std::fs::File;

use super::tree::refused;
use super::{LayerError, write_error};
use crate::store::EntryRefusal;

/// Pieces that a map may have.
const PIECES: usize = 1 << 20;
/// Digits of a number in a map.
const DIGITS: usize = 20;

/// What the records say.
#[derive(Debug, Clone, Default)]
pub(super) struct Sparse {
    /// Bytes of the file, holes and all.
    pub(super) size: u64,
    /// The file's real name, where the entry's is another.
    pub(super) name: Option<Vec<u8>>,
    /// Format 1.0.
    map_in_data: bool,
    pieces: Vec<(u64, u64)>,
    offset: Option<u64>,
}

fn number(bytes: &[u8]) -> Option<u64> {
    let digits = !bytes.is_empty() && bytes.len() <= DIGITS && bytes.iter().all(u8::is_ascii_digit);
    if digits { std::str::from_utf8(bytes).ok()?.parse().ok() } else { None }
}

impl Sparse {
    /// Takes one record, without its prefix; `None` if it is malformed.
    pub(super) fn record(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        match key {
            b"major" => self.map_in_data = number(value)? == 1,
            b"minor" => {
                number(value)?;
            }
            b"size" | b"realsize" => self.size = number(value)?,
            b"name" => self.name = Some(value.to_owned()),
            b"numblocks" => {
                number(value).filter(|count| *count <= PIECES as u64)?;
            }
            b"offset" => self.offset = Some(number(value)?),
            b"numbytes" => self.piece(self.offset?, number(value)?)?,
            b"map" => {
                let mut numbers = value.split(|byte| *byte == b',').map(number);
                while let Some(offset) = numbers.next() {
                    self.piece(offset?, numbers.next()??)?;
                }
            }
            _ => {}
        }
        Some(())
    }

    fn piece(&mut self, offset: u64, length: u64) -> Option<()> {
        let free = self.pieces.last().map_or(0, |(offset, length)| offset + length);
        offset.checked_add(length)?;
        if offset < free || self.pieces.len() >= PIECES {
            return None;
        }
        self.pieces.push((offset, length));
        self.offset = None;
        Some(())
    }

    /// Writes the pieces where they belong; the file's length is set by the caller.
    pub(super) fn copy(
        &self,
        from: &mut dyn Read,
        file: &mut File,
        path: &Path,
        buffer: &mut [u8],
    ) -> Result<(), LayerError> {
        let mut here = Self { pieces: self.pieces.clone(), ..Self::default() };
        if self.map_in_data {
            here.read_map(from)
                .map_err(LayerError::Archive)?
                .ok_or_else(|| refused(path, EntryRefusal::Sparse))?;
        }
        for (offset, length) in here.pieces {
            if offset + length > self.size {
                return Err(refused(path, EntryRefusal::Sparse));
            }
            file.seek(SeekFrom::Start(offset)).map_err(write_error(path))?;
            let mut left = length;
            while left > 0 {
                let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
                let count = from.read(&mut buffer[..most]).map_err(LayerError::Archive)?;
                if count == 0 {
                    return Err(LayerError::Archive(io::ErrorKind::UnexpectedEof.into()));
                }
                file.write_all(&buffer[..count]).map_err(write_error(path))?;
                left -= count as u64;
            }
        }
        Ok(())
    }

    /// The map before the data: decimal lines, filled up to a block.
    fn read_map(&mut self, from: &mut dyn Read) -> io::Result<Option<()>> {
        let mut lines = Lines { from, block: [0; 512], at: 512 };
        let Some(count) = lines.next()?.filter(|count| *count <= PIECES as u64) else { return Ok(None) };
        for _ in 0..count {
            let (Some(offset), Some(length)) = (lines.next()?, lines.next()?) else { return Ok(None) };
            if self.piece(offset, length).is_none() {
                return Ok(None);
            }
        }
        Ok(Some(()))
    }
}

struct Lines<'r> {
    from: &'r mut dyn Read,
    block: [u8; 512],
    at: usize,
}

impl Lines<'_> {
    fn next(&mut self) -> io::Result<Option<u64>> {
        let mut digits = Vec::new();
        loop {
            if self.at == self.block.len() {
                self.from.read_exact(&mut self.block)?;
                self.at = 0;
            }
            let byte = self.block[self.at];
            self.at += 1;
            if byte == b'\n' {
                return Ok(number(&digits));
            }
            digits.push(byte);
            if digits.len() > DIGITS {
                return Ok(None);
            }
        }
    }
}
