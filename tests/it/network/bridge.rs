//! The network that is always there.

use std::collections::BTreeSet;

use super::{bare, detached, field, host};
use crate::support::require;

#[test]
fn the_default_network_is_there_while_a_container_is() {
    require!(root, registry, net);
    let (host, image) = host();
    assert_eq!(
        host.space().sh("ip -o link | wc -l; nft list tables"),
        "1",
        "a network comes up when it is needed"
    );
    let out = host.umiak(&["run", "--rm", &image, "ip", "-o", "-4", "addr", "show", "eth0"]).exits(0);
    assert!(out.stdout.contains("172.17.0.2/16"), "{}", out.stdout);
    bare(&host);
    let id = detached(&host, &["--name", "one", "--expose", "90-91"], "exec sleep 1000");
    for (template, value) in [
        ("{{.HostConfig.NetworkMode}}", "bridge"),
        ("{{.NetworkSettings.IPAddress}}", "172.17.0.2"),
        ("{{.NetworkSettings.Networks.bridge.Gateway}}", "172.17.0.1"),
        ("{{.NetworkSettings.Networks.bridge.IPPrefixLen}}", "16"),
        ("{{.NetworkSettings.MacAddress}}", "02:42:ac:11:00:02"),
        ("{{json .NetworkSettings.Ports}}", "{\"90/tcp\":null,\"91/tcp\":null}"),
    ] {
        assert_eq!(field(&host, "one", template), value, "{template}");
    }
    let ps = host.umiak(&["ps", "--format", "{{.Ports}} {{.Networks}}"]).exits(0);
    assert_eq!(ps.text(), "90-91/tcp bridge");
    let seen = host.umiak(&["network", "inspect", "-f", "{{json .Containers}}", "bridge"]).exits(0);
    assert!(seen.stdout.contains(&id) && seen.stdout.contains("172.17.0.2/16"), "{}", seen.stdout);
    // It reaches the host, and itself by its address; the default route is there.
    let route = host.umiak(&["exec", "one", "ip", "route"]).exits(0);
    assert!(route.stdout.starts_with("default via 172.17.0.1 dev eth0"), "{}", route.stdout);
    host.umiak(&["exec", "one", "ping", "-c", "1", "-W", "2", "172.17.0.1"]).exits(0);
    let stats = host.umiak(&["stats", "--no-stream", "--format", "{{.NetIO}}", "one"]).exits(0);
    assert!(!stats.text().starts_with("0B / 0B"), "{}", stats.stdout);
    host.umiak(&["restart", "-t", "0", "one"]).exits(0);
    host.umiak(&["exec", "one", "ping", "-c", "1", "-W", "2", "172.17.0.1"]).exits(0);
    host.umiak(&["rm", "-f", "one"]).exits(0);
    bare(&host);
}

#[test]
fn a_restart_by_policy_keeps_the_address_and_connects_again() {
    require!(root, registry, net);
    let (host, _) = host();
    let script = "ping -c 1 -W 2 172.17.0.1 >/dev/null && echo reached; ip -o -4 addr show eth0 | grep -c 172.17.0.2/16; exit 1";
    detached(&host, &["--name", "one", "--restart", "on-failure:2"], script);
    crate::cli::until("the last run ends", || {
        field(&host, "one", "{{.State.Status}} {{.RestartCount}}") == "exited 2"
    });
    let logs = host.umiak(&["logs", "one"]).exits(0);
    assert_eq!(logs.stdout, "reached\n1\n".repeat(3));
    host.umiak(&["rm", "one"]).exits(0);
    bare(&host);
}

#[test]
fn the_gateway_keeps_its_hardware_address_while_containers_come_and_go() {
    require!(root, registry, net);
    let (host, _) = host();
    detached(&host, &["--name", "one"], "exec sleep 1000");
    let address = || host.space().sh("ip -o link show type bridge | grep -o 'ether [0-9a-f:]*'");
    let first = address();
    // The kernel chooses those of the containers' devices: one of many would be lower.
    for _ in 0..12 {
        detached(&host, &[], "exec sleep 1000");
        assert_eq!(address(), first);
    }
    let ids = host.umiak(&["ps", "-q"]).exits(0).stdout;
    host.umiak(&[&["rm", "-f"][..], &ids.lines().collect::<Vec<_>>()].concat()).exits(0);
    bare(&host);
}

