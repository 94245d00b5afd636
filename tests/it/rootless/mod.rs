//! The engine as an ordinary user runs it: once by a user who has subordinate ids, once by one who has none.

mod networks;
mod outside;
mod pasta;

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::support::host::{Host, Output};
use crate::support::rogue::Rogue;
use crate::support::tar::{Entry, archive, device, dir, file, symlink};
use crate::support::{ordinary, program, registry, require};

/// A user who is not root, with a host of their own.
struct User {
    host: Host,
    name: &'static str,
}

impl User {
    fn new(name: &'static str) -> Self {
        let host = Host::new();
        ordinary::own(host.dir(), name);
        Self { host, name }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = ordinary::command(self.name, args);
        let like = self.host.command(args);
        command.env_clear().envs(like.get_envs().filter_map(|(key, value)| Some((key, value?))));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command.current_dir(self.host.dir());
        command
    }

    fn umiak(&self, args: &[&str]) -> Output {
        self.host.finish(self.command(args).spawn().expect("setpriv starts"), args)
    }

    /// The same where `pasta` is not installed.
    fn without_pasta(&self, args: &[&str]) -> Output {
        self.host.finish(self.start_without_pasta(args), args)
    }

    fn start_without_pasta(&self, args: &[&str]) -> std::process::Child {
        let like = self.command(args);
        let mut command = Command::new("setpriv");
        command.args(["--reuid", self.name, "--regid", self.name, "--clear-groups"]);
        command.args(["env", "PATH=/nowhere", env!("CARGO_BIN_EXE_umiak")]).args(args);
        command.env_clear().envs(like.get_envs().filter_map(|(key, value)| Some((key, value?))));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command.spawn().expect("setpriv starts")
    }

    /// What a script prints in busybox.
    #[track_caller]
    fn inside(&self, flags: &[&str], script: &str) -> String {
        let image = registry::busybox();
        let mut args = vec!["run", "--rm"];
        args.extend(flags);
        args.extend([image.as_str(), "sh", "-c", script]);
        self.umiak(&args).exits(0).stdout
    }

    #[track_caller]
    fn nothing_is_left(&self) {
        assert!(self.host.list("containers").is_empty(), "{:?}", self.host.list("containers"));
        let run = std::fs::read_dir(self.host.dir().join("run")).into_iter().flatten().count();
        assert_eq!(run, 0, "run directories are left");
    }
}

/// An owner by PAX records.
fn owned<'a>(entry: Entry<'a>, pax: &'a [(&'a str, &'a str)]) -> Entry<'a> {
    Entry { pax, ..entry }
}

