//! Networks: which of them a container is on.

use crate::model::{Container, ContainerId, Endpoint, Network, NetworkMode, PublishedPort};
use crate::state::StateError;

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

impl Engine {
    /// The network that a name, an id or a unique prefix of one means.
    pub fn network(&self, query: &str) -> Result<Network, EngineError> {
        let mut found = self.database.networks_matching(query)?;
        match (found.pop(), found.is_empty()) {
            (Some(network), true) => Ok(network),
            (Some(_), false) => Err(EngineError::AmbiguousNetwork { query: query.to_owned() }),
            (None, _) => Err(StateError::NoNetwork { name: query.to_owned() }.into()),
        }
    }

    /// Replaces what was typed by networks' names, in a record that is being made.
    pub(super) fn resolve_networks(&self, container: &mut Container) -> Result<(), EngineError> {
        let host = &mut container.host;
        if host.network == NetworkMode::Default {
            host.network = NetworkMode::None;
            host.networks.clear();
        }
        for settings in &mut host.networks {
            settings.network = self.network(&settings.network)?.name;
        }
        if let (NetworkMode::Named(name), Some(first)) = (&mut host.network, host.networks.first()) {
            name.clone_from(&first.network);
        }
        Ok(())
    }

    /// A container's networks and ports.
    pub fn connections(&self, id: &ContainerId) -> Result<Connections, EngineError> {
        let endpoints = self.database.endpoints_of(id)?;
        if endpoints.is_empty() {
            return Ok(Connections::default());
        }
        let networks = self.database.networks()?;
        let connection = |endpoint: Endpoint| Connection {
            network: networks.iter().find(|network| network.id == endpoint.network).cloned(),
            endpoint,
        };
        Ok(Connections {
            endpoints: endpoints.into_iter().map(connection).collect(),
            ports: self.database.ports_of(id)?,
        })
    }
}
