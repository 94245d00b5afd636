//! `kill -9` and failures at every failpoint and at random moments: the store checks clean, the same thing done again succeeds,
//! and nothing is fetched that is on the disk already.

use std::io::Write as _;
use std::time::Duration;

use umiak::failpoint::{Point, VARIABLE};

use super::{Subject, clear, noise, sound};
use crate::support::host::{Host, Output};
use crate::support::require;
use crate::support::rogue::{Fault, Rogue};

/// What is done when a point is passed, on a store that holds what it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    Pull,
    Tag,
    Untag,
    RemoveImage,
    RemoveContainer,
    RemoveVolume,
    Repair,
    /// The image that the binary carries.
    Demo,
}

fn deed(point: Point) -> Deed {
    use Point as P;
    match point {
        P::LeaseFile
        | P::LeaseTaken
        | P::IngestOpened
        | P::IngestWritten
        | P::LayerBegun
        | P::LayerEntry
        | P::LayerApplied
        | P::PublishVerified
        | P::PublishSynced
        | P::PublishBlob
        | P::PublishLayer
        | P::Published
        | P::PutWritten
        | P::PutRenamed
        | P::ImageWritten
        | P::ImageRecorded
        | P::LeaseReleased => Deed::Pull,
        P::LayerSynced => Deed::Demo,
        P::Tagged => Deed::Tag,
        P::Untagged => Deed::Untag,
        P::ImageRemoved | P::CollectDecided | P::BlobRemoved | P::LayerRetired | P::Collected => {
            Deed::RemoveImage
        }
        P::ContainerRetired | P::ContainerErased => Deed::RemoveContainer,
        P::VolumeRetired => Deed::RemoveVolume,
        P::RepairReady | P::RepairPlaced => Deed::Repair,
    }
}

impl Deed {
    fn prepare(self, host: &Host, subject: &Subject) {
        let name = subject.name.as_str();
        match self {
            Self::Pull | Self::Demo => {}
            Self::Tag | Self::RemoveImage => drop(host.umiak(&["pull", "-q", name]).exits(0)),
            Self::Untag => {
                host.umiak(&["pull", "-q", name]).exits(0);
                host.umiak(&["tag", name, "extra:1"]).exits(0);
            }
            Self::RemoveContainer => drop(host.umiak(&["run", "--name", "one", name]).exits(0)),
            Self::RemoveVolume => {
                host.umiak(&["volume", "create", "vol"]).exits(0);
                std::fs::write(host.root().join("volumes/vol/_data/mine"), "mine").expect("written");
            }
            Self::Repair => {
                host.umiak(&["pull", "-q", name]).exits(0);
                spoil(host);
            }
        }
    }

    fn args(self, subject: &Subject) -> Vec<&str> {
        let name = subject.name.as_str();
        match self {
            Self::Pull => vec!["pull", "-q", name],
            Self::Tag => vec!["tag", name, "extra:2"],
            Self::Untag => vec!["rmi", "extra:1"],
            Self::RemoveImage => vec!["rmi", name],
            Self::RemoveContainer => vec!["rm", "one"],
            Self::RemoveVolume => vec!["volume", "rm", "vol"],
            Self::Repair => vec!["system", "check", "--repair"],
            Self::Demo => vec!["pull", "-q", "hello"],
        }
    }

    /// What the same thing says when it was done already before the process died.
    fn done_already(self, out: &Output) -> bool {
        match self {
            Self::Pull | Self::Tag | Self::Repair | Self::Demo => false,
            Self::Untag | Self::RemoveImage | Self::RemoveContainer | Self::RemoveVolume => {
                out.status == 1 && out.stderr.to_lowercase().contains("no such")
            }
        }
    }
}

/// Changes a file of a layer, and leaves its size and time as they were.
fn spoil(host: &Host) {
    for layer in host.layers() {
        let path = host.root().join("layers").join(layer).join("c");
        if path.exists() {
            let times = std::fs::metadata(&path).and_then(|metadata| metadata.modified()).expect("a time");
            std::fs::write(&path, "X").expect("written");
            let file = std::fs::File::options().write(true).open(&path).expect("opened");
            file.set_modified(times).expect("set");
        }
    }
}

/// How much of each blob is there, whole or in part.
fn have(host: &Host, hex: &str) -> usize {
    let length = |path: String| std::fs::metadata(host.root().join(path)).map(|meta| meta.len());
    let blob = length(format!("blobs/sha256/{hex}"));
    usize::try_from(blob.or_else(|_| length(format!("ingest/{hex}.part"))).unwrap_or(0)).expect("a size")
}

fn interrupted(host: &Host, subject: &Subject, deed: Deed, spec: &str) -> Output {
    let args = deed.args(subject);
    let child = host.command(&args).env(VARIABLE, spec).spawn().expect("umiak starts");
    host.finish(child, &args)
}

