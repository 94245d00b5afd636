//! A pull that fails: one clear message, the right status, nothing left; and the same root works with a registry that behaves.

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use umiak::model::Digest;

use crate::support::host::Host;
use crate::support::rogue::{Fault, GZIP, INDEX, MANIFEST, Rogue, TAR, gzip};
use crate::support::tar::{archive, file};
use crate::support::{program, require};

/// Nothing half-made: no image, no layer, no temporary name, and every blob is what its name says.
#[track_caller]
fn nothing_is_left(host: &Host, case: &str) {
    assert_eq!(host.umiak(&["images", "-aq"]).exits(0).stdout, "", "{case}: an image is listed");
    assert_eq!(host.umiak(&["ps", "-aq"]).exits(0).stdout, "", "{case}: a container is listed");
    assert_eq!(host.layers(), Vec::<String>::new(), "{case}");
    whole_blobs(host, case);
}

#[track_caller]
fn whole_blobs(host: &Host, case: &str) {
    for name in host.list("blobs/sha256") {
        let bytes = std::fs::read(host.root().join("blobs/sha256").join(&name)).expect("a blob");
        assert_eq!(Digest::of(&bytes).hex(), name, "{case}: a wrong blob");
    }
}

/// Pulls and runs both fail with the words and leave nothing; then, with the faults gone, the image runs.
#[track_caller]
fn fails_then_works(host: &Host, rogue: &Rogue, repository: &str, words: &[&str]) {
    let name = format!("{}/{repository}", rogue.address());
    host.umiak(&["pull", &name]).fails(1, words);
    nothing_is_left(host, repository);
    host.umiak(&["run", "--rm", &name]).fails(125, words);
    nothing_is_left(host, repository);
    rogue.behave();
    let out = host.umiak(&["run", "--rm", &name]).exits(0);
    assert_eq!(out.stdout, format!("{repository}\n"), "{repository}");
    host.umiak(&["rmi", &name]).exits(0);
    whole_blobs(host, repository);
}

/// An image that prints its own name.
fn good(rogue: &Rogue, repository: &str) -> Digest {
    let shell = program();
    let layer = archive(&[file("busybox", 0o755, &shell), file("unique", 0o644, repository.as_bytes())]);
    let config = json!({ "Entrypoint": ["/busybox", "echo", repository] });
    rogue.image(repository, &[layer], &config).layers[0].clone()
}

#[test]
fn faults_of_the_registry() {
    require!(root);
    let host = Host::new();
    let rogue = Rogue::new();
    for (repository, part, fault, words) in [
        ("closed", "/manifests/", Fault::Close, &["was cut", "127.0.0.1"][..]),
        ("denied", "/manifests/", Fault::Deny, &["pull access denied for", "denied"]),
        ("absent", "/manifests/", Fault::Status(404, ""), &["absent", "not found"]),
        ("limited", "/manifests/", Fault::Status(429, "Retry-After: 100\r\n"), &["limits the rate"]),
        ("broken", "/manifests/", Fault::Status(500, ""), &["HTTP status 500"]),
        ("no-blob", "/blobs/", Fault::Status(404, ""), &["127.0.0.1"]),
        ("forbidden", "/blobs/", Fault::Status(403, ""), &["403"]),
        (
            "circle",
            "/blobs/",
            Fault::Redirect(format!("http://{}", rogue.address())),
            &["redirects in circles"],
        ),
        ("no-json", "/manifests/", Fault::Body(b"<html>".to_vec()), &["cannot be used", "no-json"]),
        ("no-image", "/manifests/", Fault::Body(b"{}".to_vec()), &["cannot be used", "no-image"]),
        ("huge", "/manifests/", Fault::Body(vec![b' '; 5 << 20]), &["more than", "manifest"]),
        ("mislabelled", "/manifests/", Fault::Media(INDEX), &["cannot be used", "mislabelled"]),
        ("cut-config", "/blobs/", Fault::Cut(10, false), &["was cut"]),
    ] {
        good(&rogue, repository);
        rogue.fault(part, fault);
        fails_then_works(&host, &rogue, repository, words);
    }
}

#[test]
fn faults_of_one_layer() {
    require!(root);
    let host = Host::new();
    let rogue = Rogue::new();
    for (repository, fault, words) in [
        ("gone", Fault::Status(404, ""), &["does not have blob"][..]),
        ("empty", Fault::Body(Vec::new()), &["blob"]),
        ("longer", Fault::Body(vec![7; 3 << 20]), &["127.0.0.1"]),
    ] {
        let layer = good(&rogue, repository);
        rogue.fault(layer.hex(), fault);
        fails_then_works(&host, &rogue, repository, words);
    }
}

#[test]
fn a_layer_of_the_right_size_and_the_wrong_content() {
    require!(root);
    let host = Host::new();
    let rogue = Rogue::new();
    let shell = program();
    let config = json!({ "Entrypoint": ["/busybox", "echo", "flipped"] });
    let layer = archive(&[file("busybox", 0o755, &shell), file("flipped", 0o644, b"flipped")]);
    let id = Digest::of(&layer);
    let mut wrong = layer.clone();
    wrong[1000] ^= 1;
    let made = rogue.image_of("flipped", vec![(layer, id)], TAR, &config);
    rogue.fault(made.layers[0].hex(), Fault::Body(wrong));
    fails_then_works(&host, &rogue, "flipped", &["igest"]);
}

#[test]
fn a_diff_id_that_is_not_the_layers() {
    require!(root);
    let host = Host::new();
    let rogue = Rogue::new();
    let layer = archive(&[file("a", 0o644, b"a")]);
    rogue.image_of("diff", vec![(gzip(&layer), Digest::of(b"else"))], GZIP, &json!({ "Cmd": ["/a"] }));
    let name = format!("{}/diff", rogue.address());
    host.umiak(&["pull", &name]).fails(1, &["igest"]);
    nothing_is_left(&host, "diff");
}

