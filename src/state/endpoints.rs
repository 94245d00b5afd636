//! Containers on networks: what they asked for, and the addresses and ports of the host that they have while they are up.
//!
//! That no two have one address is a constraint of the schema; that no two have one port of the host is checked in the
//! transaction that records it, since all addresses and one of them clash as well. Everything is given back by the transaction that
//! records a container's end or removes it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::{Database, Durable, Failure, StateError, decode, encode};
use crate::model::{
    Container, ContainerId, Endpoint, EndpointSettings, Lease, Network, Protocol, PublishedPort,
};

const WHAT: &str = "a container's network";

const COLUMNS: &str = "container, network, id, position, settings, interface, mac, ipv4, ipv6";

/// The addresses of a network that are in use, in ascending order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Taken {
    /// Of IPv4.
    pub ipv4: Vec<Ipv4Addr>,
    /// Of IPv6.
    pub ipv6: Vec<Ipv6Addr>,
}

/// A connection that is to get addresses, and what there is to choose from.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// The network.
    pub network: &'a Network,
    /// The connection.
    pub endpoint: &'a Endpoint,
    /// What others have.
    pub taken: &'a Taken,
    /// The number that its device gets.
    pub interface: u8,
}

/// Something in a column that this program does not write.
fn foreign(row: &Row<'_>, column: usize) -> rusqlite::Error {
    let name = row.as_ref().column_name(column).unwrap_or_default().to_owned();
    rusqlite::Error::InvalidColumnType(column, name, rusqlite::types::Type::Null)
}

fn lease(row: &Row<'_>) -> rusqlite::Result<Option<Lease>> {
    let Some(mac) = row.get::<_, Option<String>>(6)? else { return Ok(None) };
    Ok(Some(Lease {
        mac: mac.parse().map_err(|_| foreign(row, 6))?,
        interface: row.get(5)?,
        ipv4: row.get::<_, Option<u32>>(7)?.map(Ipv4Addr::from_bits),
        ipv6: row.get::<_, Option<[u8; 16]>>(8)?.map(Ipv6Addr::from),
    }))
}

fn select(
    connection: &Connection,
    rest: &str,
    values: impl rusqlite::Params,
) -> Result<Vec<Endpoint>, Failure> {
    let mut statement = connection.prepare_cached(&format!("SELECT {COLUMNS} FROM endpoints {rest}"))?;
    let mut rows = statement.query(values)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(Endpoint {
            container: row.get(0)?,
            network: row.get(1)?,
            id: row.get(2)?,
            position: row.get(3)?,
            settings: decode(WHAT, &row.get::<_, String>(4)?)?,
            lease: lease(row)?,
        });
    }
    Ok(found)
}

