//! Networks: made, shown, connected with containers, removed.
//!
//! A container that runs is connected and disconnected by its supervisor, which has its namespace; the records of others are changed
//! here. What a network needs of the kernel comes up with its first container (see [`crate::network::kernel`]).

use std::collections::BTreeSet;

use crate::config::DefaultNetwork;
use crate::model::{
    Container, ContainerId, DEFAULT_NETWORK, Endpoint, EndpointSettings, HostConfig, Network, NetworkMode,
    PublishedPort, RuntimeStatus, Timestamp, chain,
};
use crate::network::kernel::{self, Kernel};
use crate::network::make::{self, NetworkWish};
use crate::network::{Missing, NetworkError, bridge_name, pasta};
use crate::state::StateError;
use crate::supervisor::protocol::NetworkOrder;
use crate::supervisor::{self, Claim, Liveness};

use super::{Engine, EngineError};

/// A container's connection with a network, and the network where it is still there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// The network.
    pub network: Option<Network>,
    /// The connection.
    pub endpoint: Endpoint,
}

impl Connection {
    /// The network's name.
    pub fn name(&self) -> &str {
        self.network.as_ref().map_or(&self.endpoint.settings.network, |network| &network.name)
    }
}

/// A container's networks, and the ports of the host that lead to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Connections {
    /// The first is the one that it was made with.
    pub endpoints: Vec<Connection>,
    /// By the container's port.
    pub ports: Vec<PublishedPort>,
}

/// A network as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkView {
    /// Its record.
    pub network: Network,
    /// The containers with addresses on it: their names and connections.
    pub containers: Vec<(String, Endpoint)>,
}

impl Engine {
    pub(super) fn kernel(&self) -> Kernel {
        Kernel::new(&self.root, &self.run_root)
    }

    /// What stands in the way of containers' networks on this host, in sentences. An ordinary user has none of them.
    pub fn network_warnings(&self) -> Vec<String> {
        if !super::rootless::is_root() {
            return Vec::new();
        }
        match self.kernel().obstacles() {
            Ok(found) => found.iter().map(|chain| obstacle(chain)).collect(),
            Err(error) => vec![format!("containers have no networks: {}", chain(&error))],
        }
    }

    /// Sees to it that the three networks that are always there are recorded.
    fn predefine(&self) -> Result<(), EngineError> {
        if !self.database.networks_matching(DEFAULT_NETWORK)?.is_empty() {
            return Ok(());
        }
        let id = || super::create::random_bytes().map(hex::encode);
        let (ids, routes) = ([id()?, id()?, id()?], kernel::routes().unwrap_or_default());
        let kernel = self.kernel();
        let made = self.database.create_networks(|there| {
            // Somebody else did it just now.
            if there.iter().any(|network| network.name == DEFAULT_NETWORK) {
                return Ok(Vec::new());
            }
            make::predefined(ids, kernel.default_bridge(), Timestamp::now(), &routes)
        })?;
        made.map(drop).map_err(EngineError::from)
    }

    /// The network that a name, an id or a unique prefix of one means.
    pub fn network(&self, query: &str) -> Result<Network, EngineError> {
        if matches!(query, DEFAULT_NETWORK | "host" | "none") {
            self.predefine()?;
        }
        let mut found = self.database.networks_matching(query)?;
        match (found.pop(), found.is_empty()) {
            (Some(network), true) => Ok(network),
            (Some(_), false) => Err(EngineError::AmbiguousNetwork { query: query.to_owned() }),
            (None, _) => Err(StateError::NoNetwork { name: query.to_owned() }.into()),
        }
    }

    fn view_network(&self, network: Network) -> Result<NetworkView, EngineError> {
        let mut containers = Vec::new();
        for endpoint in self.database.endpoints_on(&network.id)? {
            let id: Option<ContainerId> =
                endpoint.container.parse().ok().filter(|_| endpoint.lease.is_some());
            let Some(id) = id else { continue };
            if let Some(container) = self.database.container(&id)? {
                containers.push((container.name, endpoint));
            }
        }
        Ok(NetworkView { network, containers })
    }

