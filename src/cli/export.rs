//! `umiak export`.

use std::path::PathBuf;

use clap::Args;

use super::Execute;
use super::fault::Fault;
use super::output::{Printer, Stream, whole};
use crate::engine::Engine;

/// Export a container's filesystem as a tar archive
#[derive(Debug, Args)]
#[command(help_template = super::HELP, override_usage = "umiak export [OPTIONS] CONTAINER", args_override_self = true)]
pub(super) struct Export {
    /// Write to a file, instead of STDOUT
    #[arg(short, long, value_name = "string")]
    output: Option<PathBuf>,
    #[arg(required = true, hide = true)]
    container: String,
}

impl Execute for Export {
    fn run(&self, engine: &Engine, printer: &Printer) -> Result<u8, Fault> {
        if let Some(path) = &self.output {
            whole::file(path, |to| Ok(engine.export(&self.container, to)?))?;
        } else {
            let refusal = "cowardly refusing to save to a terminal. Use the -o flag or redirect";
            Stream::new(printer, refusal)?.run(|to| engine.export(&self.container, to))?;
        }
        Ok(0)
    }
}
