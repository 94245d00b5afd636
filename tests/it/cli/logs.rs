//! `logs`: what a container wrote, also after it was rotated.

use super::{detached, until};
use crate::support::host::Host;
use crate::support::require;

#[test]
fn a_follower_sees_every_line_across_rotations() {
    require!(root, registry);
    let host = Host::new();
    let script = "read go; n=0; while [ $n -lt 3000 ]; do echo line $n; n=$((n+1)); [ $((n % 500)) != 0 ] || sleep 0.1; done; echo over";
    let flags = ["-i", "--log-opt", "max-size=20k", "--log-opt", "max-file=40"];
    let id = detached(&host, &flags, &["sh", "-c", script]);
    let follower = host.command(&["logs", "-f", &id]).spawn().expect("umiak starts");
    let late = host.command(&["attach", &id]).stdin(std::process::Stdio::piped()).spawn();
    let mut late = late.expect("umiak starts");
    std::io::Write::write_all(&mut late.stdin.take().expect("piped"), b"go\n").expect("written");
    let expected: String = (0..3000).map(|n| format!("line {n}\n")).chain(["over\n".to_owned()]).collect();
    let heard = host.finish(follower, &["logs", "-f"]).exits(0).stdout;
    assert!(heard == expected, "{} lines of {}", heard.lines().count(), expected.lines().count());
    host.finish(late, &["attach"]).exits(0);
    assert!(host.umiak(&["logs", &id]).exits(0).stdout == expected);
    assert_eq!(host.umiak(&["logs", "-n", "2", &id]).exits(0).stdout, "line 2999\nover\n");
    let folder = format!("containers/{id}");
    assert!(host.list(&folder).iter().filter(|name| name.starts_with("log.json")).count() > 2);
    host.umiak(&["rm", &id]).exits(0);
}

#[test]
fn a_small_log_forgets_what_is_old() {
    require!(root, registry);
    let host = Host::new();
    let script = "n=0; while [ $n -lt 2000 ]; do echo line $n; n=$((n+1)); done";
    let id = detached(&host, &["--log-opt", "max-size=10k"], &["sh", "-c", script]);
    host.umiak(&["wait", &id]).exits(0);
    let out = host.umiak(&["logs", &id]).exits(0).stdout;
    assert!(out.ends_with("line 1999\n") && out.lines().count() < 2000, "{}", out.lines().count());
    host.umiak(&["rm", &id]).exits(0);
}

#[test]
fn without_a_log_there_is_nothing_to_read() {
    require!(root, registry);
    let host = Host::new();
    let id = detached(&host, &["--log-driver", "none"], &["echo", "unheard"]);
    host.umiak(&["wait", &id]).exits(0);
    host.umiak(&["logs", &id]).fails(1, &["configured logging driver does not support reading"]);
    assert!(host.list(&format!("containers/{id}")).iter().all(|name| !name.starts_with("log")));
    host.umiak(&["rm", &id]).exits(0);
}

#[test]
fn bytes_that_are_no_text_and_endless_lines_survive() {
    require!(root, registry);
    let host = Host::new();
    let script = "printf 'a\\377b\\000c\\n'; head -c 100000 /dev/zero | tr '\\000' x; echo";
    let id = detached(&host, &[], &["sh", "-c", script]);
    host.umiak(&["wait", &id]).exits(0);
    until("all is written", || host.umiak(&["logs", &id]).stdout.ends_with("x\n"));
    let out = host.umiak(&["logs", &id]).exits(0).stdout;
    assert!(out == format!("a\u{fffd}b\0c\n{}\n", "x".repeat(100_000)), "{} bytes", out.len());
    host.umiak(&["rm", &id]).exits(0);
}

#[test]
fn details_are_what_the_logs_options_name() {
    require!(root, registry);
    let host = Host::new();
    let flags = ["--label", "a=b c", "-e", "E=f", "--log-opt", "labels=a,none", "--log-opt", "env=E"];
    let id = detached(&host, &flags, &["echo", "hi"]);
    host.umiak(&["wait", &id]).exits(0);
    assert_eq!(host.umiak(&["logs", "--details", &id]).exits(0).stdout, "E=f,a=b+c hi\n");
    assert_eq!(host.umiak(&["logs", &id]).exits(0).stdout, "hi\n");
    let timed = host.umiak(&["logs", "--details", "-t", &id]).exits(0).stdout;
    assert!(timed.ends_with("Z E=f,a=b+c hi\n"), "{timed}");
    let none = detached(&host, &[], &["echo", "hi"]);
    host.umiak(&["wait", &none]).exits(0);
    assert_eq!(host.umiak(&["logs", "--details", &none]).exits(0).stdout, " hi\n");
    for bound in ["2126-01-01", "-1h"] {
        assert_eq!(host.umiak(&["logs", "--since", bound, &id]).exits(0).stdout, "");
    }
    assert_eq!(host.umiak(&["logs", "--since", "1.5h", "--until", "-1s", &id]).exits(0).stdout, "hi\n");
    host.umiak(&["logs", "--since", "bogus", &id])
        .fails(1, &["invalid value for \"since\": failed to parse value as time or duration: \"bogus\""]);
    host.umiak(&["rm", &id, &none]).exits(0);
}

#[test]
fn a_follower_sleeps_and_ends_with_its_container() {
    require!(root, registry);
    let host = Host::new();
    let id = detached(&host, &["--stop-timeout", "0"], &["sh", "-c", "echo hi; exec sleep 1000"]);
    let args = ["logs", "-f", &id];
    let follower = host.command(&args).spawn().expect("umiak starts");
    let ticks = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", follower.id())).expect("it runs");
        let words: Vec<&str> = stat.rsplit(") ").next().expect("fields").split(' ').collect();
        words[11].parse::<u64>().expect("a number") + words[12].parse::<u64>().expect("a number")
    };
    std::thread::sleep(std::time::Duration::from_millis(500));
    let before = ticks();
    std::thread::sleep(std::time::Duration::from_millis(1500));
    assert!(ticks() <= before + 1, "it is to sleep");
    host.umiak(&["stop", &id]).exits(0);
    assert_eq!(host.finish(follower, &args).exits(0).stdout, "hi\n");
    host.umiak(&["rm", &id]).exits(0);
}
