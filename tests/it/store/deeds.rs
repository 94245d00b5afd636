//! What is done to a store and interrupted: each deed, what it needs first, and which failpoints it passes.

use std::path::PathBuf;

use umiak::failpoint::Point;

use super::Subject;
use crate::support::depot::Depot;
use crate::support::host::{Host, Output};
use crate::support::rogue::Rogue;
use crate::support::tar::{archive, file};

/// Something that is done when a point is passed, on a store that holds what it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deed {
    Pull,
    Load,
    Import,
    Commit,
    Push,
    Tag,
    Untag,
    RemoveImage,
    Prune,
    RemoveContainer,
    RemoveVolume,
    Repair,
    /// The image that the binary carries.
    Demo,
}

impl Deed {
    pub(super) const ALL: &[Self] = &[
        Self::Pull,
        Self::Load,
        Self::Import,
        Self::Commit,
        Self::Push,
        Self::Tag,
        Self::Untag,
        Self::RemoveImage,
        Self::Prune,
        Self::RemoveContainer,
        Self::RemoveVolume,
        Self::Repair,
        Self::Demo,
    ];

    /// The points that it passes, all of them.
    pub(super) fn points(self) -> Vec<Point> {
        use Point as P;
        let lease = [P::LeaseFile, P::LeaseTaken, P::LeaseReleased];
        let layer = [P::LayerBegun, P::LayerEntry, P::LayerApplied];
        let publish = [P::PublishVerified, P::PublishSynced, P::PublishBlob, P::PublishLayer, P::Published];
        let record = [P::PutWritten, P::PutRenamed, P::ImageWritten, P::ImageRecorded];
        let spool = [P::SpoolMade, P::SpoolWritten];
        let collect = [P::CollectDecided, P::BlobRemoved, P::LayerRetired, P::Collected];
        let all: &[&[Point]] = match self {
            Self::Pull => &[&lease, &[P::IngestOpened, P::IngestWritten], &layer, &publish, &record],
            Self::Load => &[&lease, &spool, &[P::ArchiveRead], &layer, &publish, &record],
            Self::Import => &[&lease, &spool, &layer, &publish, &record],
            Self::Commit => &[&lease, &[P::SpoolMade, P::LayerPacked], &layer, &publish, &record],
            Self::Push => &[&lease, &[P::BlobPushed, P::ManifestPushed]],
            Self::Tag => &[&[P::Tagged]],
            Self::Untag => &[&[P::Untagged]],
            Self::RemoveImage | Self::Prune => &[&lease, &[P::Untagged, P::ImageRemoved], &collect],
            Self::RemoveContainer => &[&[P::ContainerRetired, P::ContainerErased]],
            Self::RemoveVolume => &[&[P::VolumeRetired]],
            Self::Repair => &[&lease, &layer, &[P::RepairReady, P::RepairPlaced]],
            Self::Demo => &[&lease, &layer, &[P::LayerSynced, P::PublishLayer], &record],
        };
        all.concat()
    }

    /// The deed whose part of the code a point is.
    pub(super) fn of(point: Point) -> Self {
        // What is passed by several is first of all a part of a pull, then of what comes earliest here.
        let own = match point {
            Point::Untagged => Self::Untag,
            _ => Self::ALL[0],
        };
        if own.points().contains(&point) {
            return own;
        }
        let passes = |deed: &&Self| deed.points().contains(&point);
        *Self::ALL.iter().find(passes).unwrap_or_else(|| panic!("no deed passes {}", point.name()))
    }
}

/// What deeds are done with: a registry to pull from and one to push to, an image, and archives.
pub(super) struct Stage {
    pub(super) rogue: Rogue,
    pub(super) subject: Subject,
    depot: Depot,
    /// Where the archives are.
    _files: tempfile::TempDir,
    saved: PathBuf,
    tree: PathBuf,
}

impl Stage {
    pub(super) fn new(repository: &str, seed: u64, size: usize) -> Self {
        let rogue = Rogue::new();
        let subject = Subject::at(&rogue, repository, seed, size);
        let files = tempfile::tempdir().expect("a folder");
        let (saved, tree) = (files.path().join("saved.tar"), files.path().join("tree.tar"));
        let host = Host::new();
        host.umiak(&["pull", "-q", &subject.name]).exits(0);
        host.umiak(&["tag", &subject.name, "saved:1"]).exits(0);
        host.umiak(&["save", "-o", &saved.display().to_string(), "saved:1"]).exits(0);
        let bytes = super::noise(seed + 7, size / 4);
        std::fs::write(&tree, archive(&[file("x", 0o644, &bytes), file("y", 0o600, b"y")])).expect("written");
        Self { rogue, subject, depot: Depot::new(), _files: files, saved, tree }
    }

    /// Where it is pushed to.
    pub(super) fn there(&self) -> String {
        format!("{}/pushed:1", self.depot.address())
    }

