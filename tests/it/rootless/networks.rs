//! Networks among an ordinary user's containers, where nothing leads outside.

use std::collections::BTreeSet;

use super::User;
use crate::support::host::{Host, Output};
use crate::support::{ordinary, registry, require};

/// A user with busybox in the store, and no `pasta`.
struct Town {
    user: User,
    image: String,
}

/// Serves a page that says who it is.
fn page(word: &str) -> String {
    format!("mkdir /www; echo {word} > /www/index.html; exec httpd -f -p 80 -h /www")
}

impl Town {
    fn new(name: &'static str) -> Self {
        let (user, image) = (User::new(name), registry::busybox());
        user.umiak(&["pull", "-q", &image]).exits(0);
        std::fs::remove_file(user.host.dir().join(".config/umiak/config.toml")).expect("a configuration");
        Self { user, image }
    }

    fn umiak(&self, args: &[&str]) -> Output {
        self.user.without_pasta(args)
    }

    #[track_caller]
    fn detached(&self, name: &str, flags: &[&str], script: &str) -> String {
        let args = [&["run", "-d", "--name", name], flags, &[&self.image, "sh", "-c", script]].concat();
        self.umiak(&args).exits(0).text().to_owned()
    }

    /// What a page says to a container, once it answers.
    #[track_caller]
    fn asked(&self, container: &str, host: &str) -> String {
        let url = format!("http://{host}/");
        let ask = ["exec", container, "timeout", "3", "wget", "-q", "-O", "-", &url];
        crate::cli::until("the page answers", || self.umiak(&ask).status == 0);
        self.umiak(&ask).exits(0).text().to_owned()
    }

    /// Whether an address that answers others is kept from a container.
    fn is_kept_from(&self, container: &str, host: &str) -> bool {
        self.umiak(&["exec", container, "timeout", "1", "wget", "-q", "-O", "-", &format!("http://{host}/")])
            .status
            != 0
    }

    #[track_caller]
    fn field(&self, container: &str, template: &str) -> String {
        self.umiak(&["inspect", "-f", template, container]).exits(0).text().to_owned()
    }

    #[track_caller]
    fn address(&self, container: &str, network: &str) -> String {
        self.field(container, &format!("{{{{.NetworkSettings.Networks.{network}.IPAddress}}}}"))
    }

    /// The namespaces in which the user's networks are, as the supervisors tell them.
    fn hubs(&self) -> BTreeSet<u64> {
        let runs = std::fs::read_dir(self.user.host.dir().join("run")).into_iter().flatten().flatten();
        let told = runs.filter_map(|run| std::fs::read(run.path().join("hubs.json")).ok());
        let told = told.map(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).expect("json"));
        told.flat_map(|told| told.as_object().expect("networks").values().cloned().collect::<Vec<_>>())
            .map(|hub| hub[1].as_u64().expect("an inode"))
            .collect()
    }

    /// Nothing is left of containers, and the networks can go.
    #[track_caller]
    fn leaves(&self, networks: &[&str]) {
        let names = self.umiak(&["ps", "-aq"]).exits(0).stdout;
        let names: Vec<_> = names.lines().collect();
        if !names.is_empty() {
            self.umiak(&[&["rm", "-f"][..], &names].concat()).exits(0);
        }
        self.umiak(&[&["network", "rm"], networks].concat()).exits(0);
        self.user.nothing_is_left();
    }
}

