//! What docker's document of a container says of its networks and ports.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::document::list;
use crate::engine::{Connection, Connections};
use crate::model::{Container, HostConfig, NetworkMode, PortBinding, PublishedPort};

/// `HostConfig.PortBindings`: what was asked for.
pub(super) fn bindings(host: &HostConfig) -> Value {
    let mut all = Map::new();
    for binding in &host.ports {
        let key = format!("{}/{}", binding.container, binding.protocol.name());
        let entries = all.entry(key).or_insert_with(|| json!([]));
        if let Some(entries) = entries.as_array_mut() {
            entries.push(binding_of(binding));
        }
    }
    all.into()
}

fn binding_of(binding: &PortBinding) -> Value {
    let port = match binding.host {
        None => String::new(),
        Some((first, last)) if first == last => first.to_string(),
        Some((first, last)) => format!("{first}-{last}"),
    };
    let address = binding.address.map(|address| address.to_string()).unwrap_or_default();
    json!({ "HostIp": address, "HostPort": port })
}

/// `NetworkSettings.Ports`: every exposed port, and where on the host it is.
fn ports(container: &Container, published: &[PublishedPort]) -> Value {
    let mut all: Map<String, Value> =
        container.config.exposed_ports.iter().map(|port| (port.clone(), Value::Null)).collect();
    for port in published {
        let key = format!("{}/{}", port.container, port.protocol.name());
        let entry = all.entry(key).or_insert(Value::Null);
        let shown = json!({ "HostIp": port.address.to_string(), "HostPort": port.host.to_string() });
        match entry.as_array_mut() {
            Some(entries) => entries.push(shown),
            None => *entry = json!([shown]),
        }
    }
    all.into()
}

/// One connection, as `NetworkSettings.Networks` has it.
fn endpoint(connection: Option<&Connection>, container: &Container) -> Value {
    let settings = connection.map(|one| one.endpoint.settings.clone()).unwrap_or_default();
    let network = connection.and_then(|one| one.network.as_ref());
    let lease = connection.and_then(|one| one.endpoint.lease);
    let gateway = |ipv6: bool| {
        let found = network.and_then(|network| network.pool(ipv6)).and_then(|pool| pool.gateway);
        found.filter(|_| lease.is_some()).map(|gateway| gateway.to_string()).unwrap_or_default()
    };
    let bits = |ipv6: bool| network.and_then(|network| network.pool(ipv6)).map_or(0, |pool| pool.subnet.bits);
    let (v4, v6) = (lease.and_then(|lease| lease.ipv4), lease.and_then(|lease| lease.ipv6));
    let text = |address: Option<IpAddr>| address.map(|address| address.to_string()).unwrap_or_default();
    let links: Vec<_> =
        settings.links.iter().map(|link| format!("{}:{}", link.container, link.alias)).collect();
    let configured = settings.ipv4.is_some() || settings.ipv6.is_some() || !settings.link_local.is_empty();
    let mut asked = Map::new();
    if let Some(address) = settings.ipv4 {
        asked.insert("IPv4Address".to_owned(), address.to_string().into());
    }
    if let Some(address) = settings.ipv6 {
        asked.insert("IPv6Address".to_owned(), address.to_string().into());
    }
    if !settings.link_local.is_empty() {
        asked.insert("LinkLocalIPs".to_owned(), json!(settings.link_local));
    }
    let users = network.is_some_and(|network| !network.is_predefined());
    let mut names = vec![container.name.clone()];
    for name in settings.aliases.iter().map(String::as_str).chain([container.id.short()]) {
        if !names.iter().any(|other| other == name) {
            names.push(name.to_owned());
        }
    }
    json!({
        "IPAMConfig": if configured { asked.into() } else { Value::Null },
        "Links": list(&links),
        "Aliases": list(&settings.aliases),
        "MacAddress": lease.map(|lease| lease.mac.to_string()).unwrap_or_default(),
        "DriverOpts": if settings.driver_options.is_empty() { Value::Null } else { json!(settings.driver_options) },
        "GwPriority": settings.gateway_priority,
        "NetworkID": connection.map(|one| one.endpoint.network.clone()).unwrap_or_default(),
        "EndpointID": connection.filter(|_| lease.is_some()).map(|one| one.endpoint.id.clone()).unwrap_or_default(),
        "Gateway": gateway(false),
        "IPAddress": text(v4.map(IpAddr::from)),
        "IPPrefixLen": if v4.is_some() { bits(false) } else { 0 },
        "IPv6Gateway": gateway(true),
        "GlobalIPv6Address": text(v6.map(IpAddr::from)),
        "GlobalIPv6PrefixLen": if v6.is_some() { bits(true) } else { 0 },
        "DNSNames": if users { list(&names) } else { Value::Null },
    })
}

/// `NetworkSettings`.
pub(super) fn settings(container: &Container, alive: bool, connections: &Connections) -> Value {
    let mut networks: Map<String, Value> = connections
        .endpoints
        .iter()
        .map(|one| (one.name().to_owned(), endpoint(Some(one), container)))
        .collect();
    let passed_on = container.host.network == NetworkMode::Pasta;
    if passed_on || networks.is_empty() && !container.host.network.is_networked() {
        networks.insert(container.host.network.text(), endpoint(None, container));
    }
    // The fields of old, which speak of the default network alone.
    let default = connections.endpoints.iter().find(|one| one.name() == crate::model::DEFAULT_NETWORK);
    let old = endpoint(default.filter(|_| alive), container);
    let field = |key: &str| old.get(key).cloned().unwrap_or_default();
    let ports = if alive { ports(container, &connections.ports) } else { json!({}) };
    let sandbox = if alive { container.id.as_str() } else { "" };
    let key = if alive && container.state.pid > 0 {
        format!("/proc/{}/ns/net", container.state.pid)
    } else {
        String::new()
    };
    json!({
        "Bridge": "",
        "SandboxID": sandbox,
        "SandboxKey": key,
        "Ports": ports,
        "HairpinMode": false,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": null,
        "SecondaryIPv6Addresses": null,
        "EndpointID": field("EndpointID"),
        "Gateway": field("Gateway"),
        "GlobalIPv6Address": field("GlobalIPv6Address"),
        "GlobalIPv6PrefixLen": field("GlobalIPv6PrefixLen"),
        "IPAddress": field("IPAddress"),
        "IPPrefixLen": field("IPPrefixLen"),
        "IPv6Gateway": field("IPv6Gateway"),
        "MacAddress": field("MacAddress"),
        "Networks": networks,
    })
}
