//! `umiak rm`.

use clap::Args;

use super::Execute;
use super::fault::Fault;
use super::output::Printer;
use crate::engine::Engine;
use crate::model::{ErrorKind, Kind as _};

/// Remove one or more containers
#[derive(Debug, Args)]
#[command(help_template = super::HELP, override_usage = "umiak rm [OPTIONS] CONTAINER [CONTAINER...]", args_override_self = true)]
pub(super) struct Rm {
    /// Force the removal of a running container (uses SIGKILL)
    #[arg(short, long)]
    force: bool,
    /// Remove anonymous volumes associated with the container
    #[arg(short, long)]
    volumes: bool,
    #[arg(required = true, hide = true)]
    containers: Vec<String>,
}

impl Execute for Rm {
    fn run(&self, engine: &Engine, printer: &Printer) -> Result<u8, Fault> {
        super::each(printer, &self.containers, |name| match engine.remove(name, self.force, self.volumes) {
            Ok(_) => Ok(printer.line(name)?),
            // With -f the wish is fulfilled when it is not there: docker says so, and succeeds.
            Err(error) if self.force && error.kind() == ErrorKind::NotFound => {
                Ok(printer.line_err(format!("umiak: {error}"))?)
            }
            Err(error) => Err(error.into()),
        })
    }
}
