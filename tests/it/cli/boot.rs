//! The host starts and goes down: which containers run afterwards.

use super::{detached, until};
use crate::support::host::Host;
use crate::support::{registry, require};

fn running(host: &Host) -> Vec<String> {
    let mut names: Vec<_> =
        host.umiak(&["ps", "--format", "{{.Names}}"]).exits(0).stdout.lines().map(str::to_owned).collect();
    names.sort();
    names
}

/// As a reboot leaves it: no supervisor, no run directory, another boot id.
fn reboot(host: &Host, ids: &[&str]) {
    for id in ids {
        if let Some(pid) = Host::supervisor(id) {
            let pid = rustix::process::Pid::from_raw(pid.try_into().expect("a pid")).expect("not 0");
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it lives");
        }
    }
    for id in ids {
        until("it is gone", || Host::supervisor(id).is_none());
    }
    std::fs::remove_dir_all(host.dir().join("run")).expect("the run directory");
    std::fs::write(host.root().join("boot-id"), "another").expect("written");
}

#[test]
fn after_a_boot_those_run_that_should() {
    require!(root, registry);
    let host = Host::new();
    let sleep = ["sleep", "1000"];
    let plain = detached(&host, &["--name", "plain"], &sleep);
    let always = detached(&host, &["--name", "always", "--restart", "always"], &sleep);
    let unless = detached(&host, &["--name", "unless", "--restart", "unless-stopped"], &sleep);
    let stopped = detached(&host, &["--name", "stopped", "--restart", "unless-stopped"], &sleep);
    let joined = ["--name", "joined", "--restart", "always", "--network", "container:always"];
    let joined = detached(&host, &joined, &sleep);
    let image = registry::busybox();
    host.umiak(&["create", "--name", "never", "--restart", "always", &image, "true"]).exits(0);
    host.umiak(&["stop", "-t", "0", "stopped"]).exits(0);
    let all = [plain.as_str(), &always, &unless, &stopped, &joined];
    reboot(&host, &all);
    let mut started: Vec<_> =
        host.umiak(&["system", "start"]).exits(0).stdout.lines().map(str::to_owned).collect();
    started.sort();
    assert_eq!(started, ["always", "joined", "unless"]);
    assert_eq!(running(&host), ["always", "joined", "unless"]);
    // Again, in the same boot: nothing is left to do, and what the user stops stays stopped.
    host.umiak(&["stop", "-t", "0", "always"]).exits(0);
    assert_eq!(host.umiak(&["system", "start"]).exits(0).stdout, "");
    // A supervisor that is lost without a reboot is another matter.
    let pid = Host::supervisor(&unless).expect("it runs");
    let pid = rustix::process::Pid::from_raw(pid.try_into().expect("a pid")).expect("not 0");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it lives");
    until("it is gone", || Host::supervisor(&unless).is_none());
    assert_eq!(host.umiak(&["system", "start"]).exits(0).stdout, "unless\n");
    host.umiak(&["rm", "-f", "plain", "always", "unless", "stopped", "joined", "never"]).exits(0);
}

#[test]
fn going_down_is_no_wish_of_the_users() {
    require!(root, registry);
    let host = Host::new();
    detached(&host, &["--name", "unless", "--restart", "unless-stopped"], &["sleep", "1000"]);
    detached(&host, &["--name", "failing", "--restart", "on-failure"], &["sleep", "1000"]);
    let mut stopped: Vec<_> =
        host.umiak(&["system", "stop", "-t", "0"]).exits(0).stdout.lines().map(str::to_owned).collect();
    stopped.sort();
    assert_eq!(stopped, ["failing", "unless"]);
    assert!(running(&host).is_empty());
    reboot(&host, &[]);
    host.umiak(&["system", "start"]).exits(0);
    assert_eq!(running(&host), ["failing", "unless"]);
    host.umiak(&["rm", "-f", "unless", "failing"]).exits(0);
}

#[test]
fn one_that_cannot_start_is_told_and_holds_up_nobody() {
    require!(root, registry);
    let host = Host::new();
    let folder = host.dir().join("source");
    std::fs::create_dir(&folder).expect("a folder");
    let mount = format!("type=bind,source={},target=/x", folder.display());
    let bad =
        detached(&host, &["--name", "bad", "--restart", "always", "--mount", &mount], &["sleep", "1000"]);
    let good = detached(&host, &["--name", "good", "--restart", "always"], &["sleep", "1000"]);
    reboot(&host, &[&bad, &good]);
    std::fs::remove_dir(&folder).expect("removed");
    let out = host.umiak(&["system", "start"]).fails(1, &["bind source path does not exist"]);
    assert_eq!(out.stdout, "good\n");
    host.umiak(&["rm", "-f", "bad", "good"]).exits(0);
}

#[test]
fn the_unit_names_what_it_starts() {
    let host = Host::new();
    let unit = host.umiak(&["system", "unit"]).exits(0).stdout;
    let exe = env!("CARGO_BIN_EXE_umiak");
    let start = format!("ExecStart=\"{exe}\" --root \"{}\" --run-root ", host.root().display());
    assert!(unit.contains(&start) && unit.contains("WantedBy=multi-user.target"), "{unit}");
    let user = host.umiak(&["system", "unit", "--user"]).exits(0).stdout;
    assert!(user.contains("WantedBy=default.target") && user.contains("enable-linger"), "{user}");
}
