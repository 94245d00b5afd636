//! The role of init: from a fresh process with one thread to the container's program.
//!
//! Stage one joins the cgroup and clones pid 1 (whose parent is the host process, not stage one) and is gone. pid 1
//! sets everything up, says `ready`, waits for `start` and executes the program.
//!
//! Invariants: one thread; no inherited descriptor but the control socket; a death signal is set before `ready` is
//! said, and the host's death before `start` closes the socket, so pid 1 cannot outlive the host process unseen.
//! Not namespaces entered by the host process itself: after `clone` in a process with threads no Rust code may run.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};

use crate::cgroups::Entered;
use crate::failure::{At, Cause, InitFailure, Result, Step};
use crate::mounts::Tree;
use crate::plan::{Network, Plan, Rlimit};
use crate::remap;
use crate::rootfs::Opened;
use crate::sys::{self, Cloned, Instruction};
use crate::userns::IdMappings;
use crate::wire::{self, Job, Payload, Report};
use crate::{caps, exec, join, reaper, rootfs, users};

/// `argv[0]` of a process that is to be init.
pub(crate) const ROLE: &str = "umiak-init";

/// Takes over when this process was started to be init, and then never returns. To be called first in `main`, before
/// any thread exists.
pub fn main_if_init() {
    if std::env::args_os().next().is_some_and(|name| name == ROLE) {
        let control = sys::take_control();
        let failure = match run(&control) {
            Ok(never) => match never {},
            Err(failure) => failure,
        };
        let _host_is_gone = wire::report(&control, &Report::Failed(failure), &[]);
        sys::exit_now(125);
    }
}

/// What does not happen: every path out of init is a failure or another program.
pub(crate) enum Never {}

fn run(zero: &OwnedFd) -> Result<Never> {
    let begin = Step::Begin;
    if !sys::single_threaded() {
        let why = "init must be called before any thread exists".to_owned();
        return Err(InitFailure::new(begin, "process", Cause::Refused(why)));
    }
    sys::close_from(3, false).at(begin, "descriptors")?;
    let control = rustix::io::fcntl_dupfd_cloexec(zero, 3).at(begin, "control socket")?;
    let (_, fds) = wire::receive(&control).at(begin, "control socket")?;
    let mut fds = fds.into_iter();
    let file = fds.next().ok_or(rustix::io::Errno::BADMSG).at(begin, "plan")?;
    let rest: Vec<OwnedFd> = fds.collect();
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut std::fs::File::from(file), &mut bytes).at(begin, "plan")?;
    let payload: Payload = serde_json::from_slice(&bytes)
        .map_err(|error| InitFailure::new(begin, "plan", Cause::Malformed(error.to_string())))?;
    let Payload { job, filter } = payload;
    let filter = filter.as_deref().map(wire::unpack);
    match job {
        Job::Container(mut plan) => {
            let shm = join::enter(&plan)?;
            let entered = match &plan.cgroup {
                Some(cgroup) => {
                    let allowed = crate::cgroups::Allowed {
                        devices: &plan.devices,
                        rules: &plan.device_rules,
                        privileged: plan.privileged || plan.inside.is_some(),
                    };
                    crate::cgroups::Cgroup::enter(cgroup, &allowed, plan.privileged)?
                }
                None => Entered::default(),
            };
            let Entered { unified: cgroup, view } = entered;
            let (cgroup, prepared) = match plan.user_namespace.take() {
                Some(ids) => (None, Some(remap::enter(&mut plan, &ids, &rest, cgroup)?)),
                None => (cgroup, None),
            };
            let born = sys::clone_init(flags(&plan), cgroup.as_ref().map(AsFd::as_fd));
            child_of(born.at(Step::Namespaces, "process")?, &control, |control| {
                drop(cgroup);
                first(control, &plan, filter.as_deref(), &rest, Opened { shm, prepared, view })
            })
        }
        Job::Exec(plan) => {
            let (born, inside) = exec::clone_into(&plan, rest)?;
            child_of(born, &control, |control| exec::further(control, &plan, filter.as_deref(), inside))
        }
    }
}

