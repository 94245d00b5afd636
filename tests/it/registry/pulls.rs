//! Pulling: as few requests as can be, waiting for one another, and registries that mean harm.

use std::time::Duration;

use serde_json::json;
use umiak::model::Digest;

use super::{have, login, noise};
use crate::support::depot::{BASIC, Depot, Trouble};
use crate::support::host::Host;
use crate::support::require;
use crate::support::rogue::{Fault, GZIP, INDEX, MANIFEST, Rogue};
use crate::support::tar::{archive, file};

#[test]
fn an_unchanged_tag_costs_one_head() {
    require!(root);
    let (host, depot, other) = (Host::new(), Depot::new(), Host::new());
    let name = format!("{}/same", depot.address());
    have(&host, &name, 1000);
    host.umiak(&["push", &name]).exits(0);
    other.umiak(&["pull", &name]).exits(0);
    depot.asked();
    let out = other.umiak(&["pull", &name]).exits(0).stdout;
    assert!(out.contains("Status: Image is up to date for"), "{out}");
    let asked: Vec<_> = depot.asked().into_iter().map(|one| (one.method, one.path)).collect();
    assert_eq!(asked, [("HEAD".to_owned(), "/v2/same/manifests/latest".to_owned())]);
}

#[test]
fn who_waits_for_anothers_download_is_told() {
    require!(root);
    let (host, rogue) = (Host::new(), Rogue::new());
    let layer = archive(&[file("a", 0o644, &noise(400_000))]);
    let made = rogue.image("shared", &[layer], &json!({ "Cmd": ["/a"] }));
    rogue.fault(made.layers[0].hex(), Fault::Slow(16_384, Duration::from_millis(30)));
    let name = format!("{}/shared", rogue.address());
    let first = host.command(&["pull", &name]).spawn().expect("umiak starts");
    while !rogue.seen().iter().any(|seen| seen.path.contains(made.layers[0].hex())) {
        std::thread::sleep(Duration::from_millis(5));
    }
    let second = host.umiak(&["pull", &name]).exits(0).stdout;
    host.finish(first, &["pull"]).exits(0);
    assert!(second.contains(": Waiting") && second.contains("Status:"), "{second}");
    assert!(!rogue.seen().iter().any(|seen| seen.path.contains(made.layers[0].hex())), "fetched twice");
}

#[test]
fn manifests_without_measure() {
    require!(root);
    let (host, rogue) = (Host::new(), Rogue::new());
    let zero = format!("sha256:{}", "0".repeat(64));
    let blob = |size: u64, media: &str| json!({ "mediaType": media, "digest": zero, "size": size });
    let config = "application/vnd.oci.image.config.v1+json";
    let manifest = |layers: Vec<serde_json::Value>, size: u64| {
        json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": blob(size, config), "layers": layers })
            .to_string()
    };
    let many = manifest(vec![blob(1, GZIP); 10_000], 10);
    let huge = manifest(vec![blob(u64::MAX, GZIP)], 10);
    let large = manifest(vec![blob(1, GZIP)], 1 << 40);
    let negative = manifest(vec![blob(1, GZIP)], 10).replace("\"size\":1}", "\"size\":-1}");
    let twice = manifest(vec![blob(1, GZIP)], 10).replacen("\"layers\":", "\"layers\":[],\"layers\":", 1);
    for (case, body, words) in [
        ("many", many, &["layers", "limit of 1000"][..]),
        ("huge", huge, &["bytes of a layer", "limit"]),
        ("large", large, &["bytes of the config", "limit"]),
        ("negative", negative, &["malformed"]),
        ("twice", twice, &["duplicate key"]),
        ("deep", "[".repeat(200_000), &["malformed"]),
    ] {
        rogue.manifest(case, body.into_bytes(), MANIFEST);
        host.umiak(&["pull", &format!("{}/{case}", rogue.address())]).fails(1, words);
    }
    // Indexes that lead from one to the next, and many of them at each level.
    let mut below = zero.clone();
    for depth in 0..20 {
        let entry = |digest: &str| json!({ "mediaType": INDEX, "digest": digest, "size": 1 });
        let body = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [entry(&below), entry(&below)], "x": depth });
        let bytes = body.to_string().into_bytes();
        below = Digest::of(&bytes).to_string();
        rogue.manifest("nested", bytes, INDEX);
    }
    rogue.seen();
    host.umiak(&["pull", &format!("{}/nested", rogue.address())])
        .fails(1, &["not available for linux/amd64"]);
    assert!(rogue.seen().len() < 10, "it was followed to the end");
    assert_eq!(host.umiak(&["images", "-q"]).exits(0).stdout, "");
}

#[test]
fn a_token_service_cannot_pass_the_password_on() {
    require!(root);
    let (host, near, far) = (Host::new(), Depot::new(), Depot::new());
    near.trouble(Trouble::Password);
    login(&host, &near.address());
    near.behave();
    let name = format!("{}/x", near.address());
    have(&host, &name, 10);
    near.trouble(Trouble::Tokens(100));
    host.umiak(&["push", &name]).exits(0);
    assert!(
        near.asked()
            .iter()
            .any(|one| one.path.starts_with("/token") && one.authorization.as_deref() == Some(BASIC))
    );
    near.page("/token", "", &format!("Location: http://{}/token\r\n", far.address()));
    // Whether the token from there is good enough here is not the question.
    host.umiak(&["pull", &name]);
    let there = far.asked();
    assert!(there.iter().any(|one| one.path.starts_with("/token")), "the redirect was not followed");
    assert!(there.iter().all(|one| one.authorization.is_none()), "the password went elsewhere: {there:?}");
}