fn ports(
    connection: &Connection,
    rest: &str,
    values: impl rusqlite::Params,
) -> Result<Vec<(String, PublishedPort)>, Failure> {
    let mut statement = connection
        .prepare_cached(&format!("SELECT container, protocol, address, port, target FROM ports {rest}"))?;
    let rows = statement.query_map(values, |row| {
        let address: String = row.get(2)?;
        Ok((
            row.get(0)?,
            PublishedPort {
                protocol: Protocol::parse(&row.get::<_, String>(1)?).ok_or_else(|| foreign(row, 1))?,
                address: address.parse().map_err(|_| foreign(row, 2))?,
                host: row.get(3)?,
                container: row.get(4)?,
            },
        ))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Records the connections of a new container with the networks that its record names.
pub(super) fn attach(t: &Transaction<'_>, container: &Container) -> Result<(), Failure> {
    for settings in &container.host.networks {
        let found = super::networks::select(t, "WHERE name = ?1", [settings.network.as_str()])?;
        let Some(network) = found.first() else {
            return Err(StateError::NoNetwork { name: settings.network.clone() }.into());
        };
        add(t, &container.id, network, settings)?;
    }
    Ok(())
}

/// At the end of a container's list.
fn add(
    t: &Transaction<'_>,
    container: &ContainerId,
    network: &Network,
    settings: &EndpointSettings,
) -> Result<(), Failure> {
    t.prepare_cached(
        "INSERT INTO endpoints (container, network, id, settings, position) VALUES (?1, ?2, lower(hex(randomblob(32))), ?3,
         (SELECT coalesce(max(position) + 1, 0) FROM endpoints WHERE container = ?1))",
    )?
    .execute(params![container.as_str(), network.id, encode(WHAT, settings)?])?;
    Ok(())
}

/// Takes back what a container has.
pub(super) fn release(t: &Transaction<'_>, container: &ContainerId) -> Result<(), Failure> {
    t.prepare_cached(
        "UPDATE endpoints SET interface = NULL, mac = NULL, ipv4 = NULL, ipv6 = NULL WHERE container = ?1 AND mac IS NOT NULL",
    )?
    .execute([container.as_str()])?;
    t.prepare_cached("DELETE FROM ports WHERE container = ?1")?.execute([container.as_str()])?;
    Ok(())
}

fn taken(t: &Transaction<'_>, network: &Network) -> Result<Taken, Failure> {
    let mut taken = Taken::default();
    let mut statement =
        t.prepare_cached("SELECT ipv4 FROM endpoints WHERE network = ?1 AND ipv4 IS NOT NULL ORDER BY ipv4")?;
    for row in statement.query_map([network.id.as_str()], |row| row.get::<_, u32>(0))? {
        taken.ipv4.push(Ipv4Addr::from_bits(row?));
    }
    if network.ipv6 {
        let mut statement = t.prepare_cached(
            "SELECT ipv6 FROM endpoints WHERE network = ?1 AND ipv6 IS NOT NULL ORDER BY ipv6",
        )?;
        for row in statement.query_map([network.id.as_str()], |row| row.get::<_, [u8; 16]>(0))? {
            taken.ipv6.push(Ipv6Addr::from(row?));
        }
    }
    Ok(taken)
}

/// The lowest number that no device of the container has.
fn interface(t: &Transaction<'_>, container: &str) -> Result<u8, Failure> {
    let mut statement = t.prepare_cached(
        "SELECT interface FROM endpoints WHERE container = ?1 AND interface IS NOT NULL ORDER BY interface",
    )?;
    let mut free = 0_u8;
    for row in statement.query_map([container], |row| row.get::<_, u8>(0))? {
        if row? == free {
            free = free.saturating_add(1);
        }
    }
    Ok(free)
}

fn write_lease(t: &Transaction<'_>, endpoint: &Endpoint, lease: &Lease) -> Result<(), Failure> {
    let addresses = [lease.ipv4.map(IpAddr::from), lease.ipv6.map(IpAddr::from)];
    for address in addresses.into_iter().flatten() {
        let mut find = t.prepare_cached(
            "SELECT container FROM endpoints WHERE network = ?1 AND container <> ?4 AND (ipv4 = ?2 OR ipv6 = ?3)",
        )?;
        let (v4, v6) = match address {
            IpAddr::V4(v4) => (Some(v4.to_bits()), None),
            IpAddr::V6(v6) => (None, Some(v6.octets())),
        };
        let holder: Option<String> = find
            .query_row(params![endpoint.network, v4, v6, endpoint.container], |row| row.get(0))
            .optional()?;
        if let Some(text) = holder {
            let holder = text.parse().map_err(|_| StateError::Malformed { text })?;
            return Err(StateError::AddressTaken { address: address.to_string(), holder }.into());
        }
    }
    t.prepare_cached(
        "UPDATE endpoints SET interface = ?3, mac = ?4, ipv4 = ?5, ipv6 = ?6 WHERE container = ?1 AND network = ?2",
    )?
    .execute(params![
        endpoint.container,
        endpoint.network,
        lease.interface,
        lease.mac.to_string(),
        lease.ipv4.map(Ipv4Addr::to_bits),
        lease.ipv6.map(|address| address.octets()),
    ])?;
    Ok(())
}

impl Database {
    /// A container's connections, the first first.
    pub fn endpoints_of(&self, container: &ContainerId) -> Result<Vec<Endpoint>, StateError> {
        self.read("look up a container's networks", |c| {
            select(c, "WHERE container = ?1 ORDER BY position", [container.as_str()])
        })
    }

    /// The connections with a network.
    pub fn endpoints_on(&self, network: &str) -> Result<Vec<Endpoint>, StateError> {
        self.read("look up a network's containers", |c| {
            select(c, "WHERE network = ?1 ORDER BY container", [network])
        })
    }

    /// All connections, those of one container together and the first first.
    pub fn endpoints(&self) -> Result<Vec<Endpoint>, StateError> {
        self.read("list the containers' networks", |c| select(c, "ORDER BY container, position", []))
    }

    /// Connects a container with one more network.
    pub fn add_endpoint(
        &self,
        container: &Container,
        network: &Network,
        settings: &EndpointSettings,
    ) -> Result<(), StateError> {
        self.write("connect a container with a network", Durable::Process, |t| {
            let there: Option<()> = t
                .prepare_cached("SELECT 1 FROM endpoints WHERE container = ?1 AND network = ?2")?
                .query_row([container.id.as_str(), &network.id], |_| Ok(()))
                .optional()?;
            if there.is_some() {
                let (container, network) = (container.name.clone(), network.name.clone());
                return Err(StateError::Connected { container, network }.into());
            }
            add(t, &container.id, network, settings)
        })
    }

    /// Ends a container's connection with a network; what it was.
    pub fn remove_endpoint(&self, container: &Container, network: &Network) -> Result<Endpoint, StateError> {
        self.write("disconnect a container from a network", Durable::Process, |t| {
            let key = [container.id.as_str(), &network.id];
            let Some(endpoint) = select(t, "WHERE container = ?1 AND network = ?2", key)?.pop() else {
                let (container, network) = (container.name.clone(), network.name.clone());
                return Err(StateError::NotConnected { container, network }.into());
            };
            t.prepare_cached("DELETE FROM endpoints WHERE container = ?1 AND network = ?2")?.execute(key)?;
            Ok(endpoint)
        })
    }

    /// Gives a container addresses on all its networks, as `choose` chooses them; those that it has it keeps. An error of `choose`
    /// changes nothing.
    pub fn lease_addresses<E>(
        &self,
        container: &ContainerId,
        mut choose: impl FnMut(&Wanted<'_>) -> Result<Lease, E>,
    ) -> Result<Result<Vec<(Network, Endpoint)>, E>, StateError> {
        // Rolled back by a failure of its own kind, which carries nothing.
        let mut refused = None;
        let outcome = self.write("give a container addresses", Durable::Process, |t| {
            let mut leased = Vec::new();
            for mut endpoint in select(t, "WHERE container = ?1 ORDER BY position", [container.as_str()])? {
                let found = super::networks::select(t, "WHERE id = ?1", [endpoint.network.as_str()])?.pop();
                let Some(network) = found else {
                    return Err(StateError::NoNetwork { name: endpoint.network }.into());
                };
                if endpoint.lease.is_none() {
                    let taken = taken(t, &network)?;
                    let interface = interface(t, &endpoint.container)?;
                    match choose(&Wanted { network: &network, endpoint: &endpoint, taken: &taken, interface })
                    {
                        Ok(lease) => {
                            write_lease(t, &endpoint, &lease)?;
                            endpoint.lease = Some(lease);
                        }
                        Err(error) => {
                            refused = Some(error);
                            return Err(StateError::Malformed { text: String::new() }.into());
                        }
                    }
                }
                leased.push((network, endpoint));
            }
            Ok(leased)
        });
        match (refused, outcome) {
            (Some(error), _) => Ok(Err(error)),
            (None, outcome) => outcome.map(Ok),
        }
    }

    /// Records that these ports of the host lead to a container, and no others: all, or none of them.
    pub fn publish(&self, container: &ContainerId, wanted: &[PublishedPort]) -> Result<(), StateError> {
        self.write("publish a container's ports", Durable::Process, |t| {
            t.prepare_cached("DELETE FROM ports WHERE container = ?1")?.execute([container.as_str()])?;
            for port in wanted {
                let same = ports(
                    t,
                    "WHERE protocol = ?1 AND port = ?2 AND container <> ?3",
                    params![port.protocol.name(), port.host, container.as_str()],
                )?;
                if let Some((holder, _)) = same.into_iter().find(|(_, other)| other.clashes(port)) {
                    let holder = t
                        .prepare_cached("SELECT name FROM containers WHERE id = ?1")?
                        .query_row([&holder], |row| row.get(0))?;
                    return Err(StateError::PortTaken { port: *port, holder }.into());
                }
                t.prepare_cached(
                    "INSERT OR REPLACE INTO ports (container, protocol, address, port, target) VALUES (?1, ?2, ?3, ?4, ?5)",
                )?
                .execute(params![
                    container.as_str(),
                    port.protocol.name(),
                    port.address.to_string(),
                    port.host,
                    port.container
                ])?;
            }
            Ok(())
        })
    }

    /// The ports that lead to a container.
    pub fn ports_of(&self, container: &ContainerId) -> Result<Vec<PublishedPort>, StateError> {
        let found = self.read("look up a container's ports", |c| {
            ports(c, "WHERE container = ?1 ORDER BY target, protocol, address, port", [container.as_str()])
        })?;
        Ok(found.into_iter().map(|(_, port)| port).collect())
    }

    /// All ports, with the ids of their containers.
    pub fn ports(&self) -> Result<Vec<(String, PublishedPort)>, StateError> {
        self.read("list ports", |c| ports(c, "ORDER BY container, target, protocol, address, port", []))
    }

    /// Takes back the addresses and ports of a container.
    pub fn release_addresses(&self, container: &ContainerId) -> Result<(), StateError> {
        self.write("take back a container's addresses", Durable::Process, |t| release(t, container))
    }

    /// The networks on which somebody has an address.
    pub fn active_networks(&self) -> Result<Vec<Network>, StateError> {
        self.read("list networks in use", |c| {
            super::networks::select(
                c,
                "WHERE id IN (SELECT network FROM endpoints WHERE mac IS NOT NULL) ORDER BY name",
                [],
            )
        })
    }

    /// The containers that have addresses or ports.
    pub fn network_holders(&self) -> Result<Vec<ContainerId>, StateError> {
        self.read("list who has addresses", |c| {
            let mut statement = c.prepare_cached(
                "SELECT container FROM endpoints WHERE mac IS NOT NULL UNION SELECT container FROM ports",
            )?;
            let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
            rows.map(|row| {
                let text = row?;
                text.parse().map_err(|_| StateError::Malformed { text }.into())
            })
            .collect()
        })
    }
}