/// On the side of stage one, tells of the process and ends; on the other, becomes it.
fn child_of(born: Cloned, control: &OwnedFd, child: impl FnOnce(&OwnedFd) -> Result<Never>) -> Result<Never> {
    match born {
        Cloned::Parent { pid, pidfd } => {
            wire::report(control, &Report::Born(pid), &[pidfd.as_fd()]).at(Step::Begin, "control socket")?;
            sys::exit_now(0);
        }
        Cloned::Child => {
            let failure = match child(control) {
                Ok(never) => match never {},
                Err(failure) => failure,
            };
            // Descriptor 0 may be the program's by now: report on the private socket, not on `main_if_init`'s.
            let _host_is_gone = wire::report(control, &Report::Failed(failure.clone()), &[]);
            sys::exit_now(i32::from(failure.exit_status()))
        }
    }
}

fn flags(plan: &Plan) -> u64 {
    let wanted = [
        (true, libc::CLONE_NEWNS),
        (plan.namespaces.pid.is_new(), libc::CLONE_NEWPID),
        (plan.namespaces.uts.is_new(), libc::CLONE_NEWUTS),
        (plan.namespaces.ipc.is_new(), libc::CLONE_NEWIPC),
        (plan.namespaces.cgroup.is_new(), libc::CLONE_NEWCGROUP),
        (plan.network == Network::None, libc::CLONE_NEWNET),
    ];
    let bits = wanted.iter().filter(|(on, _)| *on).fold(0, |bits, (_, flag)| bits | flag);
    u64::from(bits.cast_unsigned())
}

/// pid 1.
fn first(
    control: &OwnedFd,
    plan: &Plan,
    filter: Option<&[Instruction]>,
    stdio: &[OwnedFd],
    opened: Opened,
) -> Result<Never> {
    if plan.terminal.is_none() && stdio.len() != 3 {
        return Err(InitFailure::new(Step::Begin, "standard streams", Cause::Errno(libc::EBADMSG)));
    }
    die_with_host()?;
    crate::apparmor::on_exec(plan.apparmor.as_deref())?;
    rustix::process::setsid().at(Step::Begin, "session")?;
    for (name, set) in [
        (&plan.hostname, rustix::system::sethostname as fn(&[u8]) -> rustix::io::Result<()>),
        (&plan.domainname, rustix::system::setdomainname),
    ] {
        if !name.is_empty() && plan.namespaces.uts.is_new() {
            set(name.as_bytes()).at(Step::Hostname, name)?;
        }
    }
    if plan.network == Network::None {
        sys::loopback_up().at(Step::Network, "lo")?;
    }
    set_oom_score(plan.oom_score_adj)?;
    let (tree, terminal) = rootfs::prepare(plan, opened)?;
    set_rlimits(&plan.rlimits)?;
    let identity = identity(&tree, &plan.user, &plan.additional_groups, plan.inside.as_ref())?;
    working_directory(&tree, &plan.cwd, true)?;
    if plan.init {
        sys::block_signals();
    }
    await_start(control, &identity, terminal, stdio)?;
    let program = Program::of(plan, filter);
    become_user(&program, &identity)?;
    if plan.init {
        reaper::run(plan)?;
    }
    Err(execute(&program, &identity))
}

pub(crate) fn set_oom_score(score: Option<i32>) -> Result<()> {
    let Some(score) = score else { return Ok(()) };
    let text = score.to_string();
    std::fs::write("/proc/self/oom_score_adj", &text).at(Step::OomScore, &text)
}

pub(crate) fn set_rlimits(limits: &[Rlimit]) -> Result<()> {
    for limit in limits {
        let number = rlimit(&limit.name).ok_or_else(|| {
            InitFailure::new(Step::Rlimit, &limit.name, Cause::Malformed("no such limit".to_owned()))
        })?;
        sys::set_rlimit(number, limit.soft, limit.hard).at(Step::Rlimit, &limit.name)?;
    }
    Ok(())
}

/// Who the process becomes, by the container's own files.
pub(crate) fn identity(
    tree: &Tree,
    user: &str,
    groups: &[String],
    inside: Option<&IdMappings>,
) -> Result<users::Identity> {
    let (passwd, group) =
        (tree.text("/etc/passwd", users::MAX_FILE), tree.text("/etc/group", users::MAX_FILE));
    let mut identity = users::resolve(user, groups, &passwd, &group)?;
    if let Some(ids) = inside {
        crate::nested::admit(ids, &mut identity, user, groups)?;
    }
    Ok(identity)
}

