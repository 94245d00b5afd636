//! The container's root: overlay or directory, `pivot_root`, then procfs, sysfs, devices, the user's mounts, masks.
//!
//! Invariant: the host's tree is gone before the first path of the image is looked at; sources on the host were
//! opened before. Not the usual order (mount everything below the new root, then pivot), in which a symbolic link of
//! the image is resolved while the host is still there: most runtime escapes were that.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, MountPropagationFlags, UnmountFlags};

use crate::cgroups::View;
use crate::detached::Writable;
use crate::failure::{At, Cause, InitFailure, Result, Step};
use crate::mounts::{self, Tree};
use crate::nested::{self, Outer};
use crate::plan::{Mount, Namespace, Plan, Propagation, Root, Shm};
use crate::remap::{self, Prepared};

const RDONLY: u64 = MountAttrFlags::MOUNT_ATTR_RDONLY.bits() as u64;
const NOSUID: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID;
const STRICT: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID
    .union(MountAttrFlags::MOUNT_ATTR_NODEV)
    .union(MountAttrFlags::MOUNT_ATTR_NOEXEC);

/// What stage one opened of the host, to be attached in the container.
#[derive(Debug)]
pub(crate) struct Opened {
    /// Another's `/dev/shm`.
    pub(crate) shm: Option<OwnedFd>,
    /// What is made for a user namespace of the container's own.
    pub(crate) prepared: Option<Prepared>,
    /// Its groups on cgroup v1.
    pub(crate) view: Option<View>,
}

/// A terminal: the host's end and the process's.
pub(crate) type Pair = (OwnedFd, OwnedFd);

const PRIVATE: u64 = 1 << 18;
const SLAVE: u64 = 1 << 19;
const SHARED: u64 = 1 << 20;

/// Settles how mounts travel to and from a copy of a tree. In a fresh copy everything is what it is on the host, so what is
/// shared there would hand the container's mounts out: first everything only receives, unless sharing was asked for.
fn propagate(copy: &OwnedFd, propagation: Propagation, recursive: bool) -> rustix::io::Result<()> {
    let steps: &[(u64, bool)] = match propagation {
        Propagation::Rprivate => &[(PRIVATE, true)],
        Propagation::Private if recursive => &[(SLAVE, true), (PRIVATE, false)],
        Propagation::Private => &[(PRIVATE, false)],
        Propagation::Rslave | Propagation::Slave => &[(SLAVE, true)],
        Propagation::Rshared => &[(SHARED, true)],
        Propagation::Shared => &[(SHARED, false)],
    };
    steps.iter().try_for_each(|(kind, all)| crate::sys::mount_setattr(copy, 0, *kind, *all && recursive))
}

/// Opens the sources of the bind mounts, one for each mount; with the ids of a user namespace where there is one.
pub(crate) fn sources(mounts: &[Mount], space: Option<&OwnedFd>) -> Result<Vec<Option<OwnedFd>>> {
    let open = |mount: &Mount| match mount {
        Mount::Bind { source, subpath, recursive, read_only, propagation, .. } => {
            let subject = if subpath.is_empty() { source.clone() } else { source.join(subpath) };
            let subject = subject.display().to_string();
            let fd = match space {
                Some(space) => remap::mapped_within(source, subpath, *recursive, space, Step::Source)?,
                None => mounts::source_within(source, subpath, *recursive).at(Step::Source, &subject)?,
            };
            propagate(&fd, *propagation, *recursive).at(Step::Source, &subject)?;
            if *read_only {
                crate::sys::mount_setattr(&fd, RDONLY, 0, *recursive).at(Step::Source, &subject)?;
            }
            Ok(Some(fd))
        }
        Mount::Tmpfs { .. } => Ok(None),
    };
    mounts.iter().map(open).collect()
}

/// Goes into the new root and lets go of the old one.
fn pivot(plan: &Plan, made: Option<OwnedFd>) -> Result<Tree> {
    // Root of the container's own user namespace may not go where the store is; any directory will do for a moment.
    let (mount, place) = match (&plan.root, made) {
        (_, Some(made)) => (made, &PathBuf::from("/proc")),
        (Root::Overlay { lower, upper, work, volatile }, None) => {
            let mount =
                crate::detached::overlay_fd(lower, Some(Writable { upper, work, volatile: *volatile }));
            (mount.at(Step::Root, upper.display().to_string())?, upper)
        }
        (Root::Directory(path), None) => {
            (mounts::source(path, true).at(Step::Root, path.display().to_string())?, path)
        }
    };
    let subject = place.display().to_string();
    crate::sys::mount_setattr(&mount, 0, PRIVATE, true).at(Step::Root, &subject)?;
    let target =
        rustix::fs::open(place, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).at(Step::Root, &subject)?;
    mounts::attach(&mount, &target).at(Step::Root, &subject)?;
    rustix::process::fchdir(&mount).at(Step::Root, &subject)?;
    rustix::process::pivot_root(".", ".").at(Step::Root, &subject)?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).at(Step::Root, &subject)?;
    rustix::process::chdir("/").at(Step::Root, &subject)?;
    let root = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    Ok(Tree(root.at(Step::Root, &subject)?))
}

