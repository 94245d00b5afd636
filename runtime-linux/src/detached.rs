//! Overlay mounts that are attached nowhere: they live as long as a descriptor, so a crash cannot leak one.
//!
//! Invariant: layers reach the kernel one by one (`lowerdir+`, Linux 6.7) or as descriptors, so neither the characters of their
//! paths nor, within what an image may have, their number matter. Older kernels take them in one page of options by mount(2)
//! alone: fsconfig(2) ends a string at 255 bytes, and takes any name for a good one until the mount is made.

use std::ffi::CString;
use std::fmt::Write as _;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, OpenTreeFlags,
    fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, open_tree,
};

use crate::failure::{At, Result, Step};
use crate::mounts::Tree;
use crate::plan::Mount;

/// The first kernel that takes layers one by one.
const ONE_BY_ONE: (u32, u32) = (6, 7);

/// What takes an overlay's changes.
#[derive(Debug, Clone, Copy)]
pub struct Writable<'a> {
    /// The directory that takes them.
    pub upper: &'a Path,
    /// Overlayfs's own, empty, on the file system of `upper`.
    pub work: &'a Path,
    /// Nothing waits for a disk, neither a program's `fsync` nor the end of the mount, which otherwise writes back a whole file
    /// system. The mount leaves a mark in `work` by which the kernel refuses another (Linux 5.10, `volatile`).
    pub volatile: bool,
}

/// Mounts an overlay without attaching it. `lower` is topmost first; without what takes changes it is read-only.
/// Needs `CAP_SYS_ADMIN`. The caller reaches it through the descriptor, or `/proc/self/fd/N`.
pub fn overlay_fd(lower: &[PathBuf], upper: Option<Writable<'_>>) -> std::io::Result<OwnedFd> {
    let name = rustix::system::uname();
    let mount = if version(&name.release().to_string_lossy()) >= ONE_BY_ONE {
        one_by_one(lower, upper)
    } else {
        by_page(lower, upper)
    };
    Ok(mount?)
}

/// Major and minor number of a kernel's release, as `6.1.0-56-cloud-amd64`.
fn version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|word| word.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn one_by_one(lower: &[PathBuf], upper: Option<Writable<'_>>) -> std::result::Result<OwnedFd, Errno> {
    let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for layer in lower {
        fsconfig_set_string(&fs, "lowerdir+", layer.as_os_str().as_bytes())?;
    }
    if crate::userns::inside() {
        // Trusted attributes are out of reach there; the user's own serve instead (Linux 5.11).
        fsconfig_set_flag(&fs, "userxattr")?;
    }
    if let Some(Writable { upper, work, volatile }) = upper {
        fsconfig_set_string(&fs, "upperdir", upper.as_os_str().as_bytes())?;
        fsconfig_set_string(&fs, "workdir", work.as_os_str().as_bytes())?;
        if volatile {
            fsconfig_set_flag(&fs, "volatile")?;
        }
    }
    fsconfig_create(&fs)?;
    fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
}

/// By mount(2), which must attach: in a mount namespace that a thread has to itself, and that goes with it.
fn by_page(lower: &[PathBuf], upper: Option<Writable<'_>>) -> std::result::Result<OwnedFd, Errno> {
    let job = || (rustix::thread::gettid(), mount_apart(lower, upper));
    let (thread, mount) =
        std::thread::scope(|scope| scope.spawn(job).join()).map_err(|_panicked| Errno::NOMEM)?;
    // The kernel wakes who waits for a thread a moment before it is gone, and the caller may want to clone, alone.
    let left = PathBuf::from(format!("/proc/self/task/{}", thread.as_raw_nonzero()));
    while left.exists() {
        std::thread::yield_now();
    }
    mount
}

/// A root with everything that is mounted into it, attached nowhere: one tree to walk, whose read-only parts are so by the kernel.
///
/// `root` is a mount made by [`overlay_fd`], or a directory. Targets are made where they are missing, and are resolved in the root.
/// Needs `CAP_SYS_ADMIN`.
pub fn compose(root: &OwnedFd, mounts: &[Mount], read_only: bool) -> Result<OwnedFd> {
    let job = || compose_apart(root, mounts, read_only);
    let joined = std::thread::scope(|scope| scope.spawn(job).join());
    joined.unwrap_or_else(|_panicked| Err(Errno::NOMEM).at(Step::Root, "/"))
}

