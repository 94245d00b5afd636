//! `kill -9` and failures at every failpoint and at random moments: the store checks clean, the same thing done again succeeds,
//! and nothing is fetched that is on the disk already.

use std::io::Write as _;
use std::time::Duration;

use umiak::failpoint::{Point, VARIABLE};

use super::deeds::{Deed, Stage};
use super::{Subject, clear, noise, rounds, sound};
use crate::support::host::{Host, Output};
use crate::support::require;
use crate::support::rogue::{Fault, Rogue};

/// How much of each blob is there, whole or in part.
fn have(host: &Host, hex: &str) -> usize {
    let length = |path: String| std::fs::metadata(host.root().join(path)).map(|meta| meta.len());
    let blob = length(format!("blobs/sha256/{hex}"));
    usize::try_from(blob.or_else(|_| length(format!("ingest/{hex}.part"))).unwrap_or(0)).expect("a size")
}

fn interrupted(host: &Host, args: &[String], spec: &str) -> Output {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let child = host.command(&args).env(VARIABLE, spec).spawn().expect("umiak starts");
    host.finish(child, &args)
}

/// After whatever happened: clean, and done again it succeeds, fetching only what is not there.
fn again(host: &Host, stage: &Stage, deed: Deed, context: &str) {
    if deed != Deed::Repair {
        sound(host, true, context);
    }
    let layers = &stage.subject.made.layers;
    let there: Vec<_> = layers.iter().map(|layer| have(host, layer.hex())).collect();
    stage.rogue.seen();
    let args = stage.args(deed);
    let out = host.umiak(&args.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(out.status == 0 || deed.done_already(&out), "{context}: {}{}", out.stdout, out.stderr);
    if deed == Deed::Pull {
        let asked = stage.rogue.seen();
        for (layer, there) in layers.iter().zip(&there) {
            for request in asked.iter().filter(|seen| seen.path.contains(layer.hex())) {
                assert_eq!(request.offset, *there, "{context}: bytes that were there are fetched again");
            }
        }
    }
    stage.done(deed, host, context);
    let said = sound(host, true, context);
    assert!(said.contains("nothing is wrong"), "{context}: {said}");
    let layers = host.layers();
    let half = |name: &String| name.starts_with("tmp-") || name.starts_with("gone-");
    assert!(!layers.iter().any(half), "{context}: {layers:?}");
}

/// One interrupted deed on a store of its own; whether it was interrupted at all.
fn round(stage: &Stage, deed: Deed, point: Point, hit: usize, action: &str) -> bool {
    let spec = format!("{}@{hit}={action}", point.name());
    let context = format!("{deed:?}, {spec}");
    let host = Host::new();
    stage.prepare(deed, &host);
    let out = interrupted(&host, &stage.args(deed), &spec);
    // What is passed once is passed by the first; a later pass there may not be.
    let interrupted = hit == 1 || out.status != 0;
    if interrupted && action == "kill" {
        assert_eq!(out.status, 137, "{context}: nothing passes here: {}{}", out.stdout, out.stderr);
    } else if interrupted && deed == Deed::Repair {
        assert_eq!(out.status, 1, "{context}: the failure was not told: {}", out.stdout);
    } else if interrupted {
        assert_ne!(out.status, 0, "{context}: the failure was not told");
        clear(&out, &context);
    }
    again(&host, stage, deed, &context);
    interrupted
}

#[test]
fn heavy_every_failpoint_killed_and_failing() {
    require!(root);
    let stage = Stage::new("points", 1, 200_000);
    for &point in Point::ALL {
        for action in ["kill", "ENOSPC"] {
            round(&stage, Deed::of(point), point, 1, action);
        }
    }
}

/// Every point of every deed; in the suite one of five of them, and killed only. `UMIAK_ROUNDS` takes all, killed and failing, and then
/// later passes of them by lot until so many rounds are over.
#[test]
fn heavy_every_deed_killed_at_its_points() {
    require!(root);
    let stage = Stage::new("deeds", 3, 200_000);
    let all: Vec<_> = Deed::ALL
        .iter()
        .flat_map(|&deed| deed.points().into_iter().map(move |point| (deed, point)))
        .collect();
    let long = rounds(0);
    let (mut done, mut interrupted) = (0, 0);
    for (place, &(deed, point)) in all.iter().enumerate() {
        for action in ["kill", "ENOSPC"] {
            if long > 0 || place % 5 == 0 && action == "kill" {
                interrupted += usize::from(round(&stage, deed, point, 1, action));
                done += 1;
            }
        }
    }
    let mut dice = noise(7, (long * 3).max(3)).into_iter().map(usize::from);
    let mut roll = |below: usize| dice.next().unwrap_or_default() % below;
    while done < long {
        let (deed, point) = all[(roll(256) * 256 + roll(256)) % all.len()];
        interrupted += usize::from(round(&stage, deed, point, 2 + done % 4, "kill"));
        done += 1;
    }
    let _ = writeln!(std::io::stderr(), "{done} rounds, {interrupted} interrupted");
}

#[test]
fn a_failpoint_that_means_nothing_is_an_error() {
    require!(root);
    let (host, rogue) = (Host::new(), Rogue::new());
    let subject = Subject::at(&rogue, "typo", 1, 1000);
    let args = ["pull", "-q", &subject.name].map(str::to_owned);
    interrupted(&host, &args, "nowhere=kill").fails(1, &["UMIAK_FAILPOINT is `nowhere=kill`"]);
}

/// Random numbers that are the same in every run with one seed.
struct Dice(std::vec::IntoIter<u8>);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        let mut bytes = [0; 8];
        bytes.fill_with(|| self.0.next().expect("enough"));
        u64::from_le_bytes(bytes) % below
    }
}