#[test]
fn containers_of_a_network_find_each_other_by_name() {
    require!(rootless, registry);
    for name in [ordinary::ALONE, ordinary::WITH_RANGES] {
        if !ordinary::available(name) {
            continue;
        }
        let town = Town::new(name);
        let id = town
            .umiak(&["network", "create", "--subnet", "10.5.0.0/24", "--label", "a=b", "shop"])
            .exits(0)
            .text()
            .to_owned();
        let id_of_db = town.detached("db", &["--network", "shop", "--network-alias", "base"], &page("db"));
        let out = town.umiak(&["run", "--rm", "--network", "shop", &town.image, "ip", "-o", "-4", "addr"]);
        let out = out.exits(0);
        assert!(out.stdout.contains("eth0") && out.stdout.contains("10.5.0.3/24"), "{}", out.stdout);
        assert!(
            out.stderr.contains("WARNING: Nothing leads outside the container's networks"),
            "{}",
            out.stderr
        );
        town.detached("web", &["--network", "shop"], &page("web"));
        for host in ["db", "base", &id_of_db[..12], "10.5.0.2"] {
            assert_eq!(town.asked("web", host), "db", "{host}");
        }
        assert_eq!(town.asked("db", "web"), "web");
        let own = town.umiak(&["exec", "db", "cat", "/etc/hosts", "/etc/resolv.conf"]).exits(0).stdout;
        assert!(own.contains(&format!("10.5.0.2\t{}", &id_of_db[..12])), "{own}");
        assert!(own.contains("nameserver 127.0.0.11"), "{own}");
        let seen = town.umiak(&["network", "inspect", "-f", "{{json .Containers}}", "shop"]).exits(0).stdout;
        assert!(seen.contains(&id_of_db) && seen.contains("10.5.0.2/24"), "{seen}");
        let list = town.umiak(&["network", "ls", "--format", "{{.Name}}", "--filter", "label=a"]).exits(0);
        assert_eq!((list.text(), id.len(), town.hubs().len()), ("shop", 64, 1));
        town.umiak(&["network", "rm", "shop"]).fails(1, &["network shop has active endpoints"]);
        town.umiak(&["restart", "-t", "0", "db"]).exits(0);
        assert_eq!(town.asked("web", "db"), "db");
        town.leaves(&["shop"]);
    }
}

#[test]
fn networks_of_a_user_are_apart() {
    require!(rootless, registry);
    let town = Town::new(ordinary::ALONE);
    for args in [
        &["front"][..],
        &["--internal", "back"],
        &["-o", "com.docker.network.bridge.enable_icc=false", "cells"],
    ] {
        town.umiak(&[&["network", "create"], args].concat()).exits(0);
    }
    town.detached("one", &["--network", "front"], &page("one"));
    town.detached("two", &["--network", "back"], &page("two"));
    town.detached("both", &["--network", "front", "--network", "back"], &page("both"));
    for client in ["one", "two"] {
        assert_eq!(town.asked(client, "both"), "both");
        let devices = town.umiak(&["exec", client, "ls", "/sys/class/net"]).exits(0).stdout;
        assert_eq!(devices, "eth0\nlo\n");
    }
    assert_eq!((town.asked("both", "one"), town.asked("both", "two")), ("one".into(), "two".into()));
    assert_eq!(town.hubs().len(), 2);
    let address = town.address("two", "back");
    assert!(town.is_kept_from("one", "two") && town.is_kept_from("one", &address));
    // Not even where it is told that the way is there.
    let through = town.address("both", "front");
    let route =
        format!("ip route add {address} via {through}; timeout 1 wget -q -O - http://{address}/; echo over");
    let args =
        ["run", "--rm", "--cap-add", "NET_ADMIN", "--network", "front", &town.image, "sh", "-c", &route];
    assert_eq!(town.umiak(&args).stdout, "over\n");
    // On a network that keeps its containers from each other.
    town.detached("cell", &["--network", "cells"], &page("cell"));
    town.detached("next", &["--network", "cells"], "exec sleep 1000");
    assert_eq!(town.asked("cell", "127.0.0.1"), "cell");
    assert!(town.is_kept_from("next", "cell"));
    town.leaves(&["front", "back", "cells"]);
}

#[test]
fn a_users_container_that_runs_is_connected_and_disconnected() {
    require!(rootless, registry);
    let town = Town::new(ordinary::ALONE);
    town.umiak(&["network", "create", "--subnet", "10.5.0.0/24", "front"]).exits(0);
    town.umiak(&["network", "create", "back"]).exits(0);
    town.detached("web", &["--network", "back"], &page("web"));
    town.detached("client", &["--network", "front"], "exec sleep 1000");
    assert!(town.is_kept_from("client", "web"));
    town.umiak(&["network", "connect", "--ip", "10.5.0.77", "--alias", "www", "front", "web"]).exits(0);
    town.umiak(&["network", "connect", "front", "web"])
        .fails(1, &["endpoint with name web already exists in network front"]);
    assert_eq!(
        (town.asked("client", "www"), town.asked("client", "10.5.0.77")),
        ("web".into(), "web".into())
    );
    assert_eq!(town.address("web", "front"), "10.5.0.77");
    town.umiak(&["network", "disconnect", "front", "web"]).exits(0);
    assert!(town.is_kept_from("client", "10.5.0.77") && town.is_kept_from("client", "www"));
    town.umiak(&["network", "disconnect", "front", "web"])
        .fails(1, &["container web is not connected to network front"]);
    town.umiak(&["network", "disconnect", "back", "web"]).exits(0);
    assert_eq!(town.umiak(&["exec", "web", "ls", "/sys/class/net"]).exits(0).stdout, "lo\n");
    // The last one has left: another one makes the network anew.
    let hubs = town.hubs();
    assert_eq!(hubs.len(), 1);
    town.detached("late", &["--network", "back"], "exec sleep 1000");
    town.umiak(&["network", "connect", "back", "web"]).exits(0);
    assert_eq!(town.asked("late", "web"), "web");
    // One that does not run is connected for its next start.
    town.umiak(&["stop", "-t", "0", "web"]).exits(0);
    town.umiak(&["network", "connect", "front", "web"]).exits(0);
    town.umiak(&["start", "web"]).exits(0);
    assert_eq!(town.asked("client", "web"), "web");
    town.leaves(&["front", "back"]);
}

