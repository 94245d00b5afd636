//! What a Wasm container may touch: files, the network, memory, time; and what else can be done with one.

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;

use crate::support::host::{Host, Output};
use crate::support::{registry, require};

fn image(name: &str, tag: &str) -> String {
    format!("{}/wasm/{name}:{tag}", registry::address())
}

/// Runs the guest that does what it is told, with flags in front.
fn does(host: &Host, tag: &str, flags: &[&str], steps: &[&str]) -> Output {
    let image = image("does", tag);
    let mut args = vec!["run", "--rm", "--platform", "wasi/wasm"];
    args.extend(flags);
    args.push(&image);
    args.extend(steps);
    host.umiak(&args)
}

fn text(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| error.to_string())
}

#[test]
fn mounts_are_directories_with_just_their_right() {
    require!(root, registry);
    let host = Host::new();
    let (open, shut) = (host.dir().join("open"), host.dir().join("shut"));
    for dir in [&open, &shut] {
        fs::create_dir(dir).expect("a folder");
        fs::write(dir.join("there"), "before").expect("a file");
    }
    let (rw, ro) = (format!("{}:/data/rw", open.display()), format!("{}:/data/ro:ro", shut.display()));
    let steps = [
        "read",
        "/data/ro/there",
        "--",
        "write",
        "/data/rw/new",
        "made",
        "--",
        "write",
        "/data/ro/new",
        "no",
        "--",
        "append",
        "/data/ro/there",
        "no",
        "--",
        "cut",
        "/data/ro/there",
        "--",
        "remove",
        "/data/ro/there",
        "--",
        "move",
        "/data/ro/there",
        "/data/rw/stolen",
        "--",
        "move",
        "/data/rw/new",
        "/data/ro/new",
        "--",
        "link",
        "/data/ro/there",
        "/data/rw/linked",
        "--",
        "mkdir",
        "/data/ro/dir",
        "--",
        "list",
        "/data",
        "--",
        "list",
        "/data/rw",
        "--",
        "read",
        "data/rw/new",
    ];
    for tag in ["tar-p1", "tar-p2", "artifact-p1"] {
        let out = does(&host, tag, &["-v", &rw, "-v", &ro], &steps).exits(0).stdout;
        let lines: Vec<&str> = out.lines().collect();
        assert_eq!((lines[0], lines[1]), ("before", "written"), "{tag}: {out}");
        assert!(lines[2..=9].iter().all(|line| line.starts_with("error ")), "{tag}: {out}");
        assert_eq!(lines[10..], ["ro rw", "new there", "made"], "{tag}: {out}");
        assert_eq!((text(open.join("new")), text(shut.join("there"))), ("made".into(), "before".into()));
        assert_eq!(fs::read_dir(&shut).expect("a folder").count(), 1);
        fs::remove_file(open.join("new")).expect("a file");
    }
}

#[test]
fn a_volume_outlives_its_containers_and_a_single_file_is_seen() {
    require!(root, registry);
    let host = Host::new();
    let file = host.dir().join("one");
    fs::write(&file, "one file").expect("a file");
    let bind = format!("{}:/etc/one:ro", file.display());
    does(&host, "tar-p1", &["-v", "kept:/keep"], &["write", "/keep/x", "kept"]).exits(0);
    let out = does(
        &host,
        "tar-p2",
        &["--mount", "type=volume,src=kept,dst=/keep,readonly", "-v", &bind],
        &[
            "read", "/keep/x", "--", "write", "/keep/x", "no", "--", "read", "/etc/one", "--", "append",
            "/etc/one", "x",
        ],
    );
    let out = out.exits(0).stdout;
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!((lines[0], lines[2]), ("kept", "one file"), "{out}");
    assert!(lines[1].starts_with("error") && lines[3].starts_with("error"), "{out}");
    assert_eq!(text(&file), "one file");
}

