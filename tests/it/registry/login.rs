//! Credentials: where they are kept, who gets them, and that they are seen nowhere.

use std::os::unix::fs::PermissionsExt as _;

use super::{have, login};
use crate::support::depot::{BASIC, Depot, Trouble};
use crate::support::host::Host;
use crate::support::private::PASSWORD;
use crate::support::require;

fn config(host: &Host) -> serde_json::Value {
    let bytes = std::fs::read(host.dir().join(".docker/config.json")).expect("a configuration");
    serde_json::from_slice(&bytes).expect("JSON")
}

/// A helper on the path that keeps what it gets in a file.
fn helper(host: &Host, script: &str) -> String {
    let bin = host.dir().join("bin");
    std::fs::create_dir_all(&bin).expect("made");
    let path = bin.join("docker-credential-test");
    std::fs::write(&path, format!("#!/bin/sh\ncd {}\n{script}\n", bin.display())).expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("set");
    format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", bin.display())
}

#[test]
fn credentials_are_checked_kept_and_forgotten() {
    require!(root);
    let (host, depot) = (Host::new(), Depot::new());
    depot.trouble(Trouble::Password);
    let address = depot.address();
    let folder = host.dir().join(".docker");
    std::fs::create_dir(&folder).expect("made");
    std::fs::write(
        folder.join("config.json"),
        r#"{"detachKeys":"ctrl-e","auths":{"other":{"auth":"eDp5"}}}"#,
    )
    .expect("written");
    let bad = host.umiak_reading(b"wrong\n", &["login", "-u", "alice", "--password-stdin", &address]);
    let bad = bad.fails(1, &["unauthorized"]);
    assert!(!bad.stderr.contains("wrong") && config(&host)["auths"].get(&address).is_none());
    let good = host.umiak_reading(
        format!("{PASSWORD}\n").as_bytes(),
        &["login", "-u", "alice", "--password-stdin", &format!("http://{address}/v2/")],
    );
    let good = good.exits(0);
    assert_eq!(good.stdout, "Login Succeeded\n");
    assert!(good.stderr.contains("stored unencrypted"), "{}", good.stderr);
    let kept = config(&host);
    assert_eq!((&kept["detachKeys"], &kept["auths"]["other"]["auth"]), (&"ctrl-e".into(), &"eDp5".into()));
    assert_eq!(kept["auths"][&address]["auth"], BASIC.trim_start_matches("Basic "));
    let mode = std::fs::metadata(folder.join("config.json")).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // Once more without a name: with what is kept.
    let again = host.umiak(&["login", &address]).exits(0).stdout;
    assert!(again.starts_with("Authenticating with existing credentials... [Username: alice]\n"), "{again}");
    let name = format!("{address}/x");
    have(&host, &name, 10);
    host.umiak(&["push", &name]).exits(0);
    let out = host.umiak(&["logout", &address]).exits(0).stdout;
    assert_eq!(out, format!("Removing login credentials for {address}\n"));
    assert_eq!(host.umiak(&["logout", &address]).exits(0).stdout, format!("Not logged in to {address}\n"));
    assert!(config(&host)["auths"].get("other").is_some());
    host.umiak(&["push", &name]).fails(1, &["denied", "umiak login"]);
}

#[test]
fn nothing_says_the_password() {
    require!(root);
    let (host, depot) = (Host::new(), Depot::new());
    depot.trouble(Trouble::Password);
    let name = format!("{}/x", depot.address());
    have(&host, &name, 10);
    let given = host.umiak(&["--debug", "login", "-u", "alice", "-p", PASSWORD, &depot.address()]).exits(0);
    assert!(given.stderr.contains("WARNING! Using --password via the CLI is insecure."), "{}", given.stderr);
    let mut said = given.stdout + &given.stderr;
    for command in ["push", "pull"] {
        let out = host.umiak(&["--log-level", "trace", command, &name]).exits(0);
        said += &(out.stdout + &out.stderr);
    }
    depot.trouble(Trouble::Refuse(403, "{}"));
    let out = host.umiak(&["--log-level", "trace", "push", &name]).exits(1);
    said += &(out.stdout + &out.stderr);
    let packed = BASIC.trim_start_matches("Basic ");
    assert!(!said.contains(PASSWORD) && !said.contains(packed), "{said}");
}

#[test]
fn refusals_before_anything_is_asked() {
    require!(root);
    let host = Host::new();
    for (args, words) in [
        (
            &["-u", "x", "-p", "y", "--password-stdin", "r.lan"][..],
            "cannot specify both --password and --password-stdin",
        ),
        (&["--password-stdin", "r.lan"], "--password-stdin option requires --username"),
        (&["r.lan"], "Cannot perform an interactive login from a non TTY device"),
        (
            &["-u", "x", "--password-stdin", "r.lan"],
            "Cannot perform an interactive login from a non TTY device",
        ),
        (&["-u", "x", "-p", "y", "no registry"], "invalid registry"),
    ] {
        let out = host.umiak(&[&["login"], args].concat());
        assert!(out.status != 0 && out.stderr.contains(words), "{args:?}: {}", out.stderr);
    }
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("it").port();
    let nobody = format!("127.0.0.1:{port}");
    host.umiak(&["login", "-u", "x", "-p", "y", &nobody]).exits(1);
    assert!(!host.dir().join(".docker").exists());
}

