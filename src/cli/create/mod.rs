//! `umiak create`, and the making of a container that `run` shares.

mod flags;

use std::fs::File;
use std::io::Write;

use clap::Args;

use super::Execute;
use super::fault::Fault;
use super::output::Printer;
use super::progress::{Shown, Target};
use crate::engine::progress::{Progress, Silent};
use crate::engine::{CreateOptions, Engine};
use crate::model::{Container, ContainerId, NetworkMode};

pub(super) use flags::{Flags, Limits, resources};

/// Create a new container
#[derive(Debug, Args)]
#[command(
    help_template = super::HELP,
    override_usage = "umiak create [OPTIONS] IMAGE [COMMAND] [ARG...]",
    args_override_self = true
)]
pub(super) struct Create {
    #[command(flatten)]
    flags: Flags,
}

impl Execute for Create {
    fn check(&self) -> Result<(), Fault> {
        self.flags.check()
    }

    fn run(&self, engine: &Engine, printer: &Printer) -> Result<u8, Fault> {
        let container = create(&self.flags, engine, printer, true, None)?;
        printer.line(&container.id)?;
        Ok(0)
    }
}

/// Makes a container, and writes its id to the file that is to have it.
pub(super) fn create(
    flags: &Flags,
    engine: &Engine,
    printer: &Printer,
    attached: bool,
    id: Option<ContainerId>,
) -> Result<Container, Fault> {
    let options = CreateOptions { id, ..flags.options(attached)? };
    let shown = Shown::new(printer, Target::Err);
    let progress: &dyn Progress = if flags.quiet { &Silent } else { &shown };
    let (container, _) = engine.create(&options, progress)?;
    if container.host.network == NetworkMode::Host
        && (!options.host.ports.is_empty() || options.host.publish_all)
    {
        printer.line_err("WARNING: Published ports are discarded when using host network mode")?;
    }
    for warning in engine.discarded(&container) {
        printer.line_err(format!("WARNING: {warning}"))?;
    }
    if let Some(path) = &flags.cidfile {
        let written =
            File::create_new(path).and_then(|mut file| file.write_all(container.id.as_str().as_bytes()));
        written.map_err(|source| Fault::File { action: "writing", path: path.clone(), source })?;
    }
    Ok(container)
}
