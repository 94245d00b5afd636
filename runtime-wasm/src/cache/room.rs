//! What compiled code takes of the disk, and making room.
//!
//! Any of it may go at any time: a process that has it mapped keeps the file, and one that does not find it compiles again. The stamp goes
//! first, so that nobody takes half of an entry for a whole one.

use std::path::Path;
use std::time::{Duration, SystemTime};

use cap_std::fs::File;

use super::{Cache, CacheError};

/// A use is noted when the last one that was noted is this long ago.
const NOTED: Duration = Duration::from_hours(1);

/// What a killed process left is removed after this.
const LEFT: Duration = Duration::from_hours(24);

/// Notes that code is used. It is no failure of the use when that cannot be noted.
pub(super) fn used(stamp: File) {
    let stamp = stamp.into_std();
    let last = stamp.metadata().and_then(|meta| meta.modified());
    let recent = last.is_ok_and(|last| last.elapsed().is_ok_and(|age| age < NOTED));
    if !recent && let Err(error) = stamp.set_modified(SystemTime::now()) {
        tracing::debug!(%error, "noting that compiled code is used");
    }
}

/// How much compiled code there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CodeUsage {
    /// Modules.
    pub entries: usize,
    /// Bytes of all files.
    pub bytes: u64,
}

/// The compiled code of a directory, for whoever looks after the disk.
#[derive(Debug)]
pub struct CompiledCode {
    cache: Cache,
}

struct Entry {
    key: String,
    bytes: u64,
    used: SystemTime,
}

/// An entry's files, in the order in which they go.
const ENDS: [&str; 2] = [".stamp", ".cwasm"];

impl CompiledCode {
    /// Opens a [cache directory](crate::Settings::cache_dir); `None` where there is none yet.
    pub fn open(dir: &Path) -> Result<Option<Self>, CacheError> {
        if dir.is_dir() { Ok(Some(Self { cache: Cache::open(dir)? })) } else { Ok(None) }
    }

    /// What it takes.
    pub fn usage(&self) -> Result<CodeUsage, CacheError> {
        let entries = self.entries()?;
        Ok(CodeUsage { entries: entries.len(), bytes: entries.iter().map(|entry| entry.bytes).sum() })
    }

    /// Removes what was used longest ago until the rest fits; tells how many bytes went.
    pub fn trim(&self, budget: u64) -> Result<u64, CacheError> {
        let mut entries = self.entries()?;
        entries.sort_by_key(|entry| entry.used);
        let mut taken: u64 = entries.iter().map(|entry| entry.bytes).sum();
        let mut freed = 0;
        for entry in entries {
            if taken <= budget {
                break;
            }
            self.remove(&entry)?;
            taken -= entry.bytes;
            freed += entry.bytes;
        }
        Ok(freed)
    }

    /// Removes everything whose [key](crate::Settings::cache_key) is not wanted; tells how many bytes went.
    pub fn retain(&self, wanted: impl Fn(&str) -> bool) -> Result<u64, CacheError> {
        let mut freed = 0;
        for entry in self.entries()?.into_iter().filter(|entry| !wanted(&entry.key)) {
            self.remove(&entry)?;
            freed += entry.bytes;
        }
        Ok(freed)
    }

    /// All that is whole. What a killed process left is swept.
    fn entries(&self) -> Result<Vec<Entry>, CacheError> {
        let dir = &self.cache.dir;
        let mut found = Vec::new();
        for item in dir.entries().map_err(self.cache.io("list", ""))? {
            let item = item.map_err(self.cache.io("list", ""))?;
            let Ok(name) = item.file_name().into_string() else { continue };
            // What is gone meanwhile takes nothing.
            let Ok(meta) = item.metadata() else { continue };
            let Ok(used) = meta.modified().map(cap_std::time::SystemTime::into_std) else { continue };
            if name.starts_with('.') {
                if used.elapsed().is_ok_and(|age| age > LEFT) {
                    self.unlink(&name)?;
                }
            } else if let Some(key) = name.strip_suffix(ENDS[0]) {
                let code = dir.symlink_metadata(format!("{key}{}", ENDS[1])).map_or(0, |meta| meta.len());
                found.push(Entry { key: key.to_owned(), bytes: meta.len() + code, used });
            }
        }
        Ok(found)
    }

