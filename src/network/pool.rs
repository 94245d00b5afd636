//! Subnets and addresses: which are free.
//!
//! Pure. Containers get the lowest free address, as with docker, so that a container that is made again mostly has its old one.
//! A network's own address and its broadcast address are nobody's, nor are the gateway and those that the user keeps back.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::model::{Lease, MacAddress, Network, Pool, Subnet};
use crate::state::Wanted;

use super::NetworkError;

/// Docker's pools: 172.17/16 and on, then pieces of 192.168.
pub fn predefined() -> impl Iterator<Item = Subnet> {
    let large = (17..=31).map(|second| Subnet::of(Ipv4Addr::new(172, second, 0, 0).into(), 16));
    let small = (0..16).map(|part: u8| Subnet::of(Ipv4Addr::new(192, 168, part * 16, 0).into(), 20));
    large.chain(small)
}

/// The first predefined subnet that overlaps nothing in `taken`.
pub fn free_subnet(taken: &[Subnet]) -> Result<Subnet, NetworkError> {
    let free = |subnet: &Subnet| !taken.iter().any(|other| subnet.overlaps(*other));
    predefined().find(free).ok_or(NetworkError::NoSubnet)
}

/// A subnet of the unique local addresses, by the network's id: the chance that two meet is that of the ids.
pub fn local_subnet(id: &str) -> Subnet {
    let mut bytes = [0; 16];
    bytes[0] = 0xfd;
    for (at, byte) in bytes[1..8].iter_mut().enumerate() {
        *byte = id.get(at * 2..at * 2 + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok()).unwrap_or(0);
    }
    Subnet::of(Ipv6Addr::from(bytes).into(), 64)
}

/// A pool with its gateway: the first address.
pub fn pool(subnet: Subnet) -> Pool {
    Pool { subnet, gateway: nth(subnet, 1), range: None, auxiliary: std::collections::BTreeMap::new() }
}