/// The life of a container, whatever the mapping.
fn life(user: &User) {
    let image = registry::busybox();
    user.umiak(&["pull", &image]).exits(0);
    let id = user.inside(&[], "id -u; cat /proc/self/status");
    assert!(
        id.starts_with("0\n") && id.contains("CapEff:\t00000000a80425fb") && id.contains("Seccomp:\t2"),
        "{id}"
    );
    for (command, status) in [("exit 7", 7), ("sh -c 'kill -TERM $$'; exit $?", 143), ("nosuch", 127)] {
        user.umiak(&["run", "--rm", &image, "sh", "-c", command]).exits(status);
    }
    user.umiak(&["run", "--rm", &image, "nosuch"]).fails(127, &["executable file not found"]);
    let script = "echo x > /dev/null; head -c 3 /dev/zero | wc -c; ls /sys/class/net; ls /dev/pts | wc -l; \
                  mount -t tmpfs none /tmp 2>/dev/null || echo refused; test $(ls -d /proc/[0-9]* | wc -l) -lt 6 && echo few";
    assert_eq!(user.inside(&["--network", "none"], script), "3\nlo\n1\nrefused\nfew\n");
    assert_eq!(user.inside(&["-t"], "tty; stty size").replace('\r', ""), "/dev/pts/0\n24 80\n");
    // The host's network comes with the host's view of devices, and neither can be written.
    let host =
        user.inside(&["--network", "host"], "ls /sys/class/net; touch /sys/x 2>/dev/null || echo refused");
    for entry in std::fs::read_dir("/sys/class/net").expect("sysfs").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        assert!(host.lines().any(|line| line == name), "no {name} in {host}");
    }
    assert!(host.ends_with("refused\n"), "{host}");

    let script = "echo out; echo err >&2; trap 'exit 3' TERM; while :; do sleep 0.02; done";
    let id =
        user.umiak(&["run", "-d", "--name", "one", &image, "sh", "-c", script]).exits(0).text().to_owned();
    crate::cli::until("output", || user.umiak(&["logs", "one"]).stdout == "out\n");
    assert_eq!(user.umiak(&["ps", "-q", "--no-trunc"]).exits(0).text(), id);
    user.umiak(&["rm", "one"]).fails(1, &["running"]);
    user.umiak(&["kill", "-s", "TERM", "one"]).exits(0);
    assert_eq!(user.umiak(&["wait", "one"]).exits(0).text(), "3");
    user.umiak(&["rm", "one"]).exits(0);
    // One that runs is killed by -f, by another command's namespace.
    user.umiak(&["run", "-d", "--name", "two", &image, "sleep", "1000"]).exits(0);
    user.umiak(&["rm", "-f", "two"]).exits(0);
    // A further process, and what needs a control group, of which an ordinary user has none here.
    user.umiak(&["run", "-d", "--name", "three", &image, "sleep", "1000"]).exits(0);
    assert_eq!(
        user.umiak(&["exec", "three", "sh", "-c", "id -u; tr '\\0' ' ' < /proc/1/cmdline"]).exits(0).stdout,
        "0\nsleep 1000 "
    );
    user.umiak(&["exec", "three", "sh", "-c", "exit 9"]).exits(9);
    if user.umiak(&["info"]).exits(0).stdout.contains("Control Groups: none") {
        user.umiak(&["pause", "three"]).fails(1, &["without a delegated control group"]);
    }
    user.umiak(&["restart", "-t", "0", "three"]).exits(0);
    user.umiak(&["stop", "-t", "0", "three"]).exits(0);
    assert_eq!(user.umiak(&["wait", "three"]).exits(0).text(), "137");
    user.umiak(&["rm", "three"]).exits(0);
    // The supervisor's death is the container's.
    let id = user.umiak(&["run", "-d", &image, "sleep", "1000"]).exits(0).text().to_owned();
    let pid = Host::supervisor(&id).expect("a supervisor");
    assert!(
        Command::new("kill").args(["-KILL", &pid.to_string()]).status().is_ok_and(|status| status.success())
    );
    crate::cli::until("the end", || user.umiak(&["ps", "-q"]).stdout.is_empty());
    user.umiak(&["rm", &id]).exits(0);
    // The sandbox needs no right at all.
    let said = user.umiak(&["run", "--rm", "--platform", "wasi/wasm", "hello"]).exits(0).stdout;
    assert!(said.contains("WebAssembly sandbox"), "{said}");
    user.nothing_is_left();
    user.umiak(&["rmi", &image]).exits(0);
}

#[test]
fn a_container_lives_with_subordinate_ids() {
    require!(subids, registry);
    life(&User::new(ordinary::WITH_RANGES));
}

#[test]
fn a_container_lives_with_a_single_id() {
    require!(rootless, registry);
    life(&User::new(ordinary::ALONE));
}

