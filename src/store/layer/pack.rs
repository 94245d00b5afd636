//! Writing archives of files: a layer from changes, a whole tree for `export`, what `cp` hands out.
//!
//! The format is ustar with PAX records where ustar has no room: long names, fractions of seconds, attributes, large numbers.
//! A file with large holes is written in PAX's sparse format 1.0, which GNU tar, Go (docker, podman) and we read. Sockets have no
//! place in an archive and are left out, as docker leaves them out.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::{self, Read, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};

use cap_std::fs::{Dir, File, OpenOptions};

use super::apply::{MARKER, OPAQUE_MARKER};
use super::attributes::{self, Facts, Form};
use super::diff::{Change, Item, Visitor};
use super::view::View;

/// Bytes of holes from which on a file is written as sparse.
const HOLES: u64 = 1 << 20;
/// The largest size and id of a plain header.
const OCTAL_SIZE: u64 = 0o777_7777_7777;
const OCTAL_ID: u32 = 0o777_7777;
const NAME: usize = 100;

/// An archive being written.
pub struct Pack<'w> {
    to: &'w mut dyn Write,
    /// Where files with several names came first.
    links: HashMap<(u64, u64), PathBuf>,
    block: Vec<u8>,
    /// Bytes of files.
    bytes: u64,
}

impl std::fmt::Debug for Pack<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pack").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

/// A header, before it is laid out.
struct Entry<'a> {
    path: &'a [u8],
    kind: tar::EntryType,
    link: &'a [u8],
    size: u64,
    device: (u32, u32),
    /// More PAX records.
    records: Vec<(String, Vec<u8>)>,
}

impl<'w> Pack<'w> {
    /// An archive into a stream.
    pub fn new(to: &'w mut dyn Write) -> Self {
        Self { to, links: HashMap::new(), block: vec![0; 128 << 10], bytes: 0 }
    }

    /// Bytes of the files so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The two empty blocks that end an archive.
    pub fn end(self) -> io::Result<()> {
        self.to.write_all(&[0; 1024])?;
        self.to.flush()
    }

    /// Writes one thing under a name; what is in a directory is not its matter.
    pub fn add(&mut self, as_path: &Path, parent: &Dir, name: &OsStr) -> io::Result<()> {
        let facts = attributes::facts(&parent.symlink_metadata(name)?);
        self.put(as_path, parent, name, &facts)
    }

