//! `create`, `update`, `rename`, `port`, and what `inspect` shows of flags.

use crate::support::host::Host;
use crate::support::{registry, require};

fn created(host: &Host, flags: &[&str]) -> String {
    let image = registry::busybox();
    let mut args = vec!["create"];
    args.extend(flags);
    args.extend([image.as_str(), "true"]);
    let id = host.umiak(&args).exits(0).text().to_owned();
    assert_eq!(id.len(), 64, "{id}");
    id
}

fn shown(host: &Host, name: &str, template: &str) -> String {
    host.umiak(&["inspect", "-f", template, name]).exits(0).text().to_owned()
}

#[test]
fn created_containers_show_their_flags() {
    require!(root, registry);
    let host = Host::new();
    let flags = [
        "--name",
        "one",
        "-m",
        "10m",
        "--cpus",
        "0.5",
        "--cap-add",
        "net_admin",
        "-v",
        "/tmp:/x:ro",
        "--restart",
        "on-failure:3",
        "--health-cmd",
        "true",
        "--expose",
        "80",
        "--security-opt",
        "no-new-privileges",
        "--domainname",
        "d",
        "--stop-timeout",
        "3",
        "--ulimit",
        "nofile=5:6",
        "--pid",
        "host",
    ];
    let id = created(&host, &flags);
    for (template, wanted) in [
        ("{{.State.Status}} {{.Name}}", "created /one"),
        (
            "{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}} {{.HostConfig.NanoCpus}}",
            "10485760 20971520 500000000",
        ),
        ("{{json .HostConfig.CapAdd}} {{json .HostConfig.CapDrop}}", "[\"CAP_NET_ADMIN\"] null"),
        ("{{json .HostConfig.Binds}} {{.HostConfig.PidMode}}", "[\"/tmp:/x:ro\"] host"),
        ("{{(index .Mounts 0).Mode}} {{(index .Mounts 0).RW}}", "ro false"),
        ("{{json .HostConfig.RestartPolicy}}", "{\"MaximumRetryCount\":3,\"Name\":\"on-failure\"}"),
        ("{{json .Config.Healthcheck}}", "{\"Test\":[\"CMD-SHELL\",\"true\"]}"),
        ("{{json .Config.ExposedPorts}} {{.Config.StopTimeout}}", "{\"80/tcp\":{}} 3"),
        ("{{json .HostConfig.SecurityOpt}} {{.Config.Domainname}}", "[\"no-new-privileges\"] d"),
    ] {
        assert_eq!(shown(&host, &id, template), wanted, "{template}");
    }
    host.umiak(&["rm", "one"]).exits(0);
}

#[test]
fn refused_flags_make_nothing() {
    require!(root, registry);
    let host = Host::new();
    let image = registry::busybox();
    for (flags, status, words) in [
        (&["-m", "5m"][..], 1, "Minimum memory limit allowed is 6MB"),
        (&["-m", "-1"], 125, "invalid argument \"-1\" for \"--memory\" flag: invalid size: '-1'"),
        (&["--cap-add", "bogus"], 125, "invalid CapAdd: unknown capability: \"CAP_BOGUS\""),
        (&["-v", "/tmp:/x", "--tmpfs", "/x"], 1, "Duplicate mount point: /x"),
        (&["--mount", "type=bind,src=/tmp"], 125, "target is required"),
        (&["-p", "80:x"], 125, "invalid containerPort: x"),
        (&["--security-opt", "seccomp=/nope"], 125, "opening seccomp profile (/nope) failed"),
    ] {
        let mut args = vec!["create"];
        args.extend(flags);
        args.extend([image.as_str(), "true"]);
        let out = host.umiak(&args).exits(status);
        assert!(out.stderr.contains(words) && !out.stderr.contains("panicked"), "{flags:?}: {}", out.stderr);
        args[0] = "run";
        host.umiak(&args).exits(125);
    }
    assert_eq!(host.umiak(&["ps", "-aq"]).exits(0).stdout, "");
}

