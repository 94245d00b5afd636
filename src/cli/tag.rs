//! `umiak tag`.

use clap::Args;

use super::Execute;
use super::fault::Fault;
use super::output::Printer;
use crate::engine::Engine;

/// Create a tag `TARGET_IMAGE` that refers to `SOURCE_IMAGE`
#[derive(Debug, Args)]
#[command(help_template = super::HELP, override_usage = "umiak tag SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]")]
pub(super) struct Tag {
    #[arg(required = true, num_args = 2, hide = true)]
    names: Vec<String>,
}

impl Execute for Tag {
    fn run(&self, engine: &Engine, _: &Printer) -> Result<u8, Fault> {
        if let [source, target] = self.names.as_slice() {
            engine.tag(source, target)?;
        }
        Ok(0)
    }
}