    /// A network with the containers on it.
    pub fn network_view(&self, query: &str) -> Result<NetworkView, EngineError> {
        let network = self.network(query)?;
        self.view_network(network)
    }

    /// All networks, by name.
    pub fn networks(&self) -> Result<Vec<NetworkView>, EngineError> {
        self.predefine()?;
        self.database.networks()?.into_iter().map(|network| self.view_network(network)).collect()
    }

    /// Makes a network.
    pub fn create_network(&self, wish: &NetworkWish) -> Result<Network, EngineError> {
        if cfg!(not(target_os = "linux")) {
            return Err(NetworkError::Unsupported.into());
        }
        let root = super::rootless::is_root();
        if !root && wish.name == "pasta" {
            let message = "operation is not permitted on predefined pasta network".to_owned();
            return Err(NetworkError::Predefined { message }.into());
        }
        self.predefine()?;
        let (id, routes) = (hex::encode(super::create::random_bytes()?), kernel::routes()?);
        let made = self.database.create_networks(|others| {
            let network = make::network(wish, &id, Timestamp::now(), others, &routes)?;
            // What leads an ordinary user's containers outside are sockets of the host's.
            if !root && !network.switch(make::MASQUERADE, true) {
                return Err(NetworkError::Root { what: "keeping containers' addresses on the outside" });
            }
            Ok(vec![network])
        })?;
        made?.pop().ok_or_else(|| StateError::NoNetwork { name: wish.name.clone() }.into())
    }

    /// Removes a network that no container with an address is on.
    pub fn remove_network(&self, query: &str) -> Result<Network, EngineError> {
        self.reconcile()?;
        let network = self.network(query)?;
        if network.is_predefined() {
            let message = format!("{} is a pre-defined network and cannot be removed", network.name);
            return Err(NetworkError::Predefined { message }.into());
        }
        self.database.remove_network(&network)?;
        self.settle_networks()?;
        Ok(network)
    }

    /// Takes down what nobody uses, at once.
    fn settle_networks(&self) -> Result<(), EngineError> {
        let kernel = self.kernel();
        if kernel.is_up() && kernel.is_stale(&self.bridges_in_use()?) {
            kernel.settle(&self.database)?;
        }
        Ok(())
    }

    /// The links of networks on which somebody has an address.
    fn bridges_in_use(&self) -> Result<Vec<String>, EngineError> {
        Ok(self.database.active_networks()?.iter().map(bridge_name).collect())
    }

