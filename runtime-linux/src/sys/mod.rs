//! Every unsafe call of the crate, each behind a safe function: the system calls that neither `std` nor rustix wraps.
//!
//! Invariant: a function here checks or owns what its call's soundness rests on, so that a caller cannot break it.
//! Not spread over the modules that need them: one page can be read by one reviewer.
#![expect(unsafe_code, reason = "the one module that may; see its doc")]

pub(crate) mod heap;

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::Errno;

fn check(result: libc::c_long) -> Result<libc::c_long, Errno> {
    if result == -1 {
        let code = std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
        return Err(Errno::from_raw_os_error(code));
    }
    Ok(result)
}

/// What [`clone_init`] returns on each side.
#[derive(Debug)]
pub(crate) enum Cloned {
    /// In the new process.
    Child,
    /// In the process that called: the child's pid as seen from here, and a descriptor of it.
    Parent { pid: u32, pidfd: OwnedFd },
}

/// `clone3(2)` as `fork` does it (memory copied), with new namespaces, the caller's own parent as the parent, and
/// optionally straight into a v2 cgroup.
pub(crate) fn clone_init(namespaces: u64, cgroup: Option<BorrowedFd<'_>>) -> Result<Cloned, Errno> {
    if !single_threaded() {
        return Err(Errno::BUSY);
    }
    let mut pidfd: RawFd = -1;
    // SAFETY: `clone_args` is plain integers, for which all zeroes is a value.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = namespaces | (libc::CLONE_PARENT | libc::CLONE_PIDFD) as u64;
    args.pidfd = std::ptr::from_mut(&mut pidfd) as u64;
    if let Some(fd) = cgroup {
        args.flags |= 0x2_0000_0000; // CLONE_INTO_CGROUP
        args.cgroup = u64::try_from(fd.as_raw_fd()).unwrap_or(u64::MAX);
    }
    // SAFETY: without CLONE_VM the child has its own copy of everything, and the process was just seen to have one
    // thread, so no lock is held by a thread that does not exist in the child. Nothing safe offers `clone3`.
    let pid = check(unsafe {
        libc::syscall(libc::SYS_clone3, std::ptr::from_mut(&mut args), size_of::<libc::clone_args>())
    })?;
    if pid == 0 {
        return Ok(Cloned::Child);
    }
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Cloned::Parent { pid: u32::try_from(pid).unwrap_or(0), pidfd })
}

/// `fork(2)` of a process with one thread: the child's pid, or `None` in the child.
pub(crate) fn fork() -> Result<Option<rustix::process::Pid>, Errno> {
    if !single_threaded() {
        return Err(Errno::BUSY);
    }
    // SAFETY: as in `clone_init`: the process has one thread, so the child's copy of it is whole.
    let pid = check(libc::c_long::from(unsafe { libc::fork() }))?;
    Ok(i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw))
}

/// `setns(2)` by a process: all the namespaces of `kinds` that the process of `pidfd` is in.
pub(crate) fn join(pidfd: BorrowedFd<'_>, kinds: libc::c_int) -> Result<(), Errno> {
    // SAFETY: the call takes a descriptor and bits and touches no memory of ours; what namespace this process is in is no
    // matter of memory safety. rustix's wrapper is unsafe for every kind.
    check(libc::c_long::from(unsafe { libc::setns(pidfd.as_raw_fd(), kinds) })).map(drop)
}

/// Whether the process of a descriptor has not ended (ESRCH: it has, and was reaped).
pub(crate) fn alive(pidfd: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: signal 0 is none, and without a `siginfo` the kernel reads no memory of ours. rustix knows no signal 0 here.
    check(unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), 0, std::ptr::null::<u8>(), 0)
    })
    .map(drop)
}

/// Makes this process's group the foreground one of its terminal, when it has one.
pub(crate) fn foreground() {
    // SIGTTOU, which the kernel sends to a background group that does this, is blocked.
    // SAFETY: both calls take and give integers; descriptor 0 is a standard stream. rustix's wrapper fails to tell a stream that
    // is no terminal, which is no error here, from others, which cannot be mended.
    unsafe { libc::tcsetpgrp(0, libc::getpgrp()) };
}

