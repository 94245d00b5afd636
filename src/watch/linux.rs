//! Linux: inotify.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

use super::{BLIND, Pace};

/// A directory that is watched.
#[derive(Debug)]
pub struct Watch {
    watch: Option<OwnedFd>,
    pace: Pace,
}

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
            Ok(watch) => Self { watch: Some(watch), pace: Pace::default() },
            // A user has a number of watches; the directory may have gone.
            Err(error) => {
                tracing::debug!(%error, ?dirs, "cannot be watched: looking again and again instead");
                Self { watch: None, pace: Pace::default() }
            }
        }
    }

    /// Sleeps until something may have happened, at most so long.
    pub fn wait(&mut self, limit: Duration) {
        let Some(watch) = &self.watch else { return std::thread::sleep(limit.min(BLIND)) };
        let limit = self.pace.next().min(limit);
        let limit = Timespec {
            tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: limit.subsec_nanos().into(),
        };
        let mut one = [PollFd::new(watch, PollFlags::IN)];
        // A signal's interruption is a wake for nothing.
        if !poll(&mut one, Some(&limit)).is_ok_and(|ready| ready > 0) {
            return;
        }
        let mut buffer = [0; 4096];
        while rustix::io::read(watch, &mut buffer).is_ok_and(|read| read > 0) {}
        self.pace = Pace::default();
    }
}
