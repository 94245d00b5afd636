//! Owners, modes, times, extended attributes, devices and whiteouts, on Linux.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use cap_std::fs::Dir;
use rustix::fs::{self, AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};

use super::apply::Meta;

/// Overlayfs's mark, and the one it takes inside a user namespace (mount option `userxattr`).
const OPAQUE: &str = "trusted.overlay.opaque";
const OPAQUE_INSIDE: &str = "user.overlay.opaque";
/// Remembers the owner that a file should have and this user may not give it: `uid:gid`.
const OWNER: &str = "user.umiak.owner";

/// Whether this process lacks rights of root's: an ordinary user, or root of a user namespace.
fn confined() -> bool {
    !rustix::process::geteuid().is_root() || runtime_linux::userns::inside()
}

/// A component of an entry's name, as this system has it.
#[expect(clippy::unnecessary_wraps, reason = "the signature of its twin")]
pub(super) fn name(bytes: &[u8]) -> Option<OsString> {
    Some(OsStr::from_bytes(bytes).to_owned())
}

/// Whether whiteouts are stored as overlayfs wants them: needs the right to make devices and trusted attributes.
/// Inside a user namespace that is tried out (Linux 5.8 lets its root make the device 0:0, and no other).
pub(super) fn overlay_whiteouts(layer: &Dir) -> bool {
    if !runtime_linux::userns::inside() {
        return rustix::process::geteuid().is_root();
    }
    let probe = OsStr::new(".wh.probe");
    rustix::process::geteuid().is_root()
        && whiteout(layer, probe).is_ok()
        && fs::unlinkat(layer, probe, AtFlags::empty()).is_ok()
}

fn times(meta: &Meta) -> Timestamps {
    let time = Timespec { tv_sec: meta.seconds, tv_nsec: meta.nanoseconds.into() };
    Timestamps { last_access: time, last_modification: time }
}

/// Whether the owner must be set; a file is made with our own.
fn foreign(meta: &Meta) -> bool {
    meta.uid != rustix::process::geteuid().as_raw() || meta.gid != rustix::process::getegid().as_raw()
}

/// An owner that may not be set is left out, for root in a user namespace and for ordinary users; anything else is an error.
fn permitted(result: rustix::io::Result<()>) -> io::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::PERM | rustix::io::Errno::INVAL) if confined() => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Sets everything of an open file or directory. `false`: the owner was left out.
pub(super) fn set(file: impl AsFd, meta: &Meta) -> io::Result<bool> {
    let owned = if foreign(meta) {
        permitted(fs::fchown(&file, Some(Uid::from_raw(meta.uid)), Some(Gid::from_raw(meta.gid))))?
    } else {
        true
    };
    // After the owner: chown clears set-user-id and the capabilities.
    fs::fchmod(&file, Mode::from_raw_mode(meta.mode))?;
    for (key, value) in &meta.xattrs {
        match fs::fsetxattr(&file, key.as_slice(), value, XattrFlags::empty()) {
            // As docker: file systems without attributes, and users without the right, do without.
            Ok(()) | Err(rustix::io::Errno::NOTSUP) => {}
            Err(rustix::io::Errno::PERM) if confined() => {}
            Err(error) => return Err(error.into()),
        }
    }
    if !owned {
        let wish = format!("{}:{}", meta.uid, meta.gid);
        match fs::fsetxattr(&file, OWNER, wish.as_bytes(), XattrFlags::empty()) {
            // Without attributes the wish is only counted.
            Ok(()) | Err(rustix::io::Errno::NOTSUP | rustix::io::Errno::PERM | rustix::io::Errno::ACCESS) => {
            }
            Err(error) => return Err(error.into()),
        }
    }
    fs::futimens(&file, &times(meta))?;
    Ok(owned)
}

/// The same directory, open for more than lookups: cap-std opens directories with `O_PATH`.
pub(in crate::store) fn readable(directory: &Dir) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(fs::openat(directory, ".", flags, Mode::empty())?)
}

/// Sets everything of a directory. `false`: the owner was left out.
pub(super) fn set_directory(directory: &Dir, meta: &Meta) -> io::Result<bool> {
    set(readable(directory)?, meta)
}

