//! The store under attack: killed at every point, out of room, in many hands, damaged; it checks clean or repairs itself.

mod crowd;
mod damage;
mod database;
mod deeds;
mod kill;
mod mutate;
pub(crate) mod room;

use serde_json::json;

use crate::support::host::{Host, Output};
use crate::support::program;
use crate::support::rogue::{Made, Rogue};
use crate::support::tar::{archive, file};

/// Bytes that do not compress, by a shift register: the same in every run.
pub(super) fn noise(mut seed: u64, length: usize) -> Vec<u8> {
    let mut next = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    (0..length.div_ceil(8)).flat_map(|_| next().to_le_bytes()).collect()
}

/// An image of two layers that runs: it counts the bytes of a file in each.
pub(super) struct Subject {
    pub(super) name: String,
    pub(super) made: Made,
    /// Bytes of its first file; the second has half as many.
    pub(super) size: usize,
}

impl Subject {
    pub(super) fn at(rogue: &Rogue, repository: &str, seed: u64, size: usize) -> Self {
        let shell = program();
        let (first, second) = (noise(seed, size), noise(seed + 1, size / 2));
        let layers = [
            archive(&[file("busybox", 0o755, &shell), file("a", 0o644, &first)]),
            archive(&[file("b", 0o644, &second), file("c", 0o600, b"c"), file("d", 0o640, b"dd")]),
        ];
        let config = json!({ "Entrypoint": ["/busybox", "wc", "-c", "/a", "/b"] });
        Self {
            name: format!("{}/{repository}", rogue.address()),
            made: rogue.image(repository, &layers, &config),
            size,
        }
    }
}

/// How many rounds a storm has: few in the suite, `UMIAK_ROUNDS` by hand.
pub(super) fn rounds(few: usize) -> usize {
    std::env::var("UMIAK_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(few)
}

/// The store has nothing wrong; `full` reads every byte.
#[track_caller]
pub(super) fn sound(host: &Host, full: bool, context: &str) -> String {
    let args: &[&str] = if full { &["system", "check"] } else { &["system", "check", "--quick"] };
    let out = host.umiak(args);
    assert_eq!(out.status, 0, "{context}\n{}{}", out.stdout, out.stderr);
    out.stdout
}

/// A command that failed said so in one message, and did not panic.
#[track_caller]
pub(super) fn clear(out: &Output, context: &str) {
    assert!(!out.stderr.contains("panicked"), "{context}: {}", out.stderr);
    let messages = out.stderr.lines().filter(|line| line.starts_with("umiak: ")).count();
    assert!(messages >= 1, "{context}: it failed with {} and no word: {}", out.status, out.stderr);
}
