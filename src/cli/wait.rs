//! `umiak wait`.

use clap::Args;

use super::Execute;
use super::fault::Fault;
use super::output::Printer;
use crate::engine::Engine;

/// Block until one or more containers stop, then print their exit codes
#[derive(Debug, Args)]
#[command(help_template = super::HELP, override_usage = "umiak wait CONTAINER [CONTAINER...]")]
pub(super) struct Wait {
    #[arg(required = true, hide = true)]
    containers: Vec<String>,
}

impl Execute for Wait {
    fn run(&self, engine: &Engine, printer: &Printer) -> Result<u8, Fault> {
        super::each(printer, &self.containers, |name| Ok(printer.line(engine.wait(name)?)?))
    }
}
