//! A user namespace of the container's own, made by root: its ids are a range of the host's that nobody else has.
//!
//! Stage one does what needs the host's root, and then becomes the namespace's root, so that pid 1 and all its other
//! namespaces belong to it. Files keep the ids that the image gives them: layers, upper directory and bind mounts are mounted
//! with the ids mapped (`MOUNT_ATTR_IDMAP`, Linux 5.12; overlay's layers 5.19), and nothing is chowned.
//!
//! Overlayfs itself cannot be mounted so, but its layers can: in a mount namespace of stage one each is covered by its mapped
//! self, and the overlay is made over those, by a process whose file system id is the mapped root, since it could make nothing
//! in its upper directory otherwise.
//!
//! Invariants: nothing of the host is opened by path after the namespace was entered; what is passed on are detached mounts.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::MountPropagationFlags;
use rustix::process::{Gid, Uid};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::detached::Writable;
use crate::failure::{At, Cause, InitFailure, Result, Step};
use crate::plan::{Namespace, Network, Plan, Root};
use crate::userns::{IdMappings, IdRange};
use crate::{init, mounts, rootfs, sys};

/// What was made while this process was still the host's root.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) root: OwnedFd,
    pub(crate) sources: Vec<Option<OwnedFd>>,
}

fn refused(why: &str) -> InitFailure {
    InitFailure::new(Step::Namespaces, "user", Cause::Refused(why.to_owned()))
}

/// What belongs to the host's root cannot be shared.
fn check(plan: &Plan, ids: &IdMappings) -> Result<()> {
    let names = &plan.namespaces;
    if !ids.has_uid(0) || !ids.has_gid(0) {
        return Err(refused("its root is mapped to nobody"));
    }
    if plan.network == Network::Host {
        return Err(refused("cannot share the host's network namespace when user namespaces are enabled"));
    }
    if names.pid == Namespace::Inherit {
        return Err(refused("cannot share the host PID namespace when user namespaces are enabled"));
    }
    let joins = [&names.pid, &names.ipc, &names.uts, &names.cgroup];
    if joins.iter().any(|one| matches!(one, Namespace::Join(_))) || matches!(plan.network, Network::Join(_)) {
        return Err(refused("another container's namespaces belong to another user namespace"));
    }
    Ok(())
}

/// The id outside that is 0 inside.
fn root_of(ranges: &[IdRange]) -> u32 {
    ranges.iter().find(|range| range.inside == 0).map_or(0, |range| range.outside)
}

/// Stage one: makes everything that the host's root has to make, and becomes the root of the new namespace.
pub(crate) fn enter(
    plan: &mut Plan,
    ids: &IdMappings,
    streams: &[OwnedFd],
    cgroup: Option<File>,
) -> Result<Prepared> {
    check(plan, ids)?;
    if let Some(cgroup) = cgroup {
        // On v2 the namespace's root may not have a child born in there, so this process goes itself.
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let procs = rustix::fs::openat(&cgroup, "cgroup.procs", flags, Mode::empty());
        rustix::io::write(procs.at(Step::Cgroup, "cgroup.procs")?, b"0").at(Step::Cgroup, "cgroup.procs")?;
    }
    init::set_oom_score(plan.oom_score_adj.take())?;
    init::set_rlimits(&std::mem::take(&mut plan.rlimits))?;
    let (uid, gid) = (Uid::from_raw(root_of(&ids.uids)), Gid::from_raw(root_of(&ids.gids)));
    for stream in streams {
        // A program opens its own pipes again by `/dev/stdout`.
        let stat = rustix::fs::fstat(stream).at(Step::Begin, "standard streams")?;
        if FileType::from_raw_mode(stat.st_mode).is_fifo() {
            rustix::fs::fchown(stream, Some(uid), Some(gid)).at(Step::Begin, "standard streams")?;
        }
    }
    let space = namespace(ids)?;
    let step = Step::Namespaces;
    sys::unshare_mounts().at(step, "mount")?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private).at(step, "mount")?;
    let sources = rootfs::sources(&plan.mounts, Some(&space))?;
    let root = root(&plan.root, &space, (uid, gid))?;
    move_into_link_name_space(std::os::fd::AsFd::as_fd(&space), Some(LinkNameSpaceType::User))
        .at(step, "user")?;
    rustix::thread::set_thread_groups(&[]).at(step, "groups")?;
    let (gid, uid) = (Gid::ROOT, Uid::ROOT);
    rustix::thread::set_thread_res_gid(gid, gid, gid).at(step, "group")?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).at(step, "user")?;
    plan.inside = Some(ids.clone());
    Ok(Prepared { root, sources })
}