#[test]
fn memory_has_a_quota_and_a_read_only_root_is_one() {
    require!(root, registry);
    let host = Host::new();
    let flags = ["--read-only", "--tmpfs", "/tmp:size=1m"];
    let steps = [
        "write",
        "/new",
        "no",
        "--",
        "fill",
        "/tmp/small",
        "500000",
        "--",
        "fill",
        "/tmp/large",
        "5000000",
        "--",
        "read",
        "/nothing",
    ];
    for tag in ["tar-p1", "tar-p2"] {
        let out = does(&host, tag, &flags, &steps).exits(0).stdout;
        let lines: Vec<&str> = out.lines().collect();
        assert!(lines[0].starts_with("error"), "{tag}: {out}");
        assert!(lines[1] == "filled" && lines[2].starts_with("error"), "{tag}: {out}");
        assert_eq!(lines[3], "error NotFound", "{tag}: {out}");
    }
}

#[test]
fn no_way_leads_out_of_a_mount() {
    require!(root, registry);
    let host = Host::new();
    let dir = host.dir().join("given");
    fs::create_dir(&dir).expect("a folder");
    fs::write(host.dir().join("secret"), "secret").expect("a file");
    let link = |to: &Path, name: &str| std::os::unix::fs::symlink(to, dir.join(name)).expect("a link");
    link(&host.dir().join("secret"), "absolute");
    link(Path::new("../secret"), "relative");
    link(Path::new(".."), "up");
    link(Path::new("/proc/self/cwd/etc/hostname"), "magic");
    let bind = format!("{}:/given", dir.display());
    let paths =
        ["absolute", "relative", "up/secret", "up/", "magic", "../given/../../secret", "./up/../up/secret"];
    let mut steps: Vec<String> = Vec::new();
    for path in paths {
        steps.extend(["read".to_owned(), format!("/given/{path}"), "--".to_owned()]);
        steps.extend(["write".to_owned(), format!("/given/{path}"), "owned".to_owned(), "--".to_owned()]);
    }
    let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
    for tag in ["tar-p1", "tar-p2"] {
        let out = does(&host, tag, &["-v", &bind], &steps[..steps.len() - 1]).exits(0).stdout;
        assert!(out.lines().all(|line| line.starts_with("error")), "{tag}: {out}");
        assert_eq!(text(host.dir().join("secret")), "secret");
    }
}

#[test]
fn only_what_is_named_is_reached() {
    require!(root, registry);
    let host = Host::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.write_all(b"reached");
        }
    });
    let port = address.rsplit(':').next().expect("a port").to_owned();
    let named = format!("localhost:{port}");
    for (rule, expected) in [
        (None, "error PermissionDenied"),
        (Some("127.0.0.1:1"), "error PermissionDenied"),
        (Some("10.0.0.0/8"), "error PermissionDenied"),
        (Some(address.as_str()), "reached"),
        (Some("127.0.0.0/8"), "reached"),
        (Some(named.as_str()), "reached"),
        (Some("*"), "reached"),
    ] {
        let flags: Vec<&str> = rule.into_iter().flat_map(|rule| ["--allow-net", rule]).collect();
        let out = does(&host, "artifact-p2", &flags, &["connect", &address]).exits(0).stdout;
        assert_eq!(out.trim_end(), expected, "{rule:?}");
    }
    let out = does(&host, "artifact-p2", &["--network", "host"], &["connect", &address]).exits(0).stdout;
    assert_eq!(out.trim_end(), "reached");
    for (flags, resolved) in
        [(&[][..], false), (&["--allow-net", "10.0.0.0/8"], false), (&["--allow-net", "localhost"], true)]
    {
        let out = does(&host, "artifact-p2", flags, &["resolve", "localhost"]).exits(0).stdout;
        assert_eq!(out.trim_end() == "resolved true", resolved, "{flags:?} {out}");
    }
    let out = does(&host, "artifact-p2", &[], &["answer", "127.0.0.1:0"]).exits(0).stdout;
    assert!(out.starts_with("error"), "{out}");
    let refused = does(&host, "artifact-p2", &["--allow-net", "*.example.com"], &["env", "A"]).exits(125);
    assert!(refused.stderr.contains("names no destination"), "{refused:?}");
}