/// Sets owner and times of what cannot be opened: links and nodes.
pub(super) fn set_at(parent: &Dir, name: &OsStr, meta: &Meta) -> io::Result<bool> {
    let owned = if foreign(meta) {
        let owner = (Some(Uid::from_raw(meta.uid)), Some(Gid::from_raw(meta.gid)));
        permitted(fs::chownat(parent, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW))?
    } else {
        true
    };
    fs::utimensat(parent, name, &times(meta), AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(owned)
}

/// The mode of a directory that the archive only implies.
pub(super) fn implied(directory: &Dir) -> io::Result<()> {
    Ok(fs::fchmod(readable(directory)?, Mode::from_raw_mode(0o755))?)
}

/// Makes a symbolic link with this very text.
pub(super) fn symlink(parent: &Dir, target: &[u8], name: &OsStr) -> io::Result<()> {
    Ok(fs::symlinkat(OsStr::from_bytes(target), parent, name)?)
}

/// What sort of node to make.
#[derive(Debug, Clone, Copy)]
pub(super) enum Node {
    /// A character device.
    Character,
    /// A block device.
    Block,
    /// A named pipe.
    Pipe,
}

/// Makes a device or pipe; `false`: this user may not.
pub(super) fn node(
    parent: &Dir,
    name: &OsStr,
    node: Node,
    major: u32,
    minor: u32,
    meta: &Meta,
) -> io::Result<bool> {
    let kind = match node {
        Node::Character => FileType::CharacterDevice,
        Node::Block => FileType::BlockDevice,
        Node::Pipe => FileType::Fifo,
    };
    match fs::mknodat(parent, name, kind, Mode::from_raw_mode(meta.mode), fs::makedev(major, minor)) {
        Ok(()) => {}
        Err(rustix::io::Errno::PERM) => return Ok(false),
        Err(error) => return Err(error.into()),
    }
    // It is ours and new, and nobody else writes in this tree: no link can be in the way.
    fs::chmodat(parent, name, Mode::from_raw_mode(meta.mode), AtFlags::empty())?;
    Ok(true)
}

/// Makes an overlay whiteout.
pub(super) fn whiteout(parent: &Dir, name: &OsStr) -> io::Result<()> {
    Ok(fs::mknodat(parent, name, FileType::CharacterDevice, Mode::empty(), 0)?)
}

/// Marks a directory opaque for overlayfs.
pub(super) fn opaque(directory: &Dir) -> io::Result<()> {
    let mark = if runtime_linux::userns::inside() { OPAQUE_INSIDE } else { OPAQUE };
    Ok(fs::fsetxattr(readable(directory)?, mark, b"y", XattrFlags::empty())?)
}

/// Whether a name is an overlay whiteout.
pub(in crate::store) fn is_whiteout(metadata: &cap_std::fs::Metadata) -> bool {
    use cap_std::fs::{FileTypeExt as _, MetadataExt as _};
    metadata.file_type().is_char_device() && metadata.rdev() == 0
}

/// Whether a directory is marked opaque.
pub(in crate::store) fn is_opaque(directory: &Dir) -> bool {
    let Ok(directory) = readable(directory) else { return false };
    [OPAQUE, OPAQUE_INSIDE].into_iter().any(|mark| {
        let mut value = [0_u8; 1];
        fs::fgetxattr(&directory, mark, value.as_mut_slice()).is_ok() && value == *b"y"
    })
}

/// The extended attributes of a name, links not followed; those that cannot be read count as absent.
pub(super) fn listed(path: &std::path::Path) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut names = vec![0_u8; 4096];
    let Ok(length) = fs::llistxattr(path, names.as_mut_slice()) else { return Vec::new() };
    let mut found = Vec::new();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0_u8; 1 << 16];
        if let Ok(length) = fs::lgetxattr(path, OsStr::from_bytes(name), value.as_mut_slice()) {
            value.truncate(length);
            found.push((name.to_owned(), value));
        }
    }
    found.sort();
    found
}
