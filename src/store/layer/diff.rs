//! What changed between layers and what a container made of them: for `diff`, and as an archive for `commit`.
//!
//! Two shapes of the new side. An overlay's upper directory has only what changed, with whiteouts; a copied root has
//! everything, and is compared. In both a file counts as unchanged when mode, owner, size, time, device number and capability are the
//! same (docker's rule), so a file that was merely opened for writing is no change.
//!
//! A directory that did not change itself is named only when something in it did. `redirect_dir` and `metacopy` are never in effect:
//! our overlays are mounted without them, and then the kernel copies files up whole and lets no directory of a lower layer be renamed.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use cap_std::fs::Dir;

use super::apply::MARKER;
use super::attributes::{self, Facts};
use super::view::View;

/// How a path changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is new.
    Added,
    /// It was there and is different.
    Modified,
    /// It is gone.
    Deleted,
}

/// The new side.
#[derive(Debug)]
pub(in crate::store) enum Changed {
    /// An overlay's upper directory.
    Upper(Dir),
    /// A whole root.
    Root(Dir),
}

/// A thing that is there and changed.
#[derive(Debug)]
pub(in crate::store) struct Item<'a> {
    pub(in crate::store) path: &'a Path,
    pub(in crate::store) parent: &'a Dir,
    pub(in crate::store) name: &'a OsStr,
    pub(in crate::store) facts: &'a Facts,
}

/// Whoever wants to know.
pub(in crate::store) trait Visitor {
    /// Something is new or different. A directory comes before what is in it.
    fn changed(&mut self, change: Change, item: &Item<'_>) -> io::Result<()>;
    /// Something is gone.
    fn deleted(&mut self, path: &Path) -> io::Result<()>;
    /// A directory, just told of, has nothing of the one that was there before it; `gone` did not come back.
    fn opaque(&mut self, path: &Path, gone: &[PathBuf]) -> io::Result<()>;
}

/// Tells `visitor` every difference, in the order of names.
pub(in crate::store) fn walk(
    new: &Changed,
    old: &View,
    ours: &dyn Fn(&Path, &Facts) -> bool,
    visitor: &mut dyn Visitor,
) -> io::Result<()> {
    let (dir, whole) = match new {
        Changed::Upper(dir) => (dir, false),
        Changed::Root(dir) => (dir, true),
    };
    let mut walk = Walk { whole, ours, visitor, pending: Vec::new() };
    walk.root(dir, old)?;
    walk.directory(dir, Some(old), Path::new(""))?;
    Ok(())
}

/// A directory that is told of only if something in it is.
struct Pending {
    path: PathBuf,
    parent: Dir,
    name: OsString,
    facts: Facts,
    change: Change,
}

struct Walk<'w> {
    whole: bool,
    /// What the runtime itself put there: places to mount on.
    ours: &'w dyn Fn(&Path, &Facts) -> bool,
    visitor: &'w mut dyn Visitor,
    pending: Vec<Pending>,
}

