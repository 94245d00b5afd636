//! Sleeping until a file of a directory is written to.
//!
//! A hint and never the truth: a wake may come for nothing, and where the kernel has no watches to give the sleep is a short
//! one. So whoever waits looks again after every return. Watches are set before the first look, so that nothing falls
//! between the two. Why not a socket between writers and readers: writers would pay for readers that are not there.

#[cfg_attr(target_os = "linux", path = "linux.rs")]
#[cfg_attr(not(target_os = "linux"), path = "other.rs")]
mod system;

pub use system::Watch;

/// The sleep of those who cannot be woken.
const BLIND: std::time::Duration = std::time::Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::time::{Duration, Instant};

    #[test]
    fn a_write_wakes_and_so_does_the_end_of_a_writer() {
        let dir = tempfile::tempdir().unwrap();
        let watch = Watch::directory(dir.path());
        let long = Duration::from_mins(1);
        let begun = Instant::now();
        let mut file = std::fs::File::create(dir.path().join("x")).unwrap();
        watch.wait(long);
        file.write_all(b"x").unwrap();
        watch.wait(long);
        drop(file);
        watch.wait(long);
        std::fs::rename(dir.path().join("x"), dir.path().join("y")).unwrap();
        watch.wait(long);
        assert!(begun.elapsed() < long);
    }

    #[test]
    fn what_cannot_be_watched_is_a_short_sleep() {
        let watch = Watch::directory(std::path::Path::new("/no/such/directory"));
        assert!(watch.wait(Duration::from_mins(1)));
    }
}
