//! `umiak volume ls`.

use clap::Args;
use serde_json::json;

use crate::cli::Execute;
use crate::cli::fault::Fault;
use crate::cli::filter::Filters;
use crate::cli::flags::switch;
use crate::cli::output::Printer;
use crate::cli::output::table::{Columns, render};
use crate::cli::output::template::Row;
use crate::engine::Engine;

const COLUMNS: Columns = Columns {
    titles: &[
        ("Driver", "DRIVER"),
        ("Name", "VOLUME NAME"),
        ("Scope", "SCOPE"),
        ("Mountpoint", "MOUNTPOINT"),
        ("Labels", "LABELS"),
        ("Size", "SIZE"),
    ],
    shown: &["Driver", "Name"],
    quiet: "Name",
};

/// List volumes
#[derive(Debug, Args)]
#[command(help_template = crate::cli::HELP, override_usage = "umiak volume ls [OPTIONS]", args_override_self = true)]
pub(in crate::cli) struct List {
    /// Provide filter values (e.g. "dangling=true")
    #[arg(short, long, value_name = "filter")]
    filter: Vec<String>,
    /// Format output: 'table', 'table TEMPLATE', 'json' or a Go template
    #[arg(long, value_name = "string", default_value = "", hide_default_value = true)]
    format: String,
    /// Only display volume names
    #[arg(short, long)]
    quiet: bool,
}

impl Execute for List {
    fn run(&self, engine: &Engine, printer: &Printer) -> Result<u8, Fault> {
        let filters = Filters::parse(&self.filter, &["dangling", "driver", "label", "name"])?;
        let mut dangling = None;
        for value in filters.values("dangling") {
            let wrong = |rule| Fault::Flag { flag: "--filter", value: value.to_owned(), rule };
            dangling = Some(switch(value).map_err(wrong)?);
        }
        let mut rows = Vec::new();
        for view in engine.volumes()? {
            let volume = &view.volume;
            let wanted = filters.pass("name", |part| volume.name.contains(part))
                && filters.pass("driver", |driver| driver == "local")
                && filters.pass_labels(&volume.labels);
            if !wanted {
                continue;
            }
            if let Some(dangling) = dangling
                && engine.volume_is_used(&volume.name)? == dangling
            {
                continue;
            }
            let labels: Vec<_> = volume.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
            let fields = json!({
                "Driver": "local",
                "Name": volume.name,
                "Scope": "local",
                "Mountpoint": view.mountpoint.display().to_string(),
                "Labels": labels.join(","),
                "Size": "N/A",
            });
            rows.push(Row {
                fields: fields.as_object().cloned().unwrap_or_default(),
                labels: volume.labels.clone(),
            });
        }
        printer.write(render(&rows, COLUMNS, &self.format, self.quiet)?.as_bytes())?;
        Ok(0)
    }
}
