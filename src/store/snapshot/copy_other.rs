//! Copying one file where there is no Linux: bytes and permissions.

use std::ffi::OsStr;
use std::io;
use std::path::Path;

use cap_std::fs::{Dir, Metadata};

/// Overlayfs is Linux's.
pub(super) fn can_overlay(_: &std::path::Path) -> bool {
    false
}

/// Overlayfs is Linux's.
pub(super) fn root_attributes(_: Option<&Path>, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Files with several names become several files.
pub(super) fn shared(_: &Metadata) -> Option<(u64, u64)> {
    None
}

/// Permissions of a directory.
pub(super) fn directory(from: &Dir, to: &Dir) -> io::Result<()> {
    if cfg!(windows) { Ok(()) } else { to.set_permissions(".", from.dir_metadata()?.permissions()) }
}

/// Copies a file or a link.
pub(super) fn leaf(from: &Dir, to: &Dir, name: &OsStr, metadata: &Metadata) -> io::Result<()> {
    if metadata.is_symlink() {
        let target = from.read_link_contents(name)?;
        #[cfg(unix)]
        return to.symlink_contents(target, name);
        #[cfg(not(unix))]
        return to.symlink_file(target, name);
    }
    from.copy(name, to, name).map(drop)
}
