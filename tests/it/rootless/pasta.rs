//! The network of ordinary users' containers, on a host whose network is the test's own: the user is on a machine with one cable,
//! at whose other end is another host.

use std::process::{Child, Command, Stdio};

use super::User;
use crate::support::host::{Host, Output, Space};
use crate::support::{ordinary, registry, require};

/// A page that tells each client its address.
pub(super) const PAGE: &str = "mkdir -p /www/cgi-bin; cd /www/cgi-bin; echo '#!/bin/sh' > who; echo 'echo; echo $REMOTE_ADDR' >> who; \
                    chmod +x who; exec httpd -f -p 80 -h /www";

/// A user on a machine with a network of its own, and the host at the other end of its cable.
pub(super) struct Wired {
    pub(super) user: User,
    pub(super) space: Space,
    pub(super) other: Space,
}

impl Wired {
    /// The image is there; no registry is in reach.
    pub(super) fn new() -> Self {
        let user = User::new(ordinary::ALONE);
        user.umiak(&["pull", "-q", &registry::busybox()]).exits(0);
        std::fs::remove_file(user.host.dir().join(".config/umiak/config.toml")).expect("a configuration");
        let (space, other) = (Space::new(), Space::new());
        space.sh(&format!(
            "ip link add cable type veth peer name eth0 netns {}; ip addr add 192.0.2.1/24 dev cable; \
             ip link set cable up",
            other.pid()
        ));
        other.sh("ip addr add 192.0.2.9/24 dev eth0; ip link set eth0 up");
        space.sh("ip route add default via 192.0.2.9");
        Self { user, space, other }
    }

    /// On this machine, which lets users have the device (as Debian does) whatever the one below does.
    pub(super) fn umiak(&self, args: &[&str]) -> Output {
        self.user.host.finish(self.umiak_started(args), args)
    }

    pub(super) fn umiak_started(&self, args: &[&str]) -> Child {
        let like = self.user.command(args);
        let device = "mount -t tmpfs none /dev/net; mknod -m 666 /dev/net/tun c 10 200; exec \"$@\"";
        let mut command = self.space.command("unshare");
        command.args(["--mount", "sh", "-ec", device, "sh"]).arg(like.get_program()).args(like.get_args());
        command.env_clear().envs(like.get_envs().filter_map(|(key, value)| Some((key, value?))));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command.spawn().expect("nsenter starts")
    }

    /// What the page says.
    pub(super) fn asked(from: &Space, address: &str) -> Option<String> {
        let url = format!("http://{address}/cgi-bin/who");
        let mut command = from.command("timeout");
        let out = command.args(["3", "busybox", "wget", "-q", "-O", "-", &url]).output().expect("busybox");
        out.status.success().then(|| String::from_utf8_lossy(&out.stdout).trim().to_owned())
    }

    /// Who listens on a port of the machine's.
    pub(super) fn listeners(&self, port: u16) -> String {
        self.space.sh(&format!("ss -Hltn 'sport = :{port}'"))
    }
}

#[test]
fn a_users_container_has_the_network_and_publishes_ports() {
    require!(pasta, registry);
    let wired = Wired::new();
    let image = registry::busybox();
    let script = "ip -o -4 addr show eth0; cat /etc/hosts";
    let said = wired.umiak(&["run", "--rm", "-h", "me", &image, "sh", "-c", script]).exits(0).stdout;
    assert!(said.contains("inet 192.0.2.1/24") && said.contains("192.0.2.1\tme\n"), "{said}");

    let publish = ["run", "-d", "--name", "web", "-p", "8080:80", "-p", "127.0.0.1:8081:80"];
    wired.umiak(&[&publish[..], &[&image, "sh", "-c", PAGE]].concat()).exits(0);
    crate::cli::until("the page answers", || Wired::asked(&wired.space, "127.0.0.1:8081").is_some());
    // The client's address is kept.
    let seen = Wired::asked(&wired.other, "192.0.2.1:8080").expect("an answer");
    assert_eq!(seen.trim_start_matches('[').trim_end_matches(']').trim_start_matches("::ffff:"), "192.0.2.9");
    assert_eq!(Wired::asked(&wired.other, "192.0.2.1:8081"), None);
    let ports = wired.umiak(&["port", "web"]).exits(0).stdout;
    assert!(ports.contains("80/tcp -> 0.0.0.0:8080\n80/tcp -> 127.0.0.1:8081\n"), "{ports}");
    let mode = wired.umiak(&["inspect", "-f", "{{.HostConfig.NetworkMode}}", "web"]).exits(0);
    assert_eq!(mode.text(), "pasta");
    wired
        .umiak(&["run", "--rm", "-p", "8080:80", &image, "true"])
        .fails(125, &["0.0.0.0:8080/tcp: address already in use by container web"]);
    // A port is the container's through a restart, and free after its end.
    wired.umiak(&["restart", "-t", "0", "web"]).exits(0);
    crate::cli::until("the page answers", || Wired::asked(&wired.space, "127.0.0.1:8081").is_some());
    wired.umiak(&["rm", "-f", "web"]).exits(0);
    assert_eq!(wired.listeners(8080), "");
    wired.umiak(&["run", "--rm", "-p", "8080:80", &image, "true"]).exits(0);
    wired.user.nothing_is_left();
}

