//! Staying with a container, leaving it, and coming back.

use super::{detached, until};
use crate::support::host::Host;
use crate::support::pty::Typed;
use crate::support::{registry, require};

#[test]
fn the_keys_leave_a_container_running_and_attach_returns_with_the_size() {
    require!(root, registry);
    let host = Host::new();
    let image = registry::busybox();
    host.umiak(&["pull", "-q", &image]).exits(0);
    let mut first = Typed::run(&host, (20, 70), &["run", "-it", "--name", "shell", &image, "sh"]);
    until("a prompt", || first.shown().contains('#'));
    first.type_in(b"stty size; echo o\\\\k\n");
    until("the size of the terminal", || first.shown().contains("20 70"));
    assert!(first.is_raw());
    first.type_in(b"\x10\x11");
    let (status, shown) = first.end();
    assert_eq!(status, Some(0), "{shown}");
    assert!(shown.contains("read escape sequence"), "{shown}");
    assert!(host.umiak(&["ps"]).exits(0).stdout.contains("shell"));
    let mut second = Typed::run(&host, (30, 90), &["attach", "--detach-keys", "ctrl-x", "shell"]);
    second.type_in(b"stty size\n");
    until("the new size", || second.shown().contains("30 90"));
    second.type_in(b"\x18");
    assert_eq!(second.end().0, Some(0));
    let mut third = Typed::run(&host, (30, 90), &["attach", "shell"]);
    third.type_in(b"exit 5\n");
    assert_eq!(third.end().0, Some(5));
    let mut again = Typed::run(&host, (24, 80), &["start", "-ai", "shell"]);
    until("a prompt", || again.shown().contains('#'));
    again.type_in(b"exit 6\n");
    assert_eq!(again.end().0, Some(6));
    host.umiak(&["rm", "shell"]).exits(0);
}

#[test]
fn an_exec_has_a_terminal_of_its_own() {
    require!(root, registry);
    let host = Host::new();
    let id = detached(&host, &[], &["sleep", "1000"]);
    let mut typed = Typed::run(&host, (21, 71), &["exec", "-it", &id, "sh"]);
    until("a prompt", || typed.shown().contains('#'));
    typed.type_in(b"stty size; tty; exit 9\n");
    let (status, shown) = typed.end();
    assert_eq!(status, Some(9), "{shown}");
    assert!(shown.contains("21 71") && shown.contains("/dev/pts/"), "{shown}");
    host.umiak(&["rm", "-f", &id]).exits(0);
}

#[test]
fn a_fatal_signal_leaves_the_terminal_as_it_was() {
    require!(root, registry);
    let host = Host::new();
    let id = detached(&host, &["-it"], &["sh"]);
    let typed = Typed::run(&host, (24, 80), &["attach", "--sig-proxy=false", &id]);
    until("raw mode", || typed.is_raw());
    let pid = rustix::process::Pid::from_raw(typed.pid().try_into().expect("a pid")).expect("not 0");
    // The handler is there before raw mode is.
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it lives");
    assert_eq!(typed.end().0, Some(143));
    assert!(host.umiak(&["ps", "-q", "--no-trunc"]).exits(0).stdout.contains(&id));
    host.umiak(&["rm", "-f", &id]).exits(0);
}

#[test]
fn several_clients_see_the_same() {
    require!(root, registry);
    let host = Host::new();
    let script = "read line; echo got $line; read line; exit 4";
    let id = detached(&host, &["-i"], &["sh", "-c", script]);
    let clients: Vec<_> = (0..3)
        .map(|_| {
            let args = ["attach", &id];
            host.command(&args).stdin(std::process::Stdio::piped()).spawn().expect("umiak starts")
        })
        .collect();
    // They are attached when the supervisor has a thread for each: the input is read by one alone.
    std::thread::sleep(std::time::Duration::from_millis(300));
    let mut clients = clients.into_iter();
    let mut first = clients.next().expect("three");
    let mut input = first.stdin.take().expect("piped");
    std::io::Write::write_all(&mut input, b"one\ntwo\n").expect("written");
    for client in std::iter::once(first).chain(clients) {
        let out = host.finish(client, &["attach"]).exits(4);
        assert_eq!(out.stdout, "got one\n");
    }
    host.umiak(&["rm", &id]).exits(0);
}

#[test]
fn what_is_not_running_is_not_attached_to() {
    require!(root, registry);
    let host = Host::new();
    host.umiak(&["attach", "nope"]).fails(1, &["nope"]);
    let id = detached(&host, &[], &["true"]);
    host.umiak(&["wait", &id]).exits(0);
    host.umiak(&["attach", &id]).fails(1, &["is not running"]);
    host.umiak(&["attach", "--detach-keys", "ctrl-1", &id]).fails(1, &["detach keys"]);
    host.umiak(&["rm", &id]).exits(0);
}