    /// Makes what a deed needs.
    pub(super) fn prepare(&self, deed: Deed, host: &Host) {
        let name = self.subject.name.as_str();
        let pull = || drop(host.umiak(&["pull", "-q", name]).exits(0));
        match deed {
            Deed::Pull | Deed::Demo | Deed::Load | Deed::Import => {}
            Deed::Tag | Deed::RemoveImage | Deed::Prune => pull(),
            Deed::Push => {
                pull();
                self.depot.forget();
                host.umiak(&["tag", name, &self.there()]).exits(0);
            }
            Deed::Untag => {
                pull();
                host.umiak(&["tag", name, "extra:1"]).exits(0);
            }
            Deed::RemoveContainer => drop(host.umiak(&["run", "--name", "one", name]).exits(0)),
            Deed::Commit => {
                host.umiak(&["create", "--name", "one", name]).exits(0);
                host.umiak(&["cp", &self.tree.display().to_string(), "one:/added"]).exits(0);
            }
            Deed::RemoveVolume => {
                host.umiak(&["volume", "create", "vol"]).exits(0);
                std::fs::write(host.root().join("volumes/vol/_data/mine"), "mine").expect("written");
            }
            Deed::Repair => {
                pull();
                spoil(host);
            }
        }
    }

    pub(super) fn args(&self, deed: Deed) -> Vec<String> {
        let name = self.subject.name.as_str();
        let (saved, tree, there) =
            (self.saved.display().to_string(), self.tree.display().to_string(), self.there());
        let args: &[&str] = match deed {
            Deed::Pull => &["pull", "-q", name],
            Deed::Load => &["load", "-q", "-i", &saved],
            Deed::Import => &["import", &tree, "imported:1"],
            Deed::Commit => &["commit", "one", "committed:1"],
            Deed::Push => &["push", "-q", &there],
            Deed::Tag => &["tag", name, "extra:2"],
            Deed::Untag => &["rmi", "extra:1"],
            Deed::RemoveImage => &["rmi", name],
            Deed::Prune => &["image", "prune", "-af"],
            Deed::RemoveContainer => &["rm", "one"],
            Deed::RemoveVolume => &["volume", "rm", "vol"],
            Deed::Repair => &["system", "check", "--repair"],
            Deed::Demo => &["pull", "-q", "hello"],
        };
        args.iter().map(|arg| (*arg).to_owned()).collect()
    }

    /// After it was done: what it made is there, and works.
    pub(super) fn done(&self, deed: Deed, host: &Host, context: &str) {
        let runs = |name: &str| {
            let out = host.umiak(&["run", "--rm", "--pull", "never", name]).exits(0).stdout;
            let size = self.subject.size;
            let whole = out.contains(&format!("{size} /a")) && out.contains(&format!("{} /b", size / 2));
            assert!(whole, "{context}: {out}");
        };
        match deed {
            Deed::Pull | Deed::Repair | Deed::Untag => runs(&self.subject.name),
            Deed::Load => runs("saved:1"),
            Deed::Commit => {
                runs("committed:1");
                host.umiak(&["create", "--name", "two", "committed:1"]).exits(0);
                let added = host.dir().join("added");
                host.umiak(&["cp", "two:/added", &added.display().to_string()]).exits(0);
                assert!(
                    std::fs::read(added).expect("there") == std::fs::read(&self.tree).expect("there"),
                    "{context}"
                );
            }
            Deed::Import => {
                host.umiak(&["create", "--name", "two", "imported:1", "x"]).exits(0);
                assert_eq!(
                    host.umiak(&["cp", "two:/y", "-"]).exits(0).stdout.matches('y').count(),
                    2,
                    "{context}"
                );
            }
            Deed::Push => {
                let other = Host::new();
                other.umiak(&["pull", "-q", &self.there()]).exits(0);
                let id = |host: &Host| host.umiak(&["images", "-q", &self.there()]).exits(0).stdout;
                assert_eq!(id(&other), id(host), "{context}");
            }
            Deed::Tag => drop(host.umiak(&["run", "--rm", "--pull", "never", "extra:2"]).exits(0)),
            Deed::RemoveImage | Deed::Prune => {
                // Where it was killed after the name was gone, there is no name to remove it by.
                host.umiak(&["image", "prune", "-f"]).exits(0);
                let left = (host.layers(), host.list("blobs/sha256"));
                assert_eq!(left, (vec![], vec![]), "{context}");
            }
            Deed::RemoveContainer => assert_eq!(host.list("containers"), Vec::<String>::new(), "{context}"),
            Deed::RemoveVolume => assert_eq!(host.list("volumes"), Vec::<String>::new(), "{context}"),
            Deed::Demo => drop(host.umiak(&["run", "--rm", "--pull", "never", "hello"]).exits(0)),
        }
    }
}

impl Deed {
    /// What the same thing says when it was done already before the process died.
    pub(super) fn done_already(self, out: &Output) -> bool {
        match self {
            Self::Untag | Self::RemoveImage | Self::RemoveContainer | Self::RemoveVolume => {
                out.status == 1 && out.stderr.to_lowercase().contains("no such")
            }
            _ => false,
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
