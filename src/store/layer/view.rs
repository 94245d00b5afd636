//! Layers seen as one tree, without a mount: what is in a directory of the union, and where it comes from.
//!
//! Works for every kind of whiteout that [`super`] knows, on every system, and sees a container's changes while another mount
//! has them. Names are single components; nothing is followed.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::PathBuf;

use cap_std::ambient_authority;
use cap_std::fs::{Dir, Metadata};

use super::apply::{MARKER, OPAQUE_MARKER};
use super::attributes;

/// One directory of the union: the directories that it is made of, topmost first.
#[derive(Debug)]
pub(in crate::store) struct View {
    parts: Vec<Dir>,
}

/// What a name of a [`View`] stands for.
#[derive(Debug)]
pub(in crate::store) struct Node<'v> {
    /// The directory that has the topmost one of this name.
    pub(in crate::store) parent: &'v Dir,
    pub(in crate::store) metadata: Metadata,
    /// If it is a directory.
    pub(in crate::store) directory: Option<View>,
}

impl View {
    /// The root of layers, lowest first.
    pub(in crate::store) fn open(layers: &[PathBuf]) -> io::Result<Self> {
        let open = |path: &PathBuf| Dir::open_ambient_dir(path, ambient_authority());
        let all = layers.iter().rev().map(open).collect::<io::Result<Vec<_>>>()?;
        let mut parts = Vec::new();
        for part in all {
            let last = attributes::is_opaque(&part) || has(&part, &marker(OPAQUE_MARKER))?;
            parts.push(part);
            if last {
                break;
            }
        }
        Ok(Self { parts })
    }

    /// The topmost directory: its attributes are those of the union's.
    pub(in crate::store) fn top(&self) -> Option<&Dir> {
        self.parts.first()
    }

    pub(in crate::store) fn find(&self, name: &OsStr) -> io::Result<Option<Node<'_>>> {
        let mut hiding = MARKER.to_vec();
        hiding.extend_from_slice(name.as_encoded_bytes());
        let hiding = marker(&hiding);
        let mut found: Option<Node<'_>> = None;
        for part in &self.parts {
            match part.symlink_metadata(name) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
                Ok(metadata) if attributes::is_whiteout(&metadata) => break,
                Ok(metadata) if metadata.is_dir() => {
                    let directory = part.open_dir(name)?;
                    let last = attributes::is_opaque(&directory) || has(&directory, &marker(OPAQUE_MARKER))?;
                    if let Some(Node { directory: Some(view), .. }) = &mut found {
                        view.parts.push(directory);
                    } else {
                        let directory = Some(Self { parts: vec![directory] });
                        found = Some(Node { parent: part, metadata, directory });
                    }
                    if last {
                        break;
                    }
                }
                Ok(metadata) => {
                    // Below a directory, a file is hidden by it.
                    if found.is_none() {
                        found = Some(Node { parent: part, metadata, directory: None });
                    }
                    break;
                }
            }
            if has(part, &hiding)? {
                break;
            }
        }
        Ok(found)
    }

    /// All names, hidden ones among them: [`Self::find`] tells.
    pub(in crate::store) fn names(&self) -> io::Result<BTreeSet<OsString>> {
        let mut names = BTreeSet::new();
        for part in &self.parts {
            for entry in part.entries()? {
                let name = entry?.file_name();
                if !name.as_encoded_bytes().starts_with(MARKER) {
                    names.insert(name);
                }
            }
        }
        Ok(names)
    }
}

fn marker(bytes: &[u8]) -> OsString {
    attributes::name(bytes).unwrap_or_default()
}

fn has(directory: &Dir, name: &OsStr) -> io::Result<bool> {
    if name.is_empty() {
        return Ok(false);
    }
    match directory.symlink_metadata(name) {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidFilename) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}
