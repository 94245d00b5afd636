//! A network from what `network create` asks for, checked. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::model::{DEFAULT_NETWORK, Network, NetworkDriver, Pool, Subnet, Timestamp, check_network_name};

use super::{NetworkError, pool};

/// The option that names the link.
pub const BRIDGE_NAME: &str = "com.docker.network.bridge.name";
/// The option that says whether containers may reach each other.
pub const ICC: &str = "com.docker.network.bridge.enable_icc";
/// The option that says whether what goes out gets the host's address.
pub const MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
/// The option that names the address for `-p` without one.
pub const HOST_BINDING: &str = "com.docker.network.bridge.host_binding_ipv4";
/// The option for the largest packet.
pub const MTU: &str = "com.docker.network.driver.mtu";

/// What Go reads as a truth value.
const BOOLEANS: [&str; 12] =
    ["true", "false", "1", "0", "t", "f", "T", "F", "TRUE", "FALSE", "True", "False"];

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub struct NetworkWish {
    /// Its name.
    pub name: String,
    /// The driver; empty: `bridge`.
    pub driver: String,
    /// `--subnet`.
    pub subnets: Vec<String>,
    /// `--gateway`.
    pub gateways: Vec<String>,
    /// `--ip-range`.
    pub ranges: Vec<String>,
    /// `--aux-address`, by name.
    pub auxiliary: BTreeMap<String, String>,
    /// `--internal`.
    pub internal: bool,
    /// `--ipv4=false`.
    pub no_ipv4: bool,
    /// `--ipv6`.
    pub ipv6: bool,
    /// `--attachable`.
    pub attachable: bool,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// `-o`.
    pub options: BTreeMap<String, String>,
    /// `--ipam-opt`.
    pub ipam_options: BTreeMap<String, String>,
}

fn invalid<T>(message: impl Into<String>) -> Result<T, NetworkError> {
    Err(NetworkError::Invalid { message: message.into() })
}

fn address(text: &str) -> Result<IpAddr, NetworkError> {
    text.parse().or_else(|_| invalid(format!("invalid IP address: {text}")))
}

fn subnet(text: &str) -> Result<Subnet, NetworkError> {
    text.parse().or_else(|error| invalid(format!("invalid subnet {text}: {error}")))
}

/// The network's record. `others` are those that there are, `routes` those of the host: an automatic subnet avoids both.
pub fn network(
    wish: &NetworkWish,
    id: &str,
    created: Timestamp,
    others: &[Network],
    routes: &[Subnet],
) -> Result<Network, NetworkError> {
    check_network_name(&wish.name)?;
    if matches!(wish.name.as_str(), DEFAULT_NETWORK | "host" | "none" | "default") {
        let message = format!("operation is not permitted on predefined {} network", wish.name);
        return Err(NetworkError::Predefined { message });
    }
    if others.iter().any(|other| other.name == wish.name) {
        return Err(crate::state::StateError::NetworkTaken { name: wish.name.clone() }.into());
    }
    match wish.driver.as_str() {
        "" | "bridge" => {}
        "host" | "null" => {
            let message = format!("only one instance of \"{}\" network is allowed", wish.driver);
            return Err(NetworkError::Predefined { message });
        }
        driver => {
            return invalid(format!(
                "could not find plugin {driver} in v1 plugin registry: plugin not found"
            ));
        }
    }
    check_options(&wish.options, others)?;
    let mut pools = pools(wish)?;
    let chosen_by_user = pools.iter().any(|pool| pool.subnet.address.is_ipv4());
    let ipv6 = wish.ipv6 || pools.iter().any(|pool| pool.subnet.address.is_ipv6());
    if wish.no_ipv4 && !ipv6 {
        return invalid("IPv4 or IPv6 must be enabled");
    }
    if wish.no_ipv4 && chosen_by_user {
        return invalid("an IPv4 subnet for a network without IPv4");
    }
    let theirs = || others.iter().flat_map(|other| other.pools.iter().map(move |pool| (other, pool.subnet)));
    for pool in &pools {
        let clash = theirs().find(|(_, other)| other.overlaps(pool.subnet));
        if let Some((other, their)) = clash {
            let (subnet, network) = (pool.subnet, other.name.clone());
            return Err(NetworkError::Overlap { subnet, other: their, network });
        }
    }
    if !chosen_by_user && !wish.no_ipv4 {
        let taken: Vec<_> = theirs().map(|(_, subnet)| subnet).chain(routes.iter().copied()).collect();
        pools.insert(0, pool::pool(pool::free_subnet(&taken)?));
    }
    if ipv6 && !pools.iter().any(|pool| pool.subnet.address.is_ipv6()) {
        pools.push(pool::pool(pool::local_subnet(id)));
    }
    Ok(Network {
        id: id.to_owned(),
        name: wish.name.clone(),
        created,
        driver: NetworkDriver::Bridge,
        internal: wish.internal,
        attachable: wish.attachable,
        ipv4: !wish.no_ipv4,
        ipv6,
        labels: wish.labels.clone(),
        options: wish.options.clone(),
        ipam_options: wish.ipam_options.clone(),
        pools,
        chosen_by_user,
    })
}

