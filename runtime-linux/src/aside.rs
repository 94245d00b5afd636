//! A thread with namespaces of its own, in a process that stays where it is.
//!
//! Namespaces are a thread's, and those that it starts inherit them. So what runs in a process of ours and not in one of its own, a
//! sandboxed guest, can be apart from the host like any container: everything it does is started from such a thread. It has
//! - mount, IPC and UTS namespaces, and as its root an empty directory that nobody can write, with nothing in it but the process's own
//!   descriptors (`/proc/self/fd`, by which open trees are handed on) and the files that it is given;
//! - where it is asked for, a network like any container's.
//!
//! What is mounted in its namespace is a copy that follows the host's: an unmounting there is not held up. Its old root is
//! out of reach and not unmounted, since nothing here can mount, `chroot` or enter namespaces later, and the kernel takes a millisecond for it.
//! Measured on two cores of a virtual machine: the namespaces 0.1 ms, the root 0.1 ms. A network namespace takes 0.8 to 1.4 ms,
//! which is why what may not use a network at all is kept from sockets instead ([`crate::wall::without_sockets`]).
//!
//! The namespaces live as long as the thread does, and it ends when the last handle is dropped.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    MountAttrFlags, MountPropagationFlags, MoveMountFlags, mount_bind, mount_change, move_mount,
};

use crate::{mounts, sys};

type Job = Box<dyn FnOnce() + Send>;

/// What a thread is to have.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    /// A network of its own, with its loopback device up. Then a kernel that refuses a namespace is an error; without it the thread
    /// has what it may have, see [`Aside::refused`].
    pub network: bool,
    /// Files of the host, and the absolute paths by which the thread finds them.
    pub files: Vec<(PathBuf, &'static str)>,
}

/// The thread.
pub struct Aside {
    id: u32,
    refused: Option<io::Error>,
    jobs: Sender<Job>,
}

impl fmt::Debug for Aside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Aside").field("id", &self.id).field("refused", &self.refused).finish_non_exhaustive()
    }
}

impl Aside {
    /// Starts it.
    pub fn start(wish: Wish) -> io::Result<Self> {
        let (jobs, queue) = channel::<Job>();
        let (tell, told) = channel();
        std::thread::Builder::new().name("aside".to_owned()).spawn(move || serve(&wish, &tell, queue))?;
        let (id, refused) = told.recv().map_err(|_| ended())??;
        Ok(Self { id, refused, jobs })
    }

    /// The thread's number: what it has is found below `/proc` by it.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Why it has no namespaces and no root of its own, if the kernel refused them.
    pub fn refused(&self) -> Option<&io::Error> {
        self.refused.as_ref()
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
    io::Error::other("the thread in namespaces of its own has ended")
}

/// The thread's number, and why it is not apart.
type Made = io::Result<(u32, Option<io::Error>)>;

fn serve(wish: &Wish, tell: &Sender<Made>, queue: Receiver<Job>) {
    let made = prepare(wish);
    let good = made.is_ok();
    let _ = tell.send(made);
    if good {
        for job in queue {
            job();
        }
    }
}

fn prepare(wish: &Wish) -> Made {
    if wish.network {
        sys::unshare_network()?;
        sys::loopback_up()?;
    }
    let refused = match go_apart(wish) {
        Err(error) if wish.network || !is_refusal(&error) => return Err(error),
        outcome => outcome.err(),
    };
    let id = rustix::thread::gettid().as_raw_nonzero().get();
    Ok((u32::try_from(id).map_err(io::Error::other)?, refused))
}

/// Whether an error means that this host or this user cannot have it, as a kernel without a kind of namespaces, or a limit on them.
fn is_refusal(error: &io::Error) -> bool {
    let refusals =
        [Errno::PERM, Errno::ACCESS, Errno::INVAL, Errno::NOSYS, Errno::NOSPC, Errno::USERS, Errno::NODEV];
    error.raw_os_error().is_some_and(|code| refusals.contains(&Errno::from_raw_os_error(code)))
}

/// Gives this thread its namespaces and its root. The root is gone into last: who fails before sees what it saw.
fn go_apart(wish: &Wish) -> io::Result<()> {
    sys::unshare_surroundings()?;
    // What is mounted here is nobody else's, and what the host unmounts goes here as well.
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let top = mounts::filesystem("tmpfs", &[("size", Some("64k")), ("mode", Some("0755"))], attributes)?;
    // Over the old root, by whose paths things are found until the end.
    move_mount(&top, "", CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    rustix::process::fchdir(&top)?;
    directories("/proc/self/fd/")?;
    mount_bind("/proc/self/fd", "proc/self/fd")?;
    for (from, to) in &wish.files {
        bind_file(from, to)
            .map_err(|error| io::Error::other(format!("mounting `{}` over {to}: {error}", from.display())))?;
    }
    sys::mount_setattr(&top, MountAttrFlags::MOUNT_ATTR_RDONLY.bits().into(), 0, false)?;
    rustix::process::chroot(".")?;
    Ok(())
}

/// Makes the directories of a path, up to its last slash, in the working directory.
fn directories(path: &str) -> rustix::io::Result<()> {
    for (end, _) in path.match_indices('/').skip(1) {
        match rustix::fs::mkdir(&path[1..end], Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn bind_file(from: &Path, to: &str) -> rustix::io::Result<()> {
    directories(to)?;
    let place = to.trim_start_matches('/');
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    rustix::fs::open(place, flags, Mode::from_raw_mode(0o644))?;
    mount_bind(from, place)
}