    /// Removes networks that no container with an address is on; which.
    pub fn prune_networks(&self, wanted: impl Fn(&Network) -> bool) -> Result<Vec<String>, EngineError> {
        self.reconcile()?;
        let mut names = Vec::new();
        for network in self.database.networks()? {
            if network.is_predefined() || !wanted(&network) {
                continue;
            }
            match self.database.remove_network(&network) {
                Ok(()) => names.push(network.name),
                // Somebody is on it, or removed it just now.
                Err(StateError::NetworkInUse { .. } | StateError::NoNetwork { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if !names.is_empty() {
            self.settle_networks()?;
        }
        Ok(names)
    }

    /// Connects a container with one more network.
    pub fn connect_network(
        &self,
        network: &str,
        container: &str,
        settings: &EndpointSettings,
    ) -> Result<(), EngineError> {
        self.reconcile()?;
        let network = self.network(network)?;
        let view = self.container(container)?;
        changeable(&view.container, &network)?;
        if !super::rootless::is_root() {
            users_own(&network)?;
        }
        check_settings(&network, settings)?;
        let settings = EndpointSettings { network: network.name.clone(), ..settings.clone() };
        if view.alive {
            return self.order(&view.container, NetworkOrder::Connect { network: network.id, settings });
        }
        // One that was made without networks has them from its next start on.
        if view.container.host.network == NetworkMode::None {
            let mut host = view.container.host.clone();
            host.network = NetworkMode::Named(network.name.clone());
            self.database.set_host_config(&view.container.id, &host)?;
        }
        Ok(self.database.add_endpoint(&view.container, &network, &settings)?)
    }

    /// Ends a container's connection with a network. By force also that of a container that is gone or hangs.
    pub fn disconnect_network(&self, network: &str, container: &str, force: bool) -> Result<(), EngineError> {
        self.reconcile()?;
        let network = self.network(network)?;
        let view = match self.container(container) {
            Ok(view) => view,
            // Its connections went with it.
            Err(error) if force && error.is_not_found() => return Ok(()),
            Err(error) => return Err(error),
        };
        if view.alive {
            return self.order(&view.container, NetworkOrder::Disconnect { network: network.id });
        }
        Ok(self.database.remove_endpoint(&view.container, &network).map(drop)?)
    }

    /// Has a container's supervisor change its networks.
    fn order(&self, container: &Container, order: NetworkOrder) -> Result<(), EngineError> {
        let action = "change the networks of";
        let Some(mut remote) = supervisor::connect(&self.run_dir(&container.id)) else {
            return Err(EngineError::NotRunning { name: container.name.clone(), action });
        };
        Self::heard(remote.network(order), &container.name, action)
    }

    /// Replaces what was typed by networks' names, in a record that is being made.
    pub(super) fn resolve_networks(&self, container: &mut Container) -> Result<(), EngineError> {
        let host = &mut container.host;
        let linux =
            container.platform.os == "linux" && container.executor.name != crate::executor::wasm::NAME;
        let may = super::rootless::is_root();
        if host.network == NetworkMode::Default {
            // Whoever publishes a port means a network.
            let publishes = !host.ports.is_empty() || host.publish_all;
            let wanted = self.config.default_network == DefaultNetwork::Bridge || publishes;
            // An ordinary user's has one where that can be.
            let passed = linux && !may && wanted;
            if linux && may && wanted {
                host.network = NetworkMode::Named(DEFAULT_NETWORK.to_owned());
            } else if passed && (publishes || pasta::program().is_ok()) {
                // A sandbox publishes without a network: its supervisor listens.
                passed_on(host, "publishing ports")?;
            } else {
                host.network = NetworkMode::None;
                host.networks.clear();
            }
        }
        if host.network == NetworkMode::Pasta {
            return self.resolve_names(host, may);
        }
        let NetworkMode::Named(name) = &host.network else { return Ok(()) };
        if cfg!(not(target_os = "linux")) {
            return Err(NetworkError::Unsupported.into());
        }
        let name = name.clone();
        if host.networks.is_empty() {
            host.networks.push(EndpointSettings::default());
        }
        if let Some(first) = host.networks.first_mut() {
            first.network = name;
        }
        if !may && host.networks.iter().any(is_outside) {
            if !linux {
                return Err(NetworkError::Root { what: "joining the network `bridge`" }.into());
            }
            passed_on(host, "joining the host's network")?;
        }
        self.resolve_names(host, may)?;
        // On networks that lead nowhere nothing is published, as with docker.
        let publishes = !host.ports.is_empty() || host.publish_all;
        if !may
            && publishes
            && self.any_leads_out(host)
            && let Err(missing) = pasta::program()
        {
            return Err(NetworkError::NoPasta { what: "publishing ports", missing }.into());
        }
        if let (NetworkMode::Named(name), Some(first)) = (&mut host.network, host.networks.first()) {
            name.clone_from(&first.network);
        }
        Ok(())
    }

    /// Replaces what was typed by networks' names.
    fn resolve_names(&self, host: &mut HostConfig, root: bool) -> Result<(), EngineError> {
        for at in 0..host.networks.len() {
            let network = self.network(&host.networks[at].network)?;
            if !root {
                users_own(&network)?;
            }
            if !network.pools.is_empty() {
                check_settings(&network, &host.networks[at])?;
            }
            if host.networks[..at].iter().any(|other| other.network == network.name) {
                let message = format!("network {:?} is specified multiple times", network.name);
                return Err(NetworkError::Invalid { message }.into());
            }
            if matches!(network.name.as_str(), "host" | "none") {
                let message = format!(
                    "container cannot be disconnected from host network or connected to it: {}",
                    network.name
                );
                return Err(NetworkError::Invalid { message }.into());
            }
            host.networks[at].network = network.name;
        }
        Ok(())
    }

    fn any_leads_out(&self, host: &HostConfig) -> bool {
        let leads =
            |settings: &EndpointSettings| self.network(&settings.network).is_ok_and(|one| !one.internal);
        host.networks.iter().any(leads)
    }

    /// What is said of an ordinary user's container that is on networks which lead outside, where nothing does.
    pub(super) fn shut_in(&self, container: &Container) -> Option<&'static str> {
        let NetworkMode::Named(_) = &container.host.network else { return None };
        if super::rootless::is_root() {
            return None;
        }
        if !self.any_leads_out(&container.host) {
            return None;
        }
        Some(match pasta::none()? {
            Missing::Program => {
                "Nothing leads outside the container's networks: `pasta` (Debian's package `passt`) is not installed."
            }
            Missing::Device => {
                "Nothing leads outside the container's networks: `/dev/net/tun` cannot be opened by this user."
            }
            Missing::Route => {
                "Nothing leads outside the container's networks: the host has no default route."
            }
        })
    }

    /// A container's networks and ports.
    pub fn connections(&self, id: &ContainerId) -> Result<Connections, EngineError> {
        let endpoints = self.database.endpoints_of(id)?;
        let networks = self.database.networks()?;
        let ports = self.database.ports_of(id)?;
        Ok(Connections { endpoints: endpoints.into_iter().map(|one| join(&networks, one)).collect(), ports })
    }

    /// All containers' networks and ports, by the containers' ids.
    pub fn all_connections(&self) -> Result<std::collections::BTreeMap<String, Connections>, EngineError> {
        let networks = self.database.networks()?;
        let mut all: std::collections::BTreeMap<String, Connections> = std::collections::BTreeMap::new();
        for endpoint in self.database.endpoints()? {
            all.entry(endpoint.container.clone()).or_default().endpoints.push(join(&networks, endpoint));
        }
        for (container, port) in self.database.ports()? {
            all.entry(container).or_default().ports.push(port);
        }
        Ok(all)
    }

    /// Takes back what a container had on its networks, when nobody supervises it.
    pub(super) fn forget_networks(&self, container: &Container) -> Result<(), EngineError> {
        if !super::rootless::is_root() {
            // There are only records.
            self.database.release_addresses(&container.id)?;
        } else if container.host.network.is_networked() {
            self.kernel().forget(&self.database, &container.id)?;
        }
        Ok(())
    }

    /// Takes back what crashes left of networks. `running` are the containers that were recorded so before this began.
    pub(super) fn reconcile_networks(&self, running: &BTreeSet<ContainerId>) -> Result<(), EngineError> {
        let (kernel, root) = (self.kernel(), super::rootless::is_root());
        if root && !kernel.is_up() {
            return Ok(());
        }
        let mut forgotten = false;
        for id in self.database.network_holders()? {
            let run = self.run_dir(&id);
            if running.contains(&id) || supervisor::is_alive(&run) {
                continue;
            }
            let Claim::Free(_claim) = Liveness::try_claim(&run)? else { continue };
            let container = self.database.container(&id)?;
            if container.is_none_or(|container| container.state.status != RuntimeStatus::Running) {
                if root {
                    kernel.forget(&self.database, &id)?;
                } else {
                    self.database.release_addresses(&id)?;
                }
                forgotten = true;
            }
        }
        if !root {
            // What was up went with those who were on it.
            return Ok(());
        }
        if kernel.is_stale(&self.bridges_in_use()?) && !kernel.is_lingering() {
            kernel.settle(&self.database)?;
        } else if forgotten {
            kernel.refresh(&self.database)?;
        }
        Ok(())
    }
}

fn obstacle(chain: &str) -> String {
    format!(
        "{chain} drops what none of its rules lets through: containers on bridges reach this host alone, and published ports are \
         reached from it alone, unless it lets their links through (beside docker: `iptables -I DOCKER-USER -i um+ -j ACCEPT; \
         iptables -I DOCKER-USER -o um+ -j ACCEPT`)"
    )
}

/// An ordinary user's container gets the host's network by `pasta`, beside those that it names.
fn passed_on(host: &mut HostConfig, what: &'static str) -> Result<(), EngineError> {
    if cfg!(not(target_os = "linux")) {
        return Err(NetworkError::Unsupported.into());
    }
    pasta::program().map_err(|missing| NetworkError::NoPasta { what, missing })?;
    if !host.links.is_empty() {
        let message =
            "conflicting options: a container on the host's network by pasta can't be used with links";
        return Err(NetworkError::Invalid { message: message.to_owned() }.into());
    }
    for outside in host.networks.iter().filter(|settings| is_outside(settings)) {
        let plain = EndpointSettings { network: outside.network.clone(), ..EndpointSettings::default() };
        if *outside != plain {
            let message = "invalid config for network pasta: the container has the host's addresses, and no other can be chosen";
            return Err(NetworkError::Invalid { message: message.to_owned() }.into());
        }
    }
    host.network = NetworkMode::Pasta;
    host.networks.retain(|settings| !is_outside(settings));
    Ok(())
}

/// Whether a name means the way outside, of which an ordinary user's containers have one each.
fn is_outside(settings: &EndpointSettings) -> bool {
    matches!(settings.network.as_str(), DEFAULT_NETWORK | "pasta" | "default")
}

/// The network that is always there is root's.
fn users_own(network: &Network) -> Result<(), NetworkError> {
    if network.name == DEFAULT_NETWORK {
        return Err(NetworkError::Root { what: "joining the network `bridge`" });
    }
    Ok(())
}

fn join(networks: &[Network], endpoint: Endpoint) -> Connection {
    let network = networks.iter().find(|network| network.id == endpoint.network).cloned();
    Connection { network, endpoint }
}

/// Docker's rules for containers that share what is not theirs.
fn changeable(container: &Container, network: &Network) -> Result<(), EngineError> {
    let message = match (&container.host.network, network.name.as_str()) {
        (NetworkMode::Container(_), _) => {
            "container sharing network namespace with another container or host cannot be connected to any other network"
        }
        (NetworkMode::Host, _) => {
            "container cannot be disconnected from host network or connected to host network"
        }
        (_, "host" | "none") => {
            "container cannot be connected to multiple networks with one of the networks in private (none) mode"
        }
        _ => return Ok(()),
    };
    Err(NetworkError::Invalid { message: message.to_owned() }.into())
}

/// What networks that nobody made do not know.
fn check_settings(network: &Network, settings: &EndpointSettings) -> Result<(), EngineError> {
    if !network.is_predefined() {
        return Ok(());
    }
    let message = if settings.ipv4.is_some() || settings.ipv6.is_some() {
        "invalid config for network bridge: invalid endpoint settings:\nuser specified IP address is supported on user defined networks only"
    } else if !settings.aliases.is_empty() {
        "invalid config for network bridge: invalid endpoint settings:\nnetwork-scoped aliases are only supported for user-defined networks"
    } else {
        return Ok(());
    };
    Err(NetworkError::Invalid { message: message.to_owned() }.into())
}
