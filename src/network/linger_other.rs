//! Nothing lingers where there are no networks.

use std::convert::Infallible;
use std::time::Duration;

/// How long a network stays.
pub const MOMENT: Duration = Duration::ZERO;

/// There is none.
#[derive(Debug)]
pub struct Lingering(Infallible);

/// There is none.
#[derive(Debug)]
pub struct Last;

impl Lingering {
    /// Never happens.
    pub fn end(self) -> Option<Last> {
        match self.0 {}
    }
}
