//! A pull that is killed at any moment: the next one takes up where it stopped, and succeeds.

use std::time::Duration;

use serde_json::json;

use crate::support::host::Host;
use crate::support::rogue::{Fault, Rogue};
use crate::support::tar::{archive, file};
use crate::support::{program, require};

/// Bytes that do not compress, by a shift register: the same in every run.
fn noise(mut seed: u64, length: usize) -> Vec<u8> {
    let mut next = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    (0..length.div_ceil(8)).flat_map(|_| next().to_le_bytes()).collect()
}

/// How much of each blob is there, whole or in part.
fn have(host: &Host, hex: &str) -> usize {
    let length = |path: String| std::fs::metadata(host.root().join(path)).map(|meta| meta.len());
    let part = length(format!("ingest/{hex}.part")).or_else(|_| length(format!("blobs/sha256/{hex}")));
    usize::try_from(part.unwrap_or(0)).expect("a size")
}

#[test]
fn heavy_killed_pulls_resume() {
    require!(root);
    let rogue = Rogue::new();
    let shell = program();
    let (first, second) = (noise(1, 1_500_000), noise(2, 900_000));
    let layers = [
        archive(&[file("busybox", 0o755, &shell), file("a", 0o644, &first)]),
        archive(&[file("b", 0o644, &second)]),
    ];
    let made = rogue.image("slow", &layers, &json!({ "Entrypoint": ["/busybox", "wc", "-c", "/a", "/b"] }));
    let name = format!("{}/slow", rogue.address());
    let mut parts = 0;
    for round in 0..20_u64 {
        let host = Host::new();
        rogue.fault("/blobs/", Fault::Slow(32_768, Duration::from_millis(4)));
        let mut child = host.command(&["pull", &name]).spawn().expect("umiak starts");
        // From before the first request to about the last byte.
        std::thread::sleep(Duration::from_millis(round * round % 41 * 8));
        child.kill().expect("not waited for");
        child.wait().expect("killed");
        // What nobody can see yet is not there.
        let seen = host.umiak(&["images", "-q"]).exits(0).stdout;
        assert!(seen.is_empty() || have(&host, made.layers[0].hex()) > 0, "round {round}");
        rogue.behave();
        let there: Vec<_> = made.layers.iter().map(|layer| have(&host, layer.hex())).collect();
        rogue.seen();
        host.umiak(&["pull", &name]).exits(0);
        let asked = rogue.seen();
        for (layer, there) in made.layers.iter().zip(&there) {
            for request in asked.iter().filter(|seen| seen.path.contains(layer.hex())) {
                assert_eq!(request.offset, *there, "round {round}: bytes that were there are fetched again");
            }
        }
        parts += there.iter().filter(|there| **there > 0).count();
        let out = host.umiak(&["run", "--rm", &name]).exits(0).stdout;
        assert!(out.contains("1500000 /a") && out.contains("900000 /b"), "round {round}: {out}");
        assert_eq!(host.parts(), Vec::<String>::new(), "round {round}");
        let layers = host.layers();
        assert!(
            !layers.iter().any(|name| name.starts_with("tmp-") || name.starts_with("gone-")),
            "{layers:?}"
        );
    }
    assert!(parts > 5, "the rounds hardly interrupted anything: {parts}");
}

#[test]
fn a_cut_connection_is_taken_up_in_the_same_pull() {
    require!(root);
    let (host, rogue) = (Host::new(), Rogue::new());
    let shell = program();
    let layer = archive(&[file("busybox", 0o755, &shell), file("a", 0o644, &noise(3, 600_000))]);
    let made = rogue.image("cut", &[layer], &json!({ "Entrypoint": ["/busybox", "wc", "-c", "/a"] }));
    rogue.fault(made.layers[0].hex(), Fault::Cut(250_000, true));
    let name = format!("{}/cut", rogue.address());
    assert_eq!(host.umiak(&["run", "--rm", &name]).exits(0).stdout, "600000 /a\n");
    let offsets: Vec<_> = rogue
        .seen()
        .iter()
        .filter(|seen| seen.path.contains(made.layers[0].hex()))
        .map(|seen| seen.offset)
        .collect();
    let expected: Vec<_> = (0..offsets.len()).map(|n| n * 250_000).collect();
    assert!(offsets.len() > 3 && offsets == expected, "{offsets:?}");
}

#[test]
fn two_pulls_at_once_fetch_once() {
    require!(root);
    let (host, rogue) = (Host::new(), Rogue::new());
    let shell = program();
    let layer = archive(&[file("busybox", 0o755, &shell), file("a", 0o644, &noise(4, 400_000))]);
    let made = rogue.image("shared", &[layer], &json!({ "Entrypoint": ["/busybox", "true"] }));
    rogue.fault(made.layers[0].hex(), Fault::Slow(65_536, Duration::from_millis(10)));
    let name = format!("{}/shared", rogue.address());
    std::thread::scope(|scope| {
        let pulls: Vec<_> = (0..4).map(|_| scope.spawn(|| host.umiak(&["run", "--rm", &name]))).collect();
        for pull in pulls {
            pull.join().expect("no panic").exits(0);
        }
    });
    let fetched = rogue.seen().iter().filter(|seen| seen.path.contains(made.layers[0].hex())).count();
    assert_eq!(fetched, 1, "the layer was fetched more than once");
}
