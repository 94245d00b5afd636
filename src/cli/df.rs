//! `umiak system df`.

use clap::Args;
use serde_json::{Value, json};

use super::Execute;
use super::fault::Fault;
use super::output::table::{Columns, render};
use super::output::template::Row;
use super::output::{Printer, human};
use crate::engine::{DiskUsage, Engine};
use crate::model::Timestamp;
use crate::reference::Reference;

const COLUMNS: Columns = Columns {
    titles: &[
        ("Type", "TYPE"),
        ("TotalCount", "TOTAL"),
        ("Active", "ACTIVE"),
        ("Size", "SIZE"),
        ("Reclaimable", "RECLAIMABLE"),
    ],
    shown: &["Type", "TotalCount", "Active", "Size", "Reclaimable"],
    quiet: "Type",
};

const IMAGES: Columns = Columns {
    titles: &[
        ("Repository", "REPOSITORY"),
        ("Tag", "TAG"),
        ("ID", "IMAGE ID"),
        ("CreatedSince", "CREATED"),
        ("Size", "SIZE"),
        ("SharedSize", "SHARED SIZE"),
        ("UniqueSize", "UNIQUE SIZE"),
        ("Containers", "CONTAINERS"),
    ],
    shown: &["Repository", "Tag", "ID", "CreatedSince", "Size", "SharedSize", "UniqueSize", "Containers"],
    quiet: "ID",
};

const CONTAINERS: Columns = Columns {
    titles: &[
        ("ID", "CONTAINER ID"),
        ("Image", "IMAGE"),
        ("Command", "COMMAND"),
        ("LocalVolumes", "LOCAL VOLUMES"),
        ("Size", "SIZE"),
        ("RunningFor", "CREATED"),
        ("Status", "STATUS"),
        ("Names", "NAMES"),
    ],
    shown: &["ID", "Image", "Command", "LocalVolumes", "Size", "RunningFor", "Status", "Names"],
    quiet: "ID",
};

const VOLUMES: Columns = Columns {
    titles: &[("Name", "VOLUME NAME"), ("Links", "LINKS"), ("Size", "SIZE")],
    shown: &["Name", "Links", "Size"],
    quiet: "Name",
};

/// Show disk usage
#[derive(Debug, Args)]
#[command(help_template = super::HELP, override_usage = "umiak system df [OPTIONS]", args_override_self = true)]
pub(super) struct Df {
    /// Format output: 'table', 'table TEMPLATE', 'json' or a Go template
    #[arg(long, value_name = "string", default_value = "", hide_default_value = true)]
    format: String,
    /// Show detailed information on space usage
    #[arg(short, long)]
    verbose: bool,
}

impl Execute for Df {
    fn run(&self, engine: &Engine, printer: &Printer) -> Result<u8, Fault> {
        let usage = engine.disk_usage()?;
        if !self.verbose {
            printer.write(render(&summary(&usage), COLUMNS, &self.format, false)?.as_bytes())?;
            return Ok(0);
        }
        let now = Timestamp::now();
        let (images, containers, volumes) = (images(&usage, now), containers(&usage, now), volumes(&usage));
        if !matches!(self.format.trim(), "" | "table") {
            let all =
                |rows: Vec<Row>| rows.into_iter().map(|row| Value::Object(row.fields)).collect::<Vec<_>>();
            let fields = json!({
                "Images": all(images), "Containers": all(containers), "Volumes": all(volumes), "BuildCache": [],
            });
            let row = Row { fields: fields.as_object().cloned().unwrap_or_default(), ..Row::default() };
            printer.write(render(&[row], COLUMNS, &self.format, false)?.as_bytes())?;
            return Ok(0);
        }
        let text = format!(
            "Images space usage:\n\n{}\nContainers space usage:\n\n{}\nLocal Volumes space usage:\n\n{}\n\
             Build cache usage: {}\n",
            render(&images, IMAGES, "", false)?,
            render(&containers, CONTAINERS, "", false)?,
            render(&volumes, VOLUMES, "", false)?,
            human::size(usage.compiled.bytes, 4),
        );
        printer.write(text.as_bytes())?;
        Ok(0)
    }
}

