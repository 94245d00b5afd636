//! On this system programs run on ordinary threads, and containers have no network of their own.

use std::path::Path;

use crate::executor::{ExecError, NameFiles, Refusal, Want};

/// Whether containers can join networks here.
pub(super) const JOINS: bool = false;
/// Whether programs run apart from the host also without a network.
pub(super) const APART: bool = false;

/// Nothing.
#[derive(Debug)]
pub(super) enum Place {}

fn refused() -> ExecError {
    Refusal::Cannot { executor: super::NAME, what: Want::Networks.describe() }.into()
}

impl Place {
    pub(super) fn networked(_: &Path, _: &NameFiles) -> Result<Self, ExecError> {
        Err(refused())
    }

    pub(super) fn without_network(_: bool) -> Result<Self, ExecError> {
        Err(refused())
    }

    pub(super) fn ahead() -> Result<Self, ExecError> {
        Err(refused())
    }

    pub(super) fn renew(&self, _: &Path, _: &NameFiles) -> Result<(), ExecError> {
        match *self {}
    }

    pub(super) fn network(&self) -> Option<u32> {
        match *self {}
    }

    pub(super) fn confine(&self) -> Result<(), ExecError> {
        match *self {}
    }

    pub(super) fn walls(&self, _: bool) -> Vec<&'static str> {
        match *self {}
    }

    pub(super) fn run<T: Send + 'static>(
        &self,
        _: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ExecError> {
        match *self {}
    }
}

/// Around a sandbox there is nothing but the process.
pub(super) fn walls() -> Vec<&'static str> {
    Vec::new()
}
