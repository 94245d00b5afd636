//! `umiak logout`.

use clap::Args;

use super::Execute;
use super::fault::Fault;
use super::output::Printer;
use crate::engine::{Engine, registry_name};
use crate::reference::DEFAULT_REGISTRY;

/// Log out from a registry.
/// Docker Hub if no server is specified.
#[derive(Debug, Args)]
#[command(help_template = super::HELP, override_usage = "umiak logout [SERVER]")]
pub(super) struct Logout {
    #[arg(hide = true, default_value = "", hide_default_value = true)]
    server: String,
}

impl Execute for Logout {
    fn run(&self, engine: &Engine, printer: &Printer) -> Result<u8, Fault> {
        let host = registry_name(&self.server).map_err(|error| Fault::Registry(error.to_string()))?;
        let shown = if host == DEFAULT_REGISTRY { "https://index.docker.io/v1/" } else { &host };
        printer.line(if engine.logout(&host)? {
            format!("Removing login credentials for {shown}")
        } else {
            format!("Not logged in to {shown}")
        })?;
        Ok(0)
    }
}
