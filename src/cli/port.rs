//! `umiak port`. There are no published ports yet, so none is ever found.

use clap::Args;

use super::Execute;
use super::args::port;
use super::args::refused::Refused;
use super::fault::Fault;
use super::output::Printer;
use crate::engine::Engine;

/// List port mappings or a specific mapping for the container
#[derive(Debug, Args)]
#[command(help_template = super::HELP, override_usage = "umiak port CONTAINER [PRIVATE_PORT[/PROTO]]")]
pub(super) struct Port {
    #[arg(required = true, num_args = 1..=2, hide = true)]
    words: Vec<String>,
}

impl Execute for Port {
    fn run(&self, engine: &Engine, _printer: &Printer) -> Result<u8, Fault> {
        let (container, wanted) = match self.words.as_slice() {
            [container, wanted, ..] => (container.as_str(), Some(wanted)),
            [container] => (container.as_str(), None),
            [] => return Ok(1),
        };
        engine.container(container)?;
        let Some(wanted) = wanted else { return Ok(0) };
        let number = wanted.split('/').next().unwrap_or_default();
        port::number(number)
            .map_err(|error| Fault::value(Refused::text(format!("invalid port ({number}): {error}"))))?;
        Err(Fault::NoPublicPort { port: wanted.clone(), container: container.to_owned() })
    }
}
