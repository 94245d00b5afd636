//! `umiak import`.

use std::fs::File;
use std::io::Read;

use clap::Args;

use super::Execute;
use super::fault::Fault;
use super::output::Printer;
use crate::engine::{Engine, ImportOptions};
use crate::model::Platform;

/// Import the contents from a tarball to create a filesystem image
#[derive(Debug, Args)]
#[command(help_template = super::HELP, override_usage = "umiak import [OPTIONS] file|- [REPOSITORY[:TAG]]", args_override_self = true)]
pub(super) struct Import {
    /// Apply Dockerfile instruction to the created image
    #[arg(short, long, value_name = "list")]
    change: Vec<String>,
    /// Set commit message for imported image
    #[arg(short, long, value_name = "string")]
    message: Option<String>,
    /// Set platform if server is multi-platform capable
    #[arg(long, value_name = "string")]
    platform: Option<Platform>,
    #[arg(required = true, hide = true)]
    source: String,
    #[arg(hide = true)]
    name: Option<String>,
}

impl Execute for Import {
    fn check(&self) -> Result<(), Fault> {
        let address = ["http://", "https://"].iter().any(|scheme| self.source.starts_with(scheme));
        if address {
            return Err(Fault::Conflict(
                "importing from an address is not supported: fetch the archive, and import it from a file or with `-` from a pipe",
            ));
        }
        Ok(())
    }

    fn run(&self, engine: &Engine, printer: &Printer) -> Result<u8, Fault> {
        let options = ImportOptions {
            name: self.name.as_deref().map(|name| engine.parse_reference(name)).transpose()?,
            message: self.message.clone().unwrap_or_else(|| format!("Imported from {}", self.source)),
            changes: self.change.clone(),
            platform: self.platform.clone(),
        };
        let mut from: Box<dyn Read> = if self.source == "-" {
            Box::new(std::io::stdin().lock())
        } else {
            let failed = |source| Fault::File { action: "cannot open", path: (&self.source).into(), source };
            Box::new(File::open(&self.source).map_err(failed)?)
        };
        printer.line(engine.import(&mut from, &options)?)?;
        Ok(0)
    }
}
