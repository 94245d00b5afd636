//! Archives of images, as they are read: every member into a [`Spool`], hashed, before any of them is believed.
//!
//! What the members mean is told elsewhere; here they are names and bytes. The order of members is not relied upon, since
//! docker writes its manifest last, and an archive may come from a pipe. A name that leaves the archive, or that occurs
//! twice with different bytes, is refused. Links are kept as names: nothing is ever looked up on the host.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use sha2::{Digest as _, Sha256};
use tar::EntryType;

use super::layer::apply::{Bounded, HEADER_LIMIT};
use super::layer::stream::decoder;
use super::layer::tree::normalise;
use super::{EntryRefusal, Spool, Spooled, Store, StoreError};
use crate::model::{Digest, ErrorKind, Kind, LayerKind};

/// Members that an archive may have: images have a few blobs each.
const MEMBERS: usize = 20_000;
/// Bytes of a member's name.
const NAME: usize = 1024;
/// Bytes of all members.
const BYTES: u64 = 1 << 40;
/// Links from member to member.
const LINKS: u32 = 10;

/// An archive that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The stream is damaged, or not an archive at all.
    #[error("it is truncated, damaged or not a tar archive")]
    Damaged(#[source] io::Error),
    /// It is empty.
    #[error("it is empty")]
    Empty,
    /// A member is not acceptable.
    #[error("its member `{name}`: {reason}")]
    Member {
        /// The name.
        name: String,
        /// What is wrong with it.
        reason: EntryRefusal,
    },
    /// A name occurs twice.
    #[error("its member `{name}` occurs twice with different content")]
    Twice {
        /// The name.
        name: String,
    },
    /// A bound was exceeded.
    #[error("it has more than {limit} {unit}")]
    TooLarge {
        /// The bound.
        limit: u64,
        /// Of what.
        unit: &'static str,
    },
    /// What a member links to, or what a document names, is not there.
    #[error("its member `{name}` is missing")]
    Missing {
        /// The name.
        name: String,
    },
    /// The store's own trouble.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Kind for ArchiveError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Store(error) => error.kind(),
            _ => ErrorKind::InvalidInput,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Store(error) => error.hints(),
            _ => Vec::new(),
        }
    }
}

/// What a name in the archive stands for.
#[derive(Debug, Clone)]
enum Member {
    File(Spooled),
    /// A blob that the store has: its bytes were passed over.
    Known(Digest),
    Link(String),
}

/// The content of a member.
#[derive(Debug, Clone)]
pub enum Found {
    /// In the spool.
    Spooled(Spooled),
    /// In the store already.
    Stored(Digest),
}

/// Whether a blob of this size is in the store and stays there, so that its bytes need not be read again.
pub type Hold<'h> = &'h dyn Fn(&Digest, u64) -> bool;

/// An archive that was read to its end.
#[derive(Debug)]
pub struct Members {
    spool: Spool,
    members: BTreeMap<String, Member>,
}

impl Members {
    /// Reads a tar archive, plain or compressed. `hold` is told of a blob that the store seems to have, and answers whether it
    /// is there and stays.
    pub fn read(store: &Store, from: impl Read, hold: Hold<'_>) -> Result<Self, ArchiveError> {
        let mut reader = BufReader::with_capacity(256 << 10, from);
        if io::BufRead::fill_buf(&mut reader).map_err(ArchiveError::Damaged)?.is_empty() {
            return Err(ArchiveError::Empty);
        }
        let stream = decoder(reader, LayerKind::Tar).map_err(ArchiveError::Damaged)?;
        let (bounded, left) = Bounded::new(stream);
        let mut archive = tar::Archive::new(bounded);
        let mut members = Self { spool: store.spool()?, members: BTreeMap::new() };
        let mut total = 0_u64;
        for entry in archive.entries().map_err(ArchiveError::Damaged)? {
            let mut entry = entry.map_err(ArchiveError::Damaged)?;
            left.set(u64::MAX);
            members.entry(hold, &mut entry, &mut total)?;
            io::copy(&mut entry, &mut io::sink()).map_err(ArchiveError::Damaged)?;
            drop(entry);
            left.set(HEADER_LIMIT);
        }
        Ok(members)
    }

