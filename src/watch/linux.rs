//! Linux: inotify.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

use super::BLIND;

/// A directory that is watched.
#[derive(Debug)]
pub struct Watch(Option<OwnedFd>);

impl Watch {
    /// Watches the files of a directory: writing, appearing, going, and the closing of what was open for writing.
    pub fn directory(dir: &Path) -> Self {
        Self::directories(&[dir])
    }

    /// Watches several.
    pub fn directories(dirs: &[&Path]) -> Self {
        let watch = || {
            let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
            let what = WatchFlags::MODIFY
                | WatchFlags::CREATE
                | WatchFlags::DELETE
                | WatchFlags::MOVE
                | WatchFlags::CLOSE_WRITE
                | WatchFlags::DELETE_SELF
                | WatchFlags::MOVE_SELF
                | WatchFlags::ONLYDIR;
            for dir in dirs {
                inotify::add_watch(&watch, *dir, what)?;
            }
            Ok::<_, rustix::io::Errno>(watch)
        };
        match watch() {
            Ok(watch) => Self(Some(watch)),
            // A user has a number of watches; the directory may have gone.
            Err(error) => {
                tracing::debug!(%error, ?dirs, "cannot be watched: looking again and again instead");
                Self(None)
            }
        }
    }

    /// Sleeps until something happens, at most so long; whether it may have happened.
    pub fn wait(&self, limit: Duration) -> bool {
        let Some(watch) = &self.0 else {
            std::thread::sleep(limit.min(BLIND));
            return true;
        };
        let limit = Timespec {
            tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: limit.subsec_nanos().into(),
        };
        let mut one = [PollFd::new(watch, PollFlags::IN)];
        // A signal's interruption is a wake for nothing.
        if !poll(&mut one, Some(&limit)).is_ok_and(|ready| ready > 0) {
            return false;
        }
        let mut buffer = [0; 4096];
        while rustix::io::read(watch, &mut buffer).is_ok_and(|read| read > 0) {}
        true
    }
}
