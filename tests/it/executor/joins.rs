//! Containers that share another's network, by the command line.

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
