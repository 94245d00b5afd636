//! Placing the entries of an archive. The crate `tar` reads them; what is done with them is decided here.

use std::cell::Cell;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use cap_std::fs::{Dir, File, OpenOptions};
use tar::EntryType;

use super::attributes::{self, Node};
use super::sparse::Sparse;
use super::stream::Blocks;
use super::tree::{Tree, normalise, refused};
use super::{LayerError, Limits, Placed, write_error};
use crate::failpoint::{Point, pass};
use crate::model::Image;
use crate::store::EntryRefusal;

/// Prefix of a whiteout's name (OCI image spec, "Layer": whiteouts).
pub(in crate::store) const MARKER: &[u8] = b".wh.";
/// Name that makes its directory opaque.
pub(in crate::store) const OPAQUE_MARKER: &[u8] = b".wh..wh..opq";
/// Bytes that the headers of one entry may take: long names and PAX records are held in memory.
pub(in crate::store) const HEADER_LIMIT: u64 = 1 << 20;

/// What an entry says about its file.
#[derive(Debug, Clone, Default)]
pub(super) struct Meta {
    #[cfg_attr(not(unix), expect(dead_code, reason = "only Unix has these bits"))]
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) seconds: i64,
    pub(super) nanoseconds: u32,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: Option<Sparse>,
}

/// The stream, with a bound on what is read while the headers of one entry are.
pub(in crate::store) struct Bounded<R> {
    inner: R,
    left: Rc<Cell<u64>>,
}

impl<R> Bounded<R> {
    /// The stream, and the bytes that may still be read: [`HEADER_LIMIT`] to begin with.
    pub(in crate::store) fn new(inner: R) -> (Self, Rc<Cell<u64>>) {
        let left = Rc::new(Cell::new(HEADER_LIMIT));
        (Self { inner, left: Rc::clone(&left) }, left)
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = self.left.get();
        if left == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the headers of an entry are too long"));
        }
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(into.len());
        let count = self.inner.read(&mut into[..most])?;
        self.left.set(left - count as u64);
        Ok(count)
    }
}

/// Places a raw WebAssembly layer.
pub(super) fn wasm(root: &Dir, stream: &mut Blocks) -> Result<Placed, LayerError> {
    let path = Path::new(Image::WASM_FILE);
    let mut magic = [0; 4];
    stream.read_exact(&mut magic).map_err(|_| LayerError::NotWasm)?;
    if magic != *b"\0asm" {
        return Err(LayerError::NotWasm);
    }
    let mut file = root.create(path).map_err(write_error(path))?;
    file.write_all(&magic).map_err(write_error(path))?;
    let rest = io::copy(stream, &mut file).map_err(write_error(path))?;
    let meta = Meta { mode: 0o644, ..Meta::default() };
    let owned = attributes::set(&file, &meta).map_err(write_error(path))?;
    Ok(Placed { bytes: rest + 4, entries: 1, devices: 0, owners: u64::from(!owned) })
}

/// What a tree is that entries are placed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A layer, ours alone: whiteouts are about layers below.
    Layer,
    /// A container's own files, which it may change meanwhile: every name is a plain one, devices are refused, and nothing is
    /// removed but the one file that is replaced.
    Files,
}

/// Places the entries of a tar archive.
pub(super) fn archive(
    root: Dir,
    stream: &mut Blocks,
    limits: Limits,
    purpose: Purpose,
) -> Result<Placed, LayerError> {
    let (bounded, left) = Bounded::new(stream);
    let mut archive = tar::Archive::new(bounded);
    let overlay = purpose == Purpose::Layer && attributes::overlay_whiteouts(&root);
    let mut placer = Placer {
        tree: Tree::new(root),
        placed: Placed::default(),
        directories: HashMap::new(),
        limits,
        overlay,
        purpose,
        buffer: vec![0; 128 << 10],
    };
    for entry in archive.entries().map_err(LayerError::Archive)? {
        let mut entry = entry.map_err(LayerError::Archive)?;
        left.set(u64::MAX);
        placer.placed.entries += 1;
        if placer.placed.entries > limits.entries {
            return Err(LayerError::TooLarge { limit: limits.entries, unit: "entries" });
        }
        placer.entry(&mut entry)?;
        pass(Point::LayerEntry).map_err(write_error(Path::new("")))?;
        // What was not read of it is passed over before the bound counts again.
        if entry.header().entry_type() != EntryType::GNUSparse {
            io::copy(&mut entry, &mut io::sink()).map_err(LayerError::Archive)?;
        }
        drop(entry);
        left.set(HEADER_LIMIT);
    }
    placer.finish()
}

