//! A container's root on Linux: a descriptor, of a directory or of an overlay that is mounted nowhere.
//!
//! Invariant: paths in it are resolved by the kernel with the root as `/` (`RESOLVE_IN_ROOT`), as they are in a container:
//! absolute links and `..` stay inside.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::fs::{Mode, OFlags, ResolveFlags};

use runtime_linux::detached::Writable;
use runtime_linux::landlock::{self, Place};
use runtime_linux::{Cause, InitFailure, Step, wall};
use runtime_wasm::{Confine, Preopen};

use super::memo::Identity;
use super::place::NAMES;
use crate::executor::{ExecError, Mount, Refusal, Root};
use crate::model::ErrorKind;

/// A root, as long as this lives.
#[derive(Debug)]
pub(super) struct RootDir {
    fd: OwnedFd,
    /// The one file system that everything in it is on; `None` when there are several.
    device: Option<u64>,
    /// Directories that are mounted into it.
    inside: Vec<OwnedFd>,
    /// What the guest has as its root instead, where a directory was mounted there: the program still comes from this one.
    given: Option<OwnedFd>,
}

#[derive(Debug, thiserror::Error)]
#[error("opening `{}`", path.display())]
struct RootError {
    path: PathBuf,
    source: io::Error,
}

/// Opens a root.
pub(super) fn open(root: &Root) -> Result<RootDir, ExecError> {
    match root {
        Root::Directory(path) => directory(path),
        Root::Overlay { lower, upper, work, volatile } => {
            overlay(lower, Writable { upper, work, volatile: *volatile })
        }
    }
    .map_err(|(path, source)| {
        let kind = match source.kind() {
            io::ErrorKind::PermissionDenied => ErrorKind::Forbidden,
            io::ErrorKind::NotFound => ErrorKind::Internal,
            _ => ErrorKind::Unavailable,
        };
        ExecError::failed(kind, "preparing the container's root", RootError { path: path.to_owned(), source })
    })
}

/// What a program's threads do before its code runs: of all files they reach the container's alone, where the kernel has Landlock,
/// and names' files where there are names; without a network they make no sockets.
#[expect(clippy::unnecessary_wraps, reason = "the twin has none")]
pub(super) fn fence(root: &Arc<RootDir>, preopens: &[Preopen], network: bool) -> Option<Confine> {
    // The first is the root; the others are in the same order as what is mounted into it.
    let writable: Vec<bool> = preopens.iter().map(|preopen| !preopen.read_only).collect();
    let root = Arc::clone(root);
    Some(Confine::new(move || {
        let open = |name: &&str| rustix::fs::open(*name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok();
        let names: Vec<OwnedFd> = if network { NAMES.iter().filter_map(open).collect() } else { Vec::new() };
        let whole = root.given.as_ref().unwrap_or(&root.fd);
        let fds = std::iter::once(whole).chain(&root.inside).map(AsFd::as_fd);
        let trees = fds
            .zip(&writable)
            .map(|(fd, writable)| if *writable { Place::Writable(fd) } else { Place::Readable(fd) });
        let places: Vec<_> = trees.chain(names.iter().map(|fd| Place::File(fd.as_fd()))).collect();
        landlock::restrict_thread(&places, network)?;
        if network { Ok(()) } else { wall::without_sockets().map_err(io::Error::other) }
    }))
}

fn directory(path: &Path) -> Result<RootDir, (&Path, io::Error)> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| (path, error.into()))?;
    Ok(RootDir { device: device(path).ok(), fd, inside: Vec::new(), given: None })
}

fn overlay<'a>(lower: &[PathBuf], writable: Writable<'a>) -> Result<RootDir, (&'a Path, io::Error)> {
    let upper = writable.upper;
    let fd = runtime_linux::detached::overlay_fd(lower, Some(writable)).map_err(|error| (upper, error))?;
    let device = device(upper).ok();
    // An overlay has a number of its own as its device, but passes on the inodes of layers that share a file system.
    let shared = lower.iter().all(|layer| self::device(layer).ok() == device);
    Ok(RootDir { fd, device: device.filter(|_| shared), inside: Vec::new(), given: None })
}

fn unopened(path: &Path, error: rustix::io::Errno) -> ExecError {
    let source = RootError { path: path.to_owned(), source: error.into() };
    ExecError::failed(ErrorKind::Unavailable, "handing a mount to the guest", source)
}

/// Whether making mounts is refused to this process, whatever they are.
fn may_not(error: &InitFailure) -> bool {
    error.step == Step::Root && matches!(error.cause, Cause::Errno(libc::EPERM))
}

/// Whether it is to be the guest's root.
fn is_root(mount: &Mount) -> bool {
    matches!(mount, Mount::Bind { target, .. } if target == "/")
}

