//! Copying archives from and to containers needs Linux, as [`super::copy`] does.

use std::io::{Read, Write};

use super::copy::{CopyOptions, End};
use super::{Engine, EngineError};

impl Engine {
    /// Refused here.
    pub fn copy_out(&self, from: &End, follow: bool, _: &mut dyn Write) -> Result<(), EngineError> {
        self.copy(from, &End::Host("-".into()), CopyOptions { follow, ..CopyOptions::default() }).map(drop)
    }

    /// Refused here.
    pub fn copy_in(&self, _: impl Read + Send, to: &End) -> Result<u64, EngineError> {
        self.copy(&End::Host("-".into()), to, CopyOptions::default())
    }
}
