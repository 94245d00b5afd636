//! Control groups: below another parent, and apart from those of another store.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{detached, until};
use crate::support::host::Host;
use crate::support::{registry, require};

/// A parent of a test's own, gone with it.
struct Parent(String);

impl Parent {
    fn new(what: &str) -> Self {
        Self(format!("umiak-test-{what}-{}", std::process::id()))
    }

    /// The directories that it is, on either version.
    fn dirs(&self) -> Vec<PathBuf> {
        let top = Path::new("/sys/fs/cgroup");
        let hierarchies = fs::read_dir(top).expect("control groups").flatten().map(|entry| entry.path());
        let links = |path: &PathBuf| !path.is_symlink();
        let roots = hierarchies.filter(links).chain([top.to_owned()]);
        roots.map(|root| root.join(&self.0)).filter(|path| path.is_dir()).collect()
    }

    /// The groups of containers below a path in it.
    fn groups(&self, below: &str, id: &str) -> Vec<PathBuf> {
        let inside = |dir: PathBuf| fs::read_dir(dir.join(below)).into_iter().flatten().flatten();
        let all = self.dirs().into_iter().flat_map(inside).map(|entry| entry.path());
        all.filter(|path| path.file_name().expect("a name").to_string_lossy().starts_with(id)).collect()
    }
}

impl Drop for Parent {
    fn drop(&mut self) {
        for dir in self.dirs() {
            let _ = Command::new("find").arg(dir).args(["-depth", "-type", "d", "-delete"]).status();
        }
    }
}

#[test]
fn a_container_lives_below_the_parent_that_was_asked_for() {
    require!(root, registry);
    let parent = Parent::new("parent");
    let host = Host::new();
    let path = format!("/{}/a/b", parent.0);
    let flags = ["--name", "one", "--cgroup-parent", &path, "--memory", "64m", "--restart", "always"];
    let id = detached(&host, &flags, &["sleep", "1000"]);
    let groups = || parent.groups("a/b", &id);
    assert!(!groups().is_empty());
    let limits = |name: &str| {
        let read = groups().into_iter().find_map(|group| fs::read_to_string(group.join(name)).ok());
        read.map(|text| text.trim().to_owned())
    };
    let memory = || limits("memory.limit_in_bytes").or_else(|| limits("memory.max"));
    assert_eq!(memory().as_deref(), Some("67108864"));
    let shown = host.umiak(&["inspect", "-f", "{{.HostConfig.CgroupParent}}", "one"]).exits(0);
    assert_eq!(shown.text(), path);
    host.umiak(&["update", "--memory", "128m", "--memory-swap", "-1", "one"]).exits(0);
    assert_eq!(memory().as_deref(), Some("134217728"));
    assert_eq!(host.umiak(&["exec", "one", "echo", "here"]).exits(0).text(), "here");
    host.umiak(&["pause", "one"]).exits(0);
    host.umiak(&["unpause", "one"]).exits(0);
    host.umiak(&["restart", "-t", "0", "one"]).exits(0);
    assert!(!groups().is_empty());
    host.umiak(&["stop", "-t", "0", "one"]).exits(0);
    until("the group has gone", || groups().is_empty());
    host.umiak(&["start", "one"]).exits(0);
    // What a killed supervisor leaves is found there as well.
    let supervisor = Host::supervisor(&id).expect("a supervisor");
    Command::new("kill").args(["-KILL", &supervisor.to_string()]).status().expect("kill");
    until("it is dead", || Host::supervisor(&id).is_none());
    host.umiak(&["rm", "-f", "one"]).exits(0);
    assert_eq!(groups(), Vec::<PathBuf>::new());
}

#[test]
fn a_slice_is_nested_by_its_name() {
    require!(root, registry);
    // The name is as `a.slice`, and what is inside of it as `a-b.slice`.
    let name = format!("umiaktest{}", std::process::id());
    let parent = Parent(format!("{name}.slice"));
    let host = Host::new();
    let slice = format!("{name}-inner.slice");
    let id = detached(&host, &["--name", "one", "--cgroup-parent", &slice], &["sleep", "1000"]);
    assert!(!parent.groups(&slice, &id).is_empty());
    host.umiak(&["rm", "-f", "one"]).exits(0);
    assert_eq!(parent.groups(&slice, &id), Vec::<PathBuf>::new());
}

