//! What init does in another way inside a user namespace, where root may do less than root.
//!
//! | the usual | inside | why |
//! |---|---|---|
//! | procfs and sysfs are mounted after `pivot_root` | before | the kernel looks for a mount of them that is seen whole, and with the host's tree it is gone |
//! | a new sysfs | the host's, read-only, with `--network host` | sysfs belongs to the network namespace's owner |
//! | device nodes are made | the host's are bound | `mknod` needs the first user namespace |
//! | `gid=5` for terminals, supplementary groups | as far as the ids exist | ids that are not mapped cannot be used |
//!
//! Invariant: what is opened here is the host's by path, before the image's tree is anywhere; it is attached afterwards.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

use crate::failure::{At, Cause, InitFailure, Result, Step};
use crate::mounts;
use crate::plan::{Device, Namespace, Network, Plan};
use crate::userns::IdMappings;
use crate::users::Identity;

/// The devices of every container: name, major, minor.
pub(crate) const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// What is made or opened while the host's tree is still there.
#[derive(Debug)]
pub(crate) struct Outer {
    pub(crate) proc: OwnedFd,
    pub(crate) sys: OwnedFd,
    /// The host's [`DEVICES`]; empty where they can be made.
    pub(crate) devices: Vec<OwnedFd>,
    /// The host's devices of the plan, likewise.
    pub(crate) nodes: Vec<OwnedFd>,
}

impl Outer {
    pub(crate) fn open(plan: &Plan, proc: MountAttrFlags, sys: MountAttrFlags) -> Result<Self> {
        let inside = plan.inside.is_some();
        let (devices, nodes) = if inside {
            let standard = DEVICES.iter().map(|&(name, major, minor)| {
                device(&Path::new("/dev").join(name), name, false, (major, minor))
            });
            (standard.collect::<Result<_>>()?, plan.devices.iter().map(wanted).collect::<Result<_>>()?)
        } else {
            (Vec::new(), Vec::new())
        };
        Ok(Self {
            proc: instance("proc", proc, inside && plan.namespaces.pid == Namespace::Inherit)?,
            sys: instance("sysfs", sys, inside && plan.network == Network::Host)?,
            devices,
            nodes,
        })
    }
}

/// A new instance of a file system, or the host's where that is what it would show and a new one is refused.
fn instance(kind: &str, attributes: MountAttrFlags, shared: bool) -> Result<OwnedFd> {
    let place = if kind == "proc" { "/proc" } else { "/sys" };
    match mounts::filesystem(kind, &[], attributes) {
        Err(Errno::PERM) if shared => {
            let copy = mounts::source(Path::new(place), true).at(Step::Mount, place)?;
            crate::sys::mount_setattr(&copy, attributes.bits().into(), 0, true).at(Step::Mount, place)?;
            Ok(copy)
        }
        other => other.at(Step::Mount, place),
    }
}

/// The host's device at a path, which must be that device.
fn device(path: &Path, subject: &str, block: bool, (major, minor): (u32, u32)) -> Result<OwnedFd> {
    let source = mounts::source(path, false).at(Step::Device, subject)?;
    let stat = rustix::fs::statat(&source, "", AtFlags::EMPTY_PATH).at(Step::Device, subject)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    let right = if block { kind.is_block_device() } else { kind.is_char_device() };
    if right && stat.st_rdev == rustix::fs::makedev(major, minor) {
        return Ok(source);
    }
    let why = format!("`{}` of the host is another device", path.display());
    Err(InitFailure::new(Step::Device, subject, Cause::Refused(why)))
}

/// The host's file for a device that is known by its numbers.
fn wanted(wanted: &Device) -> Result<OwnedFd> {
    let kind = if wanted.block { "block" } else { "char" };
    let event = format!("/sys/dev/{kind}/{}:{}/uevent", wanted.major, wanted.minor);
    let event = std::fs::read_to_string(event).unwrap_or_default();
    let Some(name) = event.lines().find_map(|line| line.strip_prefix("DEVNAME=")) else {
        let why = "inside a user namespace a device can only be shared, and the host has no file of this one";
        return Err(InitFailure::new(Step::Device, &wanted.path, Cause::Unsupported(why.to_owned())));
    };
    device(&PathBuf::from("/dev").join(name), &wanted.path, wanted.block, (wanted.major, wanted.minor))
}

/// Leaves out groups that do not exist in the namespace, and refuses a user that does not. Groups by name of the image's
/// own files are left out, since they only ever give less; those of the plan were asked for.
pub(crate) fn admit(
    ids: &IdMappings,
    identity: &mut Identity,
    user: &str,
    additional: &[String],
) -> Result<()> {
    let refuse = |id: u32| {
        let why = if ids.single() {
            "in this user namespace there is no user but root: install the package `uidmap`, and give the user who runs \
             this ranges in /etc/subuid and /etc/subgid"
                .to_owned()
        } else {
            format!(
                "id {id} is beyond the ranges that /etc/subuid and /etc/subgid give the user who runs this"
            )
        };
        InitFailure::new(Step::User, user, Cause::Unsupported(why))
    };
    if !ids.has_uid(identity.uid) {
        return Err(refuse(identity.uid));
    }
    if !ids.has_gid(identity.gid) {
        return Err(refuse(identity.gid));
    }
    let all = identity.groups.len();
    identity.groups.retain(|&gid| ids.has_gid(gid));
    if identity.groups.len() < all && !additional.is_empty() {
        let mut failure = refuse(u32::MAX);
        failure.subject = additional.join(",");
        return Err(failure);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::userns::IdRange;

    #[test]
    fn who_does_not_exist_is_refused_and_groups_are_left_out() {
        let range = |count| vec![IdRange { inside: 0, outside: 1000, count }];
        let single = IdMappings { uids: range(1), gids: range(1) };
        let wide = IdMappings { uids: range(1000), gids: range(1000) };
        let who = |uid, gid, groups: &[u32]| Identity { uid, gid, groups: groups.to_vec(), home: None };
        let mut root = who(0, 0, &[0, 10]);
        admit(&single, &mut root, "", &[]).unwrap();
        assert_eq!(root.groups, [0]);
        let failure = admit(&single, &mut who(33, 33, &[33]), "33", &[]).unwrap_err();
        assert!(failure.to_string().contains("`uidmap`"), "{failure}");
        assert!(admit(&wide, &mut who(33, 999, &[33]), "33", &[]).is_ok());
        let failure = admit(&wide, &mut who(33, 1000, &[33]), "33", &[]).unwrap_err();
        assert!(failure.to_string().contains("id 1000 is beyond"), "{failure}");
        let failure = admit(&single, &mut who(0, 0, &[0, 6]), "", &["disk".into()]).unwrap_err();
        assert_eq!(failure.subject, "disk");
    }
}
