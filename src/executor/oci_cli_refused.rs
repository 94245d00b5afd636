//! The twin of the executor that drives installed OCI runtimes on other systems: it knows its name and refuses.

use super::{Entry, ExecError, Executor, Refusal, Settings, Workload};

/// The executor's name.
pub const NAME: &str = "oci";

/// The host side's view.
pub const ENTRY: Entry = Entry { name: NAME, aliases: &[], admit, open };

fn admit(_: &Workload) -> Result<(), Refusal> {
    Err(Refusal::Host { executor: NAME })
}

fn open(_: &Settings) -> Result<Box<dyn Executor>, ExecError> {
    Err(Refusal::Host { executor: NAME }.into())
}
