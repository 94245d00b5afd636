//! A file that appears whole or not at all: written beside its place, made durable, then renamed.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::cli::fault::Fault;

/// Writes a file with `write`. What is not a file (a pipe, `/dev/null`) is written to as it is.
pub(in crate::cli) fn file<T>(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<T, Fault>,
) -> Result<T, Fault> {
    let failed = |source| Fault::File { action: "cannot write", path: path.to_owned(), source };
    if fs::metadata(path).is_ok_and(|there| !there.is_file()) {
        let mut out =
            BufWriter::with_capacity(256 << 10, File::options().write(true).open(path).map_err(failed)?);
        let value = write(&mut out)?;
        out.flush().map_err(failed)?;
        return Ok(value);
    }
    let temporary = Temporary::new(path).map_err(failed)?;
    let mut out = BufWriter::with_capacity(256 << 10, &temporary.file);
    let value = write(&mut out)?;
    out.flush().map_err(failed)?;
    drop(out);
    temporary.keep(path).map_err(failed)?;
    Ok(value)
}

struct Temporary {
    path: PathBuf,
    file: File,
    kept: bool,
}

impl Temporary {
    fn new(beside: &Path) -> io::Result<Self> {
        let mut name = std::ffi::OsString::from(".");
        name.push(beside.file_name().ok_or(io::ErrorKind::InvalidInput)?);
        name.push(format!(".{}.tmp", std::process::id()));
        let path = beside.with_file_name(name);
        let mut options = File::options();
        options.write(true).create_new(true);
        // Images hold what only their owner may see.
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        Ok(Self { file: options.open(&path)?, path, kept: false })
    }

    fn keep(mut self, path: &Path) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.path, path)?;
        self.kept = true;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.kept {
            let _ = fs::remove_file(&self.path);
        }
    }
}