/// Everything about mounts; the terminal's descriptors when there is one.
pub(crate) fn prepare(plan: &Plan, opened: Opened) -> Result<(Tree, Option<Pair>)> {
    let Opened { shm, prepared, view } = opened;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    let (root, sources) = match prepared {
        Some(Prepared { root, sources }) => (Some(root), sources),
        None => (None, sources(&plan.mounts, None)?),
    };
    let sys = if plan.privileged { STRICT } else { STRICT | MountAttrFlags::MOUNT_ATTR_RDONLY };
    let outer = Outer::open(plan, STRICT, sys)?;
    rustix::mount::mount_change("/", private).at(Step::Root, "/")?;
    let tree = pivot(plan, root)?;
    mounts::attach(&outer.proc, tree.plain_directory("proc")?).at(Step::Mount, "/proc")?;
    let null = devices(plan, &tree, &outer, shm)?;
    let terminal = plan.terminal.map(|size| terminal(&tree, size)).transpose()?;
    sysfs(plan, &tree, &outer.sys, view.as_ref())?;
    for (mount, source) in plan.mounts.iter().zip(sources) {
        user_mount(&tree, mount, source)?;
    }
    sysctls(plan, &outer.proc)?;
    mask(plan, &tree, &null)?;
    if plan.read_only {
        let top = tree.open("/", OFlags::PATH).at(Step::ReadOnly, "/")?;
        crate::sys::mount_setattr(&top, RDONLY, 0, false).at(Step::ReadOnly, "/")?;
    }
    Ok((tree, terminal))
}

fn sysfs(plan: &Plan, tree: &Tree, sys: &OwnedFd, view: Option<&View>) -> Result<()> {
    let attributes = |strict: MountAttrFlags| {
        if plan.privileged { strict } else { strict | MountAttrFlags::MOUNT_ATTR_RDONLY }
    };
    mounts::attach(sys, tree.plain_directory("sys")?).at(Step::Mount, "/sys")?;
    let Ok(place) = tree.open("/sys/fs/cgroup", OFlags::PATH | OFlags::DIRECTORY) else { return Ok(()) };
    if let Some(view) = view {
        return view.show(&place);
    }
    // Only v2 has one tree to show; in a new cgroup namespace it begins at the container's own cgroup.
    if plan.namespaces.cgroup.is_new()
        && let Ok(cgroup) = mounts::filesystem("cgroup2", &[], attributes(STRICT))
    {
        mounts::attach(&cgroup, &place).at(Step::Mount, "/sys/fs/cgroup")?;
    }
    Ok(())
}

