//! Wasm containers on networks: names both ways with Linux ones, published ports, restarts, and nothing left.

use super::Town;
use crate::support::{registry, require};

fn image(name: &str, tag: &str) -> String {
    format!("{}/wasm/{name}:{tag}", registry::address())
}

/// Asks until there is an answer: a container that runs need not listen yet.
fn patiently(what: &str) -> String {
    format!(
        "for i in $(seq 200); do out=$({what} 2>/dev/null); [ -z \"$out\" ] || {{ echo \"$out\"; exit; }}; sleep 0.05; done; exit 1"
    )
}

/// A host with a network and two Wasm images.
fn town() -> Town {
    let town = Town::new("nameserver 127.0.0.1\n");
    for image in [image("serve2", "artifact-p2"), image("does", "artifact-p2")] {
        town.host.umiak(&["pull", "-q", "--platform", "wasi/wasm", &image]).exits(0);
    }
    town.umiak(&["network", "create", "lan"]).exits(0);
    town
}

/// The devices of the host's.
fn devices(town: &Town) -> String {
    town.inside(&["--network", "host"], "cut -d: -f1 /proc/net/dev")
}

#[test]
fn a_wasm_server_is_found_by_its_names_and_through_its_port() {
    require!(root, registry);
    let town = town();
    let serve = image("serve2", "artifact-p2");
    let before_all = devices(&town);
    let flags = ["--network", "lan", "--network-alias", "site", "-p", "18080:80"];
    town.umiak(&[&["run", "-d", "--name", "web", "--platform", "wasi/wasm"][..], &flags, &[&serve]].concat())
        .exits(0);
    for name in ["web", "site"] {
        let out = town.inside(&["--network", "lan"], &patiently(&format!("wget -qO- http://{name}/")));
        assert_eq!(out.trim_end(), "hello from 0.2", "{name}");
    }
    let host = ["--network", "host"];
    let out = town.inside(&host, &patiently("wget -qO- http://127.0.0.1:18080/"));
    assert_eq!(out.trim_end(), "hello from 0.2");
    let address = "{{.NetworkSettings.Networks.lan.IPAddress}}";
    let before = town.umiak(&["inspect", "-f", address, "web"]).exits(0).stdout;
    let out = town.inside(&host, &patiently(&format!("wget -qO- http://{}/", before.trim())));
    assert_eq!(out.trim_end(), "hello from 0.2");
    town.umiak(&["kill", "web"]).exits(0);
    town.umiak(&["wait", "web"]).exits(0);
    town.umiak(&["start", "web"]).exits(0);
    let out = town.inside(&["--network", "lan"], &patiently("wget -qO- http://site/"));
    assert_eq!(out.trim_end(), "hello from 0.2");
    // Connected with another while it runs; one that runs without networks is not, nor is the host in its place.
    town.umiak(&["network", "create", "more"]).exits(0);
    town.umiak(&["network", "connect", "--alias", "elsewhere", "more", "web"]).exits(0);
    let out = town.inside(&["--network", "more"], &patiently("wget -qO- http://elsewhere/"));
    assert_eq!(out.trim_end(), "hello from 0.2");
    town.umiak(&["run", "-d", "--name", "alone", "--platform", "wasi/wasm", &serve]).exits(0);
    town.umiak(&["network", "connect", "more", "alone"]).fails(1, &["runs without networks"]);
    town.umiak(&["rm", "-f", "web", "alone"]).exits(0);
    town.umiak(&["network", "rm", "lan", "more"]).exits(0);
    assert_eq!(devices(&town), before_all);
}

#[test]
fn a_wasm_program_finds_others_by_name_and_listens_in_its_own_network() {
    require!(root, registry);
    let town = town();
    let does = image("does", "artifact-p2");
    let wasm = |flags: &[&str], steps: &[&str]| {
        let head = ["run", "--rm", "--platform", "wasi/wasm", "--network", "lan"];
        town.umiak(&[&head[..], flags, &[&does], steps].concat())
    };
    town.umiak(&[
        "run",
        "-d",
        "--name",
        "db",
        "--network",
        "lan",
        &town.image,
        "nc",
        "-ll",
        "-p",
        "7000",
        "-e",
        "echo",
        "reached",
    ])
    .exits(0);
    // It listens when another container gets an answer.
    assert_eq!(town.inside(&["--network", "lan"], &patiently("nc db 7000")).trim_end(), "reached");
    let out = wasm(&[], &["connect", "db:7000", "--", "resolve", "db", "--", "resolve", "nobody"]).stdout;
    let lines: Vec<&str> = out.lines().filter(|line| !line.is_empty()).collect();
    assert!(lines.len() == 3 && lines[0] == "reached" && lines[1] == "resolved true", "{out}");
    assert!(lines[2].starts_with("error"), "{out}");
    // What was named, and no more.
    assert_eq!(wasm(&["--allow-net", "db:7000"], &["connect", "db:7000"]).stdout.trim_end(), "reached");
    let out = wasm(&["--allow-net", "db:7001"], &["connect", "db:7000"]).stdout;
    assert!(out.starts_with("error"), "{out}");
    let answer = |flags: &[&str]| {
        let common = ["run", "-d", "--platform", "wasi/wasm", "--network", "lan"];
        town.umiak(&[&common[..], flags, &[&does, "answer", "0.0.0.0:7000"]].concat()).exits(0);
    };
    answer(&["--name", "answers"]);
    assert_eq!(town.inside(&["--network", "lan"], &patiently("nc answers 7000")).trim_end(), "answered");
    assert_eq!(town.umiak(&["wait", "answers"]).exits(0).stdout.trim_end(), "0");
    // Run after run in one supervisor has the same network.
    answer(&["--name", "again", "--restart", "always"]);
    for round in 0..3 {
        let out = town.inside(&["--network", "lan"], &patiently("nc again 7000"));
        assert_eq!(out.trim_end(), "answered", "{round}");
    }
    town.umiak(&["rm", "-f", "db", "answers", "again"]);
    town.umiak(&["network", "rm", "lan"]).exits(0);
}