/// Blocks every signal that can be, so that they wait for [`next_signal`].
pub(crate) fn block_signals() {
    // SAFETY: a zeroed set is then initialised by `sigfillset`; both pointers are to our own stack.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
    }
}

/// Waits for a blocked signal and takes it.
pub(crate) fn next_signal() -> Result<libc::c_int, Errno> {
    // SAFETY: the set is initialised before it is read, and nobody is told more than the number.
    let number = unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut set);
        libc::sigwaitinfo(&raw const set, std::ptr::null_mut())
    };
    check(libc::c_long::from(number)).map(|_| number)
}

/// Sends a signal by its number.
pub(crate) fn kill(pid: rustix::process::Pid, signal: libc::c_int) -> Result<(), Errno> {
    // SAFETY: the call takes two integers. rustix's signals have no real-time ones.
    check(libc::c_long::from(unsafe { libc::kill(pid.as_raw_nonzero().get(), signal) })).map(drop)
}

/// Moves this process, which must have one thread, into a new user and mount namespace (`unshare(2)`).
pub(crate) fn unshare_user() -> Result<(), Errno> {
    // SAFETY: neither flag touches descriptors or memory, which is what the soundness of other flags rests on. The kernel
    // itself refuses a process with threads.
    check(libc::c_long::from(unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS) })).map(drop)
}

/// Maps the ids of a detached mount as the user namespace of `space` does (`mount_setattr(2)`).
pub(crate) fn mount_idmap(mount: impl AsFd, space: impl AsFd, recursive: bool) -> Result<(), Errno> {
    // SAFETY: `mount_attr` is plain integers.
    let mut attr: libc::mount_attr = unsafe { std::mem::zeroed() };
    attr.attr_set = 0x10_0000; // MOUNT_ATTR_IDMAP
    attr.userns_fd = u64::try_from(space.as_fd().as_raw_fd()).map_err(|_| Errno::BADF)?;
    set_attributes(mount, &attr, recursive)
}

/// Runs `job` with other file system ids (`setfsuid(2)`) and every capability kept.
pub(crate) fn with_file_ids<T>(
    (uid, gid): (rustix::process::Uid, rustix::process::Gid),
    job: impl FnOnce() -> std::io::Result<T>,
) -> std::io::Result<T> {
    let change = |uid: u32, gid: u32| {
        let held = rustix::thread::capabilities(None)?;
        // SAFETY: both calls take integers and change only this thread's ids.
        unsafe {
            libc::setfsgid(gid);
            libc::setfsuid(uid);
        }
        // Leaving 0 took the capabilities about files out of the effective set.
        rustix::thread::set_capabilities(None, held)
    };
    change(uid.as_raw(), gid.as_raw())?;
    let result = job();
    change(0, 0)?;
    result
}

/// Gives this process a copy of its mount namespace that its user namespace owns (`unshare(2)`).
pub(crate) fn unshare_mounts() -> Result<(), Errno> {
    // SAFETY: as above.
    check(libc::c_long::from(unsafe { libc::unshare(libc::CLONE_NEWNS) })).map(drop)
}

/// Gives this thread alone a root and working directory, and mount, IPC and UTS namespaces (`unshare(2)`).
pub(crate) fn unshare_surroundings() -> Result<(), Errno> {
    let kinds = libc::CLONE_FS | libc::CLONE_NEWNS | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    // SAFETY: as above; no other thread is touched, and no descriptor.
    check(libc::c_long::from(unsafe { libc::unshare(kinds) })).map(drop)
}

/// Gives this thread alone a network namespace (`unshare(2)`).
pub(crate) fn unshare_network() -> Result<(), Errno> {
    // SAFETY: as above.
    check(libc::c_long::from(unsafe { libc::unshare(libc::CLONE_NEWNET) })).map(drop)
}

