//! The twin of the Linux executor on other systems: it knows its name and refuses.

use super::{Entry, ExecError, Executor, Refusal, Settings, Workload};

/// The executor's name.
pub const NAME: &str = "linux";

/// The host side's view.
pub const ENTRY: Entry =
    Entry { name: NAME, aliases: &["io.containerd.runc.v2", "io.containerd.runc.v1"], admit, open };

fn admit(_: &Workload) -> Result<(), Refusal> {
    Err(Refusal::Host { executor: NAME })
}

fn open(_: &Settings) -> Result<Box<dyn Executor>, ExecError> {
    Err(Refusal::Host { executor: NAME }.into())
}
