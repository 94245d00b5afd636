//! A second wall around a process of ours that is about to run what it does not trust: a sandbox inside a process fails with one bug
//! of its compiler, and then the process should not be worth much.
//!
//! All threads at once lose the system calls with which one leaves a process or a container (running programs, mounts, namespaces, other
//! processes' memory, the kernel's own tables); this thread and those it starts lose every capability but those for files and low
//! ports. A list of what is refused, not of what is allowed: the process goes on being what it was, with files, sockets and threads.
//!
//! Invariant: there is no way back. Whoever calls this has mounted and started before what it will ever mount and start.

use std::sync::OnceLock;

use rustix::io::Errno;

use crate::caps;
use crate::failure::InitFailure;
use crate::seccomp::{self, ProfileError};
use crate::sys::Instruction;

/// System calls that a sandbox's process has no more use for.
const REFUSED: &[&str] = &[
    "acct",
    "add_key",
    "bpf",
    "chroot",
    "delete_module",
    "execve",
    "execveat",
    "finit_module",
    "fsconfig",
    "fsmount",
    "fsopen",
    "fspick",
    "init_module",
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "kexec_file_load",
    "kexec_load",
    "keyctl",
    "lookup_dcookie",
    "mount",
    "mount_setattr",
    "move_mount",
    "name_to_handle_at",
    "open_by_handle_at",
    "open_tree",
    "perf_event_open",
    "personality",
    "pivot_root",
    "process_madvise",
    "process_vm_readv",
    "process_vm_writev",
    "ptrace",
    "quotactl",
    "reboot",
    "request_key",
    "setns",
    "settimeofday",
    "clock_settime",
    "swapoff",
    "swapon",
    "syslog",
    "umount2",
    "unshare",
    "userfaultfd",
    "vhangup",
];

/// What the process may still do as root: see to its files, and listen on low ports.
const KEPT: [&str; 5] = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "NET_BIND_SERVICE"];

/// The wall does not stand.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WallError {
    /// The filter.
    #[error("compiling the filter of system calls")]
    Filter(#[from] ProfileError),
    /// The kernel.
    #[error("{action}")]
    Kernel {
        /// What was being done.
        action: &'static str,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// Capabilities.
    #[error("giving up capabilities")]
    Capabilities(#[source] Box<InitFailure>),
}

/// Builds the wall around this process.
pub fn raise() -> Result<(), WallError> {
    build(WHOLE.program()?)?;
    restrict()
}

/// Builds the wall around this thread and all that it starts. The process's other threads, which go on connecting networks, keep
/// entering namespaces and their capabilities; everything else they lose as well.
pub fn raise_around_thread() -> Result<(), WallError> {
    let others: Vec<_> = REFUSED.iter().copied().filter(|name| *name != "setns").collect();
    build(&seccomp::refusing(&others)?)?;
    crate::sys::install_filter(WHOLE.program()?).map_err(kernel("filtering system calls"))?;
    restrict()
}

/// Leaves this thread, and those that it starts, the capabilities that are kept: for one that was there before [`raise`].
pub fn restrict_thread() -> Result<(), WallError> {
    restrict()
}

/// Takes from this thread, and those that it starts, the making of sockets: what is to reach no network needs none, and goes on
/// with those that are open.
pub fn without_sockets() -> Result<(), WallError> {
    crate::sys::install_filter(SOCKETS.program()?).map_err(kernel("filtering system calls"))
}

fn kernel(action: &'static str) -> impl FnOnce(Errno) -> WallError {
    move |error| WallError::Kernel { action, source: error.into() }
}

/// A filter that is compiled once.
struct Filter {
    refused: &'static [&'static str],
    program: OnceLock<Vec<Instruction>>,
}

impl Filter {
    const fn new(refused: &'static [&'static str]) -> Self {
        Self { refused, program: OnceLock::new() }
    }

    fn program(&self) -> Result<&[Instruction], ProfileError> {
        match self.program.get() {
            Some(program) => Ok(program),
            None => seccomp::refusing(self.refused).map(|new| self.program.get_or_init(|| new).as_slice()),
        }
    }
}

static WHOLE: Filter = Filter::new(REFUSED);
static SOCKETS: Filter = Filter::new(&["socket", "socketcall"]);

/// Compiles what [`raise`] and [`without_sockets`] install. What is wrong with it is said by them.
pub fn get_ready() {
    let _ = (WHOLE.program(), SOCKETS.program());
}

/// Refuses the system calls of a filter to all threads.
fn build(program: &[Instruction]) -> Result<(), WallError> {
    rustix::thread::set_no_new_privs(true).map_err(kernel("giving up new privileges"))?;
    crate::sys::install_filter_everywhere(program).map_err(kernel("filtering system calls"))
}

/// Leaves this thread, and those that it starts, the capabilities that are kept.
fn restrict() -> Result<(), WallError> {
    let keep = KEPT.iter().filter_map(|name| caps::number(name)).fold(0, |bits, number| bits | 1 << number);
    caps::restrict(keep).map_err(|error| WallError::Capabilities(Box::new(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_one() {
        assert!(KEPT.iter().all(|name| caps::number(name).is_some()));
        assert!(seccomp::refusing(REFUSED).is_ok_and(|program| !program.is_empty()));
    }
}