/// Whether this process has exactly one thread. `/proc/self/task` has two links more than threads. One that has ended is counted
/// for a moment longer than whoever waited for it waits, so that moment is given.
pub(crate) fn single_threaded() -> bool {
    (0..1000).any(|_| {
        let alone = rustix::fs::stat("/proc/self/task").is_ok_and(|stat| stat.st_nlink == 3);
        if !alone {
            std::thread::yield_now();
        }
        alone
    })
}

/// Leaves the process without running destructors or `atexit` handlers, which belong to the program we are part of.
pub(crate) fn exit_now(status: i32) -> ! {
    // SAFETY: `_exit` has no preconditions. `std::process::exit` would run the host program's handlers.
    unsafe { libc::_exit(status) }
}

/// Every signal back to its default action and none blocked: what a program may expect at `execve`.
pub(crate) fn reset_signals() {
    for signal in 1..=64 {
        if signal == libc::SIGKILL || signal == libc::SIGSTOP || signal == 32 || signal == 33 {
            continue;
        }
        // SAFETY: SIG_DFL installs no code of ours; an invalid number is an error return that we can ignore.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: a zeroed set is then initialised by `sigemptyset`; both pointers are to our own stack.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
    }
}

/// `close_range(2)` from `first` to the last, or only marked close-on-exec.
pub(crate) fn close_from(first: u32, only_mark: bool) -> Result<(), Errno> {
    let flags: libc::c_uint = if only_mark { 4 } else { 0 };
    // SAFETY: init calls this when it owns no descriptor at or above `first` (its own were placed below), before
    // anything else could hold one, or when it never uses or drops those that it owns (the reaper leaves by `exit_now`);
    // marking changes no descriptor's life. std cannot close by range.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, flags) }).map(drop)
}

/// Takes ownership of descriptor 0, the control socket, which the host gave us as standard input.
pub(crate) fn take_control() -> OwnedFd {
    // SAFETY: only `init` calls this, once, and nothing in this process has read or will read standard input by std.
    unsafe { OwnedFd::from_raw_fd(0) }
}

/// `dup2(2)` onto 0, 1 or 2, which are never closed afterwards.
pub(crate) fn place(fd: BorrowedFd<'_>, number: RawFd) -> Result<(), Errno> {
    debug_assert!((0..3).contains(&number));
    // SAFETY: 0, 1 and 2 are owned by nobody in this process (see `take_control`), so no owner is surprised.
    check(libc::c_long::from(unsafe { libc::dup2(fd.as_raw_fd(), number) })).map(drop)
}

/// `execve(2)`; returns only when it failed.
pub(crate) fn execve(path: &CStr, args: &[CString], env: &[CString]) -> Errno {
    let arguments: Vec<_> = args.iter().map(|a| a.as_ptr()).chain([std::ptr::null()]).collect();
    let environment: Vec<_> = env.iter().map(|a| a.as_ptr()).chain([std::ptr::null()]).collect();
    // SAFETY: both arrays end in null and point to strings that outlive the call. `std`'s `exec` looks the name up
    // in a PATH of its own choosing, which is the host's and not the container's.
    unsafe { libc::execve(path.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    check(-1).err().unwrap_or(Errno::IO)
}

/// Changes the attributes or the propagation of a mount (`mount_setattr(2)`, Linux 5.12).
pub(crate) fn mount_setattr(
    mount: impl AsFd,
    set: u64,
    propagation: u64,
    recursive: bool,
) -> Result<(), Errno> {
    // SAFETY: `mount_attr` is plain integers.
    let mut attr: libc::mount_attr = unsafe { std::mem::zeroed() };
    attr.attr_set = set;
    attr.propagation = propagation;
    set_attributes(mount, &attr, recursive)
}

fn set_attributes(mount: impl AsFd, attr: &libc::mount_attr, recursive: bool) -> Result<(), Errno> {
    let flags = libc::AT_EMPTY_PATH | if recursive { 0x8000 } else { 0 };
    // SAFETY: the struct and its size go together, and the path is an empty C string. rustix has no wrapper.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attr),
            size_of::<libc::mount_attr>(),
        )
    })
    .map(drop)
}

