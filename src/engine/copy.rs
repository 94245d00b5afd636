//! Copying between a container's files and the host's.
//!
//! Invariants:
//! - A path inside a container is followed by the kernel within the container's root (`openat2`, `RESOLVE_IN_ROOT`), up to one
//!   open directory. From there on everything happens by single names in open directories, without following links: a
//!   process in the container that swaps a path meanwhile (CVE-2018-15664) moves nothing but its own files.
//! - On the host's side no link is followed that came from the container.
//!
//! A running container is seen through its first process, with its volumes and memory; any other through its layers.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, Metadata, MetadataExt as _, OpenOptions, OpenOptionsExt as _, PermissionsExt as _};
use rustix::fs::{AtFlags, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid};

use crate::model::{Container, ErrorKind, Event, Kind, MountSource, Root, RuntimeStatus};
use crate::supervisor::{Claim, Liveness};

use super::containers::{ENDING, REMOVE_TRIES};
use super::{Engine, EngineError};

/// What a copy could not do.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The source is not there.
    #[error("Could not find the file {path} in {whose}")]
    Missing {
        /// As given.
        path: String,
        /// `container NAME`, or `this host`.
        whose: String,
    },
    /// The destination's directory is not there.
    #[error("no such directory: {path}")]
    NoDirectory {
        /// As given.
        path: String,
    },
    /// A directory onto a file.
    #[error("cannot copy a directory to the file {path}")]
    DirectoryToFile {
        /// As given.
        path: String,
    },
    /// Neither file, directory nor link.
    #[error("{path} is neither a file, a directory nor a link, and is not copied")]
    Special {
        /// Its path below the source.
        path: PathBuf,
    },
    /// An archive is unpacked into a directory.
    #[error("destination \"{container}:{path}\" must be a directory")]
    NotDirectory {
        /// Name or id.
        container: String,
        /// As given.
        path: String,
    },
    /// The archive is bad, or does not fit what is there.
    #[error("unpacking the archive")]
    Archive(#[source] crate::store::LayerError),
    /// The container mounts the destination read-only.
    #[error("{path} is in a read-only mount of the container")]
    ReadOnly {
        /// As given.
        path: String,
    },
    /// Reading or writing failed.
    #[error("copying {path}")]
    Io {
        /// What.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Kind for CopyError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Missing { .. } | Self::NoDirectory { .. } => ErrorKind::NotFound,
            Self::DirectoryToFile { .. }
            | Self::Special { .. }
            | Self::NotDirectory { .. }
            | Self::Archive(_) => ErrorKind::InvalidInput,
            Self::ReadOnly { .. } => ErrorKind::Forbidden,
            Self::Io { .. } => ErrorKind::Unavailable,
        }
    }
}

/// One end of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// A path of the host.
    Host(String),
    /// A path in a container.
    Container {
        /// Name or id.
        container: String,
        /// The path.
        path: String,
    },
}

impl End {
    pub(super) fn path(&self) -> &str {
        match self {
            Self::Host(path) | Self::Container { path, .. } => path,
        }
    }
}

/// How to copy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CopyOptions {
    /// `--archive`: keep owners.
    pub archive: bool,
    /// `--follow-link`: a source that is a link means what it points to.
    pub follow: bool,
}

/// A tree that paths are looked up in.
pub(super) enum Tree {
    Host,
    /// The root, and over it what is mounted: target, directory, read-only.
    Container {
        root: rustix::fd::OwnedFd,
        mounts: Vec<(String, rustix::fd::OwnedFd, bool)>,
        read_only: bool,
        name: String,
        /// Of one that does not run: nobody starts or removes it meanwhile.
        _claim: Option<Liveness>,
    },
}

const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::CLOEXEC);

impl Tree {
    pub(super) fn whose(&self) -> String {
        match self {
            Self::Host => "this host".to_owned(),
            Self::Container { name, .. } => format!("container {name}"),
        }
    }

    /// The tree that a path is in, the path in it, and whether it is read-only.
    pub(super) fn place(&self, path: &str) -> (Option<&rustix::fd::OwnedFd>, String, bool) {
        let Self::Container { root, mounts, read_only, .. } = self else {
            return (None, path.to_owned(), false);
        };
        if mounts.is_empty() {
            // A running container: the kernel knows what is mounted where, and how.
            return (Some(root), path.to_owned(), *read_only);
        }
        let path = super::mounts::clean(path);
        let inside = |target: &str| {
            let rest = path.strip_prefix(target.trim_end_matches('/'))?;
            (rest.is_empty() || rest.starts_with('/')).then(|| rest.to_owned())
        };
        let within = mounts
            .iter()
            .filter_map(|(target, dir, read_only)| Some((target.len(), dir, inside(target)?, *read_only)));
        match within.max_by_key(|(length, ..)| *length) {
            Some((_, dir, rest, read_only)) => {
                (Some(dir), if rest.is_empty() { "/".to_owned() } else { rest }, read_only)
            }
            None => (Some(root), path, *read_only),
        }
    }

