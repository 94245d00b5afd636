//! `umiak ps`.

use std::collections::BTreeMap;

use clap::Args;
use serde_json::json;

use super::Execute;
use super::fault::Fault;
use super::filter::Filters;
use super::flags::switch;
use super::output::table::{Columns, render};
use super::output::template::Row;
use super::output::{Printer, human, ports as published_ports};
use crate::engine::{Connections, ContainerView, Engine};
use crate::model::{Container, Mount, MountSource, Timestamp};

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

/// The same with sizes.
const SIZED: [&str; 8] = ["ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names", "Size"];

/// Docker's words for health, as `--filter health=` takes them.
const HEALTH: [&str; 4] = ["none", "starting", "healthy", "unhealthy"];

/// Containers' states, as `--filter status=` takes them.
const STATES: [&str; 7] = ["created", "running", "paused", "restarting", "removing", "exited", "dead"];

/// List containers
#[derive(Debug, Args)]
#[command(help_template = super::HELP, override_usage = "umiak ps [OPTIONS]", args_override_self = true)]
pub(super) struct Ps {
    /// Show all containers (default shows just running)
    #[arg(short, long)]
    all: bool,
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "filter")]
    filter: Vec<String>,
    /// Format output: 'table', 'table TEMPLATE', 'json' or a Go template
    #[arg(long, value_name = "string", default_value = "", hide_default_value = true)]
    format: String,
    /// Show n last created containers (includes all states)
    #[arg(short = 'n', long, value_name = "int", allow_negative_numbers = true)]
    last: Option<i64>,
    /// Display total file sizes
    #[arg(short, long)]
    size: bool,
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

/// What containers can be chosen by.
const KEYS: [&str; 15] = [
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
];

impl Ps {
    /// The filters, with values that can be meant.
    fn filters(&self) -> Result<Filters, Fault> {
        let filters = Filters::parse(&self.filter, &KEYS)?;
        let flag = |key: &str, value: &str, rule: String| Fault::Flag {
            flag: "--filter",
            value: format!("{key}={value}"),
            rule,
        };
        for (key, known, what) in [("status", &STATES[..], "state"), ("health", &HEALTH, "health")] {
            if let Some(bad) = filters.values(key).into_iter().find(|value| !known.contains(value)) {
                let rule = format!("invalid value for {what} ({bad}): must be one of {}", known.join(", "));
                return Err(flag(key, bad, rule));
            }
        }
        if let Some(bad) = filters.values("exited").into_iter().find(|code| code.parse::<i32>().is_err()) {
            return Err(flag("exited", bad, "an exit status is a number".to_owned()));
        }
        if let Some(bad) = filters.values("is-task").into_iter().find(|value| switch(value).is_err()) {
            return Err(flag("is-task", bad, "expected true or false".to_owned()));
        }
        for key in ["publish", "expose"] {
            if let Some(bad) = filters.values(key).into_iter().find(|value| ports(value).is_none()) {
                return Err(flag(key, bad, "expected a port or a range, as 80, 80-88/udp".to_owned()));
            }
        }
        Ok(filters)
    }
}

impl Execute for Ps {
    fn check(&self) -> Result<(), Fault> {
        self.filters().map(drop)
    }

    fn run(&self, engine: &Engine, printer: &Printer) -> Result<u8, Fault> {
        let filters = self.filters()?;
        let made = |key: &str| -> Result<Vec<Timestamp>, Fault> {
            let names = filters.values(key).into_iter();
            names.map(|name| Ok(engine.container(name)?.container.created)).collect()
        };
        let (before, since) = (made("before")?, made("since")?);
        let mut views = engine.containers()?;
        views.sort_by_key(|view| std::cmp::Reverse(view.container.created));
        let connections = engine.all_connections()?;
        views.retain(|view| {
            let created = view.container.created;
            passes(view, of(&connections, view), &filters)
                && before.iter().all(|bound| created < *bound)
                && since.iter().all(|bound| created > *bound)
        });
        let last = if self.latest { Some(1) } else { self.last.and_then(|n| usize::try_from(n).ok()) };
        // Whoever asks for a state, or for the last ones, sees containers in any state.
        let stateless = filters.values("status").is_empty() && filters.values("exited").is_empty();
        if !self.all && last.is_none() && stateless {
            views.retain(|view| view.alive);
        }
        views.truncate(last.unwrap_or(usize::MAX));
        let now = Timestamp::now();
        let sized = self.size || self.format.contains(".Size");
        let mut rows = Vec::with_capacity(views.len());
        for view in &views {
            let size = if sized { Some(engine.container_size(view)?) } else { None };
            rows.push(row(view, of(&connections, view), now, self.no_trunc, size));
        }
        let columns = if self.size { Columns { shown: &SIZED, ..COLUMNS } } else { COLUMNS };
        printer.write(render(&rows, columns, &self.format, self.quiet)?.as_bytes())?;
        Ok(0)
    }
}

/// `80`, `80-88`, `80/udp`: first, last and protocol.
fn ports(text: &str) -> Option<(u16, u16, &str)> {
    let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last && matches!(protocol, "tcp" | "udp" | "sctp")).then_some((first, last, protocol))
}

/// Whether a port, as `80/tcp`, is one of those that a filter names.
fn is_port(wish: &str, port: &str) -> bool {
    let one = ports(port).map(|(first, _, protocol)| (first, protocol));
    ports(wish).zip(one).is_some_and(|((first, last, protocol), (port, own))| {
        (first..=last).contains(&port) && protocol == own
    })
}

