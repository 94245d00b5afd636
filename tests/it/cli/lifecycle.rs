//! A container from its start to its removal.

use super::{detached, until};
use crate::support::host::Host;
use crate::support::{registry, require};

#[test]
fn in_the_background_then_wait_and_logs() {
    require!(root, registry);
    let host = Host::new();
    let id = detached(&host, &["--name", "one"], &["sh", "-c", "echo out; echo err >&2; sleep 0.3; exit 7"]);
    assert_eq!(host.umiak(&["ps", "-q", "--no-trunc"]).exits(0).text(), id);
    assert_eq!(host.umiak(&["wait", "one"]).exits(0).stdout, "7\n");
    // Of a container that ended, at once, and by any prefix of the id.
    assert_eq!(host.umiak(&["wait", &id[..8], &id]).exits(0).stdout, "7\n7\n");
    let logs = host.umiak(&["logs", "one"]).exits(0);
    assert_eq!((logs.stdout.as_str(), logs.stderr.as_str()), ("out\n", "err\n"));
    assert_eq!(host.umiak(&["ps", "-q"]).exits(0).stdout, "");
    assert_eq!(
        host.umiak(&["inspect", "-f", "{{.State.ExitCode}} {{.State.Status}}", "one"]).exits(0).text(),
        "7 exited"
    );
    assert_eq!(host.umiak(&["rm", "one"]).exits(0).stdout, "one\n");
    assert!(host.list("containers").is_empty(), "{:?}", host.list("containers"));
}

#[test]
fn wait_waits_and_many_may() {
    require!(root, registry);
    let host = Host::new();
    let id = detached(&host, &[], &["sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.02; done"]);
    std::thread::scope(|scope| {
        let waiting: Vec<_> = (0..5).map(|_| scope.spawn(|| host.umiak(&["wait", &id]))).collect();
        std::thread::sleep(std::time::Duration::from_millis(200));
        assert!(waiting.iter().all(|thread| !thread.is_finished()), "wait did not wait");
        assert_eq!(host.umiak(&["kill", "-s", "TERM", &id]).exits(0).text(), id);
        for thread in waiting {
            assert_eq!(thread.join().expect("no panic").exits(0).stdout, "3\n");
        }
    });
    host.umiak(&["rm", &id]).exits(0);
}

#[test]
fn kill_sends_any_signal_by_any_name() {
    require!(root, registry);
    let host = Host::new();
    for (signal, status) in [("HUP", "1"), ("SIGINT", "2"), ("15", "15"), ("sigusr1", "10")] {
        let script =
            "for n in 1 2 10 15; do trap \"exit $n\" $n; done; echo ready; while :; do sleep 0.02; done";
        let id = detached(&host, &[], &["sh", "-c", script]);
        until("ready", || host.umiak(&["logs", &id]).stdout.contains("ready"));
        host.umiak(&["kill", "--signal", signal, &id]).exits(0);
        assert_eq!(host.umiak(&["wait", &id]).exits(0).text(), status, "{signal}");
        host.umiak(&["kill", &id]).fails(1, &["is not running"]);
        host.umiak(&["rm", &id]).exits(0);
    }
    let id = detached(&host, &[], &["sleep", "1000"]);
    host.umiak(&["kill", &id]).exits(0);
    assert_eq!(host.umiak(&["wait", &id]).exits(0).text(), "137");
    assert_ne!(host.umiak(&["kill", "-s", "NOPE", &id]).status, 0);
    host.umiak(&["kill", "nobody"]).fails(1, &["o such container: nobody"]);
    host.umiak(&["rm", &id]).exits(0);
}

#[test]
fn rm_of_several_with_a_bad_one_among_them() {
    require!(root, registry);
    let host = Host::new();
    let (a, b) =
        (detached(&host, &["--name", "aa"], &["true"]), detached(&host, &["--name", "bb"], &["true"]));
    host.umiak(&["wait", &a, &b]).exits(0);
    let out = host.umiak(&["rm", "aa", "nobody", "bb"]).fails(1, &["o such container: nobody"]);
    assert_eq!(out.stdout, "aa\nbb\n");
    assert_eq!(host.umiak(&["ps", "-aq"]).exits(0).stdout, "");
}

#[test]
fn rm_of_a_running_one_is_a_conflict_unless_forced() {
    require!(root, registry);
    let host = Host::new();
    let id = detached(&host, &["--name", "busy"], &["sleep", "1000"]);
    host.umiak(&["rm", "busy"]).fails(1, &["busy", "running", "-f"]);
    assert_eq!(host.umiak(&["ps", "-q", "--no-trunc"]).exits(0).text(), id);
    assert_eq!(host.umiak(&["rm", "-f", "busy"]).exits(0).stdout, "busy\n");
    assert_eq!(host.umiak(&["ps", "-aq"]).exits(0).stdout, "");
    assert!(host.list("containers").is_empty());
    assert_eq!(Host::supervisor(&id), None, "the supervisor is still there");
}

#[test]
fn rm_flag_leaves_nothing() {
    require!(root, registry);
    let host = Host::new();
    let image = registry::busybox();
    for command in [&["true"][..], &["sh", "-c", "exit 9"], &["nosuch"], &["/etc/passwd"]] {
        let mut args = vec!["run", "--rm", image.as_str()];
        args.extend(command);
        host.umiak(&args);
        assert_eq!(host.umiak(&["ps", "-aq"]).exits(0).stdout, "", "{command:?}");
        assert!(host.list("containers").is_empty(), "{command:?}");
    }
    let id = detached(&host, &["--rm"], &["sleep", "0.2"]);
    host.umiak(&["wait", &id]).exits(0);
    until("it is gone", || host.list("containers").is_empty());
    assert_eq!(host.umiak(&["ps", "-aq"]).exits(0).stdout, "");
}

#[test]
fn names_are_unique_and_free_again() {
    require!(root, registry);
    let host = Host::new();
    let image = registry::busybox();
    let id = detached(&host, &["--name", "web"], &["sleep", "1000"]);
    host.umiak(&["run", "--rm", "--name", "web", &image, "true"]).fails(125, &["web", "in use", &id[..12]]);
    assert_eq!(host.umiak(&["ps", "-aq", "--no-trunc"]).exits(0).text(), id);
    host.umiak(&["rm", "-f", "web"]).exits(0);
    host.umiak(&["run", "--rm", "--name", "web", &image, "true"]).exits(0);
    host.umiak(&["run", "--rm", "--name", "no spaces", &image, "true"]).exits(125);
    // A race for one name has one winner.
    let status: Vec<_> = std::thread::scope(|scope| {
        let run = || host.umiak(&["run", "--name", "race", &image, "true"]).status;
        let all: Vec<_> = (0..6).map(|_| scope.spawn(run)).collect();
        all.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    assert_eq!(status.iter().filter(|status| **status == 0).count(), 1, "{status:?}");
    assert_eq!(status.iter().filter(|status| **status == 125).count(), 5, "{status:?}");
    host.umiak(&["rm", "race"]).exits(0);
}

#[test]
fn those_who_look_are_in_nobodys_way() {
    require!(root, registry);
    let host = Host::new();
    let ids: Vec<_> = (0..12).map(|_| detached(&host, &[], &["true"])).collect();
    for id in &ids {
        host.umiak(&["wait", id]).exits(0);
    }
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    host.umiak(&["ps", "-aq"]).exits(0);
                }
            });
        }
        let statuses: Vec<_> = ids.iter().map(|id| host.umiak(&["rm", id])).collect();
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        for out in statuses {
            out.exits(0);
        }
    });
    assert!(host.list("containers").is_empty());
}
