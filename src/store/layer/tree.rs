//! A layer's root as a capability: names in it are followed through open directories, symbolic links as in a chroot.
//!
//! Why not `openat2(RESOLVE_IN_ROOT)`: missing parents are made on the way, other systems lack the call, and with the
//! directories kept open nearly every entry costs one lookup of one component anyway.

use std::collections::{HashMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use cap_std::fs::Dir;

use super::{LayerError, write_error};
use crate::store::EntryRefusal;

/// As the kernel's: symbolic links followed in one name.
const MAX_LINKS: u32 = 40;
/// Directories kept open.
const KEPT: usize = 256;

/// The root of a layer that is being unpacked.
#[derive(Debug)]
pub(super) struct Tree {
    root: Rc<Dir>,
    kept: HashMap<PathBuf, Rc<Dir>>,
}

impl Tree {
    pub(super) fn new(root: Dir) -> Self {
        Self { root: Rc::new(root), kept: HashMap::new() }
    }

    pub(super) fn root(&self) -> Rc<Dir> {
        Rc::clone(&self.root)
    }

    /// The directory that holds `path` (a normalised name), made if it is missing; and the last component.
    pub(super) fn parent<'p>(&mut self, path: &'p Path) -> Result<(Rc<Dir>, &'p OsStr), LayerError> {
        let name = path.file_name().ok_or_else(|| refused(path, EntryRefusal::Name))?;
        Ok((self.directory(path.parent().unwrap_or(Path::new("")), path, true)?, name))
    }

    /// The directory that holds `path`, if it is there.
    pub(super) fn existing_parent<'p>(&mut self, path: &'p Path) -> Result<(Rc<Dir>, &'p OsStr), LayerError> {
        let name = path.file_name().ok_or_else(|| refused(path, EntryRefusal::LinkTarget))?;
        Ok((self.directory(path.parent().unwrap_or(Path::new("")), path, false)?, name))
    }

    fn directory(&mut self, wanted: &Path, entry: &Path, make: bool) -> Result<Rc<Dir>, LayerError> {
        if wanted.as_os_str().is_empty() {
            return Ok(self.root());
        }
        if let Some(kept) = self.kept.get(wanted) {
            return Ok(Rc::clone(kept));
        }
        let found = self.walk(wanted, entry, make)?;
        if self.kept.len() >= KEPT {
            self.kept.clear();
        }
        self.kept.insert(wanted.to_owned(), Rc::clone(&found));
        Ok(found)
    }

    fn walk(&mut self, wanted: &Path, entry: &Path, make: bool) -> Result<Rc<Dir>, LayerError> {
        let mut stack = vec![self.root()];
        let mut ahead: VecDeque<OsString> = wanted.components().map(|c| c.as_os_str().to_owned()).collect();
        // A parent that is open already saves the walk to it.
        if let (Some(above), Some(last)) = (wanted.parent(), wanted.file_name())
            && let Some(kept) = self.kept.get(above)
            && kept.symlink_metadata(last).is_ok_and(|metadata| metadata.is_dir())
        {
            return kept.open_dir(last).map(Rc::new).map_err(write_error(entry));
        }
        let mut links = 0;
        while let Some(name) = ahead.pop_front() {
            if name == ".." {
                if stack.len() > 1 {
                    stack.pop();
                }
                continue;
            }
            let here = stack.last().map_or_else(|| self.root(), Rc::clone);
            match here.symlink_metadata(&name) {
                Ok(metadata) if metadata.is_dir() => {}
                Ok(metadata) if metadata.is_symlink() => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(refused(entry, EntryRefusal::Loop));
                    }
                    let target = here.read_link_contents(&name).map_err(write_error(entry))?;
                    for component in target.components().rev() {
                        match component {
                            Component::Normal(part) => ahead.push_front(part.to_owned()),
                            Component::ParentDir => ahead.push_front("..".into()),
                            Component::RootDir | Component::Prefix(_) => stack.truncate(1),
                            Component::CurDir => {}
                        }
                    }
                    continue;
                }
                Ok(_) => return Err(refused(entry, EntryRefusal::NotDirectory)),
                Err(error) if error.kind() == io::ErrorKind::NotFound && make => {
                    here.create_dir(&name).map_err(write_error(entry))?;
                    let fresh = here.open_dir(&name).map_err(write_error(entry))?;
                    super::attributes::implied(&fresh).map_err(write_error(entry))?;
                    stack.push(Rc::new(fresh));
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Err(refused(entry, EntryRefusal::LinkTarget));
                }
                Err(error) => return Err(write_error(entry)(error)),
            }
            stack.push(Rc::new(here.open_dir(&name).map_err(write_error(entry))?));
        }
        Ok(stack.pop().unwrap_or_else(|| self.root()))
    }

    /// Removes what is at a name, whatever it is; links are not followed.
    pub(super) fn remove(&mut self, parent: &Dir, name: &OsStr) -> io::Result<()> {
        let metadata = match parent.symlink_metadata(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        if metadata.is_dir() || metadata.is_symlink() {
            // Names that led through it lead elsewhere now.
            self.kept.clear();
        }
        if metadata.is_dir() { parent.remove_dir_all(name) } else { parent.remove_file(name) }
    }
}

/// The name of an entry as a relative path without `.` and `..`; empty for the root itself.
pub(in crate::store) fn normalise(bytes: &[u8]) -> Result<PathBuf, EntryRefusal> {
    if bytes.len() > 4096 {
        return Err(EntryRefusal::LongName);
    }
    if bytes.contains(&0) {
        return Err(EntryRefusal::Name);
    }
    let mut path = PathBuf::new();
    for part in bytes.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Err(EntryRefusal::Escape),
            part => {
                let part = super::attributes::name(part).ok_or(EntryRefusal::Name)?;
                // On Windows a name may hold separators, drives and streams.
                let mut parts = Path::new(&part).components();
                if !matches!((parts.next(), parts.next()), (Some(Component::Normal(only)), None) if only == part)
                {
                    return Err(EntryRefusal::Name);
                }
                path.push(part);
            }
        }
    }
    Ok(path)
}

pub(super) fn refused(path: &Path, reason: EntryRefusal) -> LayerError {
    LayerError::Entry { path: path.display().to_string(), reason }
}