#[test]
fn layers_that_are_damaged_inside() {
    require!(root);
    let host = Host::new();
    let rogue = Rogue::new();
    let shell = program();
    let whole = archive(&[file("busybox", 0o755, &shell), file("b", 0o644, &[7; 5000])]);
    let packed = gzip(&whole);
    let cut_tar = whole[..whole.len() - 4000].to_vec();
    let mut bad_sum = whole.clone();
    bad_sum[3] ^= 0x20;
    let mut bad_crc = packed.clone();
    let end = bad_crc.len() - 6;
    bad_crc[end] ^= 1;
    for (repository, blob, id) in [
        ("gzip-cut", packed[..packed.len() / 2].to_vec(), Digest::of(&whole)),
        ("gzip-crc", bad_crc, Digest::of(&whole)),
        ("no-gzip", b"plain words".repeat(100), Digest::of(&whole)),
        ("tar-cut", gzip(&cut_tar), Digest::of(&cut_tar)),
        ("tar-sum", gzip(&bad_sum), Digest::of(&bad_sum)),
    ] {
        rogue.image_of(repository, vec![(blob, id)], GZIP, &json!({ "Cmd": ["/busybox"] }));
        let name = format!("{}/{repository}", rogue.address());
        host.umiak(&["pull", &name]).fails(1, &["layer"]);
        nothing_is_left(&host, repository);
    }
}

#[test]
fn manifests_that_cannot_be_used() {
    require!(root);
    let host = Host::new();
    let rogue = Rogue::new();
    let zero = format!("sha256:{}", "0".repeat(64));
    let entry = json!({ "mediaType": MANIFEST, "digest": zero, "size": 9,
        "platform": { "os": "linux", "architecture": "s390x" } });
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [entry] });
    let typeless = json!({ "schemaVersion": 2, "mediaType": "application/x-new", "x": 1 });
    let both =
        json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": {}, "layers": [], "manifests": [] });
    let path = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "layers": [],
        "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": "sha256:../../x", "size": 1 } });
    let old = json!({ "schemaVersion": 1, "name": "x", "fsLayers": [] });
    for (repository, body, media, words) in [
        ("platforms", &index, INDEX, &["not available for linux/amd64", "linux/s390x"][..]),
        ("unknown-type", &typeless, "application/x-new", &["cannot be used", "application/x-new"]),
        ("ambiguous", &both, MANIFEST, &["cannot be used", "ambiguous"]),
        ("path-digest", &path, MANIFEST, &["cannot be used"]),
        ("old", &old, "application/vnd.docker.distribution.manifest.v1+json", &["cannot be used"]),
        ("contradiction", &index, MANIFEST, &["cannot be used"]),
    ] {
        rogue.manifest(repository, body.to_string().into_bytes(), media);
        let name = format!("{}/{repository}", rogue.address());
        host.umiak(&["pull", &name]).fails(1, words);
        host.umiak(&["run", "--rm", &name]).fails(125, words);
        nothing_is_left(&host, repository);
    }
}

#[test]
fn what_passes_is_waited_for() {
    require!(root);
    let rogue = Rogue::new();
    for (repository, part, fault) in [
        ("token", "/v2/", Fault::Challenge),
        ("twice", "/manifests/", Fault::Times(2, 500, "")),
        ("once", "/manifests/", Fault::Times(1, 429, "Retry-After: 1\r\n")),
        ("pieces", "/blobs/", Fault::Cut(200_000, true)),
    ] {
        let host = Host::new();
        good(&rogue, repository);
        rogue.fault(part, fault);
        let name = format!("{}/{repository}", rogue.address());
        assert_eq!(host.umiak(&["run", "--rm", &name]).exits(0).stdout, format!("{repository}\n"));
        rogue.behave();
    }
}

#[test]
fn a_token_stays_with_the_registry_that_asked_for_it() {
    require!(root);
    let (host, near, far) = (Host::new(), Rogue::new(), Rogue::new());
    let layer = good(&near, "moved");
    good(&far, "moved");
    near.fault(layer.hex(), Fault::Redirect(format!("http://{}", far.address())));
    near.fault("/v2/", Fault::Challenge);
    let name = format!("{}/moved", near.address());
    host.umiak(&["run", "--rm", &name]).exits(0);
    let there = far.seen();
    assert!(!there.is_empty(), "the redirect was not followed");
    assert!(
        there.iter().all(|seen| seen.authorization.is_none()),
        "a token went to another origin: {there:?}"
    );
    assert!(near.seen().iter().any(|seen| seen.authorization.is_some()));
}

#[test]
fn a_registry_that_is_not_there() {
    require!(root);
    let host = Host::new();
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("it").port();
    let name = format!("127.0.0.1:{port}/x");
    host.umiak(&["pull", &name]).fails(1, &["cannot connect to registry", &port.to_string()]);
    host.umiak(&["run", "--rm", &name]).fails(125, &["cannot connect to registry"]);
    nothing_is_left(&host, "no registry");
    assert!(!Path::new(&host.root().join("ingest")).read_dir().is_ok_and(|mut dir| dir.next().is_some()));
}

#[test]
fn heavy_a_registry_that_falls_silent_once() {
    require!(root);
    let (host, rogue) = (Host::new(), Rogue::new());
    let layer = good(&rogue, "silent");
    rogue.fault(layer.hex(), Fault::Stall(Duration::from_secs(40)));
    let name = format!("{}/silent", rogue.address());
    assert_eq!(host.umiak(&["run", "--rm", &name]).exits(0).stdout, "silent\n");
}
