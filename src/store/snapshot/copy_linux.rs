//! Copying one file with all its attributes, on Linux: blocks are shared where the file system can (btrfs, xfs).

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::OnceLock;

use cap_std::fs::{Dir, Metadata, MetadataExt as _, OpenOptions};
use runtime_linux::detached::Writable;
use rustix::fs::{self, AtFlags, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};

/// Whether this process may mount overlays whose layers have device whiteouts.
///
/// Inside a user namespace that is tried out once a process, in the directory `containers`: kernels before 5.11, some
/// security modules and file systems without attributes refuse.
pub(super) fn can_overlay(containers: &Path) -> bool {
    static TRIED: OnceLock<bool> = OnceLock::new();
    if !runtime_linux::userns::inside() {
        return rustix::process::geteuid().is_root();
    }
    rustix::process::geteuid().is_root()
        && *TRIED.get_or_init(|| {
            let tried = try_overlay(containers);
            if let Err(error) = &tried {
                tracing::info!(%error, "no overlays here: containers' roots are copies");
            }
            tried.is_ok()
        })
}

/// Makes an overlay that is attached nowhere, and its mark of opaque directories.
fn try_overlay(containers: &Path) -> io::Result<()> {
    // A crash leaves it under a name that the sweep of the store removes.
    let probe = containers.join(format!("gone-probe-{}", std::process::id()));
    let [lower, upper, work] = ["lower", "upper", "work"].map(|name| probe.join(name));
    let attempt = || -> io::Result<()> {
        for directory in [&lower, &upper, &work] {
            std::fs::create_dir_all(directory)?;
        }
        fs::setxattr(&upper, "user.overlay.opaque", b"y", XattrFlags::empty())?;
        runtime_linux::detached::overlay_fd(
            std::slice::from_ref(&lower),
            Some(Writable { upper: &upper, work: &work, volatile: false }),
        )
        .map(drop)
    };
    let outcome = attempt();
    let removed = std::fs::remove_dir_all(&probe);
    outcome.and(removed)
}

/// Gives an overlay's upper directory the attributes of the topmost layer's root: it is what the container sees as `/`.
pub(super) fn root_attributes(layer: Option<&Path>, upper: &Path) -> io::Result<()> {
    match layer {
        Some(layer) => {
            let (from, to) = (File::open(layer)?, File::open(upper)?);
            attributes(&from, &to)
        }
        None => Ok(fs::chmod(upper, Mode::from_raw_mode(0o755))?),
    }
}

/// What tells the names of one file, if it has several.
pub(super) fn shared(metadata: &Metadata) -> Option<(u64, u64)> {
    (metadata.nlink() > 1).then(|| (metadata.dev(), metadata.ino()))
}

/// Copies the attributes of a directory.
pub(super) fn directory(from: &Dir, to: &Dir) -> io::Result<()> {
    use crate::store::layer::attributes::readable;
    attributes(readable(from)?, readable(to)?)
}

/// Copies anything that is not a directory.
pub(super) fn leaf(from: &Dir, to: &Dir, name: &OsStr, metadata: &Metadata) -> io::Result<()> {
    if metadata.is_file() {
        let mut source = from.open(name)?;
        let mut target = to.open_with(name, OpenOptions::new().write(true).create_new(true))?;
        if fs::ioctl_ficlone(&target, &source).is_err() {
            io::copy(&mut source, &mut target)?;
        }
        return attributes(&source, &target);
    }
    if metadata.is_symlink() {
        fs::symlinkat(fs::readlinkat(from, name, Vec::new())?, to, name)?;
    } else {
        let kind = FileType::from_raw_mode(metadata.mode());
        fs::mknodat(to, name, kind, Mode::from_raw_mode(metadata.mode()), metadata.rdev())?;
        fs::chmodat(to, name, Mode::from_raw_mode(metadata.mode()), AtFlags::empty())?;
    }
    let owner = (Some(Uid::from_raw(metadata.uid())), Some(Gid::from_raw(metadata.gid())));
    fs::chownat(to, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)?;
    let stat = fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(fs::utimensat(to, name, &times(&stat), AtFlags::SYMLINK_NOFOLLOW)?)
}

fn times(stat: &fs::Stat) -> Timestamps {
    let nanoseconds = stat.st_mtime_nsec.try_into().unwrap_or(0);
    let time = Timespec { tv_sec: stat.st_mtime, tv_nsec: nanoseconds };
    Timestamps { last_access: time, last_modification: time }
}

fn attributes(from: impl AsFd, to: impl AsFd) -> io::Result<()> {
    let stat = fs::fstat(&from)?;
    fs::fchown(&to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    fs::fchmod(&to, Mode::from_raw_mode(stat.st_mode))?;
    let mut names = vec![0_u8; fs::flistxattr(&from, &mut [0_u8; 0][..]).unwrap_or(0)];
    let length = if names.is_empty() { 0 } else { fs::flistxattr(&from, names.as_mut_slice())? };
    for name in names[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        // Overlayfs's own are about layers, not about files.
        if name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.") {
            continue;
        }
        let mut value = vec![0_u8; 64 << 10];
        let size = fs::fgetxattr(&from, name, value.as_mut_slice())?;
        fs::fsetxattr(&to, name, &value[..size], XattrFlags::empty())?;
    }
    Ok(fs::futimens(&to, &times(&stat))?)
}
