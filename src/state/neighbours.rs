//! Who is on a container's networks and how they are called: what its name server answers from.

use std::net::{Ipv4Addr, Ipv6Addr};

use rusqlite::Connection;

use super::{Database, Failure, StateError, decode};
use crate::model::{ContainerId, EndpointSettings, Network};

/// A container with an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// What else it is called on this network: aliases, and its host name.
    pub aliases: Vec<String>,
    /// Its address.
    pub ipv4: Option<Ipv4Addr>,
    /// Its address.
    pub ipv6: Option<Ipv6Addr>,
}

/// One network of a container's, and who is on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbourhood {
    /// The network.
    pub network: Network,
    /// What the container asked of it.
    pub settings: EndpointSettings,
    /// Everybody on it, the container itself included, the oldest first.
    pub neighbours: Vec<Neighbour>,
}

fn neighbours(connection: &Connection, network: &str) -> Result<Vec<Neighbour>, Failure> {
    let mut statement = connection.prepare_cached(
        "SELECT c.name, c.id, e.settings, e.ipv4, e.ipv6, json_extract(c.record, '$.config.hostname')
         FROM endpoints e JOIN containers c ON c.id = e.container
         WHERE e.network = ?1 AND e.mac IS NOT NULL ORDER BY json_extract(c.record, '$.created'), c.id",
    )?;
    let mut rows = statement.query([network])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let settings: EndpointSettings = decode("a container's network", &row.get::<_, String>(2)?)?;
        let mut aliases = settings.aliases;
        aliases.extend(row.get::<_, Option<String>>(5)?);
        found.push(Neighbour {
            name: row.get(0)?,
            id: row.get(1)?,
            aliases,
            ipv4: row.get::<_, Option<u32>>(3)?.map(Ipv4Addr::from_bits),
            ipv6: row.get::<_, Option<[u8; 16]>>(4)?.map(Ipv6Addr::from),
        });
    }
    Ok(found)
}

impl Database {
    /// The networks that a container has an address on, in the order of its connections. The one that all containers are on by
    /// default is none of them: nobody has a name there, as with docker.
    pub fn neighbourhoods(&self, container: &ContainerId) -> Result<Vec<Neighbourhood>, StateError> {
        self.read("look up a container's neighbours", |c| {
            let mut statement = c.prepare_cached(
                "SELECT n.record, e.settings FROM endpoints e JOIN networks n ON n.id = e.network
                 WHERE e.container = ?1 AND e.mac IS NOT NULL ORDER BY e.position",
            )?;
            let rows = statement.query_map([container.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let rows: Vec<(String, String)> = rows.collect::<Result<_, _>>()?;
            let mut found = Vec::new();
            for (record, settings) in rows {
                let network: Network = decode("a network", &record)?;
                let named = network.name != crate::model::DEFAULT_NETWORK;
                found.push(Neighbourhood {
                    neighbours: if named { neighbours(c, &network.id)? } else { Vec::new() },
                    settings: decode("a container's network", &settings)?,
                    network,
                });
            }
            Ok(found)
        })
    }

    /// A number that is another one when anybody else has changed anything since this database was opened.
    pub fn version(&self) -> Result<i64, StateError> {
        self.read("look for changes", |c| Ok(c.query_row("PRAGMA data_version", [], |row| row.get(0))?))
    }
}
