//! One config by several manifests: the same files in another compression, one alone and in an index. Each name keeps what it came by.

use std::collections::BTreeSet;

use crate::support::host::Host;
use crate::support::{registry, require};

const TAGS: [&str; 4] = ["latest", "schema2", "zstd", "plain"];

fn name(tag: &str) -> String {
    format!("{}/library/busybox:{tag}", registry::address())
}

fn digest(host: &Host, name: &str) -> String {
    host.umiak(&["images", "--format", "{{.Digest}}", name]).exits(0).text().to_owned()
}

#[test]
fn names_of_one_image_keep_their_digests() {
    require!(root, registry);
    let host = Host::new();
    for tag in TAGS {
        host.umiak(&["pull", "-q", &name(tag)]).exits(0);
    }
    let ids = host.umiak(&["images", "-q", "--no-trunc"]).exits(0).stdout;
    assert_eq!(ids.lines().count(), 1, "one config is one image: {ids}");
    let digests = TAGS.map(|tag| digest(&host, &name(tag)));
    assert_eq!(digests.iter().collect::<BTreeSet<_>>().len(), TAGS.len(), "{digests:?}");
    // Nothing is fetched again, in whatever order.
    for (tag, digest) in TAGS.iter().zip(&digests) {
        let said = host.umiak(&["pull", &name(tag)]).exits(0).stdout;
        assert!(said.contains("Image is up to date") && said.contains(digest.as_str()), "{tag}: {said}");
    }
    // All of them are told, and found by their digests.
    let repository = name("latest").trim_end_matches(":latest").to_owned();
    let format = "{{range .RepoDigests}}{{.}}\n{{end}}";
    let told = host.umiak(&["image", "inspect", "-f", format, ids.trim()]).exits(0).stdout;
    for digest in &digests {
        let pinned = format!("{repository}@{digest}");
        assert!(told.contains(&pinned), "{told}");
        let found = host.umiak(&["image", "inspect", "-f", "{{.Descriptor.digest}}", &pinned]).exits(0);
        assert_eq!(found.text(), digest.as_str());
    }
    // A name more, an archive and a push are as the name that they are made of.
    let other = Host::new();
    for (tag, digest) in TAGS.iter().zip(&digests) {
        let there = format!("{}/versions-{}:{tag}", registry::address(), std::process::id());
        host.umiak(&["tag", &name(tag), &there]).exits(0);
        let said = host.umiak(&["push", &there]).exits(0).stdout;
        assert!(said.contains(&format!("digest: {digest} ")), "{tag}: {said}");
        let path = host.dir().join(format!("{tag}.tar")).display().to_string();
        host.umiak(&["save", "-o", &path, &there]).exits(0);
        other.umiak(&["load", "-i", &path]).exits(0);
        assert_eq!(self::digest(&other, &there), *digest, "{tag}");
    }
    for host in [&host, &other] {
        let said = host.umiak(&["system", "check"]).exits(0).stdout;
        assert!(said.contains("nothing is wrong"), "{said}");
    }
}

/// With the last name of a manifest go its own blobs, and no others.
#[test]
fn what_a_name_came_by_goes_with_it() {
    require!(root, registry);
    let host = Host::new();
    host.umiak(&["pull", "-q", &name("zstd")]).exits(0);
    let mut alone = host.list("blobs/sha256");
    alone.sort();
    for tag in ["latest", "plain"] {
        host.umiak(&["pull", "-q", &name(tag)]).exits(0);
    }
    assert!(host.list("blobs/sha256").len() > alone.len());
    for tag in ["plain", "latest"] {
        host.umiak(&["rmi", &name(tag)]).exits(0);
    }
    let mut left = host.list("blobs/sha256");
    left.sort();
    assert_eq!(left, alone);
    let run = ["run", "--rm", "--pull", "never", "--network", "none", &name("zstd"), "echo", "runs"];
    assert_eq!(host.umiak(&run).exits(0).stdout, "runs\n");
    let said = host.umiak(&["system", "check"]).exits(0).stdout;
    assert!(said.contains("nothing is wrong"), "{said}");
    // A bad blob of any of them is fetched from where that one came.
    host.umiak(&["pull", "-q", &name("latest")]).exits(0);
    for blob in host.list("blobs/sha256") {
        let path = host.root().join("blobs/sha256").join(blob);
        let bytes = std::fs::read(&path).expect("read");
        if bytes.len() > 100_000 {
            std::fs::write(&path, &bytes[1..]).expect("written");
        }
    }
    let said = host.umiak(&["system", "check", "--repair"]).exits(0).stdout;
    assert_eq!(said.matches("repaired: blob").count(), 2, "{said}");
    host.umiak(&["rmi", &name("zstd")]).exits(0);
    host.umiak(&["rmi", &name("latest")]).exits(0);
    assert!(host.list("blobs/sha256").is_empty() && host.layers().is_empty());
}
