//! Identity of files where the access list of the directory does what owner and mode do on Unix.

use std::fs::{DirBuilder, File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use cap_std::fs::{Dir, OpenOptions};

use super::{Identity, Refused};

pub(super) fn create_private(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).create(path)
}

pub(super) fn open_directory(path: &Path) -> io::Result<File> {
    Dir::open_ambient_dir(path, cap_std::ambient_authority()).map(Dir::into_std_file)
}

#[expect(clippy::unnecessary_wraps, reason = "the twin for Unix refuses")]
pub(super) fn check(_meta: &Metadata) -> Result<(), Refused> {
    Ok(())
}

pub(super) fn identity(meta: &Metadata) -> Identity {
    let time = |time: io::Result<SystemTime>| {
        let since = time.ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
        since.as_secs().wrapping_mul(1_000_000_000).wrapping_add(u64::from(since.subsec_nanos()))
    };
    [0, 0, meta.len(), time(meta.modified()), time(meta.created())]
}

pub(super) fn no_follow() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true);
    options
}

pub(super) fn is_link(_error: &io::Error) -> bool {
    false
}

pub(super) fn private(_options: &mut OpenOptions) {}

#[expect(clippy::unnecessary_wraps, reason = "the twin for Unix can fail")]
pub(super) fn sync_directory(_dir: &Dir) -> io::Result<()> {
    Ok(())
}

pub(super) fn map_path(_file: &File, path: &Path) -> PathBuf {
    path.to_owned()
}
