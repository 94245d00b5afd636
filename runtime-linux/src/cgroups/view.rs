//! What a container sees of its own limits on v1: below `/sys/fs/cgroup` a directory for every hierarchy that it has a group
//! in, which is that group, and a link for each controller of several in one. As docker shows it.
//!
//! Invariant: the groups are opened while the host's tree is there, each by the path that was just made, and attached by their
//! descriptors; nothing above them is seen.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::mount::MountAttrFlags;

use super::Cgroup;
use crate::failure::{At, Result, Step};
use crate::mounts;

const PLACE: &str = "/sys/fs/cgroup";
const STRICT: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID
    .union(MountAttrFlags::MOUNT_ATTR_NODEV)
    .union(MountAttrFlags::MOUNT_ATTR_NOEXEC);

/// One hierarchy's part.
#[derive(Debug)]
struct Part {
    /// As the host calls the hierarchy's directory.
    name: String,
    controllers: Vec<String>,
    group: OwnedFd,
}

/// The groups of one container, detached.
#[derive(Debug)]
pub(crate) struct View {
    parts: Vec<Part>,
    attributes: MountAttrFlags,
}

impl View {
    /// Opens the groups that there are.
    pub(super) fn open(cgroup: &Cgroup, writable: bool) -> Result<Self> {
        let attributes = if writable { STRICT } else { STRICT | MountAttrFlags::MOUNT_ATTR_RDONLY };
        let mut parts = Vec::new();
        for (controllers, mount) in &cgroup.hierarchies.v1 {
            let (dir, name) = (mount.join(&cgroup.path), mount.file_name().unwrap_or_default());
            if !dir.is_dir() {
                continue;
            }
            let subject = dir.display().to_string();
            let group = mounts::source(&dir, false).at(Step::Cgroup, &subject)?;
            crate::sys::mount_setattr(&group, attributes.bits().into(), 0, false)
                .at(Step::Cgroup, &subject)?;
            let name = name.to_string_lossy().into_owned();
            parts.push(Part { name, controllers: controllers.clone(), group });
        }
        Ok(Self { parts, attributes })
    }

    /// Attaches them in the container's `/sys/fs/cgroup`.
    pub(crate) fn show(&self, place: &OwnedFd) -> Result<()> {
        let options = [("mode", Some("755")), ("source", Some("cgroup"))];
        let top = mounts::filesystem("tmpfs", &options, STRICT).at(Step::Mount, PLACE)?;
        mounts::attach(&top, place).at(Step::Mount, PLACE)?;
        for part in &self.parts {
            let subject = Path::new(PLACE).join(&part.name).display().to_string();
            rustix::fs::mkdirat(&top, part.name.as_str(), Mode::from_raw_mode(0o755))
                .at(Step::Mount, &subject)?;
            let dir =
                rustix::fs::openat(&top, part.name.as_str(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
            mounts::attach(&part.group, dir.at(Step::Mount, &subject)?).at(Step::Mount, &subject)?;
            for controller in part.controllers.iter().filter(|name| **name != part.name) {
                rustix::fs::symlinkat(part.name.as_str(), &top, controller.as_str())
                    .at(Step::Mount, &subject)?;
            }
        }
        crate::sys::mount_setattr(&top, self.attributes.bits().into(), 0, false).at(Step::Mount, PLACE)
    }
}
