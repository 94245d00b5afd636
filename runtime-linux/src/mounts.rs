//! Mounting inside the container's root, after the host's tree is gone.
//!
//! Invariants: a target is opened through openat2 in the root and the mount goes to that descriptor, never to a path
//! a second time; magic links are not followed; nothing of the user's is mounted over procfs. The root is already
//! the container's (`pivot_root` came first), so even a mistake here cannot reach the host.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

use crate::failure::{At, Cause, InitFailure, Result, Step};

pub(crate) const PROC_MAGIC: u64 = 0x9fa0;
const IN_ROOT: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);

/// The root directory of the container, by which everything is resolved.
#[derive(Debug)]
pub(crate) struct Tree(pub(crate) OwnedFd);

impl Tree {
    pub(crate) fn open(&self, path: &str, flags: OFlags) -> std::result::Result<OwnedFd, Errno> {
        let path = if path.is_empty() { "/" } else { path };
        openat2(&self.0, path, flags | OFlags::CLOEXEC, Mode::empty(), IN_ROOT)
    }

    /// The file's text, cut at `limit` bytes; empty when there is none.
    pub(crate) fn text(&self, path: &str, limit: u64) -> String {
        let mut bytes = Vec::new();
        if let Ok(fd) = self.open(path, OFlags::RDONLY | OFlags::NONBLOCK)
            && rustix::fs::fstat(&fd).is_ok_and(|s| FileType::from_raw_mode(s.st_mode).is_file())
        {
            let mut file = std::io::Read::take(std::fs::File::from(fd), limit);
            let _shorter = std::io::Read::read_to_end(&mut file, &mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Opens a directory, making what is missing of its path.
    pub(crate) fn directory(&self, path: &str) -> std::result::Result<OwnedFd, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        match self.open(path, flags) {
            Err(Errno::NOENT) => {}
            other => return other,
        }
        let (parent, name) = split(path).ok_or(Errno::INVAL)?;
        let parent = self.directory(parent)?;
        match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => self.open(path, flags),
            Err(errno) => Err(errno),
        }
    }

    /// Opens a mount target, making a directory or an empty file when it is missing.
    pub(crate) fn target(&self, path: &str, directory: bool) -> std::result::Result<OwnedFd, Errno> {
        if directory {
            return self.directory(path);
        }
        match self.open(path, OFlags::PATH) {
            Err(Errno::NOENT) => {}
            other => return other,
        }
        let (parent, name) = split(path).ok_or(Errno::INVAL)?;
        let parent = self.directory(parent)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::WRONLY;
        match rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(0o644)) {
            Ok(_) | Err(Errno::EXIST) => self.open(path, OFlags::PATH),
            Err(errno) => Err(errno),
        }
    }

    /// Like `target`, refusing a place in procfs: a mount there would fake what programs trust.
    pub(crate) fn user_target(&self, path: &str, directory: bool) -> Result<OwnedFd> {
        let refuse = |why: &str| InitFailure::new(Step::Mount, path, Cause::Refused(why.to_owned()));
        if !path.starts_with('/') {
            return Err(refuse("the target is not an absolute path"));
        }
        let target = self.target(path, directory).at(Step::Mount, path)?;
        if in_proc(&target).at(Step::Mount, path)? {
            return Err(refuse("the target is inside /proc"));
        }
        Ok(target)
    }

    /// A top-level directory that must be one, not a symbolic link (CVE-2026-41579, CVE-2023-27561).
    pub(crate) fn plain_directory(&self, name: &str) -> Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || openat2(&self.0, name, flags, Mode::empty(), IN_ROOT | ResolveFlags::NO_SYMLINKS);
        match open() {
            Err(Errno::NOENT) => {
                rustix::fs::mkdirat(&self.0, name, Mode::from_raw_mode(0o755))
                    .at(Step::Mount, format!("/{name}"))?;
                open().at(Step::Mount, format!("/{name}"))
            }
            Err(Errno::LOOP | Errno::NOTDIR) => {
                let why = "it is not an ordinary directory in the image".to_owned();
                Err(InitFailure::new(Step::Mount, format!("/{name}"), Cause::Refused(why)))
            }
            other => other.at(Step::Mount, format!("/{name}")),
        }
    }
}

/// Whether a descriptor is in procfs.
pub(crate) fn in_proc(fd: impl AsFd) -> std::result::Result<bool, Errno> {
    rustix::fs::fstatfs(fd).map(|stat| u64::try_from(stat.f_type).unwrap_or(0) == PROC_MAGIC)
}

fn split(path: &str) -> Option<(&str, &str)> {
    let path = path.trim_end_matches('/');
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    (!matches!(name, "" | "." | "..")).then_some((parent, name))
}

/// Makes a filesystem without attaching it.
pub(crate) fn filesystem(
    kind: &str,
    options: &[(&str, Option<&str>)],
    attributes: MountAttrFlags,
) -> std::result::Result<OwnedFd, Errno> {
    let fs = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    if options.iter().all(|(key, _)| *key != "source") {
        // What `df` and `mount` call it.
        fsconfig_set_string(&fs, "source", kind)?;
    }
    for (key, value) in options {
        match value {
            Some(value) => fsconfig_set_string(&fs, *key, *value)?,
            None => fsconfig_set_flag(&fs, *key)?,
        }
    }
    fsconfig_create(&fs)?;
    fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// A detached copy of the mount at `fd`.
pub(crate) fn copy(fd: impl AsFd, recursive: bool) -> std::result::Result<OwnedFd, Errno> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    open_tree(fd, "", if recursive { flags | OpenTreeFlags::AT_RECURSIVE } else { flags })
}

/// Attaches a detached mount.
pub(crate) fn attach(mount: impl AsFd, target: impl AsFd) -> std::result::Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, "", target, "", flags)
}

/// The same of what is at `subpath` in it. Looked up once: the copy is of what the descriptor shows, whoever changes names meanwhile.
pub(crate) fn source_within(
    path: &std::path::Path,
    subpath: &str,
    recursive: bool,
) -> std::result::Result<OwnedFd, Errno> {
    if subpath.is_empty() {
        return source(path, recursive);
    }
    let base = rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let open = || openat2(&base, subpath, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), within);
    // Somebody renamed something in the middle of a `..`, and the kernel would not decide: few times in a row.
    let found = (0..100).map(|_| open()).find(|found| !matches!(found, Err(Errno::AGAIN)));
    copy(found.unwrap_or(Err(Errno::AGAIN))?, recursive)
}

/// Opens a detached copy of a host path: for bind mounts, before the host's tree goes.
pub(crate) fn source(path: &std::path::Path, recursive: bool) -> std::result::Result<OwnedFd, Errno> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    open_tree(CWD, path, if recursive { flags | OpenTreeFlags::AT_RECURSIVE } else { flags })
}

/// Whether what `fd` shows is a directory.
pub(crate) fn is_directory(fd: impl AsFd) -> std::result::Result<bool, Errno> {
    let stat = rustix::fs::statat(fd, "", AtFlags::EMPTY_PATH)?;
    Ok(FileType::from_raw_mode(stat.st_mode).is_dir())
}