#[test]
fn memory_over_the_limit_kills_as_dockers_does() {
    require!(root, registry);
    let host = Host::new();
    for tag in ["artifact-p1", "artifact-p2"] {
        let image = image("does", tag);
        let args = ["run", "--name", tag, "--memory", "32m", "--platform", "wasi/wasm", &image, "grow", "64"];
        host.umiak(&args).exits(137);
        let state = host.umiak(&["inspect", "-f", "{{.State.OOMKilled}} {{.State.ExitCode}}", tag]).exits(0);
        assert_eq!(state.text(), "true 137");
        does(&host, tag, &["--memory", "64m"], &["grow", "16"]).exits(0);
    }
}

#[test]
fn fuel_is_counted_and_runs_out_at_the_same_place() {
    require!(root, registry);
    let host = Host::new();
    let burn = |fuel: &str| does(&host, "artifact-p1", &["--fuel", fuel], &["count"]);
    let (one, two) = (burn("300000000").exits(134), burn("300000000").exits(134));
    assert!(!one.stdout.is_empty() && one.stdout == two.stdout, "{one:?} {two:?}");
    assert!(one.stderr.contains("fuel"), "{one:?}");
    assert!(burn("900000000").exits(134).stdout.len() > one.stdout.len());
}

#[test]
fn files_that_are_open_have_a_limit() {
    require!(root, registry);
    let host = Host::new();
    let out = does(&host, "artifact-p2", &["--ulimit", "nofile=100"], &["open", "/module.wasm", "1000"]);
    assert!(out.status != 0 || !out.stdout.contains("opened"), "{out:?}");
    let out = does(&host, "artifact-p2", &["--ulimit", "nofile=1000"], &["open", "/module.wasm", "100"]);
    assert_eq!(out.exits(0).text(), "opened 100");
}

#[test]
fn a_container_is_paused_and_tells_what_it_uses() {
    require!(root, registry);
    let host = Host::new();
    let image = image("does", "artifact-p1");
    host.umiak(&["run", "-d", "--name", "cc", "--platform", "wasi/wasm", &image, "count"]).exits(0);
    let said = || host.umiak(&["logs", "cc"]).exits(0).stdout.len();
    let moves = |from: usize| {
        (0..500).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(20));
            said() > from
        })
    };
    assert!(moves(0));
    host.umiak(&["pause", "cc"]).exits(0);
    assert_eq!(host.umiak(&["inspect", "-f", "{{.State.Status}}", "cc"]).exits(0).text(), "paused");
    host.umiak(&["exec", "cc", "/module.wasm", "env", "A"]).fails(1, &["paused"]);
    // What was said before has been read by now; nothing is added.
    std::thread::sleep(std::time::Duration::from_millis(200));
    let before = said();
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(said(), before);
    host.umiak(&["unpause", "cc"]).exits(0);
    assert!(moves(before));
    let stats =
        host.umiak(&["stats", "--no-stream", "--format", "{{.MemUsage}} {{.PIDs}}", "cc"]).exits(0).stdout;
    assert!(stats.contains("MiB") && stats.contains("4GiB"), "{stats}");
    host.umiak(&["rm", "-f", "cc"]).exits(0);
}