struct Placer {
    tree: Tree,
    placed: Placed,
    /// Attributes of directories: set at the end, so that what is placed in them neither is hindered nor changes their times.
    directories: HashMap<PathBuf, Meta>,
    limits: Limits,
    overlay: bool,
    purpose: Purpose,
    buffer: Vec<u8>,
}

type Entry<'a, 'b> = tar::Entry<'a, Bounded<&'b mut Blocks>>;

impl Placer {
    fn entry(&mut self, entry: &mut Entry<'_, '_>) -> Result<(), LayerError> {
        let kind = entry.header().entry_type();
        if kind.is_pax_global_extensions() {
            return Ok(());
        }
        let mut bytes = entry.path_bytes().into_owned();
        let shown = PathBuf::from(String::from_utf8_lossy(&bytes).chars().take(256).collect::<String>());
        let meta = meta(entry, &shown)?;
        if let Some(name) = meta.sparse.as_ref().and_then(|sparse| sparse.name.as_ref()) {
            bytes.clone_from(name);
        }
        let path = normalise(&bytes).map_err(|reason| refused(&shown, reason))?;
        if path.as_os_str().is_empty() {
            if !kind.is_dir() {
                return Err(refused(&shown, EntryRefusal::Name));
            }
            self.directories.insert(path, meta);
            return Ok(());
        }
        let name = path.file_name().map(OsStr::as_encoded_bytes).unwrap_or_default();
        if let Some(hidden) = name.strip_prefix(MARKER).filter(|_| self.purpose == Purpose::Layer) {
            return self.whiteout(&path, name, hidden);
        }
        match kind {
            EntryType::Directory => self.directory(path, meta),
            // Archives before POSIX have no type for directories, only the slash.
            EntryType::Regular if bytes.ends_with(b"/") => self.directory(path, meta),
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                self.file(&path, &meta, entry)
            }
            EntryType::Symlink => self.symlink(&path, &meta, entry),
            EntryType::Link => self.link(&path, entry),
            EntryType::Char | EntryType::Block | EntryType::Fifo if self.purpose == Purpose::Files => {
                Err(refused(&shown, EntryRefusal::Special))
            }
            EntryType::Char => self.node(&path, &meta, Node::Character, entry),
            EntryType::Block => self.node(&path, &meta, Node::Block, entry),
            EntryType::Fifo => self.node(&path, &meta, Node::Pipe, entry),
            _ => Err(refused(&shown, EntryRefusal::Type)),
        }
    }

    fn directory(&mut self, path: PathBuf, meta: Meta) -> Result<(), LayerError> {
        let (parent, name) = self.tree.parent(&path)?;
        match parent.create_dir(name) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let there = parent.symlink_metadata(name).map_err(write_error(&path))?;
                if !there.is_dir() {
                    let hidden = attributes::is_whiteout(&there);
                    self.clear(&parent, name, &path)?;
                    parent.create_dir(name).map_err(write_error(&path))?;
                    if hidden {
                        // Deleted and made anew in one layer: what lower layers have in it stays deleted.
                        self.opaque(&parent, name).map_err(write_error(&path))?;
                    }
                }
            }
            Err(error) => return Err(write_error(&path)(error)),
        }
        self.directories.insert(path, meta);
        Ok(())
    }

    fn file(&mut self, path: &Path, meta: &Meta, entry: &mut Entry<'_, '_>) -> Result<(), LayerError> {
        let sparse = entry.header().entry_type() == EntryType::GNUSparse;
        let size = meta.sparse.as_ref().map_or_else(|| entry.size(), |sparse| sparse.size);
        self.placed.bytes = self.placed.bytes.saturating_add(size);
        if self.placed.bytes > self.limits.unpacked {
            return Err(LayerError::TooLarge { limit: self.limits.unpacked, unit: "bytes" });
        }
        let (parent, name) = self.tree.parent(path)?;
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        attributes::made_with(&mut options, meta);
        let mut file = match parent.open_with(name, &options) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.clear(&parent, name, path)?;
                parent.open_with(name, &options)
            }
            other => other,
        }
        .map_err(write_error(path))?;
        match &meta.sparse {
            Some(pieces) => pieces.copy(entry, &mut file, path, &mut self.buffer)?,
            None => self.copy(entry, &mut file, path, sparse)?,
        }
        if sparse || meta.sparse.is_some() {
            file.set_len(size).map_err(write_error(path))?;
        }
        let owned = attributes::set(&file, meta).map_err(write_error(path))?;
        self.placed.owners += u64::from(!owned);
        Ok(())
    }

    fn copy(
        &mut self,
        entry: &mut Entry<'_, '_>,
        file: &mut File,
        path: &Path,
        sparse: bool,
    ) -> Result<(), LayerError> {
        let expected = entry.size();
        let mut copied = 0;
        while copied < expected {
            let count = entry.read(&mut self.buffer).map_err(LayerError::Archive)?;
            if count == 0 {
                return Err(LayerError::Archive(io::ErrorKind::UnexpectedEof.into()));
            }
            let bytes = &self.buffer[..count];
            if sparse && bytes.iter().all(|&byte| byte == 0) {
                file.seek(SeekFrom::Current(i64::try_from(count).unwrap_or(0))).map_err(write_error(path))?;
            } else {
                file.write_all(bytes).map_err(write_error(path))?;
            }
            copied += count as u64;
        }
        Ok(())
    }

    /// Makes room for what replaces a name. Among a container's files a directory, and what lies in it, is not replaced.
    fn clear(&mut self, parent: &Dir, name: &OsStr, path: &Path) -> Result<(), LayerError> {
        if self.purpose == Purpose::Files && parent.symlink_metadata(name).is_ok_and(|there| there.is_dir()) {
            return Err(refused(path, EntryRefusal::OverDirectory));
        }
        self.tree.remove(parent, name).map_err(write_error(path))
    }

    fn symlink(&mut self, path: &Path, meta: &Meta, entry: &Entry<'_, '_>) -> Result<(), LayerError> {
        let target = entry.link_name_bytes().unwrap_or_default().into_owned();
        if target.is_empty() || target.contains(&0) || target.len() > 4095 {
            return Err(refused(path, EntryRefusal::Name));
        }
        let (parent, name) = self.tree.parent(path)?;
        self.clear(&parent, name, path)?;
        attributes::symlink(&parent, &target, name).map_err(write_error(path))?;
        let owned = attributes::set_at(&parent, name, meta).map_err(write_error(path))?;
        self.placed.owners += u64::from(!owned);
        Ok(())
    }

    fn link(&mut self, path: &Path, entry: &Entry<'_, '_>) -> Result<(), LayerError> {
        let target = entry.link_name_bytes().unwrap_or_default().into_owned();
        let target = normalise(&target).map_err(|reason| refused(path, reason))?;
        if target == path {
            return Err(refused(path, EntryRefusal::LinkTarget));
        }
        let (there, source) = self.tree.existing_parent(&target)?;
        match there.symlink_metadata(source) {
            Ok(metadata) if !metadata.is_dir() && !attributes::is_whiteout(&metadata) => {}
            Ok(_) => return Err(refused(path, EntryRefusal::LinkTarget)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(refused(path, EntryRefusal::LinkTarget));
            }
            Err(error) => return Err(write_error(path)(error)),
        }
        let (parent, name) = self.tree.parent(path)?;
        // Through other links both names may be the same place: making room would delete the target.
        match there.hard_link(source, &parent, name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.clear(&parent, name, path)?;
                match there.hard_link(source, &parent, name) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        Err(refused(path, EntryRefusal::LinkTarget))
                    }
                    other => other.map_err(write_error(path)),
                }
            }
            other => other.map_err(write_error(path)),
        }
    }

    fn node(
        &mut self,
        path: &Path,
        meta: &Meta,
        node: Node,
        entry: &Entry<'_, '_>,
    ) -> Result<(), LayerError> {
        let number = |value: io::Result<Option<u32>>| {
            value.map(Option::unwrap_or_default).map_err(|_| refused(path, EntryRefusal::Number))
        };
        let (major, minor) = match node {
            Node::Pipe => (0, 0),
            Node::Character | Node::Block => {
                (number(entry.header().device_major())?, number(entry.header().device_minor())?)
            }
        };
        if matches!(node, Node::Character) && (major, minor) == (0, 0) {
            return Err(refused(path, EntryRefusal::ReservedDevice));
        }
        let (parent, name) = self.tree.parent(path)?;
        self.clear(&parent, name, path)?;
        if attributes::node(&parent, name, node, major, minor, meta).map_err(write_error(path))? {
            let owned = attributes::set_at(&parent, name, meta).map_err(write_error(path))?;
            self.placed.owners += u64::from(!owned);
        } else {
            self.placed.devices += 1;
        }
        Ok(())
    }

    fn whiteout(&mut self, path: &Path, name: &[u8], hidden: &[u8]) -> Result<(), LayerError> {
        if name == OPAQUE_MARKER {
            let (parent, marker) = self.tree.parent(path)?;
            let written = if self.overlay {
                attributes::opaque(&parent)
            } else {
                self.tree.remove(&parent, marker).and_then(|()| parent.create(marker).map(drop))
            };
            return written.map_err(write_error(path));
        }
        if hidden.starts_with(MARKER) {
            // `.wh..wh.plnk` and the like: bookkeeping of aufs.
            return Ok(());
        }
        let hidden = match hidden {
            b"" | b"." | b".." => return Err(refused(path, EntryRefusal::Whiteout)),
            hidden => attributes::name(hidden).ok_or_else(|| refused(path, EntryRefusal::Name))?,
        };
        let (parent, marker) = self.tree.parent(path)?;
        let written = match parent.symlink_metadata(&hidden) {
            // A whiteout is about lower layers; what this layer has of that name stays, whatever their order.
            Ok(there) if there.is_dir() => self.opaque(&parent, &hidden),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if self.overlay {
                    attributes::whiteout(&parent, &hidden)
                } else {
                    self.tree.remove(&parent, marker).and_then(|()| parent.create(marker).map(drop))
                }
            }
            Err(error) => Err(error),
        };
        written.map_err(write_error(path))
    }

    fn opaque(&self, parent: &Dir, name: &OsStr) -> io::Result<()> {
        let directory = parent.open_dir(name)?;
        if self.overlay {
            attributes::opaque(&directory)
        } else {
            let marker = attributes::name(OPAQUE_MARKER).unwrap_or_default();
            directory.create(marker).map(drop)
        }
    }

    fn finish(mut self) -> Result<Placed, LayerError> {
        for (path, meta) in std::mem::take(&mut self.directories) {
            let owned = if path.as_os_str().is_empty() {
                attributes::set_directory(&self.tree.root(), &meta)
            } else {
                // A directory that was replaced later has other attributes, or none to set.
                let Ok((parent, name)) = self.tree.existing_parent(&path) else { continue };
                if !parent.symlink_metadata(name).is_ok_and(|there| there.is_dir()) {
                    continue;
                }
                parent.open_dir(name).and_then(|directory| attributes::set_directory(&directory, &meta))
            };
            self.placed.owners += u64::from(!owned.map_err(write_error(&path))?);
        }
        Ok(self.placed)
    }
}