#[test]
fn helpers_keep_secrets_instead_of_the_file() {
    require!(root);
    let (host, depot) = (Host::new(), Depot::new());
    depot.trouble(Trouble::Password);
    let path = helper(
        &host,
        "case $1 in store) cat >kept;; get) [ -e kept ] && cat kept || { echo credentials not found in native keychain; exit 1; };; \
         erase) rm -f kept;; esac; echo \"$@\" >>words",
    );
    std::fs::create_dir(host.dir().join(".docker")).expect("made");
    std::fs::write(host.dir().join(".docker/config.json"), r#"{"credsStore":"test"}"#).expect("written");
    let run = |args: &[&str], input: &[u8]| {
        let mut command = host.command(args);
        let mut child =
            command.env("PATH", &path).stdin(std::process::Stdio::piped()).spawn().expect("starts");
        std::io::Write::write_all(&mut child.stdin.take().expect("piped"), input).expect("written");
        host.finish(child, args)
    };
    let address = depot.address();
    let out = run(&["login", "-u", "alice", "--password-stdin", &address], PASSWORD.as_bytes()).exits(0);
    assert!(!out.stderr.contains("unencrypted"), "{}", out.stderr);
    let file = std::fs::read_to_string(host.dir().join(".docker/config.json")).expect("there");
    assert!(file.contains(&address) && !file.contains("auth\""), "{file}");
    let kept = std::fs::read_to_string(host.dir().join("bin/kept")).expect("stored");
    assert!(kept.contains(PASSWORD) && kept.contains(&address), "{kept}");
    let words = std::fs::read_to_string(host.dir().join("bin/words")).expect("run");
    assert!(
        words.lines().all(|line| ["get", "store"].contains(&line)),
        "a secret on a command line: {words}"
    );
    let name = format!("{address}/x");
    have(&host, &name, 10);
    run(&["push", &name], b"").exits(0);
    run(&["logout", &address], b"").exits(0);
    assert!(!host.dir().join("bin/kept").exists());
    run(&["push", &name], b"").fails(1, &["denied"]);
    // A helper that is broken is named where its credentials were needed.
    helper(&host, "echo the keyring is locked; exit 1");
    run(&["push", &name], b"").fails(1, &["denied", "the keyring is locked"]);
}

#[test]
fn podmans_file_is_read_too() {
    require!(root);
    let (host, depot) = (Host::new(), Depot::new());
    let name = format!("{}/team/x", depot.address());
    have(&host, &name, 10);
    depot.trouble(Trouble::Password);
    let folder = host.dir().join(".config/containers");
    std::fs::create_dir_all(&folder).expect("made");
    let auth = BASIC.trim_start_matches("Basic ");
    let text = format!(r#"{{"auths":{{"{}/team":{{"auth":"{auth}"}}}}}}"#, depot.address());
    std::fs::write(folder.join("auth.json"), text).expect("written");
    host.umiak(&["push", &name]).exits(0);
    let other = format!("{}/other/x", depot.address());
    host.umiak(&["tag", &name, &other]).exits(0);
    host.umiak(&["push", &other]).fails(1, &["denied"]);
}

#[test]
fn logins_at_once_lose_nothing() {
    require!(root);
    let (host, depots) = (Host::new(), [Depot::new(), Depot::new(), Depot::new(), Depot::new()]);
    std::thread::scope(|scope| {
        for depot in &depots {
            scope.spawn(|| login(&host, &depot.address()));
        }
    });
    let auths = config(&host)["auths"].as_object().expect("an object").len();
    assert_eq!(auths, depots.len());
}

#[test]
fn an_identity_token_is_kept_in_the_passwords_place() {
    require!(root);
    let (host, depot) = (Host::new(), Depot::new());
    let name = format!("{}/x", depot.address());
    have(&host, &name, 10);
    depot.trouble(Trouble::Tokens(2));
    depot.trouble(Trouble::Identity);
    login(&host, &depot.address());
    assert_eq!(config(&host)["auths"][depot.address()], serde_json::json!({ "identitytoken": "fresh" }));
    depot.asked();
    host.umiak(&["push", &name]).exits(0);
    let tokens: Vec<_> = depot.asked().into_iter().filter(|one| one.path.starts_with("/token")).collect();
    assert!(tokens.len() > 1, "{tokens:?}");
    assert!(tokens.iter().all(|one| one.method == "POST" && one.authorization.is_none()), "{tokens:?}");
}
