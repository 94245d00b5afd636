//! A real registry behind a password, a token service, TLS with an authority of one's own, a client's certificate; proxies.

use std::path::Path;

use super::{have, login};
use crate::support::depot::Depot;
use crate::support::host::Host;
use crate::support::private::{Door, PASSWORD, Private};
use crate::support::require;

/// Pushes and pulls again from another host that has the same home.
fn there_and_back(host: &Host, name: &str) {
    let made = have(host, name, 2_000_000);
    let out = host.umiak(&["push", name]).exits(0).stdout;
    assert!(out.contains(made.as_str()), "{out}");
    host.umiak(&["rmi", name]).exits(0);
    let out = host.umiak(&["pull", name]).exits(0).stdout;
    assert!(out.contains(made.as_str()), "{out}");
}

#[test]
fn a_password_and_a_token_service() {
    require!(root, registry);
    for door in [Door::Password, Door::Token] {
        let (host, private) = (Host::new(), Private::new(door));
        let name = format!("{}/a/b", private.address);
        have(&host, &name, 1000);
        host.umiak(&["push", &name]).fails(1, &["denied"]);
        let bad = ["login", "-u", "alice", "-p", "wrong", &private.address];
        host.umiak(&bad).exits(1);
        host.umiak(&["pull", &name]).exits(1);
        login(&host, &private.address);
        there_and_back(&host, &name);
        // Mounting needs a right in both repositories.
        let near = format!("{}/c", private.address);
        host.umiak(&["tag", &name, &near]).exits(0);
        let out = host.umiak(&["push", &near]).exits(0).stdout;
        assert_eq!(out.matches("Mounted from a/b").count(), 2, "{door:?}: {out}");
    }
}

fn configure(host: &Host, text: &str) {
    let folder = host.dir().join(".config/umiak");
    std::fs::create_dir_all(&folder).expect("made");
    std::fs::write(folder.join("config.toml"), text).expect("written");
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to.parent().expect("a folder")).expect("made");
    std::fs::copy(from, to).expect("copied");
}

#[test]
fn an_authority_of_ones_own() {
    require!(root, registry);
    let private = Private::new(Door::Tls);
    let section = format!("[registries.\"{}\"]\ntls = true\n", private.address);
    let ca = private.file("ca.pem");
    let trust = |how: &str| {
        let host = Host::new();
        match how {
            "ca-file" => configure(&host, &format!("{section}ca-file = \"{}\"\n", ca.display())),
            "skip-verify" => configure(&host, &format!("{section}skip-verify = true\n")),
            _ => {
                configure(&host, &section);
                let folder = host.dir().join(".config/umiak/certs.d").join(&private.address);
                copy(&ca, &folder.join("own.crt"));
            }
        }
        host
    };
    let stranger = Host::new();
    configure(&stranger, &section);
    let args = ["login", "-u", "alice", "-p", PASSWORD, &private.address];
    stranger.umiak(&args).exits(1);
    let refused = stranger.umiak(&["pull", &format!("{}/x", private.address)]).exits(1).stderr;
    assert!(
        refused.contains("no trusted TLS connection") || refused.contains("cannot set up HTTP"),
        "{refused}"
    );
    for how in ["ca-file", "certs.d", "skip-verify"] {
        let host = trust(how);
        login(&host, &private.address);
        there_and_back(&host, &format!("{}/{how}", private.address));
    }
}

#[test]
fn a_certificate_of_the_clients() {
    require!(root, registry);
    let private = Private::new(Door::Client);
    let section = format!("[registries.\"{}\"]\ntls = true\n", private.address);
    let name = format!("{}/x", private.address);
    let host = Host::new();
    configure(&host, &section);
    let folder = host.dir().join(".config/umiak/certs.d").join(&private.address);
    copy(&private.file("ca.pem"), &folder.join("ca.crt"));
    host.umiak(&["pull", &name]).exits(1);
    copy(&private.file("client.pem"), &folder.join("client.cert"));
    host.umiak(&["pull", &name]).fails(1, &["missing key", "client.key"]);
    copy(&private.file("client.key"), &folder.join("client.key"));
    there_and_back(&host, &name);
    let other = Host::new();
    let (cert, key) = (private.file("client.pem"), private.file("client.key"));
    let keys = format!(
        "{section}ca-file = \"{}\"\nclient-cert = \"{}\"\nclient-key = \"{}\"\n",
        private.file("ca.pem").display(),
        cert.display(),
        key.display()
    );
    configure(&other, &keys);
    other.umiak(&["pull", &name]).exits(0);
}

#[test]
fn proxies_are_those_of_the_environment() {
    require!(root);
    let depot = Depot::new();
    let proxy = format!("http://{}", depot.address());
    let name = "registry.test:5000/proxied";
    let host = Host::new();
    configure(&host, "[registries.\"registry.test:5000\"]\ninsecure = true\n");
    have(&host, name, 1000);
    let push = |key: &str, except: &str| {
        let args = ["push", name];
        let mut command = host.command(&args);
        let child = command.env(key, &proxy).env("NO_PROXY", except).spawn().expect("umiak starts");
        host.finish(child, &args)
    };
    push("HTTP_PROXY", "").exits(0);
    assert!(depot.get("proxied/manifests/latest").is_some());
    push("http_proxy", "").exits(0);
    push("ALL_PROXY", "").exits(0);
    depot.asked();
    push("HTTP_PROXY", "registry.test").fails(1, &["cannot connect to registry registry.test:5000"]);
    push("HTTPS_PROXY", "").fails(1, &["cannot connect to registry registry.test:5000"]);
    assert!(depot.asked().is_empty(), "the proxy was used all the same");
    // Loopback is never asked for through a proxy.
    let own = format!("{}/own", depot.address());
    have(&host, &own, 10);
    let args = ["push", own.as_str()];
    let child = host.command(&args).env("HTTP_PROXY", "http://127.0.0.1:1").spawn().expect("starts");
    host.finish(child, &args).exits(0);
}
