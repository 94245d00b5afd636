//! `umiak rmi`.

use clap::Args;

use super::Execute;
use super::fault::Fault;
use super::output::Printer;
use crate::engine::{Engine, ImageRemoval};

/// Remove one or more images
#[derive(Debug, Args)]
#[command(help_template = super::HELP, override_usage = "umiak rmi [OPTIONS] IMAGE [IMAGE...]", args_override_self = true)]
pub(super) struct Rmi {
    /// Force removal of the image
    #[arg(short, long)]
    force: bool,
    /// Do not delete untagged parents (images have none here: for compatibility)
    #[arg(long)]
    no_prune: bool,
    #[arg(required = true, hide = true)]
    images: Vec<String>,
}

impl Execute for Rmi {
    fn run(&self, engine: &Engine, printer: &Printer) -> Result<u8, Fault> {
        super::each(printer, &self.images, |name| {
            for step in engine.remove_image(name, self.force)? {
                match step {
                    ImageRemoval::Untagged(name) => printer.line(format!("Untagged: {name}"))?,
                    ImageRemoval::Deleted(id) => printer.line(format!("Deleted: {id}"))?,
                }
            }
            Ok(())
        })
    }
}
