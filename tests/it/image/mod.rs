//! Pulling: what is printed, that it is idempotent, every layer format, and errors.
mod archive;
mod commit;
mod hostile;
mod interop;
mod resume;
mod versions;

use crate::support::{host::Host, registry, require};

#[test]
fn pull_says_what_docker_says_and_is_idempotent() {
    require!(root, registry);
    let host = Host::new();
    let name = format!("{}/library/busybox", registry::address());
    let first = host.umiak(&["pull", &name]).exits(0).stdout;
    assert!(first.contains("Digest: sha256:"), "{first}");
    assert!(first.contains(&format!("Status: Downloaded newer image for {name}:latest")), "{first}");
    let second = host.umiak(&["pull", &name]).exits(0).stdout;
    assert!(second.contains(&format!("Status: Image is up to date for {name}:latest")), "{second}");
}

#[test]
fn every_layer_format_unpacks_to_the_same_files() {
    require!(root, registry);
    let host = Host::new();
    for tag in ["latest", "schema2", "zstd", "plain"] {
        let name = format!("{}/library/busybox:{tag}", registry::address());
        let out = host.umiak(&["run", "--rm", &name, "cat", "/etc/group"]).exits(0).stdout;
        assert_eq!(out, "root:x:0:\nalice:x:1000:\nstaff:x:50:alice\n", "{tag}");
    }
}

#[test]
fn an_unknown_image_is_125_with_its_name() {
    require!(root, registry);
    let host = Host::new();
    let name = format!("{}/library/nothing", registry::address());
    let out = host.umiak(&["run", "--rm", &name]).exits(125);
    assert!(out.stderr.contains("library/nothing"), "{}", out.stderr);
    assert!(host.umiak(&["images", "-q"]).exits(0).stdout.is_empty());
}

/// The folder of a fixture that is an OCI layout.
fn layout(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target/fixtures/layouts").join(name)
}

/// Platform, id and digest of every image.
fn digests(host: &Host) -> Vec<String> {
    let format = "{{.Platform}} {{.ID}} {{.Digest}}";
    let out = host.umiak(&["images", "--no-trunc", "--format", format]).exits(0).stdout;
    let mut all: Vec<String> = out.lines().map(str::to_owned).collect();
    all.sort();
    all
}

/// `sha256:…` of some bytes.
fn sha256(bytes: &[u8]) -> String {
    umiak::model::Digest::of(bytes).to_string()
}