/// An address by its distance from the first; none beyond the last.
fn nth(subnet: Subnet, distance: u128) -> Option<IpAddr> {
    let bits = u32::from(subnet.host_bits());
    if bits < 128 && distance >> bits != 0 {
        return None;
    }
    Some(match subnet.address {
        IpAddr::V4(first) => Ipv4Addr::from_bits(first.to_bits() + u32::try_from(distance).ok()?).into(),
        IpAddr::V6(first) => Ipv6Addr::from_bits(first.to_bits().checked_add(distance)?).into(),
    })
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// Whether containers never get an address of the subnet.
fn is_reserved(pool: &Pool, address: IpAddr) -> bool {
    let subnet = pool.subnet;
    // Of networks of one or two addresses each is a host's (RFC 3021).
    let edges = subnet.host_bits() > 1;
    let last = number(subnet.address)
        + ((1_u128.checked_shl(subnet.host_bits().into()).unwrap_or(0)).wrapping_sub(1));
    let broadcast = edges && subnet.address.is_ipv4() && number(address) == last;
    (edges && address == subnet.address)
        || broadcast
        || pool.gateway == Some(address)
        || pool.auxiliary.values().any(|kept| *kept == address)
}

/// The lowest free address; `taken` is in ascending order.
pub fn free_address(pool: &Pool, taken: &[IpAddr]) -> Option<IpAddr> {
    let range = pool.range.unwrap_or(pool.subnet);
    let first = number(range.address);
    let mut taken = taken.iter().map(|address| number(*address)).skip_while(|one| *one < first).peekable();
    let mut distance = 0;
    // One step for each that is taken or reserved, of which there are few beside the taken.
    while let Some(address) = nth(range, distance) {
        if taken.peek() == Some(&number(address)) {
            taken.next();
        } else if !is_reserved(pool, address) {
            return Some(address);
        }
        distance += 1;
    }
    None
}

/// The address that a container asks for, if it can have it. That nobody else has it is the database's to see.
fn asked(network: &Network, address: IpAddr) -> Result<IpAddr, NetworkError> {
    let pool = network.pool(address.is_ipv6()).filter(|pool| pool.subnet.contains(address));
    let Some(pool) = pool else { return Err(NetworkError::Outside { address }) };
    if address.is_ipv4() && !network.chosen_by_user {
        return Err(NetworkError::NotChosen);
    }
    if is_reserved(pool, address) {
        return Err(NetworkError::Reserved { address });
    }
    Ok(address)
}

/// What a container gets on a network.
pub fn lease(wanted: &Wanted<'_>) -> Result<Lease, NetworkError> {
    let (network, settings) = (wanted.network, &wanted.endpoint.settings);
    let get = |asked_for: Option<IpAddr>, ipv6: bool, taken: Vec<IpAddr>| {
        if let Some(address) = asked_for {
            return asked(network, address).map(Some);
        }
        let Some(pool) = network.pool(ipv6) else { return Ok(None) };
        let free = free_address(pool, &taken);
        let used_up = || NetworkError::UsedUp {
            version: if ipv6 { "IPv6" } else { "IPv4" },
            network: network.name.clone(),
            id: network.id.clone(),
        };
        free.map(Some).ok_or_else(used_up)
    };
    let ipv4 = get(
        settings.ipv4.map(IpAddr::from),
        false,
        wanted.taken.ipv4.iter().map(|one| IpAddr::from(*one)).collect(),
    )?;
    let ipv6 = get(
        settings.ipv6.map(IpAddr::from),
        true,
        wanted.taken.ipv6.iter().map(|one| IpAddr::from(*one)).collect(),
    )?;
    Ok(Lease {
        ipv4: ipv4.and_then(|one| if let IpAddr::V4(one) = one { Some(one) } else { None }),
        ipv6: ipv6.and_then(|one| if let IpAddr::V6(one) = one { Some(one) } else { None }),
        mac: settings.mac.unwrap_or_else(|| mac(ipv4.or(ipv6))),
        interface: wanted.interface,
    })
}

/// A hardware address that goes with the address: whoever gets a freed one is found by neighbours that remember the old
/// holder's.
fn mac(address: Option<IpAddr>) -> MacAddress {
    let low = match address {
        Some(IpAddr::V4(address)) => address.octets(),
        Some(IpAddr::V6(address)) => {
            let [.., a, b, c, d] = address.octets();
            [a, b, c, d]
        }
        None => [0; 4],
    };
    let [a, b, c, d] = low;
    MacAddress([0x02, 0x42, a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn predefined_subnets_are_dockers_and_taken_in_turn() {
        let all: Vec<_> = predefined().map(|one| one.to_string()).collect();
        assert_eq!((all.len(), all[0].as_str(), all[15].as_str()), (31, "172.17.0.0/16", "192.168.0.0/20"));
        assert_eq!(all[30], "192.168.240.0/20");
        let mut taken: Vec<Subnet> = vec!["172.16.0.0/15".parse().unwrap(), "172.18.5.0/24".parse().unwrap()];
        assert_eq!(free_subnet(&taken).unwrap().to_string(), "172.19.0.0/16");
        while let Ok(free) = free_subnet(&taken) {
            assert!(!taken.iter().any(|one| one.overlaps(free)));
            taken.push(free);
        }
        assert_eq!(taken.len(), 2 + 29);
        assert!(matches!(free_subnet(&taken), Err(NetworkError::NoSubnet)));
        assert_eq!(local_subnet(&"ab".repeat(32)).to_string(), "fdab:abab:abab:abab::/64");
    }

    #[test]
    fn the_lowest_free_address_is_taken() {
        let plain = pool("10.0.0.0/29".parse().unwrap());
        let free =
            |pool: &Pool, taken: &[&str]| free_address(pool, &addresses(taken)).map(|one| one.to_string());
        assert_eq!(free(&plain, &[]).as_deref(), Some("10.0.0.2"));
        assert_eq!(free(&plain, &["10.0.0.2", "10.0.0.4"]).as_deref(), Some("10.0.0.3"));
        assert_eq!(free(&plain, &["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"]), None);
        let mut kept = plain.clone();
        kept.auxiliary.insert("router".into(), "10.0.0.2".parse().unwrap());
        kept.gateway = None;
        assert_eq!(free(&kept, &[]).as_deref(), Some("10.0.0.1"));
        assert_eq!(free(&kept, &["10.0.0.1"]).as_deref(), Some("10.0.0.3"));
        let ranged = Pool { range: Some("10.0.0.4/31".parse().unwrap()), ..plain.clone() };
        assert_eq!(free(&ranged, &["10.0.0.2", "10.0.0.4"]).as_deref(), Some("10.0.0.5"));
        assert_eq!(free(&ranged, &["10.0.0.2", "10.0.0.4", "10.0.0.5"]), None);
        for (subnet, first) in [
            ("10.0.0.0/31", Some("10.0.0.0")),
            ("10.0.0.0/32", Some("10.0.0.0")),
            ("fd00::/64", Some("fd00::2")),
        ] {
            let pool = Pool { gateway: nth(subnet.parse().unwrap(), 1), ..pool(subnet.parse().unwrap()) };
            assert_eq!(free(&pool, &[]).as_deref(), first, "{subnet}");
        }
        // A whole /24: exactly 253.
        let pool = pool("10.0.1.0/24".parse().unwrap());
        let mut taken = Vec::new();
        while let Some(address) = free_address(&pool, &taken) {
            taken.push(address);
        }
        assert_eq!((taken.len(), taken[252].to_string()), (253, "10.0.1.254".into()));
    }

    #[test]
    fn hardware_addresses_go_with_addresses() {
        assert_eq!(mac(Some("172.17.0.2".parse().unwrap())).to_string(), "02:42:ac:11:00:02");
        assert_eq!(mac(Some("fd00::1:2".parse().unwrap())).to_string(), "02:42:00:01:00:02");
    }
}
