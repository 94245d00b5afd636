//! Stopping, starting, freezing and restarting; many hands on one container.

use super::{detached, until};
use crate::support::host::Host;
use crate::support::{registry, require};

const TRAP: &str = "trap 'echo bye; exit 3' TERM; echo hi; while :; do sleep 0.02; done";

fn state(host: &Host, name: &str, field: &str) -> String {
    host.umiak(&["inspect", "-f", &format!("{{{{{field}}}}}"), name]).exits(0).text().to_owned()
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid.try_into().expect("a pid")).expect("not 0");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it lives");
}

#[test]
fn stop_start_and_restart() {
    require!(root, registry);
    let host = Host::new();
    detached(&host, &["--name", "one"], &["sh", "-c", TRAP]);
    until("it is ready", || host.umiak(&["logs", "one"]).stdout.contains("hi"));
    assert_eq!(host.umiak(&["stop", "one"]).exits(0).stdout, "one\n");
    assert_eq!(state(&host, "one", ".State.ExitCode"), "3");
    // Stopping what is stopped, and starting what runs, are no failures.
    host.umiak(&["stop", "one"]).exits(0);
    assert_eq!(host.umiak(&["start", "one"]).exits(0).stdout, "one\n");
    host.umiak(&["start", "one"]).exits(0);
    assert_eq!(state(&host, "one", ".State.Status"), "running");
    let before = state(&host, "one", ".State.Pid");
    host.umiak(&["restart", "-t", "5", "one"]).exits(0);
    assert_ne!(state(&host, "one", ".State.Pid"), before);
    assert_eq!(state(&host, "one", ".RestartCount"), "0");
    host.umiak(&["stop", "-s", "KILL", "one"]).exits(0);
    assert_eq!(state(&host, "one", ".State.ExitCode"), "137");
    host.umiak(&["stop", "nope"]).fails(1, &["nope"]);
    host.umiak(&["start", "nope"]).fails(1, &["nope"]);
    host.umiak(&["rm", "one"]).exits(0);
}

#[test]
fn a_restart_is_no_end_for_rm() {
    require!(root, registry);
    let host = Host::new();
    let id = detached(&host, &["--rm", "--stop-timeout", "0"], &["sleep", "1000"]);
    let before = state(&host, &id, ".State.Pid");
    host.umiak(&["exec", &id, "touch", "/kept"]).exits(0);
    host.umiak(&["restart", &id]).exits(0);
    assert_ne!(state(&host, &id, ".State.Pid"), before);
    host.umiak(&["exec", &id, "test", "-e", "/kept"]).exits(0);
    host.umiak(&["stop", &id]).exits(0);
    host.umiak(&["inspect", &id]).fails(1, &["No such"]);
}

#[test]
fn only_what_goes_with_its_container_is_not_written_back() {
    require!(root, registry);
    let host = Host::new();
    for (flags, volatile) in [(&["--rm", "--stop-timeout", "0"][..], true), (&["--stop-timeout", "0"], false)]
    {
        let id = detached(&host, flags, &["sleep", "1000"]);
        let root = host.umiak(&["exec", &id, "grep", "-m1", " / / ", "/proc/self/mountinfo"]).exits(0).stdout;
        assert!(root.contains("overlay"), "{root}");
        assert_eq!(root.contains("volatile"), volatile, "{root}");
        host.umiak(&["stop", &id]).exits(0);
    }
}

#[test]
fn each_end_under_a_restart_policy_is_an_end_for_who_waits() {
    require!(root, registry);
    let host = Host::new();
    let image = registry::busybox();
    let args = ["run", "--restart", "always", "--name", "again", &image, "sh", "-c", "echo one; exit 7"];
    assert_eq!(host.umiak(&args).exits(7).stdout, "one\n");
    until("it runs again", || state(&host, "again", ".RestartCount") != "0");
    host.umiak(&["rm", "-f", "again"]).exits(0);
    let id = detached(&host, &["--restart", "on-failure"], &["sh", "-c", "sleep 0.2; exit 9"]);
    assert_eq!(host.umiak(&["wait", &id]).exits(0).stdout, "9\n");
    host.umiak(&["rm", "-f", &id]).exits(0);
}

