//! `umiak network ls`.

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
        ("ID", "NETWORK ID"),
        ("Name", "NAME"),
        ("Driver", "DRIVER"),
        ("Scope", "SCOPE"),
        ("IPv4", "IPV4"),
        ("IPv6", "IPV6"),
        ("Internal", "INTERNAL"),
        ("Labels", "LABELS"),
        ("CreatedAt", "CREATED AT"),
    ],
    shown: &["ID", "Name", "Driver", "Scope"],
    quiet: "ID",
};

const FILTERS: [&str; 7] = ["dangling", "driver", "id", "label", "name", "scope", "type"];

/// List networks
#[derive(Debug, Args)]
#[command(help_template = crate::cli::HELP, override_usage = "umiak network ls [OPTIONS]", args_override_self = true)]
pub(in crate::cli) struct List {
    /// Provide filter values (e.g. "driver=bridge")
    #[arg(short, long, value_name = "filter")]
    filter: Vec<String>,
    /// Format output: 'table', 'table TEMPLATE', 'json' or a Go template
    #[arg(long, value_name = "string", default_value = "", hide_default_value = true)]
    format: String,
    /// Do not truncate the output
    #[arg(long)]
    no_trunc: bool,
    /// Only display network IDs
    #[arg(short, long)]
    quiet: bool,
}

impl Execute for List {
    fn run(&self, engine: &Engine, printer: &Printer) -> Result<u8, Fault> {
        let filters = Filters::parse(&self.filter, &FILTERS)?;
        let wrong =
            |value: &str, rule: String| Fault::Flag { flag: "--filter", value: value.to_owned(), rule };
        let mut dangling = None;
        for value in filters.values("dangling") {
            dangling = Some(switch(value).map_err(|rule| wrong(value, rule))?);
        }
        if let Some(bad) =
            filters.values("type").into_iter().find(|kind| !["builtin", "custom"].contains(kind))
        {
            return Err(wrong(bad, "the types of networks are builtin and custom".to_owned()));
        }
        let mut rows = Vec::new();
        for view in engine.networks()? {
            let network = &view.network;
            let kind = if network.is_predefined() { "builtin" } else { "custom" };
            let wanted = filters.pass("name", |part| network.name.contains(part))
                && filters.pass("id", |part| network.id.contains(part))
                && filters.pass("driver", |driver| driver == network.driver.name())
                && filters.pass("scope", |scope| scope == "local")
                && filters.pass("type", |wish| wish == kind)
                && filters.pass_labels(&network.labels)
                && dangling
                    .is_none_or(|dangling| dangling == (view.containers.is_empty() && kind == "custom"));
            if !wanted {
                continue;
            }
            let labels: Vec<_> = network.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
            let id = if self.no_trunc { &network.id } else { network.id.get(..12).unwrap_or(&network.id) };
            let fields = json!({
                "ID": id,
                "Name": network.name,
                "Driver": network.driver.name(),
                "Scope": "local",
                "IPv4": network.ipv4.to_string(),
                "IPv6": network.ipv6.to_string(),
                "Internal": network.internal.to_string(),
                "Labels": labels.join(","),
                "CreatedAt": network.created.strftime("%Y-%m-%d %H:%M:%S.%9f +0000 UTC").to_string(),
            });
            rows.push(Row {
                fields: fields.as_object().cloned().unwrap_or_default(),
                labels: network.labels.clone(),
            });
        }
        printer.write(render(&rows, COLUMNS, &self.format, self.quiet)?.as_bytes())?;
        Ok(0)
    }
}
