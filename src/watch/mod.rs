//! Sleeping until a file of a directory is written to.
//!
//! A hint and never the truth: a wake may come for nothing, and where the kernel has no watches to give the sleep is a short
//! one. So whoever waits looks again after every return. Watches are set before the first look, so that nothing falls
//! between the two. The kernel tells of a write or a closing a little before others can see what it brought about: the sleeps
//! after a wake are short, and grow. Why not a socket between writers and readers: writers would pay for readers that are not there.

#[cfg_attr(target_os = "linux", path = "linux.rs")]
#[cfg_attr(not(target_os = "linux"), path = "other.rs")]
mod system;

use std::time::Duration;

pub use system::Watch;

/// The sleep of those who cannot be woken.
const BLIND: Duration = Duration::from_millis(50);

/// How long to sleep at the most, after so many sleeps for nothing.
#[cfg(target_os = "linux")]
#[derive(Debug)]
struct Pace(Duration);

#[cfg(target_os = "linux")]
impl Default for Pace {
    fn default() -> Self {
        Self(Duration::from_millis(1))
    }
}

#[cfg(target_os = "linux")]
impl Pace {
    fn next(&mut self) -> Duration {
        let now = self.0;
        self.0 = (now * 4).min(Duration::from_secs(10));
        now
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::time::Instant;

    #[test]
    fn a_write_wakes_a_sleeper() {
        let dir = tempfile::tempdir().unwrap();
        let mut watch = Watch::directory(dir.path());
        let mut file = std::fs::File::create(dir.path().join("x")).unwrap();
        // Until the sleeps are long.
        for _ in 0..9 {
            watch.wait(Duration::from_millis(1));
        }
        let begun = Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(|| file.write_all(b"x").unwrap());
            watch.wait(Duration::from_mins(1));
        });
        assert!(begun.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn what_cannot_be_watched_is_a_short_sleep() {
        let mut watch = Watch::directory(std::path::Path::new("/no/such/directory"));
        let begun = Instant::now();
        watch.wait(Duration::from_mins(1));
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
}