/// Puts the standard streams in place, says `ready` and waits for the word to start.
pub(crate) fn await_start(
    control: &OwnedFd,
    identity: &users::Identity,
    terminal: Option<rootfs::Pair>,
    stdio: &[OwnedFd],
) -> Result<()> {
    let master = if let Some((master, slave)) = terminal {
        rustix::process::ioctl_tiocsctty(&slave).at(Step::Terminal, "controlling terminal")?;
        let owner = Some(rustix::process::Uid::from_raw(identity.uid));
        rustix::fs::fchown(&slave, owner, None).at(Step::Terminal, "owner")?;
        (0..3).try_for_each(|n| sys::place(slave.as_fd(), n)).at(Step::Terminal, "standard streams")?;
        vec![master]
    } else {
        for (fd, n) in stdio.iter().zip(0..) {
            sys::place(fd.as_fd(), n).at(Step::Begin, "standard streams")?;
        }
        Vec::new()
    };
    let beside: Vec<_> = master.iter().map(AsFd::as_fd).collect();
    wire::report(control, &Report::Ready, &beside).at(Step::Begin, "control socket")?;
    let started = wire::receive(control).at(Step::Begin, "control socket")?.0;
    if started.is_empty() {
        sys::exit_now(125); // the host process is gone, or wants no container any more
    }
    Ok(())
}

/// What runs in the end, of a container or of an `exec`.
#[derive(Debug)]
pub(crate) struct Program<'a> {
    pub(crate) args: &'a [String],
    pub(crate) env: &'a [String],
    pub(crate) user: &'a str,
    pub(crate) umask: u32,
    pub(crate) capabilities: &'a [String],
    pub(crate) no_new_privs: bool,
    /// As [`Plan::inside`].
    pub(crate) inside: Option<&'a IdMappings>,
    pub(crate) filter: Option<&'a [Instruction]>,
}

impl<'a> Program<'a> {
    fn of(plan: &'a Plan, filter: Option<&'a [Instruction]>) -> Self {
        Self {
            args: &plan.args,
            env: &plan.env,
            user: &plan.user,
            umask: plan.umask,
            capabilities: &plan.capabilities,
            no_new_privs: plan.no_new_privs,
            inside: plan.inside.as_ref(),
            filter,
        }
    }
}

pub(crate) fn die_with_host() -> Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .at(Step::Begin, "death signal")
}

fn rlimit(name: &str) -> Option<u32> {
    const NAMES: [&str; 16] = [
        "cpu",
        "fsize",
        "data",
        "stack",
        "core",
        "rss",
        "nproc",
        "nofile",
        "memlock",
        "as",
        "locks",
        "sigpending",
        "msgqueue",
        "nice",
        "rtprio",
        "rttime",
    ];
    NAMES.iter().position(|known| *known == name).and_then(|n| u32::try_from(n).ok())
}

/// Made when missing and `make`, as docker makes it; entered through a descriptor that no magic link led to, then looked at
/// from inside (CVE-2024-21626).
pub(crate) fn working_directory(tree: &Tree, cwd: &str, make: bool) -> Result<()> {
    let step = Step::WorkingDirectory;
    let cwd = if cwd.is_empty() { "/" } else { cwd };
    if !cwd.starts_with('/') {
        let why = "it is not an absolute path".to_owned();
        return Err(InitFailure::new(step, cwd, Cause::Refused(why)));
    }
    let directory = if make { tree.directory(cwd) } else { tree.open(cwd, OFlags::PATH | OFlags::DIRECTORY) };
    let directory = directory.at(step, cwd)?;
    rustix::process::fchdir(&directory).at(step, cwd)?;
    let seen = rustix::process::getcwd(Vec::new()).at(step, cwd)?;
    if seen.to_bytes().first() != Some(&b'/') {
        let why = "it lies outside the container".to_owned();
        return Err(InitFailure::new(step, cwd, Cause::Refused(why)));
    }
    Ok(())
}