fn check_options(options: &BTreeMap<String, String>, others: &[Network]) -> Result<(), NetworkError> {
    for (key, value) in options {
        match key.as_str() {
            BRIDGE_NAME => {
                let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
                if value.is_empty() || value.len() > 15 || !value.bytes().all(plain) || value.starts_with('.')
                {
                    return invalid(format!(
                        "invalid bridge name {value:?}: 1 to 15 letters, digits, `_`, `.`, `-`"
                    ));
                }
                if let Some(other) = others.iter().find(|other| super::bridge_name(other) == *value) {
                    return invalid(format!("bridge name {value} already used by network {}", other.name));
                }
            }
            MTU if value.parse::<u32>().is_ok_and(|mtu| (68..=65535).contains(&mtu)) => {}
            MTU => return invalid(format!("invalid MTU {value}: 68 to 65535")),
            HOST_BINDING if value.parse::<std::net::Ipv4Addr>().is_err() => {
                return invalid(format!("invalid IPv4 address {value} of {HOST_BINDING}"));
            }
            ICC | MASQUERADE if !BOOLEANS.contains(&value.as_str()) => {
                return invalid(format!("invalid value {value:?} of {key}: true or false"));
            }
            // As docker: labels of other programs (compose) travel here as well.
            _ => {}
        }
    }
    Ok(())
}

/// What belongs together by its addresses.
fn pools(wish: &NetworkWish) -> Result<Vec<Pool>, NetworkError> {
    let mut pools: Vec<Pool> = Vec::new();
    for text in &wish.subnets {
        let subnet = subnet(text)?;
        if let Some(other) = pools.iter().find(|other| other.subnet.overlaps(subnet)) {
            let own = other.subnet;
            return invalid(format!(
                "multiple overlapping subnet configuration is not supported: {own} and {subnet}"
            ));
        }
        if pools.iter().any(|other| other.subnet.address.is_ipv4() == subnet.address.is_ipv4()) {
            return invalid("bridge driver doesn't support multiple subnets");
        }
        if subnet.host_bits() < 2 {
            return invalid(format!("subnet {subnet} has no room for a gateway and a container"));
        }
        pools.push(pool::pool(subnet));
    }
    for text in &wish.ranges {
        let range = subnet(text)?;
        match pools.iter_mut().find(|pool| pool.subnet.covers(range)) {
            None => return invalid(format!("no matching subnet for range {text}")),
            Some(pool) if pool.range.is_some() => {
                return invalid(format!(
                    "cannot configure multiple ranges ({text}) on the same subnet ({})",
                    pool.subnet
                ));
            }
            Some(pool) => pool.range = Some(range),
        }
    }
    let mut named = Vec::new();
    for text in &wish.gateways {
        let gateway = address(text)?;
        match pools.iter_mut().find(|pool| pool.subnet.contains(gateway)) {
            None => return invalid(format!("no matching subnet for gateway {text}")),
            Some(pool) if named.contains(&pool.subnet) => {
                return invalid(format!(
                    "cannot configure multiple gateways ({text}) for the same subnet ({})",
                    pool.subnet
                ));
            }
            Some(pool) => {
                named.push(pool.subnet);
                pool.gateway = Some(gateway);
            }
        }
    }
    for (name, text) in &wish.auxiliary {
        let kept = address(text)?;
        match pools.iter_mut().find(|pool| pool.subnet.contains(kept)) {
            None => return invalid(format!("no matching subnet for aux-address {text}")),
            Some(pool) => drop(pool.auxiliary.insert(name.clone(), kept)),
        }
    }
    Ok(pools)
}

