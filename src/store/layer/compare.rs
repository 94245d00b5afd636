//! Two trees, compared: names, metadata, attributes, and what files hold.

use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::seal::{describe, moment};
use crate::store::Flaw;

/// The first difference that makes `found` another tree than `expected`.
pub(in crate::store) fn difference(expected: &Path, found: &Path) -> Option<Flaw> {
    let mut pending = vec![PathBuf::new()];
    let root = attributes(expected, found, Path::new(""));
    if root.is_some() {
        return root;
    }
    while let Some(relative) = pending.pop() {
        let (left, right) = match (names(&expected.join(&relative)), names(&found.join(&relative))) {
            (Ok(left), Ok(right)) => (left, right),
            (Err(error), _) | (_, Err(error)) => return Some(Flaw::Unreadable { why: error.to_string() }),
        };
        if let Some(name) = right.iter().find(|name| !left.contains(*name)) {
            return flaw(&relative.join(name), "is not in the archive");
        }
        for name in left {
            let below = relative.join(&name);
            let different = compare(expected, found, &below);
            if different.is_some() {
                return different;
            }
            if expected.join(&below).symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
                pending.push(below);
            }
        }
    }
    None
}

#[expect(clippy::unnecessary_wraps, reason = "it is what its callers return")]
fn flaw(path: &Path, how: &'static str) -> Option<Flaw> {
    Some(Flaw::Differs { path: path.display().to_string(), how })
}

/// Sorted, so that a look-up is quick and the answer always the same.
fn names(directory: &Path) -> io::Result<std::collections::BTreeSet<OsString>> {
    fs::read_dir(directory)?.map(|entry| entry.map(|entry| entry.file_name())).collect()
}

fn compare(expected: &Path, found: &Path, relative: &Path) -> Option<Flaw> {
    let different = attributes(expected, found, relative);
    if different.is_some() {
        return different;
    }
    let (left, right) = (expected.join(relative), found.join(relative));
    let kind = left.symlink_metadata().ok()?.file_type();
    if kind.is_symlink() {
        return match (fs::read_link(left), fs::read_link(right)) {
            (Ok(one), Ok(other)) if one == other => None,
            _ => flaw(relative, "is a link to something else"),
        };
    }
    if kind.is_file() {
        return match same(&left, &right) {
            Ok(true) => None,
            Ok(false) => flaw(relative, "has other content"),
            Err(error) => Some(Flaw::Unreadable { why: format!("`{}`: {error}", relative.display()) }),
        };
    }
    None
}

fn attributes(expected: &Path, found: &Path, relative: &Path) -> Option<Flaw> {
    let left = expected.join(relative);
    let right = found.join(relative);
    let Ok(wanted) = left.symlink_metadata() else { return flaw(relative, "cannot be compared") };
    let Ok(there) = right.symlink_metadata() else { return flaw(relative, "is missing") };
    // A root that the archive does not list was made by us, whenever that was.
    let ours = relative.as_os_str().is_empty();
    if !ours && describe(&wanted) != describe(&there) {
        return flaw(relative, "has another type, owner, mode or size");
    }
    if timed(relative, &wanted) && moment(&wanted) != moment(&there) {
        return flaw(relative, "has another time");
    }
    if super::attributes::listed(&left) != super::attributes::listed(&right) {
        return flaw(relative, "has other extended attributes");
    }
    None
}

/// Whether the archive says when this was changed: not of whiteouts, nor of directories that it only implies. Elsewhere than
/// on Linux no times are set.
fn timed(relative: &Path, metadata: &Metadata) -> bool {
    let name = relative.file_name().unwrap_or_default().as_encoded_bytes();
    let plain = metadata.is_file() || metadata.is_symlink();
    cfg!(target_os = "linux") && plain && !name.starts_with(super::MARKER)
}

fn same(left: &Path, right: &Path) -> io::Result<bool> {
    let (mut left, mut right) = (File::open(left)?, File::open(right)?);
    let (mut one, mut other) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        let count = left.read(&mut one)?;
        if count == 0 {
            return Ok(right.read(&mut other)? == 0);
        }
        match right.read_exact(&mut other[..count]) {
            Ok(()) if one[..count] == other[..count] => {}
            Ok(()) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}