/// One classic BPF instruction, as `struct sock_filter` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Instruction {
    pub(crate) code: u16,
    pub(crate) jt: u8,
    pub(crate) jf: u8,
    pub(crate) k: u32,
}

/// Installs a seccomp filter on this thread (`seccomp(2)`).
pub(crate) fn install_filter(program: &[Instruction]) -> Result<(), Errno> {
    let length = u16::try_from(program.len()).map_err(|_| Errno::TOOBIG)?;
    // `sock_filter` and `Instruction` have one layout; the kernel only reads.
    let prog = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut().cast() };
    // SAFETY: the pointer and length describe a live slice, and the kernel verifies the program itself.
    check(unsafe { libc::syscall(libc::SYS_seccomp, 1, 0, std::ptr::from_ref(&prog)) }).map(drop)
}

/// Installs a seccomp filter on all threads of this process (`SECCOMP_FILTER_FLAG_TSYNC`).
pub(crate) fn install_filter_everywhere(program: &[Instruction]) -> Result<(), Errno> {
    let length = u16::try_from(program.len()).map_err(|_| Errno::TOOBIG)?;
    let prog = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut().cast() };
    // SAFETY: as above.
    let thread = check(unsafe { libc::syscall(libc::SYS_seccomp, 1, 1, std::ptr::from_ref(&prog)) })?;
    // The kernel answers with the number of a thread that has another filter.
    if thread == 0 { Ok(()) } else { Err(Errno::BUSY) }
}

unsafe extern "C" {
    /// `pthread_setaffinity_np(3)`, which the C libraries of Linux have and the `libc` crate declares for one of them.
    fn pthread_setaffinity_np(
        thread: std::os::unix::thread::RawPthread,
        size: libc::size_t,
        set: *const rustix::thread::CpuSet,
    ) -> libc::c_int;
}

/// Sets the processors that a thread of this process may use.
pub(crate) fn set_thread_affinity(
    thread: std::os::unix::thread::RawPthread,
    set: &rustix::thread::CpuSet,
) -> Result<(), Errno> {
    // SAFETY: the caller holds the thread's handle, so it is not joined; a `CpuSet` is a `cpu_set_t`, which is only read.
    match unsafe { pthread_setaffinity_np(thread, size_of::<rustix::thread::CpuSet>(), set) } {
        0 => Ok(()),
        error => Err(Errno::from_raw_os_error(error)),
    }
}

/// The version of Landlock that the kernel has (`landlock_create_ruleset(2)`).
pub(crate) fn landlock_version() -> Result<i64, Errno> {
    // SAFETY: without attributes nothing is read; the flag asks for the version.
    check(unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0_usize, 1_u32) })
}

/// An empty set of rules about these accesses to files, and to TCP where there are any.
pub(crate) fn landlock_rules(files: u64, tcp: u64) -> Result<OwnedFd, Errno> {
    let attributes = [files, tcp];
    // Kernels that know no networks take the first word alone.
    let size = if tcp == 0 { 8_usize } else { 16 };
    // SAFETY: the kernel reads `size` bytes of an array that is as long and lives through the call.
    let fd = check(unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::from_ref(&attributes), size, 0_u32)
    })?;
    let number = RawFd::try_from(fd).map_err(|_| Errno::BADF)?;
    // SAFETY: the kernel has just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Allows accesses below a directory.
pub(crate) fn landlock_allow(rules: &OwnedFd, below: BorrowedFd<'_>, accesses: u64) -> Result<(), Errno> {
    #[repr(C, packed)]
    struct Beneath {
        accesses: u64,
        directory: RawFd,
    }
    let rule = Beneath { accesses, directory: below.as_raw_fd() };
    // SAFETY: the kernel reads one packed struct of this layout (rule type 1), which lives through the call.
    check(unsafe {
        libc::syscall(libc::SYS_landlock_add_rule, rules.as_raw_fd(), 1_u32, std::ptr::from_ref(&rule), 0_u32)
    })
    .map(drop)
}

