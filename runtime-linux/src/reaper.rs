//! The first process of a container with `init`: starts the program, passes signals on to it, reaps orphans.
//!
//! Invariants: it has the program's user, capabilities and filter, no descriptor but the standard streams, and is not dumpable,
//! so nothing in the container reaches its binary through `/proc`; every signal is blocked from before the container is ready,
//! so none is lost or kills it; its end is the program's.

use rustix::process::{Pid, WaitOptions};

use crate::failure::{At, Result, Step};
use crate::plan::Plan;
use crate::{caps, join, sys};

/// Returns only in the child, which goes on to execute the program.
pub(crate) fn run(plan: &Plan) -> Result<()> {
    let step = Step::Begin;
    join::hide()?;
    if !plan.namespaces.pid.is_new() {
        // Only the first process of a pid namespace gets orphans by itself.
        rustix::process::set_child_subreaper(Some(rustix::process::getpid())).at(step, "reaper")?;
    }
    let Some(program) = sys::fork().at(step, "program")? else {
        rustix::process::setpgid(None, None).at(step, "process group")?;
        sys::foreground();
        return Ok(());
    };
    // The program's `execve` closes the last copy of the control socket, and that tells that it runs. The rest is closed as it
    // would be by an `execve` here.
    sys::close_from(3, false).at(step, "descriptors")?;
    if !rustix::process::geteuid().is_root() {
        // What `execve` does for the program of an ordinary user.
        caps::restrict(0)?;
    }
    let _only_a_name = rustix::thread::set_name(c"umiak-init");
    sys::exit_now(attend(program))
}

/// The program's status, 128 and the number of the signal that killed it.
fn attend(program: Pid) -> i32 {
    loop {
        match sys::next_signal() {
            Ok(libc::SIGCHLD) => {
                if let Some(status) = reap(program) {
                    return status;
                }
            }
            // A background process that touches the terminal is its own affair.
            Ok(libc::SIGTTIN | libc::SIGTTOU) | Err(_) => {}
            // It may have ended, or have become a user whom this one may not signal.
            Ok(signal) => drop(sys::kill(program, signal)),
        }
    }
}

/// Reaps all that have ended; the program's status when it is among them.
fn reap(program: Pid) -> Option<i32> {
    let mut ended = None;
    while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
        if pid == program {
            ended = match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => Some(code),
                (None, Some(signal)) => Some(128 + signal),
                (None, None) => ended,
            };
        }
    }
    ended
}
