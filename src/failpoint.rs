//! Points at which this process can be made to die, fail or wait, so that tests can try what a crash or a full disk leaves behind.
//!
//! `UMIAK_FAILPOINT=POINT[@N]=ACTION` in the environment: at the Nth time (the first, if it is not said) that `POINT` is passed,
//! `kill` ends the process as `kill -9` does, `ENOSPC` and `EIO` are the error that the step fails with, and a number is how many
//! milliseconds it waits. A text that is none of this is an error at the first point.
//!
//! They are in the binary that ships, because that binary is what the tests test. Unset, a point costs one load from memory; set,
//! it does to the user's own process what that user can do to it anyway.

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The environment variable.
pub const VARIABLE: &str = "UMIAK_FAILPOINT";

macro_rules! points {
    ($($(#[$meta:meta])* $point:ident = $name:literal,)*) => {
        /// A point, named for what was done last.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Point {
            $($(#[$meta])* $point,)*
        }

        impl Point {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$point,)*];

            /// Its name in the environment variable.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$point => $name,)*
                }
            }
        }
    };
}

points! {
    /// A lease's file is there, its row is not.
    LeaseFile = "lease-file",
    /// What is to be fetched is held.
    LeaseTaken = "lease-taken",
    /// A partial file was opened.
    IngestOpened = "ingest-opened",
    /// Some bytes of a download were written.
    IngestWritten = "ingest-written",
    /// A layer's temporary directory was made.
    LayerBegun = "layer-begun",
    /// An entry of a layer was placed.
    LayerEntry = "layer-entry",
    /// All of a layer was placed and its digest is right.
    LayerApplied = "layer-applied",
    /// Everything that is to be published was verified.
    PublishVerified = "publish-verified",
    /// And is on the disk.
    PublishSynced = "publish-synced",
    /// A blob has its name.
    PublishBlob = "publish-blob",
    /// A layer has its name.
    PublishLayer = "publish-layer",
    /// The names are on the disk.
    Published = "published",
    /// A layer that is published alone is on the disk.
    LayerSynced = "layer-synced",
    /// A small blob's temporary file was written.
    PutWritten = "put-written",
    /// It has its name.
    PutRenamed = "put-renamed",
    /// An image's record is written, and not committed.
    ImageWritten = "image-written",
    /// It is committed.
    ImageRecorded = "image-recorded",
    /// The lease is given back, its file is there still.
    LeaseReleased = "lease-released",
    /// An image got a name more.
    Tagged = "tagged",
    /// An image lost a name.
    Untagged = "untagged",
    /// An image's record is gone, its content is not.
    ImageRemoved = "image-removed",
    /// It was decided which blobs or layers go.
    CollectDecided = "collect-decided",
    /// A blob was removed.
    BlobRemoved = "blob-removed",
    /// A layer was taken out of sight.
    LayerRetired = "layer-retired",
    /// The decision is committed; retired layers wait for their removal.
    Collected = "collected",
    /// A container's directory was taken out of sight.
    ContainerRetired = "container-retired",
    /// Its files are gone, its record is not.
    ContainerErased = "container-erased",
    /// A volume's directory was taken out of sight, its record is there still.
    VolumeRetired = "volume-retired",
    /// A layer was made anew and is to take the place of a bad one.
    RepairReady = "repair-ready",
    /// It has taken it.
    RepairPlaced = "repair-placed",
    /// A directory for files on their way in was made.
    SpoolMade = "spool-made",
    /// A member of an archive, or a layer to import, was written to it.
    SpoolWritten = "spool-written",
    /// An archive of images was read and checked, and nothing of it was taken in.
    ArchiveRead = "archive-read",
    /// The layer of what a container changed was written.
    LayerPacked = "layer-packed",
    /// A registry took a blob.
    BlobPushed = "blob-pushed",
    /// A registry took a manifest or index.
    ManifestPushed = "manifest-pushed",
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Kill,
    Fail(io::ErrorKind),
    Wait(Duration),
}

#[derive(Debug)]
struct Armed {
    point: String,
    at: u64,
    action: Action,
    passed: AtomicU64,
}

fn parse(text: &str) -> Option<Armed> {
    let (place, action) = text.split_once('=')?;
    let (point, at) = match place.split_once('@') {
        Some((point, number)) => (point, number.parse().ok().filter(|at| *at > 0)?),
        None => (place, 1),
    };
    Point::ALL.iter().find(|known| known.name() == point)?;
    let action = match action {
        "kill" => Action::Kill,
        "ENOSPC" => Action::Fail(io::ErrorKind::StorageFull),
        "EIO" => Action::Fail(io::ErrorKind::Other),
        number => Action::Wait(Duration::from_millis(number.parse().ok()?)),
    };
    Some(Armed { point: point.to_owned(), at, action, passed: AtomicU64::new(0) })
}

/// `Err` is the text that means nothing.
fn armed() -> Option<&'static Result<Armed, String>> {
    static ARMED: OnceLock<Option<Result<Armed, String>>> = OnceLock::new();
    ARMED
        .get_or_init(|| {
            let text = std::env::var(VARIABLE).ok().filter(|text| !text.is_empty())?;
            Some(parse(&text).ok_or(text))
        })
        .as_ref()
}

/// Passes a point.
pub fn pass(point: Point) -> io::Result<()> {
    match armed() {
        None => Ok(()),
        Some(armed) => act(armed, point),
    }
}

#[cold]
fn act(armed: &Result<Armed, String>, point: Point) -> io::Result<()> {
    let armed = armed.as_ref().map_err(|text| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("{VARIABLE} is `{text}`, which names no point"))
    })?;
    if armed.point != point.name() || armed.passed.fetch_add(1, Ordering::Relaxed) + 1 != armed.at {
        return Ok(());
    }
    match armed.action {
        Action::Kill => end(),
        Action::Fail(kind) => Err(io::Error::new(kind, format!("at the point `{}`", armed.point))),
        Action::Wait(time) => {
            std::thread::sleep(time);
            Ok(())
        }
    }
}

/// As `kill -9`: nothing is unwound, nothing is flushed.
fn end() -> ! {
    #[cfg(unix)]
    {
        // To oneself it cannot fail.
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
    std::process::abort()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_mean_something() {
        for (text, point, at, action) in [
            ("published=kill", "published", 1, Action::Kill),
            ("layer-entry@7=ENOSPC", "layer-entry", 7, Action::Fail(io::ErrorKind::StorageFull)),
            ("tagged=EIO", "tagged", 1, Action::Fail(io::ErrorKind::Other)),
            ("tagged@2=250", "tagged", 2, Action::Wait(Duration::from_millis(250))),
        ] {
            let armed = parse(text).unwrap();
            assert_eq!((armed.point.as_str(), armed.at, armed.action), (point, at, action), "{text}");
        }
        for text in
            ["", "published", "nowhere=kill", "published@0=kill", "published=explode", "published@x=kill"]
        {
            assert!(parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn names_are_unique() {
        let names: std::collections::BTreeSet<_> = Point::ALL.iter().map(|point| point.name()).collect();
        assert_eq!(names.len(), Point::ALL.len());
    }
}
