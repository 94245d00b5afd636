//! What goes wrong, and that nothing is left of it.

use super::{asked, bare, detached, field, host, neighbour, page};
use crate::support::host::Host;
use crate::support::require;

fn kill(pid: u32) {
    let status = std::process::Command::new("kill").args(["-KILL", &pid.to_string()]).status().expect("kill");
    assert!(status.success());
    // A process of many threads takes its time to die, and has its locks until then.
    crate::cli::until("it is dead", || {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().count();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        tasks == 0 || (tasks == 1 && status.contains("State:\tZ"))
    });
}

#[test]
fn a_killed_supervisor_leaves_nothing_after_the_next_command() {
    require!(root, registry, net);
    let (host, image) = host();
    let id = detached(&host, &["--name", "one", "-p", "8080:80"], "exec sleep 1000");
    let gone = detached(&host, &["--rm", "--network", "bridge"], "exec sleep 1000");
    for id in [&id, &gone] {
        kill(Host::supervisor(id).expect("a supervisor"));
    }
    // The address and the port are free at once.
    let out = host
        .umiak(&["run", "--rm", "-p", "8080:80", &image, "ip", "-o", "-4", "addr", "show", "eth0"])
        .exits(0);
    assert!(out.stdout.contains("172.17.0.2/16"), "{}", out.stdout);
    bare(&host);
    assert_eq!(field(&host, "one", "{{json .NetworkSettings.Ports}}"), "{}");
    host.umiak(&["start", "one"]).exits(0);
    assert_eq!(field(&host, "one", "{{.NetworkSettings.IPAddress}}"), "172.17.0.2");
    host.umiak(&["rm", "-f", "one"]).exits(0);
    bare(&host);
}

#[test]
fn a_flushed_table_and_a_lost_bridge_are_made_again() {
    require!(root, registry, net);
    let (host, image) = host();
    page(&host, &["--name", "web", "-p", "8080:80"]);
    host.space().sh("nft add table ip theirs; ip addr add 192.0.2.1/24 dev lo");
    host.space()
        .sh("for t in $(nft list tables | awk '/umiak/ { print $3 }'); do nft delete table inet $t; done");
    // The port still leads there: the supervisor holds it.
    assert!(asked(host.space(), "192.0.2.1:8080").is_some());
    host.umiak(&["run", "--rm", &image, "true"]).exits(0);
    let tables = host.space().sh("nft list tables");
    assert!(tables.contains("umiak") && tables.contains("table ip theirs"), "{tables}");
    let rules = host.space().sh("nft list ruleset");
    assert!(rules.contains("8080"), "{rules}");
    host.umiak(&["rm", "-f", "web"]).exits(0);
    bare(&host);
    assert_eq!(host.space().sh("nft list tables"), "table ip theirs", "what is others' stays");
}

#[test]
fn two_stores_on_one_host_do_not_meet() {
    require!(root, registry, net);
    let (host, image) = host();
    detached(&host, &["--name", "one", "-p", "8080:80"], "exec sleep 1000");
    // Another store of the same host.
    let second = Host::beside(&host, &[&image]);
    let out = second.umiak(&["run", "--rm", &image, "ip", "-o", "-4", "addr", "show", "eth0"]).exits(0);
    assert!(out.stdout.contains("172.18.0.2/16"), "{}", out.stdout);
    second
        .umiak(&["run", "--rm", "-p", "8080:80", &image, "true"])
        .fails(125, &["8080/tcp: address already in use by process"]);
    assert!(host.space().sh("nft list tables; ip -o link").contains("um-"), "the first one's is untouched");
    host.umiak(&["rm", "-f", "one"]).exits(0);
    bare(&host);
}

#[test]
fn a_command_from_another_namespace_leaves_what_is_up_alone() {
    require!(root, registry, net);
    let (host, image) = host();
    page(&host, &["--name", "web", "-p", "8080:80"]);
    let other = neighbour(host.space());
    let there = |args: &[&str]| {
        let like = host.command(args);
        let mut command = other.command(env!("CARGO_BIN_EXE_umiak"));
        command.args(args).env_clear().envs(like.get_envs().filter_map(|(key, value)| Some((key, value?))));
        command.output().expect("nsenter")
    };
    let refused = there(&["run", "--rm", &image, "true"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(125), "{said}");
    assert!(said.contains("this store's networks are up in another network namespace of the host"), "{said}");
    assert!(there(&["ps", "-a"]).status.success() && there(&["container", "prune", "-f"]).status.success());
    assert_eq!(other.sh("nft list tables; ip -o link | grep um- || true"), "", "nothing is made there");
    assert_eq!(asked(&other, "192.0.2.1:8080").as_deref(), Some("192.0.2.9"));
    host.umiak(&["run", "--rm", &image, "true"]).exits(0);
    host.umiak(&["rm", "-f", "web"]).exits(0);
    bare(&host);
    // With nobody there it may be anywhere.
    assert!(there(&["run", "--rm", &image, "true"]).status.success());
}

#[test]
fn heavy_kills_at_any_moment_leave_nothing() {
    require!(root, registry, net);
    let (host, image) = host();
    for round in 0_u64..24 {
        let args = ["run", "--rm", "-p", "8080:80", &image, "sleep", "0.05"];
        let mut child = host.command(&args).spawn().expect("umiak starts");
        std::thread::sleep(std::time::Duration::from_millis(round * 7));
        let marker = host.dir().to_string_lossy().into_owned();
        // Everything of this store: the command, the supervisor, init.
        for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
            let ours = String::from_utf8_lossy(&environment).contains(&marker);
            if ours && String::from_utf8_lossy(&line).contains("__supervisor") {
                kill_quietly(pid);
            }
        }
        let _ = child.kill();
        let _ = child.wait();
        host.umiak(&["container", "prune", "-f"]).exits(0);
        // A supervisor that was born after the look at `/proc` runs its container to the end, and has the port until then.
        let again = ["run", "--rm", "-p", "8080:80", &image, "true"];
        crate::cli::until("the port is free", || host.umiak(&again).status == 0);
        crate::cli::until("nothing runs", || host.umiak(&["ps", "-q"]).exits(0).stdout.is_empty());
        // What was still dying when the commands before looked at it is swept by the next one.
        host.umiak(&["container", "prune", "-f"]).exits(0);
        bare(&host);
    }
}

fn kill_quietly(pid: u32) {
    let _ = std::process::Command::new("kill").args(["-KILL", &pid.to_string()]).output();
}
