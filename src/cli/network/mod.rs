//! `umiak network`: connect, create, disconnect, inspect, ls, prune, rm.

mod create;
mod list;

use clap::Args;
use serde_json::{Map, Value, json};

use super::Execute;
use super::args::network::{self, Plain};
use super::confirm::confirm;
use super::fault::Fault;
use super::output::error::report;
use super::output::{Documents, Printer};
use super::prune::{Wanted, list as show};
use crate::engine::{Engine, NetworkView};
use crate::model::{Endpoint, EndpointSettings, Kind as _, Network, Pool};

pub(super) use create::Create;
pub(super) use list::List;

fn pool(pool: &Pool) -> Value {
    let mut fields = Map::new();
    fields.insert("Subnet".to_owned(), pool.subnet.to_string().into());
    if let Some(range) = pool.range {
        fields.insert("IPRange".to_owned(), range.to_string().into());
    }
    if let Some(gateway) = pool.gateway {
        fields.insert("Gateway".to_owned(), gateway.to_string().into());
    }
    if !pool.auxiliary.is_empty() {
        fields.insert("AuxiliaryAddresses".to_owned(), json!(pool.auxiliary));
    }
    fields.into()
}

fn container(network: &Network, name: &str, endpoint: &Endpoint) -> Value {
    let lease = endpoint.lease;
    let shown = |address: Option<String>, ipv6: bool| {
        let bits = network.pool(ipv6).map(|pool| pool.subnet.bits);
        address.zip(bits).map(|(address, bits)| format!("{address}/{bits}")).unwrap_or_default()
    };
    json!({
        "Name": name,
        "EndpointID": endpoint.id,
        "MacAddress": lease.map(|lease| lease.mac.to_string()).unwrap_or_default(),
        "IPv4Address": shown(lease.and_then(|lease| lease.ipv4).map(|one| one.to_string()), false),
        "IPv6Address": shown(lease.and_then(|lease| lease.ipv6).map(|one| one.to_string()), true),
    })
}

/// Docker's document of a network.
pub(super) fn document(view: &NetworkView) -> Value {
    let network = &view.network;
    let containers: Map<String, Value> = view
        .containers
        .iter()
        .map(|(name, endpoint)| (endpoint.container.clone(), container(network, name, endpoint)))
        .collect();
    let options = &network.ipam_options;
    json!({
        "Name": network.name,
        "Id": network.id,
        "Created": network.created.to_string(),
        "Scope": "local",
        "Driver": network.driver.name(),
        "EnableIPv4": network.ipv4,
        "EnableIPv6": network.ipv6,
        "IPAM": {
            "Driver": "default",
            "Options": if options.is_empty() && network.is_predefined() { Value::Null } else { json!(options) },
            "Config": network.pools.iter().map(pool).collect::<Vec<_>>(),
        },
        "Internal": network.internal,
        "Attachable": network.attachable,
        "Ingress": false,
        "ConfigFrom": { "Network": "" },
        "ConfigOnly": false,
        "Containers": containers,
        "Options": network.options,
        "Labels": network.labels,
    })
}

/// Display detailed information on one or more networks
#[derive(Debug, Args)]
#[command(help_template = super::HELP, override_usage = "umiak network inspect [OPTIONS] NETWORK [NETWORK...]", args_override_self = true)]
pub(super) struct Inspect {
    /// Format output using a custom template: 'json' or a Go template
    #[arg(short, long, value_name = "string")]
    format: Option<String>,
    /// Verbose output for diagnostics
    #[arg(short, long)]
    verbose: bool,
    #[arg(required = true, hide = true)]
    networks: Vec<String>,
}