pub(crate) fn become_user(program: &Program<'_>, identity: &users::Identity) -> Result<()> {
    let subject = if program.user.is_empty() { "root" } else { program.user };
    let filter = || match program.filter {
        Some(instructions) => sys::install_filter(instructions).at(Step::Seccomp, "program"),
        None => Ok(()),
    };
    rustix::process::umask(Mode::from_raw_mode(program.umask));
    let keep = caps::restrict_bounding(program.capabilities)?;
    if !program.no_new_privs {
        filter()?; // needs CAP_SYS_ADMIN, which is about to go
    }
    rustix::thread::set_keep_capabilities(true).at(Step::Capabilities, "keep")?;
    let groups: Vec<_> = identity.groups.iter().map(|&g| rustix::process::Gid::from_raw(g)).collect();
    // Where one id is mapped, the kernel lets nobody set groups.
    if !program.inside.is_some_and(IdMappings::single) {
        rustix::thread::set_thread_groups(&groups).at(Step::User, subject)?;
    }
    let gid = rustix::process::Gid::from_raw(identity.gid);
    rustix::thread::set_thread_res_gid(gid, gid, gid).at(Step::User, subject)?;
    let uid = rustix::process::Uid::from_raw(identity.uid);
    rustix::thread::set_thread_res_uid(uid, uid, uid).at(Step::User, subject)?;
    rustix::thread::set_keep_capabilities(false).at(Step::Capabilities, "keep")?;
    die_with_host()?; // a change of user cleared it
    caps::restrict(keep)?;
    if program.no_new_privs {
        rustix::thread::set_no_new_privs(true).at(Step::Capabilities, "no_new_privs")?;
        filter()?;
    }
    Ok(())
}

/// Looks the program up as docker does and becomes it; returns why not.
pub(crate) fn execute(program: &Program<'_>, identity: &users::Identity) -> InitFailure {
    let name = program.args.first().map_or("", String::as_str);
    let fail = |cause| InitFailure::new(Step::Exec, name, cause);
    let malformed = |_| fail(Cause::Malformed("a string holds a NUL byte".to_owned()));
    let path = if name.contains('/') {
        match executable(name) {
            Ok(()) => name.to_owned(),
            Err(cause) => return fail(cause),
        }
    } else {
        let search = program.env.iter().rev().find_map(|pair| pair.strip_prefix("PATH="));
        let search = search.unwrap_or("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        let mut candidates =
            search.split(':').filter(|d| d.starts_with('/')).map(|dir| format!("{dir}/{name}"));
        match candidates.find(|path| !name.is_empty() && executable(path).is_ok()) {
            Some(path) => path,
            None => return fail(Cause::NotInPath),
        }
    };
    let mut env = program.env.to_vec();
    if !env.iter().any(|pair| pair.starts_with("HOME=")) {
        env.push(format!("HOME={}", identity.home.as_deref().unwrap_or("/")));
    }
    let strings = |list: &[String]| {
        list.iter().map(|s| CString::new(s.as_str())).collect::<std::result::Result<Vec<_>, _>>()
    };
    let (path, args, env) = match (CString::new(path), strings(program.args), strings(&env)) {
        (Ok(path), Ok(args), Ok(env)) => (path, args, env),
        (Err(error), ..) | (_, Err(error), _) | (.., Err(error)) => return malformed(error),
    };
    if let Err(errno) = sys::close_from(3, true) {
        return fail(Cause::Errno(errno.raw_os_error()));
    }
    sys::reset_signals();
    fail(Cause::Errno(sys::execve(&path, &args, &env).raw_os_error()))
}

fn executable(path: &str) -> std::result::Result<(), Cause> {
    let stat = rustix::fs::stat(path).map_err(|errno| Cause::Stat(errno.raw_os_error()))?;
    if FileType::from_raw_mode(stat.st_mode).is_dir() {
        return Err(Cause::IsDirectory);
    }
    rustix::fs::accessat(rustix::fs::CWD, path, rustix::fs::Access::EXEC_OK, AtFlags::EACCESS)
        .map_err(|errno| Cause::Errno(errno.raw_os_error()))
}
