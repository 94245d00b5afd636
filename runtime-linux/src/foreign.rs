//! What a caller needs of this crate who has another runtime (runc, crun) carry out one of our plans: a place to run it in,
//! ids, namespaces and the filter, all found as this crate's own init finds them.
//!
//! Invariants:
//! - What is mounted for the other runtime is mounted in a mount namespace of one thread's own, so nothing is left mounted
//!   after `kill -9`, and the host sees none of it.
//! - A namespace to join is handed over as a descriptor that was checked to be the peer's, never as a process id that may be
//!   somebody else's by the time it is used.
//!
//! Why not `unshare(1)` and `mount(8)` around the runtime: nothing of it could be told apart from the runtime's own failure,
//! and paths would be resolved a second time.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountPropagationFlags, UnmountFlags};

use crate::cgroups::Hierarchies;
use crate::failure::{At, Cause, InitFailure, Result, Step};
use crate::mounts::{self, Tree};
use crate::plan::Peer;
use crate::{join, sys, users};

pub use crate::users::Identity;

/// A mount namespace for one command of another runtime.
#[derive(Debug, Default)]
pub struct Stage {
    /// Detached mounts and the existing directories that they are attached to.
    pub mounts: Vec<(OwnedFd, PathBuf)>,
    /// A container whose `/dev/shm` is attached to an existing directory.
    pub shm: Option<(Peer, PathBuf)>,
}

impl Stage {
    /// Runs `job` on a thread of its own in a new mount namespace. What the host mounts later still arrives there, and
    /// nothing of it goes back. Where cgroups are mixed, v2's empty tree is not there: crun takes one kind alone.
    pub fn run<T: Send>(&self, job: impl FnOnce() -> T + Send) -> Result<T> {
        let lost = || InitFailure::new(Step::Namespaces, "thread", Cause::Errno(libc::EAGAIN));
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().spawn_scoped(scope, || {
                self.enter()?;
                Ok(job())
            });
            thread.map_err(|_none| lost())?.join().map_err(|_panicked| lost())?
        })
    }

    fn enter(&self) -> Result<()> {
        sys::unshare_mounts().at(Step::Namespaces, "mount")?;
        let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
        rustix::mount::mount_change("/", slave).at(Step::Namespaces, "/")?;
        let shm = self.shm.as_ref().map(|(peer, place)| {
            let shm = join::shm_of(&join::open(peer)?)?;
            Ok::<_, InitFailure>((shm, place))
        });
        let shm = shm.transpose()?;
        let mounts = self.mounts.iter().map(|(mount, place)| (mount, place));
        for (mount, place) in mounts.chain(shm.iter().map(|(mount, place)| (mount, *place))) {
            let subject = place.display().to_string();
            let target = rustix::fs::open(place, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
            mounts::attach(mount, target.at(Step::Mount, &subject)?).at(Step::Mount, &subject)?;
        }
        if let Some(tree) = mixed_tree() {
            let subject = tree.display().to_string();
            rustix::mount::unmount(&tree, UnmountFlags::DETACH).at(Step::Mount, subject)?;
        }
        Ok(())
    }
}

/// Where v2's tree is mounted beside those of v1.
fn mixed_tree() -> Option<PathBuf> {
    let found = Hierarchies::detect().ok()?;
    if found.v1.is_empty() { None } else { found.v2 }
}

/// A descriptor of one namespace (`net`, `pid`, … as in `/proc/PID/ns`) of a process that is the one that was meant.
pub fn namespace(peer: &Peer, kind: &str) -> Result<OwnedFd> {
    let process = join::open(peer)?;
    let path = format!("/proc/{}/ns/{kind}", peer.pid);
    let namespace = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let namespace = namespace.at(Step::Join, peer.pid.to_string())?;
    // It lives, so the number was its own all the time.
    sys::alive(process.as_fd()).at(Step::Join, peer.pid.to_string())?;
    Ok(namespace)
}

/// A detached mount of what is at `subpath` in a directory of the host, which no link leads out of; `place` becomes what it can be
/// attached to, a directory or an empty file.
pub fn part(source: &Path, subpath: &str, recursive: bool, place: &Path) -> Result<OwnedFd> {
    let (step, subject) = (Step::Source, source.join(subpath).display().to_string());
    let part = mounts::source_within(source, subpath, recursive).at(step, &subject)?;
    let made = if mounts::is_directory(&part).at(step, &subject)? {
        std::fs::create_dir(place)
    } else {
        std::fs::write(place, "")
    };
    let code = |error: std::io::Error| Cause::Errno(error.raw_os_error().unwrap_or(libc::EIO));
    made.map_err(|error| InitFailure::new(step, place.display().to_string(), code(error)))?;
    Ok(part)
}

/// Who `user` (see [`crate::Plan::user`]) is in a root directory, with the additional groups.
pub fn identity(root: &OwnedFd, user: &str, additional: &[String]) -> Result<Identity> {
    let tree =
        Tree(root.try_clone().map_err(|_| InitFailure::new(Step::User, user, Cause::Errno(libc::EMFILE)))?);
    let text = |path| tree.text(path, users::MAX_FILE);
    users::resolve(user, additional, &text("/etc/passwd"), &text("/etc/group"))
}

/// Makes a directory in a root directory, with its parents, unless something is there.
pub fn make_directory(root: &OwnedFd, path: &str) -> Result<()> {
    let duplicate = root.try_clone();
    let root =
        duplicate.map_err(|_| InitFailure::new(Step::WorkingDirectory, path, Cause::Errno(libc::EMFILE)))?;
    match Tree(root).directory(path) {
        Ok(_) | Err(rustix::io::Errno::NOTDIR) => Ok(()),
        Err(errno) => Err(errno).at(Step::WorkingDirectory, path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(dir: &std::path::Path) -> OwnedFd {
        rustix::fs::open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap()
    }

    #[test]
    fn users_are_found_in_the_root_and_not_on_the_host() {
        let dir = std::env::temp_dir().join(format!("umiak-foreign-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("etc")).unwrap();
        std::fs::write(dir.join("etc/passwd"), "www:x:33:34::/srv:/bin/sh\n").unwrap();
        // A link that leads out leads to the root's own file, which is not there.
        std::os::unix::fs::symlink("/../../etc/group", dir.join("etc/group")).unwrap();
        let found = identity(&root(&dir), "www", &[]).unwrap();
        assert_eq!((found.uid, found.gid, found.home.as_deref()), (33, 34, Some("/srv")));
        assert!(identity(&root(&dir), "daemon", &[]).is_err());
        make_directory(&root(&dir), "/a/b").unwrap();
        assert!(dir.join("a/b").is_dir());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
