//! `--link` on the network that all containers are on by default: a line of `/etc/hosts`, and variables that tell of the other
//! container's address, ports and variables, as docker 28 writes them.

use std::net::{IpAddr, SocketAddr};

use super::life::NameError;
use crate::model::{Container, Link, Network, Protocol};
use crate::network::exposed_ports;
use crate::network::files::HostLine;
use crate::state::Database;

/// Another container that is known here.
pub(super) struct Linked {
    other: Container,
    alias: String,
    address: IpAddr,
}

/// Looks the other container up for one of this name; it must run.
pub(super) fn find(
    database: &Database,
    network: &Network,
    own_name: &str,
    link: &Link,
) -> Result<Linked, NameError> {
    let Link { container, alias } = link;
    let missing = || NameError::NotRunning {
        container: container.clone(),
        own: own_name.to_owned(),
        alias: alias.clone(),
    };
    let other = database.containers_matching(container)?.into_iter().next().ok_or_else(missing)?;
    let endpoints = database.endpoints_of(&other.id)?;
    let lease = endpoints.into_iter().find(|one| one.network == network.id).and_then(|one| one.lease);
    let address = lease.and_then(|lease| lease.ipv4.map(IpAddr::from).or(lease.ipv6.map(IpAddr::from)));
    Ok(Linked { other, alias: alias.clone(), address: address.ok_or_else(missing)? })
}

impl Linked {
    /// Its line of `/etc/hosts`.
    pub(super) fn line(&self) -> HostLine {
        let hostname = match self.other.config.hostname.as_str() {
            "" => self.other.id.short().to_owned(),
            name => name.to_owned(),
        };
        let mut names = vec![self.alias.clone()];
        for name in [hostname, self.other.name.clone()] {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        HostLine { address: self.address, names }
    }

    /// The variables for a container of this name.
    pub(super) fn variables(&self, own_name: &str) -> Vec<String> {
        let prefix = self.alias.to_uppercase().replace('-', "_");
        let mut all = ports(&prefix, self.address, &sorted(exposed_ports(&self.other)));
        all.push(format!("{prefix}_NAME=/{own_name}/{}", self.alias));
        let theirs = self.other.config.env.iter().filter_map(|pair| pair.split_once('='));
        // Those are about the other's files.
        let theirs = theirs.filter(|(name, _)| !matches!(*name, "HOME" | "PATH"));
        all.extend(theirs.map(|(name, value)| format!("{prefix}_ENV_{name}={value}")));
        all
    }
}

/// TCP before other protocols, then by number.
fn sorted(mut ports: Vec<(u16, Protocol)>) -> Vec<(u16, Protocol)> {
    ports.sort_unstable_by_key(|(port, protocol)| (*protocol != Protocol::Tcp, protocol.name(), *port));
    ports.dedup();
    ports
}

/// The variables of all ports; those of neighbouring numbers are told of as a range as well.
fn ports(prefix: &str, address: IpAddr, ports: &[(u16, Protocol)]) -> Vec<String> {
    let url = |(port, protocol): (u16, Protocol)| {
        format!("{}://{}", protocol.name(), SocketAddr::new(address, port))
    };
    let name = |(port, protocol): (u16, Protocol)| {
        format!("{prefix}_PORT_{port}_{}", protocol.name().to_uppercase())
    };
    let mut all: Vec<String> =
        ports.first().map(|first| format!("{prefix}_PORT={}", url(*first))).into_iter().collect();
    let follows =
        |(a, b): (&(u16, Protocol), &(u16, Protocol))| a.1 == b.1 && a.0.checked_add(1) == Some(b.0);
    for range in ports.chunk_by(|a, b| follows((a, b))) {
        if let [first, .., last] = range {
            let name = name(*first);
            all.push(format!("{name}_START={}", url(*first)));
            all.push(format!("{name}_PORT_START={}", first.0));
            all.push(format!("{name}_END={}", url(*last)));
            all.push(format!("{name}_PORT_END={}", last.0));
        }
    }
    for port in ports {
        let name = name(*port);
        all.push(format!("{name}={}", url(*port)));
        all.push(format!("{name}_ADDR={address}"));
        all.push(format!("{name}_PORT={}", port.0));
        all.push(format!("{name}_PROTO={}", port.1.name()));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_ranges_are_told_of() {
        let exposed = sorted(vec![
            (53, Protocol::Udp),
            (81, Protocol::Tcp),
            (80, Protocol::Tcp),
            (90, Protocol::Tcp),
            (81, Protocol::Tcp),
        ]);
        let all = ports("DB", "10.0.0.2".parse().unwrap(), &exposed);
        let mut wanted = vec!["DB_PORT=tcp://10.0.0.2:80".to_owned()];
        wanted.extend(
            ["START=tcp://10.0.0.2:80", "PORT_START=80", "END=tcp://10.0.0.2:81", "PORT_END=81"]
                .map(|rest| format!("DB_PORT_80_TCP_{rest}")),
        );
        for (port, protocol) in [(80, "tcp"), (81, "tcp"), (90, "tcp"), (53, "udp")] {
            let name = format!("DB_PORT_{port}_{}", protocol.to_uppercase());
            wanted.push(format!("{name}={protocol}://10.0.0.2:{port}"));
            wanted.push(format!("{name}_ADDR=10.0.0.2"));
            wanted.push(format!("{name}_PORT={port}"));
            wanted.push(format!("{name}_PROTO={protocol}"));
        }
        assert_eq!(all, wanted);
        assert!(ports("DB", "10.0.0.2".parse().unwrap(), &[]).is_empty());
    }
}
