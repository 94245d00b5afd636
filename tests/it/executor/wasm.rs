//! WASI programs through the same commands as Linux ones.

use crate::support::host::Host;
use crate::support::{registry, require};

fn image(name: &str, tag: &str) -> String {
    format!("{}/wasm/{name}:{tag}", registry::address())
}

const PACKAGINGS: [&str; 6] = ["artifact-p1", "artifact-p2", "layer-p1", "layer-p2", "tar-p1", "tar-p2"];

#[test]
fn a_guest_sees_what_it_is_given_and_no_more() {
    require!(root, registry);
    let host = Host::new();
    for tag in PACKAGINGS {
        let image = image("probe", tag);
        let args = ["run", "--rm", "--platform", "wasi/wasm", "-e", "A=x y", &image];
        let out = host.umiak(&args).exits(0).stdout;
        assert!(out.contains("env A=x y\n"), "{tag}: {out}");
        for own in ["UMIAK", "HOME=/tmp", &host.dir().to_string_lossy()] {
            assert!(!out.contains(own), "{tag}: `{own}` of the host in {out}");
        }
        assert!(!out.contains("file /work") && !out.contains("file /proc"), "{tag}: {out}");
    }
    let image = image("probe", "tar-p1");
    let args = ["run", "--rm", "--platform", "wasi/wasm", &image, "one", "two words"];
    let out = host.umiak(&args).exits(0).stdout;
    assert!(out.contains("arg one\narg two words\n") && out.contains("file /app.wasm\n"), "{out}");
}

#[test]
fn both_kinds_look_alike_from_outside() {
    require!(root, registry);
    let host = Host::new();
    let image = image("hello", "artifact-p2");
    host.umiak(&["run", "--name", "wasm", "--platform", "wasi/wasm", &image]).exits(0);
    assert_eq!(host.umiak(&["logs", "wasm"]).exits(0).stdout, "hello from wasm\n");
    assert_eq!(host.umiak(&["wait", "wasm"]).exits(0).text(), "0");
    let format = "{{.Executor.Name}} {{.ImagePlatform}} {{.State.Status}}";
    assert_eq!(host.umiak(&["inspect", "-f", format, "wasm"]).exits(0).text(), "wasm wasi/wasm exited");
    let line = host.umiak(&["ps", "-a"]).exits(0).stdout;
    assert!(line.contains("Exited (0)") && line.contains("wasm"), "{line}");
    host.umiak(&["rm", "wasm"]).exits(0);
}

#[test]
fn an_endless_loop_can_be_killed() {
    require!(root, registry);
    let host = Host::new();
    for tag in ["artifact-p1", "tar-p2"] {
        let image = image("spin", tag);
        let id = host.umiak(&["run", "-d", "--platform", "wasi/wasm", &image]).exits(0).text().to_owned();
        while !host.umiak(&["logs", &id]).exits(0).stdout.contains("spinning") {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        host.umiak(&["rm", &id]).fails(1, &["running"]);
        host.umiak(&["kill", &id]).exits(0);
        assert_eq!(host.umiak(&["wait", &id]).exits(0).text(), "137", "{tag}");
        host.umiak(&["rm", &id]).exits(0);
    }
    let id = host.umiak(&["run", "-d", "--platform", "wasi/wasm", &image("spin", "layer-p1")]).exits(0);
    host.umiak(&["rm", "-f", id.text()]).exits(0);
    assert_eq!(host.umiak(&["ps", "-aq"]).exits(0).stdout, "");
}

#[test]
fn heavy_memory_ends_at_its_limit() {
    require!(root, registry);
    let host = Host::new();
    let config = host.dir().join("small.toml");
    std::fs::write(&config, "[wasm]\nmemory-mib = 64\n").expect("a file");
    let config = config.to_string_lossy().into_owned();
    let image = image("grow", "artifact-p1");
    let out = host.umiak(&["--config", &config, "run", "--rm", "--platform", "wasi/wasm", &image]);
    assert_ne!(out.status, 0, "{out:?}");
    assert!(out.stdout.contains("16 MiB") && !out.stdout.contains("80 MiB"), "{out:?}");
}

#[test]
fn one_tag_of_two_kinds_keeps_both() {
    require!(root, registry);
    let host = Host::new();
    let image = format!("{}/both", registry::address());
    for _ in 0..2 {
        assert_eq!(host.umiak(&["run", "--rm", &image]).exits(0).stdout, "hello from linux\n");
        let wasm = host.umiak(&["run", "--rm", "--platform", "wasi/wasm", &image]).exits(0);
        assert_eq!(wasm.stdout, "hello from wasm\n");
    }
    host.umiak(&["run", "--rm", "--platform", "linux/s390x", &image])
        .fails(125, &["linux/s390x", "linux/amd64", "wasi/wasm"]);
    host.umiak(&["run", "--rm", "--runtime", "wasm", "--platform", "linux/amd64", &image])
        .fails(125, &["wasm", "linux/amd64"]);
    host.umiak(&["run", "--rm", "--runtime", "moon", &image]).fails(125, &["moon"]);
}

#[test]
fn changes_go_to_the_containers_layer() {
    require!(root, registry);
    let host = Host::new();
    let image = image("files", "tar-p1");
    for round in 0..2 {
        // The second container finds no trace of the first.
        let name = format!("files-{round}");
        let out = host.umiak(&["run", "--name", &name, "--platform", "wasi/wasm", &image]).exits(7);
        assert_eq!(out.stdout, "confined\nconfined\nconfined\nread by a guest\n");
        host.umiak(&["rm", &name]).exits(0);
    }
}