/// Puts rules in force for this thread and what it starts.
pub(crate) fn landlock_restrict(rules: &OwnedFd) -> Result<(), Errno> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, rules.as_raw_fd(), 0_u32) }).map(drop)
}

/// Brings the loopback interface of the current network namespace up.
pub(crate) fn loopback_up() -> Result<(), Errno> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: `ifreq` is integers and arrays of them.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = libc::c_char::try_from(b'l').unwrap_or(0);
    request.ifr_name[1] = libc::c_char::try_from(b'o').unwrap_or(0);
    request.ifr_ifru.ifru_flags = i16::try_from(libc::IFF_UP | libc::IFF_RUNNING).unwrap_or(1);
    // The number is SIOCSIFFLAGS, whose type differs between C libraries.
    // SAFETY: the request is what SIOCSIFFLAGS reads, and lives through the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), 0x8914, std::ptr::from_mut(&mut request)) };
    check(libc::c_long::from(result)).map(drop)
}

/// `setrlimit(2)` by number; `u64::MAX` is no limit.
pub(crate) fn set_rlimit(resource: u32, soft: u64, hard: u64) -> Result<(), Errno> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    // SAFETY: the kernel reads one struct that lives through the call.
    check(unsafe {
        libc::syscall(libc::SYS_prlimit64, 0, resource, std::ptr::from_ref(&limit), std::ptr::null::<u8>())
    })
    .map(drop)
}

/// Loads an eBPF program that decides device access and attaches it to a v2 cgroup (`bpf(2)`).
pub(crate) fn attach_device_program(cgroup: BorrowedFd<'_>, program: &[u64]) -> Result<(), Errno> {
    #[repr(C)]
    struct Load {
        kind: u32,
        count: u32,
        instructions: u64,
        license: u64,
        rest: [u64; 12],
    }
    #[repr(C)]
    struct Attach {
        target: u32,
        program: u32,
        kind: u32,
        flags: u32,
    }
    let load = Load {
        kind: 15, // BPF_PROG_TYPE_CGROUP_DEVICE
        count: u32::try_from(program.len()).map_err(|_| Errno::TOOBIG)?,
        instructions: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        rest: [0; 12],
    };
    // SAFETY: the kernel reads the struct (of the size given), the live slice and a static string, and verifies them.
    let fd = check(unsafe { libc::syscall(libc::SYS_bpf, 5, std::ptr::from_ref(&load), size_of::<Load>()) })?;
    // SAFETY: a descriptor the kernel has just made for us.
    let loaded = unsafe { OwnedFd::from_raw_fd(RawFd::try_from(fd).unwrap_or(-1)) };
    let number = |fd: RawFd| u32::try_from(fd).map_err(|_| Errno::BADF);
    let attach = Attach {
        target: number(cgroup.as_raw_fd())?,
        program: number(loaded.as_raw_fd())?,
        kind: 6,  // BPF_CGROUP_DEVICE
        flags: 2, // BPF_F_ALLOW_MULTI
    };
    // SAFETY: as above; the attachment holds its own reference to the program.
    check(unsafe { libc::syscall(libc::SYS_bpf, 8, std::ptr::from_ref(&attach), size_of::<Attach>()) })
        .map(drop)
}

/// Has a program killed when the thread that starts it ends (`PR_SET_PDEATHSIG`).
pub(crate) fn die_with_parent(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt;
    let parent = rustix::process::getpid();
    let sentence = move || {
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
        // It may have ended before.
        if rustix::process::getppid() == Some(parent) { Ok(()) } else { Err(Errno::SRCH.into()) }
    };
    // SAFETY: between fork and exec the closure makes two system calls and neither allocates nor takes a lock.
    unsafe { command.pre_exec(sentence) };
}
