//! Networks that users make.

use super::{asked_from, bare, detached, field, host, page};
use crate::support::require;

#[test]
fn networks_are_made_listed_shown_and_removed() {
    require!(root, registry, net);
    let (host, image) = host();
    let id = host.umiak(&["network", "create", "--label", "a=b", "front"]).exits(0).text().to_owned();
    assert!(id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    let made = [
        "network",
        "create",
        "--subnet",
        "10.5.0.0/24",
        "--gateway",
        "10.5.0.254",
        "--ip-range",
        "10.5.0.128/25",
        "--aux-address",
        "router=10.5.0.128",
        "--ipv6",
        "--internal",
        "-o",
        "com.docker.network.bridge.name=mybridge",
        "back",
    ];
    host.umiak(&made).exits(0);
    let list = host.umiak(&["network", "ls", "--format", "{{.Name}} {{.Driver}} {{.Scope}}"]).exits(0);
    assert_eq!(
        list.stdout,
        "back bridge local\nbridge bridge local\nfront bridge local\nhost host local\nnone null local\n"
    );
    let custom =
        host.umiak(&["network", "ls", "-q", "--filter", "type=custom", "--filter", "label=a"]).exits(0);
    assert_eq!(custom.text(), &id[..12]);
    let shown = host
        .umiak(&["network", "inspect", "-f", "{{json .IPAM.Config}} {{.Internal}} {{.EnableIPv6}}", "back"])
        .exits(0);
    for part in [
        "\"Subnet\":\"10.5.0.0/24\"",
        "\"Gateway\":\"10.5.0.254\"",
        "\"IPRange\":\"10.5.0.128/25\"",
        "\"router\":\"10.5.0.128\"",
        "true true",
    ] {
        assert!(shown.stdout.contains(part), "{part}: {}", shown.stdout);
    }
    let run = |flags: &[&str]| host.umiak(&[&["run", "--rm"], flags, &[&image, "ip", "-o", "addr"]].concat());
    let own = run(&["--network", "back"]).exits(0).stdout;
    assert!(own.contains("10.5.0.129/24") && own.contains("inet6 fd"), "{own}");
    assert!(run(&["--network", "back", "--ip", "10.5.0.7"]).exits(0).stdout.contains("10.5.0.7/24"));
    run(&["--network", "back", "--ip", "10.6.0.7"])
        .fails(125, &["no configured subnet contains IP address 10.6.0.7"]);
    run(&["--network", "front", "--ip", "172.18.0.9"]).fails(125, &["user configured subnets"]);
    run(&["--network", "back", "--ip", "10.5.0.254"]).fails(125, &["10.5.0.254"]);
    for (args, words) in [
        (&["network", "create", "front"][..], &["network with name front already exists"][..]),
        (&["network", "create", "a b"], &["invalid network name"]),
        (&["network", "create", "--subnet", "10.5.0.0/16", "x"], &["Pool overlaps", "10.5.0.0/24"]),
        (&["network", "create", "--subnet", "nonsense", "x"], &["invalid subnet nonsense"]),
        (&["network", "create", "-d", "moon", "x"], &["could not find plugin moon"]),
        (&["network", "rm", "bridge"], &["bridge is a pre-defined network and cannot be removed"]),
        (&["network", "rm", "moon"], &["network moon not found"]),
        (&["network", "inspect", "moon"], &["network moon not found"]),
    ] {
        host.umiak(args).fails(1, words);
    }
    detached(&host, &["--name", "one", "--network", "front", "--network", "back"], "exec sleep 1000");
    host.umiak(&["network", "rm", "front"]).fails(1, &["network front has active endpoints", "one"]);
    assert_eq!(host.umiak(&["network", "prune", "-f"]).exits(0).stdout, "");
    assert!(host.space().sh("ip -o link show type bridge").contains("mybridge"));
    host.umiak(&["stop", "-t", "0", "one"]).exits(0);
    let pruned = host.umiak(&["system", "prune", "-f"]).exits(0).stdout;
    assert!(pruned.contains("Deleted Networks:\nback\nfront\n"), "{pruned}");
    bare(&host);
}

#[test]
fn a_container_that_runs_is_connected_and_disconnected() {
    require!(root, registry, net);
    let (host, _) = host();
    host.umiak(&["network", "create", "--subnet", "10.5.0.0/24", "front"]).exits(0);
    page(&host, &["--name", "web", "-p", "8080:80"]);
    detached(&host, &["--name", "client", "--network", "front"], "exec sleep 1000");
    let own = field(&host, "web", "{{.NetworkSettings.IPAddress}}");
    assert_eq!(asked_from(&host, "client", &format!("{own}:80")), None, "networks are apart");
    host.umiak(&["network", "connect", "--ip", "10.5.0.77", "--alias", "www", "front", "web"]).exits(0);
    host.umiak(&["network", "connect", "front", "web"])
        .fails(1, &["endpoint with name web already exists in network front"]);
    assert_eq!(asked_from(&host, "client", "10.5.0.77:80").as_deref(), Some("10.5.0.2"));
    assert_eq!(field(&host, "web", "{{.NetworkSettings.Networks.front.IPAddress}}"), "10.5.0.77");
    // The port leads there now, and so does the way out.
    host.umiak(&["network", "disconnect", "bridge", "web"]).exits(0);
    assert!(super::asked(host.space(), "127.0.0.1:8080").is_some());
    let route = host.umiak(&["exec", "web", "ip", "route"]).exits(0).stdout;
    assert!(route.starts_with("default via 10.5.0.1"), "{route}");
    host.umiak(&["network", "disconnect", "bridge", "web"])
        .fails(1, &["container web is not connected to network bridge"]);
    host.umiak(&["network", "disconnect", "front", "web"]).exits(0);
    assert_eq!(asked_from(&host, "client", "10.5.0.77:80"), None);
    assert_eq!(host.umiak(&["exec", "web", "ls", "/sys/class/net"]).exits(0).stdout, "lo\n");
    // One that does not run is connected for its next start.
    host.umiak(&["stop", "-t", "0", "web"]).exits(0);
    host.umiak(&["network", "connect", "front", "web"]).exits(0);
    host.umiak(&["start", "web"]).exits(0);
    assert_eq!(field(&host, "web", "{{.NetworkSettings.Networks.front.IPAddress}}"), "10.5.0.3");
    host.umiak(&["rm", "-f", "web", "client"]).exits(0);
    host.umiak(&["network", "rm", "front"]).exits(0);
    bare(&host);
}

#[test]
fn a_pool_is_used_up_and_freed_addresses_come_back() {
    require!(root, registry, net);
    let (host, image) = host();
    host.umiak(&["network", "create", "--subnet", "10.5.0.0/29", "small"]).exits(0);
    for number in 2..=6 {
        detached(&host, &["--name", &format!("c{number}"), "--network", "small"], "exec sleep 1000");
    }
    host.umiak(&["run", "--rm", "--network", "small", &image, "true"])
        .fails(125, &["no available IPv4 addresses on this network's address pools: small"]);
    host.umiak(&["run", "--rm", "--network", "small", "--ip", "10.5.0.4", &image, "true"])
        .fails(125, &["Address already in use: 10.5.0.4"]);
    host.umiak(&["kill", "c4"]).exits(0);
    let out = host.umiak(&["run", "--rm", "--network", "small", &image, "ip", "-o", "-4", "addr"]).exits(0);
    assert!(out.stdout.contains("10.5.0.4/29"), "{}", out.stdout);
    host.umiak(&["rm", "-f", "c2", "c3", "c4", "c5", "c6"]).exits(0);
    bare(&host);
}
