//! Running: exit statuses, the process as the image and the flags describe it, and wasm from each packaging.

mod conformance;
mod exec;
mod joins;
mod linux;
mod oci;
mod wasm;
mod wasm_compiled;
mod wasm_conform;
mod wasm_grants;
mod wasm_hostile;
pub(crate) mod wasm_programs;
mod wasm_serve;
mod wasm_slim;

use crate::support::{host::Host, registry, require};

#[test]
fn exit_statuses_are_dockers() {
    require!(root, registry);
    let host = Host::new();
    let image = format!("{}/library/busybox", registry::address());
    for (command, status) in [
        (&["true"][..], 0),
        (&["sh", "-c", "exit 7"], 7),
        (&["/etc/passwd"], 126),
        (&["no-such-command"], 127),
        // The first process of a pid namespace is immune to its own signals, so its child is the one that dies.
        (&["sh", "-c", "sh -c 'kill -TERM $$'; exit $?"], 143),
        (&["sh", "-c", "sh -c 'kill -KILL $$'; exit $?"], 137),
    ] {
        let mut args = vec!["run", "--rm", image.as_str()];
        args.extend(command);
        host.umiak(&args).exits(status);
    }
    host.umiak(&["run", "--no-such-flag", &image]).exits(125);
}

#[test]
fn the_image_configuration_is_obeyed() {
    require!(root, registry);
    let host = Host::new();
    for (tag, command, expected) in [
        ("user", &["id", "-un"][..], "alice\n"),
        ("workdir", &["pwd"], "/var/new\n"),
        ("env", &["sh", "-c", "echo $A-$B"], "1-x y\n"),
        ("entrypoint", &[], "entry cmd\n"),
        ("entrypoint", &["other"], "entry other\n"),
    ] {
        let image = format!("{}/config:{tag}", registry::address());
        let mut args = vec!["run", "--rm", image.as_str()];
        args.extend(command);
        assert_eq!(host.umiak(&args).exits(0).stdout, expected, "{tag} {command:?}");
    }
}

#[test]
fn wasm_runs_from_every_packaging() {
    require!(root, registry);
    let host = Host::new();
    for kind in ["artifact", "layer", "tar"] {
        for level in ["p1", "p2"] {
            let image = format!("{}/wasm/hello:{kind}-{level}", registry::address());
            let out = host.umiak(&["run", "--rm", "--platform", "wasi/wasm", &image]).exits(0);
            assert_eq!(out.stdout, "hello from wasm\n", "{kind} {level}");
        }
    }
}

#[test]
fn one_tag_has_two_kinds() {
    require!(root, registry);
    let host = Host::new();
    let image = format!("{}/both", registry::address());
    assert_eq!(host.umiak(&["run", "--rm", &image]).exits(0).stdout, "hello from linux\n");
    let wasm = host.umiak(&["run", "--rm", "--platform", "wasi/wasm", &image]).exits(0);
    assert_eq!(wasm.stdout, "hello from wasm\n");
}