impl Walk<'_> {
    /// Mode and owner of the root; its time says nothing, since places to mount on are made in it.
    fn root(&mut self, dir: &Dir, old: &View) -> io::Result<()> {
        let Some(top) = old.top() else { return Ok(()) };
        let at = OsStr::new(".");
        let (facts, before) =
            (attributes::facts(&dir.symlink_metadata(at)?), attributes::facts(&top.symlink_metadata(at)?));
        if (facts.mode, facts.uid, facts.gid) == (before.mode, before.uid, before.gid) {
            return Ok(());
        }
        self.visitor
            .changed(Change::Modified, &Item { path: Path::new(""), parent: dir, name: at, facts: &facts })
    }

    /// Whether something in it is the runtime's own.
    fn directory(&mut self, new: &Dir, old: Option<&View>, at: &Path) -> io::Result<()> {
        let mut names = std::collections::BTreeSet::new();
        for entry in new.entries()? {
            names.insert(entry?.file_name());
        }
        if self.whole
            && let Some(old) = old
        {
            names.extend(old.names()?);
        }
        for name in names {
            // A file of this name cannot be told from a whiteout in an archive.
            if !name.as_encoded_bytes().starts_with(MARKER) {
                self.entry(new, old, &name, &at.join(&name))?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, new: &Dir, old: Option<&View>, name: &OsStr, path: &Path) -> io::Result<()> {
        let before = old.map(|old| old.find(name)).transpose()?.flatten();
        let metadata = match new.symlink_metadata(name) {
            Ok(metadata) if attributes::is_whiteout(&metadata) => None,
            Ok(metadata) => Some(metadata),
            // It went just now, or was there before only.
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let Some(metadata) = metadata else {
            if before.is_some() {
                self.flush()?;
                self.visitor.deleted(path)?;
            }
            return Ok(());
        };
        let facts = attributes::facts(&metadata);
        if before.is_none() && (self.ours)(path, &facts) {
            return Ok(());
        }
        let change = if before.is_some() { Change::Modified } else { Change::Added };
        let same = match &before {
            Some(node) => {
                attributes::same(&attributes::facts(&node.metadata), &facts)
                    && attributes::capability(node.parent, name)? == attributes::capability(new, name)?
            }
            None => false,
        };
        if !metadata.is_dir() {
            if !same {
                self.flush()?;
                self.visitor.changed(change, &Item { path, parent: new, name, facts: &facts })?;
            }
            return Ok(());
        }
        let directory = match new.open_dir(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        let before_facts = before.as_ref().map(|node| attributes::facts(&node.metadata));
        let below = before.and_then(|node| node.directory);
        let opaque = !self.whole && below.is_some() && attributes::is_opaque(&directory);
        let depth = self.pending.len();
        self.pending.push(Pending {
            path: path.to_owned(),
            parent: new.try_clone()?,
            name: name.to_owned(),
            facts,
            change,
        });
        if (!same
            && !self.only_ours(
                &directory,
                before_facts.as_ref(),
                &self.pending[depth].facts,
                below.as_ref(),
                path,
            )?)
            || opaque
        {
            self.flush()?;
        }
        if opaque {
            let mut missing = Vec::new();
            if let Some(below) = &below {
                for gone in below.names()? {
                    let back =
                        directory.symlink_metadata(&gone).is_ok_and(|now| !attributes::is_whiteout(&now));
                    if !back && below.find(&gone)?.is_some() {
                        missing.push(path.join(&gone));
                    }
                }
            }
            self.visitor.opaque(path, &missing)?;
        }
        self.directory(&directory, below.as_ref().filter(|_| !opaque), path)?;
        self.pending.truncate(depth);
        Ok(())
    }

    /// Whether a directory has another time, and no other difference, because the runtime put something of its own into it.
    fn only_ours(
        &self,
        directory: &Dir,
        before: Option<&Facts>,
        now: &Facts,
        below: Option<&View>,
        path: &Path,
    ) -> io::Result<bool> {
        let (Some(before), Some(below)) = (before, below) else { return Ok(false) };
        let timeless = Facts { seconds: now.seconds, nanoseconds: now.nanoseconds, ..before.clone() };
        if !attributes::same(&timeless, now) {
            return Ok(false);
        }
        for entry in directory.entries()? {
            let name = entry?.file_name();
            let metadata = match directory.symlink_metadata(&name) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other?,
            };
            if (self.ours)(&path.join(&name), &attributes::facts(&metadata)) && below.find(&name)?.is_none() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn flush(&mut self) -> io::Result<()> {
        for Pending { path, parent, name, facts, change } in self.pending.drain(..) {
            self.visitor
                .changed(change, &Item { path: &path, parent: &parent, name: &name, facts: &facts })?;
        }
        Ok(())
    }
}

/// Collects changes as a list.
#[derive(Debug, Default)]
pub(in crate::store) struct List(pub(in crate::store) Vec<(PathBuf, Change)>);

impl Visitor for List {
    fn changed(&mut self, change: Change, item: &Item<'_>) -> io::Result<()> {
        if !item.path.as_os_str().is_empty() {
            self.0.push((item.path.to_owned(), change));
        }
        Ok(())
    }

    fn deleted(&mut self, path: &Path) -> io::Result<()> {
        self.0.push((path.to_owned(), Change::Deleted));
        Ok(())
    }

    fn opaque(&mut self, _: &Path, gone: &[PathBuf]) -> io::Result<()> {
        gone.iter().try_for_each(|path| self.deleted(path))
    }
}
