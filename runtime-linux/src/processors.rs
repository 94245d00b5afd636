//! On which processor something new begins.
//!
//! A kernel leaves what was just made on the processor of its maker where it believes the others to be taken: it believes so of every
//! idle processor of a virtual machine, since the host has put those aside. What was made to work beside its maker then
//! begins when that one waits for something, or with the next tick of the clock, up to 4 ms later.

use std::os::unix::thread::JoinHandleExt as _;
use std::thread::JoinHandle;

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};

use crate::sys;

/// Lets a process that was just made begin on another processor than this thread's, where it may have one. It stays free to go
/// anywhere that it might go before. What a kernel refuses is done without.
pub fn elsewhere(process: u32) {
    let id = i32::try_from(process).ok().and_then(Pid::from_raw);
    let Some((id, (all, others))) = id.and_then(|id| Some((id, choice(Some(id))?))) else { return };
    if sched_setaffinity(Some(id), &others).is_ok() {
        let _ = sched_setaffinity(Some(id), &all);
    }
}

/// [`elsewhere`] for a thread.
pub fn thread_elsewhere<T>(thread: &JoinHandle<T>) {
    // A new thread may go where its maker may.
    let Some((all, others)) = choice(None) else { return };
    let thread = thread.as_pthread_t();
    if sys::set_thread_affinity(thread, &others).is_ok() {
        let _ = sys::set_thread_affinity(thread, &all);
    }
}

/// The processors that a process (or this thread) may use, and those of them that this thread is not on; `None` where there are none.
fn choice(of: Option<Pid>) -> Option<(CpuSet, CpuSet)> {
    let all = sched_getaffinity(of).ok()?;
    let mut others = all;
    others.unset(sched_getcpu());
    (others != CpuSet::new() && others != all).then_some((all, others))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_begins_elsewhere_may_go_anywhere() {
        let before = sched_getaffinity(None).unwrap();
        let (tell, told) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            told.recv().unwrap();
            sched_getaffinity(None).unwrap()
        });
        thread_elsewhere(&thread);
        tell.send(()).unwrap();
        assert!(thread.join().unwrap() == before);
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        elsewhere(child.id());
        let id = Pid::from_raw(i32::try_from(child.id()).unwrap());
        assert!(sched_getaffinity(id).unwrap() == before);
        child.kill().unwrap();
        child.wait().unwrap();
        // One that is gone is nobody's concern.
        elsewhere(child.id());
    }
}
