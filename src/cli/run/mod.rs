//! `umiak run`.

mod attach;
#[cfg(unix)]
#[path = "signals_unix.rs"]
mod signals;
#[cfg(not(unix))]
#[path = "signals_other.rs"]
mod signals;
#[cfg(unix)]
#[path = "terminal_unix.rs"]
mod terminal;
#[cfg(not(unix))]
#[path = "terminal_other.rs"]
mod terminal;

use clap::Args;

use super::Execute;
use super::create::{Flags, create};
use super::fault::Fault;
use super::flags::switch;
use super::output::Printer;
use crate::engine::Engine;

/// Create and run a new container from an image
#[derive(Debug, Args)]
#[command(
    help_template = super::HELP,
    override_usage = "umiak run [OPTIONS] IMAGE [COMMAND] [ARG...]",
    args_override_self = true
)]
pub(super) struct Run {
    /// Run container in background and print container ID
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, value_parser = switch, value_name = "bool", action = clap::ArgAction::Set)]
    detach: bool,
    /// Proxy received signals to the process
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true", hide_default_value = true, value_parser = switch, value_name = "bool", action = clap::ArgAction::Set)]
    sig_proxy: bool,
    #[command(flatten)]
    flags: Flags,
}

impl Execute for Run {
    fn check(&self) -> Result<(), Fault> {
        self.flags.check()?;
        if self.detach {
            // The client that is to be attached to some streams leaves at once.
            if !self.flags.attach.is_empty() {
                let message = "conflicting options: cannot specify both --attach and --detach";
                return Err(Fault::value(super::args::refused::Refused::text(message)));
            }
            return Ok(());
        }
        attach::check_terminal(self.flags.interactive, self.flags.tty)
    }

    fn run(&self, engine: &Engine, printer: &Printer) -> Result<u8, Fault> {
        let container = create(&self.flags, engine, printer, !self.detach)?;
        if self.detach {
            engine.start(&container, false, None)?;
            printer.line(&container.id)?;
            return Ok(0);
        }
        let status = attach::run(engine, printer, &container, self.sig_proxy)?;
        // A process's status is its low eight bits on every system that has one.
        Ok(status.to_le_bytes()[0])
    }
}
