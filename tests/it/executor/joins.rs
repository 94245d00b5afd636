//! Containers that share namespaces of others or of the host, by the command line.

use crate::support::host::Host;
use crate::support::{registry, require};

#[test]
fn a_network_is_shared_by_name_and_kept_by_id() {
    require!(root, registry);
    let (host, image) = (Host::new(), registry::busybox());
    host.umiak(&["run", "-d", "--name", "one", "-h", "boat", &image, "sleep", "1000"]).exits(0);
    let pid = host.umiak(&["inspect", "-f", "{{.State.Pid}}", "one"]).exits(0).text().to_owned();
    let theirs = std::fs::read_link(format!("/proc/{pid}/ns/net")).expect("a running container");
    let script = "readlink /proc/self/ns/net; hostname; cat /etc/hostname; echo own >> /etc/hosts";
    let shared = ["run", "--name", "two", "--network", "container:one", &image, "sh", "-c", script];
    let out = host.umiak(&shared).exits(0);
    assert_eq!(out.stdout, format!("{}\nboat\nboat\n", theirs.display()));
    let id = host.umiak(&["inspect", "-f", "{{.Id}}", "one"]).exits(0).text().to_owned();
    let mode =
        host.umiak(&["inspect", "-f", "{{.HostConfig.NetworkMode}}", "two"]).exits(0).text().to_owned();
    assert_eq!(mode, format!("container:{id}"));
    // Their names are one file.
    let again = ["run", "--rm", "--network", "container:one", &image, "grep", "-c", "own", "/etc/hosts"];
    assert_eq!(host.umiak(&again).exits(0).text(), "1");
    host.umiak(&["run", "--rm", "--network", "container:one", "-h", "other", &image, "true"])
        .fails(125, &["conflicting options: hostname and the network mode"]);
    host.umiak(&["run", "--rm", "--network", "container:nobody", &image, "true"])
        .fails(125, &["o such container: nobody"]);
    host.umiak(&["kill", "one"]).exits(0);
    host.umiak(&["run", "--rm", "--network", "container:one", &image, "true"])
        .fails(125, &["cannot join network namespace", "one", "not running"]);
    host.umiak(&["rm", "one", "two"]).exits(0);
    assert_eq!(host.umiak(&["ps", "-aq"]).exits(0).stdout, "");
}

#[test]
fn a_wasm_container_has_no_network_to_share() {
    require!(root, registry);
    let host = Host::new();
    let image = format!("{}/wasm/hello:artifact-p1", registry::address());
    host.umiak(&["run", "--rm", "--platform", "wasi/wasm", "--network", "container:x", &image])
        .fails(125, &["wasm", "share namespaces"]);
}

#[test]
fn processes_and_memory_are_shared_by_name() {
    require!(root, registry);
    let (host, image) = (Host::new(), registry::busybox());
    let script = "echo shared > /dev/shm/f; exec sleep 1000";
    host.umiak(&["run", "-d", "--name", "one", "--ipc", "shareable", &image, "sh", "-c", script]).exits(0);
    let look = [
        "--pid",
        "container:one",
        "--ipc",
        "container:one",
        &image,
        "sh",
        "-c",
        "cat /dev/shm/f /proc/1/comm",
    ];
    let run = |flags: &[&str]| host.umiak(&[&["run", "--rm"], flags].concat());
    assert_eq!(run(&look).exits(0).stdout, "shared\nsleep\n");
    for (flags, kind) in [(["--pid", "container:one"], "PID"), (["--ipc", "container:one"], "IPC")] {
        // Made while it runs, started when it does not.
        let args = [&["create"][..], &flags, &[&image, "true"]].concat();
        if kind == "PID" {
            host.umiak(&["kill", "one"]).exits(0);
        }
        let id = host.umiak(&args).exits(0).text().to_owned();
        host.umiak(&["start", &id]).fails(1, &["cannot join", kind, "one", "not running"]);
        host.umiak(&["rm", &id]).exits(0);
        run(&[&flags[..], &[&image, "true"]].concat()).fails(125, &["cannot join", kind, "not running"]);
    }
    host.umiak(&["rm", "one"]).exits(0);
    run(&["--pid", "container:one", &image, "true"]).fails(125, &["o such container: one"]);
    assert_eq!(host.umiak(&["ps", "-aq"]).exits(0).stdout, "");
}

#[test]
fn the_hosts_namespaces_and_a_reaper_by_flags() {
    require!(root, registry);
    let (host, image) = (Host::new(), registry::busybox());
    for (flag, kind) in [("--pid", "pid"), ("--ipc", "ipc"), ("--uts", "uts"), ("--cgroupns", "cgroup")] {
        let link = format!("/proc/self/ns/{kind}");
        let ours = std::fs::read_link(&link).expect("a namespace").to_string_lossy().into_owned();
        let see = |mode: &str| {
            let args = ["run", "--rm", flag, mode, &image, "readlink", &link];
            host.umiak(&args).exits(0).text().to_owned()
        };
        assert_eq!(see("host"), ours, "{flag}");
        assert_ne!(see(if ["pid", "uts"].contains(&kind) { "" } else { "private" }), ours, "{flag}");
    }
    host.umiak(&["run", "--rm", "--uts", "host", "-h", "x", &image, "true"])
        .fails(125, &["conflicting options: hostname and the UTS mode"]);
    let out = host.umiak(&["run", "--rm", "--init", &image, "sh", "-c", "cat /proc/1/comm; exit 6"]).exits(6);
    assert_eq!(out.stdout, "umiak-init\n");
    host.umiak(&["run", "--rm", "--init", &image, "nosuch"]).exits(127);
}
