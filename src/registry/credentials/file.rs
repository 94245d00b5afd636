//! Reading and replacing a file of credentials.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::Serialize as _;
use serde_json::{Map, Value};

use super::CredentialError;

/// More than any such file has.
const LONGEST: u64 = 4 << 20;

/// The file's object; `None` if there is no file. An empty file is an empty object, as docker takes it.
pub(super) fn read(path: &Path) -> Result<Option<Map<String, Value>>, CredentialError> {
    let malformed = |what| CredentialError::Malformed { path: path.to_owned(), what };
    let bytes = match fs::metadata(path) {
        Ok(metadata) if metadata.len() > LONGEST => return Err(malformed("it is larger than 4 MiB")),
        _ => fs::read(path),
    };
    let bytes = match bytes {
        Ok(bytes) => bytes,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(source) => return Err(CredentialError::File { action: "read", path: path.to_owned(), source }),
    };
    if bytes.trim_ascii().is_empty() {
        return Ok(Some(Map::new()));
    }
    serde_json::from_slice(&bytes).map(Some).map_err(|_| malformed("it is no JSON object"))
}

/// A change of the file; other changes wait until this one is dropped.
#[derive(Debug)]
pub(super) struct Edit {
    /// Behind symbolic links, which stay.
    path: PathBuf,
    /// A lock on the folder: a lock file would be litter in a folder that is not ours. Not on Windows, where folders have none.
    _lock: Option<File>,
}

impl Edit {
    pub(super) fn begin(path: &Path) -> Result<Self, CredentialError> {
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let failed = |source| CredentialError::File { action: "write", path: path.clone(), source };
        let folder = path.parent().unwrap_or(Path::new("."));
        private_folder(folder).map_err(failed)?;
        let lock = if cfg!(unix) { Some(File::open(folder).map_err(failed)?) } else { None };
        if let Some(lock) = &lock {
            lock.lock().map_err(failed)?;
        }
        Ok(Self { path, _lock: lock })
    }

    /// What the file has now.
    pub(super) fn root(&self) -> Result<Map<String, Value>, CredentialError> {
        Ok(read(&self.path)?.unwrap_or_default())
    }

    /// Replaces the file.
    pub(super) fn finish(self, root: Map<String, Value>) -> Result<(), CredentialError> {
        let failed = |source| CredentialError::File { action: "write", path: self.path.clone(), source };
        let mut text = Vec::new();
        let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        let mut writer = serde_json::Serializer::with_formatter(&mut text, formatter);
        Value::Object(root).serialize(&mut writer).map_err(|error| failed(error.into()))?;
        let name = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let temporary = self.path.with_file_name(format!(".{name}.{}", std::process::id()));
        let written = private_file(&temporary)
            .and_then(|mut file| file.write_all(&text).and_then(|()| file.sync_all()))
            .and_then(|()| fs::rename(&temporary, &self.path));
        written.map_err(|error| {
            let _ = fs::remove_file(&temporary);
            failed(error)
        })
    }
}

fn private_folder(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// A new file that is its owner's alone from the beginning.
fn private_file(path: &Path) -> io::Result<File> {
    let _ = fs::remove_file(path);
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}
