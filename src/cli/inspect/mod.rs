//! `umiak inspect`: docker's JSON of containers and images.

mod container;
mod document;
mod network;

use clap::Args;
use serde_json::Value;

use super::Execute;
use super::fault::Fault;
use super::output::error::report;
use super::output::{Documents, Printer};
use crate::engine::{Engine, Object};

/// What every form of the command takes.
#[derive(Debug, Args)]
struct Names {
    /// Format output using a custom template: 'json' or a Go template
    #[arg(short, long, value_name = "string")]
    format: Option<String>,
    #[arg(required = true, hide = true)]
    names: Vec<String>,
}

/// Return low-level information on containers and images
#[derive(Debug, Args)]
#[command(help_template = super::HELP, override_usage = "umiak inspect [OPTIONS] NAME|ID [NAME|ID...]", args_override_self = true)]
pub(super) struct Inspect {
    /// Only inspect objects of the given type (container, image, network)
    #[arg(long = "type", value_name = "string")]
    kind: Option<String>,
    #[command(flatten)]
    names: Names,
}

/// Display detailed information on one or more containers
#[derive(Debug, Args)]
#[command(help_template = super::HELP, override_usage = "umiak container inspect [OPTIONS] CONTAINER [CONTAINER...]", args_override_self = true)]
pub(super) struct Containers {
    #[command(flatten)]
    names: Names,
}

/// Display detailed information on one or more images
#[derive(Debug, Args)]
#[command(help_template = super::HELP, override_usage = "umiak image inspect [OPTIONS] IMAGE [IMAGE...]", args_override_self = true)]
pub(super) struct Images {
    #[command(flatten)]
    names: Names,
}

impl Execute for Inspect {
    fn run(&self, engine: &Engine, printer: &Printer) -> Result<u8, Fault> {
        self.names.show(self.kind.as_deref(), engine, printer)
    }
}

impl Execute for Containers {
    fn run(&self, engine: &Engine, printer: &Printer) -> Result<u8, Fault> {
        self.names.show(Some("container"), engine, printer)
    }
}

impl Execute for Images {
    fn run(&self, engine: &Engine, printer: &Printer) -> Result<u8, Fault> {
        self.names.show(Some("image"), engine, printer)
    }
}

impl Names {
    fn show(&self, kind: Option<&str>, engine: &Engine, printer: &Printer) -> Result<u8, Fault> {
        let documents = Documents::parse(self.format.as_deref())?;
        let mut status = 0;
        let mut found = Vec::new();
        for name in &self.names {
            match engine.inspect(name, kind) {
                Ok(object) => found.push(document(engine, &object)?),
                Err(error) => {
                    report(printer, &error, None);
                    status = 1;
                }
            }
        }
        documents.show(printer, &found)?;
        Ok(status)
    }
}

fn document(engine: &Engine, object: &Object) -> Result<Value, Fault> {
    Ok(match object {
        Object::Container(view) => {
            // A path that cannot be told is not worth failing for.
            let log = engine.log_path(view.container.id.as_str()).unwrap_or_default();
            let connections = engine.connections(&view.container.id)?;
            let volume = |name: &str| engine.volume_path(name).unwrap_or_default();
            container::container(&view.container, view.alive, &log, &volume, &connections, None)
        }
        Object::Image(view) => document::image(view, engine.wasm_contents(&view.image)?.as_ref()),
        Object::Network(view) => super::network::document(view),
    })
}
