//! Seals: what a published layer looked like, so that a quick check can tell whether it still does.
//!
//! A seal counts a tree's entries and digests their names, types, owners, modes, sizes, times, devices and links, but not
//! what files hold: looking at it costs a walk, not a read of everything. It lies beside the layer, in `seals/`, and is a hint:
//! without one, or with one that was cut short by a power cut, a layer is only unsealed, and a full check seals it anew. What
//! is right is settled by the blob and the `DiffID` alone.

use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use sha2::{Digest as _, Sha256};

use crate::model::Digest;

/// What a tree looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seal {
    /// Names in the tree.
    pub entries: u64,
    /// Bytes of its files, each name counted.
    pub bytes: u64,
    /// Digest of everything but what files hold.
    pub tree: Digest,
}

impl Seal {
    /// Looks at a tree. No link is followed.
    pub fn of(root: &Path) -> io::Result<Self> {
        let mut hash = Sha256::new();
        let mut seal = Self { entries: 0, bytes: 0, tree: Digest::of(b"") };
        walk(root, &mut |path, relative, metadata| {
            seal.entries += 1;
            if metadata.is_file() {
                seal.bytes += metadata.len();
            }
            hash.update(relative.as_os_str().as_encoded_bytes());
            hash.update([0]);
            hash.update(describe(metadata));
            hash.update(moment(metadata).to_le_bytes());
            if metadata.is_symlink() {
                hash.update(fs::read_link(path)?.as_os_str().as_encoded_bytes());
            }
            hash.update([0]);
            Ok(())
        })?;
        seal.tree = Digest::from_hash(hash.finalize().into());
        Ok(seal)
    }

    pub(super) fn text(&self) -> String {
        format!("seal 1\nentries {}\nbytes {}\ntree {}\nend\n", self.entries, self.bytes, self.tree)
    }

    /// `None` for a text that is not whole.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("seal 1\nentries ")?.strip_suffix("\nend\n")?;
        let (entries, rest) = rest.split_once("\nbytes ")?;
        let (bytes, tree) = rest.split_once("\ntree ")?;
        Some(Self { entries: entries.parse().ok()?, bytes: bytes.parse().ok()?, tree: tree.parse().ok()? })
    }
}

/// Visits every name in a tree, and its root as the empty path, in an order that is always the same.
pub(super) fn walk(
    root: &Path,
    visit: &mut impl FnMut(&Path, &Path, &Metadata) -> io::Result<()>,
) -> io::Result<()> {
    let mut pending = vec![PathBuf::new()];
    visit(root, Path::new(""), &fs::symlink_metadata(root)?)?;
    while let Some(relative) = pending.pop() {
        let directory = root.join(&relative);
        let mut names = fs::read_dir(&directory)?
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect::<io::Result<Vec<_>>>()?;
        names.sort_unstable();
        for name in names {
            let path = directory.join(&name);
            let below = relative.join(&name);
            let metadata = fs::symlink_metadata(&path)?;
            visit(&path, &below, &metadata)?;
            if metadata.is_dir() {
                pending.push(below);
            }
        }
    }
    Ok(())
}

/// Everything that an entry's metadata say, but for times: those that an archive does not give are when it was unpacked.
#[cfg(unix)]
pub(super) fn describe(metadata: &Metadata) -> String {
    use std::os::unix::fs::MetadataExt as _;
    // Directories have a size that depends on the file system's mood.
    let size = if metadata.is_dir() { 0 } else { metadata.size() };
    format!("{:o} {}:{} {size} {}", metadata.mode(), metadata.uid(), metadata.gid(), metadata.rdev())
}

#[cfg(not(unix))]
pub(super) fn describe(metadata: &Metadata) -> String {
    let size = if metadata.is_dir() { 0 } else { metadata.len() };
    format!("{} {} {size}", metadata.is_dir(), metadata.is_symlink())
}

/// When an entry was changed last.
pub(super) fn moment(metadata: &Metadata) -> u128 {
    let since = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_else(|before| before.duration());
    metadata.modified().map_or(0, |time| since(time).as_nanos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_tells_every_change_but_that_of_content() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("d")).unwrap();
        fs::write(at("d/f"), "one").unwrap();
        let first = Seal::of(dir.path()).unwrap();
        assert_eq!((first.entries, first.bytes), (3, 3));
        assert_eq!(Seal::parse(&first.text()).as_ref(), Some(&first));
        assert_eq!(Seal::parse(&first.text()[..first.text().len() - 2]), None);
        assert_eq!(Seal::of(dir.path()).unwrap(), first);
        fs::write(at("d/g"), "").unwrap();
        assert_ne!(Seal::of(dir.path()).unwrap().tree, first.tree);
        fs::remove_file(at("d/g")).unwrap();
        fs::write(at("d/f"), "four").unwrap();
        assert_ne!(Seal::of(dir.path()).unwrap().tree, first.tree);
    }
}