/// In a mount namespace of the calling thread's own, which goes with the thread: what is left is a copy of the tree.
fn compose_apart(root: &OwnedFd, mounts: &[Mount], read_only: bool) -> Result<OwnedFd> {
    let made = |outcome: std::result::Result<OwnedFd, Errno>| outcome.at(Step::Root, "/");
    crate::sys::unshare_mounts().at(Step::Root, "/")?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private).at(Step::Root, "/")?;
    // The sources are the host's, and are opened before anything hides a part of it.
    let sources = crate::rootfs::sources(mounts, None)?;
    // A mount that was never attached moves; a directory of the host is copied.
    let place = made(rustix::fs::open("/proc", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()))?;
    if crate::mounts::attach(root, &place).is_err() {
        let path = PathBuf::from(format!("/proc/self/fd/{}", root.as_raw_fd()));
        let copy = made(crate::mounts::copy(root, true).or_else(|_| crate::mounts::source(&path, true)))?;
        crate::mounts::attach(&copy, &place).at(Step::Root, "/")?;
    }
    let top =
        made(rustix::fs::open("/proc", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()))?;
    let tree = Tree(top);
    for (mount, source) in mounts.iter().zip(sources) {
        crate::rootfs::user_mount(&tree, mount, source)?;
    }
    if read_only {
        let attribute = MountAttrFlags::MOUNT_ATTR_RDONLY.bits().into();
        crate::sys::mount_setattr(&tree.0, attribute, 0, false).at(Step::ReadOnly, "/")?;
    }
    made(crate::mounts::copy(&tree.0, true))
}

/// In a mount namespace of the calling thread's own. The directories are opened there, since an overlay takes no mount of
/// another one.
fn mount_apart(lower: &[PathBuf], upper: Option<Writable<'_>>) -> std::result::Result<OwnedFd, Errno> {
    crate::sys::unshare_mounts()?;
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let open = |path: &Path| {
        rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
    };
    let layers = lower.iter().map(|path| open(path)).collect::<std::result::Result<Vec<_>, _>>()?;
    let above = upper.map(|to| Ok::<_, Errno>((open(to.upper)?, open(to.work)?, to.volatile))).transpose()?;
    let options = options(&layers, above.as_ref(), crate::userns::inside())?;
    // Any directory will do, and this one is there.
    let place = "/proc";
    rustix::mount::mount("overlay", place, "overlay", MountFlags::empty(), options.as_c_str())?;
    open_tree(CWD, place, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)
}

/// The page: every directory by its descriptor.
fn options(
    layers: &[OwnedFd],
    above: Option<&(OwnedFd, OwnedFd, bool)>,
    user_attributes: bool,
) -> std::result::Result<CString, Errno> {
    let path = |fd: &OwnedFd| format!("/proc/self/fd/{}", fd.as_raw_fd());
    let mut text = format!("lowerdir={}", layers.iter().map(path).collect::<Vec<_>>().join(":"));
    if let Some((upper, work, volatile)) = above {
        let _infallible = write!(text, ",upperdir={},workdir={}", path(upper), path(work));
        if *volatile {
            text.push_str(",volatile");
        }
    }
    if user_attributes {
        text.push_str(",userxattr");
    }
    // The kernel would cut it, and lose the upper directory, without a word.
    if text.len() >= 4096 {
        return Err(Errno::TOOBIG);
    }
    CString::new(text).map_err(|_| Errno::INVAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_told_apart() {
        for (release, wanted) in [
            ("6.1.0-56-cloud-amd64", (6, 1)),
            ("6.7-rc1", (6, 7)),
            ("6.18.3", (6, 18)),
            ("10.0", (10, 0)),
            ("", (0, 0)),
        ] {
            assert_eq!(version(release), wanted, "{release}");
        }
    }

    #[test]
    fn the_page_names_descriptors_and_is_never_cut() {
        let open = || OwnedFd::from(std::fs::File::open("/").unwrap());
        let (top, low, upper) = (open(), open(), (open(), open(), true));
        let numbers = [&top, &low, &upper.0, &upper.1].map(AsRawFd::as_raw_fd);
        let [first, second, third, fourth] = numbers;
        let wanted = format!(
            "lowerdir=/proc/self/fd/{first}:/proc/self/fd/{second},upperdir=/proc/self/fd/{third},\
             workdir=/proc/self/fd/{fourth},volatile,userxattr"
        );
        assert_eq!(options(&[top, low], Some(&upper), true).unwrap().to_str(), Ok(wanted.as_str()));
        let many: Vec<_> = (0..128).map(|_| open()).collect();
        assert!(options(&many, Some(&upper), true).is_ok(), "as many as an image may have");
        let more: Vec<_> = (0..300).map(|_| open()).collect();
        assert_eq!(options(&more, None, false), Err(Errno::TOOBIG));
    }
}
