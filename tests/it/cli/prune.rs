//! Removing what nobody uses, and names of images.

use super::detached;
use crate::support::host::Host;
use crate::support::{registry, require};

#[test]
fn stopped_containers_and_unused_images_go() {
    require!(root, registry);
    let host = Host::new();
    let image = registry::busybox();
    let runs = detached(&host, &["--name", "runs"], &["sleep", "1000"]);
    host.umiak(&["run", "--name", "ended", "--label", "keep=1", &image, "true"]).exits(0);
    let out = host.umiak_reading(b"n\n", &["container", "prune"]).exits(0).stdout;
    assert!(out.starts_with("WARNING! This will remove all stopped containers."), "{out}");
    let out = host.umiak(&["container", "prune", "-f", "--filter", "label=other"]).exits(0).stdout;
    assert_eq!(out, "Total reclaimed space: 0B\n");
    let out = host.umiak(&["container", "prune", "-f"]).exits(0).stdout;
    assert!(out.starts_with("Deleted Containers:\n") && out.contains("Total reclaimed space:"), "{out}");
    host.umiak(&["container", "prune", "--filter", "nope=1"]).fails(1, &["filter"]);
    // In use: stays.
    host.umiak(&["system", "prune", "-af"]).exits(0);
    assert_eq!(host.umiak(&["images", "-q"]).exits(0).stdout.lines().count(), 1);
    host.umiak(&["rm", "-f", &runs]).exits(0);
    let out = host.umiak(&["system", "prune", "-af", "--volumes"]).exits(0).stdout;
    assert!(out.contains("Deleted Images:") && out.contains("deleted: sha256:"), "{out}");
    assert_eq!(host.umiak(&["images", "-q"]).exits(0).stdout, "");
    assert!(host.layers().is_empty() && host.list("blobs/sha256").is_empty());
}

#[test]
fn an_image_gets_more_names() {
    require!(root, registry);
    let host = Host::new();
    let image = registry::busybox();
    host.umiak(&["pull", "-q", &image]).exits(0);
    host.umiak(&["tag", &image, "mine:1"]).exits(0);
    host.umiak(&["tag", "mine:1", "other"]).exits(0);
    assert_eq!(host.umiak(&["run", "--rm", "other", "echo", "hi"]).exits(0).stdout, "hi\n");
    host.umiak(&["tag", "nope", "x"]).fails(1, &["No such image: nope:latest"]);
    host.umiak(&["tag", &image, "UPPER"]).fails(1, &["UPPER"]);
    let digest = format!("x@sha256:{}", "a".repeat(64));
    host.umiak(&["tag", &image, &digest]).fails(1, &["digest reference"]);
    let out = host.umiak(&["rmi", "mine:1", "other"]).exits(0).stdout;
    assert_eq!(out, "Untagged: mine:1\nUntagged: other:latest\n");
    host.umiak(&["rmi", &image]).exits(0);
}
