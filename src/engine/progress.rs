//! What a long use case tells about its progress; the command line draws it, an API would stream it.

use std::fmt::Debug;

/// Where a layer is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It is wanted.
    Pulling,
    /// Others go first.
    Waiting,
    /// Bytes that are here, of all.
    Downloading {
        /// Bytes that are here.
        done: u64,
        /// All bytes.
        total: u64,
    },
    /// All bytes are here and are the right ones.
    Downloaded,
    /// It is being unpacked.
    Extracting,
    /// It is whole.
    Complete,
    /// Its program is being compiled.
    Compiling,
    /// That is done.
    Compiled,
    /// It was in the store.
    Exists,
    /// It is going to be pushed, if need be.
    Preparing,
    /// Bytes that were sent, of all.
    Pushing {
        /// Bytes that were sent.
        done: u64,
        /// All bytes.
        total: u64,
    },
    /// The registry has got it.
    Pushed,
    /// The registry had it.
    Present,
}

/// Hears about progress. Called from several threads.
pub trait Progress: Debug + Send + Sync {
    /// An image has to be fetched first.
    fn missing(&self, name: &str);
    /// A pull begins.
    fn pulling(&self, tag: &str, repository: &str);
    /// A layer, by the 12 digits that people are shown, moved on.
    fn layer(&self, layer: &str, phase: Phase);
    /// A layer that is pushed was taken from another repository of the registry.
    fn mounted(&self, _layer: &str, _from: &str) {}
}

/// Tells nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn missing(&self, _: &str) {}
    fn pulling(&self, _: &str, _: &str) {}
    fn layer(&self, _: &str, _: Phase) {}
}