    fn entry<R: Read>(
        &mut self,
        hold: Hold<'_>,
        entry: &mut tar::Entry<'_, R>,
        total: &mut u64,
    ) -> Result<(), ArchiveError> {
        let kind = entry.header().entry_type();
        let bytes = entry.path_bytes().into_owned();
        let shown = || String::from_utf8_lossy(&bytes).chars().take(256).collect::<String>();
        let refused = |reason| ArchiveError::Member { name: shown(), reason };
        if kind.is_pax_global_extensions() || kind.is_dir() {
            return Ok(());
        }
        let path = normalise(&bytes).map_err(refused)?;
        if bytes.len() > NAME {
            return Err(refused(EntryRefusal::Name));
        }
        let name = path.to_str().ok_or_else(|| refused(EntryRefusal::Name))?.replace('\\', "/");
        let member = match kind {
            EntryType::Regular | EntryType::Continuous => {
                *total = total.saturating_add(entry.size());
                if *total > BYTES {
                    return Err(ArchiveError::TooLarge { limit: BYTES, unit: "bytes" });
                }
                match known(hold, &name, entry.size()) {
                    Some(digest) => Member::Known(digest),
                    None => self.spool(entry)?,
                }
            }
            EntryType::Symlink | EntryType::Link => {
                let target = entry.link_name_bytes().unwrap_or_default().into_owned();
                let target = String::from_utf8(target).map_err(|_| refused(EntryRefusal::LinkTarget))?;
                let base =
                    if kind.is_symlink() { name.rsplit_once('/').map_or("", |(dir, _)| dir) } else { "" };
                Member::Link(join(base, &target).ok_or_else(|| refused(EntryRefusal::LinkTarget))?)
            }
            _ => return Err(refused(EntryRefusal::Type)),
        };
        self.add(name, member)
    }

    /// Reads the files of an OCI image layout from a directory.
    pub fn read_directory(store: &Store, path: &Path, hold: Hold<'_>) -> Result<Self, ArchiveError> {
        let failed = StoreError::io("open", path);
        let root = Dir::open_ambient_dir(path, ambient_authority()).map_err(failed)?;
        let mut members = Self { spool: store.spool()?, members: BTreeMap::new() };
        for name in ["oci-layout", "index.json", "manifest.json", "repositories"] {
            members.take(hold, &root, name)?;
        }
        for entry in root.read_dir("blobs/sha256").into_iter().flatten() {
            let entry = entry.map_err(ArchiveError::Damaged)?;
            if let Some(name) = entry.file_name().to_str() {
                members.take(hold, &root, &format!("blobs/sha256/{name}"))?;
            }
        }
        Ok(members)
    }

    fn take(&mut self, hold: Hold<'_>, root: &Dir, name: &str) -> Result<(), ArchiveError> {
        // Followed within the directory only. A pipe must not be waited for.
        let Ok(metadata) = root.metadata(name) else { return Ok(()) };
        if !metadata.is_file() {
            return Ok(());
        }
        let member = match known(hold, name, metadata.len()) {
            Some(digest) => Member::Known(digest),
            None => self.spool(&mut root.open(name).map_err(ArchiveError::Damaged)?)?,
        };
        self.add(name.to_owned(), member)
    }

    fn spool(&mut self, from: &mut dyn Read) -> Result<Member, ArchiveError> {
        Ok(Member::File(self.spool.write(from)?.map_err(ArchiveError::Damaged)?))
    }

    fn add(&mut self, name: String, member: Member) -> Result<(), ArchiveError> {
        if self.members.len() >= MEMBERS {
            return Err(ArchiveError::TooLarge { limit: MEMBERS as u64, unit: "members" });
        }
        let same = match (self.members.get(&name), &member) {
            (None, _) => true,
            (Some(Member::File(old)), Member::File(new)) => old.digest() == new.digest(),
            (Some(Member::Known(old)), Member::Known(new)) => old == new,
            (Some(Member::Link(old)), Member::Link(new)) => old == new,
            (Some(_), _) => false,
        };
        if !same {
            return Err(ArchiveError::Twice { name });
        }
        self.members.insert(name, member);
        Ok(())
    }

