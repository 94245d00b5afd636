//! A further process in a container that runs.
//!
//! ```text
//! host process ── posix_spawn ─▶ init (clones into the pid namespace) ── exits
//!      └───────── child ◀──────── cgroup, all namespaces, root, user ─ ready ─ start ─ execve
//! ```
//!
//! Invariants:
//! - What the container's processes could see of ours they cannot touch: it is not dumpable from before it is in their pid
//!   namespace until `execve`, so they can neither trace it nor open its memory, descriptors or binary through `/proc`
//!   (CVE-2016-9962, CVE-2019-5736).
//! - No path is resolved between the entering of the mount namespace and the opening of its root, and every one later through
//!   that root by openat2 without magic links (CVE-2024-21626).
//! - The limits come first: the process is in the container's cgroups before it is in its namespaces.
//! - Stage one stays outside the container's cgroups: were it killed by their limits before it could tell of its child, nobody
//!   would reap that, and a pid namespace does not end before its last process is reaped.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

use crate::cgroups::join::Entry;
use crate::failure::{At, Cause, InitFailure, Result, Step};
use crate::init::{self, Never, Program};
use crate::mounts::Tree;
use crate::plan::{Plan, Rlimit, Seccomp, WindowSize};
use crate::spawn::{Created, SpawnError, Stdio, launch};
use crate::sys::{self, Cloned, Instruction};
use crate::userns::IdMappings;
use crate::wire::Job;
use crate::{join, rootfs};

/// What to run in a container that runs, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecPlan {
    /// Process id, on the host, of the container's first process.
    pub target: u32,
    /// Program and arguments; the first is looked up in the PATH of `env`.
    pub args: Vec<String>,
    /// The whole environment, as `KEY=VALUE`. `HOME` is the user's when it is not there.
    pub env: Vec<String>,
    /// Working directory, which must exist.
    pub cwd: String,
    /// As [`Plan::user`].
    pub user: String,
    /// As [`Plan::additional_groups`].
    pub additional_groups: Vec<String>,
    /// File mode creation mask.
    pub umask: u32,
    /// Allocate a terminal of this size from the container's own and make it the controlling one.
    pub terminal: Option<WindowSize>,
    /// Capabilities by name: permitted, effective and bounding set.
    pub capabilities: Vec<String>,
    /// `PR_SET_NO_NEW_PRIVS`.
    pub no_new_privs: bool,
    /// As [`Plan::apparmor`].
    pub apparmor: Option<String>,
    /// The system call filter.
    pub seccomp: Seccomp,
    /// Resource limits of the process.
    pub rlimits: Vec<Rlimit>,
    /// `/proc/self/oom_score_adj`, −1000 to 1000.
    pub oom_score_adj: Option<i32>,
    /// As [`Plan::inside`].
    pub inside: Option<IdMappings>,
    /// The container's cgroup, as [`crate::CgroupPlan::path`]; `None` stays in the caller's.
    pub cgroup: Option<String>,
}

impl ExecPlan {
    /// Runs `args` the way the container's first process was run.
    pub fn like(plan: &Plan, target: u32, args: Vec<String>) -> Self {
        Self {
            target,
            args,
            env: plan.env.clone(),
            cwd: plan.cwd.clone(),
            user: plan.user.clone(),
            additional_groups: plan.additional_groups.clone(),
            umask: plan.umask,
            terminal: None,
            capabilities: plan.capabilities.clone(),
            no_new_privs: plan.no_new_privs,
            apparmor: plan.apparmor.clone(),
            seccomp: plan.seccomp.clone(),
            rlimits: plan.rlimits.clone(),
            oom_score_adj: plan.oom_score_adj,
            inside: plan.inside.clone(),
            cgroup: plan.cgroup.as_ref().map(|cgroup| cgroup.path.clone()),
        }
    }
}

/// Makes a further process in the container of [`ExecPlan::target`], up to the point where only [`Created::start`] is missing.
/// `pidfd` is a descriptor of that process. Blocks for milliseconds, and as long as the container's file system does.
///
/// The new process is the caller's child: a pid namespace ends only when all of its processes are reaped, so a caller that does
/// not [`Created::wait`] for it holds up the container's end.
pub fn exec(
    exe: &Path,
    plan: &ExecPlan,
    pidfd: BorrowedFd<'_>,
    stdio: Stdio,
) -> std::result::Result<Created, SpawnError> {
    launch(exe, Job::Exec(Box::new(plan.clone())), Some(pidfd), stdio)
}