#[test]
fn users_of_the_container_are_ids_of_the_range() {
    require!(subids, registry);
    let user = User::new(ordinary::WITH_RANGES);
    let image = registry::busybox();
    assert_eq!(user.inside(&["--user", "alice"], "id -u; id -G"), "1000\n1000 50\n");
    assert_eq!(user.inside(&["--user", "33:44"], "id -u; id -g"), "33\n44\n");
    user.umiak(&["run", "-d", "--name", "more", &image, "sleep", "1000"]).exits(0);
    assert_eq!(user.umiak(&["exec", "-u", "alice", "more", "id", "-u"]).exits(0).text(), "1000");
    let refused = user.umiak(&["exec", "-u", "100000", "more", "id"]);
    assert!(
        refused.status != 0 && refused.stderr.contains("id 100000 is beyond the ranges"),
        "{}",
        refused.stderr
    );
    // Another container's command joins the namespace of the one that runs.
    let space = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/user")).expect("it runs");
    user.umiak(&["run", "-d", "--name", "next", &image, "sleep", "1000"]).exits(0);
    let pid = |name: &str| user.umiak(&["inspect", "-f", "{{.State.Pid}}", name]).exits(0).text().to_owned();
    assert_eq!(space(&pid("more")), space(&pid("next")));
    assert_ne!(space(&pid("more")), space("self"));
    user.umiak(&["rm", "-f", "more", "next"]).exits(0);
    user.umiak(&["run", "--rm", "--user", "100000", &image, "true"])
        .fails(125, &["id 100000 is beyond the ranges"]);
    let info = user.umiak(&["info"]).exits(0).stdout;
    assert!(info.contains("Rootless: true\nId Mapping: subordinate ids\n"), "{info}");
    // What other users of the container made, in directories closed to everyone else, goes as well.
    let script = "mkdir /d && echo x > /d/f && chown -R 33:44 /d && chmod 0 /d/f /d";
    user.umiak(&["run", "--name", "made", &image, "sh", "-c", script]).exits(0);
    user.umiak(&["rm", "made"]).exits(0);
    user.nothing_is_left();
}

#[test]
fn with_a_single_id_there_is_only_root() {
    require!(rootless, registry);
    let user = User::new(ordinary::ALONE);
    let image = registry::busybox();
    user.umiak(&["pull", &image]).exits(0);
    for who in ["alice", "33", "0:44"] {
        user.umiak(&["run", "--rm", "--user", who, &image, "true"])
            .fails(125, &["package `uidmap`", "/etc/subuid"]);
    }
    let name = image.replace("library/busybox", "config:user");
    user.umiak(&["run", "--rm", &name, "true"]).fails(125, &["package `uidmap`"]);
    assert_eq!(
        user.inside(&["--user", "0:0"], "id -u; chown 33 /tmp 2>/dev/null || echo refused"),
        "0\nrefused\n"
    );
    let info = user.umiak(&["info"]).exits(0).stdout;
    assert!(info.contains("Rootless: true\nId Mapping: single id\n"), "{info}");
    user.nothing_is_left();
}

#[test]
fn limits_are_refused_where_none_can_be_set() {
    require!(rootless, registry);
    let user = User::new(ordinary::ALONE);
    if !user.umiak(&["info"]).exits(0).stdout.contains("Control Groups: none") {
        return; // this host delegates one
    }
    let image = registry::busybox();
    for (flag, value) in [("--memory", "64m"), ("--cpus", "0.5"), ("--pids-limit", "50")] {
        let out = user.umiak(&["run", "--rm", "-q", flag, value, &image, "true"]);
        out.fails(125, &["limits cannot be set without a delegated control group", flag]);
    }
    user.umiak(&["run", "-d", "--name", "one", &image, "sleep", "1000"]).exits(0);
    let out = user.umiak(&["update", "--memory", "64m", "one"]);
    out.fails(1, &["limits cannot be set without a delegated control group: --memory"]);
    let top = user.umiak(&["top", "one"]).exits(0).stdout;
    assert!(top.contains("sleep 1000"), "{top}");
    user.umiak(&["rm", "-f", "one"]).exits(0);
    user.umiak(&["create", "--userns", "auto", &image]).fails(1, &["needs root"]);
    user.nothing_is_left();
}

