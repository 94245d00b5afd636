//! A supervisor that is killed: the records tell the truth, and what it left can be removed.

use super::{detached, until};
use crate::support::host::Host;
use crate::support::{registry, require};

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid.try_into().expect("a pid")).expect("not 0");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it lives");
}

#[test]
fn a_killed_supervisor_is_noticed_and_cleared_away() {
    require!(root, registry);
    let host = Host::new();
    for round in 0..5 {
        let id = detached(&host, &["--name", "lost"], &["sleep", "1000"]);
        let inside: u32 =
            host.umiak(&["inspect", "-f", "{{.State.Pid}}", "lost"]).exits(0).text().parse().expect("a pid");
        kill(Host::supervisor(&id).expect("its supervisor"));
        until("the lock is free", || host.umiak(&["ps", "-q"]).exits(0).stdout.is_empty());
        let line = host.umiak(&["ps", "-a"]).exits(0).stdout;
        assert!(line.contains("Exited (137)"), "{round}: {line}");
        assert_eq!(
            host.umiak(&["inspect", "-f", "{{.State.Running}} {{.State.Pid}}", "lost"]).exits(0).text(),
            "false 0"
        );
        assert_eq!(host.umiak(&["wait", "lost"]).exits(0).text(), "137");
        host.umiak(&["kill", "lost"]).fails(1, &["is not running"]);
        host.umiak(&["rm", "-f", "lost"]).exits(0);
        let gone = || !std::path::Path::new(&format!("/proc/{inside}")).exists();
        until("its process has ended", gone);
        assert!(host.list("containers").is_empty());
    }
}

#[test]
fn what_removes_itself_is_removed_after_a_crash_as_well() {
    require!(root, registry);
    let host = Host::new();
    let id = detached(&host, &["--rm", "--name", "brief"], &["sleep", "1000"]);
    kill(Host::supervisor(&id).expect("its supervisor"));
    // The next command that changes something finds it.
    until("it is gone", || {
        host.umiak(&["run", "--rm", &registry::busybox(), "true"]).exits(0);
        host.list("containers").is_empty()
    });
    assert_eq!(host.umiak(&["ps", "-aq"]).exits(0).stdout, "");
    host.umiak(&["run", "--rm", "--name", "brief", &registry::busybox(), "true"]).exits(0);
}

#[test]
fn a_container_outlives_the_command_that_started_it() {
    require!(root, registry);
    let host = Host::new();
    let image = registry::busybox();
    host.umiak(&["pull", "-q", &image]).exits(0);
    let args = ["run", "--name", "orphan", &image, "sh", "-c", "echo begun; sleep 0.5; echo ended; exit 4"];
    let mut client = host.command(&args).spawn().expect("umiak starts");
    until("it runs", || host.umiak(&["logs", "orphan"]).stdout.contains("begun"));
    client.kill().expect("it lives");
    client.wait().expect("killed");
    assert_eq!(host.umiak(&["wait", "orphan"]).exits(0).text(), "4");
    assert_eq!(host.umiak(&["logs", "orphan"]).exits(0).stdout, "begun\nended\n");
    host.umiak(&["rm", "orphan"]).exits(0);
}
