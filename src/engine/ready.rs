//! What `run` gets ready while it reads its own arguments: its supervisor's process, and the database.
//!
//! Each of the three takes a millisecond, and on two processors they go on side by side. Where the store is may be known
//! before the arguments are, from the environment; if they say something else, this was for nothing.
//!
//! Invariant: no store is made by this, and a wrong command line leaves nothing running. A database that is there is opened as by any
//! command, which brings an older one's tables up to date; a supervisor's process that hears nothing ends with the one that made it.

use std::path::PathBuf;
use std::thread::{Builder, JoinHandle};

use super::run::Ahead;
use super::{Options, rootless};
use crate::state::{Database, StateError};

/// What is being got ready.
#[derive(Debug)]
pub struct Ready {
    directories: (PathBuf, PathBuf),
    ahead: Option<Ahead>,
    database: JoinHandle<Result<Database, StateError>>,
}

impl Ready {
    /// Begins. `None` where there is nothing to open yet; and without root, since the namespace that is entered later must be the
    /// supervisor's as well, and only a process of one thread enters it.
    pub fn begin(options: &Options) -> Option<Self> {
        if !rootless::is_root() {
            return None;
        }
        let directories = options.directories().ok()?;
        let root = directories.0.clone();
        if !root.join(Database::FILE).is_file() {
            return None;
        }
        let ahead = Ahead::make(&directories.1);
        let open = move || Database::open(&root);
        let database = Builder::new().name("database".to_owned()).spawn(open).ok()?;
        #[cfg(target_os = "linux")]
        runtime_linux::processors::elsewhere(&database);
        Some(Self { directories, ahead, database })
    }

    /// Whether it is for an engine with these options.
    pub(super) fn fits(&self, options: &Options) -> bool {
        options.directories().is_ok_and(|directories| directories == self.directories)
    }

    /// Waits for it; `None` if its thread did not come to an end.
    pub(super) fn finish(self) -> Option<(Option<Ahead>, Result<Database, StateError>)> {
        let Self { directories: (root, _), mut ahead, database } = self;
        let database = database.join().ok()?;
        // Not before: two that open a database first at once wait for each other.
        if let Some(ahead) = ahead.as_mut().filter(|_| database.is_ok()) {
            ahead.tell_store(&root);
        }
        Some((ahead, database))
    }
}
