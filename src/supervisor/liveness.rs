//! Whether a container is alive: a lock that its supervisor holds, and that the kernel drops with it.
//!
//! The lock is on a file, `flock(2)` on Unix and `LockFileEx` on Windows. A record that says *running* without the lock held
//! means that the supervisor died, whatever the record says.
//!
//! On Unix the file is in the container's run directory and goes with it. Windows neither renames nor, on older file systems,
//! empties a directory in which something is open, so there it lies beside the directory.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
#[cfg(not(windows))]
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::SupervisorError;

const NAME: &str = "lock";

/// Tells apart what one process removes.
#[cfg(not(windows))]
static TURN: AtomicU64 = AtomicU64::new(0);

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

fn lock_path(run: &Path) -> PathBuf {
    if cfg!(windows) { run.with_extension(NAME) } else { run.join(NAME) }
}

/// Where a supervisor's process id is. Nobody else can read a file that is locked on Windows.
fn holder_path(run: &Path) -> PathBuf {
    if cfg!(windows) { run.join("pid") } else { lock_path(run) }
}

fn open(run: &Path) -> Result<File, SupervisorError> {
    let path = lock_path(run);
    File::options().create(true).truncate(false).read(true).write(true).open(&path).map_err(|error| {
        match error.kind() {
            // With its directory, by a command that removes the container.
            std::io::ErrorKind::NotFound => SupervisorError::Removed,
            _ => SupervisorError::file("opening", &path)(error),
        }
    })
}

/// Makes a run directory, or finds it. One that goes away meanwhile is "there" for the first look and no directory for the second.
fn make(run: &Path) -> std::io::Result<()> {
    let end = Instant::now() + PATIENCE;
    loop {
        match std::fs::create_dir_all(run) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && Instant::now() < end => {
                std::thread::sleep(PAUSE);
            }
            outcome => return outcome,
        }
    }
}

/// Whether an open file is the one that is at the path now.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    match (file.metadata(), path.metadata()) {
        (Ok(open), Ok(there)) => (open.dev(), open.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

/// Whether an open file is the one that is at the path now. What is open cannot be removed on Windows.
#[cfg(not(unix))]
fn is_at(_file: &File, path: &Path) -> bool {
    path.exists()
}

impl Liveness {
    /// Takes the lock as a supervisor. A command that looks at it, or claims it to change something, holds it for moments:
    /// this waits for those, and not for another supervisor, which is [`SupervisorError::Taken`].
    pub fn hold(run: &Path) -> Result<Self, SupervisorError> {
        let path = lock_path(run);
        let file = open(run)?;
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
        if !is_at(&file, &path) {
            return Err(SupervisorError::Removed);
        }
        let noted = holder_path(run);
        std::fs::write(&noted, std::process::id().to_string())
            .map_err(SupervisorError::file("writing", &noted))?;
        Ok(Self { _file: file })
    }

    /// Takes the lock if no supervisor has it; makes the run directory if a reboot took it.
    pub fn try_claim(run: &Path) -> Result<Claim, SupervisorError> {
        let file = loop {
            make(run).map_err(SupervisorError::file("making", run))?;
            let file = match open(run) {
                Err(SupervisorError::Removed) => continue,
                file => file?,
            };
            match file.try_lock() {
                // Whoever had it before may have removed it: then this file is nobody's any more.
                Ok(()) if !is_at(&file, &lock_path(run)) => {}
                outcome => break outcome.map(|()| file),
            }
        };
        match file {
            Ok(file) => {
                // What a supervisor that died wrote there must not be taken for one that lives.
                let noted = holder_path(run);
                if noted.metadata().is_ok_and(|metadata| metadata.len() > 0) {
                    std::fs::write(&noted, "").map_err(SupervisorError::file("writing", &noted))?;
                }
                Ok(Claim::Free(Self { _file: file }))
            }
            Err(TryLockError::WouldBlock) => Ok(Claim::Held),
            Err(TryLockError::Error(source)) => {
                Err(SupervisorError::file("locking", &lock_path(run))(source))
            }
        }
    }
}

/// Removes a container's run directory and its lock. Whoever has the lock calls this: both are gone at once and as a whole, so
/// that a supervisor which begins just now finds either the old lock or nothing.
#[cfg(not(windows))]
pub fn forget(run: &Path) -> std::io::Result<()> {
    let name = run.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let turn = TURN.fetch_add(1, Ordering::Relaxed);
    let gone = run.with_file_name(format!("gone-{name}-{}-{turn}", std::process::id()));
    match std::fs::rename(run, &gone) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        // Whoever was on the way to its lock may make one in it yet, once.
        Ok(()) => loop {
            match std::fs::remove_dir_all(&gone) {
                Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => {}
                outcome => break outcome,
            }
        },
    }
}

/// Removes a container's run directory and its lock. Whoever has the lock calls this; a supervisor that begins just now makes
/// a lock of its own, and ends when it finds no record of the container.
#[cfg(windows)]
pub fn forget(run: &Path) -> std::io::Result<()> {
    let absent_is_fine = |outcome: std::io::Result<()>| match outcome {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    };
    // Of a supervisor that removes its own container the log of complaints is still open: where names of open files do not go
    // at once, the empty directory stays.
    match absent_is_fine(std::fs::remove_dir_all(run)) {
        Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => {}
        outcome => outcome?,
    }
    absent_is_fine(std::fs::remove_file(lock_path(run)))
}

/// The process id of the supervisor that holds the lock; `None` when nobody holds it, or a command does.
pub fn holder(run: &Path) -> Option<u32> {
    if is_alive(run) { std::fs::read_to_string(holder_path(run)).ok()?.parse().ok() } else { None }
}

/// Whether a supervisor holds the lock now; takes no lock that anything waits for longer than this call.
pub fn is_alive(run: &Path) -> bool {
    match File::open(lock_path(run)) {
        Ok(file) => matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_had_while_others_take_the_directory_away() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("run");
        std::thread::scope(|scope| {
            let hands: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        for _ in 0..500 {
                            match Liveness::try_claim(&run) {
                                Ok(Claim::Free(_claim)) => forget(&run).unwrap(),
                                Ok(Claim::Held) | Err(SupervisorError::Removed) => {}
                                Err(error) => panic!("{error}"),
                            }
                        }
                    })
                })
                .collect();
            for hand in hands {
                hand.join().unwrap();
            }
        });
    }

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
