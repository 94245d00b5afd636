//! `umiak volume`: create, ls, inspect, rm, prune.

mod list;

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::Execute;
use super::args::label;
use super::confirm::confirm;
use super::fault::Fault;
use super::filter::Filters;
use super::output::error::report;
use super::output::{Documents, Printer, human};
use crate::engine::{Engine, VolumeView};
use crate::model::Kind as _;

pub(super) use list::List;

/// Create a volume
#[derive(Debug, Args)]
#[command(help_template = super::HELP, override_usage = "umiak volume create [OPTIONS] [VOLUME]", args_override_self = true)]
pub(super) struct Create {
    /// Specify volume driver name
    #[arg(short, long, value_name = "string", default_value = "local", value_parser = ["local"], hide_possible_values = true)]
    driver: String,
    /// Set metadata for a volume
    #[arg(long, value_name = "list")]
    label: Vec<String>,
    /// Specify volume name
    #[arg(long, value_name = "string", hide = true)]
    name: Option<String>,
    /// Set driver specific options
    #[arg(short, long, value_name = "map")]
    opt: Vec<String>,
    #[arg(hide = true)]
    volume: Option<String>,
}

impl Execute for Create {
    fn check(&self) -> Result<(), Fault> {
        if self.name.is_some() && self.volume.is_some() {
            return Err(Fault::Conflict(
                "conflicting options: cannot specify a volume-name through both --name and as a positional arg",
            ));
        }
        Ok(())
    }

    fn run(&self, engine: &Engine, printer: &Printer) -> Result<u8, Fault> {
        let labels = label::labels(&[] as &[PathBuf], &self.label).map_err(Fault::value)?;
        let pairs = self.opt.iter().map(|text| text.split_once('=').unwrap_or((text, "")));
        let options = pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let name = self.volume.as_deref().or(self.name.as_deref());
        printer.line(engine.create_volume(name, labels, options)?.volume.name)?;
        Ok(0)
    }
}

/// Docker's document of a volume.
pub(super) fn document(view: &VolumeView) -> Value {
    let volume = &view.volume;
    let mut labels = json!(volume.labels);
    if volume.anonymous {
        labels["com.docker.volume.anonymous"] = json!("");
    }
    json!({
        "CreatedAt": volume.created.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        "Driver": "local",
        "Labels": if labels == json!({}) { Value::Null } else { labels },
        "Mountpoint": view.mountpoint.display().to_string(),
        "Name": volume.name,
        "Options": if volume.options.is_empty() { Value::Null } else { json!(volume.options) },
        "Scope": "local",
    })
}

/// Display detailed information on one or more volumes
#[derive(Debug, Args)]
#[command(help_template = super::HELP, override_usage = "umiak volume inspect [OPTIONS] VOLUME [VOLUME...]", args_override_self = true)]
pub(super) struct Inspect {
    /// Format output using a custom template: 'json' or a Go template
    #[arg(short, long, value_name = "string")]
    format: Option<String>,
    #[arg(required = true, hide = true)]
    volumes: Vec<String>,
}

impl Execute for Inspect {
    fn run(&self, engine: &Engine, printer: &Printer) -> Result<u8, Fault> {
        let documents = Documents::parse(self.format.as_deref())?;
        let mut status = 0;
        let mut found = Vec::new();
        for name in &self.volumes {
            match engine.volume(name) {
                Ok(view) => found.push(document(&view)),
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

/// Remove one or more volumes
#[derive(Debug, Args)]
#[command(help_template = super::HELP, override_usage = "umiak volume rm [OPTIONS] VOLUME [VOLUME...]", args_override_self = true)]
pub(super) struct Remove {
    /// Force the removal of one or more volumes
    #[arg(short, long)]
    force: bool,
    #[arg(required = true, hide = true)]
    volumes: Vec<String>,
}

impl Execute for Remove {
    fn run(&self, engine: &Engine, printer: &Printer) -> Result<u8, Fault> {
        super::each(printer, &self.volumes, |name| match engine.remove_volume(name) {
            Ok(()) => Ok(printer.line(name)?),
            // With -f the wish is fulfilled when it is not there.
            Err(error) if self.force && error.kind() == crate::model::ErrorKind::NotFound => {
                Ok(printer.line(name)?)
            }
            Err(error) => Err(error.into()),
        })
    }
}

/// Remove unused local volumes
#[derive(Debug, Args)]
#[command(help_template = super::HELP, override_usage = "umiak volume prune [OPTIONS]", args_override_self = true)]
pub(super) struct Prune {
    /// Remove all unused volumes, not just anonymous ones
    #[arg(short, long)]
    all: bool,
    /// Provide filter values (e.g. "label=<label>")
    #[arg(long, value_name = "filter")]
    filter: Vec<String>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
}

impl Execute for Prune {
    fn run(&self, engine: &Engine, printer: &Printer) -> Result<u8, Fault> {
        let filters = Filters::parse(&self.filter, &["all", "label", "label!"])?;
        let mut all = self.all;
        for value in filters.values("all") {
            let wrong = |rule| Fault::Flag { flag: "--filter", value: value.to_owned(), rule };
            all |= super::flags::switch(value).map_err(wrong)?;
        }
        let which = if all { "all local volumes" } else { "anonymous local volumes" };
        let warning = format!("WARNING! This will remove {which} not used by at least one container.");
        if !self.force && !confirm(printer, &warning)? {
            return Ok(0);
        }
        let (names, bytes) = engine.prune_volumes(all, |volume| filters.pass_labels(&volume.labels))?;
        if !names.is_empty() {
            printer.line("Deleted Volumes:")?;
            for name in &names {
                printer.line(name)?;
            }
            printer.line("")?;
        }
        printer.line(format!("Total reclaimed space: {}", human::size(bytes, 4)))?;
        Ok(0)
    }
}