#[test]
fn first_containers_that_race_are_on_one_network() {
    require!(rootless, registry);
    let town = Town::new(ordinary::ALONE);
    town.umiak(&["network", "create", "--subnet", "10.5.0.0/24", "shop"]).exits(0);
    let names: Vec<_> = (0..20).map(|number| format!("c{number}")).collect();
    let start = |name: &String| {
        let args = ["run", "-d", "--name", name, "--network", "shop", &town.image, "sh", "-c", &page(name)];
        town.user.start_without_pasta(&args)
    };
    let racing: Vec<_> = names.iter().map(start).collect();
    for child in racing {
        town.user.host.finish(child, &["run"]).exits(0);
    }
    let addresses: BTreeSet<_> = names.iter().map(|name| town.address(name, "shop")).collect();
    assert_eq!((addresses.len(), town.hubs().len()), (20, 1));
    for name in &names {
        assert_eq!(town.asked("c0", name), *name);
    }
    town.leaves(&["shop"]);
}

#[test]
fn a_network_whose_supervisors_are_killed_comes_up_again() {
    require!(rootless, registry);
    let town = Town::new(ordinary::ALONE);
    town.umiak(&["network", "create", "--subnet", "10.5.0.0/24", "shop"]).exits(0);
    let kill = |id: &str| {
        let pid = Host::supervisor(id).expect("a supervisor").to_string();
        let killed = std::process::Command::new("kill").args(["-KILL", &pid]).status();
        assert!(killed.is_ok_and(|status| status.success()));
    };
    let one = town.detached("one", &["--network", "shop"], &page("one"));
    let two = town.detached("two", &["--network", "shop"], &page("two"));
    // One of two: the network stays, the address comes back.
    kill(&one);
    crate::cli::until("the end of one", || town.umiak(&["ps", "-q"]).stdout.lines().count() == 1);
    town.umiak(&["start", "one"]).exits(0);
    assert_eq!((town.asked("two", "one"), town.address("one", "shop")), ("one".into(), "10.5.0.2".into()));
    let hubs = town.hubs();
    assert_eq!(hubs.len(), 1);
    // Both: there is no network, and nobody is on it.
    kill(&one);
    kill(&two);
    crate::cli::until("the end of both", || town.umiak(&["ps", "-q"]).stdout.is_empty());
    town.umiak(&["network", "disconnect", "shop", "two"]).exits(0);
    town.umiak(&["network", "connect", "shop", "two"]).exits(0);
    town.umiak(&["start", "two"]).exits(0);
    assert_eq!(town.address("two", "shop"), "10.5.0.2", "the dead have no address");
    town.umiak(&["start", "one"]).exits(0);
    assert_eq!((town.asked("two", "one"), town.asked("one", "two")), ("one".into(), "two".into()));
    kill(&one);
    kill(&two);
    crate::cli::until("the end of both", || town.umiak(&["ps", "-q"]).stdout.is_empty());
    town.leaves(&["shop"]);
}

