//! The ids of containers with a user namespace of their own (`--userns auto`, `userns-remap` in the configuration).
//!
//! Each gets 65,536 users and groups of the host that no other container of the store has. They come out of the ranges that
//! `/etc/subuid` and `/etc/subgid` give to `umiak`, else to `containers` (podman's name); where there are none, out of 1,900,000,000 to
//! 2,100,000,000, which no distribution gives to accounts (systemd's table of ids calls it unused).
//!
//! Invariant: a range is in the container's record from before the record is seen until it is removed, and whoever looks for a
//! free one holds a lock until the record is in. Not a table of its own: a crash could leave a range taken for ever.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;

use super::{Engine, EngineError};
use crate::model::{Container, HostIds, UserNamespace};

/// Ids of one container.
const COUNT: u32 = 65_536;

/// Where there is nothing in `/etc/subuid`: first id and number.
const DEFAULT: (u32, u32) = (1_900_000_000, 200_000_000);

impl Engine {
    /// Gives a new container its range, when it is to have one; the lock is to be held until the record is in the database.
    pub(super) fn assign_ids(&self, container: &mut Container) -> Result<Option<File>, EngineError> {
        let host = &mut container.host;
        host.ids = None;
        let asked = host.userns == UserNamespace::Auto;
        let wanted = match host.userns {
            UserNamespace::Host => false,
            UserNamespace::Auto => true,
            // An ordinary user's containers are in a namespace already.
            UserNamespace::Default => self.config.userns_remap && super::rootless::is_root(),
        };
        if !wanted || container.executor.name != crate::executor::linux::NAME {
            return Ok(None);
        }
        if asked && !super::rootless::is_root() {
            return Err(EngineError::UserNamespace {
                why: "`--userns auto` needs root; without root every container is in the \
                 user namespace of its user already",
            });
        }
        if host.privileged {
            return Err(EngineError::UserNamespace {
                why: "privileged mode is incompatible with user namespaces.  You must run the \
                 container in the host namespace when running privileged mode",
            });
        }
        let path = self.root.join("ids.lock");
        let failed = |source| EngineError::Path { path: path.clone(), source };
        let lock = File::create(&path).map_err(failed)?;
        lock.lock().map_err(failed)?;
        let others = self.database.containers()?;
        let taken: BTreeSet<u32> = others.iter().filter_map(|one| one.host.ids).map(|ids| ids.uid).collect();
        let text = |path: &str| std::fs::read_to_string(Path::new(path)).unwrap_or_default();
        let (uids, gids) = pools(&text("/etc/subuid"), &text("/etc/subgid"));
        host.ids = free(uids, gids, &taken);
        if host.ids.is_none() {
            return Err(EngineError::UserNamespace {
                why: "no range of 65536 ids is left: remove containers, or give `umiak` larger \
                 ranges in /etc/subuid and /etc/subgid",
            });
        }
        Ok(Some(lock))
    }
}

/// The ranges to take from, of users and of groups.
fn pools(users: &str, groups: &str) -> ((u32, u32), (u32, u32)) {
    let range = |text: &str, name: &str| {
        let line = |line: &str| {
            let (start, count) = line.trim().strip_prefix(name)?.strip_prefix(':')?.split_once(':')?;
            let (start, count): (u32, u32) = (start.parse().ok()?, count.parse().ok()?);
            start.checked_add(count).map(|_| (start, count))
        };
        text.lines().filter_map(line).max_by_key(|(_, count)| *count)
    };
    ["umiak", "containers"]
        .into_iter()
        .find_map(|name| Some((range(users, name)?, range(groups, name)?)))
        .unwrap_or((DEFAULT, DEFAULT))
}

/// The lowest free part; `taken` are the first user ids of the others.
fn free(uids: (u32, u32), gids: (u32, u32), taken: &BTreeSet<u32>) -> Option<HostIds> {
    let slots = uids.1.min(gids.1) / COUNT;
    let overlaps =
        |uid: u32| taken.range(uid.saturating_sub(COUNT - 1)..uid.saturating_add(COUNT)).next().is_some();
    (0..slots).map(|slot| slot * COUNT).find(|offset| !overlaps(uids.0 + offset)).map(|offset| HostIds {
        uid: uids.0 + offset,
        gid: gids.0 + offset,
        count: COUNT,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_come_from_the_files_or_from_where_nobody_is() {
        let users =
            "joe:1:5\numiakx:3:9\ncontainers:5000000:131072\numiak:7000000:65536\numiak:4294967295:9\n";
        assert_eq!(pools(users, "umiak:8000000:65536"), ((7_000_000, 65_536), (8_000_000, 65_536)));
        assert_eq!(pools(users, "containers:9:70000"), ((5_000_000, 131_072), (9, 70_000)));
        assert_eq!(pools(users, ""), (DEFAULT, DEFAULT));
    }

    #[test]
    fn the_lowest_free_part_is_taken() {
        let pool = (1_000_000, 3 * COUNT + 5);
        let taken = |list: &[u32]| list.iter().copied().collect::<BTreeSet<_>>();
        let uid = |list: &[u32]| free(pool, (50, 3 * COUNT), &taken(list)).map(|ids| (ids.uid, ids.gid));
        assert_eq!(uid(&[]), Some((1_000_000, 50)));
        assert_eq!(uid(&[1_000_000]), Some((1_065_536, 65_586)));
        assert_eq!(uid(&[1_065_536]), Some((1_000_000, 50)));
        // One of another pool that reaches into two parts.
        assert_eq!(uid(&[1_000_001]), Some((1_131_072, 131_122)));
        assert_eq!(uid(&[1_000_000, 1_065_536, 1_131_072]), None);
        assert_eq!(free((0, 65_535), (0, u32::MAX), &taken(&[])), None);
    }
}