#[test]
fn a_users_container_does_not_reach_the_hosts_loopback_services() {
    require!(pasta, registry);
    let wired = Wired::new();
    let image = registry::busybox();
    let mut service = wired.space.command("busybox");
    let folder = wired.user.host.dir();
    let mut service =
        service.args(["httpd", "-f", "-p", "127.0.0.1:9000", "-h"]).arg(folder).spawn().expect("starts");
    let fetch = "timeout 3 busybox wget -q -O /dev/null http://127.0.0.1:9000/.config/ 2>&1 || true";
    crate::cli::until("the service listens", || wired.space.sh(fetch).contains("HTTP/1"));
    // Its own loopback device is another, and the gateway's address is the gateway's.
    let script = "for a in 127.0.0.1 192.0.2.9 192.0.2.1; do \
                  timeout 3 wget -q -O /dev/null http://$a:9000/.config/ 2>&1; done; echo over";
    let said = wired.umiak(&["run", "--rm", &image, "sh", "-c", script]).exits(0).stdout;
    assert!(said.ends_with("over\n") && !said.contains("HTTP/1"), "{said}");
    service.kill().expect("killed");
    service.wait().expect("waited for");
}

#[test]
fn what_passes_packets_on_ends_with_the_supervisor() {
    require!(pasta, registry);
    let wired = Wired::new();
    let image = registry::busybox();
    let id = wired.umiak(&["run", "-d", "--name", "one", "-p", "8080:80", &image, "sleep", "1000"]).exits(0);
    assert_ne!(wired.listeners(8080), "");
    let pid = Host::supervisor(id.text()).expect("a supervisor").to_string();
    assert!(Command::new("kill").args(["-KILL", &pid]).status().is_ok_and(|status| status.success()));
    crate::cli::until("its port is free", || wired.listeners(8080).is_empty());
    crate::cli::until("the end", || wired.umiak(&["ps", "-q"]).stdout.is_empty());
    wired.umiak(&["rm", "one"]).exits(0);
    wired.umiak(&["run", "--rm", "-p", "8080:80", &image, "true"]).exits(0);
    wired.user.nothing_is_left();
}

#[test]
fn without_pasta_a_user_is_told_what_to_install() {
    require!(rootless, registry);
    let user = User::new(ordinary::ALONE);
    let image = registry::busybox();
    user.umiak(&["pull", "-q", &image]).exits(0);
    std::fs::remove_file(user.host.dir().join(".config/umiak/config.toml")).expect("a configuration");
    let umiak = |args: &[&str]| user.without_pasta(args);
    for flags in [["-p", "8080:80"], ["--network", "bridge"], ["--network", "pasta"]] {
        let args = [&["run", "--rm"], &flags[..], &[&image, "true"]].concat();
        umiak(&args).fails(125, &["needs root or `pasta`: it is not installed", "package `passt`"]);
    }
    // What asks for nothing has nothing.
    assert_eq!(umiak(&["run", "--rm", &image, "ls", "/sys/class/net"]).exits(0).stdout, "lo\n");
    umiak(&["run", "--rm", "--network", "other", &image, "true"]).fails(125, &["network other not found"]);
    user.nothing_is_left();
}