#[test]
fn a_restart_by_policy_keeps_a_users_address() {
    require!(rootless, registry);
    let town = Town::new(ordinary::ALONE);
    town.umiak(&["network", "create", "--subnet", "10.5.0.0/24", "shop"]).exits(0);
    town.detached("other", &["--network", "shop"], &page("other"));
    let script = "for i in $(seq 50); do wget -q -O - http://other/ 2>/dev/null && break; sleep 0.1; done; \
                  ip -o -4 addr show eth0 | grep -c 10.5.0.3/24; exit 1";
    town.detached("one", &["--network", "shop", "--restart", "on-failure:2"], script);
    crate::cli::until("the last run ends", || {
        town.field("one", "{{.State.Status}} {{.RestartCount}}") == "exited 2"
    });
    assert_eq!(town.umiak(&["logs", "one"]).exits(0).stdout, "other\n1\n".repeat(3));
    town.leaves(&["shop"]);
}

#[test]
fn what_only_root_has_of_networks_is_refused() {
    require!(rootless, registry);
    let town = Town::new(ordinary::ALONE);
    let masquerade = "com.docker.network.bridge.enable_ip_masquerade=false";
    town.umiak(&["network", "create", "-o", masquerade, "x"])
        .fails(1, &["keeping containers' addresses on the outside needs root"]);
    town.umiak(&["network", "create", "pasta"]).fails(1, &["predefined pasta network"]);
    town.umiak(&["network", "create", "--subnet", "10.5.0.0/24", "shop"]).exits(0);
    town.umiak(&["network", "create", "--subnet", "10.5.0.0/16", "x"]).fails(1, &["Pool overlaps"]);
    town.umiak(&["network", "create", "shop"]).fails(1, &["network with name shop already exists"]);
    town.umiak(&["network", "rm", "bridge"]).fails(1, &["bridge is a pre-defined network"]);
    let run = |flags: &[&str], words: &[&str]| {
        town.umiak(&[&["run", "--rm"], flags, &[&town.image, "true"]].concat()).fails(125, words);
    };
    run(&["--network", "shop", "--ip", "10.6.0.7"], &["no configured subnet contains IP address 10.6.0.7"]);
    run(&["--network", "shop", "-p", "8080:80"], &["needs root or `pasta`", "package `passt`"]);
    run(
        &["--network", "shop", "--add-host", "x:host-gateway"],
        &["unable to derive the IP value for host-gateway"],
    );
    run(&["--network", "shop", "--network", "bridge"], &["needs root or `pasta`"]);
    run(&["--network", "moon"], &["network moon not found"]);
    town.detached("one", &["--network", "shop", "--ip", "10.5.0.9"], "exec sleep 1000");
    run(&["--network", "shop", "--ip", "10.5.0.9"], &["Address already in use: 10.5.0.9"]);
    town.umiak(&["network", "connect", "bridge", "one"])
        .fails(1, &["joining the network `bridge` needs root"]);
    let info = town.umiak(&["info"]).exits(0).stdout;
    assert!(info.contains("\nNetworks: among containers alone: pasta is not installed\n"), "{info}");
    town.umiak(&["network", "create", "--internal", "inside"]).exits(0);
    // Where nothing leads outside nothing is published, as with docker, and nobody is warned.
    let out =
        town.umiak(&["run", "--rm", "--network", "inside", "-p", "8080:80", &town.image, "true"]).exits(0);
    assert_eq!(out.stderr, "");
    town.leaves(&["shop", "inside"]);
}

#[test]
fn a_users_wasm_containers_are_on_networks_as_well() {
    require!(rootless, registry);
    let town = Town::new(ordinary::ALONE);
    let serve = format!("{}/wasm/serve2:artifact-p2", registry::address());
    town.umiak(&["pull", "-q", "--platform", "wasi/wasm", &serve]).exits(0);
    town.umiak(&["network", "create", "lan"]).exits(0);
    let flags = ["--network", "lan", "--network-alias", "site", "--platform", "wasi/wasm"];
    town.umiak(&[&["run", "-d", "--name", "web"], &flags[..], &[&serve]].concat()).exits(0);
    town.detached("client", &["--network", "lan"], "exec sleep 1000");
    for name in ["web", "site"] {
        assert_eq!(town.asked("client", name), "hello from 0.2", "{name}");
    }
    town.umiak(&["kill", "web"]).exits(0);
    town.umiak(&["wait", "web"]).exits(0);
    town.umiak(&["start", "web"]).exits(0);
    assert_eq!(town.asked("client", "site"), "hello from 0.2");
    town.umiak(&["run", "--rm", "--network", "bridge", "--platform", "wasi/wasm", &serve])
        .fails(125, &["joining the network `bridge` needs root"]);
    town.leaves(&["lan"]);
}
