//! On which processor something new begins.
//!
//! A kernel leaves what was just made on the processor of its maker where it believes the others to be taken: it believes so of every
//! idle processor of a virtual machine, since the host has put those aside. What was made to work beside its maker then
//! begins when that one waits for something, or with the next tick of the clock, up to 4 ms later.

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};

/// Lets a process or thread that was just made begin on another processor than this thread's, where it may have one. It stays free to
/// go anywhere that it might go before. What a kernel refuses is done without.
pub fn elsewhere(id: u32) {
    let Some(id) = i32::try_from(id).ok().and_then(Pid::from_raw) else { return };
    let Ok(all) = sched_getaffinity(Some(id)) else { return };
    let mut others = all;
    others.unset(sched_getcpu());
    if others == CpuSet::new() || others == all {
        return;
    }
    if sched_setaffinity(Some(id), &others).is_ok() {
        let _ = sched_setaffinity(Some(id), &all);
    }
}
