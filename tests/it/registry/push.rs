//! Pushing: what comes out is what went in, what is there is not sent again, and others can pull it.

use std::process::Command;

use super::{digest, have};
use crate::support::depot::Depot;
use crate::support::host::Host;
use crate::support::{registry, require};

/// What a registry has under a name, as skopeo sees it.
fn skopeo(args: &[&str]) -> String {
    let out = Command::new("skopeo").args(args).output().expect("skopeo is installed");
    assert!(out.status.success(), "skopeo {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}

/// A repository of this test alone.
fn place(test: &str) -> String {
    format!("{}/push-{}/{test}", registry::address(), std::process::id())
}

#[test]
fn every_packaging_keeps_its_digests() {
    require!(root, registry);
    let (host, other) = (Host::new(), Host::new());
    let images = ["latest", "schema2", "zstd", "plain"].map(|tag| format!("library/busybox:{tag}"));
    let modules = ["artifact-p1", "artifact-p2", "layer-p1", "tar-p2"].map(|tag| format!("wasm/hello:{tag}"));
    for name in images.iter().chain(&modules) {
        let from = format!("{}/{name}", registry::address());
        let to = place(name);
        let kind = if name.starts_with("wasm") { "wasi/wasm" } else { "linux/amd64" };
        host.umiak(&["pull", "-q", "--platform", kind, &from]).exits(0);
        host.umiak(&["tag", &from, &to]).exits(0);
        let said = host.umiak(&["push", &to]).exits(0).stdout;
        let raw = skopeo(&["inspect", "--tls-verify=false", "--raw", &format!("docker://{from}")]);
        let again = skopeo(&["inspect", "--tls-verify=false", "--raw", &format!("docker://{to}")]);
        assert_eq!(raw, again, "{name}");
        let pulled = other.umiak(&["pull", "--platform", kind, &to]).exits(0).stdout;
        assert_eq!(digest(&said), digest(&pulled), "{name}");
        let id = |host: &Host| host.umiak(&["images", "-q", "--no-trunc", &to]).exits(0).stdout;
        assert_eq!(id(&host), id(&other), "{name}");
    }
    // Another tool takes them, and its check of every digest holds.
    let dir = tempfile::tempdir().expect("a folder");
    let to = format!("dir:{}", dir.path().display());
    skopeo(&["copy", "--src-tls-verify=false", &format!("docker://{}", place("library/busybox:zstd")), &to]);
}

#[test]
fn what_the_registry_has_is_not_sent() {
    require!(root);
    let (host, depot) = (Host::new(), Depot::new());
    let name = format!("{}/a/b:1", depot.address());
    let made = have(&host, &name, 3_000_000);
    let repository = format!("{}/a/b", depot.address());
    let first = host.umiak(&["push", &name]).exits(0).stdout;
    assert!(first.starts_with(&format!("The push refers to repository [{repository}]\n")), "{first}");
    assert_eq!((first.matches(": Preparing").count(), first.matches(": Pushed").count()), (2, 2), "{first}");
    let size = depot.get("a/b/manifests/1").expect("pushed").len();
    assert!(first.ends_with(&format!("1: digest: {made} size: {size}\n")), "{first}");
    depot.asked();
    let second = host.umiak(&["push", &name]).exits(0).stdout;
    assert_eq!(second.matches(": Layer already exists").count(), 2, "{second}");
    let asked = depot.asked();
    assert!(asked.iter().all(|one| one.length == 0 || one.path.contains("/manifests/")), "{asked:?}");
    assert_eq!(asked.iter().filter(|one| one.method == "HEAD").count(), 3, "two layers and the config");
    assert_eq!(host.umiak(&["push", "-q", &name]).exits(0).stdout, format!("{name}\n"));
    let events = host.umiak(&[
        "events",
        "--since",
        "1h",
        "--until",
        "0s",
        "--filter",
        "event=push",
        "--format",
        "{{.Actor.ID}}",
    ]);
    assert_eq!(events.exits(0).stdout, format!("{name}\n").repeat(3));
    // Another repository of the same registry lends its blobs.
    let near = format!("{}/c:2", depot.address());
    host.umiak(&["tag", &name, &near]).exits(0);
    let third = host.umiak(&["push", &near]).exits(0).stdout;
    assert_eq!(third.matches(": Mounted from a/b").count(), 2, "{third}");
    assert!(!depot.asked().iter().any(|one| one.method == "PATCH"), "something was sent");
}

#[test]
fn one_tag_or_all_of_them() {
    require!(root);
    let (host, depot) = (Host::new(), Depot::new());
    let repository = format!("{}/many", depot.address());
    let made = have(&host, &repository, 1000);
    for tag in ["1", "2"] {
        host.umiak(&["tag", &repository, &format!("{repository}:{tag}")]).exits(0);
    }
    let latest = host.umiak(&["push", &repository]).exits(0).stdout;
    assert!(latest.starts_with("Using default tag: latest\n"), "{latest}");
    assert!(depot.get("many/manifests/1").is_none());
    let all = host.umiak(&["push", "-a", &repository]).exits(0).stdout;
    let lines: Vec<_> = all.lines().filter_map(|line| line.split_once(": digest: ")).collect();
    let tags: Vec<_> = lines.iter().map(|(tag, _)| *tag).collect();
    assert_eq!(tags, ["1", "2", "latest"]);
    assert!(lines.iter().all(|(_, rest)| rest.starts_with(made.as_str())), "{all}");
    // And the way back.
    depot.page(
        "/v2/many/tags/list",
        r#"{"name":"many","tags":["1"]}"#,
        "Link: </v2/many/tags/more>; rel=\"next\"\r\n",
    );
    depot.page("/v2/many/tags/more", r#"{"name":"many","tags":["2","latest"]}"#, "");
    let other = Host::new();
    let pulled = other.umiak(&["pull", "-a", &repository]).exits(0).stdout;
    assert_eq!(pulled.matches(&format!("Digest: {made}")).count(), 3, "{pulled}");
    let end = format!("Status: Downloaded newer image for {repository}\n{repository}\n");
    assert!(pulled.ends_with(&end), "{pulled}");
    let again = other.umiak(&["pull", "-a", &repository]).exits(0).stdout;
    assert!(again.contains(&format!("Status: Image is up to date for {repository}\n")), "{again}");
    assert_eq!(other.umiak(&["pull", "-aq", &repository]).exits(0).stdout, format!("{repository}\n"));
    for (command, name, words) in [
        ("push", format!("{repository}:1"), "tag can't be used with --all-tags/-a"),
        ("pull", format!("{repository}:1"), "tag can't be used with --all-tags/-a"),
        ("push", format!("{}/none", depot.address()), "An image does not exist locally with the tag: "),
        ("pull", format!("{}/none", depot.address()), "not found: name unknown"),
    ] {
        host.umiak(&[command, "-a", &name]).fails(1, &[words]);
    }
}

#[test]
fn a_name_that_cannot_be_pushed() {
    require!(root);
    let (host, depot) = (Host::new(), Depot::new());
    let name = format!("{}/x", depot.address());
    host.umiak(&["push", &name]).fails(1, &["An image does not exist locally with the tag:", "/x"]);
    let made = have(&host, &name, 10);
    host.umiak(&["push", &format!("{name}@{made}")]).fails(1, &["cannot push a digest reference"]);
    host.umiak(&["push", "--platform", "wasi/wasm", &name])
        .fails(1, &["not here for wasi/wasm", "linux/amd64"]);
    host.umiak(&["push", "umiak.internal/hello"]).fails(1, &["umiak.internal", "takes no images"]);
    assert!(depot.asked().is_empty());
}

#[test]
fn a_whole_index_goes_as_it_came() {
    require!(root, registry);
    let host = Host::new();
    let from = format!("{}/both", registry::address());
    let to = place("both");
    host.umiak(&["pull", "-q", "--platform", "linux/amd64", &from]).exits(0);
    host.umiak(&["tag", &from, &to]).exits(0);
    let alone = host.umiak(&["push", &to]).exits(0).stdout;
    assert!(alone.contains("Info: Not all multiplatform-content is present"), "{alone}");
    for platform in ["linux/arm64", "wasi/wasm"] {
        host.umiak(&["pull", "-q", "--platform", platform, &from]).exits(0);
        // The other kinds get the name as well.
        let id = host
            .umiak(&["images", "-q", "--no-trunc", "--format", "{{.ID}} {{.Platform}}", &from])
            .exits(0)
            .stdout;
        let line = id.lines().find(|line| line.ends_with(platform)).unwrap_or_else(|| panic!("{id}"));
        host.umiak(&["tag", line.split(' ').next().expect("an id"), &to]).exits(0);
    }
    let whole = host.umiak(&["push", &to]).exits(0).stdout;
    assert!(!whole.contains("Info:"), "{whole}");
    let raw = |name: &str| skopeo(&["inspect", "--tls-verify=false", "--raw", &format!("docker://{name}")]);
    assert_eq!(raw(&from), raw(&to));
    let one = place("one");
    host.umiak(&["tag", &from, &one]).exits(0);
    host.umiak(&["push", "--platform", "linux/amd64", &one]).exits(0);
    assert!(raw(&one).contains("\"layers\""), "an index was pushed");
    // Some of an index: an index of those.
    let some = place("some");
    let id =
        host.umiak(&["images", "--no-trunc", "--format", "{{.ID}} {{.Platform}}", &from]).exits(0).stdout;
    for line in id.lines().filter(|line| !line.ends_with("arm64")) {
        host.umiak(&["tag", line.split(' ').next().expect("an id"), &some]).exits(0);
    }
    host.umiak(&["push", &some]).exits(0);
    assert_eq!(raw(&some).matches("\"platform\"").count(), 2);
}

#[test]
fn kinds_from_different_places_become_one_tag() {
    require!(root, registry);
    let (host, other) = (Host::new(), Host::new());
    let to = place("joined");
    for (name, kind) in [("library/busybox", "linux/amd64"), ("wasm/hello:artifact-p1", "wasi/wasm")] {
        let from = format!("{}/{name}", registry::address());
        host.umiak(&["pull", "-q", "--platform", kind, &from]).exits(0);
        host.umiak(&["tag", &from, &to]).exits(0);
    }
    host.umiak(&["push", &to]).exits(0);
    assert_eq!(other.umiak(&["run", "--rm", &to, "echo", "linux"]).exits(0).stdout, "linux\n");
    let out = other.umiak(&["run", "--rm", "--platform", "wasi/wasm", &to]).exits(0).stdout;
    assert!(!out.is_empty() && out != "linux\n", "{out}");
}

#[test]
fn a_layer_that_is_only_unpacked_here_is_fetched_from_where_the_image_came_from() {
    require!(root, registry);
    let (host, depot) = (Host::new(), Depot::new());
    for tag in ["latest", "zstd"] {
        host.umiak(&["pull", "-q", &format!("{}/library/busybox:{tag}", registry::address())]).exits(0);
    }
    let from = format!("{}/library/busybox:zstd", registry::address());
    let to = format!("{}/zstd", depot.address());
    host.umiak(&["tag", &from, &to]).exits(0);
    host.umiak(&["push", &to]).exits(0);
    let sent = depot.get("zstd/manifests/latest").expect("pushed");
    assert_eq!(
        String::from_utf8_lossy(&sent).trim(),
        skopeo(&["inspect", "--tls-verify=false", "--raw", &format!("docker://{from}")])
    );
    // Nobody has it any more.
    let bare = Host::new();
    for tag in ["latest", "zstd"] {
        bare.umiak(&["pull", "-q", &format!("{}/library/busybox:{tag}", registry::address())]).exits(0);
    }
    let third = Depot::new();
    let lost = format!("{}/lost", third.address());
    bare.umiak(&["tag", &from, &lost]).exits(0);
    for tag in ["latest", "zstd"] {
        bare.umiak(&["rmi", &format!("{}/library/busybox:{tag}", registry::address())]).exits(0);
    }
    let manifest: serde_json::Value = serde_json::from_slice(&sent).expect("a manifest");
    let layer = manifest["layers"][0]["digest"].as_str().expect("a digest").replace(':', "/");
    std::fs::remove_file(bare.root().join("blobs").join(layer)).expect("the blob");
    bare.umiak(&["push", &lost]).fails(1, &["is here in its unpacked form only"]);
    assert!(third.get("lost/manifests/latest").is_none(), "half an image was pushed");
}
