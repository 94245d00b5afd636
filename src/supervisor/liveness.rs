//! Whether a container is alive: a lock that its supervisor holds, and that the kernel drops with it.
//!
//! The lock is on a file in the container's run directory, `flock(2)` on Unix and `LockFileEx` on Windows. A record that
//! says *running* without the lock held means that the supervisor died, whatever the record says.

use std::fs::{File, TryLockError};
use std::path::Path;

use super::SupervisorError;

const NAME: &str = "lock";

/// The supervisor's hold on a container.
#[derive(Debug)]
pub struct Liveness {
    _file: File,
}

/// The outcome of [`Liveness::try_claim`].
#[derive(Debug)]
pub enum Claim {
    /// Nobody supervises the container, and nobody can begin to until this is dropped.
    Free(Liveness),
    /// A supervisor holds it.
    Held,
}

fn open(run: &Path) -> Result<File, SupervisorError> {
    let path = run.join(NAME);
    File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&path)
        .map_err(SupervisorError::file("opening", &path))
}

impl Liveness {
    /// Takes the lock; a command that looks at it holds it for an instant, so this waits.
    pub fn hold(run: &Path) -> Result<Self, SupervisorError> {
        let file = open(run)?;
        file.lock().map_err(SupervisorError::file("locking", &run.join(NAME)))?;
        Ok(Self { _file: file })
    }

    /// Takes the lock if no supervisor has it; makes the run directory if a reboot took it.
    pub fn try_claim(run: &Path) -> Result<Claim, SupervisorError> {
        std::fs::create_dir_all(run).map_err(SupervisorError::file("making", run))?;
        let file = open(run)?;
        match file.try_lock() {
            Ok(()) => Ok(Claim::Free(Self { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(Claim::Held),
            Err(TryLockError::Error(source)) => {
                Err(SupervisorError::file("locking", &run.join(NAME))(source))
            }
        }
    }
}

/// Whether a supervisor holds the lock now; takes no lock that anything waits for longer than this call.
pub fn is_alive(run: &Path) -> bool {
    match File::open(run.join(NAME)) {
        Ok(file) => matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_tells_who_lives() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!is_alive(dir.path()));
        let held = Liveness::hold(dir.path()).unwrap();
        assert!(is_alive(dir.path()));
        assert!(matches!(Liveness::try_claim(dir.path()).unwrap(), Claim::Held));
        drop(held);
        assert!(!is_alive(dir.path()));
        assert!(matches!(Liveness::try_claim(dir.path()).unwrap(), Claim::Free(_)));
    }
}