#[test]
fn another_program_or_function_runs_beside_the_first() {
    require!(root, registry);
    let host = Host::new();
    let image = image("does", "tar-p1");
    let run =
        ["run", "-d", "--name", "cc", "-e", "A=b", "--platform", "wasi/wasm", &image, "sleep", "600000"];
    host.umiak(&run).exits(0);
    let exec = |args: &[&str]| host.umiak(&[&["exec"], args].concat());
    assert_eq!(
        exec(&["cc", "/app.wasm", "write", "/x", "shared", "--", "env", "A"]).exits(0).stdout,
        "written\nb\n"
    );
    assert_eq!(
        exec(&["-e", "A=c", "cc", "app.wasm", "read", "/x", "--", "env", "A"]).exits(0).stdout,
        "shared\nc\n"
    );
    exec(&["cc", "/app.wasm", "exit", "9"]).exits(9);
    exec(&["cc", "/gone.wasm"]).exits(127);
    exec(&["cc", "/x"]).exits(126);
    exec(&["--user", "1", "cc", "/app.wasm"]).fails(1, &["--user"]);
    host.umiak(&["rm", "-f", "cc"]).exits(0);
}

#[test]
fn a_health_check_is_a_program_of_the_image() {
    require!(root, registry);
    let host = Host::new();
    let image = image("does", "tar-p1");
    let args = [
        "run",
        "-d",
        "--name",
        "cc",
        "--platform",
        "wasi/wasm",
        "--health-interval",
        "100ms",
        "--health-cmd",
        "none",
        &image,
        "sleep",
        "600000",
    ];
    // A shell there is none; a check must name a program.
    host.umiak(&args).exits(0);
    let status =
        || host.umiak(&["inspect", "-f", "{{.State.Health.Status}}", "cc"]).exits(0).text().to_owned();
    while status() == "starting" {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(status(), "unhealthy");
    host.umiak(&["rm", "-f", "cc"]).exits(0);
}

#[test]
fn what_a_sandbox_has_no_meaning_for_is_refused_by_name() {
    require!(root, registry);
    let host = Host::new();
    for (flags, word) in [
        (&["--user", "1"][..], "--user"),
        (&["--cap-add", "ALL"], "--cap-add"),
        (&["--privileged"], "--privileged"),
        (&["--cpu-shares", "5"], "--cpu-shares"),
        (&["--memory-reservation", "7m"], "--memory-reservation"),
        (&["--ulimit", "core=0"], "--ulimit"),
        (&["--pid", "host"], "--pid"),
    ] {
        does(&host, "artifact-p1", flags, &["env", "A"]).fails(125, &[word]);
    }
    let image = format!("{}/library/busybox", registry::address());
    for flags in [["--allow-net", "*"], ["--fuel", "5"]] {
        host.umiak(&["run", "--rm", flags[0], flags[1], &image, "true"]).fails(125, &[flags[0]]);
    }
}

#[test]
fn a_command_of_the_newest_wasi_runs() {
    require!(root, registry);
    let host = Host::new();
    let image = image("run3", "artifact-p3");
    let run = |flags: &[&str], args: &[&str]| {
        let base = ["run", "--rm", "--platform", "wasi/wasm"];
        host.umiak(&[&base, flags, &[image.as_str()], args].concat())
    };
    let out = run(&["-v", "vv:/data:ro"], &["one", "two"]).exits(0).stdout;
    assert_eq!(out, "arguments one two\ndirectory / true\ndirectory /data false\n");
    run(&[], &["fail"]).exits(1);
    run(&[], &["exit"]).exits(1);
    let trap = run(&[], &["trap"]).exits(134);
    assert!(trap.stderr.contains("wasm backtrace") && trap.stderr.contains("asked to trap"), "{trap:?}");
}

#[test]
fn the_process_around_a_guest_is_confined_for_good() {
    require!(root, registry);
    let host = Host::new();
    let image = image("does", "tar-p1");
    let base = ["run", "-d", "--platform", "wasi/wasm"];
    host.umiak(&[&base[..], &["--name", "cc", "-v", "vv:/data", &image, "sleep", "600000"]].concat())
        .exits(0);
    let pid = host.umiak(&["inspect", "-f", "{{.State.Pid}}", "cc"]).exits(0).text().to_owned();
    let mut apart = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task")).expect("threads").flatten() {
        let status = text(thread.path().join("status"));
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.map(|value| value.trim().to_owned()).unwrap_or_default()
        };
        assert_eq!((field("NoNewPrivs:"), field("Seccomp:")), ("1".to_owned(), "2".to_owned()), "{status}");
        if field("Name:") == "wasm" {
            let held = u64::from_str_radix(&field("CapEff:"), 16).expect("bits");
            assert_eq!(held & !0x41b, 0, "only what files and low ports need: {held:x}");
            for (kind, apart) in [("mnt", true), ("ipc", true), ("uts", true), ("net", false)] {
                let space =
                    |task: &str| fs::read_link(format!("/proc/{pid}/{task}ns/{kind}")).expect("a namespace");
                let thread = format!("task/{}/", thread.file_name().to_string_lossy());
                assert_eq!(space(&thread) != space(""), apart, "{kind}");
            }
            let root = fs::read_dir(thread.path().join("root")).expect("a root");
            let root: Vec<_> = root.flatten().map(|entry| entry.file_name()).collect();
            assert_eq!(root, ["proc"], "it sees nothing of the host");
            apart += 1;
        }
    }
    assert_eq!(apart, 1);
    let walls = host.umiak(&["info", "-f", "{{json .WasmWalls}}"]).exits(0).stdout;
    assert!(walls.contains("seccomp") && walls.contains("namespaces"), "{walls}");
    let around = || host.umiak(&["inspect", "-f", "{{json .Executor.Walls}}", "cc"]).exits(0).stdout;
    assert_eq!(around(), walls, "what this host can have it has");
    assert!(!text("/proc/self/mounts").contains("/proc/self/fd"), "nothing of it is on the host");
    host.umiak(&["kill", "cc"]).exits(0);
    host.umiak(&["wait", "cc"]).exits(0);
    assert_eq!(around(), "[]\n", "nothing runs that it could stand around");
    host.umiak(&["rm", "-f", "cc"]).exits(0);
    // What mounts nothing any more starts again all the same.
    let again = ["--name", "dd", "--restart", "on-failure:2", "-v", "vv:/data", &image, "exit", "3"];
    host.umiak(&[&base[..], &again[..]].concat()).exits(0);
    assert_eq!(host.umiak(&["wait", "dd"]).exits(0).text(), "3");
    assert_eq!(host.umiak(&["inspect", "-f", "{{.RestartCount}}", "dd"]).exits(0).text(), "2");
    host.umiak(&["rm", "-fv", "dd"]).exits(0);
}

