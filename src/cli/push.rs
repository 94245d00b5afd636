//! `umiak push`.

use clap::Args;

use super::Execute;
use super::fault::Fault;
use super::output::Printer;
use super::progress::{Shown, Target};
use crate::engine::progress::{Progress, Silent};
use crate::engine::{Engine, EngineError, PushError, PushOptions};
use crate::model::Platform;
use crate::reference::Reference;

/// Upload an image to a registry
#[derive(Debug, Args)]
#[command(help_template = super::HELP, override_usage = "umiak push [OPTIONS] NAME[:TAG]", args_override_self = true)]
pub(super) struct Push {
    /// Push all tags of an image to the repository
    #[arg(short, long)]
    all_tags: bool,
    /// Skip image signing (there is none: for compatibility)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "bool", hide = true)]
    disable_content_trust: Option<bool>,
    /// Push the image of this platform alone, not an index of several
    #[arg(long, value_name = "string")]
    platform: Option<Platform>,
    /// Suppress verbose output
    #[arg(short, long)]
    quiet: bool,
    #[arg(required = true, hide = true)]
    name: String,
}

/// Whether a typed name has a tag or a digest.
pub(super) fn is_tagged(name: &str) -> bool {
    name.contains('@') || name.rsplit('/').next().is_some_and(|last| last.contains(':'))
}

impl Execute for Push {
    fn run(&self, engine: &Engine, printer: &Printer) -> Result<u8, Fault> {
        let reference = engine.parse_reference(&self.name)?;
        if self.all_tags && is_tagged(&self.name) {
            return Err(EngineError::from(PushError::TagAndAll).into());
        }
        if !self.quiet {
            if let (false, false, Some(tag)) = (self.all_tags, is_tagged(&self.name), reference.tag()) {
                printer.line(format!("Using default tag: {tag}"))?;
            }
            let repository = format!("{}/{}", reference.registry(), reference.repository());
            printer.line(format!("The push refers to repository [{repository}]"))?;
        }
        let names = if self.all_tags { engine.local_tags(&reference)? } else { vec![reference.clone()] };
        let options = PushOptions { platform: self.platform.clone() };
        let shown: Box<dyn Progress + '_> =
            if self.quiet { Box::new(Silent) } else { Box::new(Shown::new(printer, Target::Out)) };
        self.push(engine, printer, &names, &options, &*shown)?;
        if self.quiet {
            printer.line(if self.all_tags { repository(&reference) } else { reference.canonical() })?;
        }
        Ok(0)
    }
}

fn repository(reference: &Reference) -> String {
    format!("{}/{}", reference.registry(), reference.repository())
}

impl Push {
    fn push(
        &self,
        engine: &Engine,
        printer: &Printer,
        names: &[Reference],
        options: &PushOptions,
        progress: &dyn Progress,
    ) -> Result<(), Fault> {
        let mut wrote = Ok(());
        let outcome = engine.push(names, options, progress, &mut |pushed| {
            if self.quiet || wrote.is_err() {
                return;
            }
            let line = format!("{}: digest: {} size: {}", pushed.tag, pushed.digest, pushed.size);
            wrote = printer.line(line);
            if let (Some(index), Ok(())) = (&pushed.left_out, &wrote) {
                wrote = printer.line(format!(
                    "\nInfo: Not all multiplatform-content is present and only the available single-platform image was pushed\n      \
                     {index} -> {}",
                    pushed.digest
                ));
            }
        });
        outcome?;
        Ok(wrote?)
    }
}
