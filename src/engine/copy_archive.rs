//! `cp` from and to an archive: a container's files on standard output, or from standard input.
//!
//! The invariants of [`super::copy`] hold: a path is followed within the container's root once, to an open directory; from there
//! on names are single components in open directories. In an archive that comes in, devices are refused, since their
//! attributes could only be set by name; owners are the archive's.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use super::copy::{CopyError, End, look, split};
use super::{Engine, EngineError};
use crate::store::layer::pack::Pack;
use crate::store::layer::unpack_files;

impl Engine {
    /// Writes a file or a directory of a container as an archive, under its own name.
    pub fn copy_out(&self, from: &End, follow: bool, to: &mut dyn Write) -> Result<(), EngineError> {
        let path = from.path();
        let source = self.tree(from)?;
        let missing = || CopyError::Missing { path: path.to_owned(), whose: source.whose() };
        let contents = path.ends_with("/.");
        let (parent, name) = split(path);
        let (dir, name) = match name {
            Some(name) if !contents => (source.directory(&parent).map_err(|_| missing())?, name),
            _ => (source.directory(path).map_err(|_| missing())?, OsString::from(".")),
        };
        let (dir, name, metadata) = look(&source, dir, name, &parent, follow).map_err(|_| missing())?;
        let shown = if name == "." { PathBuf::new() } else { PathBuf::from(&name) };
        let mut pack = Pack::new(to);
        let packed = pack
            .add(&shown, &dir, &name)
            .and_then(|()| if metadata.is_dir() { pack.tree(&shown, &dir.open_dir(&name)?) } else { Ok(()) });
        let ended = packed.and_then(|()| pack.end());
        ended.map_err(|source| CopyError::Io { path: path.to_owned(), source })?;
        self.copied(from, "archive-path");
        Ok(())
    }

    /// Unpacks an archive, plain or compressed, into a directory of a container. Tells how many bytes of files.
    pub fn copy_in(&self, from: impl Read + Send, to: &End) -> Result<u64, EngineError> {
        let target = self.tree(to)?;
        let path = to.path().to_owned();
        let End::Container { container, .. } = to else { return Err(CopyError::NoDirectory { path }.into()) };
        if target.place(&path).2 {
            return Err(CopyError::ReadOnly { path }.into());
        }
        let no_directory = |_| CopyError::NotDirectory { container: container.clone(), path: path.clone() };
        let dir = target.directory(if path.is_empty() { "/" } else { &path }).map_err(no_directory)?;
        let bytes = unpack_files(dir, from).map_err(CopyError::Archive)?;
        tracing::debug!(bytes, into = %Path::new(&path).display(), "unpacked");
        self.copied(to, "extract-to-dir");
        Ok(bytes)
    }
}
