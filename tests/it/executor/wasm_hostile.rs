//! Guests that are made to hurt, through whole commands: each gets a clean refusal or an end, the supervisor stays small, and `stop`
//! always works.

use std::fs;
use std::time::{Duration, Instant};

use crate::store::room::Space;
use crate::support::host::{Host, Output};
use crate::support::{registry, require};

fn image(tag: &str) -> String {
    format!("{}/wasm/does:{tag}", registry::address())
}

fn run(host: &Host, tag: &str, flags: &[&str], steps: &[&str]) -> Output {
    let image = image(tag);
    host.umiak(&[&["run", "--rm", "--platform", "wasi/wasm"], flags, &[image.as_str()], steps].concat())
}

/// Starts one in the background; its id.
fn start(host: &Host, tag: &str, flags: &[&str], steps: &[&str]) -> String {
    let (base, image) = (["run", "-d", "--platform", "wasi/wasm"], image(tag));
    host.umiak(&[&base, flags, &[image.as_str()], steps].concat()).exits(0).text().to_owned()
}

/// Stops a container that has a second to end, and removes it; its status.
fn stop(host: &Host, id: &str) -> String {
    let began = Instant::now();
    host.umiak(&["stop", "-t", "1", id]).exits(0);
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    let status = host.umiak(&["wait", id]).exits(0).text().to_owned();
    host.umiak(&["rm", id]).exits(0);
    status
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(40);
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Kilobytes that a process wrote. What it only read is the binary's, and is whatever of it was needed so far.
fn written(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("a process");
    let line = text.lines().find(|line| line.starts_with("Private_Dirty"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).expect("a number")
}

#[test]
fn output_without_end_is_rotated_in_flat_memory() {
    require!(root, registry);
    let host = Host::new();
    for tag in ["artifact-p1", "artifact-p2"] {
        let id = start(&host, tag, &["--log-opt", "max-size=200k", "--log-opt", "max-file=3"], &["spam"]);
        let folder = host.root().join("containers").join(&id);
        let logs =
            || host.list(&format!("containers/{id}")).into_iter().filter(|name| name.starts_with("log.json"));
        until("the log is rotated", || logs().count() >= 3);
        let pid = Host::supervisor(&id).expect("a supervisor");
        let before = written(pid);
        std::thread::sleep(Duration::from_secs(1));
        let (after, size) =
            (written(pid), logs().map(|name| fs::metadata(folder.join(name)).map_or(0, |file| file.len())));
        let size: u64 = size.sum();
        assert!(size < 700_000, "{tag}: {size} bytes of log");
        assert!(after < before + 4000, "{tag}: from {before} to {after} kB");
        // What is read while it goes on is whole lines.
        let out = host.umiak(&["logs", "-n", "3", &id]).exits(0).stdout;
        assert!(out.lines().all(|line| line == "spam ".repeat(200)), "{tag}");
        assert_eq!(stop(&host, &id), "143", "{tag}");
    }
}

#[test]
fn a_hundred_thousand_files_are_refused_with_an_error_and_the_engine_has_its_own() {
    require!(root, registry);
    let host = Host::new();
    // `mfile`, and of 0.2, which has no such error, `quota`.
    for (tag, errno) in [("tar-p1", "33"), ("tar-p2", "19")] {
        let limited = ["--ulimit", "nofile=100"];
        let steps = ["hoard", "/app.wasm", "100000", "--", "write", "/more", "x", "--", "env", "A"];
        let out = run(&host, tag, &limited, &steps).exits(0).stdout;
        let lines: Vec<&str> = out.lines().collect();
        // Three streams and the root are among the hundred.
        assert_eq!(lines[0], format!("kept 96, then errno {errno}"), "{tag}");
        assert!(lines[1].starts_with("error "), "{tag}: {out}");
        let id = start(&host, tag, &[], &["hoard", "/app.wasm", "100000", "--", "sleep", "600000"]);
        until("all are open", || host.umiak(&["logs", &id]).exits(0).stdout.contains("kept "));
        let out = host.umiak(&["logs", &id]).exits(0).stdout;
        assert!(out.ends_with(&format!("then errno {errno}\n")), "{tag}: {out}");
        // Its container has no more either, but the supervisor answers.
        host.umiak(&["exec", &id, "/app.wasm", "env", "A"]).exits(0);
        let out = host.umiak(&["exec", &id, "/app.wasm", "read", "/app.wasm"]).exits(0).stdout;
        assert!(out.starts_with("error "), "{tag}: {out}");
        assert_eq!(stop(&host, &id), "143", "{tag}");
    }
    let image = format!("{}/wasm/run3:tar-p3", registry::address());
    let base = ["run", "--rm", "--platform", "wasi/wasm", "--ulimit", "nofile=50"];
    let out = host.umiak(&[&base[..], &[&image, "files", "100000"]].concat()).exits(0).stdout;
    let lines: Vec<&str> = out.lines().skip(4).collect();
    assert!(lines[0].starts_with("46 Some(") && lines[0].contains("too many open files"), "{out}");
    assert_eq!(lines[1], "again true");
    let most = fs::read_to_string("/proc/self/limits").expect("limits");
    if !most.lines().any(|line| line.starts_with("Max open files") && line.contains("unlimited")) {
        run(&host, "tar-p1", &["--ulimit", "nofile=9000000000"], &["env", "A"])
            .fails(125, &["nofile", "open files"]);
    }
}

#[test]
fn a_full_disk_is_an_error_to_the_guest_and_the_container_ends_well() {
    require!(root, registry);
    let host = Host::new();
    // The store itself is on a small disk: the container's layer, its log and the database share it.
    let space = Space::new();
    let root = host.root();
    fs::create_dir_all(&root).expect("a folder");
    let at = root.display();
    space.sh(&format!("mount -t tmpfs -o size=24m tmpfs {at}"));
    for tag in ["tar-p1", "tar-p2"] {
        let image = image(tag);
        let base = ["run", "--name", tag, "--platform", "wasi/wasm", &image];
        let steps = [
            "fill",
            "/big",
            "100000000",
            "--",
            "read",
            "/gone",
            "--",
            "remove",
            "/big",
            "--",
            "write",
            "/x",
            "y",
        ];
        let out = space.umiak(&host, &[&base[..], &steps[..]].concat()).exits(0).stdout;
        // The standard library of 0.2 does not tell which error of a stream it was.
        let full = if tag == "tar-p1" { "error StorageFull\n" } else { "error " };
        assert!(
            out.starts_with(full) && out.ends_with("\nerror NotFound\nremoved\nwritten\n"),
            "{tag}: {out}"
        );
        space.umiak(&host, &["rm", tag]).exits(0);
    }
    space.unmount(&at);
}

#[test]
fn a_guest_that_hangs_in_a_call_of_the_host_is_stopped() {
    require!(root, registry);
    let host = Host::new();
    let given = host.dir().join("given");
    fs::create_dir(&given).expect("a folder");
    let made = std::process::Command::new("mkfifo").arg(given.join("fifo")).status();
    assert!(made.expect("mkfifo").success());
    let bind = format!("{}:/given", given.display());
    for tag in ["artifact-p1", "artifact-p2"] {
        // Nobody ever writes to it: the call that opens it does not return.
        let id = start(&host, tag, &["-v", &bind], &["env", "A", "--", "read", "/given/fifo"]);
        until("it began", || !host.umiak(&["logs", &id]).exits(0).stdout.is_empty());
        assert_eq!(stop(&host, &id), "143", "{tag}");
    }
}

#[test]
fn a_guest_that_listens_to_nothing_is_stopped() {
    require!(root, registry);
    let host = Host::new();
    for tag in ["artifact-p1", "artifact-p2"] {
        for steps in [&["count"][..], &["sleep", "600000"]] {
            let id = start(&host, tag, &[], steps);
            assert_eq!(stop(&host, &id), "143", "{tag} {steps:?}");
        }
    }
}

#[test]
fn four_gigabytes_are_counted_before_they_are_there() {
    require!(root, registry);
    let host = Host::new();
    for tag in ["artifact-p1", "artifact-p2"] {
        // What is left of 65536 pages when the program itself has some.
        let out =
            run(&host, tag, &["--memory", "64m"], &["reserve", "65000", "--", "env", "A"]).exits(0).stdout;
        assert_eq!(out, "refused\n\n", "{tag}");
        let id = start(&host, tag, &[], &["reserve", "65000", "--", "sleep", "600000"]);
        until("it is reserved", || host.umiak(&["logs", &id]).exits(0).stdout == "reserved 65000\n");
        let pid = Host::supervisor(&id).expect("a supervisor");
        assert!(written(pid) < 40_000, "{tag}: {} kB are there", written(pid));
        assert_eq!(stop(&host, &id), "143", "{tag}");
    }
}
