//! `umiak image pin` and `umiak image unpin`: images that are to stay.

use clap::Args;

use super::Execute;
use super::fault::Fault;
use super::output::Printer;
use crate::engine::Engine;

/// Keep images from prune, from the disk budget, and from removal without force
#[derive(Debug, Args)]
#[command(help_template = super::HELP, override_usage = "umiak image pin IMAGE [IMAGE...]")]
pub(super) struct Pin {
    #[arg(required = true, hide = true)]
    images: Vec<String>,
}

/// Take the pin from images
#[derive(Debug, Args)]
#[command(help_template = super::HELP, override_usage = "umiak image unpin IMAGE [IMAGE...]")]
pub(super) struct Unpin {
    #[arg(required = true, hide = true)]
    images: Vec<String>,
}

fn set(engine: &Engine, printer: &Printer, names: &[String], pinned: bool) -> Result<u8, Fault> {
    super::each(printer, names, |name| {
        engine.pin(name, pinned)?;
        printer.line(name)?;
        Ok(())
    })
}

impl Execute for Pin {
    fn run(&self, engine: &Engine, printer: &Printer) -> Result<u8, Fault> {
        set(engine, printer, &self.images, true)
    }
}

impl Execute for Unpin {
    fn run(&self, engine: &Engine, printer: &Printer) -> Result<u8, Fault> {
        set(engine, printer, &self.images, false)
    }
}
