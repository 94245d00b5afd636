//! Removing what crashes and abandoned downloads left behind. Never what is complete, and never what is locked.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::lock::Lock;
use super::{Store, StoreError};

/// What a sweep removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Temporary directories and files.
    pub temporary: u64,
    /// Partial downloads.
    pub downloads: u64,
}

/// Small files are written in moments: one this old is a crash's.
const SMALL: Duration = Duration::from_hours(1);

impl Store {
    /// Removes abandoned temporary directories, and partial downloads not written to for longer than `keep`.
    pub fn sweep(&self, keep: Duration) -> Result<Swept, StoreError> {
        let mut swept = Swept::default();
        self.sweep_small(SMALL, &mut swept)?;
        each(&self.layer_root(), |path, name| {
            if name.starts_with("gone-") {
                swept.temporary += u64::from(remove(path)?);
            } else if name.starts_with("tmp-") && path.extension().is_none() {
                if let Some(_lock) = Lock::attempt(&path.with_extension("lock"))? {
                    swept.temporary += u64::from(remove(path)?);
                }
            } else if name.starts_with("tmp-") {
                // Taking a lock that nobody holds, and letting it go, removes its file.
                drop(Lock::attempt(path)?);
            }
            Ok(())
        })?;
        each(&self.container_root(), |path, name| {
            if name.starts_with("gone-") {
                swept.temporary += u64::from(remove(path)?);
            }
            Ok(())
        })?;
        each(&self.ingests(), |path, name| {
            if path.extension().is_some_and(|extension| extension == "lock") {
                drop(Lock::attempt(path)?);
            } else if let Some(hex) = name.strip_suffix(".part")
                && older(path, keep)?
                && let Some(_lock) = Lock::attempt(&self.ingests().join(format!("{hex}.lock")))?
            {
                swept.downloads += u64::from(remove(path)?);
            }
            Ok(())
        })?;
        Ok(swept)
    }

    /// The temporary files of small things, and seals whose layers are gone.
    fn sweep_small(&self, keep: Duration, swept: &mut Swept) -> Result<(), StoreError> {
        each(&self.ingests(), |path, name| {
            if name.contains(".put-") && older(path, keep)? {
                swept.temporary += u64::from(remove(path)?);
            }
            Ok(())
        })?;
        each(&self.root, |path, name| {
            if name.starts_with("version.") && older(path, keep)? {
                swept.temporary += u64::from(remove(path)?);
            }
            Ok(())
        })?;
        if !self.seals().is_dir() {
            return Ok(());
        }
        each(&self.seals(), |path, name| {
            let abandoned = match name.strip_prefix("tmp-") {
                Some(_) => older(path, keep)?,
                None => !self.layer_root().join(name).is_dir(),
            };
            if abandoned {
                // One that was written just now is lost with it: it is a hint.
                swept.temporary += u64::from(remove(path)?);
            }
            Ok(())
        })
    }

    /// What a sweep would remove now, by path within the root; nothing is changed.
    pub fn leftovers(&self) -> Result<Vec<String>, StoreError> {
        let mut found = Vec::new();
        for (directory, prefix) in
            [(self.layer_root(), "layers"), (self.container_root(), "containers"), (self.seals(), "seals")]
        {
            if !directory.is_dir() {
                continue;
            }
            each(&directory, |path, name| {
                let abandoned = if name.starts_with("gone-") {
                    true
                } else if name.starts_with("tmp-") && prefix == "layers" {
                    path.extension().is_none() && Lock::attempt(&path.with_extension("lock"))?.is_some()
                } else {
                    name.starts_with("tmp-") && older(path, SMALL)?
                };
                if abandoned && path.symlink_metadata().is_ok() {
                    found.push(format!("{prefix}/{name}"));
                }
                Ok(())
            })?;
        }
        each(&self.ingests(), |path, name| {
            if name.contains(".put-") && older(path, SMALL)? {
                found.push(format!("ingest/{name}"));
            }
            Ok(())
        })?;
        found.sort();
        Ok(found)
    }
}

fn each(directory: &Path, mut visit: impl FnMut(&Path, &str) -> io::Result<()>) -> Result<(), StoreError> {
    for entry in fs::read_dir(directory).map_err(StoreError::io("list", directory))? {
        let entry = entry.map_err(StoreError::io("list", directory))?;
        let path = entry.path();
        visit(&path, &entry.file_name().to_string_lossy()).map_err(StoreError::io("remove", &path))?;
    }
    Ok(())
}

fn older(path: &Path, keep: Duration) -> io::Result<bool> {
    match fs::symlink_metadata(path).and_then(|metadata| metadata.modified()) {
        Ok(time) => Ok(SystemTime::now().duration_since(time).is_ok_and(|age| age >= keep)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// `false`: it was gone already.
fn remove(path: &Path) -> io::Result<bool> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