    /// Opens a directory, following links within the tree.
    pub(super) fn directory(&self, path: &str) -> io::Result<Dir> {
        match self.place(path) {
            (None, path, _) => Dir::open_ambient_dir(&path, ambient_authority()),
            (Some(root), path, _) => {
                let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
                let opened =
                    rustix::fs::openat2(root, &path, OFlags::RDONLY | DIRECTORY, Mode::empty(), within)?;
                Ok(Dir::from_std_file(opened.into()))
            }
        }
    }
}

/// The directory and the last name of a path; the root, and what ends in `..`, have no name.
pub(super) fn split(path: &str) -> (String, Option<OsString>) {
    let trimmed = path.trim_end_matches('/');
    let (parent, name) = match trimmed.rsplit_once('/') {
        Some(("", name)) => ("/", name),
        Some((parent, name)) => (parent, name),
        None => (if path.starts_with('/') { "/" } else { "." }, trimmed),
    };
    match name {
        "" | "." | ".." => (if trimmed.is_empty() { "/".to_owned() } else { trimmed.to_owned() }, None),
        name => (parent.to_owned(), Some(name.into())),
    }
}

impl Engine {
    /// Copies a file or a directory. Tells how many bytes of files.
    pub fn copy(&self, from: &End, to: &End, options: CopyOptions) -> Result<u64, EngineError> {
        let (source, target) = (self.tree(from)?, self.tree(to)?);
        let failed = |path: &str| {
            let path = path.to_owned();
            move |source| CopyError::Io { path, source }
        };
        if target.place(to.path()).2 {
            return Err(CopyError::ReadOnly { path: to.path().to_owned() }.into());
        }
        let missing = || CopyError::Missing { path: from.path().to_owned(), whose: source.whose() };
        // `dir/.` is what is in the directory.
        let contents = from.path().ends_with("/.") || from.path() == ".";
        let (parent, name) = split(from.path());
        let (dir, name) = match name {
            Some(name) if !contents => (source.directory(&parent).map_err(|_| missing())?, name),
            _ => (source.directory(from.path()).map_err(|_| missing())?, OsString::from(".")),
        };
        let (dir, name, metadata) =
            look(&source, dir, name, &parent, options.follow).map_err(|_| missing())?;
        let (into, as_name) = Self::destination(&target, to.path(), &name, metadata.is_dir(), contents)?;
        let mut job = Job { archive: options.archive, bytes: 0 };
        let outcome = if contents || as_name == OsStr::new(".") {
            let from_dir = dir.open_dir(&name).map_err(failed(from.path()))?;
            job.tree(&from_dir, &into, Path::new(""))
        } else {
            job.entry(&dir, &name, &into, &as_name, Path::new(&name))
        };
        outcome?;
        self.copied(from, "archive-path");
        self.copied(to, "extract-to-dir");
        Ok(job.bytes)
    }

    /// Where it goes: an open directory and a name in it.
    fn destination(
        target: &Tree,
        path: &str,
        name: &OsStr,
        is_dir: bool,
        contents: bool,
    ) -> Result<(Dir, OsString), CopyError> {
        if let Ok(dir) = target.directory(path) {
            let as_name = if contents { OsString::from(".") } else { name.to_owned() };
            return Ok((dir, as_name));
        }
        let (parent, new_name) = split(path);
        let none = || CopyError::NoDirectory { path: path.to_owned() };
        let dir = target.directory(&parent).map_err(|_| none())?;
        let Some(new_name) = new_name else { return Err(none()) };
        let there = dir.symlink_metadata(&new_name).is_ok();
        if there && is_dir {
            return Err(CopyError::DirectoryToFile { path: path.to_owned() });
        }
        if !there && path.ends_with('/') && !is_dir {
            return Err(none());
        }
        if there || !contents {
            return Ok((dir, new_name));
        }
        let failed = |source| CopyError::Io { path: path.to_owned(), source };
        dir.create_dir(&new_name).map_err(failed)?;
        Ok((dir.open_dir(&new_name).map_err(failed)?, ".".into()))
    }

    /// Tells those who listen to events, where this end is a container.
    pub(super) fn copied(&self, end: &End, action: &str) {
        let End::Container { container, .. } = end else { return };
        if let Ok(view) = self.container(container) {
            self.note(Event::container(&view.container, action));
        }
    }

