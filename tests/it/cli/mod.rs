//! The commands as a user of docker knows them: what they print, how they end, and what they leave.
mod attach;
mod boot;
mod control;
mod cp;
mod crash;
mod events;
mod faults;
mod flags;
mod groups;
mod health;
mod images;
mod lifecycle;
mod listing;
mod logs;
mod prune;
mod refusals;
mod streams;
mod usage;

use std::time::{Duration, Instant};

use crate::support::host::Host;
use crate::support::registry;

/// Starts a busybox in the background and returns its id.
#[track_caller]
fn detached(host: &Host, flags: &[&str], command: &[&str]) -> String {
    let image = registry::busybox();
    let mut args = vec!["run", "-d"];
    args.extend(flags);
    args.push(&image);
    args.extend(command);
    let id = host.umiak(&args).exits(0).text().to_owned();
    assert!(id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
    id
}

/// Asks until the answer is yes, ten seconds at most.
#[track_caller]
pub(crate) fn until(what: &str, mut question: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !question() {
        assert!(Instant::now() < end, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
