//! What is asked wrongly: exit statuses, messages, and that nothing happens.

use crate::support::host::Host;
use crate::support::{registry, require};

#[test]
fn bad_arguments_end_with_dockers_statuses() {
    let host = Host::new();
    for (args, status) in [
        (&["run"][..], 1),
        (&["run", "--no-such-flag", "x"], 125),
        (&["run", "--network", "name=moon,nope=1", "x"], 125),
        (&["run", "--pull", "sometimes", "x"], 125),
        (&["run", "-e"], 125),
        (&["run", "UPPER"], 125),
        (&["run", "x:bad tag"], 125),
        (&["run", "--platform", "a/b/c/d/e", "x"], 125),
        (&["run", "--env-file", "/nonexistent", "x"], 125),
        (&["ps", "--no-such-flag"], 125),
        (&["no-such-command"], 1),
        (&["rm"], 1),
        (&["rmi"], 1),
        (&["kill"], 1),
        (&["wait"], 1),
        (&["logs"], 1),
        (&["inspect"], 1),
        (&["pull"], 1),
        (&["pull", "UPPER/case"], 1),
        (&["pull", "a", "b"], 1),
        (&["logs", "nobody"], 1),
        (&["wait", "nobody"], 1),
        (&["rm", "nobody"], 1),
        (&["rm", "-f", "nobody"], 0),
        (&["--config", "/nonexistent", "ps"], 1),
    ] {
        let out = host.umiak(args);
        assert_eq!(out.status, status, "{args:?}: {out:?}");
        assert!(!out.stderr.is_empty() && !out.stderr.contains("panicked"), "{args:?}: {out:?}");
        assert!(out.stdout.is_empty(), "{args:?}: {out:?}");
    }
    assert_eq!(host.umiak(&["ps", "-aq"]).exits(0).stdout, "");
}

#[test]
fn an_image_that_is_nowhere() {
    let host = Host::new();
    host.umiak(&["run", "--rm", "--pull", "never", "127.0.0.1:1/x"]).fails(125, &["127.0.0.1:1/x"]);
    let out = host.umiak(&["run", "--rm", "127.0.0.1:1/x"]).fails(125, &["cannot connect", "127.0.0.1:1"]);
    assert!(out.stderr.contains("Unable to find image '127.0.0.1:1/x:latest' locally"), "{}", out.stderr);
    assert_eq!(host.umiak(&["ps", "-aq"]).exits(0).stdout, "");
}

#[test]
fn pull_never_uses_what_is_there() {
    require!(root, registry);
    let host = Host::new();
    let image = registry::busybox();
    host.umiak(&["run", "--rm", "--pull", "never", &image, "true"]).exits(125);
    host.umiak(&["pull", "-q", &image]).exits(0);
    host.umiak(&["run", "--rm", "--pull", "never", &image, "true"]).exits(0);
    let out = host.umiak(&["run", "--rm", "--pull", "always", &image, "true"]).exits(0);
    assert!(out.stderr.contains("Pulling from"), "{}", out.stderr);
}

#[test]
fn the_program_tells_about_itself() {
    let host = Host::new();
    let version = env!("CARGO_PKG_VERSION");
    for args in [&["-v"][..], &["--version"], &["version"], &["version", "-f", "{{.Client.Version}}"]] {
        let out = host.umiak(args).exits(0).stdout;
        assert!(out.contains(version), "{args:?}: {out}");
    }
    let info = host.umiak(&["info"]).exits(0).stdout;
    assert!(
        info.contains("Containers: 0") && info.contains("Images: 0") && info.contains("Storage Driver:"),
        "{info}"
    );
    let info: serde_json::Value =
        serde_json::from_str(&host.umiak(&["info", "-f", "json"]).exits(0).stdout).expect("JSON");
    assert_eq!(info["DockerRootDir"].as_str(), Some(host.root().to_str().expect("text")));
    for shell in ["bash", "zsh", "fish"] {
        let out = host.umiak(&["completion", shell]).exits(0).stdout;
        assert!(out.contains("umiak") && out.contains("inspect"), "{shell}");
    }
    for args in [&["--help"][..], &["run", "--help"], &["ps", "--help"], &[]] {
        assert!(host.umiak(args).exits(0).stdout.contains("Usage:"), "{args:?}");
    }
}