impl Execute for Inspect {
    fn run(&self, engine: &Engine, printer: &Printer) -> Result<u8, Fault> {
        let documents = Documents::parse(self.format.as_deref())?;
        let mut status = 0;
        let mut found = Vec::new();
        for name in &self.networks {
            match engine.network_view(name) {
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

/// Remove one or more networks
#[derive(Debug, Args)]
#[command(help_template = super::HELP, override_usage = "umiak network rm NETWORK [NETWORK...]", args_override_self = true)]
pub(super) struct Remove {
    /// Do not error if the network does not exist
    #[arg(short, long)]
    force: bool,
    #[arg(required = true, hide = true)]
    networks: Vec<String>,
}

impl Execute for Remove {
    fn run(&self, engine: &Engine, printer: &Printer) -> Result<u8, Fault> {
        super::each(printer, &self.networks, |name| match engine.remove_network(name) {
            Ok(_) => Ok(printer.line(name)?),
            Err(error) if self.force && error.kind() == crate::model::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error.into()),
        })
    }
}

/// Remove all unused networks
#[derive(Debug, Args)]
#[command(help_template = super::HELP, override_usage = "umiak network prune [OPTIONS]", args_override_self = true)]
pub(super) struct Prune {
    /// Provide filter values (e.g. "until=<timestamp>")
    #[arg(long, value_name = "filter")]
    filter: Vec<String>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
}

impl Execute for Prune {
    fn run(&self, engine: &Engine, printer: &Printer) -> Result<u8, Fault> {
        let wanted = Wanted::parse(&self.filter)?;
        let warning = "WARNING! This will remove all custom networks not used by at least one container.";
        if !self.force && !confirm(printer, warning)? {
            return Ok(0);
        }
        let names = engine.prune_networks(|network| wanted.takes(network.created, &network.labels))?;
        show(printer, "Deleted Networks:", &names)?;
        Ok(0)
    }
}

/// Connect a container to a network
#[derive(Debug, Args)]
#[command(help_template = super::HELP, override_usage = "umiak network connect [OPTIONS] NETWORK CONTAINER", args_override_self = true)]
pub(super) struct Connect {
    /// Add network-scoped alias for the container
    #[arg(long, value_name = "strings")]
    alias: Vec<String>,
    /// driver options for the network
    #[arg(long, value_name = "strings")]
    driver_opt: Vec<String>,
    /// Highest gw-priority provides the default gateway. Accepts positive and negative values.
    #[arg(
        long,
        value_name = "int",
        allow_negative_numbers = true,
        default_value_t = 0,
        hide_default_value = true
    )]
    gw_priority: i64,
    #[arg(long, value_name = "ip", help = "IPv4 address (e.g., \"172.30.100.104\")")]
    ip: Option<String>,
    #[arg(long, value_name = "ip", help = "IPv6 address (e.g., \"2001:db8::33\")")]
    ip6: Option<String>,
    /// Add link to another container
    #[arg(long, value_name = "list")]
    link: Vec<String>,
    /// Add a link-local address for the container
    #[arg(long, value_name = "strings")]
    link_local_ip: Vec<String>,
    #[arg(required = true, hide = true)]
    network: String,
    #[arg(required = true, hide = true)]
    container: String,
}

impl Connect {
    fn settings(&self) -> Result<EndpointSettings, Fault> {
        let named = EndpointSettings {
            network: self.network.clone(),
            driver_options: network::options(&self.driver_opt),
            gateway_priority: self.gw_priority,
            ..EndpointSettings::default()
        };
        let plain = Plain {
            aliases: &self.alias,
            ipv4: self.ip.as_deref(),
            ipv6: self.ip6.as_deref(),
            link_local: &self.link_local_ip,
            ..Plain::default()
        };
        let mut settings = named;
        network::take(&mut settings, &plain, &[]).map_err(Fault::value)?;
        settings.links = self
            .link
            .iter()
            .map(|text| network::link(text))
            .collect::<Result<_, _>>()
            .map_err(Fault::value)?;
        Ok(settings)
    }
}

impl Execute for Connect {
    fn check(&self) -> Result<(), Fault> {
        self.settings().map(drop)
    }

    fn run(&self, engine: &Engine, _printer: &Printer) -> Result<u8, Fault> {
        engine.connect_network(&self.network, &self.container, &self.settings()?)?;
        Ok(0)
    }
}

/// Disconnect a container from a network
#[derive(Debug, Args)]
#[command(help_template = super::HELP, override_usage = "umiak network disconnect [OPTIONS] NETWORK CONTAINER", args_override_self = true)]
pub(super) struct Disconnect {
    /// Force the container to disconnect from a network
    #[arg(short, long)]
    force: bool,
    #[arg(required = true, hide = true)]
    network: String,
    #[arg(required = true, hide = true)]
    container: String,
}

impl Execute for Disconnect {
    fn run(&self, engine: &Engine, _printer: &Printer) -> Result<u8, Fault> {
        engine.disconnect_network(&self.network, &self.container, self.force)?;
        Ok(0)
    }
}