/// The three networks that are always there; `ids` are theirs, `bridge` the name of the first one's link, if it has one.
pub fn predefined(
    ids: [String; 3],
    bridge_name: Option<&str>,
    created: Timestamp,
    routes: &[Subnet],
) -> Result<Vec<Network>, NetworkError> {
    let [bridge, host, none] = ids;
    let plain = |id: String, name: &str, driver| Network {
        id,
        name: name.to_owned(),
        created,
        driver,
        internal: false,
        attachable: false,
        ipv4: true,
        ipv6: false,
        labels: BTreeMap::new(),
        options: BTreeMap::new(),
        ipam_options: BTreeMap::new(),
        pools: Vec::new(),
        chosen_by_user: false,
    };
    let mut default = plain(bridge, DEFAULT_NETWORK, NetworkDriver::Bridge);
    default.pools.push(pool::pool(pool::free_subnet(routes)?));
    let options = [
        ("com.docker.network.bridge.default_bridge", "true"),
        (ICC, "true"),
        (MASQUERADE, "true"),
        (HOST_BINDING, "0.0.0.0"),
        (MTU, "1500"),
    ];
    default.options = options.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    if let Some(name) = bridge_name {
        default.options.insert(BRIDGE_NAME.to_owned(), name.to_owned());
    }
    Ok(vec![default, plain(host, "host", NetworkDriver::Host), plain(none, "none", NetworkDriver::Null)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(change: impl FnOnce(&mut NetworkWish)) -> NetworkWish {
        let mut wish = NetworkWish { name: "front".into(), ..NetworkWish::default() };
        change(&mut wish);
        wish
    }

    fn made(wish: &NetworkWish, others: &[Network]) -> Result<Network, String> {
        let route = "172.17.0.0/16".parse().unwrap();
        let id = "0123456789abcdef".repeat(4);
        network(wish, &id, Timestamp::UNIX_EPOCH, others, &[route]).map_err(|error| error.to_string())
    }

    fn texts(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    #[test]
    fn subnets_are_chosen_or_named() {
        let first = made(&wish(|_| ()), &[]).unwrap();
        assert_eq!(first.pools[0].subnet.to_string(), "172.18.0.0/16");
        assert_eq!(first.pools[0].gateway.unwrap().to_string(), "172.18.0.1");
        assert!(!first.chosen_by_user && !first.ipv6);
        let second =
            made(&wish(|w| (w.name, w.ipv6) = ("back".into(), true)), std::slice::from_ref(&first)).unwrap();
        assert_eq!(second.pools[0].subnet.to_string(), "172.19.0.0/16");
        assert_eq!(second.pools[1].subnet.to_string(), "fd01:2345:6789:abcd::/64");
        let named = made(
            &wish(|w| {
                w.subnets = texts(&["10.5.0.7/24", "fd00:5::/64"]);
                w.gateways = texts(&["10.5.0.254"]);
                w.ranges = texts(&["10.5.0.128/25"]);
                w.auxiliary = [("router".into(), "10.5.0.130".into())].into();
            }),
            &[],
        )
        .unwrap();
        assert!(named.chosen_by_user && named.ipv6);
        let pool = named.pool(false).unwrap();
        assert_eq!(
            (pool.subnet.to_string(), pool.gateway.unwrap().to_string()),
            ("10.5.0.0/24".into(), "10.5.0.254".into())
        );
        assert_eq!((pool.range.unwrap().to_string(), pool.auxiliary.len()), ("10.5.0.128/25".into(), 1));
        assert_eq!(named.pool(true).unwrap().gateway.unwrap().to_string(), "fd00:5::1");
        let v6 = made(&wish(|w| (w.no_ipv4, w.ipv6) = (true, true)), &[]).unwrap();
        assert!(!v6.ipv4 && v6.pool(false).is_none() && v6.pool(true).is_some());
    }

    #[test]
    fn what_cannot_be_is_refused_in_dockers_words() {
        type Change = fn(&mut NetworkWish);
        let cases: &[(Change, &str)] = &[
            (
                |w| w.name = "a b".into(),
                "invalid network name \"a b\": only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed",
            ),
            (|w| w.name = "host".into(), "operation is not permitted on predefined host network"),
            (|w| w.name = "there".into(), "network with name there already exists"),
            (
                |w| w.driver = "moon".into(),
                "could not find plugin moon in v1 plugin registry: plugin not found",
            ),
            (|w| w.driver = "host".into(), "only one instance of \"host\" network is allowed"),
            (|w| w.subnets = texts(&["10.0.0.0"]), "invalid subnet 10.0.0.0: invalid CIDR address: 10.0.0.0"),
            (
                |w| w.subnets = texts(&["10.0.0.0/31"]),
                "subnet 10.0.0.0/31 has no room for a gateway and a container",
            ),
            (
                |w| w.subnets = texts(&["10.0.0.0/24", "10.1.0.0/24"]),
                "bridge driver doesn't support multiple subnets",
            ),
            (|w| w.gateways = texts(&["10.0.0.1"]), "no matching subnet for gateway 10.0.0.1"),
            (|w| w.ranges = texts(&["10.0.0.0/25"]), "no matching subnet for range 10.0.0.0/25"),
            (
                |w| w.auxiliary = [("a".into(), "10.0.0.1".into())].into(),
                "no matching subnet for aux-address 10.0.0.1",
            ),
            (
                |w| w.subnets = texts(&["172.18.0.0/24"]),
                "invalid pool request: Pool overlaps with other one on this address space: 172.18.0.0/24 and 172.18.0.0/16 of \
                 network there",
            ),
            (|w| w.no_ipv4 = true, "IPv4 or IPv6 must be enabled"),
            (|w| drop(w.options.insert(MTU.into(), "x".into())), "invalid MTU x: 68 to 65535"),
            (
                |w| drop(w.options.insert(BRIDGE_NAME.into(), "a/b".into())),
                "invalid bridge name \"a/b\": 1 to 15 letters, digits, `_`, `.`, `-`",
            ),
        ];
        let there = made(&wish(|w| w.name = "there".into()), &[]).unwrap();
        for (change, message) in cases {
            assert_eq!(made(&wish(change), std::slice::from_ref(&there)).unwrap_err(), *message);
        }
    }
}