/// On v1 every hierarchy has a tree of its own, and a container sees its own groups in them, as with docker.
#[test]
fn a_container_sees_its_own_limits() {
    require!(root, registry);
    let host = Host::new();
    let image = registry::busybox();
    let script = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null; \
                  cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null; \
                  mkdir /sys/fs/cgroup/pids/x /sys/fs/cgroup/x 2>/dev/null || echo closed";
    for flags in [&[][..], &["--cgroupns", "host"], &["--init"], &["--userns", "auto"]] {
        // Of the whole tree of v2 the place of one's own group depends on the host.
        if flags.contains(&"host") && Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
            continue;
        }
        let mut args = vec!["run", "--rm", "-m", "64m", "--pids-limit", "50"];
        args.extend(flags);
        args.extend([image.as_str(), "sh", "-c", script]);
        assert_eq!(host.umiak(&args).exits(0).text(), "67108864\n50\nclosed", "{flags:?}");
    }
    if !Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        let links = "readlink /sys/fs/cgroup/cpu /sys/fs/cgroup/cpuacct; cat /sys/fs/cgroup/cpu/cpu.shares";
        let joint = Path::new("/sys/fs/cgroup/cpu,cpuacct").is_dir();
        let wanted = if joint { "cpu,cpuacct\ncpu,cpuacct\n512" } else { "512" };
        let out = host.umiak(&["run", "--rm", "--cpu-shares", "512", &image, "sh", "-c", links]).exits(0);
        assert_eq!(out.text(), wanted);
    }
    let write = "mkdir /sys/fs/cgroup/pids/inner 2>/dev/null || mkdir /sys/fs/cgroup/inner";
    host.umiak(&["run", "--rm", "--privileged", &image, "sh", "-c", write]).exits(0);
}

#[test]
fn parents_that_lead_elsewhere_make_nothing() {
    require!(root, registry);
    let host = Host::new();
    let image = registry::busybox();
    for (parent, words) in [
        ("../x", "a path may not hold `.` or `..`"),
        ("/a/../../b", "a path may not hold `.` or `..`"),
        ("a--b.slice", "not a valid slice"),
        ("-a.slice", "not a valid slice"),
    ] {
        host.umiak(&["run", "--cgroup-parent", parent, &image, "true"]).fails(125, &[words]);
    }
    assert_eq!(host.umiak(&["ps", "-aq"]).exits(0).stdout, "");
}

#[test]
fn a_copied_store_cannot_end_the_originals_containers() {
    require!(root, registry);
    let (host, copy) = (Host::new(), Host::new());
    let id = detached(&host, &["--name", "one"], &["sleep", "1000"]);
    // A copy of what is written to is no database; the supervisor closes it when it has told of the start.
    let files = format!("/proc/{}/fd", Host::supervisor(&id).expect("its supervisor"));
    let open = || {
        let files = fs::read_dir(&files).expect("it lives").flatten();
        let mut names = files.filter_map(|file| fs::read_link(file.path()).ok());
        names.any(|name| name.parent() == Some(&host.root()))
    };
    until("nobody has the database open", || !open());
    for part in ["root", "run"] {
        let from = host.dir().join(part);
        // What is about to be closed may go while it is copied.
        let copied =
            || Command::new("cp").arg("-a").arg(&from).arg(copy.dir()).status().expect("cp").success();
        until("it is copied", copied);
    }
    assert_eq!(copy.umiak(&["ps", "-aq", "--no-trunc"]).exits(0).text(), id);
    copy.umiak(&["rm", "-f", "one"]).exits(0);
    assert_eq!(copy.umiak(&["ps", "-aq"]).exits(0).stdout, "");
    assert_eq!(host.umiak(&["exec", "one", "echo", "alive"]).exits(0).text(), "alive");
    host.umiak(&["rm", "-f", "one"]).exits(0);
}
