//! `umiak port`.

use clap::Args;

use super::Execute;
use super::args::port;
use super::args::refused::Refused;
use super::fault::Fault;
use super::output::{Printer, ports};
use crate::engine::Engine;

/// List port mappings or a specific mapping for the container
#[derive(Debug, Args)]
#[command(help_template = super::HELP, override_usage = "umiak port CONTAINER [PRIVATE_PORT[/PROTO]]")]
pub(super) struct Port {
    #[arg(required = true, num_args = 1..=2, hide = true)]
    words: Vec<String>,
}

impl Execute for Port {
    fn run(&self, engine: &Engine, printer: &Printer) -> Result<u8, Fault> {
        let (container, wanted) = match self.words.as_slice() {
            [container, wanted, ..] => (container.as_str(), Some(wanted)),
            [container] => (container.as_str(), None),
            [] => return Ok(1),
        };
        let found = engine.container(container)?.container;
        let ports = engine.connections(&found.id)?.ports;
        let Some(wanted) = wanted else {
            for port in &ports {
                let (from, to) = (ports::inner(port), ports::outer(port));
                printer.line(format!("{from} -> {to}"))?;
            }
            return Ok(0);
        };
        let number = wanted.split('/').next().unwrap_or_default();
        port::number(number)
            .map_err(|error| Fault::value(Refused::text(format!("invalid port ({number}): {error}"))))?;
        let wish = if wanted.contains('/') { wanted.to_ascii_lowercase() } else { format!("{wanted}/tcp") };
        let mut any = false;
        for port in ports.iter().filter(|port| ports::inner(port) == wish) {
            printer.line(ports::outer(port))?;
            any = true;
        }
        if any {
            return Ok(0);
        }
        Err(Fault::NoPublicPort { port: wanted.clone(), container: container.to_owned() })
    }
}