#[test]
fn a_network_stays_for_a_moment_after_its_last_container() {
    require!(root, registry, net);
    let (host, image) = host();
    let run = || host.umiak(&["run", "--rm", &image, "true"]).exits(0);
    run();
    // Looked at at once, it is there; another start uses it, and the last one to end takes it down.
    let index = || host.space().sh("ip -o link show type bridge | cut -d: -f1");
    let before = index();
    run();
    assert!(before.is_empty() || before == index() || index().is_empty(), "the same one, or none any more");
    host.umiak(&["ps", "-a"]).exits(0);
    bare(&host);
    crate::cli::until("nothing is noted", || !host.dir().join("run/network.json").exists());
    // Whoever is killed while it stays leaves it to the next command.
    run();
    for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if text(&line).contains("__supervisor") && text(&environment).contains(&*host.dir().to_string_lossy())
        {
            let pid = entry.file_name().to_string_lossy().into_owned();
            let _ = std::process::Command::new("kill").args(["-KILL", &pid]).output();
        }
    }
    crate::cli::until("the next command takes it down", || {
        host.umiak(&["container", "prune", "-f"]).exits(0);
        !host.space().sh("ip -o link; nft list tables").contains("um")
    });
    // A network that is removed is gone at once.
    host.umiak(&["network", "create", "front"]).exits(0);
    host.umiak(&["run", "--rm", "--network", "front", &image, "true"]).exits(0);
    host.umiak(&["network", "rm", "front"]).exits(0);
    assert!(!host.space().sh("ip -o link").contains("um-"));
    bare(&host);
}

#[test]
fn modes_without_a_network_and_flags_for_the_host_side() {
    require!(root, registry, net);
    let (host, image) = host();
    let links = |flags: &[&str]| {
        let args = [&["run", "--rm"], flags, &[&image, "ls", "/sys/class/net"]].concat();
        host.umiak(&args).exits(0)
    };
    assert_eq!(links(&["--network", "none"]).stdout, "lo\n");
    assert_eq!(links(&["--network", "none", "-p", "80"]).stdout, "lo\n");
    let on_host = links(&["--network", "host", "-p", "80"]);
    assert!(
        on_host.stderr.contains("Published ports are discarded when using host network mode"),
        "{on_host:?}"
    );
    host.umiak(&["run", "--rm", "--network", "moon", &image, "true"]).fails(125, &["network moon not found"]);
    host.umiak(&["run", "--rm", "--ip", "172.17.0.9", &image, "true"])
        .fails(125, &["user specified IP address is supported on user defined networks only"]);
    host.umiak(&["run", "--rm", "--network-alias", "x", &image, "true"])
        .fails(125, &["network-scoped aliases are only supported for user-defined networks"]);
    assert_eq!(host.umiak(&["ps", "-aq"]).exits(0).stdout, "");
    bare(&host);
}

#[test]
fn a_subnet_that_the_host_uses_is_left_to_it() {
    require!(root, registry, net);
    let (host, image) = host();
    host.space()
        .sh("ip link add other type bridge; ip addr add 172.17.5.1/24 dev other; ip link set other up");
    let out = host.umiak(&["run", "--rm", &image, "ip", "-o", "-4", "addr", "show", "eth0"]).exits(0);
    assert!(out.stdout.contains("172.18.0.2/16"), "{}", out.stdout);
    // Chosen before the route came: it moves, since nobody chose it and nobody is there.
    host.space().sh("ip addr add 172.18.5.1/24 dev other");
    let out = host.umiak(&["run", "--rm", &image, "ip", "-o", "-4", "addr", "show", "eth0"]).exits(0);
    assert!(out.stdout.contains("172.19.0.2/16"), "{}", out.stdout);
    // One that the user chose does not.
    host.umiak(&["network", "create", "--subnet", "10.9.0.0/24", "mine"]).exits(0);
    host.space().sh("ip addr add 10.9.0.200/25 dev other");
    host.umiak(&["run", "--rm", "--network", "mine", &image, "true"])
        .fails(125, &["10.9.0.0/24", "10.9.0.128/25", "route"]);
    bare(&host);
}

#[test]
fn fifty_at_once_have_fifty_addresses() {
    require!(root, registry, net);
    let (host, image) = host();
    let mut children = Vec::new();
    for _ in 0..50 {
        let args = ["run", "-d", &image, "sleep", "1000"];
        children.push(host.command(&args).spawn().expect("umiak starts"));
    }
    for child in children {
        host.finish(child, &["run", "-d"]).exits(0);
    }
    let ids: Vec<String> = host.umiak(&["ps", "-q"]).exits(0).stdout.lines().map(str::to_owned).collect();
    assert_eq!(ids.len(), 50);
    let mut args = vec!["inspect", "-f", "{{.NetworkSettings.IPAddress}}"];
    args.extend(ids.iter().map(String::as_str));
    let addresses: BTreeSet<String> = host.umiak(&args).exits(0).stdout.lines().map(str::to_owned).collect();
    assert_eq!(addresses.len(), 50, "{addresses:?}");
    // All of them are reached.
    let list: Vec<&str> = addresses.iter().map(String::as_str).collect();
    host.space().sh(&format!(
        "for a in {}; do busybox ping -c 1 -W 2 $a >/dev/null || {{ echo $a; exit 1; }}; done",
        list.join(" ")
    ));
    let mut args = vec!["rm", "-f"];
    args.extend(ids.iter().map(String::as_str));
    host.umiak(&args).exits(0);
    bare(&host);
}
