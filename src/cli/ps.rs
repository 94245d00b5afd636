//! `umiak ps`.

use std::collections::BTreeMap;

use clap::Args;
use serde_json::json;

use super::Execute;
use super::fault::Fault;
use super::filter::Filters;
use super::output::table::{Columns, render};
use super::output::template::Row;
use super::output::{Printer, human, ports};
use crate::engine::{Connections, ContainerView, Engine};
use crate::model::{Container, Timestamp};

const COLUMNS: Columns = Columns {
    titles: &[
        ("ID", "CONTAINER ID"),
        ("Image", "IMAGE"),
        ("Command", "COMMAND"),
        ("CreatedAt", "CREATED AT"),
        ("RunningFor", "CREATED"),
        ("Status", "STATUS"),
        ("State", "STATE"),
        ("Ports", "PORTS"),
        ("Names", "NAMES"),
        ("Labels", "LABELS"),
        ("Networks", "NETWORKS"),
        ("Mounts", "MOUNTS"),
        ("LocalVolumes", "LOCAL VOLUMES"),
        ("Size", "SIZE"),
        ("Platform", "PLATFORM"),
        ("Executor", "EXECUTOR"),
    ],
    shown: &["ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names"],
    quiet: "ID",
};

/// Containers' states, as `--filter status=` takes them.
const STATES: [&str; 7] = ["created", "running", "paused", "restarting", "removing", "exited", "dead"];

/// List containers
#[derive(Debug, Args)]
#[command(help_template = super::HELP, override_usage = "umiak ps [OPTIONS]", args_override_self = true)]
pub(super) struct Ps {
    /// Show all containers (default shows just running)
    #[arg(short, long)]
    all: bool,
    /// Filter output: id, name, label, status, exited, ancestor, network
    #[arg(short, long, value_name = "filter")]
    filter: Vec<String>,
    /// Format output: 'table', 'table TEMPLATE', 'json' or a Go template
    #[arg(long, value_name = "string", default_value = "", hide_default_value = true)]
    format: String,
    /// Show n last created containers (includes all states)
    #[arg(short = 'n', long, value_name = "int", allow_negative_numbers = true)]
    last: Option<i64>,
    /// Show the latest created container (includes all states)
    #[arg(short, long)]
    latest: bool,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Only display container IDs
    #[arg(short, long)]
    quiet: bool,
}

impl Execute for Ps {
    fn run(&self, engine: &Engine, printer: &Printer) -> Result<u8, Fault> {
        let filters = Filters::parse(
            &self.filter,
            &["id", "name", "label", "status", "exited", "ancestor", "network"],
        )?;
        let flag = |value: &str, rule: &str| Fault::Flag {
            flag: "--filter",
            value: value.to_owned(),
            rule: rule.to_owned(),
        };
        if let Some(bad) = filters.values("status").into_iter().find(|state| !STATES.contains(state)) {
            return Err(flag(bad, "no such state of a container"));
        }
        if let Some(bad) = filters.values("exited").into_iter().find(|code| code.parse::<i32>().is_err()) {
            return Err(flag(bad, "an exit status is a number"));
        }
        let mut views = engine.containers()?;
        views.sort_by_key(|view| std::cmp::Reverse(view.container.created));
        let connections = engine.all_connections()?;
        views.retain(|view| passes(view, of(&connections, view), &filters));
        let last = if self.latest { Some(1) } else { self.last.and_then(|n| usize::try_from(n).ok()) };
        // Whoever asks for a state, or for the last ones, sees containers in any state.
        let stateless = filters.values("status").is_empty() && filters.values("exited").is_empty();
        if !self.all && last.is_none() && stateless {
            views.retain(|view| view.alive);
        }
        views.truncate(last.unwrap_or(usize::MAX));
        let now = Timestamp::now();
        let rows: Vec<Row> =
            views.iter().map(|view| row(view, of(&connections, view), now, self.no_trunc)).collect();
        printer.write(render(&rows, COLUMNS, &self.format, self.quiet)?.as_bytes())?;
        Ok(0)
    }
}

fn of<'a>(all: &'a BTreeMap<String, Connections>, view: &ContainerView) -> Option<&'a Connections> {
    all.get(view.container.id.as_str())
}

/// The names of the networks that a container is on.
fn networks(container: &Container, connections: Option<&Connections>) -> Vec<String> {
    match connections.map(|all| all.endpoints.iter().map(|one| one.name().to_owned()).collect::<Vec<_>>()) {
        Some(names) if !names.is_empty() => names,
        _ => vec![container.host.network.text()],
    }
}

fn passes(view: &ContainerView, connections: Option<&Connections>, filters: &Filters) -> bool {
    let container = &view.container;
    let state = human::state(container, view.alive);
    let image = |wish: &str| {
        let named = &container.image_name;
        named == wish
            || named.rsplit_once(':').is_some_and(|(name, _)| name == wish)
            || (wish.len() >= 4 && container.image.hex().starts_with(wish))
            || container.image.as_str() == wish
    };
    filters.pass("id", |id| container.id.as_str().starts_with(id))
        && filters.pass("name", |name| container.name.contains(name.trim_start_matches('/')))
        && filters.pass("status", |wish| state == wish)
        && filters.pass("exited", |code| state == "exited" && code.parse() == Ok(container.state.exit_code))
        && filters.pass("ancestor", image)
        && filters.pass("network", |wish| {
            let ids = connections.map(|all| all.endpoints.as_slice()).unwrap_or_default();
            networks(container, connections).iter().any(|name| name == wish)
                || ids.iter().any(|one| wish.len() >= 4 && one.endpoint.network.starts_with(wish))
        })
        && filters.pass_labels(&container.config.labels)
}

fn row(view: &ContainerView, connections: Option<&Connections>, now: Timestamp, whole: bool) -> Row {
    let container = &view.container;
    let config = &container.config;
    let labels: Vec<_> = config.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let fields = json!({
        "ID": if whole { container.id.as_str() } else { container.id.short() },
        "Image": container.image_name,
        "Command": human::command(&config.args(), whole),
        "CreatedAt": container.created.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string(),
        "RunningFor": human::ago(container.created, now),
        "Status": human::status(container, view.alive, now),
        "State": human::state(container, view.alive),
        "Ports": if view.alive {
            ports::column(&config.exposed_ports, connections.map(|all| all.ports.as_slice()).unwrap_or_default())
        } else {
            String::new()
        },
        "Names": container.name,
        "Labels": labels.join(","),
        "Networks": networks(container, connections).join(","),
        "Mounts": "",
        "LocalVolumes": "0",
        "Size": "0B",
        "Platform": container.platform.to_string(),
        "Executor": container.executor.name,
    });
    Row { fields: fields.as_object().cloned().unwrap_or_default(), labels: config.labels.clone() }
}