    /// Writes a directory's content, under a prefix, links not followed.
    pub fn tree(&mut self, at: &Path, dir: &Dir) -> io::Result<()> {
        let mut names = std::collections::BTreeSet::new();
        for entry in dir.entries()? {
            names.insert(entry?.file_name());
        }
        for name in names {
            let metadata = match dir.symlink_metadata(&name) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other?,
            };
            let path = at.join(&name);
            self.put(&path, dir, &name, &attributes::facts(&metadata))?;
            if metadata.is_dir() {
                match dir.open_dir(&name) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    other => self.tree(&path, &other?)?,
                }
            }
        }
        Ok(())
    }

    /// Writes the content of a union's directory.
    pub(in crate::store) fn view(&mut self, at: &Path, view: &View) -> io::Result<()> {
        for name in view.names()? {
            let Some(node) = view.find(&name)? else { continue };
            let path = at.join(&name);
            self.put(&path, node.parent, &name, &attributes::facts(&node.metadata))?;
            if let Some(below) = &node.directory {
                self.view(&path, below)?;
            }
        }
        Ok(())
    }

    fn put(&mut self, path: &Path, parent: &Dir, name: &OsStr, facts: &Facts) -> io::Result<()> {
        let mut bytes = slashes(path);
        let mut entry = Entry {
            path: &bytes,
            kind: tar::EntryType::Regular,
            link: b"",
            size: 0,
            device: (0, 0),
            records: Vec::new(),
        };
        let xattrs = |facts: &mut Facts, entry: &mut Entry<'_>| -> io::Result<()> {
            for (key, value) in attributes::extended(parent, name, facts)? {
                entry.records.push((format!("SCHILY.xattr.{key}"), value));
            }
            Ok(())
        };
        let mut facts = facts.clone();
        if facts.form != Form::Directory
            && let Some(identity) = facts.shared
        {
            if let Some(first) = self.links.get(&identity) {
                let first = slashes(first);
                (entry.kind, entry.link) = (tar::EntryType::Link, &first);
                return self.header(&entry, &facts);
            }
            self.links.insert(identity, path.to_owned());
        }
        match facts.form {
            Form::Socket => Ok(()),
            Form::Directory => {
                xattrs(&mut facts, &mut entry)?;
                let records = std::mem::take(&mut entry.records);
                if bytes.is_empty() {
                    bytes.push(b'.');
                }
                bytes.push(b'/');
                let entry = Entry {
                    path: &bytes,
                    kind: tar::EntryType::Directory,
                    link: b"",
                    size: 0,
                    device: (0, 0),
                    records,
                };
                self.header(&entry, &facts)
            }
            Form::Link => {
                xattrs(&mut facts, &mut entry)?;
                let target = parent.read_link_contents(name)?;
                let target = target.as_os_str().as_encoded_bytes();
                (entry.kind, entry.link) = (tar::EntryType::Symlink, target);
                self.header(&entry, &facts)
            }
            Form::Character | Form::Block | Form::Pipe => {
                xattrs(&mut facts, &mut entry)?;
                entry.kind = match facts.form {
                    Form::Character => tar::EntryType::Char,
                    Form::Block => tar::EntryType::Block,
                    _ => tar::EntryType::Fifo,
                };
                entry.device = facts.device;
                self.header(&entry, &facts)
            }
            Form::File => {
                let mut reading = OpenOptions::new();
                reading.read(true);
                attributes::without_waiting(&mut reading);
                let file = match parent.open_with(name, &reading) {
                    // Gone meanwhile: as if it had been so from the beginning.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                    other => other?,
                };
                // What it is now, not what it was at the look.
                let now = attributes::facts(&file.metadata()?);
                if now.form != Form::File {
                    return Ok(());
                }
                facts.size = now.size;
                xattrs(&mut facts, &mut entry)?;
                self.file(entry, &facts, file)
            }
        }
    }

    fn file(&mut self, mut entry: Entry<'_>, facts: &Facts, mut file: File) -> io::Result<()> {
        self.bytes += facts.size;
        let pieces = attributes::pieces(&file, facts.size)?;
        let held: u64 = pieces.iter().map(|(_, length)| length).sum();
        if facts.size - held < HOLES {
            entry.size = facts.size;
            self.header(&entry, facts)?;
            file.seek(SeekFrom::Start(0))?;
            self.data(&mut file, facts.size)?;
            return self.pad(facts.size);
        }
        let mut map = format!("{}\n", pieces.len());
        for (offset, length) in &pieces {
            map.extend([offset.to_string().as_str(), "\n", &length.to_string(), "\n"]);
        }
        let mut map = map.into_bytes();
        map.resize(map.len().next_multiple_of(512), 0);
        entry.records.extend([
            ("GNU.sparse.major".to_owned(), b"1".to_vec()),
            ("GNU.sparse.minor".to_owned(), b"0".to_vec()),
            ("GNU.sparse.name".to_owned(), entry.path.to_vec()),
            ("GNU.sparse.realsize".to_owned(), facts.size.to_string().into_bytes()),
        ]);
        entry.size = map.len() as u64 + held;
        let stored = entry.size;
        // Readers that know nothing of it unpack it beside its place.
        let (dir, base) = match entry.path.iter().rposition(|byte| *byte == b'/') {
            Some(at) => entry.path.split_at(at + 1),
            None => (&b""[..], entry.path),
        };
        let beside = [dir, b"GNUSparseFile.0/", base].concat();
        let Entry { kind, link, size, device, records, .. } = entry;
        self.header(&Entry { path: &beside, kind, link, size, device, records }, facts)?;
        self.to.write_all(&map)?;
        for (offset, length) in pieces {
            file.seek(SeekFrom::Start(offset))?;
            self.data(&mut file, length)?;
        }
        self.pad(stored)
    }

    /// So many bytes; a file that shrank meanwhile is filled with zeros.
    fn data(&mut self, file: &mut File, size: u64) -> io::Result<()> {
        let mut left = size;
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(self.block.len());
            let mut count = file.read(&mut self.block[..most])?;
            if count == 0 {
                self.block[..most].fill(0);
                count = most;
            }
            self.to.write_all(&self.block[..count])?;
            left -= count as u64;
        }
        Ok(())
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let padding = usize::try_from(size.wrapping_neg() % 512).unwrap_or(0);
        self.to.write_all(&[0; 512][..padding])
    }

    fn header(&mut self, entry: &Entry<'_>, facts: &Facts) -> io::Result<()> {
        let mut records: Vec<(&str, Vec<u8>)> = Vec::new();
        if entry.path.len() > NAME {
            records.push(("path", entry.path.to_vec()));
        }
        if entry.link.len() > NAME {
            records.push(("linkpath", entry.link.to_vec()));
        }
        if entry.size > OCTAL_SIZE {
            records.push(("size", entry.size.to_string().into_bytes()));
        }
        for (key, id) in [("uid", facts.uid), ("gid", facts.gid)] {
            if id > OCTAL_ID {
                records.push((key, id.to_string().into_bytes()));
            }
        }
        if facts.nanoseconds != 0 || facts.seconds < 0 {
            records.push(("mtime", moment(facts.seconds, facts.nanoseconds).into_bytes()));
        }
        records.extend(entry.records.iter().map(|(key, value)| (key.as_str(), value.clone())));
        if !records.is_empty() {
            let body: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
            let mut header = plain(b"PaxHeaders.0/x", tar::EntryType::XHeader, body.len() as u64);
            header.set_cksum();
            self.to.write_all(header.as_bytes())?;
            self.to.write_all(&body)?;
            self.pad(body.len() as u64)?;
        }
        let mut header = plain(entry.path, entry.kind, if entry.size > OCTAL_SIZE { 0 } else { entry.size });
        header.set_mode(facts.mode);
        let id = |id: u32| u64::from(if id > OCTAL_ID { 0 } else { id });
        header.set_uid(id(facts.uid));
        header.set_gid(id(facts.gid));
        header.set_mtime(u64::try_from(facts.seconds).unwrap_or(0));
        if let Some(ustar) = header.as_ustar_mut() {
            let cut = &entry.link[..entry.link.len().min(NAME)];
            ustar.linkname[..cut.len()].copy_from_slice(cut);
        }
        header.set_device_major(entry.device.0)?;
        header.set_device_minor(entry.device.1)?;
        header.set_cksum();
        self.to.write_all(header.as_bytes())
    }

    /// An empty file of this name: a whiteout.
    fn marker(&mut self, path: &Path) -> io::Result<()> {
        let bytes = slashes(path);
        let entry = Entry {
            path: &bytes,
            kind: tar::EntryType::Regular,
            link: b"",
            size: 0,
            device: (0, 0),
            records: Vec::new(),
        };
        self.header(&entry, &Facts::empty())
    }
}

