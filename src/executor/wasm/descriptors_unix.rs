//! How many files this process may have open, of which a guest gets what the supervisor itself does not need: one that opens all it
//! can must not keep the supervisor from taking the command that ends it.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::executor::ExecError;
use crate::model::ErrorKind;

/// What the supervisor keeps: its log, its clients' connections, ports, the store; and what guests have beside files.
const OWN: u64 = 256 + super::grants::BESIDE as u64;
/// What is made possible unasked, where the hard limit allows it.
const USUAL: u64 = 65_536;

/// The limit that was asked for cannot be had.
#[derive(Debug, thiserror::Error)]
#[error(
    "{wanted} open files and {OWN} of the engine are more than this process may have ({most}); raise that (`ulimit -Hn`) or ask for less"
)]
struct TooMany {
    wanted: u64,
    most: u64,
    source: io::Error,
}

/// Makes room for this many open files of guests, or for the usual number of them; tells how many there can be.
pub(super) fn room(wanted: Option<u64>) -> Result<usize, ExecError> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let (now, most) = (current.unwrap_or(u64::MAX), maximum.unwrap_or(u64::MAX));
    let needed = wanted.unwrap_or(USUAL).saturating_add(OWN);
    // Asked for, it is had or refused; unasked, as much as there is.
    let target = if wanted.is_some() { needed } else { needed.min(most) };
    let mut limit = now;
    if target > now {
        let raised =
            Rlimit { current: Some(target), maximum: Some(target.max(most)).filter(|_| maximum.is_some()) };
        setrlimit(Resource::Nofile, raised).map_err(|error| {
            let source = TooMany { wanted: wanted.unwrap_or(USUAL), most, source: error.into() };
            ExecError::failed(ErrorKind::InvalidInput, "limiting open files (`--ulimit nofile`)", source)
        })?;
        limit = target;
    }
    Ok(usize::try_from(limit.saturating_sub(OWN)).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Kind as _;

    #[test]
    fn a_guest_never_gets_the_last_descriptors() {
        let all = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
        assert!(room(None).unwrap() as u64 <= all - OWN);
        assert!(room(Some(100)).unwrap() >= 100);
        let refused = room(Some(u64::MAX)).map_err(|error| error.kind());
        assert!(refused == Err(ErrorKind::InvalidInput) || all == u64::MAX, "{refused:?}");
    }
}