#[test]
fn the_image_and_the_container_tell_what_is_asked_and_what_was_granted() {
    require!(root, registry);
    let host = Host::new();
    let image = image("serve2", "artifact-p2");
    host.umiak(&["pull", "--platform", "wasi/wasm", &image]).exits(0);
    let out = host.umiak(&["image", "inspect", "-f", "{{json .Wasm}}", &image]).exits(0).stdout;
    for word in [
        "\"Kind\":\"component\"",
        "\"Role\":\"server\"",
        "wasi:http/incoming-handler@0.2",
        "--publish",
        "--allow-net",
    ] {
        assert!(out.contains(word), "no {word} in {out}");
    }
    assert!(out.contains("\"Missing\":[]"), "{out}");
    let flags =
        ["--name", "cc", "--platform", "wasi/wasm", "--allow-net", "10.0.0.0/8:80", "-v", "vv:/data:ro"];
    host.umiak(&[&["create"][..], &flags[..], &[&image]].concat()).exits(0);
    let out = host.umiak(&["inspect", "-f", "{{json .Grants}}", "cc"]).exits(0).stdout;
    for word in ["\"Connect\":[\"10.0.0.0/8:80\"]", "\"Listen\":[]", "\"Path\":\"/data\",\"ReadOnly\":true"] {
        assert!(out.contains(word), "no {word} in {out}");
    }
}
