//! A network stays for a moment after its last container, whose supervisor takes it down then, unless somebody came meanwhile.
//!
//! Removing a bridge keeps the kernel from changing any other link for twenty milliseconds, and so whoever starts the next container
//! would wait for the end of the one before: scripts run one after another.
//!
//! Whoever lingers shares a lock, so that commands leave what nobody uses to him, and the last one to go takes everything down. The
//! lock is on the run directory itself, and the kernel drops it with its holder.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::Duration;

/// How long a network stays.
pub const MOMENT: Duration = Duration::from_secs(1);

/// Held while one lingers.
#[derive(Debug)]
pub struct Lingering(File);

/// Held while the last one takes everything down.
#[derive(Debug)]
pub struct Last(#[expect(dead_code, reason = "it is there to be held")] File);

/// Begins to linger; `None` while everything is taken down, or a command looks.
pub fn begin(run_root: &Path) -> Option<Lingering> {
    let lock = File::open(run_root).ok()?;
    lock.try_lock_shared().ok()?;
    Some(Lingering(lock))
}

/// Whether anybody lingers.
pub fn is_going_on(run_root: &Path) -> bool {
    File::open(run_root).is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

impl Lingering {
    /// Ends it; `Some` if nobody else lingers: then everything is this one's to take down.
    ///
    /// The own share goes first: of several that end at once, each would see the others.
    pub fn end(self) -> Option<Last> {
        self.0.unlock().ok()?;
        self.0.try_lock().ok()?;
        Some(Last(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_one_takes_everything_down() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!is_going_on(dir.path()));
        let (one, two) = (begin(dir.path()).unwrap(), begin(dir.path()).unwrap());
        assert!(is_going_on(dir.path()));
        assert!(one.end().is_none(), "another one is there");
        let last = two.end();
        assert!(last.is_some() && is_going_on(dir.path()), "while it is taken down");
        assert!(begin(dir.path()).is_none(), "whoever comes now takes down what is his himself");
        drop(last);
        assert!(!is_going_on(dir.path()));
    }
}