#[test]
fn containers_of_one_user_share_namespaces() {
    require!(rootless, registry);
    let user = User::new(ordinary::ALONE);
    let image = registry::busybox();
    user.umiak(&["run", "-d", "--name", "one", &image, "sleep", "1000"]).exits(0);
    let seen = user
        .inside(&["--pid", "container:one", "--network", "container:one"], "tr '\\0' ' ' < /proc/1/cmdline");
    assert_eq!(seen, "sleep 1000 ");
    user.umiak(&["rm", "-f", "one"]).exits(0);
    let own = std::process::id().to_string();
    let seen = user.inside(&["--pid", "host"], &format!("cat /proc/{own}/comm >/dev/null && echo seen"));
    assert_eq!(seen, "seen\n");
}

#[test]
fn every_remapped_container_has_ids_of_its_own() {
    require!(root, registry);
    let host = Host::new();
    let image = registry::busybox();
    let first = |name: &str| {
        let script = "head -1 /proc/self/uid_map; stat -c %u:%g /bin/busybox; touch /made; sleep 1000";
        host.umiak(&["run", "-d", "--userns", "auto", "--name", name, &image, "sh", "-c", script]).exits(0);
        crate::cli::until("output", || host.umiak(&["logs", name]).stdout.lines().count() == 2);
        let said = host.umiak(&["logs", name]).exits(0).stdout;
        let words: Vec<_> = said.split_whitespace().map(str::to_owned).collect();
        assert_eq!(
            (words[0].as_str(), words[2].as_str(), words[3].as_str()),
            ("0", "65536", "0:0"),
            "{said}"
        );
        words[1].parse::<u32>().expect("a number")
    };
    let (one, two) = (first("one"), first("two"));
    assert!(one > 0 && two == one + 65_536, "{one} {two}");
    assert_eq!(host.umiak(&["exec", "-u", "alice", "one", "id", "-u"]).exits(0).text(), "1000");
    // A removed container's ids are free again.
    host.umiak(&["rm", "-f", "one"]).exits(0);
    assert_eq!(first("three"), one);
    let image_ids = "stat -c %u:%g /bin/busybox; cat /proc/self/uid_map";
    let out = host.umiak(&["run", "--rm", "--userns", "host", &image, "sh", "-c", image_ids]).exits(0).stdout;
    assert!(out.contains("4294967295"), "{out}");
    host.umiak(&["run", "--rm", "--userns", "auto", "--privileged", &image, "true"])
        .fails(125, &["privileged mode is incompatible with user namespaces"]);
    host.umiak(&["run", "--rm", "--userns", "auto", "--network", "host", &image, "true"])
        .fails(125, &["cannot share the host's network namespace"]);
    host.umiak(&["rm", "-f", "two", "three"]).exits(0);
    // The same for every container, by the configuration.
    let config = host.dir().join("config.toml");
    std::fs::write(&config, "default-network = \"none\"\nuserns-remap = true\n").expect("written");
    let file = config.to_string_lossy();
    let out =
        host.umiak(&["--config", &file, "run", "--rm", &image, "cat", "/proc/self/uid_map"]).exits(0).stdout;
    assert!(out.contains(&one.to_string()), "{out}");
    assert!(host.list("containers").is_empty(), "{:?}", host.list("containers"));
}

/// Two layers: owners, modes, a device, and what the second takes away.
fn layered(rogue: &Rogue) -> String {
    let shell = program();
    let (other, mode) = ([("uid", "33"), ("gid", "44")], 0o640);
    let lower = archive(&[
        file("bin/busybox", 0o755, &shell),
        symlink("bin/sh", "busybox"),
        owned(file("owned", mode, b"x"), &other),
        owned(symlink("link", "owned"), &other),
        owned(dir("d"), &other),
        file("d/old", 0o644, b"x"),
        dir("e"),
        file("e/old", 0o644, b"x"),
        device("disk", b'4', 8, 0),
        file("evil", 0o644, b"x"),
    ]);
    let upper = archive(&[
        file("d/.wh.old", 0o644, b""),
        file("e/.wh..wh..opq", 0o644, b""),
        file("e/new", 0o644, b"x"),
        // An image cannot say how overlays look up, nor forge a remembered owner.
        Entry {
            pax: &[("SCHILY.xattr.user.overlay.opaque", "y"), ("SCHILY.xattr.user.umiak.owner", "7:7")],
            ..file("evil", 0o644, b"y")
        },
    ]);
    rogue.image("layered", &[lower, upper], &json!({ "Env": ["PATH=/bin"] }));
    format!("{}/layered", rogue.address())
}

