//! `umiak pause`.

use clap::Args;

use super::Execute;
use super::fault::Fault;
use super::output::Printer;
use crate::engine::Engine;

/// Pause all processes within one or more containers
#[derive(Debug, Args)]
#[command(help_template = super::HELP, override_usage = "umiak pause CONTAINER [CONTAINER...]")]
pub(super) struct Pause {
    #[arg(required = true, hide = true)]
    containers: Vec<String>,
}

impl Execute for Pause {
    fn run(&self, engine: &Engine, printer: &Printer) -> Result<u8, Fault> {
        super::each(printer, &self.containers, |name| {
            engine.pause(name, true)?;
            Ok(printer.line(name)?)
        })
    }
}
