//! Overlay mounts that are attached nowhere: they live as long as a descriptor, so a crash cannot leak one.
//!
//! Invariant: layer paths reach the kernel one by one (`lowerdir+`, Linux 6.7), so neither their number nor their
//! characters matter; older kernels get one escaped string. Not `mount(8)`'s option page, which ends at 4 KiB.

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
    fsmount, fsopen,
};

/// `:` separates layers and `\` escapes.
fn escape(path: &Path) -> Vec<u8> {
    let mut out = Vec::new();
    for &byte in path.as_os_str().as_bytes() {
        if matches!(byte, b':' | b'\\' | b',') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out
}

/// Mounts an overlay without attaching it. `lower` is topmost first; without `upper` and `work` it is read-only.
/// Needs `CAP_SYS_ADMIN`. The caller reaches it through the descriptor, or `/proc/self/fd/N`.
pub fn overlay_fd(lower: &[PathBuf], upper: Option<(&Path, &Path)>) -> std::io::Result<OwnedFd> {
    let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let mut appended = false;
    for layer in lower {
        match fsconfig_set_string(&fs, "lowerdir+", layer.as_os_str().as_bytes()) {
            Ok(()) => appended = true,
            Err(Errno::INVAL) if !appended => break,
            Err(errno) => return Err(errno.into()),
        }
    }
    if !appended {
        let joined = lower.iter().map(|p| escape(p)).collect::<Vec<_>>().join(&b':');
        fsconfig_set_string(&fs, "lowerdir", joined.as_slice())?;
    }
    if crate::userns::inside() {
        // Trusted attributes are out of reach there; the user's own serve instead (Linux 5.11).
        fsconfig_set_flag(&fs, "userxattr")?;
    }
    if let Some((upper, work)) = upper {
        fsconfig_set_string(&fs, "upperdir", upper.as_os_str().as_bytes())?;
        fsconfig_set_string(&fs, "workdir", work.as_os_str().as_bytes())?;
    }
    fsconfig_create(&fs)?;
    Ok(fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separators_are_escaped() {
        assert_eq!(escape(Path::new("/a:b\\c,d")), b"/a\\:b\\\\c\\,d");
    }
}