/// What one process of the storm does, and whether it is done again after it was killed.
fn lot(dice: &mut Dice, stage: &Stage, name: &str) -> (Vec<String>, bool) {
    let words = |args: &[&str]| args.iter().map(|arg| (*arg).to_owned()).collect();
    match dice.roll(15) {
        0..=5 => (words(&["pull", "-q", name]), true),
        6 => (words(&["rmi", "-f", name]), false),
        7 => (words(&["image", "prune", "-af"]), true),
        8 => (words(&["tag", name, "other:1"]), false),
        9 => (words(&["run", "--rm", name]), true),
        10 => (stage.args(Deed::Load), true),
        11 => (stage.args(Deed::Import), true),
        12 => (stage.args(Deed::Commit), true),
        13 => (stage.args(Deed::Push), true),
        _ => (words(&["system", "check", "--repair"]), true),
    }
}

/// Many processes of one store, killed one after the other at moments that nobody chose. `UMIAK_ROUNDS` makes it longer.
#[test]
fn heavy_killed_at_random() {
    require!(root);
    let rounds = rounds(40);
    let seed = std::env::var("UMIAK_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or(u64::from(std::process::id()) + 1);
    let mut dice = Dice(noise(seed, rounds * 24 + 24).into_iter());
    let (host, stage) = (Host::new(), Stage::new("kept", 9, 100_000));
    let rogue = &stage.rogue;
    // What is committed and pushed stays all the time, since a container is made of it.
    stage.prepare(Deed::Push, &host);
    stage.prepare(Deed::Commit, &host);
    let subjects = [Subject::at(rogue, "first", 1, 200_000), Subject::at(rogue, "second", 1, 300_000)];
    rogue.fault("/blobs/", Fault::Slow(32_768, Duration::from_millis(2)));
    let (mut killed, mut continued) = (0, 0);
    for round in 0..rounds {
        let subject = &subjects[usize::try_from(dice.roll(2)).expect("fits")];
        let name = subject.name.as_str();
        let (args, retry) = lot(&mut dice, &stage, name);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let mut child = host.command(&args).spawn().expect("umiak starts");
        std::thread::sleep(Duration::from_micros(dice.roll(160_000)));
        child.kill().expect("not waited for");
        killed += u64::from(child.wait().expect("killed").code().is_none());
        let context = format!("seed {seed}, round {round}: {args:?}");
        sound(&host, round % 8 == 0, &context);
        let there: Vec<_> = subject.made.layers.iter().map(|layer| have(&host, layer.hex())).collect();
        rogue.seen();
        if retry {
            let out = host.umiak(&args);
            assert_eq!(out.status, 0, "{context}: {}{}", out.stdout, out.stderr);
        }
        if args[0] == "pull" {
            let asked = rogue.seen();
            for (layer, there) in subject.made.layers.iter().zip(&there) {
                for request in asked.iter().filter(|seen| seen.path.contains(layer.hex())) {
                    assert_eq!(request.offset, *there, "{context}");
                    continued += u64::from(*there > 0);
                }
            }
        }
        // Whatever is shown can be run.
        if !host.umiak(&["images", "-q", name]).exits(0).stdout.is_empty() {
            host.umiak(&["run", "--rm", name]).exits(0);
        }
    }
    let said = sound(&host, true, "in the end");
    let left = (host.layers(), host.list("leases"), host.list("containers"));
    host.umiak(&["system", "check", "--repair"]).exits(0);
    host.umiak(&["system", "prune", "-af"]).exits(0);
    assert!(host.layers().is_empty() && host.list("blobs/sha256").is_empty(), "{left:?} {said}");
    assert!(host.list("leases").is_empty() && host.list("seals").is_empty(), "{left:?} {said}");
    let _ = writeln!(
        std::io::stderr(),
        "{rounds} rounds, {killed} killed before their end, {continued} downloads went on where they were"
    );
}