    fn remove(&self, entry: &Entry) -> Result<(), CacheError> {
        ENDS.iter().try_for_each(|end| self.unlink(&format!("{}{end}", entry.key)))
    }

    fn unlink(&self, name: &str) -> Result<(), CacheError> {
        match self.cache.dir.remove_file(name) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(self.cache.io("remove", name)(error))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Found;
    use super::*;
    use crate::{Input, Origin, Runtime, Settings, Source};

    fn load(runtime: &Runtime, text: &str) -> Origin {
        let bytes = wat::parse_str(text).unwrap();
        let source = Source { input: Input::Bytes(&bytes), digest: None };
        runtime.load(&source, &mut |_| {}).unwrap().origin().clone()
    }

    fn key(text: &str) -> String {
        use sha2::Digest as _;
        Settings::default().cache_key(&sha2::Sha256::digest(wat::parse_str(text).unwrap()).into())
    }

    #[test]
    fn what_was_used_longest_ago_goes_first_and_is_built_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("code");
        assert!(CompiledCode::open(&path).unwrap().is_none());
        let runtime =
            Runtime::new(&Settings { cache_dir: Some(path.clone()), ..Settings::default() }).unwrap();
        let programs = ["(module)", "(module (func))", "(module (func) (func))"];
        for program in programs {
            assert_eq!(load(&runtime, program), Origin::Compiled);
        }
        let code = CompiledCode::open(&path).unwrap().unwrap();
        let all = code.usage().unwrap();
        assert_eq!(all.entries, 3);
        // The first two were used long ago, and the first was used again since.
        for (program, hours) in programs.iter().zip([50, 40, 30]) {
            let stamp = path.join(format!("{}.stamp", key(program)));
            let time = SystemTime::now() - Duration::from_hours(hours);
            std::fs::File::open(stamp).unwrap().set_modified(time).unwrap();
        }
        assert_eq!(load(&runtime, programs[0]), Origin::Cached);
        assert_eq!(code.trim(all.bytes).unwrap(), 0);
        let freed = code.trim(all.bytes - 1).unwrap();
        assert_eq!(code.usage().unwrap(), CodeUsage { entries: 2, bytes: all.bytes - freed });
        assert_eq!(load(&runtime, programs[0]), Origin::Cached);
        assert_eq!(load(&runtime, programs[2]), Origin::Cached);
        assert_eq!(load(&runtime, programs[1]), Origin::Compiled);
        let kept = key(programs[1]);
        assert!(code.retain(|key| key == kept).unwrap() > 0);
        assert_eq!(load(&runtime, programs[1]), Origin::Cached);
        assert_eq!(code.usage().unwrap().entries, 1);
        assert_eq!(load(&runtime, programs[2]), Origin::Compiled);
        code.trim(0).unwrap();
        assert_eq!(code.usage().unwrap(), CodeUsage::default());
        let cache = Cache::open(&path).unwrap();
        let engines = crate::pool::Engines::new(&Settings::default()).unwrap();
        assert!(matches!(cache.lookup(&engines, &kept).unwrap(), Found::Absent));
    }

    #[test]
    fn what_a_killed_process_left_is_swept_and_what_is_being_written_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("code");
        drop(Cache::open(&path).unwrap());
        for name in [".old", ".new"] {
            std::fs::write(path.join(name), "x").unwrap();
        }
        let old = std::fs::File::open(path.join(".old")).unwrap();
        old.set_modified(SystemTime::now() - Duration::from_hours(25)).unwrap();
        let code = CompiledCode::open(&path).unwrap().unwrap();
        assert_eq!(code.usage().unwrap(), CodeUsage::default());
        assert_eq!((path.join(".old").exists(), path.join(".new").exists()), (false, true));
    }
}