impl Visitor for Pack<'_> {
    fn changed(&mut self, _: Change, item: &Item<'_>) -> io::Result<()> {
        self.put(item.path, item.parent, item.name, item.facts)
    }

    fn deleted(&mut self, path: &Path) -> io::Result<()> {
        let mut name = MARKER.to_vec();
        name.extend_from_slice(path.file_name().unwrap_or_default().as_encoded_bytes());
        self.marker(&path.with_file_name(attributes::name(&name).unwrap_or_default()))
    }

    fn opaque(&mut self, path: &Path, _: &[PathBuf]) -> io::Result<()> {
        self.marker(&path.join(attributes::name(OPAQUE_MARKER).unwrap_or_default()))
    }
}

fn plain(path: &[u8], kind: tar::EntryType, size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    let cut = &path[..path.len().min(NAME)];
    header.as_old_mut().name[..cut.len()].copy_from_slice(cut);
    header
}

/// `LENGTH KEY=VALUE\n`, where the length counts its own digits.
fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length.to_string().len() + rest != length {
        length = length.to_string().len() + rest;
    }
    let mut out = format!("{length} {key}=").into_bytes();
    out.extend_from_slice(value);
    out.push(b'\n');
    out
}

fn moment(seconds: i64, nanoseconds: u32) -> String {
    match (seconds, nanoseconds) {
        (_, 0) => seconds.to_string(),
        // The whole seconds lie before the moment, the text counts from zero.
        (..0, _) if seconds + 1 == 0 => format!("-0.{:09}", 1_000_000_000 - nanoseconds),
        (..0, _) => format!("{}.{:09}", seconds + 1, 1_000_000_000 - nanoseconds),
        _ => format!("{seconds}.{nanoseconds:09}"),
    }
}

/// A relative path with slashes, whatever the system has.
fn slashes(path: &Path) -> Vec<u8> {
    let parts: Vec<&[u8]> = path.components().map(|part| part.as_os_str().as_encoded_bytes()).collect();
    parts.join(&b'/')
}