/// A new user namespace with these ids, held by a descriptor alone.
fn namespace(ids: &IdMappings) -> Result<OwnedFd> {
    let step = Step::Namespaces;
    let (mut ours, mut theirs) = UnixStream::pair().at(step, "user")?;
    let Some(child) = sys::fork().at(step, "user")? else {
        drop(ours);
        let made = sys::unshare_user().map_or_else(Errno::raw_os_error, |()| 0);
        let _gone = theirs.write_all(&made.to_ne_bytes());
        // Until the other side has what it wants.
        let _end = theirs.read(&mut [0]);
        sys::exit_now(0);
    };
    drop(theirs);
    let opened = (|| {
        let mut made = [0; 4];
        ours.read_exact(&mut made).at(step, "user")?;
        match i32::from_ne_bytes(made) {
            0 => {}
            code => return Err(InitFailure::new(step, "user", Cause::Errno(code))),
        }
        let process = format!("/proc/{}", child.as_raw_nonzero());
        for (file, ranges) in [("uid_map", &ids.uids), ("gid_map", &ids.gids)] {
            let line = |range: &IdRange| format!("{} {} {}\n", range.inside, range.outside, range.count);
            let text: String = ranges.iter().map(line).collect();
            std::fs::write(format!("{process}/{file}"), text).at(step, file)?;
        }
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        rustix::fs::open(format!("{process}/ns/user"), flags, Mode::empty()).at(step, "user")
    })();
    drop(ours);
    let options = rustix::process::WaitOptions::empty();
    let _reaped = rustix::io::retry_on_intr(|| rustix::process::waitpid(Some(child), options));
    opened
}

/// A detached copy of a tree in which the ids are those of the namespace.
pub(crate) fn mapped(path: &Path, recursive: bool, space: &OwnedFd, step: Step) -> Result<OwnedFd> {
    mapped_within(path, "", recursive, space, step)
}

/// The same of what is at `subpath` in it.
pub(crate) fn mapped_within(
    path: &Path,
    subpath: &str,
    recursive: bool,
    space: &OwnedFd,
    step: Step,
) -> Result<OwnedFd> {
    let subject = if subpath.is_empty() { path.to_owned() } else { path.join(subpath) };
    let subject = subject.display().to_string();
    let mount = mounts::source_within(path, subpath, recursive).at(step, &subject)?;
    match sys::mount_idmap(&mount, space, recursive) {
        Err(Errno::INVAL) => {
            let why = "its file system, or one mounted below it, cannot show ids mapped (idmapped mounts)";
            Err(InitFailure::new(step, subject, Cause::Unsupported(why.to_owned())))
        }
        other => other.at(step, &subject).map(|()| mount),
    }
}

/// The container's root, not attached anywhere.
fn root(root: &Root, space: &OwnedFd, owner: (Uid, Gid)) -> Result<OwnedFd> {
    let step = Step::Root;
    let (lower, upper, writable) = match root {
        Root::Directory(path) => return mapped(path, true, space, step),
        Root::Overlay { lower, upper, work, volatile } => {
            (lower, upper, Writable { upper, work, volatile: *volatile })
        }
    };
    let subject = upper.display().to_string();
    // Both have to be of one mount.
    let parent = match (upper.parent(), writable.work.parent()) {
        (Some(one), Some(other)) if one == other => one,
        _ => {
            let why = "upper and work directory have different parents".to_owned();
            return Err(InitFailure::new(step, subject, Cause::Unsupported(why)));
        }
    };
    for path in lower.iter().map(AsRef::as_ref).chain([parent]) {
        let shown = path.display().to_string();
        let cover = mapped(path, false, space, step)?;
        let place = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).at(step, &shown)?;
        mounts::attach(&cover, &place).at(step, &shown)?;
    }
    sys::with_file_ids(owner, || crate::detached::overlay_fd(lower, Some(writable))).at(step, &subject)
}
