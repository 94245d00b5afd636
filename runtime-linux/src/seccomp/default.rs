//! Docker's default profile, as a table of our own: what a container may call, and what a capability adds.
//!
//! Invariant: deny by default with EPERM; `clone3` without `CAP_SYS_ADMIN` is ENOSYS, so that libc falls back to
//! `clone`, whose flags can be seen. Not the JSON file: parsing 900 lines at every start costs more than all the rest.

use super::{Arg, Filter, Profile, Rule};

/// Allowed to everybody.
const ALWAYS: &str = "\
    _llseek _newselect accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown \
    chown32 clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 \
    clock_nanosleep clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 dup3 \
    epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd \
    eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark \
    fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock \
    fork fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex \
    futex_requeue futex_time64 futex_wait futex_waitv futex_wake futimesat get_robust_list get_thread_area getcpu \
    getcwd getdents getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer \
    getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid getresgid32 getresuid getresuid32 \
    getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday getuid getuid32 getxattr getxattrat \
    inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents \
    io_pgetevents_time64 io_setup io_submit ioctl ioprio_get ioprio_set ipc kill landlock_add_rule \
    landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr link linkat listen listmount listxattr \
    listxattrat llistxattr lremovexattr lseek lsetxattr lstat lstat64 madvise map_shadow_stack membarrier \
    memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap mmap2 mprotect \
    mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 \
    mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep \
    newfstatat open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect \
    poll ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_mrelease pselect6 pselect6_time64 \
    pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 \
    recvmsg remap_file_pages removexattr removexattrat rename renameat renameat2 restart_syscall rmdir rseq \
    rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait \
    rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min sched_getaffinity \
    sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 \
    sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp select semctl semget semop \
    semtimedop semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg sendto set_robust_list set_thread_area \
    set_tid_address setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setitimer setpgid \
    setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit setsid \
    setsockopt setuid setuid32 setxattr setxattrat shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 \
    sigprocmask sigreturn socketcall socketpair splice stat stat64 statfs statfs64 statmount statx symlink symlinkat \
    sync sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime \
    timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime \
    timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask uname unlink unlinkat uretprobe utime \
    utimensat utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid write writev \
    process_vm_readv process_vm_writev ptrace";

/// Allowed on the architectures that have them (names unknown to an architecture are skipped).
const ARM: &str = "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls";
const INTEL: &str = "arch_prctl modify_ldt";

/// Allowed to holders of a capability.
const WITH_CAPABILITY: &[(&str, &str)] = &[
    ("CAP_DAC_READ_SEARCH", "open_by_handle_at"),
    (
        "CAP_SYS_ADMIN",
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr \
         lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl \
         quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare",
    ),
    ("CAP_SYS_BOOT", "reboot"),
    ("CAP_SYS_CHROOT", "chroot"),
    ("CAP_SYS_MODULE", "delete_module init_module finit_module"),
    ("CAP_SYS_PACCT", "acct"),
    ("CAP_SYS_PTRACE", "kcmp pidfd_getfd process_madvise"),
    ("CAP_SYS_RAWIO", "iopl ioperm"),
    ("CAP_SYS_TIME", "settimeofday stime clock_settime clock_settime64"),
    ("CAP_SYS_TTY_CONFIG", "vhangup"),
    ("CAP_SYS_NICE", "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    ("CAP_SYSLOG", "syslog"),
    ("CAP_BPF", "bpf"),
    ("CAP_PERFMON", "perf_event_open"),
];

/// The namespace flags of `clone`: none may be set without `CAP_SYS_ADMIN`.
const NAMESPACE_FLAGS: u64 = 0x7e02_0000;

fn names(list: &str) -> Vec<String> {
    list.split_ascii_whitespace().map(str::to_owned).collect()
}

fn allow(list: &str) -> Rule {
    Rule { names: names(list), action: "SCMP_ACT_ALLOW".to_owned(), ..Rule::default() }
}

fn when(list: &str, value: u64, op: &str) -> Rule {
    Rule { args: vec![Arg { index: 0, value, value_two: 0, op: op.to_owned() }], ..allow(list) }
}

fn filter(caps: &[&str], arches: &str) -> Filter {
    Filter { caps: caps.iter().map(|&c| c.to_owned()).collect(), arches: names(arches), min_kernel: None }
}

/// The profile.
pub(super) fn profile() -> Profile {
    let admin = filter(&["CAP_SYS_ADMIN"], "");
    let mut syscalls = vec![
        allow(ALWAYS),
        // AF_ALG (38) and AF_VSOCK (40) reach the host.
        when("socket", 38, "SCMP_CMP_LT"),
        when("socket", 39, "SCMP_CMP_EQ"),
        when("socket", 40, "SCMP_CMP_GT"),
        Rule { includes: filter(&[], "arm arm64"), ..allow(ARM) },
        Rule { includes: filter(&[], "amd64 x32 x86"), ..allow(INTEL) },
        Rule { excludes: admin.clone(), ..when("clone", NAMESPACE_FLAGS, "SCMP_CMP_MASKED_EQ") },
        Rule { action: "SCMP_ACT_ERRNO".to_owned(), errno_ret: Some(38), excludes: admin, ..allow("clone3") },
    ];
    // PER_LINUX, PER_LINUX32, UNAME26 alone and with PER_LINUX32, and the query.
    let personalities = [0x0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];
    syscalls.extend(personalities.map(|value| when("personality", value, "SCMP_CMP_EQ")));
    for (capability, list) in WITH_CAPABILITY {
        syscalls.push(Rule { includes: filter(&[capability], ""), ..allow(list) });
    }
    Profile { default_action: "SCMP_ACT_ERRNO".to_owned(), default_errno_ret: Some(1), syscalls }
}