#[test]
fn names_change_and_stay_unique() {
    require!(root, registry);
    let host = Host::new();
    let one = created(&host, &["--name", "one"]);
    created(&host, &["--name", "two"]);
    assert_eq!(host.umiak(&["rename", "one", "three"]).exits(0).stdout, "");
    assert_eq!(shown(&host, "three", "{{.Id}}"), one);
    host.umiak(&["rename", "one", "four"]).fails(1, &["one"]);
    host.umiak(&["rename", "three", "two"]).fails(1, &["two", "in use"]);
    host.umiak(&["rename", "three", "three"]).fails(1, &["same name as its current name"]);
    host.umiak(&["rename", "three", "a b"]).fails(1, &["Invalid container name (a b)"]);
    created(&host, &["--name", "one"]);
    host.umiak(&["rm", "one", "two", "three"]).exits(0);
}

#[test]
fn no_port_is_published() {
    require!(root, registry);
    let host = Host::new();
    created(&host, &["--name", "one"]);
    assert_eq!(host.umiak(&["port", "one"]).exits(0).stdout, "");
    host.umiak(&["port", "one", "80"]).fails(1, &["No public port '80' published for one"]);
    host.umiak(&["port", "one", "x"]).fails(1, &["invalid port (x)"]);
    host.umiak(&["port", "nope"]).fails(1, &["nope"]);
    host.umiak(&["rm", "one"]).exits(0);
}

#[test]
fn limits_change_by_dockers_rules() {
    require!(root, registry);
    let host = Host::new();
    created(&host, &["--name", "one", "-m", "10m", "--cpus", "1"]);
    host.umiak(&["update", "one"]).fails(1, &["you must provide one or more flags"]);
    host.umiak(&["update", "-m", "100m", "one"]).fails(1, &["already set memoryswap limit"]);
    host.umiak(&["update", "--cpu-quota", "5000", "one"]).fails(1, &["NanoCPUs has already been set"]);
    let out = host.umiak(&["update", "-m", "8m", "--pids-limit", "7", "--restart", "always", "one"]).exits(0);
    assert_eq!(out.stdout, "one\n");
    let template = "{{.HostConfig.Memory}} {{.HostConfig.PidsLimit}} {{.HostConfig.RestartPolicy.Name}}";
    assert_eq!(shown(&host, "one", template), "8388608 7 always");
    host.umiak(&["rm", "one"]).exits(0);
}

#[test]
fn top_shows_the_processes() {
    require!(root, registry);
    let host = Host::new();
    let id = super::detached(&host, &["--name", "one"], &["sleep", "1000"]);
    let out = host.umiak(&["top", "one"]).exits(0);
    assert!(out.stdout.starts_with("UID ") && out.stdout.lines().count() == 2, "{}", out.stdout);
    assert!(out.stdout.contains("sleep 1000"), "{}", out.stdout);
    assert!(host.umiak(&["top", "one", "-o", "pid,comm"]).exits(0).stdout.starts_with("PID "));
    host.umiak(&["top", "one", "-o", "comm"]).fails(1, &["Couldn't find PID field in ps output"]);
    host.umiak(&["rm", "-f", &id]).exits(0);
    host.umiak(&["top", "one"]).fails(1, &["one"]);
}

#[test]
fn stats_show_running_containers() {
    require!(root, registry);
    let host = Host::new();
    let id = super::detached(&host, &["--name", "one"], &["sleep", "1000"]);
    created(&host, &["--name", "idle"]);
    let out = host.umiak(&["stats", "--no-stream"]).exits(0);
    assert!(out.stdout.starts_with("CONTAINER ID   NAME "), "{}", out.stdout);
    assert!(out.stdout.contains("one") && !out.stdout.contains("idle"), "{}", out.stdout);
    let out =
        host.umiak(&["stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}}", "one", "idle"]).exits(0);
    assert_eq!(out.stdout, "one 1\nidle 0\n");
    host.umiak(&["stats", "--no-stream", "nope"]).fails(1, &["nope"]);
    host.umiak(&["rm", "-f", &id, "idle"]).exits(0);
}

#[test]
fn stats_and_top_of_what_does_not_run() {
    require!(root, registry);
    let host = Host::new();
    created(&host, &["--name", "idle"]);
    let out = host.umiak(&["stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}} {{.PIDs}}", "idle"]);
    assert_eq!(out.exits(0).stdout, "idle 0B / 0B 0\n");
    host.umiak(&["stats", "--no-stream", "nope"]).fails(1, &["nope"]);
    host.umiak(&["top", "idle"]).fails(1, &["idle", "not running"]);
    host.umiak(&["rm", "idle"]).exits(0);
}