/// What stage one hands to the process that it clones.
#[derive(Debug)]
pub(crate) struct Inside {
    target: OwnedFd,
    /// Bits of the namespaces that are not ours already.
    kinds: libc::c_int,
    cgroup: Option<Entry>,
    stdio: Vec<OwnedFd>,
}

/// Stage one: looks at the target and clones a process into its pid namespace.
pub(crate) fn clone_into(plan: &ExecPlan, fds: Vec<OwnedFd>) -> Result<(Cloned, Inside)> {
    let mut fds = fds.into_iter();
    let target = fds.next().ok_or(rustix::io::Errno::BADMSG).at(Step::Begin, "target")?;
    let stdio: Vec<OwnedFd> = fds.collect();
    if plan.terminal.is_none() && stdio.len() != 3 {
        return Err(InitFailure::new(Step::Begin, "standard streams", Cause::Errno(libc::EBADMSG)));
    }
    let subject = plan.target.to_string();
    let kinds = foreign(&subject)?;
    let cgroup = plan.cgroup.as_deref().map(Entry::open).transpose()?;
    init::set_oom_score(plan.oom_score_adj)?;
    join::hide()?;
    if kinds & libc::CLONE_NEWPID != 0 {
        sys::join(target.as_fd(), libc::CLONE_NEWPID).at(Step::Join, &subject)?;
    }
    let unified = cgroup.as_ref().and_then(|entry| entry.unified.as_ref());
    let born = sys::clone_init(0, unified.map(AsFd::as_fd)).at(Step::Namespaces, "process")?;
    Ok((born, Inside { target, kinds: kinds & !libc::CLONE_NEWPID, cgroup, stdio }))
}

/// The namespaces in which the target is and this process is not.
fn foreign(target: &str) -> Result<libc::c_int> {
    let kinds = [
        ("user", libc::CLONE_NEWUSER),
        ("mnt", libc::CLONE_NEWNS),
        ("pid", libc::CLONE_NEWPID),
        ("net", libc::CLONE_NEWNET),
        ("ipc", libc::CLONE_NEWIPC),
        ("uts", libc::CLONE_NEWUTS),
        ("cgroup", libc::CLONE_NEWCGROUP),
    ];
    let at = |of: &str, kind: &str| {
        let stat = rustix::fs::stat(format!("/proc/{of}/ns/{kind}")).map_err(|errno| match errno {
            rustix::io::Errno::NOENT => rustix::io::Errno::SRCH, // it has ended
            other => other,
        });
        stat.map(|stat| (stat.st_dev, stat.st_ino)).at(Step::Join, target)
    };
    kinds.into_iter().try_fold(0, |bits, (kind, flag)| {
        let same = at(target, kind)? == at("self", kind)?;
        Ok(if same { bits } else { bits | flag })
    })
}

/// The further process.
pub(crate) fn further(
    control: &OwnedFd,
    plan: &ExecPlan,
    filter: Option<&[Instruction]>,
    inside: Inside,
) -> Result<Never> {
    init::die_with_host()?;
    crate::apparmor::on_exec(plan.apparmor.as_deref())?;
    rustix::process::setsid().at(Step::Begin, "session")?;
    let Inside { target, kinds, cgroup, stdio } = inside;
    if let Some(cgroup) = cgroup {
        cgroup.enter()?;
    }
    sys::join(target.as_fd(), kinds).at(Step::Join, plan.target.to_string())?;
    drop(target);
    // The mount namespace's root became ours with it.
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let tree = Tree(rustix::fs::open("/", flags, Mode::empty()).at(Step::Root, "/")?);
    let terminal = plan.terminal.map(|size| rootfs::open_terminal(&tree, size)).transpose()?;
    init::set_rlimits(&plan.rlimits)?;
    let identity = init::identity(&tree, &plan.user, &plan.additional_groups, plan.inside.as_ref())?;
    init::working_directory(&tree, &plan.cwd, false)?;
    drop(tree);
    init::await_start(control, &identity, terminal, &stdio)?;
    drop(stdio);
    let program = Program {
        args: &plan.args,
        env: &plan.env,
        user: &plan.user,
        umask: plan.umask,
        capabilities: &plan.capabilities,
        no_new_privs: plan.no_new_privs,
        inside: plan.inside.as_ref(),
        filter,
    };
    init::become_user(&program, &identity)?;
    Err(init::execute(&program, &identity))
}
