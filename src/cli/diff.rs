//! `umiak diff`.

use clap::Args;

use super::Execute;
use super::fault::Fault;
use super::output::{Printer, human};
use crate::engine::Engine;
use crate::store::layer::diff::Change;

/// Inspect changes to files or directories on a container's filesystem
#[derive(Debug, Args)]
#[command(help_template = super::HELP, override_usage = "umiak diff CONTAINER", args_override_self = true)]
pub(super) struct Diff {
    #[arg(required = true, hide = true)]
    container: String,
}

impl Execute for Diff {
    fn run(&self, engine: &Engine, printer: &Printer) -> Result<u8, Fault> {
        let mut text = String::new();
        for (path, change) in engine.changes(&self.container)? {
            let letter = match change {
                Change::Added => 'A',
                Change::Modified => 'C',
                Change::Deleted => 'D',
            };
            text.extend([letter.to_string().as_str(), " /", &human::inert(&path.to_string_lossy()), "\n"]);
        }
        printer.write(text.as_bytes())?;
        Ok(0)
    }
}
