//! Attributes where there is no Linux: owners, extended attributes and devices are left out and counted; modes are kept on
//! Unix; times are not set.

use std::ffi::{OsStr, OsString};
use std::io;

use cap_std::fs::{Dir, File};

use super::apply::Meta;

/// A component of an entry's name: must be UTF-8 here.
pub(super) fn name(bytes: &[u8]) -> Option<OsString> {
    std::str::from_utf8(bytes).ok().map(OsString::from)
}

/// Overlayfs is Linux's.
pub(super) fn overlay_whiteouts(_: &Dir) -> bool {
    false
}

/// What can carry attributes here.
pub(super) trait Carrier {
    /// Sets the permissions.
    #[cfg_attr(not(unix), expect(dead_code, reason = "only Unix has permission bits to set"))]
    fn permit(&self, permissions: cap_std::fs::Permissions) -> io::Result<()>;
}

impl Carrier for &File {
    fn permit(&self, permissions: cap_std::fs::Permissions) -> io::Result<()> {
        self.set_permissions(permissions)
    }
}

impl Carrier for &Dir {
    fn permit(&self, permissions: cap_std::fs::Permissions) -> io::Result<()> {
        if cfg!(windows) { Ok(()) } else { self.set_permissions(".", permissions) }
    }
}

/// Sets the mode where there are modes. `false`: the owner was left out.
pub(super) fn set(file: impl Carrier, meta: &Meta) -> io::Result<bool> {
    #[cfg(unix)]
    {
        use cap_std::fs::PermissionsExt as _;
        file.permit(cap_std::fs::Permissions::from_mode(meta.mode & 0o777))?;
    }
    #[cfg(not(unix))]
    let _ = file;
    Ok(meta.uid == 0 && meta.gid == 0)
}

/// The same for a directory.
pub(super) fn set_directory(directory: &Dir, meta: &Meta) -> io::Result<bool> {
    set(directory, meta)
}

/// Links and nodes carry nothing here.
#[expect(clippy::unnecessary_wraps, reason = "the signature of its twin")]
pub(super) fn set_at(_: &Dir, _: &OsStr, meta: &Meta) -> io::Result<bool> {
    Ok(meta.uid == 0 && meta.gid == 0)
}

/// New directories have the user's mode.
#[expect(clippy::unnecessary_wraps, reason = "the signature of its twin")]
pub(super) fn implied(_: &Dir) -> io::Result<()> {
    Ok(())
}

/// Makes a symbolic link; Windows may refuse it to an ordinary user.
pub(super) fn symlink(parent: &Dir, target: &[u8], name: &OsStr) -> io::Result<()> {
    let target = std::str::from_utf8(target).map_err(|_| io::Error::from(io::ErrorKind::InvalidFilename))?;
    #[cfg(unix)]
    return parent.symlink_contents(target, name);
    #[cfg(not(unix))]
    return parent.symlink_file(target, name);
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

/// Nodes are left out here.
#[expect(clippy::unnecessary_wraps, reason = "the signature of its twin")]
pub(super) fn node(_: &Dir, _: &OsStr, _: Node, _: u32, _: u32, _: &Meta) -> io::Result<bool> {
    Ok(false)
}

/// Not used here: see [`overlay_whiteouts`].
pub(super) fn whiteout(_: &Dir, _: &OsStr) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Not used here: see [`overlay_whiteouts`].
pub(super) fn opaque(_: &Dir) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// There are none here.
pub(in crate::store) fn is_whiteout(_: &cap_std::fs::Metadata) -> bool {
    false
}

/// There are none here.
pub(in crate::store) fn is_opaque(_: &Dir) -> bool {
    false
}

/// Attributes are left out here.
pub(super) fn listed(_: &std::path::Path) -> Vec<(Vec<u8>, Vec<u8>)> {
    Vec::new()
}
