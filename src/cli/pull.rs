//! `umiak pull`.

use clap::Args;

use super::Execute;
use super::fault::Fault;
use super::output::Printer;
use super::progress::{Shown, Target};
use crate::engine::progress::Silent;
use crate::engine::{Engine, PullStatus};
use crate::executor;
use crate::model::Platform;

/// Download an image from a registry
#[derive(Debug, Args)]
#[command(help_template = super::HELP, override_usage = "umiak pull [OPTIONS] NAME[:TAG|@DIGEST]", args_override_self = true)]
pub(super) struct Pull {
    /// Set platform if server is multi-platform capable
    #[arg(long, value_name = "string")]
    platform: Option<Platform>,
    /// Suppress verbose output
    #[arg(short, long)]
    quiet: bool,
    #[arg(required = true, hide = true)]
    name: String,
}

impl Execute for Pull {
    fn run(&self, engine: &Engine, printer: &Printer) -> Result<u8, Fault> {
        let reference = engine.parse_reference(&self.name)?;
        let wanted = self.platform.clone().map_or_else(executor::default_platforms, |one| vec![one]);
        if self.quiet {
            engine.pull(&reference, &wanted, &Silent)?;
            printer.line(reference.canonical())?;
            return Ok(0);
        }
        let tagged =
            self.name.contains('@') || self.name.rsplit('/').next().is_some_and(|last| last.contains(':'));
        if let (false, Some(tag)) = (tagged, reference.tag()) {
            printer.line(format!("Using default tag: {tag}"))?;
        }
        let pulled = engine.pull(&reference, &wanted, &Shown::new(printer, Target::Out))?;
        printer.line(format!("Digest: {}", pulled.digest))?;
        let status = match pulled.status {
            PullStatus::Downloaded => "Downloaded newer image for",
            PullStatus::UpToDate => "Image is up to date for",
        };
        printer.line(format!("Status: {status} {reference}"))?;
        printer.line(reference.canonical())?;
        Ok(0)
    }
}
