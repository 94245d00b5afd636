//! Whether a container is alive: a lock that its supervisor holds, and that the kernel drops with it.
//!
//! The lock is on a file in the container's run directory, `flock(2)` on Unix and `LockFileEx` on Windows. A record that
//! says *running* without the lock held means that the supervisor died, whatever the record says.

use std::fs::{File, TryLockError};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use super::SupervisorError;

const NAME: &str = "lock";

/// How long a supervisor waits for commands that hold the lock.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(1);

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
    File::options().create(true).truncate(false).read(true).write(true).open(&path).map_err(|error| {
        match error.kind() {
            // With its directory, by a command that removes the container.
            std::io::ErrorKind::NotFound => SupervisorError::Removed,
            _ => SupervisorError::file("opening", &path)(error),
        }
    })
}

impl Liveness {
    /// Takes the lock as a supervisor. A command that looks at it, or claims it to change something, holds it for moments:
    /// this waits for those, and not for another supervisor, which is [`SupervisorError::Taken`].
    pub fn hold(run: &Path) -> Result<Self, SupervisorError> {
        let path = run.join(NAME);
        let mut file = open(run)?;
        let end = Instant::now() + PATIENCE;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(source)) => {
                    return Err(SupervisorError::file("locking", &path)(source));
                }
                Err(TryLockError::WouldBlock) if holder(run).is_some() || Instant::now() > end => {
                    return Err(SupervisorError::Taken);
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
            }
        }
        // A removal may have had the lock before: then this file is nobody's any more.
        if !path.exists() {
            return Err(SupervisorError::Removed);
        }
        file.set_len(0)
            .and_then(|()| write!(file, "{}", std::process::id()))
            .map_err(SupervisorError::file("writing", &path))?;
        Ok(Self { _file: file })
    }

    /// Takes the lock if no supervisor has it; makes the run directory if a reboot took it.
    pub fn try_claim(run: &Path) -> Result<Claim, SupervisorError> {
        std::fs::create_dir_all(run).map_err(SupervisorError::file("making", run))?;
        let file = open(run)?;
        match file.try_lock() {
            Ok(()) => {
                // What a supervisor that died wrote there must not be taken for one that lives.
                if file.metadata().is_ok_and(|metadata| metadata.len() > 0) {
                    file.set_len(0).map_err(SupervisorError::file("writing", &run.join(NAME)))?;
                }
                Ok(Claim::Free(Self { _file: file }))
            }
            Err(TryLockError::WouldBlock) => Ok(Claim::Held),
            Err(TryLockError::Error(source)) => {
                Err(SupervisorError::file("locking", &run.join(NAME))(source))
            }
        }
    }
}

/// Removes a container's run directory, the lock in it included. Whoever has the lock calls this: the directory is gone at
/// once and as a whole, so that a supervisor which begins just now finds either the old lock or nothing.
pub fn forget(run: &Path) -> std::io::Result<()> {
    let name = run.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let gone = run.with_file_name(format!("gone-{name}-{}", std::process::id()));
    match std::fs::rename(run, &gone) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(()) => std::fs::remove_dir_all(&gone),
    }
}

/// The process id of the supervisor that holds the lock; `None` when nobody holds it, or a command does.
pub fn holder(run: &Path) -> Option<u32> {
    if is_alive(run) { std::fs::read_to_string(run.join(NAME)).ok()?.parse().ok() } else { None }
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
