//! `umiak unpause`.

use clap::Args;

use super::Execute;
use super::fault::Fault;
use super::output::Printer;
use crate::engine::Engine;

/// Unpause all processes within one or more containers
#[derive(Debug, Args)]
#[command(help_template = super::HELP, override_usage = "umiak unpause CONTAINER [CONTAINER...]")]
pub(super) struct Unpause {
    #[arg(required = true, hide = true)]
    containers: Vec<String>,
}

impl Execute for Unpause {
    fn run(&self, engine: &Engine, printer: &Printer) -> Result<u8, Fault> {
        super::each(printer, &self.containers, |name| {
            engine.pause(name, false)?;
            Ok(printer.line(name)?)
        })
    }
}