fn meta(entry: &mut Entry<'_, '_>, shown: &Path) -> Result<Meta, LayerError> {
    let malformed = |_| refused(shown, EntryRefusal::Number);
    let id = |id: u64| u32::try_from(id).map_err(|_| refused(shown, EntryRefusal::Number));
    let header = entry.header();
    let mut meta = Meta {
        mode: header.mode().map_err(malformed)? & 0o7777,
        uid: id(header.uid().map_err(malformed)?)?,
        gid: id(header.gid().map_err(malformed)?)?,
        // Base-256 times before 1970 come out as huge numbers; two's complement makes them right again.
        seconds: header.mtime().map_err(malformed)?.cast_signed(),
        ..Meta::default()
    };
    let Some(extensions) = entry.pax_extensions().map_err(LayerError::Archive)? else { return Ok(meta) };
    for extension in extensions {
        let extension = extension.map_err(LayerError::Archive)?;
        let (key, value) = (extension.key_bytes(), extension.value_bytes());
        let text = || std::str::from_utf8(value).map_err(|_| refused(shown, EntryRefusal::Number));
        let number = || text()?.parse::<u32>().map_err(|_| refused(shown, EntryRefusal::Number));
        match key {
            b"uid" => meta.uid = number()?,
            b"gid" => meta.gid = number()?,
            b"mtime" => {
                (meta.seconds, meta.nanoseconds) =
                    time(text()?).ok_or_else(|| refused(shown, EntryRefusal::Number))?;
            }
            key if key.starts_with(b"GNU.sparse.") => {
                let sparse = meta.sparse.get_or_insert_default();
                sparse
                    .record(&key[b"GNU.sparse.".len()..], value)
                    .ok_or_else(|| refused(shown, EntryRefusal::Sparse))?;
            }
            key => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    if name.contains(&0) {
                        return Err(refused(shown, EntryRefusal::Name));
                    }
                    // Overlayfs's own attributes would let an image redirect lookups; only we write those.
                    let ours = [&b"trusted."[..], b"user.overlay.", b"user.umiak."]
                        .iter()
                        .any(|own| name.starts_with(own));
                    if !ours && !name.is_empty() {
                        meta.xattrs.push((name.to_owned(), value.to_owned()));
                    }
                }
            }
        }
    }
    Ok(meta)
}

/// A PAX time: seconds with an optional fraction, perhaps negative.
fn time(text: &str) -> Option<(i64, u32)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let nanoseconds: u32 = format!("{fraction:0<9.9}").parse().ok()?;
    if text.starts_with('-') && nanoseconds > 0 {
        return Some((seconds.checked_sub(1)?, 1_000_000_000 - nanoseconds));
    }
    Some((seconds, nanoseconds))
}
