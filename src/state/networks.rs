//! Networks: their records.
//!
//! Names are unique by a constraint; that subnets do not overlap is decided by whoever makes a network, in a function that runs
//! while no other process can make one.

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::{Database, Durable, Failure, StateError, decode, encode};
use crate::model::Network;

const WHAT: &str = "a network";

pub(super) fn select(
    connection: &Connection,
    rest: &str,
    values: impl rusqlite::Params,
) -> Result<Vec<Network>, Failure> {
    let mut statement = connection.prepare_cached(&format!("SELECT record FROM networks {rest}"))?;
    let rows = statement.query_map(values, |row| row.get::<_, String>(0))?;
    rows.map(|row| decode(WHAT, &row?)).collect()
}

fn insert(t: &Transaction<'_>, network: &Network) -> Result<(), Failure> {
    let there: Option<()> = t
        .prepare_cached("SELECT 1 FROM networks WHERE name = ?1")?
        .query_row([network.name.as_str()], |_| Ok(()))
        .optional()?;
    if there.is_some() {
        return Err(StateError::NetworkTaken { name: network.name.clone() }.into());
    }
    t.prepare_cached("INSERT INTO networks (id, name, record) VALUES (?1, ?2, ?3)")?.execute(params![
        network.id,
        network.name,
        encode(WHAT, network)?
    ])?;
    Ok(())
}

impl Database {
    /// Records networks that `make` makes, given those that there are. Its error changes nothing.
    pub fn create_networks<E>(
        &self,
        make: impl FnOnce(&[Network]) -> Result<Vec<Network>, E>,
    ) -> Result<Result<Vec<Network>, E>, StateError> {
        self.write("record a network", Durable::PowerCut, |t| {
            let there = select(t, "ORDER BY name", [])?;
            let new = make(&there);
            for network in new.iter().flatten() {
                insert(t, network)?;
            }
            Ok(new)
        })
    }

    /// Writes a network's record anew.
    pub fn set_network(&self, network: &Network) -> Result<(), StateError> {
        self.write("change a network", Durable::Process, |t| {
            t.prepare_cached("UPDATE networks SET record = ?2 WHERE id = ?1")?
                .execute(params![network.id, encode(WHAT, network)?])?;
            Ok(())
        })
    }

    /// All networks, by name.
    pub fn networks(&self) -> Result<Vec<Network>, StateError> {
        self.read("list networks", |c| select(c, "ORDER BY name", []))
    }

    /// The networks that a user's word may mean: the one with this very name or id, else all whose id begins with it.
    pub fn networks_matching(&self, query: &str) -> Result<Vec<Network>, StateError> {
        self.read("look up a network", |c| {
            // A name goes before an id that is the same text.
            let named = select(c, "WHERE name = ?1", [query])?;
            let hex =
                !query.is_empty() && query.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
            if !named.is_empty() || !hex {
                return Ok(named);
            }
            select(c, "WHERE id >= ?1 AND id < ?1 || 'g' ORDER BY id", [query])
        })
    }

    /// Removes a network that no container with addresses is on.
    pub fn remove_network(&self, network: &Network) -> Result<(), StateError> {
        self.write("remove a network", Durable::Process, |t| {
            let mut statement = t.prepare_cached(
                "SELECT c.name, c.id FROM endpoints e JOIN containers c ON c.id = e.container
                 WHERE e.network = ?1 AND e.mac IS NOT NULL ORDER BY c.name",
            )?;
            let rows = statement.query_map([network.id.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let users: Vec<(String, String)> = rows.collect::<Result<_, _>>()?;
            if !users.is_empty() {
                return Err(StateError::NetworkInUse { name: network.name.clone(), users }.into());
            }
            match t.prepare_cached("DELETE FROM networks WHERE id = ?1")?.execute([network.id.as_str()])? {
                0 => Err(StateError::NoNetwork { name: network.name.clone() }.into()),
                _ => Ok(()),
            }
        })
    }
}
