//! On which processor something new begins.
//!
//! A kernel leaves what was just made on the processor of its maker where it believes the others to be taken: it believes so of every
//! idle processor of a virtual machine, since the host has put those aside. A thread that was made to work beside its maker then
//! begins when that one waits for something, or with the next tick of the clock, up to 4 ms later.
//!
//! Only for threads that soon end. To have been moved is to have a set of processors of one's own, which a later and larger set of a
//! control group does not widen, and which children inherit. A process needs none of this: the kernel looks for a place for it when it
//! executes a program.

use std::os::unix::thread::JoinHandleExt as _;
use std::thread::JoinHandle;

use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu};

use crate::sys;

/// Lets a thread that was just made begin on another processor than this one's, where it may have one. It stays free to go anywhere
/// that it might go before. What a kernel refuses is done without.
pub fn elsewhere<T>(thread: &JoinHandle<T>) {
    // A new thread may go where its maker may.
    let Ok(all) = sched_getaffinity(None) else { return };
    let mut others = all;
    others.unset(sched_getcpu());
    if others == CpuSet::new() || others == all {
        return;
    }
    let thread = thread.as_pthread_t();
    if sys::set_thread_affinity(thread, &others).is_ok() {
        let _ = sys::set_thread_affinity(thread, &all);
    }
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
        elsewhere(&thread);
        tell.send(()).unwrap();
        assert!(thread.join().unwrap() == before);
    }
}
