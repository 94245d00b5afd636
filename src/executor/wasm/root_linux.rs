//! A container's root on Linux: a descriptor, of a directory or of an overlay that is mounted nowhere.
//!
//! Invariant: paths in it are resolved by the kernel with the root as `/` (`RESOLVE_IN_ROOT`), as they are in a container:
//! absolute links and `..` stay inside.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{Mode, OFlags, ResolveFlags};

use super::memo::Identity;
use crate::executor::{ExecError, Root};
use crate::model::ErrorKind;

/// A root, as long as this lives.
#[derive(Debug)]
pub(super) struct RootDir {
    fd: OwnedFd,
    /// The one file system that everything in it is on; `None` when there are several.
    device: Option<u64>,
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
        Root::Overlay { lower, upper, work } => overlay(lower, upper, work),
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

fn directory(path: &Path) -> Result<RootDir, (&Path, io::Error)> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| (path, error.into()))?;
    Ok(RootDir { device: device(path).ok(), fd })
}

fn overlay<'a>(lower: &[PathBuf], upper: &'a Path, work: &Path) -> Result<RootDir, (&'a Path, io::Error)> {
    let fd =
        runtime_linux::detached::overlay_fd(lower, Some((upper, work))).map_err(|error| (upper, error))?;
    let device = device(upper).ok();
    // An overlay has a number of its own as its device, but passes on the inodes of layers that share a file system.
    let shared = lower.iter().all(|layer| self::device(layer).ok() == device);
    Ok(RootDir { fd, device: device.filter(|_| shared) })
}

fn device(path: &Path) -> io::Result<u64> {
    Ok(std::fs::metadata(path)?.dev())
}

impl RootDir {
    /// A path to it for this process.
    pub(super) fn host_path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.fd.as_raw_fd()).into()
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