    pub(super) fn tree(&self, end: &End) -> Result<Tree, EngineError> {
        let End::Container { container, .. } = end else { return Ok(Tree::Host) };
        for _ in 0..REMOVE_TRIES {
            if let Some(tree) = self.tree_of(container)? {
                return Ok(tree);
            }
            std::thread::sleep(ENDING);
        }
        Err(EngineError::WrongState {
            name: container.clone(),
            action: "copy files of",
            why: "another command is busy with it, try again when that has ended",
        })
    }

    /// A container's tree; `None` while it is neither running nor at rest.
    fn tree_of(&self, container: &str) -> Result<Option<Tree>, EngineError> {
        let view = self.container(container)?;
        let failed = |source| CopyError::Io { path: container.to_owned(), source };
        let name = view.container.name.clone();
        if view.alive && view.container.state.pid != 0 {
            let flags = OFlags::PATH | DIRECTORY;
            let root =
                rustix::fs::open(format!("/proc/{}/root", view.container.state.pid), flags, Mode::empty());
            // The process was the container's if the container lives on.
            let now = self.container(view.container.id.as_str())?;
            if let (Ok(root), true, true) =
                (root, now.alive, now.container.state.pid == view.container.state.pid)
            {
                return Ok(Some(Tree::Container {
                    root,
                    mounts: Vec::new(),
                    read_only: false,
                    name,
                    _claim: None,
                }));
            }
        }
        let Claim::Free(claim) = Liveness::try_claim(&self.run_dir(&view.container.id))? else {
            return Ok(None);
        };
        match self.database.container(&view.container.id)? {
            None => return Err(EngineError::NoContainer { query: container.to_owned() }),
            Some(now) if now.state.status == RuntimeStatus::Running => {
                // Its supervisor was lost: first goes what it left.
                drop(claim);
                self.reconcile()?;
                return Ok(None);
            }
            Some(_) => {}
        }
        let root = self.store()?.snapshots().prepare(&view.container.id, &view.container.layers)?;
        let root = open_root(&root).map_err(failed)?;
        let mounts = self.mounted(&view.container)?;
        let read_only = view.container.host.read_only;
        Ok(Some(Tree::Container { root, mounts, read_only, name, _claim: Some(claim) }))
    }

    /// What directories a container that does not run would have mounted.
    fn mounted(
        &self,
        container: &Container,
    ) -> Result<Vec<(String, rustix::fd::OwnedFd, bool)>, EngineError> {
        let mut mounts = Vec::new();
        for mount in &container.host.mounts {
            let (path, subpath) = match &mount.source {
                MountSource::Bind { path, .. } => (path.clone(), ""),
                MountSource::Volume { name, subpath, .. } => {
                    (self.volume_source(name, subpath)?, subpath.as_str())
                }
                MountSource::Tmpfs { .. } => continue,
            };
            match open_within(&path, subpath) {
                Ok(dir) => mounts.push((mount.target.clone(), dir, mount.read_only)),
                // A file, or nothing: seen as the image has it.
                Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => {}
                Err(error) => {
                    let path = path.display().to_string();
                    return Err(CopyError::Io { path, source: error.into() }.into());
                }
            }
        }
        Ok(mounts)
    }
}

/// A directory of the host, or one inside it, which no link leads out of.
fn open_within(path: &Path, subpath: &str) -> Result<rustix::fd::OwnedFd, rustix::io::Errno> {
    let base = rustix::fs::open(path, OFlags::PATH | DIRECTORY, Mode::empty())?;
    if subpath.is_empty() {
        return Ok(base);
    }
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(&base, subpath, OFlags::PATH | DIRECTORY, Mode::empty(), within)
}

fn open_root(root: &Root) -> io::Result<rustix::fd::OwnedFd> {
    match root {
        Root::Overlay { lower, upper, work, .. } => runtime_linux::detached::overlay_fd(
            lower,
            Some(runtime_linux::detached::Writable { upper, work, volatile: false }),
        ),
        Root::Directory(path) => Ok(rustix::fs::open(path, OFlags::PATH | DIRECTORY, Mode::empty())?),
    }
}

