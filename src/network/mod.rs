//! Networks of containers: which subnets they have, which addresses and ports containers get, and how the host is made to match.
//!
//! | part | what it does |
//! |---|---|
//! | [`pool`] | subnets and addresses: pure |
//! | [`make`] | a network from what was asked for, checked: pure |
//! | [`dns`], [`files`] | names: a zone and messages; the texts of files: pure |
//! | [`kernel`] | bridges, the firewall's table, containers' devices; a lock that all engines of the host share |
//! | [`linger`] | a network stays for a moment after its last container |
//! | [`hubs`] | networks among an ordinary user's containers |
//! | [`pasta`] | what leads such containers outside |
//! | [`ports`] | sockets that hold the host's ports |
//!
//! Invariants:
//! - What is up is a function of the metadata database: whoever has addresses there has its bridge and its rules. The function is
//!   carried out under the lock, by the process that changed the database.
//! - Every name in the kernel (link, table) comes from an id or from the store's path: stores of one host never meet, and what a
//!   crash left is found by its name.

pub mod dns;
pub mod error;
pub mod files;
#[cfg(target_os = "linux")]
#[path = "hubs_linux.rs"]
pub mod hubs;
#[cfg(not(target_os = "linux"))]
#[path = "hubs_other.rs"]
pub mod hubs;
#[cfg(target_os = "linux")]
#[path = "kernel_linux.rs"]
pub mod kernel;
#[cfg(not(target_os = "linux"))]
#[path = "kernel_other.rs"]
pub mod kernel;
#[cfg(target_os = "linux")]
#[path = "linger_linux.rs"]
pub mod linger;
#[cfg(not(target_os = "linux"))]
#[path = "linger_other.rs"]
pub mod linger;
pub mod make;
#[cfg(target_os = "linux")]
#[path = "pasta_linux.rs"]
pub mod pasta;
#[cfg(not(target_os = "linux"))]
#[path = "pasta_other.rs"]
pub mod pasta;
pub mod pool;
#[cfg(target_os = "linux")]
#[path = "ports_linux.rs"]
pub mod ports;
#[cfg(not(target_os = "linux"))]
#[path = "ports_other.rs"]
pub mod ports;

pub use error::{KernelPart, Missing, NetworkError};

use crate::model::{Container, ContainerConfig, Endpoint, Network, PortBinding, Protocol};

/// What a container is connected with: a network, and its addresses there.
pub type Connected = (Network, Endpoint);

/// Everything that is to be published: `-p`, and with `-P` whatever else is exposed.
pub fn wanted_ports(container: &Container) -> Vec<PortBinding> {
    let mut wanted = container.host.ports.clone();
    if container.host.publish_all {
        for (port, protocol) in exposed(&container.config) {
            if !wanted.iter().any(|one| one.container == port && one.protocol == protocol) {
                wanted.push(PortBinding { container: port, protocol, address: None, host: None });
            }
        }
    }
    wanted
}

/// Every port that a container offers: those that are exposed, and those that are published.
pub fn exposed_ports(container: &Container) -> Vec<(u16, Protocol)> {
    let published = container.host.ports.iter().map(|port| (port.container, port.protocol));
    exposed(&container.config).into_iter().chain(published).collect()
}

/// The ports that are exposed; images may say anything, and what is no port is none.
fn exposed(config: &ContainerConfig) -> Vec<(u16, Protocol)> {
    let port = |text: &String| {
        let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let protocol = Protocol::parse(protocol).filter(|protocol| *protocol != Protocol::Sctp)?;
        Some((port.parse().ok().filter(|port| *port > 0)?, protocol))
    };
    config.exposed_ports.iter().filter_map(port).collect()
}

/// The connection that everything else goes through, of one version of IP: the one with the highest priority, and of several the
/// first by name, as with docker. A network that is internal leads nowhere.
pub fn gateway(connected: &[Connected], ipv6: bool) -> Option<&Connected> {
    let leads = |(network, endpoint): &&Connected| {
        let lease = endpoint.lease;
        let has = lease.is_some_and(|lease| if ipv6 { lease.ipv6.is_some() } else { lease.ipv4.is_some() });
        has && !network.internal && network.pool(ipv6).is_some_and(|pool| pool.gateway.is_some())
    };
    connected.iter().filter(leads).min_by(|(a, one), (b, other)| {
        let priorities = (one.settings.gateway_priority, other.settings.gateway_priority);
        priorities.1.cmp(&priorities.0).then_with(|| a.name.cmp(&b.name))
    })
}

/// The name of a network's link: what the user chose, or one by the network's id.
pub fn bridge_name(network: &Network) -> String {
    match network.options.get(make::BRIDGE_NAME) {
        Some(name) => name.clone(),
        None => format!("um-{}", network.id.get(..12).unwrap_or(&network.id)),
    }
}

/// The device of a container, as it is called there.
pub fn device(interface: u8) -> String {
    format!("eth{interface}")
}

/// The host's end of a container's device.
pub fn host_device(container: &str, interface: u8) -> String {
    format!("uv{}{interface:02x}", container.get(..11).unwrap_or(container))
}
