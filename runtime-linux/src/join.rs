//! Going into the namespaces of other containers' processes, before pid 1 is cloned.
//!
//! Invariants: a process is held by a descriptor before anything about it is believed, and what is believed is checked
//! afterwards; its mount namespace is entered for one look at `/dev/shm`, with no path of it resolved before its root is ours.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags};

use crate::failure::{At, Cause, InitFailure, Result, Step};
use crate::mounts::{self, Tree};
use crate::plan::{Namespace, Network, Peer, Plan, Shm};
use crate::sys;

/// Joins what the plan says; the other container's or the host's `/dev/shm`, detached, when it is to be seen.
pub(crate) fn enter(plan: &Plan) -> Result<Option<OwnedFd>> {
    let shm = match &plan.shm {
        Shm::Own | Shm::None => None,
        Shm::Host => Some(mounts::source("/dev/shm".as_ref(), false).at(Step::Source, "/dev/shm")?),
        Shm::Of(peer) => Some(shm_of(&open(peer)?)?),
    };
    let network = match &plan.network {
        Network::Join(peer) => Some(peer),
        Network::None | Network::Host => None,
    };
    let names = &plan.namespaces;
    for (peer, kind) in [
        (network, libc::CLONE_NEWNET),
        (of(&names.uts), libc::CLONE_NEWUTS),
        (of(&names.ipc), libc::CLONE_NEWIPC),
        (of(&names.cgroup), libc::CLONE_NEWCGROUP),
        (of(&names.pid), libc::CLONE_NEWPID),
    ] {
        let Some(peer) = peer else { continue };
        sys::join(open(peer)?.as_fd(), kind).at(Step::Join, peer.pid.to_string())?;
    }
    if of(&names.pid).is_some() {
        hide()?;
    }
    Ok(shm)
}

fn of(namespace: &Namespace) -> Option<&Peer> {
    match namespace {
        Namespace::Join(peer) => Some(peer),
        Namespace::New | Namespace::Inherit => None,
    }
}

/// From now to `execve`, no process of a container can trace this one, or reach through `/proc` what it has open.
pub(crate) fn hide() -> Result<()> {
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .at(Step::Begin, "process")
}

/// A descriptor of the process, once it is sure that it is the one that was meant.
pub(crate) fn open(peer: &Peer) -> Result<OwnedFd> {
    let subject = peer.pid.to_string();
    let gone = || InitFailure::new(Step::Join, &subject, Cause::Errno(libc::ESRCH));
    let pid = i32::try_from(peer.pid).ok().and_then(Pid::from_raw).ok_or_else(gone)?;
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).at(Step::Join, &subject)?;
    if !peer.cgroup.is_empty() {
        let groups = std::fs::read_to_string(format!("/proc/{subject}/cgroup")).map_err(|_| gone())?;
        let own = |name: &str| {
            let rest = name.strip_prefix(&peer.cgroup);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        };
        if !groups.lines().filter_map(|line| line.rsplit('/').next()).any(own) {
            return Err(gone());
        }
        // It lives, so the number was its own all the time.
        sys::alive(pidfd.as_fd()).at(Step::Join, &subject)?;
    }
    Ok(pidfd)
}

/// A detached copy of the container's `/dev/shm`. A mount can be copied only from within its namespace.
pub(crate) fn shm_of(target: &OwnedFd) -> Result<OwnedFd> {
    let (step, subject) = (Step::Source, "/dev/shm");
    let directory = |path: &str| {
        rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
    };
    let own = rustix::fs::open("/proc/thread-self/ns/mnt", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let (own, root) = (own.at(step, subject)?, directory("/").at(step, subject)?);
    sys::join(target.as_fd(), libc::CLONE_NEWNS).at(Step::Join, subject)?;
    let copied = (|| {
        let tree = Tree(directory("/")?);
        let place = tree.open(subject, OFlags::PATH | OFlags::DIRECTORY)?;
        if mounts::in_proc(&place)? {
            return Err(rustix::io::Errno::ACCESS);
        }
        mounts::copy(&place, false)
    })();
    sys::join(own.as_fd(), libc::CLONE_NEWNS).at(Step::Join, subject)?;
    // The namespace's root need not be the root that this process had.
    rustix::process::fchdir(&root).at(step, subject)?;
    rustix::process::chroot(".").at(step, subject)?;
    rustix::process::chdir("/").at(step, subject)?;
    copied.at(step, subject)
}
