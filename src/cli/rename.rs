//! `umiak rename`.

use clap::Args;

use super::Execute;
use super::args::name;
use super::args::refused::Refused;
use super::fault::Fault;
use super::output::Printer;
use crate::engine::Engine;

/// Rename a container
#[derive(Debug, Args)]
#[command(help_template = super::HELP, override_usage = "umiak rename CONTAINER NEW_NAME")]
pub(super) struct Rename {
    #[arg(required = true, num_args = 2, hide = true)]
    names: Vec<String>,
}

impl Execute for Rename {
    fn run(&self, engine: &Engine, _printer: &Printer) -> Result<u8, Fault> {
        let [old, new] = self.names.as_slice() else { return Ok(1) };
        if old.trim().is_empty() || new.trim().is_empty() {
            return Err(Fault::value(Refused::text("Neither old nor new names may be empty")));
        }
        let new = name::parse(new.trim()).map_err(Fault::value)?;
        engine.rename(old.trim(), &new)?;
        Ok(0)
    }
}
