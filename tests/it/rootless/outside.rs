//! An ordinary user's containers that are on networks and led outside by `pasta`.

use std::fs::File;
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::process::{Child, Command};
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::pasta::{PAGE, Wired};
use crate::support::host::{Host, Space};
use crate::support::{registry, require};

/// One container after another as this user's; what they say.
#[track_caller]
fn detached(wired: &Wired, name: &str, flags: &[&str], script: &str) -> String {
    let image = registry::busybox();
    let args = [&["run", "-d", "--name", name], flags, &[&image, "sh", "-c", script]].concat();
    wired.umiak(&args).exits(0).text().to_owned()
}

/// Makes something in the network of a process.
fn within<T: Send + 'static>(pid: u32, make: impl FnOnce() -> T + Send + 'static) -> T {
    let namespace = File::open(format!("/proc/{pid}/ns/net")).expect("its namespace");
    let thread = std::thread::spawn(move || {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).expect("entered");
        make()
    });
    thread.join().expect("made")
}

/// A page of the other host's, until this is dropped.
struct Elsewhere(Child);

impl Elsewhere {
    fn new(wired: &Wired) -> Self {
        let folder = wired.user.host.dir().join("www");
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join("index.html"), "elsewhere\n").expect("written");
        let mut command = wired.other.command("busybox");
        let server =
            Self(command.args(["httpd", "-f", "-p", "80", "-h"]).arg(&folder).spawn().expect("starts"));
        let fetch = "timeout 3 busybox wget -q -O - http://127.0.0.1/ || true";
        crate::cli::until("the other host answers", || wired.other.sh(fetch) == "elsewhere");
        server
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An address as it is, without the ways to write one of IPv4 as one of IPv6.
fn plain(address: &str) -> &str {
    address.trim_start_matches('[').trim_end_matches(']').trim_start_matches("::ffff:")
}

/// The programs that lead containers outside from this host.
fn led(space: &Space) -> Vec<String> {
    let pids = space.sh(&format!("for p in /proc/[0-9]*; do \
        [ \"$(readlink $p/ns/net)\" = \"$(readlink /proc/{}/ns/net)\" ] && grep -q ^pas $p/comm && basename $p; \
        done; true", space.pid()));
    pids.lines().map(str::to_owned).collect()
}

#[test]
fn containers_on_a_network_have_a_way_outside_each() {
    require!(pasta, registry);
    let wired = Wired::new();
    let image = registry::busybox();
    wired.umiak(&["network", "create", "--subnet", "10.5.0.0/24", "shop"]).exits(0);
    wired.umiak(&["network", "create", "--internal", "vault"]).exits(0);
    detached(&wired, "web", &["--network", "shop", "-p", "8080:80", "-p", "5353:5353/udp"], PAGE);
    crate::cli::until("the page answers", || Wired::asked(&wired.space, "127.0.0.1:8080").is_some());
    assert_eq!(plain(&Wired::asked(&wired.other, "192.0.2.1:8080").expect("an answer")), "192.0.2.9");
    // A neighbour by its name, and another host by its address.
    let elsewhere = Elsewhere::new(&wired);
    let script = "wget -q -O - http://web/cgi-bin/who; timeout 3 wget -q -O - http://192.0.2.9/; ip route; ip -o -4 addr";
    let run = |network: &str, script: &str| {
        let args = ["run", "--rm", "--network", network, &image, "sh", "-c", script];
        wired.umiak(&args).exits(0).stdout
    };
    let said = run("shop", script);
    assert!(plain(&said).contains("10.5.0.3") && said.contains("elsewhere\n"), "{said}");
    assert!(said.contains("default via 192.0.2.9 dev pasta0"), "{said}");
    assert!(said.contains("10.5.0.0/24 dev eth0"), "{said}");
    // Nothing of the host's loopback device, nothing outside an internal network.
    let refused = "timeout 3 wget -q -O - http://192.0.2.9/ 2>&1; ls /sys/class/net; echo over";
    assert!(
        !run("vault", refused).contains("elsewhere") && run("vault", refused).ends_with("eth0\nlo\nover\n")
    );
    drop(elsewhere);
    // Packets, with the client's address, and the answer's way back.
    let pid =
        wired.umiak(&["inspect", "-f", "{{.State.Pid}}", "web"]).exits(0).text().parse().expect("a pid");
    let server = within(pid, || UdpSocket::bind("0.0.0.0:5353").expect("bound"));
    let client = within(wired.other.pid(), || UdpSocket::bind("0.0.0.0:0").expect("bound"));
    client.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
    server.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
    client.send_to(b"question", "192.0.2.1:5353").expect("sent");
    let mut bytes = [0; 16];
    let (length, from) = server.recv_from(&mut bytes).expect("heard");
    assert_eq!((&bytes[..length], from.ip().to_string().as_str()), (&b"question"[..], "192.0.2.9"));
    server.send_to(b"answer", from).expect("sent");
    let (length, from) = client.recv_from(&mut bytes).expect("heard");
    assert_eq!((&bytes[..length], from.to_string().as_str()), (&b"answer"[..], "192.0.2.1:5353"));
    wired.umiak(&["rm", "-f", "web"]).exits(0);
    assert_eq!((wired.listeners(8080).as_str(), led(&wired.space).len()), ("", 0));
    wired.umiak(&["network", "rm", "shop", "vault"]).exits(0);
    wired.user.nothing_is_left();
}

#[test]
fn the_way_outside_comes_and_goes_with_networks_that_lead_there() {
    require!(pasta, registry);
    let wired = Wired::new();
    for args in [&["shop"][..], &["--internal", "vault"]] {
        wired.umiak(&[&["network", "create"], args].concat()).exits(0);
    }
    detached(&wired, "one", &["--network", "vault"], "exec sleep 1000");
    let reaches = || {
        wired.umiak(&["exec", "one", "ping", "-c", "1", "-W", "2", "192.0.2.9"]).status == 0
            || wired.umiak(&["exec", "one", "ip", "route"]).stdout.contains("dev pasta0")
    };
    assert!(!reaches() && led(&wired.space).is_empty());
    wired.umiak(&["network", "connect", "shop", "one"]).exits(0);
    assert!(reaches());
    wired.umiak(&["network", "disconnect", "shop", "one"]).exits(0);
    assert!(!reaches() && led(&wired.space).is_empty());
    // One that has the host's network alone is on another one as well.
    detached(&wired, "two", &["-p", "8080:80"], PAGE);
    wired.umiak(&["network", "connect", "--alias", "www", "vault", "two"]).exits(0);
    crate::cli::until("the page answers", || {
        wired
            .umiak(&["exec", "one", "timeout", "3", "wget", "-q", "-O", "-", "http://www/cgi-bin/who"])
            .status
            == 0
    });
    assert!(Wired::asked(&wired.other, "192.0.2.1:8080").is_some());
    let devices = wired.umiak(&["exec", "two", "ls", "/sys/class/net"]).exits(0).stdout;
    assert_eq!(devices, "eth0\neth1\nlo\n");
    let both = ["--network", "bridge", "--network", "vault"];
    detached(&wired, "three", &both, "exec sleep 1000");
    let route = wired.umiak(&["exec", "three", "ip", "route"]).exits(0).stdout;
    assert!(route.contains("default via 192.0.2.9 dev eth0") && route.contains("dev eth1"), "{route}");
    wired.umiak(&["rm", "-f", "one", "two", "three"]).exits(0);
    wired.umiak(&["network", "rm", "shop", "vault"]).exits(0);
    wired.user.nothing_is_left();
}

#[test]
fn what_leads_outside_is_started_again_when_it_dies() {
    require!(pasta, registry);
    let wired = Wired::new();
    wired.umiak(&["network", "create", "shop"]).exits(0);
    let id = detached(&wired, "web", &["--network", "shop", "-p", "8080:80"], PAGE);
    crate::cli::until("the page answers", || Wired::asked(&wired.other, "192.0.2.1:8080").is_some());
    let before = led(&wired.space);
    assert_eq!(before.len(), 1);
    let killed = Command::new("kill").args(["-KILL", &before[0]]).status();
    assert!(killed.is_ok_and(|status| status.success()));
    crate::cli::until("another one", || led(&wired.space).iter().any(|one| *one != before[0]));
    crate::cli::until("the page answers", || Wired::asked(&wired.other, "192.0.2.1:8080").is_some());
    let log =
        std::fs::read_to_string(wired.user.host.dir().join("run").join(&id[..24]).join("supervisor.log"));
    let log = log.expect("a log");
    assert!(log.contains("`pasta` has ended"), "{log}");
    // With its supervisor everything ends.
    let pid = Host::supervisor(&id).expect("a supervisor").to_string();
    assert!(Command::new("kill").args(["-KILL", &pid]).status().is_ok_and(|status| status.success()));
    crate::cli::until("the port is free", || {
        wired.listeners(8080).is_empty() && led(&wired.space).is_empty()
    });
    crate::cli::until("the end", || wired.umiak(&["ps", "-q"]).stdout.is_empty());
    wired.umiak(&["rm", "web"]).exits(0);
    wired.umiak(&["network", "rm", "shop"]).exits(0);
    wired.user.nothing_is_left();
}

#[test]
fn ports_are_a_users_containers_through_restarts_by_policy() {
    require!(pasta, registry);
    let wired = Wired::new();
    let script = format!("sleep 0.3; [ -e /twice ] || {{ touch /twice; exit 1; }}; {PAGE}");
    detached(&wired, "web", &["-p", "8080:80", "--restart", "on-failure:3"], &script);
    crate::cli::until("the page answers", || Wired::asked(&wired.other, "192.0.2.1:8080").is_some());
    let count = wired.umiak(&["inspect", "-f", "{{.RestartCount}}", "web"]).exits(0);
    assert_eq!((count.text(), led(&wired.space).len()), ("1", 1));
    wired.umiak(&["rm", "-f", "web"]).exits(0);
    wired.user.nothing_is_left();
}

#[test]
fn all_exposed_ports_and_those_of_ipv6_are_published() {
    require!(pasta, registry);
    let wired = Wired::new();
    wired.space.sh("ip addr add 2001:db8::1/64 dev cable nodad");
    wired.other.sh("ip addr add 2001:db8::9/64 dev eth0 nodad");
    wired.space.sh("ip route add default via 2001:db8::9");
    detached(&wired, "web", &["-P", "--expose", "80", "-p", "[::]:8081:80"], PAGE);
    let ports = wired.umiak(&["port", "web"]).exits(0).stdout;
    let any = ports.lines().find_map(|line| line.strip_prefix("80/tcp -> [::]:")).expect("a port of IPv6");
    assert_eq!(any, "8081", "{ports}");
    crate::cli::until("the page answers", || Wired::asked(&wired.other, "[2001:db8::1]:8081").is_some());
    let seen = Wired::asked(&wired.other, "[2001:db8::1]:8081").expect("an answer");
    assert!(seen.contains("2001:db8::9"), "{seen}");
    detached(&wired, "all", &["-P", "--expose", "80"], PAGE);
    let ports = wired.umiak(&["port", "all"]).exits(0).stdout;
    let port = ports.lines().find_map(|line| line.strip_prefix("80/tcp -> 0.0.0.0:")).expect("a port");
    crate::cli::until("the page answers", || {
        Wired::asked(&wired.other, &format!("192.0.2.1:{port}")).is_some()
    });
    wired.umiak(&["rm", "-f", "web", "all"]).exits(0);
    wired.user.nothing_is_left();
}

#[test]
fn questions_for_names_go_outside_by_the_containers_own_way() {
    require!(pasta, registry);
    let wired = Wired::new();
    crate::names::serve(wired.other.pid(), "192.0.2.9", 77);
    let image = registry::busybox();
    wired.umiak(&["network", "create", "shop"]).exits(0);
    for network in ["pasta", "shop"] {
        let args = [
            "run",
            "--rm",
            "--network",
            network,
            "--dns",
            "192.0.2.9",
            &image,
            "nslookup",
            "-type=a",
            "www.example",
        ];
        let said = wired.umiak(&args).exits(0).stdout;
        assert!(said.contains("192.0.2.77"), "{network}: {said}");
    }
    wired.umiak(&["network", "rm", "shop"]).exits(0);
    wired.user.nothing_is_left();
}

#[test]
fn a_subnet_that_the_users_host_uses_is_left_to_it() {
    require!(pasta, registry);
    let wired = Wired::new();
    let image = registry::busybox();
    wired
        .space
        .sh("ip link add other type bridge; ip addr add 172.17.5.1/24 dev other; ip link set other up");
    wired.umiak(&["network", "create", "shop"]).exits(0);
    let address = || {
        let args = ["run", "--rm", "--network", "shop", &image, "ip", "-o", "-4", "addr", "show", "eth0"];
        wired.umiak(&args).exits(0).stdout
    };
    assert!(address().contains("172.19.0.2/16"), "after `bridge`");
    // Chosen before the route came: it moves, since nobody chose it and nobody is there.
    wired.space.sh("ip addr add 172.19.5.1/24 dev other");
    assert!(address().contains("172.20.0.2/16"));
    wired.umiak(&["network", "create", "--subnet", "172.17.5.0/25", "mine"]).exits(0);
    wired
        .umiak(&["run", "--rm", "--network", "mine", &image, "true"])
        .fails(125, &["it overlaps the host's route to 172.17.5.0/24"]);
    wired.umiak(&["network", "rm", "shop", "mine"]).exits(0);
    wired.user.nothing_is_left();
}

#[test]
fn a_container_on_several_networks_passes_nothing_on_between_them() {
    require!(pasta, registry);
    let wired = Wired::new();
    let image = registry::busybox();
    // New namespaces begin with the setting of the first one, or with what this test's has.
    let forwarding = "/proc/sys/net/ipv4/ip_forward";
    wired.umiak(&["network", "create", "--subnet", "10.5.0.0/24", "shop"]).exits(0);
    wired.umiak(&["network", "create", "--subnet", "10.6.0.0/24", "--internal", "vault"]).exits(0);
    let run = |flags: &[&str]| {
        let args = [
            &["run", "--rm", "--network", "shop", "--network", "vault"],
            flags,
            &[&image, "cat", forwarding],
        ];
        wired.umiak(&args.concat()).exits(0).text().to_owned()
    };
    assert_eq!(run(&[]), "0");
    assert_eq!(run(&["--sysctl", "net.ipv4.ip_forward=1"]), "1");
    // What a neighbour would have it carry outside stays, unless it is a router.
    let _elsewhere = Elsewhere::new(&wired);
    let both = ["--network", "shop", "--network", "vault"];
    detached(&wired, "both", &both, "exec sleep 1000");
    detached(
        &wired,
        "router",
        &[&both[..], &["--sysctl", "net.ipv4.ip_forward=1"]].concat(),
        "exec sleep 1000",
    );
    let by = |name: &str| {
        let inner = "{{.NetworkSettings.Networks.vault.IPAddress}}";
        let by = wired.umiak(&["inspect", "-f", inner, name]).exits(0).text().to_owned();
        let script = format!(
            "ip route add default via {by} && ping -c 2 -W 1 {by} >/dev/null && echo near; \
             timeout 5 wget -q -O - http://192.0.2.9/; echo over"
        );
        let args =
            ["run", "--rm", "--cap-add", "NET_ADMIN", "--network", "vault", &image, "sh", "-c", &script];
        wired.umiak(&args).exits(0).stdout
    };
    assert_eq!((by("both").as_str(), by("router").as_str()), ("near\nover\n", "near\nelsewhere\nover\n"));
    wired.umiak(&["rm", "-f", "both", "router"]).exits(0);
    wired.umiak(&["network", "rm", "shop", "vault"]).exits(0);
    wired.user.nothing_is_left();
}