#[test]
fn a_signal_that_no_system_knows_is_refused() {
    require!(root, registry);
    let host = Host::new();
    let id = detached(&host, &[], &["sleep", "1000"]);
    for command in ["kill", "stop", "restart"] {
        host.umiak(&[command, "-s", "NOPE", &id]).fails(1, &["invalid signal: NOPE"]);
    }
    assert_eq!(state(&host, &id, ".State.Status"), "running");
    host.umiak(&["rm", "-f", &id]).exits(0);
}

#[test]
fn what_ignores_the_signal_is_killed_after_the_timeout() {
    require!(root, registry);
    let host = Host::new();
    let id = detached(&host, &["--stop-timeout", "0"], &["sleep", "1000"]);
    host.umiak(&["stop", &id]).exits(0);
    assert_eq!(state(&host, &id, ".State.ExitCode"), "137");
    host.umiak(&["rm", &id]).exits(0);
}

#[test]
fn a_paused_container_stands_still_and_can_be_ended() {
    require!(root, registry);
    let host = Host::new();
    let id = detached(&host, &["--name", "ice"], &["sh", "-c", "while :; do echo tick; sleep 0.01; done"]);
    assert_eq!(host.umiak(&["pause", "ice"]).exits(0).stdout, "ice\n");
    assert!(host.umiak(&["ps"]).exits(0).stdout.contains("(Paused)"));
    assert_eq!(state(&host, "ice", ".State.Status"), "paused");
    std::thread::sleep(std::time::Duration::from_millis(50));
    let lines = host.umiak(&["logs", "ice"]).exits(0).stdout.lines().count();
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert_eq!(host.umiak(&["logs", "ice"]).exits(0).stdout.lines().count(), lines);
    host.umiak(&["pause", "ice"]).fails(1, &["already paused"]);
    host.umiak(&["exec", "ice", "true"]).fails(1, &["is paused"]);
    host.umiak(&["start", "ice"]).fails(1, &["unpause"]);
    host.umiak(&["unpause", "ice"]).exits(0);
    host.umiak(&["unpause", "ice"]).fails(1, &["not paused"]);
    host.umiak(&["exec", "ice", "true"]).exits(0);
    host.umiak(&["pause", "ice"]).exits(0);
    host.umiak(&["stop", "-t", "0", "ice"]).exits(0);
    host.umiak(&["start", "ice"]).exits(0);
    host.umiak(&["pause", "ice"]).exits(0);
    // Killed while its processes are frozen: they must not stay for ever.
    kill(Host::supervisor(&id).expect("its supervisor"));
    until("it is noticed", || host.umiak(&["ps", "-q"]).exits(0).stdout.is_empty());
    host.umiak(&["rm", "-f", "ice"]).exits(0);
    host.umiak(&["pause", "ice"]).fails(1, &["ice"]);
}

#[test]
fn policies_start_again_and_the_user_stops_that() {
    require!(root, registry);
    let host = Host::new();
    detached(&host, &["--name", "fails", "--restart", "on-failure:2"], &["sh", "-c", "echo run; exit 7"]);
    until("it gave up", || state(&host, "fails", ".State.Status") == "exited");
    assert_eq!(state(&host, "fails", ".RestartCount"), "2");
    assert_eq!(state(&host, "fails", ".State.ExitCode"), "7");
    assert_eq!(host.umiak(&["logs", "fails"]).exits(0).stdout, "run\nrun\nrun\n");
    detached(&host, &["--name", "always", "--restart", "always"], &["sleep", "1000"]);
    let pid: u32 = state(&host, "always", ".State.Pid").parse().expect("a pid");
    kill(pid);
    until("it runs again", || {
        state(&host, "always", ".RestartCount") == "1" && state(&host, "always", ".State.Running") == "true"
    });
    assert_ne!(state(&host, "always", ".State.Pid"), pid.to_string());
    host.umiak(&["stop", "-t", "0", "always"]).exits(0);
    assert_eq!(state(&host, "always", ".State.Status"), "exited");
    // Stopped in a pause between two runs, which grows to seconds.
    detached(&host, &["--name", "loops", "--restart", "always"], &["false"]);
    until("it waits", || state(&host, "loops", ".State.Status") == "restarting");
    host.umiak(&["exec", "loops", "true"]).fails(1, &["restarting"]);
    host.umiak(&["stop", "loops"]).exits(0);
    assert_eq!(state(&host, "loops", ".State.Status"), "exited");
    host.umiak(&["start", "loops"]).exits(0);
    host.umiak(&["rm", "-f", "loops", "always", "fails"]).exits(0);
    assert!(host.list("containers").is_empty());
}