/// Docker takes a pattern; its anchors are understood, all else is text.
fn name_matches(wish: &str, name: &str) -> bool {
    let (wish, start) = wish.strip_prefix('^').map_or((wish, false), |rest| (rest, true));
    let (wish, end) = wish.strip_suffix('$').map_or((wish, false), |rest| (rest, true));
    let wish = wish.trim_start_matches('/');
    match (start, end) {
        (true, true) => name == wish,
        (true, false) => name.starts_with(wish),
        (false, true) => name.ends_with(wish),
        (false, false) => name.contains(wish),
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
    let (config, host) = (&container.config, &container.host);
    let state = human::state(container, view.alive);
    let image = |wish: &str| {
        let named = &container.image_name;
        named == wish
            || named.rsplit_once(':').is_some_and(|(name, _)| name == wish)
            || (wish.len() >= 4 && container.image.hex().starts_with(wish))
            || container.image.as_str() == wish
    };
    let health =
        container.state.health.as_ref().filter(|_| view.alive).map_or("none", |health| health.status.text());
    let network = |wish: &str| {
        let ids = connections.map(|all| all.endpoints.as_slice()).unwrap_or_default();
        networks(container, connections).iter().any(|name| name == wish)
            || ids.iter().any(|one| wish.len() >= 4 && one.endpoint.network.starts_with(wish))
    };
    let volume = |wish: &str| {
        host.mounts
            .iter()
            .any(|mount| mount.target == wish || mount_name(mount).is_some_and(|name| name == wish))
    };
    let exposed = |wish: &str| config.exposed_ports.iter().any(|port| is_port(wish, port));
    let published = |wish: &str| {
        let ports = connections.map(|all| all.ports.as_slice()).unwrap_or_default();
        ports.iter().any(|port| {
            let numbers = [port.host, port.container];
            numbers.into_iter().any(|number| is_port(wish, &format!("{number}/{}", port.protocol.name())))
        })
    };
    filters.pass("id", |id| container.id.as_str().starts_with(id))
        && filters.pass("name", |name| name_matches(name, &container.name))
        && filters.pass("status", |wish| state == wish)
        && filters.pass("exited", |code| state == "exited" && code.parse() == Ok(container.state.exit_code))
        && filters.pass("ancestor", image)
        && filters.pass("health", |wish| wish == health)
        && filters.pass("network", network)
        && filters.pass("volume", volume)
        && filters.pass("expose", |wish| exposed(wish))
        && filters.pass("publish", |wish| view.alive && published(wish))
        // There are no tasks of a swarm here, and one kind of isolation.
        && filters.pass("is-task", |wish| switch(wish) == Ok(false))
        && filters.pass("isolation", |wish| matches!(wish, "default" | ""))
        && filters.pass_labels(&config.labels)
}

/// What a mount is shown as: a volume's name, or a path of the host.
fn mount_name(mount: &Mount) -> Option<String> {
    match &mount.source {
        MountSource::Volume { name, .. } => Some(name.clone()),
        MountSource::Bind { path, .. } => Some(path.display().to_string()),
        MountSource::Tmpfs { .. } => None,
    }
}

fn row(
    view: &ContainerView,
    connections: Option<&Connections>,
    now: Timestamp,
    whole: bool,
    size: Option<(u64, u64)>,
) -> Row {
    let container = &view.container;
    let config = &container.config;
    let labels: Vec<_> = config.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let mounts = container.host.mounts.iter().filter_map(mount_name);
    let shown = |name: String| if whole { name } else { human::ellipsis(&name, 15) };
    let mounts: Vec<_> = mounts.map(shown).collect();
    let volume = |mount: &&Mount| matches!(mount.source, MountSource::Volume { .. });
    let volumes = container.host.mounts.iter().filter(volume).count();
    let size = size.map_or_else(
        || "0B".to_owned(),
        |(own, all)| format!("{} (virtual {})", human::size(own, 3), human::size(all, 3)),
    );
    let fields = json!({
        "ID": if whole { container.id.as_str() } else { container.id.short() },
        "Image": container.image_name,
        "Command": human::command(&config.args(), whole),
        "CreatedAt": container.created.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string(),
        "RunningFor": human::ago(container.created, now),
        "Status": human::status(container, view.alive, now),
        "State": human::state(container, view.alive),
        "Ports": if view.alive {
            let published = connections.map(|all| all.ports.as_slice()).unwrap_or_default();
            published_ports::column(&config.exposed_ports, published)
        } else {
            String::new()
        },
        "Names": container.name,
        "Labels": labels.join(","),
        "Networks": networks(container, connections).join(","),
        "Mounts": mounts.join(","),
        "LocalVolumes": volumes.to_string(),
        "Size": size,
        "Platform": container.platform.to_string(),
        "Executor": container.executor.name,
    });
    Row { fields: fields.as_object().cloned().unwrap_or_default(), labels: config.labels.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_of_names_and_ports() {
        for (wish, name, expected) in [
            ("eb", "web", true),
            ("^eb", "web", false),
            ("^/we", "web", true),
            ("eb$", "web", true),
            ("^web$", "web2", false),
            ("/web", "web", true),
        ] {
            assert_eq!(name_matches(wish, name), expected, "{wish}");
        }
        for (wish, port, expected) in [
            ("80", "80/tcp", true),
            ("80/udp", "80/tcp", false),
            ("79-81", "80/tcp", true),
            ("81-99/tcp", "80/tcp", false),
        ] {
            assert_eq!(is_port(wish, port), expected, "{wish}");
        }
        for bad in ["", "x", "9-8", "80/x", "70000", "-"] {
            assert_eq!(ports(bad), None, "{bad}");
        }
    }
}
