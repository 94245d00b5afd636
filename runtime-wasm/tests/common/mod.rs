//! What the tests share.

use runtime_wasm::{Machine, Settings};

/// What a test has where it wants nothing else. With `UMIAK_INTERPRETED` all guests are interpreted, by a build that can
/// (`--features interpreter`): what holds for the one machine holds for the other.
pub(crate) fn settings() -> Settings {
    let interpreted = std::env::var_os("UMIAK_INTERPRETED").is_some();
    Settings {
        machine: if interpreted { Machine::Interpreter } else { Machine::Host },
        ..Settings::default()
    }
}