const LOOK: &str =
    "busybox stat -c '%u:%g %a' /owned; busybox stat -c '%u:%g' /link; busybox ls /d /e; busybox ls /disk";

#[test]
fn owners_and_deletions_of_layers_are_the_images() {
    require!(subids);
    let rogue = Rogue::new();
    let image = layered(&rogue);
    let user = User::new(ordinary::WITH_RANGES);
    let out = user.umiak(&["run", "--rm", &image, "sh", "-c", LOOK]).exits(1);
    assert_eq!(out.stdout, "33:44 640\n33:44\n/d:\n\n/e:\nnew\n", "{}", out.stderr);
    assert!(out.stderr.contains("/disk"), "a device of the image was made: {}", out.stderr);
    user.umiak(&["rmi", &image]).exits(0);
    assert!(user.host.layers().is_empty(), "{:?}", user.host.layers());
}

#[test]
fn with_a_single_id_owners_are_remembered() {
    require!(rootless);
    let rogue = Rogue::new();
    let image = layered(&rogue);
    let user = User::new(ordinary::ALONE);
    let out = user.umiak(&["run", "--rm", &image, "sh", "-c", LOOK]).exits(1);
    assert_eq!(out.stdout, "0:0 640\n0:0\n/d:\n\n/e:\nnew\n", "{}", out.stderr);
    let attribute = |name: &str| {
        let mut value = [0; 32];
        let layers = user.host.layers();
        let mut files = layers.iter().map(|layer| user.host.root().join("layers").join(layer).join(name));
        let length =
            files.find_map(|file| rustix::fs::getxattr(file, "user.umiak.owner", &mut value).ok())?;
        Some(String::from_utf8_lossy(&value[..length]).into_owned())
    };
    assert_eq!(attribute("owned").as_deref(), Some("33:44"));
    assert_eq!(attribute("d").as_deref(), Some("33:44"));
    assert_eq!(attribute("evil"), None);
    user.umiak(&["rmi", &image]).exits(0);
    assert!(user.host.layers().is_empty(), "{:?}", user.host.layers());
}

#[test]
fn every_user_has_a_store_of_their_own() {
    require!(rootless, root);
    let (one, root) = (User::new(ordinary::ALONE), Host::new());
    let home = |user: &User, args: &[&str]| {
        let mut command = user.command(args);
        command.env_remove("UMIAK_ROOT").env_remove("UMIAK_RUN_ROOT");
        user.host.finish(command.spawn().expect("setpriv starts"), args).exits(0)
    };
    home(&one, &["run", "--name", "mine", "hello"]);
    assert!(
        home(&one, &["info"])
            .stdout
            .contains(&format!("Root Dir: {}/.local/share/umiak", one.host.dir().display()))
    );
    assert_eq!(home(&one, &["ps", "-a", "--format", "{{.Names}}"]).text(), "mine");
    assert_eq!(root.umiak(&["ps", "-aq"]).exits(0).text(), "");
    let info = root.umiak(&["info"]).exits(0).stdout;
    assert!(info.contains("Rootless: false\nId Mapping: all\n"), "{info}");
    home(&one, &["rm", "mine"]);
    // Root's store is closed to others.
    let mut other = one.command(&["ps"]);
    other.env("UMIAK_ROOT", root.root());
    one.host
        .finish(other.spawn().expect("setpriv starts"), &["ps"])
        .fails(1, &["cannot open the metadata database"]);
    assert!(Path::new(&one.host.dir().join(".local/share/umiak/version")).exists());
}