/// A fresh `/dev`; the answer is its null device, verified by having been made here (CVE-2025-31133).
fn devices(plan: &Plan, tree: &Tree, outer: &Outer, shared: Option<OwnedFd>) -> Result<OwnedFd> {
    let place = tree.plain_directory("dev")?;
    let dev = mounts::filesystem("tmpfs", &[("mode", Some("755")), ("size", Some("65536k"))], NOSUID);
    let dev = dev.at(Step::Mount, "/dev")?;
    mounts::attach(&dev, &place).at(Step::Mount, "/dev")?;
    let old = rustix::process::umask(Mode::empty());
    for (at, (name, major, minor)) in nested::DEVICES.into_iter().enumerate() {
        let (kind, number) = match outer.devices.get(at) {
            Some(_) => (FileType::RegularFile, 0),
            None => (FileType::CharacterDevice, rustix::fs::makedev(major, minor)),
        };
        rustix::fs::mknodat(&dev, name, kind, Mode::from_raw_mode(0o666), number).at(Step::Device, name)?;
        if let Some(host) = outer.devices.get(at) {
            let place = rustix::fs::openat(&dev, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
            mounts::attach(host, place.at(Step::Device, name)?).at(Step::Device, name)?;
        }
    }
    for (target, name) in [
        ("/proc/self/fd", "fd"),
        ("/proc/self/fd/0", "stdin"),
        ("/proc/self/fd/1", "stdout"),
        ("/proc/self/fd/2", "stderr"),
        ("pts/ptmx", "ptmx"),
    ] {
        rustix::fs::symlinkat(target, &dev, name).at(Step::Device, name)?;
    }
    let size = plan.shm_size.to_string();
    let pts = [("newinstance", None), ("ptmxmode", Some("0666")), ("mode", Some("0620")), ("gid", Some("5"))];
    let grouped = plan.inside.as_ref().is_none_or(|ids| ids.has_gid(5));
    let pts = if grouped { pts.as_slice() } else { &pts[..3] };
    let shm = [("source", Some("shm")), ("mode", Some("1777")), ("size", Some(size.as_str()))];
    let none: &[(&str, Option<&str>)] = &[];
    let mut inner = vec![
        ("pts", "devpts", pts, NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC),
        // The queues of the IPC namespace that the process is in, whosever that is.
        ("mqueue", "mqueue", none, STRICT),
    ];
    if plan.shm == Shm::Own {
        inner.push(("shm", "tmpfs", shm.as_slice(), STRICT));
    }
    if let Some(shared) = shared {
        rustix::fs::mkdirat(&dev, "shm", Mode::from_raw_mode(0o755)).at(Step::Device, "shm")?;
        let place = rustix::fs::openat(&dev, "shm", OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        mounts::attach(&shared, place.at(Step::Mount, "shm")?).at(Step::Mount, "/dev/shm")?;
    }
    for (name, kind, options, attributes) in inner {
        rustix::fs::mkdirat(&dev, name, Mode::from_raw_mode(0o755)).at(Step::Device, name)?;
        let fs = mounts::filesystem(kind, options, attributes);
        let fs = match fs {
            // A kernel may be built without POSIX queues; nothing else may be missing.
            Err(Errno::NODEV) if kind == "mqueue" => continue,
            // Those of the host's IPC namespace are the host's root's.
            Err(Errno::PERM)
                if kind == "mqueue" && plan.inside.is_some() && !plan.namespaces.ipc.is_new() =>
            {
                continue;
            }
            other => other.at(Step::Mount, format!("/dev/{name}"))?,
        };
        let place = rustix::fs::openat(&dev, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        mounts::attach(&fs, place.at(Step::Mount, name)?).at(Step::Mount, format!("/dev/{name}"))?;
    }
    for (device, host) in plan.devices.iter().zip(&outer.nodes) {
        let place = tree.target(&device.path, false).at(Step::Device, &device.path)?;
        mounts::attach(host, &place).at(Step::Device, &device.path)?;
    }
    for device in plan.devices.iter().skip(outer.nodes.len()) {
        let (parent, name) = device.path.rsplit_once('/').unwrap_or(("/dev", &device.path));
        let parent = tree.directory(parent).at(Step::Device, &device.path)?;
        let kind = if device.block { FileType::BlockDevice } else { FileType::CharacterDevice };
        let number = rustix::fs::makedev(device.major, device.minor);
        rustix::fs::mknodat(&parent, name, kind, Mode::from_raw_mode(device.mode), number)
            .at(Step::Device, &device.path)?;
    }
    rustix::process::umask(old);
    rustix::fs::openat(&dev, "null", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).at(Step::Device, "null")
}

/// A terminal from the container's own devpts: (master, slave). The slave is opened by the master, not by its path,
/// which could be something else (CVE-2025-52565), and becomes `/dev/console`.
fn terminal(tree: &Tree, size: crate::WindowSize) -> Result<Pair> {
    let step = Step::Terminal;
    let (master, slave) = open_terminal(tree, size)?;
    let place = tree.target("/dev/console", false).at(step, "/dev/console")?;
    let copy = mounts::copy(&slave, false).at(step, "/dev/console")?;
    mounts::attach(&copy, &place).at(step, "/dev/console")?;
    Ok((master, slave))
}

/// The terminal alone: (master, slave). What is opened is seen to be the multiplexer of a devpts: in a container that runs,
/// the path may be anything.
pub(crate) fn open_terminal(tree: &Tree, size: crate::WindowSize) -> Result<Pair> {
    const DEVPTS: u64 = 0x1cd1;
    let (step, subject) = (Step::Terminal, "/dev/pts/ptmx");
    let place = tree.open(subject, OFlags::PATH).at(step, subject)?;
    let stat = rustix::fs::statat(&place, "", AtFlags::EMPTY_PATH).at(step, subject)?;
    let kind = rustix::fs::fstatfs(&place).at(step, subject)?.f_type;
    if stat.st_rdev != rustix::fs::makedev(5, 2) || u64::try_from(kind).unwrap_or(0) != DEVPTS {
        let why = "it is not the terminals' multiplexer".to_owned();
        return Err(InitFailure::new(step, subject, Cause::Refused(why)));
    }
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master = tree.open(subject, flags).at(step, subject)?;
    let opened = rustix::fs::fstat(&master).at(step, subject)?;
    if (opened.st_dev, opened.st_ino) != (stat.st_dev, stat.st_ino) {
        let why = "it was changed meanwhile".to_owned();
        return Err(InitFailure::new(step, subject, Cause::Refused(why)));
    }
    rustix::pty::unlockpt(&master).at(step, "pts")?;
    let open =
        rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY | rustix::pty::OpenptFlags::CLOEXEC;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, open).at(step, "pts")?;
    let window =
        rustix::termios::Winsize { ws_row: size.rows, ws_col: size.cols, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(&master, window).at(step, "window size")?;
    Ok((master, slave))
}

pub(crate) fn user_mount(tree: &Tree, mount: &Mount, source: Option<OwnedFd>) -> Result<()> {
    match (mount, source) {
        (Mount::Tmpfs { target, options, size }, _) => {
            let mut attributes = NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
            let mut pairs = Vec::new();
            let size = size.map(|bytes| bytes.to_string());
            if let Some(size) = &size {
                pairs.push(("size", Some(size.as_str())));
            }
            for option in options {
                match option.as_str() {
                    "noexec" => attributes |= MountAttrFlags::MOUNT_ATTR_NOEXEC,
                    "ro" => attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY,
                    "suid" => attributes -= NOSUID,
                    "dev" => attributes -= MountAttrFlags::MOUNT_ATTR_NODEV,
                    "rw" | "exec" | "nosuid" | "nodev" => {}
                    other => pairs.push(other.split_once('=').map_or((other, None), |(k, v)| (k, Some(v)))),
                }
            }
            let place = tree.user_target(target, true)?;
            let fs = mounts::filesystem("tmpfs", &pairs, attributes).at(Step::Mount, target)?;
            mounts::attach(&fs, &place).at(Step::Mount, target)
        }
        (Mount::Bind { target, .. }, Some(source)) => {
            let directory = mounts::is_directory(&source).at(Step::Mount, target)?;
            let place = tree.user_target(target, directory)?;
            mounts::attach(&source, &place).at(Step::Mount, target)
        }
        (Mount::Bind { target, .. }, None) => {
            Err(InitFailure::new(Step::Mount, target, Cause::Errno(libc::ENOENT)))
        }
    }
}

/// Parameters are written below our own procfs mount, crossing neither links nor mounts (CVE-2025-52881).
fn sysctls(plan: &Plan, proc: &OwnedFd) -> Result<()> {
    for (name, value) in &plan.sysctls {
        let ipc = name.starts_with("kernel.shm")
            || name.starts_with("kernel.msg")
            || name == "kernel.sem"
            || name.starts_with("fs.mqueue.");
        let net = name.starts_with("net.") && plan.network != crate::Network::Host;
        let uts = name == "kernel.domainname" && plan.namespaces.uts.is_new();
        if !(net || uts || ipc && plan.namespaces.ipc != Namespace::Inherit) {
            let why = "it does not belong to a namespace of the container".to_owned();
            return Err(InitFailure::new(Step::Sysctl, name, Cause::Refused(why)));
        }
        let path = format!("sys/{}", name.replace('.', "/"));
        let resolve = rustix::fs::ResolveFlags::BENEATH
            | rustix::fs::ResolveFlags::NO_XDEV
            | rustix::fs::ResolveFlags::NO_SYMLINKS;
        let fd = rustix::fs::openat2(proc, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty(), resolve);
        let fd = fd.at(Step::Sysctl, name)?;
        rustix::io::write(&fd, value.as_bytes()).at(Step::Sysctl, name)?;
    }
    Ok(())
}

fn mask(plan: &Plan, tree: &Tree, null: &OwnedFd) -> Result<()> {
    let stat = rustix::fs::statat(null, "", AtFlags::EMPTY_PATH).at(Step::Mask, "/dev/null")?;
    if stat.st_rdev != rustix::fs::makedev(1, 3) || !FileType::from_raw_mode(stat.st_mode).is_char_device() {
        let why = "it is not the null device".to_owned();
        return Err(InitFailure::new(Step::Mask, "/dev/null", Cause::Refused(why)));
    }
    let open = |path: &str, step| match tree.open(path, OFlags::PATH) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(errno) => Err(errno).at(step, path),
    };
    for path in &plan.readonly_paths {
        let Some(place) = open(path, Step::ReadOnly)? else { continue };
        let copy = mounts::copy(&place, true).at(Step::ReadOnly, path)?;
        crate::sys::mount_setattr(&copy, RDONLY, 0, true).at(Step::ReadOnly, path)?;
        mounts::attach(&copy, &place).at(Step::ReadOnly, path)?;
    }
    for path in &plan.masked_paths {
        let Some(place) = open(path, Step::Mask)? else { continue };
        let cover = if mounts::is_directory(&place).at(Step::Mask, path)? {
            mounts::filesystem("tmpfs", &[], STRICT | MountAttrFlags::MOUNT_ATTR_RDONLY)
        } else {
            mounts::copy(null, false)
        };
        mounts::attach(cover.at(Step::Mask, path)?, &place).at(Step::Mask, path)?;
    }
    Ok(())
}
