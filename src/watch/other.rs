//! Elsewhere: nobody is woken, and the sleep is short.

use std::path::Path;
use std::time::Duration;

use super::BLIND;

/// A directory that is looked at again and again.
#[derive(Debug)]
pub struct Watch;

impl Watch {
    /// Stands for a watch on a directory.
    pub fn directory(_dir: &Path) -> Self {
        Self
    }

    /// Stands for several.
    pub fn directories(_dirs: &[&Path]) -> Self {
        Self
    }

    /// Sleeps for a moment; something may have happened.
    pub fn wait(&mut self, limit: Duration) {
        std::thread::sleep(limit.min(BLIND));
    }
}
