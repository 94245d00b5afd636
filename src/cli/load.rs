//! `umiak load`.

use std::fs::File;
use std::io::IsTerminal as _;
use std::path::PathBuf;

use clap::Args;

use super::Execute;
use super::fault::Fault;
use super::output::Printer;
use super::progress::{Shown, Target};
use crate::engine::Engine;
use crate::engine::archive::{Loaded, Source};
use crate::engine::progress::{Progress, Silent};
use crate::model::Platform;

/// Load an image from a tar archive or STDIN
#[derive(Debug, Args)]
#[command(help_template = super::HELP, override_usage = "umiak load [OPTIONS]", args_override_self = true)]
pub(super) struct Load {
    /// Read from tar archive file, or a directory that is an OCI layout, instead of STDIN
    #[arg(short, long, value_name = "string")]
    input: Option<PathBuf>,
    /// Load only the given platform(s)
    #[arg(long, value_name = "string", value_delimiter = ',')]
    platform: Vec<Platform>,
    /// Suppress the load output
    #[arg(short, long)]
    quiet: bool,
}

impl Load {
    fn source(&self) -> Result<Source, Fault> {
        let Some(path) = &self.input else {
            return Ok(Source::Stream(Box::new(std::io::stdin().lock())));
        };
        let failed = |source| Fault::File { action: "cannot open", path: path.clone(), source };
        if path.is_dir() {
            return Ok(Source::Directory(path.clone()));
        }
        Ok(Source::Stream(Box::new(File::open(path).map_err(failed)?)))
    }
}

impl Execute for Load {
    fn check(&self) -> Result<(), Fault> {
        if self.input.is_none() && std::io::stdin().is_terminal() {
            return Err(Fault::Conflict("requested load from stdin, but stdin is empty"));
        }
        Ok(())
    }

    fn run(&self, engine: &Engine, printer: &Printer) -> Result<u8, Fault> {
        // Standard output has what was loaded.
        let shown: Box<dyn Progress + '_> =
            if self.quiet { Box::new(Silent) } else { Box::new(Shown::new(printer, Target::Err)) };
        for loaded in engine.load(self.source()?, &self.platform, &*shown)? {
            match loaded {
                Loaded::Named { name, from } => {
                    if let Some(old) = from.filter(|_| !self.quiet) {
                        printer.line(format!(
                            "The image {name} already exists, renaming the old one with ID {old} to empty string"
                        ))?;
                    }
                    printer.line(format!("Loaded image: {name}"))?;
                }
                Loaded::Nameless(id) => printer.line(format!("Loaded image ID: {id}"))?,
            }
        }
        Ok(0)
    }
}
