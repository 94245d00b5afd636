//! `umiak container prune`, `image prune` and `system prune`: what nobody uses.

use clap::Args;

use super::Execute;
use super::args::moment::moment;
use super::args::refused::Refused;
use super::confirm::confirm;
use super::fault::Fault;
use super::filter::Filters;
use super::output::{Printer, human};
use crate::engine::Engine;
use crate::model::Timestamp;

/// Which containers and images a prune may take.
pub(super) struct Wanted {
    filters: Filters,
    until: Option<Timestamp>,
}

impl Wanted {
    pub(super) fn parse(given: &[String]) -> Result<Self, Fault> {
        let filters = Filters::parse(given, &["until", "label", "label!"])?;
        let mut until = None;
        for value in filters.values("until") {
            let wrong = |error: Refused| Fault::Bound { flag: "until", error: error.to_string() };
            until = Some(moment(value).map_err(wrong)?);
        }
        Ok(Self { filters, until })
    }

    pub(super) fn takes(
        &self,
        created: Timestamp,
        labels: &std::collections::BTreeMap<String, String>,
    ) -> bool {
        self.until.is_none_or(|until| created < until) && self.filters.pass_labels(labels)
    }
}

fn containers(engine: &Engine, printer: &Printer, wanted: &Wanted) -> Result<u64, Fault> {
    let (ids, bytes) =
        engine.prune_containers(|container| wanted.takes(container.created, &container.config.labels))?;
    list(printer, "Deleted Containers:", &ids)?;
    Ok(bytes)
}

fn images(engine: &Engine, printer: &Printer, all: bool, wanted: &Wanted) -> Result<u64, Fault> {
    let (steps, bytes) =
        engine.prune_images(all, |view| wanted.takes(Engine::created(view), &view.image.config.labels))?;
    list(printer, "Deleted Images:", &steps)?;
    Ok(bytes)
}

pub(super) fn list(printer: &Printer, title: &str, lines: &[impl std::fmt::Display]) -> Result<(), Fault> {
    if !lines.is_empty() {
        printer.line(title)?;
        for line in lines {
            printer.line(line)?;
        }
        printer.line("")?;
    }
    Ok(())
}

fn reclaimed(printer: &Printer, bytes: u64) -> Result<u8, Fault> {
    printer.line(format!("Total reclaimed space: {}", human::size(bytes, 4)))?;
    Ok(0)
}

/// Remove all stopped containers
#[derive(Debug, Args)]
#[command(help_template = super::HELP, override_usage = "umiak container prune [OPTIONS]", args_override_self = true)]
pub(super) struct Containers {
    /// Provide filter values (e.g. "until=<timestamp>")
    #[arg(long, value_name = "filter")]
    filter: Vec<String>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
}

impl Execute for Containers {
    fn run(&self, engine: &Engine, printer: &Printer) -> Result<u8, Fault> {
        let wanted = Wanted::parse(&self.filter)?;
        if !self.force && !confirm(printer, "WARNING! This will remove all stopped containers.")? {
            return Ok(0);
        }
        reclaimed(printer, containers(engine, printer, &wanted)?)
    }
}

/// Remove unused images
#[derive(Debug, Args)]
#[command(help_template = super::HELP, override_usage = "umiak image prune [OPTIONS]", args_override_self = true)]
pub(super) struct Images {
    /// Remove all unused images, not just dangling ones
    #[arg(short, long)]
    all: bool,
    /// Provide filter values (e.g. "until=<timestamp>")
    #[arg(long, value_name = "filter")]
    filter: Vec<String>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
}

impl Execute for Images {
    fn run(&self, engine: &Engine, printer: &Printer) -> Result<u8, Fault> {
        let wanted = Wanted::parse(&self.filter)?;
        let warning = if self.all {
            "WARNING! This will remove all images without at least one container associated to them."
        } else {
            "WARNING! This will remove all dangling images."
        };
        if !self.force && !confirm(printer, warning)? {
            return Ok(0);
        }
        reclaimed(printer, images(engine, printer, self.all, &wanted)?)
    }
}

/// Remove unused data
#[derive(Debug, Args)]
#[command(help_template = super::HELP, override_usage = "umiak system prune [OPTIONS]", args_override_self = true)]
pub(super) struct System {
    /// Remove all unused images not just dangling ones
    #[arg(short, long)]
    all: bool,
    /// Provide filter values (e.g. "label=<key>=<value>")
    #[arg(long, value_name = "filter")]
    filter: Vec<String>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
    /// Prune anonymous volumes
    #[arg(long)]
    volumes: bool,
}

impl Execute for System {
    fn run(&self, engine: &Engine, printer: &Printer) -> Result<u8, Fault> {
        let wanted = Wanted::parse(&self.filter)?;
        let mut warning = "WARNING! This will remove:\n  - all stopped containers\n  - all networks not used by at least one container\n"
                .to_owned();
        if self.volumes {
            warning.push_str("  - all anonymous volumes not used by at least one container\n");
        }
        warning.push_str(if self.all {
            "  - all images without at least one container associated to them\n"
        } else {
            "  - all dangling images\n"
        });
        if !self.force && !confirm(printer, &warning)? {
            return Ok(0);
        }
        let mut bytes = containers(engine, printer, &wanted)?;
        let networks = engine.prune_networks(|network| wanted.takes(network.created, &network.labels))?;
        list(printer, "Deleted Networks:", &networks)?;
        if self.volumes {
            let (names, more) =
                engine.prune_volumes(false, |volume| wanted.takes(volume.created, &volume.labels))?;
            list(printer, "Deleted Volumes:", &names)?;
            bytes += more;
        }
        bytes += images(engine, printer, self.all, &wanted)?;
        let before = engine.content_size()?;
        let trimmed = engine.keep_budget(&[])?;
        if !trimmed.steps.is_empty() {
            list(printer, "Deleted Images (disk budget):", &trimmed.steps)?;
            bytes += before.saturating_sub(engine.content_size()?);
        }
        reclaimed(printer, bytes)
    }
}
