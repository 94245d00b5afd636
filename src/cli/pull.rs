//! `umiak pull`.

use clap::Args;

use super::Execute;
use super::fault::Fault;
use super::output::Printer;
use super::progress::{Shown, Target};
use super::push::is_tagged;
use crate::engine::progress::{Progress, Silent};
use crate::engine::{Engine, EngineError, PullStatus, PushError};
use crate::executor;
use crate::model::Platform;
use crate::reference::Reference;

/// Download an image from a registry
#[derive(Debug, Args)]
#[command(help_template = super::HELP, override_usage = "umiak pull [OPTIONS] NAME[:TAG|@DIGEST]", args_override_self = true)]
pub(super) struct Pull {
    /// Download all tagged images in the repository
    #[arg(short, long)]
    all_tags: bool,
    /// Skip image verification (there is none by signatures: for compatibility)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "bool", hide = true)]
    disable_content_trust: Option<bool>,
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
        if self.all_tags {
            return self.pull_all(engine, printer, &reference, &wanted);
        }
        if self.quiet {
            engine.pull(&reference, &wanted, &Silent)?;
            printer.line(reference.canonical())?;
            return Ok(0);
        }
        if let (false, Some(tag)) = (is_tagged(&self.name), reference.tag()) {
            printer.line(format!("Using default tag: {tag}"))?;
        }
        let pulled = engine.pull(&reference, &wanted, &Shown::new(printer, Target::Out))?;
        printer.line(format!("Digest: {}", pulled.digest))?;
        printer.line(format!("Status: {} {reference}", said(pulled.status)))?;
        printer.line(reference.canonical())?;
        Ok(0)
    }
}

fn said(status: PullStatus) -> &'static str {
    match status {
        PullStatus::Downloaded => "Downloaded newer image for",
        PullStatus::UpToDate => "Image is up to date for",
    }
}

impl Pull {
    fn pull_all(
        &self,
        engine: &Engine,
        printer: &Printer,
        reference: &Reference,
        wanted: &[Platform],
    ) -> Result<u8, Fault> {
        if is_tagged(&self.name) {
            return Err(EngineError::from(PushError::TagAndAll).into());
        }
        let shown: Box<dyn Progress + '_> =
            if self.quiet { Box::new(Silent) } else { Box::new(Shown::new(printer, Target::Out)) };
        let (mut status, mut wrote) = (PullStatus::UpToDate, Ok(()));
        engine.pull_all(reference, wanted, &*shown, &mut |pulled| {
            if pulled.status == PullStatus::Downloaded {
                status = PullStatus::Downloaded;
            }
            if !self.quiet && wrote.is_ok() {
                wrote = printer.line(format!("Digest: {}", pulled.digest));
            }
        })?;
        wrote?;
        if !self.quiet {
            printer.line(format!("Status: {} {}", said(status), reference.familiar_name()))?;
        }
        printer.line(format!("{}/{}", reference.registry(), reference.repository()))?;
        Ok(0)
    }
}
