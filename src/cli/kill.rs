//! `umiak kill`.

use clap::Args;

use super::Execute;
use super::fault::{Fault, signal};
use super::output::Printer;
use crate::engine::Engine;

/// Kill one or more running containers
#[derive(Debug, Args)]
#[command(help_template = super::HELP, override_usage = "umiak kill [OPTIONS] CONTAINER [CONTAINER...]", args_override_self = true)]
pub(super) struct Kill {
    /// Signal to send to the container (default KILL)
    #[arg(short, long, value_name = "string", default_value = "KILL", hide_default_value = true)]
    signal: String,
    #[arg(required = true, hide = true)]
    containers: Vec<String>,
}

impl Execute for Kill {
    fn run(&self, engine: &Engine, printer: &Printer) -> Result<u8, Fault> {
        super::each(printer, &self.containers, |name| {
            engine.kill(name, signal(&self.signal)?)?;
            Ok(printer.line(name)?)
        })
    }
}
