//! Files of volumes: `volumes/NAME/_data`, as docker has them.
//!
//! Invariants: a name was checked to be one plain component ([`crate::model::Volume::new`]); a volume that is being filled
//! from an image has the mark `filling` beside its data, so that a crash is seen and the filling begun anew.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::Dir;

use super::lock::Lock;
use super::snapshot::copy_tree;
use super::{Store, StoreError};
use crate::failpoint::{Point, pass};

const DATA: &str = "_data";
const FILLING: &str = "filling";

/// Volumes' files by name.
#[derive(Debug)]
pub struct Volumes<'a> {
    pub(super) store: &'a Store,
}

impl Volumes<'_> {
    fn dir(&self, name: &str) -> PathBuf {
        self.store.root().join("volumes").join(name)
    }

    /// Where a volume's files are.
    pub fn data(&self, name: &str) -> PathBuf {
        self.dir(name).join(DATA)
    }

    /// Makes a volume's directory if there is none.
    pub fn make(&self, name: &str) -> Result<(), StoreError> {
        let data = self.data(name);
        if data.is_dir() {
            return Ok(());
        }
        let all = self.store.root().join("volumes");
        fs::create_dir_all(&data).map_err(StoreError::io("create", &data))?;
        for directory in [&data, &self.dir(name), &all] {
            super::durable::sync_directory(directory).map_err(StoreError::io("sync", directory))?;
        }
        Ok(())
    }

    /// Fills a volume that is empty from a directory of an image; nothing happens to one that holds something.
    pub fn fill(&self, name: &str, from: impl FnOnce() -> io::Result<Option<Dir>>) -> Result<(), StoreError> {
        let (dir, data) = (self.dir(name), self.data(name));
        let mark = dir.join(FILLING);
        if !empty(&data).map_err(StoreError::io("read", &data))? && !mark.exists() {
            return Ok(());
        }
        let lock = dir.join("lock");
        let _alone = Lock::wait(&lock).map_err(StoreError::io("lock", &lock))?;
        if mark.exists() {
            clear(&data).map_err(StoreError::io("clear", &data))?;
        } else if !empty(&data).map_err(StoreError::io("read", &data))? {
            return Ok(());
        }
        let filled = (|| {
            let Some(from) = from()? else { return Ok(()) };
            fs::write(&mark, "")?;
            super::durable::sync_directory(&dir)?;
            let watch = super::durable::Watch::begin(&data)?;
            let to = Dir::open_ambient_dir(&data, ambient_authority())?;
            copy_tree(&from, &to)?;
            // The mark goes only when what it stands for is on the disk: a power cut leaves all of it, or the mark.
            if !empty(&data)? {
                watch.sync(std::slice::from_ref(&data))?;
            }
            fs::remove_file(&mark)?;
            super::durable::sync_directory(&dir)
        })();
        filled.map_err(StoreError::io("fill", &data))
    }

    /// Takes a volume's files out of sight; [`Self::purge`] removes them.
    pub fn retire(&self, name: &str) -> io::Result<PathBuf> {
        let away = self.store.root().join("volumes").join(format!(".gone-{name}-{}", std::process::id()));
        match fs::rename(self.dir(name), &away) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => pass(Point::VolumeRetired).map(|()| away),
        }
    }

    /// Brings back what was retired, unless there is a volume of that name by now.
    pub fn restore(&self, name: &str, retired: &Path) -> io::Result<()> {
        let dir = self.dir(name);
        if dir.exists() { Ok(()) } else { fs::rename(retired, dir) }
    }

    /// What was retired and not purged: the volume's name and where its files are.
    pub fn retired(&self) -> Result<Vec<(String, PathBuf)>, StoreError> {
        let all = self.store.root().join("volumes");
        let failed = || StoreError::io("list", &all);
        let entries = match fs::read_dir(&all) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(failed())?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed())?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if let Some((volume, _)) = name.strip_prefix(".gone-").and_then(|rest| rest.rsplit_once('-')) {
                found.push((volume.to_owned(), entry.path()));
            }
        }
        Ok(found)
    }

    /// Removes what was retired.
    pub fn purge(&self, gone: &Path) -> Result<(), StoreError> {
        match fs::remove_dir_all(gone) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::io("remove", gone)(error))
            }
            _ => Ok(()),
        }
    }

    /// Bytes of a volume's files.
    pub fn size(&self, name: &str) -> u64 {
        fn sum(dir: &Path) -> u64 {
            let entries = fs::read_dir(dir).into_iter().flatten().flatten();
            entries
                .map(|entry| match entry.metadata() {
                    Ok(metadata) if metadata.is_dir() => sum(&entry.path()),
                    Ok(metadata) => metadata.len(),
                    Err(_) => 0,
                })
                .sum()
        }
        sum(&self.data(name))
    }
}

fn empty(dir: &Path) -> io::Result<bool> {
    Ok(fs::read_dir(dir)?.next().is_none())
}

fn clear(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_filled_once_and_anew_after_a_crash() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let source = dir.path().join("source");
        fs::create_dir_all(source.join("sub")).unwrap();
        fs::write(source.join("sub/file"), "x").unwrap();
        let open = || Dir::open_ambient_dir(&source, ambient_authority()).map(Some);
        let volumes = store.volumes();
        volumes.make("vv").unwrap();
        volumes.fill("vv", open).unwrap();
        assert_eq!(fs::read_to_string(volumes.data("vv").join("sub/file")).unwrap(), "x");
        assert_eq!(volumes.size("vv"), 1);
        fs::write(volumes.data("vv").join("sub/file"), "mine").unwrap();
        volumes.fill("vv", || panic!("it holds something")).unwrap();
        // As a crash in the middle leaves it.
        fs::write(volumes.dir("vv").join(FILLING), "").unwrap();
        volumes.fill("vv", open).unwrap();
        assert_eq!(fs::read_to_string(volumes.data("vv").join("sub/file")).unwrap(), "x");
        let gone = volumes.retire("vv").unwrap();
        assert!(!volumes.data("vv").exists() && gone.exists());
        volumes.purge(&gone).unwrap();
        volumes.purge(&gone).unwrap();
    }
}
