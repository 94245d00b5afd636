//! A thread with a network of its own, in a process that stays where it is.
//!
//! Namespaces are a thread's, and those that it starts inherit them. So what runs in a process of ours and not in one of its own, a
//! sandboxed guest, can have a network like any container's: everything it does is started from such a thread. The thread
//! has a copy of the process's mounts as well, in which `/etc/hosts` and `/etc/resolv.conf` are the network's.
//!
//! The namespaces live as long as the thread does, and it ends when the last handle is dropped.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};

use rustix::mount::{MountPropagationFlags, mount_bind, mount_change};

use crate::sys;

type Job = Box<dyn FnOnce() + Send>;

/// The thread.
pub struct Aside {
    id: u32,
    jobs: Sender<Job>,
}

impl fmt::Debug for Aside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Aside").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Aside {
    /// Starts it, with its loopback device up. `hosts` and `resolver` are what it and what it starts find at `/etc/hosts` and
    /// `/etc/resolv.conf`.
    pub fn start(hosts: &Path, resolver: &Path) -> io::Result<Self> {
        let files = [(hosts.to_owned(), "/etc/hosts"), (resolver.to_owned(), "/etc/resolv.conf")];
        let (jobs, queue) = channel::<Job>();
        let (tell, told) = channel();
        std::thread::Builder::new().name("network".to_owned()).spawn(move || serve(&files, &tell, queue))?;
        let id = told.recv().map_err(|_| ended())??;
        Ok(Self { id, jobs })
    }

    /// The thread's number: what it has is found below `/proc` by it.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Runs something on the thread and waits for it.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
        let (tell, told) = channel();
        // Whoever asked has not gone away: it waits below.
        let job = Box::new(move || drop(tell.send(job())));
        self.jobs.send(job).map_err(|_| ended())?;
        told.recv().map_err(|_| ended())
    }
}

fn ended() -> io::Error {
    io::Error::other("the thread in a network of its own has ended")
}

fn serve(files: &[(PathBuf, &str); 2], tell: &Sender<io::Result<u32>>, queue: Receiver<Job>) {
    let made = prepare(files);
    let good = made.is_ok();
    let _ = tell.send(made);
    if good {
        for job in queue {
            job();
        }
    }
}

fn prepare(files: &[(PathBuf, &str); 2]) -> io::Result<u32> {
    sys::unshare_network_and_mounts()?;
    // What is mounted here is nobody else's, and what the host unmounts goes here as well.
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
    for (from, to) in files {
        mount_bind(from, *to)
            .map_err(|error| io::Error::other(format!("mounting `{}` over {to}: {error}", from.display())))?;
    }
    sys::loopback_up()?;
    u32::try_from(rustix::thread::gettid().as_raw_nonzero().get()).map_err(io::Error::other)
}
