//! Containers on networks. Every test has a network of its own for its host (a namespace), so that the machine's is left alone and
//! tests do not meet; other hosts are further namespaces on a cable.

mod bridge;
mod faults;
mod isolation;
mod ports;
pub(crate) mod services;
mod users;

use std::time::Duration;

use crate::support::host::{Host, Space};
use crate::support::registry;

/// A page that tells each client its address, as a program of busybox' server.
const ANSWER: &str =
    "#!/bin/sh\necho Content-Type: text/plain\necho\na=${REMOTE_ADDR#[}\na=${a%]}\necho ${a#::ffff:}\n";

/// Serves the page in a container, which has it in `$ANSWER`.
const WHO: &str = "mkdir -p /www/cgi-bin; printf '%s' \"$ANSWER\" > /www/cgi-bin/who; chmod +x /www/cgi-bin/who; \
                   exec httpd -f -p 80 -h /www";

/// A host with busybox in its store, and busybox' name.
fn host() -> (Host, String) {
    let image = registry::busybox();
    (Host::networked(&[&image]), image)
}

/// Starts a container in the background.
#[track_caller]
fn detached(host: &Host, flags: &[&str], script: &str) -> String {
    let image = registry::busybox();
    let args = [&["run", "-d"], flags, &[&image, "sh", "-c", script]].concat();
    host.umiak(&args).exits(0).text().to_owned()
}

/// Starts the page in the background, and waits until it answers.
#[track_caller]
fn page(host: &Host, flags: &[&str]) -> String {
    let answer = format!("ANSWER={ANSWER}");
    let id = detached(host, &[&["-e", &answer], flags].concat(), WHO);
    let asks = ["exec", &id, "wget", "-q", "-O", "/dev/null", "http://127.0.0.1/cgi-bin/who"];
    crate::cli::until("the page answers", || host.umiak(&asks).status == 0);
    id
}

/// What the page says to somebody on the host.
fn asked(space: &Space, address: &str) -> Option<String> {
    let url = format!("http://{address}/cgi-bin/who");
    let out = space
        .command("timeout")
        .args(["3", "busybox", "wget", "-q", "-O", "-", &url])
        .output()
        .expect("busybox");
    out.status.success().then(|| String::from_utf8_lossy(&out.stdout).trim().to_owned())
}

/// What it says to somebody in a container.
fn asked_from(host: &Host, container: &str, address: &str) -> Option<String> {
    let url = format!("http://{address}/cgi-bin/who");
    let out = host.umiak(&["exec", container, "timeout", "3", "wget", "-q", "-O", "-", &url]);
    (out.status == 0).then(|| out.text().to_owned())
}

/// A field of a container's document.
#[track_caller]
fn field(host: &Host, container: &str, template: &str) -> String {
    host.umiak(&["inspect", "-f", template, container]).exits(0).text().to_owned()
}

/// Another host (`192.0.2.9`, `2001:db8::9`) on a cable to this one (`192.0.2.1`, `2001:db8::1`). It has no route to containers.
fn neighbour(space: &Space) -> Space {
    let other = Space::new();
    space.sh(&format!(
        "ip link add cable type veth peer name eth0 netns {}; ip addr add 192.0.2.1/24 dev cable; \
         ip addr add 2001:db8::1/64 dev cable nodad; ip link set cable up",
        other.pid()
    ));
    other.sh(
        "ip addr add 192.0.2.9/24 dev eth0; ip addr add 2001:db8::9/64 dev eth0 nodad; ip link set eth0 up",
    );
    std::thread::sleep(Duration::from_millis(50));
    other
}

/// Nothing of the engine's is in the host's network any more.
#[track_caller]
fn bare(host: &Host) {
    crate::cli::until("links and tables go", || {
        let links = host.space().sh("ip -o link; nft list tables");
        !links.contains("um-") && !links.contains("uv") && !links.contains("umiak")
    });
}