/// After whatever happened: clean, and done again it succeeds, fetching only what is not there.
fn again(host: &Host, rogue: &Rogue, subject: &Subject, deed: Deed, context: &str) {
    if deed != Deed::Repair {
        sound(host, true, context);
    }
    let there: Vec<_> = subject.made.layers.iter().map(|layer| have(host, layer.hex())).collect();
    rogue.seen();
    let out = host.umiak(&deed.args(subject));
    assert!(out.status == 0 || deed.done_already(&out), "{context}: {}{}", out.stdout, out.stderr);
    if deed == Deed::Pull {
        let asked = rogue.seen();
        for (layer, there) in subject.made.layers.iter().zip(&there) {
            for request in asked.iter().filter(|seen| seen.path.contains(layer.hex())) {
                assert_eq!(request.offset, *there, "{context}: bytes that were there are fetched again");
            }
        }
        let out = host.umiak(&["run", "--rm", &subject.name]).exits(0).stdout;
        assert!(out.contains("200000 /a") && out.contains("100000 /b"), "{context}: {out}");
    }
    let said = sound(host, true, context);
    assert!(said.contains("nothing is wrong"), "{context}: {said}");
    let layers = host.layers();
    let half = |name: &String| name.starts_with("tmp-") || name.starts_with("gone-");
    if matches!(deed, Deed::Pull | Deed::RemoveImage | Deed::Repair) {
        assert!(!layers.iter().any(half), "{context}: {layers:?}");
    }
}

#[test]
fn heavy_every_failpoint_killed_and_failing() {
    require!(root);
    let rogue = Rogue::new();
    let subject = Subject::at(&rogue, "points", 1, 200_000);
    for &point in Point::ALL {
        let deed = deed(point);
        for action in ["kill", "ENOSPC"] {
            let context = format!("{}={action}", point.name());
            let host = Host::new();
            deed.prepare(&host, &subject);
            let out = interrupted(&host, &subject, deed, &context);
            if action == "kill" {
                assert_eq!(out.status, 137, "{context}: nothing passes here: {}{}", out.stdout, out.stderr);
            } else if deed == Deed::Repair {
                assert!(out.status == 1 && out.stdout.contains("not repaired"), "{context}: {}", out.stdout);
            } else {
                assert_ne!(out.status, 0, "{context}: the failure was not told");
                clear(&out, &context);
            }
            again(&host, &rogue, &subject, deed, &context);
        }
    }
}

#[test]
fn a_failpoint_that_means_nothing_is_an_error() {
    require!(root);
    let (host, rogue) = (Host::new(), Rogue::new());
    let subject = Subject::at(&rogue, "typo", 1, 1000);
    let out = interrupted(&host, &subject, Deed::Pull, "nowhere=kill");
    out.fails(1, &["UMIAK_FAILPOINT is `nowhere=kill`"]);
}

/// Many processes of one store, killed one after the other at moments that nobody chose. `UMIAK_STORM_ROUNDS` makes it longer.
#[test]
fn heavy_killed_at_random() {
    require!(root);
    let variable = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let rounds = variable("UMIAK_STORM_ROUNDS").unwrap_or(40);
    let seed = variable("UMIAK_STORM_SEED").unwrap_or(u64::from(std::process::id()) + 1);
    let mut dice = noise(seed, usize::try_from(rounds).expect("fits") * 24 + 24).into_iter();
    let mut roll = |below: u64| {
        let mut bytes = [0; 8];
        bytes.fill_with(|| dice.next().expect("enough"));
        u64::from_le_bytes(bytes) % below
    };
    let (host, rogue) = (Host::new(), Rogue::new());
    let subjects = [Subject::at(&rogue, "first", 1, 200_000), Subject::at(&rogue, "second", 1, 300_000)];
    rogue.fault("/blobs/", Fault::Slow(32_768, Duration::from_millis(2)));
    let (mut killed, mut refetched) = (0, 0);
    for round in 0..rounds {
        let subject = &subjects[usize::try_from(roll(2)).expect("fits")];
        let name = subject.name.as_str();
        let (args, retry): (Vec<&str>, bool) = match roll(10) {
            0..=4 => (vec!["pull", "-q", name], true),
            5 => (vec!["rmi", "-f", name], false),
            6 => (vec!["image", "prune", "-af"], true),
            7 => (vec!["tag", name, "other:1"], false),
            8 => (vec!["run", "--rm", name], true),
            _ => (vec!["system", "check", "--repair"], true),
        };
        let mut child = host.command(&args).spawn().expect("umiak starts");
        std::thread::sleep(Duration::from_micros(roll(160_000)));
        child.kill().expect("not waited for");
        killed += u64::from(child.wait().expect("killed").code().is_none());
        let context = format!("seed {seed}, round {round}: {args:?}");
        sound(&host, round % 8 == 0, &context);
        let there: Vec<_> = subject.made.layers.iter().map(|layer| have(&host, layer.hex())).collect();
        rogue.seen();
        if retry {
            host.umiak(&args).exits(0);
        }
        // Whatever is shown can be run.
        if !host.umiak(&["images", "-q", name]).exits(0).stdout.is_empty() {
            host.umiak(&["run", "--rm", name]).exits(0);
        }
        if args[0] == "pull" {
            for (layer, there) in subject.made.layers.iter().zip(&there) {
                for request in rogue.seen().iter().filter(|seen| seen.path.contains(layer.hex())) {
                    assert_eq!(request.offset, *there, "{context}");
                    refetched += 1;
                }
            }
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
        "{rounds} rounds, {killed} killed before their end, {refetched} downloads went on where they were"
    );
}
