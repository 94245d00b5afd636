//! Eight processes that pull, run, remove, prune, tag, load and commit at once: no error but clear conflicts, and the store stays sound.

use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::deeds::{Deed, Stage};
use super::{Subject, noise, sound};
use crate::support::host::{Host, Output};
use crate::support::require;

/// What one may be told because of what another did just then.
fn conflict(out: &Output) -> bool {
    let told = out.stderr.to_lowercase();
    let words = [
        "no such image",
        "unable to remove image",
        "unable to remove repository reference",
        "is in use by",
        "no image ",
        "no such container",
        "was removed meanwhile",
    ];
    !told.contains("panicked") && words.iter().any(|words| told.contains(words))
}

/// `UMIAK_CROWD_SECONDS` makes it longer, and so does `UMIAK_ROUNDS`.
#[test]
fn heavy_eight_at_once() {
    require!(root);
    let seconds = std::env::var("UMIAK_CROWD_SECONDS").ok().and_then(|text| text.parse().ok());
    let seconds = seconds.unwrap_or(if super::rounds(0) > 0 { 150 } else { 12 });
    let (host, stage) = (Host::new(), Stage::new("kept", 9, 100_000));
    let rogue = &stage.rogue;
    // A container of this one runs all the time, so that no prune takes it, and is committed again and again.
    let script = ["sh", "-c", "echo x > /x; exec /busybox sleep 10000"];
    let run = ["run", "-d", "--name", "live", "--entrypoint", "/busybox", &stage.subject.name];
    host.umiak(&[&run[..], &script[..]].concat()).exits(0);
    let load = stage.args(Deed::Load);
    // They share a layer.
    let subjects: Vec<_> = [("one", 200_000), ("two", 300_000), ("three", 400_000)]
        .into_iter()
        .map(|(name, size)| Subject::at(rogue, name, 7, size))
        .collect();
    let end = Instant::now() + Duration::from_secs(seconds);
    let (done, conflicts) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for hand in 0..8_u64 {
            let (host, subjects, done, conflicts) = (&host, &subjects, &done, &conflicts);
            let load = &load;
            scope.spawn(move || {
                let mut dice = noise(hand + 1, 1 << 20).into_iter().cycle();
                let mut roll = |below: u8| dice.by_ref().next().unwrap_or_default() % below;
                while Instant::now() < end {
                    let name = subjects[usize::from(roll(3))].name.as_str();
                    let args: Vec<&str> = match roll(15) {
                        0..=2 => vec!["pull", "-q", name],
                        3..=5 => vec!["run", "--rm", name],
                        6 => vec!["rmi", name],
                        7 => vec!["rmi", "-f", "other:1"],
                        8 => vec!["image", "prune", "-af"],
                        9 => vec!["tag", name, "other:1"],
                        10 => vec!["system", "prune", "-f"],
                        11..=12 => load.iter().map(String::as_str).collect(),
                        13 => vec!["commit", "live", "committed:1"],
                        _ => vec!["system", "check", "--quick"],
                    };
                    let out = host.umiak(&args);
                    done.fetch_add(1, Ordering::Relaxed);
                    if out.status != 0 {
                        assert!(conflict(&out), "{args:?}: {}\n{}{}", out.status, out.stdout, out.stderr);
                        conflicts.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    host.umiak(&["rm", "-f", "live"]).exits(0);
    sound(&host, true, "in the end");
    host.umiak(&["system", "prune", "-af"]).exits(0);
    assert!(host.layers().is_empty() && host.list("leases").is_empty(), "{:?}", host.list("layers"));
    let (done, conflicts) = (done.into_inner(), conflicts.into_inner());
    let _ = writeln!(std::io::stderr(), "{done} commands in {seconds} s, {conflicts} clear conflicts");
}
