//! Registries: pushing, logging in, searching; doors, certificates, proxies; and registries that misbehave.
mod doors;
mod faults;
mod login;
mod manifest;
mod pulls;
mod push;
mod search;

use crate::support::host::Host;
use crate::support::private::PASSWORD;
use crate::support::rogue::Rogue;
use crate::support::tar::{archive, file};
use umiak::model::Digest;

/// Bytes that do not compress.
fn noise(length: usize) -> Vec<u8> {
    let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    (0..length.div_ceil(8)).flat_map(|_| next().to_le_bytes()).collect()
}

/// An image of two layers in a host's store, the second of so many bytes, under a name; the digest of its manifest.
fn have(host: &Host, name: &str, length: usize) -> Digest {
    let rogue = Rogue::new();
    let layers = [archive(&[file("small", 0o644, b"x")]), archive(&[file("large", 0o644, &noise(length))])];
    rogue.image("made", &layers, &serde_json::json!({ "Cmd": ["/small"] }));
    let from = format!("{}/made", rogue.address());
    let out = host.umiak(&["pull", &from]).exits(0).stdout;
    host.umiak(&["tag", &from, name]).exits(0);
    host.umiak(&["rmi", &from]).exits(0);
    digest(&out)
}

/// The digest that a pull or push says.
fn digest(said: &str) -> Digest {
    let at = said.find("sha256:").unwrap_or_else(|| panic!("no digest in: {said}"));
    said[at..at + 71].parse().expect("a digest")
}

fn login(host: &Host, registry: &str) {
    let out =
        host.umiak_reading(PASSWORD.as_bytes(), &["login", "-u", "alice", "--password-stdin", registry]);
    assert_eq!(out.exits(0).stdout, "Login Succeeded\n");
}
