//! Who reaches whom.

use super::{ANSWER, asked, asked_from, bare, detached, field, host, neighbour, page};
use crate::support::require;

#[test]
fn networks_are_apart_and_internal_ones_lead_nowhere() {
    require!(root, registry, net);
    let (host, _) = host();
    let other = neighbour(host.space());
    other.sh("ip route add 172.16.0.0/12 via 192.0.2.1");
    // Somebody else's page.
    let root = host.dir().join("www");
    std::fs::create_dir_all(root.join("cgi-bin")).expect("a folder");
    std::fs::write(root.join("cgi-bin/who"), ANSWER).expect("a page");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(root.join("cgi-bin/who"), mode).expect("its mode");
    let folder = root.to_string_lossy().into_owned();
    let mut theirs =
        other.command("busybox").args(["httpd", "-f", "-p", "80", "-h", &folder]).spawn().expect("busybox");
    // And one of the host's that listens on loopback alone.
    let mut local = host
        .space()
        .command("busybox")
        .args(["httpd", "-f", "-p", "127.0.0.1:7777", "-h", &folder])
        .spawn()
        .expect("busybox");
    for args in [
        &["front"][..],
        &["--internal", "inside"],
        &["-o", "com.docker.network.bridge.enable_icc=false", "apart"],
    ] {
        host.umiak(&[&["network", "create"], args].concat()).exits(0);
    }
    let one = |name: &str, network: &str| {
        page(&host, &["--name", name, "--network", network]);
        format!(
            "{}:80",
            field(&host, name, &format!("{{{{.NetworkSettings.Networks.{network}.IPAddress}}}}"))
        )
    };
    let front = one("aa", "front");
    let inside = [one("bb", "inside"), one("cc", "inside")];
    let apart = [one("dd", "apart"), one("ee", "apart")];
    detached(&host, &["--name", "xx", "--network", "front"], "exec sleep 1000");
    let reaches = |from: &str, to: &str| asked_from(&host, from, to).is_some();
    assert!(reaches("xx", &front) && reaches("bb", &inside[1]), "neighbours");
    assert!(
        !reaches("xx", &inside[0]) && !reaches("xx", &apart[0]) && !reaches("bb", &front),
        "networks are apart"
    );
    assert!(!reaches("dd", &apart[1]) && !reaches("ee", &apart[0]), "icc=false");
    // Out, by the host's address; not from inside.
    assert_eq!(asked_from(&host, "xx", "192.0.2.9:80").as_deref(), Some("192.0.2.1"));
    assert_eq!(asked_from(&host, "dd", "192.0.2.9:80").as_deref(), Some("192.0.2.1"));
    assert!(!reaches("bb", "192.0.2.9:80"), "internal");
    // Not in, but for published ports.
    assert!(
        asked(host.space(), &front).is_some()
            && asked(&other, &front).is_none()
            && asked(&other, &inside[0]).is_none()
    );
    // The host's loopback services are its own.
    assert!(asked(host.space(), "127.0.0.1:7777").is_some());
    let gateway = field(&host, "xx", "{{.NetworkSettings.Networks.front.Gateway}}");
    for address in [gateway.as_str(), "127.0.0.1"] {
        assert!(!reaches("xx", &format!("{address}:7777")), "{address}");
    }
    // A route of its own making does not help.
    let route = ["exec", "--privileged", "xx", "ip", "route", "add", "127.0.0.0/8", "via", &gateway];
    let _ = host.umiak(&route);
    assert!(!reaches("xx", "127.0.0.1:7777"));
    for program in [&mut theirs, &mut local] {
        program.kill().expect("killed");
        program.wait().expect("gone");
    }
    host.umiak(&["rm", "-f", "aa", "bb", "cc", "dd", "ee", "xx"]).exits(0);
    bare(&host);
}

#[test]
fn ipv6_has_addresses_of_its_own_and_published_ports() {
    require!(root, registry, net);
    let (host, _) = host();
    let other = neighbour(host.space());
    host.umiak(&["network", "create", "--subnet", "fd00:5::/64", "six"]).exits(0);
    page(&host, &["--name", "web", "--network", "six", "-p", "8080:80"]);
    assert_eq!(field(&host, "web", "{{.NetworkSettings.Networks.six.GlobalIPv6Address}}"), "fd00:5::2");
    assert!(asked(host.space(), "[fd00:5::2]:80").is_some());
    assert_eq!(
        asked(&other, "[2001:db8::1]:8080").as_deref(),
        Some("2001:db8::9"),
        "the client's address is kept"
    );
    assert!(asked(&other, "192.0.2.1:8080").is_some() && asked(host.space(), "[::1]:8080").is_some());
    host.umiak(&["rm", "-f", "web"]).exits(0);
    bare(&host);
}

#[test]
fn who_stands_in_the_way_is_named() {
    require!(root, registry, net);
    let (host, _) = host();
    let warned = || host.umiak(&["info"]).exits(0).stderr;
    assert_eq!(warned(), "");
    // As docker makes it, and others that let everything through, or see nothing of it.
    let chain = |table: &str, rest: &str| {
        host.space().sh(&format!("nft add table {table}; nft add chain {table} {rest}"))
    };
    chain("ip filter", "FORWARD '{ type filter hook forward priority 0; policy drop; }'");
    chain("ip filter", "INPUT '{ type filter hook input priority 0; policy drop; }'");
    chain("ip6 filter", "FORWARD '{ type filter hook forward priority 0; policy accept; }'");
    chain("ip filter", "DOCKER-USER");
    let said = warned();
    assert!(said.starts_with("WARNING: the chain FORWARD of the table ip filter drops"), "{said}");
    assert!(said.contains("iptables -I DOCKER-USER -i um+ -j ACCEPT") && said.lines().count() == 1, "{said}");
    let told = host.umiak(&["info", "-f", "{{len .Warnings}}"]).exits(0);
    assert_eq!((told.text(), told.stderr.as_str()), ("1", ""));
    // It is as it says. What the host itself is sent is another matter.
    host.space().sh("nft delete chain ip filter INPUT");
    let other = neighbour(host.space());
    page(&host, &["--name", "web", "-p", "8080:80"]);
    assert!(asked(host.space(), "127.0.0.1:8080").is_some() && asked(&other, "192.0.2.1:8080").is_none());
    for way in ["iifname", "oifname"] {
        host.space().sh(&format!("nft add rule ip filter FORWARD {way} 'um*' accept"));
    }
    assert_eq!(asked(&other, "192.0.2.1:8080").as_deref(), Some("192.0.2.9"));
    host.umiak(&["rm", "-f", "web"]).exits(0);
    bare(&host);
}
