//! Attributes where there is no Linux: owners, extended attributes and devices are left out and counted; modes are kept on
//! Unix; times are not set.

use std::ffi::{OsStr, OsString};
use std::io;

use cap_std::fs::{Dir, File};

use super::apply::Meta;
pub(super) use super::facts::Node;
pub(in crate::store) use super::facts::{Facts, Form};

/// A component of an entry's name: must be UTF-8 here.
pub(in crate::store) fn name(bytes: &[u8]) -> Option<OsString> {
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

/// The mode is set afterwards here.
pub(super) fn made_with(_: &mut cap_std::fs::OpenOptions, _: &Meta) {}

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

/// Whether nothing changed, as far as facts tell: copies have times of their own here.
pub(in crate::store) fn same(one: &Facts, other: &Facts) -> bool {
    one.form == other.form
        && one.mode == other.mode
        && (one.form == Form::Directory || one.size == other.size)
}

/// The facts of what was looked at.
pub(in crate::store) fn facts(metadata: &cap_std::fs::Metadata) -> Facts {
    let form = if metadata.is_dir() {
        Form::Directory
    } else if metadata.is_symlink() {
        Form::Link
    } else {
        Form::File
    };
    #[cfg(unix)]
    let mode = cap_std::fs::MetadataExt::mode(metadata) & 0o7777;
    #[cfg(not(unix))]
    let mode = if form == Form::Directory { 0o755 } else { 0o644 };
    let since = metadata.modified().ok().map(cap_std::time::SystemTime::into_std);
    let since = since.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok()).unwrap_or_default();
    Facts {
        form,
        mode,
        seconds: since.as_secs().try_into().unwrap_or(0),
        nanoseconds: since.subsec_nanos(),
        size: if form == Form::File { metadata.len() } else { 0 },
        ..Facts::empty()
    }
}

/// There are none here.
#[expect(clippy::unnecessary_wraps, reason = "the signature of its twin")]
pub(in crate::store) fn capability(_: &Dir, _: &OsStr) -> io::Result<Option<Vec<u8>>> {
    Ok(None)
}

/// There are none here.
#[expect(clippy::unnecessary_wraps, reason = "the signature of its twin")]
pub(in crate::store) fn extended(_: &Dir, _: &OsStr, _: &mut Facts) -> io::Result<Vec<(String, Vec<u8>)>> {
    Ok(Vec::new())
}

/// Nothing to be said here.
pub(in crate::store) fn without_waiting(_: &mut cap_std::fs::OpenOptions) {}

/// Holes are not looked for.
#[expect(clippy::unnecessary_wraps, reason = "the signature of its twin")]
pub(in crate::store) fn pieces(_: &File, size: u64) -> io::Result<Vec<(u64, u64)>> {
    Ok(vec![(0, size)])
}

/// Attributes are left out here.
pub(super) fn listed(_: &std::path::Path) -> Vec<(Vec<u8>, Vec<u8>)> {
    Vec::new()
}
