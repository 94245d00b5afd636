//! Manifest lists: made of images here and at registries, of both kinds.

use super::{digest, have};
use crate::support::depot::Depot;
use crate::support::host::Host;
use crate::support::{registry, require};

#[test]
fn a_tag_of_both_kinds_from_here() {
    require!(root, registry);
    let (host, depot, other) = (Host::new(), Depot::new(), Host::new());
    let (linux, wasm, list) = (
        format!("{}/app:linux", depot.address()),
        format!("{}/mod:wasm", depot.address()),
        format!("{}/app:1", depot.address()),
    );
    for (name, kind, to) in
        [("library/busybox", "linux/amd64", &linux), ("wasm/hello:artifact-p1", "wasi/wasm", &wasm)]
    {
        let from = format!("{}/{name}", registry::address());
        host.umiak(&["pull", "-q", "--platform", kind, &from]).exits(0);
        host.umiak(&["tag", &from, to]).exits(0);
    }
    let out = host.umiak(&["manifest", "create", &list, &linux, &wasm]).exits(0).stdout;
    assert_eq!(out, format!("Created manifest list {list}\n"));
    host.umiak(&["manifest", "create", &list, &linux])
        .fails(1, &["refusing to amend an existing manifest list"]);
    host.umiak(&["manifest", "create", "--amend", &list, &linux]).exits(0);
    let shown: serde_json::Value =
        serde_json::from_str(&host.umiak(&["manifest", "inspect", &list]).exits(0).stdout).expect("JSON");
    let kinds: Vec<_> =
        shown["manifests"].as_array().expect("a list").iter().map(|m| m["platform"]["os"].clone()).collect();
    assert_eq!(kinds, ["linux", "wasip1"]);
    let said = host.umiak(&["manifest", "push", &list]).exits(0).stdout;
    assert_eq!(said.matches("Pushed ref ").count(), 2, "{said}");
    let said_digest: umiak::model::Digest = said.lines().last().expect("a line").parse().expect("a digest");
    let there = depot.get("app/manifests/1").expect("pushed");
    assert_eq!(umiak::model::Digest::of(&there), said_digest);
    assert_eq!(other.umiak(&["run", "--rm", &list, "echo", "linux"]).exits(0).stdout, "linux\n");
    let out = other.umiak(&["run", "--rm", "--platform", "wasi/wasm", &list]).exits(0).stdout;
    assert!(!out.is_empty() && out != "linux\n", "{out}");
    // Whoever has no such list sees the registry's.
    let remote = other.umiak(&["manifest", "inspect", &list]).exits(0).stdout;
    assert_eq!(remote.trim_end().as_bytes(), there);
    let verbose: serde_json::Value =
        serde_json::from_str(&other.umiak(&["manifest", "inspect", "-v", &list]).exits(0).stdout)
            .expect("JSON");
    assert_eq!(verbose[0]["Descriptor"]["platform"]["architecture"], "amd64");
    assert!(verbose[0]["OCIManifest"]["layers"].is_array() && verbose[1]["Raw"].is_string(), "{verbose}");
    host.umiak(&["manifest", "rm", &list]).exits(0);
    host.umiak(&["manifest", "rm", &list]).fails(1, &["no such manifest"]);
    // Its own members are lists no more than any other.
    host.umiak(&["manifest", "create", "x.lan/y", &list]).fails(1, &["is a manifest list"]);
}

#[test]
fn images_of_the_registry_are_mounted_there() {
    require!(root);
    let (host, depot, elsewhere) = (Host::new(), Depot::new(), Depot::new());
    let from = format!("{}/from/x", depot.address());
    let made = have(&host, &from, 2_000_000);
    host.umiak(&["push", &from]).exits(0);
    host.umiak(&["rmi", &from]).exits(0);
    let list = format!("{}/to/list:2", depot.address());
    host.umiak(&["manifest", "create", &list, &from]).exits(0);
    let said =
        ["--os", "linux", "--arch", "arm64", "--variant", "v8", "--os-features", "a,b", "--os-version", "1"];
    host.umiak(&[&["manifest", "annotate"], &said[..], &[&list, &from]].concat()).exits(0);
    host.umiak(&["manifest", "annotate", "--os", "x", &list, "other"]).fails(1, &["does not exist in"]);
    host.umiak(&["manifest", "annotate", "--os", "x", "none", &from]).fails(1, &["no such manifest: none"]);
    depot.asked();
    let said = host.umiak(&["manifest", "push", "--purge", &list]).exits(0).stdout;
    assert_eq!(digest(&said), made);
    assert!(!depot.asked().iter().any(|one| one.method == "PATCH"), "something was sent");
    let there: serde_json::Value =
        serde_json::from_slice(&depot.get("to/list/manifests/2").expect("pushed")).expect("JSON");
    let platform = &there["manifests"][0]["platform"];
    let expected = serde_json::json!({ "architecture": "arm64", "os": "linux", "os.features": ["a", "b"],
        "os.version": "1", "variant": "v8" });
    assert_eq!(*platform, expected);
    assert!(depot.get(&format!("to/list/manifests/{made}")).is_some());
    host.umiak(&["manifest", "push", &list]).fails(1, &["no such manifest"]);
    // From another registry it would have to go through here.
    let far = format!("{}/list", elsewhere.address());
    host.umiak(&["manifest", "create", &far, &from]).exits(0);
    host.umiak(&["manifest", "push", &far]).fails(1, &["cannot use source images from a different registry"]);
    assert!(elsewhere.get("list/manifests/latest").is_none());
    host.umiak(&["manifest", "create", &far, "--amend", &format!("{}/none", depot.address())])
        .fails(1, &["no such manifest: "]);
    host.umiak(&["manifest", "inspect", &format!("{}/none", depot.address())])
        .fails(1, &["no such manifest: "]);
}