    /// The content of a member; links are followed within the archive.
    pub fn find(&self, name: &str) -> Result<Found, ArchiveError> {
        let missing = || ArchiveError::Missing { name: name.chars().take(256).collect() };
        let mut at = join("", name).ok_or_else(missing)?;
        for _ in 0..LINKS {
            match self.members.get(&at).ok_or_else(missing)? {
                Member::File(spooled) => return Ok(Found::Spooled(spooled.clone())),
                Member::Known(digest) => return Ok(Found::Stored(digest.clone())),
                Member::Link(to) => at.clone_from(to),
            }
        }
        Err(missing())
    }

    /// A small member's bytes; `None` if there is none of this name.
    pub fn small(&self, store: &Store, name: &str, limit: u64) -> Result<Option<Vec<u8>>, ArchiveError> {
        match self.find(name) {
            Ok(Found::Spooled(spooled)) => Ok(Some(spooled.read_small(limit)?)),
            Ok(Found::Stored(digest)) => Ok(Some(store.content().read_small(&digest, limit)?)),
            Err(ArchiveError::Missing { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Room for files that are made while the archive is made sense of.
    pub fn spool_mut(&mut self) -> &mut Spool {
        &mut self.spool
    }
}

/// The blob that a member of an image layout is, if the store has it.
fn known(hold: Hold<'_>, name: &str, size: u64) -> Option<Digest> {
    let digest: Digest = format!("sha256:{}", name.strip_prefix("blobs/sha256/")?).parse().ok()?;
    hold(&digest, size).then_some(digest)
}

/// A name of the archive, relative to a directory of it; `None` if it leaves the archive.
fn join(base: &str, name: &str) -> Option<String> {
    if name.starts_with('/') || name.contains('\0') {
        return None;
    }
    let mut parts: Vec<&str> = base.split('/').filter(|part| !part.is_empty()).collect();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// Opens the uncompressed bytes of a file.
pub fn open_uncompressed(path: &Path) -> Result<Box<dyn Read>, StoreError> {
    let file = File::open(path).map_err(StoreError::io("open", path))?;
    decoder(BufReader::with_capacity(256 << 10, file), LayerKind::Tar).map_err(StoreError::io("read", path))
}

/// The digest of a stream.
pub fn digest(from: &mut dyn Read) -> io::Result<Digest> {
    let mut hash = Sha256::new();
    let mut block = vec![0; 256 << 10];
    loop {
        match from.read(&mut block) {
            Ok(0) => return Ok(Digest::from_hash(hash.finalize().into())),
            Ok(count) => hash.update(&block[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// What a file's first bytes say of its compression; `None` where a layer may not be compressed so (bzip2, xz).
pub fn compression(path: &Path) -> Result<Option<LayerKind>, StoreError> {
    let mut magic = Vec::new();
    File::open(path)
        .and_then(|file| file.take(4).read_to_end(&mut magic))
        .map_err(StoreError::io("read", path))?;
    Ok(match magic.as_slice() {
        [0x1f, 0x8b, ..] => Some(LayerKind::TarGzip),
        [0x28, 0xb5, 0x2f, 0xfd] => Some(LayerKind::TarZstd),
        [b'B', b'Z', b'h', _] | [0xfd, b'7', b'z', b'X'] | [0x50..=0x5f, 0x2a, 0x4d, 0x18] => None,
        _ => Some(LayerKind::Tar),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_the_archive() {
        for (base, name, expected) in [
            ("", "a/b", Some("a/b")),
            ("a", "../b/layer.tar", Some("b/layer.tar")),
            ("", "./a//b/", Some("a/b")),
            ("", "../x", None),
            ("a", "../../x", None),
            ("", "/etc/shadow", None),
        ] {
            assert_eq!(join(base, name).as_deref(), expected, "{base} {name}");
        }
    }
}