/// The source itself: a link only where links are not to be followed.
pub(super) fn look(
    tree: &Tree,
    dir: Dir,
    name: OsString,
    parent: &str,
    follow: bool,
) -> io::Result<(Dir, OsString, Metadata)> {
    let metadata = dir.symlink_metadata(&name)?;
    if !follow || !metadata.is_symlink() {
        return Ok((dir, name, metadata));
    }
    let to = dir.read_link_contents(&name)?;
    let to = to.to_str().ok_or(io::ErrorKind::InvalidData)?;
    let path = if to.starts_with('/') { to.to_owned() } else { format!("{parent}/{to}") };
    let (parent, last) = split(&path);
    let dir = tree.directory(&parent)?;
    let last = last.unwrap_or_else(|| ".".into());
    let metadata = dir.symlink_metadata(&last)?;
    if metadata.is_symlink() {
        // One step is what a link that was named means; a chain is not followed by guesses.
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok((dir, last, metadata))
}

/// A copy under way.
struct Job {
    archive: bool,
    bytes: u64,
}

impl Job {
    fn tree(&mut self, from: &Dir, to: &Dir, at: &Path) -> Result<(), CopyError> {
        let failed = |source| CopyError::Io { path: at.display().to_string(), source };
        for entry in from.entries().map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            self.entry(from, &name, to, &name, &at.join(&name))?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        from: &Dir,
        name: &OsStr,
        to: &Dir,
        as_name: &OsStr,
        at: &Path,
    ) -> Result<(), CopyError> {
        let failed = |source| CopyError::Io { path: at.display().to_string(), source };
        let metadata = from.symlink_metadata(name).map_err(failed)?;
        let there = to.symlink_metadata(as_name);
        if metadata.is_dir() {
            match there {
                Ok(there) if there.is_dir() => {}
                Ok(_) => return Err(CopyError::DirectoryToFile { path: at.display().to_string() }),
                Err(_) => to.create_dir(as_name).map_err(failed)?,
            }
            let (inner, outer) =
                (from.open_dir(name).map_err(failed)?, to.open_dir(as_name).map_err(failed)?);
            self.tree(&inner, &outer, at)?;
            let open = rustix::fs::openat(&outer, ".", OFlags::RDONLY | DIRECTORY, Mode::empty());
            open.map_err(io::Error::from)
                .and_then(|open| self.attributes(&open, &metadata))
                .map_err(failed)?;
        } else if metadata.is_symlink() {
            if there.is_ok() {
                to.remove_file(as_name).map_err(failed)?;
            }
            let link = from.read_link_contents(name).map_err(failed)?;
            to.symlink_contents(link, as_name).map_err(failed)?;
            self.link_attributes(to, as_name, &metadata).map_err(failed)?;
        } else if metadata.is_file() {
            // Written beside its place and put there at once, so that no link there is written through.
            let temporary = format!(".umiak-copy-{}", std::process::id());
            let copied = (|| {
                // A file that has become a pipe since must not be waited for.
                let mut reading = OpenOptions::new();
                reading.read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW);
                let mut source = from.open_with(name, &reading)?;
                if !source.metadata()?.is_file() {
                    return Err(io::ErrorKind::InvalidInput.into());
                }
                let mut target = to.open_with(&temporary, OpenOptions::new().write(true).create_new(true))?;
                self.bytes += io::copy(&mut source, &mut target)?;
                self.attributes(&target, &metadata)?;
                to.rename(&temporary, to, as_name)
            })();
            if let Err(error) = copied {
                // Perhaps it was never made.
                let _ = to.remove_file(&temporary);
                return Err(failed(error));
            }
        } else {
            return Err(CopyError::Special { path: at.to_owned() });
        }
        Ok(())
    }

    /// Mode and time of what is open; owners only where they are to be kept. By descriptor: a name could be a link by now.
    fn attributes(&self, to: impl rustix::fd::AsFd, metadata: &Metadata) -> io::Result<()> {
        if self.archive {
            let owner = (Some(Uid::from_raw(metadata.uid())), Some(Gid::from_raw(metadata.gid())));
            rustix::fs::fchown(&to, owner.0, owner.1)?;
        }
        rustix::fs::fchmod(&to, Mode::from_raw_mode(metadata.permissions().mode() & 0o7777))?;
        Ok(rustix::fs::futimens(&to, &times(metadata))?)
    }

    /// The same of a link itself.
    fn link_attributes(&self, to: &Dir, name: &OsStr, metadata: &Metadata) -> io::Result<()> {
        if self.archive {
            let owner = (Some(Uid::from_raw(metadata.uid())), Some(Gid::from_raw(metadata.gid())));
            rustix::fs::chownat(to, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Ok(rustix::fs::utimensat(to, name, &times(metadata), AtFlags::SYMLINK_NOFOLLOW)?)
    }
}

fn times(metadata: &Metadata) -> Timestamps {
    let time = Timespec { tv_sec: metadata.mtime(), tv_nsec: metadata.mtime_nsec() };
    Timestamps { last_access: time, last_modification: time }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_a_directory_and_a_name() {
        for (path, parent, name) in [
            ("/a/b", "/a", Some("b")),
            ("/a/b/", "/a", Some("b")),
            ("/a", "/", Some("a")),
            ("a", ".", Some("a")),
            ("/", "/", None),
            ("/a/..", "/a/..", None),
            ("/a/.", "/a/.", None),
        ] {
            assert_eq!(split(path), (parent.to_owned(), name.map(OsString::from)), "{path}");
        }
    }
}
