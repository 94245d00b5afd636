//! Joining the cgroup of a container that runs.
//!
//! Invariant: a further process is in the cgroup before it is in a namespace of the container, so whatever happens to it there
//! is within the limits, and what kills the cgroup kills it.

use std::fs::File;

use super::{Cgroup, io_error, write};
use crate::failure::{Cause, InitFailure, Result, Step};

/// A cgroup to be joined.
#[derive(Debug)]
pub(crate) struct Entry {
    cgroup: Cgroup,
    /// v2: the directory for `CLONE_INTO_CGROUP`.
    pub(crate) unified: Option<File>,
}

fn fail(path: &str, error: super::CgroupError) -> InitFailure {
    match error {
        super::CgroupError::Io { path, source } => {
            let code = source.raw_os_error().unwrap_or(libc::EIO);
            InitFailure::new(Step::Cgroup, path.display().to_string(), Cause::Errno(code))
        }
        other => InitFailure::new(Step::Cgroup, path, Cause::Unsupported(other.to_string())),
    }
}

impl Entry {
    /// Finds the cgroup; it must be there.
    pub(crate) fn open(path: &str) -> Result<Self> {
        let cgroup = Cgroup::open(path).map_err(|error| fail(path, error))?;
        let unified = match &cgroup.hierarchies.v2 {
            Some(mount) if cgroup.hierarchies.unified() => {
                let dir = mount.join(&cgroup.path);
                Some(File::open(&dir).map_err(io_error(&dir)).map_err(|error| fail(path, error))?)
            }
            _ => None,
        };
        Ok(Self { cgroup, unified })
    }

    /// v1: moves this process, which has one thread, into every hierarchy that the container is in.
    pub(crate) fn enter(&self) -> Result<()> {
        if self.unified.is_some() {
            return Ok(());
        }
        let mut joined = false;
        for (_, mount) in &self.cgroup.hierarchies.v1 {
            let dir = mount.join(&self.cgroup.path);
            match write(&dir.join("tasks"), "0") {
                Ok(()) => joined = true,
                // The container has nothing in this one.
                Err(super::CgroupError::Io { source, .. })
                    if source.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(fail("", error)),
            }
        }
        let gone = || InitFailure::new(Step::Cgroup, "", Cause::Errno(libc::ENOENT));
        joined.then_some(()).ok_or_else(gone)
    }
}