/// What can be given without mounting anything: a directory.
fn apart(mount: &Mount) -> Result<Option<OwnedFd>, ExecError> {
    let refuse = |what| Err(Refusal::Cannot { executor: super::NAME, what }.into());
    let Mount::Bind { source, subpath, .. } = mount else {
        return refuse("mount memory (`--tmpfs`) without the right to mount");
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(source, flags, Mode::empty());
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let opened = match opened {
        Ok(base) if !subpath.is_empty() => rustix::fs::openat2(&base, subpath, flags, Mode::empty(), within),
        other => other,
    };
    match opened {
        Ok(fd) => Ok(Some(fd)),
        Err(rustix::io::Errno::NOTDIR) => refuse("mount a single file without the right to mount"),
        Err(error) => Err(unopened(source, error)),
    }
}

fn device(path: &Path) -> io::Result<u64> {
    Ok(std::fs::metadata(path)?.dev())
}

impl RootDir {
    /// Mounts into it, and tells what a guest is to be given.
    pub(super) fn mount(&mut self, mounts: &[Mount], read_only: bool) -> Result<Vec<Preopen>, ExecError> {
        let (whole, mounts): (Vec<&Mount>, Vec<&Mount>) = mounts.iter().partition(|one| is_root(one));
        let composed = !mounts.is_empty() && self.compose(&mounts, read_only)?;
        let given = |fd: &OwnedFd, guest: &str, read_only: bool| Preopen {
            host: format!("/proc/self/fd/{}", fd.as_raw_fd()).into(),
            guest: guest.to_owned(),
            read_only,
        };
        // Where the kernel keeps the root read-only, what is mounted below it need not be.
        let mut preopens = vec![given(&self.fd, "/", read_only && !composed)];
        if let [Mount::Bind { source, read_only, .. }, ..] = whole.as_slice() {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let opened = rustix::fs::open(source, flags, Mode::empty());
            let fd = opened.map_err(|error| unopened(source, error))?;
            preopens = vec![given(&fd, "/", *read_only)];
            self.given = Some(fd);
        }
        for mount in mounts {
            let (target, read_only) = match mount {
                Mount::Bind { target, read_only, .. } | Mount::Tmpfs { target, read_only, .. } => {
                    (target, *read_only)
                }
            };
            let fd = if composed { self.directory(target)? } else { apart(mount)? };
            if let Some(fd) = fd {
                preopens.push(given(&fd, target, read_only));
                self.inside.push(fd);
            }
        }
        Ok(preopens)
    }

    /// Makes the mounts a part of the tree; false where this process may not.
    fn compose(&mut self, mounts: &[&Mount], read_only: bool) -> Result<bool, ExecError> {
        let mut all: Vec<_> = mounts.iter().map(|one| crate::executor::linux::mounts::mount(one)).collect();
        all.sort_by_key(crate::executor::linux::mounts::depth);
        match runtime_linux::detached::compose(&self.fd, &all, read_only) {
            Ok(tree) => {
                self.fd = tree;
                Ok(true)
            }
            Err(error) if may_not(&error) => {
                tracing::debug!(%error, "mounts are given to the guest one by one");
                Ok(false)
            }
            Err(error) => Err(ExecError::failed(ErrorKind::InvalidInput, "mounting", error)),
        }
    }

    /// A directory in it; `None` for a file.
    fn directory(&self, path: &str) -> Result<Option<OwnedFd>, ExecError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        match rustix::fs::openat2(&self.fd, path, flags, Mode::empty(), resolve) {
            Ok(fd) => Ok(Some(fd)),
            Err(rustix::io::Errno::NOTDIR) => Ok(None),
            Err(error) => Err(unopened(Path::new(path), error)),
        }
    }

    /// Opens a file in it to be read. Does not wait for a FIFO's writer.
    pub(super) fn open(&self, path: &str) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        Ok(rustix::fs::openat2(&self.fd, path, flags, Mode::empty(), resolve)?.into())
    }

    /// What identifies the content of a file in it.
    pub(super) fn identity(&self, file: &File) -> Option<Identity> {
        let metadata = file.metadata().ok()?;
        let time =
            |seconds: i64, nanoseconds: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
        let changed =
            Duration::new(metadata.ctime().try_into().ok()?, metadata.ctime_nsec().try_into().ok()?);
        Some(Identity {
            numbers: [
                self.device?.into(),
                metadata.ino().into(),
                metadata.size().into(),
                time(metadata.mtime(), metadata.mtime_nsec()),
                time(metadata.ctime(), metadata.ctime_nsec()),
            ],
            changed: SystemTime::UNIX_EPOCH.checked_add(changed)?,
        })
    }
}