#[test]
fn exec_ends_with_dockers_statuses() {
    require!(root, registry);
    let host = Host::new();
    let id = detached(&host, &["-e", "A=1"], &["sleep", "1000"]);
    host.umiak(&["exec", &id, "sh", "-c", "exit 7"]).exits(7);
    host.umiak(&["exec", &id, "nope"]).fails(127, &["nope", "not found"]);
    host.umiak(&["exec", &id, "/etc"]).fails(126, &["/etc"]);
    let out = host.umiak(&[
        "exec",
        "-e",
        "B=2",
        "-w",
        "/tmp",
        "-u",
        "1:2",
        &id,
        "sh",
        "-c",
        "echo $A $B $PWD; id -u; id -g",
    ]);
    assert_eq!(out.exits(0).stdout, "1 2 /tmp\n1\n2\n");
    let out = host.umiak_reading(b"typed", &["exec", "-i", &id, "cat"]).exits(0);
    assert_eq!(out.stdout, "typed");
    host.umiak(&["exec", "-d", &id, "touch", "/made"]).exits(0);
    until("the detached one has run", || host.umiak(&["exec", &id, "test", "-e", "/made"]).status == 0);
    host.umiak(&["exec", "nope", "true"]).fails(1, &["nope"]);
    host.umiak(&["stop", "-t", "0", &id]).exits(0);
    host.umiak(&["exec", &id, "true"]).fails(1, &["is not running"]);
    host.umiak(&["rm", &id]).exits(0);
}

#[test]
fn a_supervisor_that_does_not_answer_is_ended_by_force() {
    require!(root, registry);
    let host = Host::new();
    let id = detached(&host, &[], &["sleep", "1000"]);
    let pid = Host::supervisor(&id).expect("its supervisor");
    let pid = rustix::process::Pid::from_raw(pid.try_into().expect("a pid")).expect("not 0");
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).expect("it lives");
    host.umiak(&["rm", "-f", &id]).exits(0);
    assert!(host.list("containers").is_empty());
}

/// Many hands on one container: each either does its work or says clearly why not, and in the end nothing is left.
#[test]
fn races_have_clear_losers() {
    require!(root, registry);
    let host = Host::new();
    let image = registry::busybox();
    host.umiak(&["pull", "-q", &image]).exits(0);
    let commands: [&[&str]; 8] = [
        &["start", "race"],
        &["stop", "-t", "0", "race"],
        &["restart", "-t", "0", "race"],
        &["rm", "-f", "race"],
        &["kill", "race"],
        &["start", "race"],
        &["exec", "race", "true"],
        &["rm", "race"],
    ];
    let clear = [
        "No such container",
        "is not running",
        "it is running",
        "already running",
        "being started",
        "was removed",
        "does not end",
        "is restarting",
    ];
    // As many rounds as are asked for; a few find what is wrong at all, hundreds what is wrong seldom.
    let rounds = std::env::var("UMIAK_TEST_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(25);
    for round in 0..rounds {
        host.umiak(&["create", "--name", "race", &image, "sleep", "1000"]).exits(0);
        std::thread::scope(|scope| {
            for args in commands {
                let (host, clear) = (&host, &clear);
                scope.spawn(move || {
                    let out = host.umiak(args);
                    // 137: the process of an exec went with its container.
                    let told = clear.iter().any(|words| out.stderr.contains(words)) || out.status == 137;
                    assert!(
                        out.status == 0 || told,
                        "round {round}: {args:?}: {}: {}",
                        out.status,
                        out.stderr
                    );
                    assert!(!out.stderr.contains("panicked"), "{}", out.stderr);
                });
            }
        });
        host.umiak(&["rm", "-f", "race"]);
        assert!(host.list("containers").is_empty(), "round {round}: {:?}", host.list("containers"));
        assert_eq!(host.umiak(&["ps", "-aq"]).exits(0).stdout, "");
    }
}
