//! There is no network of a container's own on this system.

use std::path::Path;

use crate::executor::{ExecError, NameFiles, Refusal, Want};

/// Whether containers can join networks here.
pub(super) const JOINS: bool = false;

/// Nothing.
#[derive(Debug)]
pub(super) enum Place {}

impl Place {
    pub(super) fn new(_: &Path, _: &NameFiles) -> Result<Self, ExecError> {
        Err(Refusal::Cannot { executor: super::NAME, what: Want::Networks.describe() }.into())
    }

    pub(super) fn renew(&self, _: &Path, _: &NameFiles) -> Result<(), ExecError> {
        match *self {}
    }

    pub(super) fn id(&self) -> u32 {
        match *self {}
    }

    pub(super) fn confine(&self) -> Result<(), ExecError> {
        match *self {}
    }

    pub(super) fn run<T: Send + 'static>(
        &self,
        _: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ExecError> {
        match *self {}
    }
}
