//! `umiak restart`.

use clap::Args;

use super::Execute;
use super::fault::{Fault, signal};
use super::output::Printer;
use crate::engine::Engine;

/// Restart one or more containers
#[derive(Debug, Args)]
#[command(help_template = super::HELP, override_usage = "umiak restart [OPTIONS] CONTAINER [CONTAINER...]", args_override_self = true)]
pub(super) struct Restart {
    /// Signal to send to the container
    #[arg(short, long, value_name = "string")]
    signal: Option<String>,
    /// Seconds to wait before killing the container
    #[arg(short, long, visible_alias = "time", value_name = "int", allow_negative_numbers = true)]
    timeout: Option<i64>,
    #[arg(required = true, hide = true)]
    containers: Vec<String>,
}

impl Execute for Restart {
    fn run(&self, engine: &Engine, printer: &Printer) -> Result<u8, Fault> {
        super::each(printer, &self.containers, |name| {
            engine.restart(name, self.signal.as_deref().map(signal).transpose()?, self.timeout)?;
            Ok(printer.line(name)?)
        })
    }
}
