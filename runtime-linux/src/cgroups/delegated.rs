//! Where this process may make cgroups.
//!
//! The first user namespace's root may everywhere. Inside another one it takes delegation (cgroups(7)): on v2, the topmost
//! group on the way from the root to our own in which we may make groups, provided that our own is below it or it is ours: a
//! process may be born in another group only if we may write to what both have in common. Systemd delegates
//! `user@UID.service` to its user, so what was started there finds it. On v1 nothing is delegated safely.

use std::path::Path;

use super::Hierarchies;

/// The path below the hierarchy (empty: all of it) under which cgroups can be made; `None`: nowhere.
pub fn base() -> Option<String> {
    if !crate::userns::inside() && rustix::process::geteuid().is_root() {
        return Some(String::new());
    }
    let found = Hierarchies::detect().ok().filter(Hierarchies::unified)?;
    let own = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    topmost(&own, &found.v2?, |dir| {
        let writable = |path: &Path| rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok();
        writable(dir) && writable(&dir.join("cgroup.procs")) && writable(&dir.join("cgroup.subtree_control"))
    })
}

/// `own` is the text of `/proc/self/cgroup`.
fn topmost(own: &str, mount: &Path, writable: impl Fn(&Path) -> bool) -> Option<String> {
    let own = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    if own.starts_with("..") {
        return None; // outside of what the cgroup namespace shows
    }
    let mut best = None;
    for group in Path::new(own).ancestors() {
        if !writable(&mount.join(group)) {
            break;
        }
        best = Some(group.to_str()?.to_owned());
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_topmost_group_of_ours_is_found() {
        let of = |own: &str, ours: &[&str]| {
            topmost(own, Path::new("/cg"), |dir| ours.iter().any(|known| Path::new("/cg").join(known) == dir))
        };
        let service = "u.slice/user@7.service";
        let scope = "u.slice/user@7.service/app.slice/x.scope";
        let app = "u.slice/user@7.service/app.slice";
        let own = format!("1:name=systemd:/y\n0::/{scope}\n");
        assert_eq!(of(&own, &[scope, app, service]).as_deref(), Some(service));
        assert_eq!(of(&own, &[scope]).as_deref(), Some(scope));
        assert_eq!(of(&own, &[service]), None, "not from where we are");
        assert_eq!(of(&own, &[]), None);
        assert_eq!(of("0::/\n", &[""]).as_deref(), Some(""));
        assert_eq!(of("0::/../x\n", &["../x"]), None);
        assert_eq!(of("3:cpu:/x\n", &["x", ""]), None);
    }
}