fn rows(list: impl Iterator<Item = Value>) -> Vec<Row> {
    list.map(|fields| Row { fields: fields.as_object().cloned().unwrap_or_default(), ..Row::default() })
        .collect()
}

fn summary(usage: &DiskUsage) -> Vec<Row> {
    let containers: u64 = usage.containers.iter().map(|(_, size)| size).sum();
    let active: Vec<_> = usage.containers.iter().filter(|(view, _)| DiskUsage::is_active(view)).collect();
    let busy: u64 = active.iter().map(|(_, size)| size).sum();
    let volumes: u64 = usage.volumes.iter().map(|(_, size, _)| size).sum();
    let linked: Vec<_> = usage.volumes.iter().filter(|(_, _, links)| *links > 0).collect();
    let held: u64 = linked.iter().map(|(_, size, _)| size).sum();
    let used = usage.images.iter().filter(|image| image.containers > 0).count();
    let list = [
        ("Images", usage.images.len(), used, usage.layers, usage.layers - usage.layers_in_use),
        ("Containers", usage.containers.len(), active.len(), containers, containers - busy),
        ("Local Volumes", usage.volumes.len(), linked.len(), volumes, volumes - held),
        // Modules that are kept compiled: what a build of docker's keeps to be quick again is kept for the same reason.
        ("Build Cache", usage.compiled.entries, 0, usage.compiled.bytes, usage.compiled.bytes),
    ];
    rows(list.into_iter().map(|(kind, total, active, size, free)| {
        let mut reclaimable = human::size(free, 4);
        if size > 0 {
            let percent = u128::from(free) * 100 / u128::from(size);
            reclaimable = format!("{reclaimable} ({percent}%)");
        }
        json!({
            "Type": kind,
            "TotalCount": total.to_string(),
            "Active": active.to_string(),
            "Size": human::size(size, 4),
            "Reclaimable": reclaimable,
        })
    }))
}

fn images(usage: &DiskUsage, now: Timestamp) -> Vec<Row> {
    rows(usage.images.iter().map(|image| {
        let name = image.view.names.first().and_then(|name| name.parse::<Reference>().ok());
        let none = || "<none>".to_owned();
        json!({
            "Repository": name.as_ref().map_or_else(none, Reference::familiar_name),
            "Tag": name.as_ref().and_then(Reference::tag).map_or_else(none, str::to_owned),
            "ID": image.view.image.id.short(),
            "CreatedSince": human::ago(Engine::created(&image.view), now),
            "Size": human::size(image.shared + image.unique, 3),
            "SharedSize": human::size(image.shared, 4),
            "UniqueSize": human::size(image.unique, 4),
            "Containers": image.containers.to_string(),
        })
    }))
}

fn containers(usage: &DiskUsage, now: Timestamp) -> Vec<Row> {
    rows(usage.containers.iter().map(|(view, size)| {
        let container = &view.container;
        let volume =
            |mount: &&crate::model::Mount| matches!(mount.source, crate::model::MountSource::Volume { .. });
        json!({
            "ID": container.id.short(),
            "Image": container.image_name,
            "Command": human::command(&container.config.args(), false),
            "LocalVolumes": container.host.mounts.iter().filter(volume).count().to_string(),
            "Size": human::size(*size, 3),
            "RunningFor": human::ago(container.created, now),
            "Status": human::status(container, view.alive, now),
            "Names": container.name,
        })
    }))
}

fn volumes(usage: &DiskUsage) -> Vec<Row> {
    rows(usage.volumes.iter().map(|(view, size, links)| {
        json!({"Name": view.volume.name, "Links": links.to_string(), "Size": human::size(*size, 4)})
    }))
}
