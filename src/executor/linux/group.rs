//! Where a container's control group is.
//!
//! Invariant: the place follows from what outlives a crash: the container's id, the parent in its record, and the container's
//! own directory on this host. The last of them keeps the groups of two stores apart that hold the same container, as a copied
//! store does: whoever removes it in one cannot end it in the other.

use std::path::Path;

use runtime_linux::cgroups;

use crate::executor::ExecError;
use crate::model::{ContainerId, Digest, ErrorKind, GroupParent};

/// The engine's own parent group.
const OWN: &str = "umiak";

/// How many digits tell directories apart.
const DIGITS: usize = 8;

/// A parent that this user cannot have.
#[derive(Debug, thiserror::Error)]
#[error("cgroup parent `/{parent}` is outside of `/{base}`, which is what this user may divide")]
struct Outside {
    parent: String,
    base: String,
}

/// The path of a container's control group below the hierarchies: `parent` is its `--cgroup-parent`, `scratch` its own directory.
pub(in crate::executor) fn path(parent: &str, scratch: &Path, id: &ContainerId) -> Result<String, ExecError> {
    let parent = GroupParent::parse(parent)
        .map_err(|error| ExecError::failed(ErrorKind::InvalidInput, "choosing the control group", error))?;
    // By whatever name the store is reached.
    let place = scratch.canonicalize().unwrap_or_else(|_| scratch.to_owned());
    let place = Digest::of(place.as_os_str().as_encoded_bytes());
    let name = format!("{id}-{}", &place.hex()[..DIGITS]);
    below(&cgroups::base().unwrap_or_default(), &parent, &name)
}

fn below(base: &str, parent: &GroupParent, name: &str) -> Result<String, ExecError> {
    let parts = match parent {
        GroupParent::Own => [base, OWN, name],
        GroupParent::Relative(path) => [base, path, name],
        GroupParent::Absolute(path) => {
            if !Path::new(path).starts_with(base) {
                let error = Outside { parent: path.clone(), base: base.to_owned() };
                return Err(ExecError::failed(ErrorKind::Forbidden, "choosing the control group", error));
            }
            ["", path, name]
        }
    };
    Ok(parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_below_its_parent() {
        let of = |base: &str, text: &str| below(base, &GroupParent::parse(text).unwrap(), "n").ok();
        for (base, text, wanted) in [
            ("", "", Some("umiak/n")),
            ("u/s", "", Some("u/s/umiak/n")),
            ("", "/", Some("n")),
            ("", "/a/b", Some("a/b/n")),
            ("", "a/b", Some("a/b/n")),
            ("", "a-b.slice", Some("a.slice/a-b.slice/n")),
            ("u/s", "a.slice", Some("u/s/a.slice/n")),
            ("u/s", "/u/s/a", Some("u/s/a/n")),
            ("u/s", "/u/sa", None),
            ("u/s", "/", None),
        ] {
            assert_eq!(of(base, text).as_deref(), wanted, "{base} {text}");
        }
    }

    #[test]
    fn two_directories_have_two_groups_and_a_link_has_none_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let [one, two, link] = ["one", "two", "link"].map(|name| dir.path().join(name));
        std::fs::create_dir(&one).unwrap();
        std::os::unix::fs::symlink(&one, &link).unwrap();
        let of = |scratch: &Path| path("", scratch, &ContainerId::from_bytes([7; 32])).unwrap();
        assert!(of(&one) != of(&two));
        assert_eq!(of(&one), of(&link));
    }
}
