//! An engine's nftables table: one for each store, so that several on one host do not undo each other's.
//!
//! The table is a function of [`Rules`]: it is always replaced as a whole, in one batch that the kernel takes or refuses. So it
//! cannot drift, and whatever another program has done to it is undone by the next change. Whether anybody has changed anything
//! since is told by the kernel's generation number, which every change of any table increments; a batch names the generation
//! that it was made for. Nothing outside the table is ever written, and only [`obstacles`] reads there.
//!
//! Established connections live in the kernel's connection tracking, not here: they survive a replacement.
//!
//! Loopback addresses are left out of everything: packets to them never leave this host, and letting them through to
//! containers would need `route_localnet`, which opens the host's own loopback services to its neighbours.

mod encode;

use std::io;
use std::net::{IpAddr, SocketAddr};

use super::links::Prefix;
use super::netlink::{Socket, attributes, read_text};
use encode::{
    Batch, Chain, IPV4, IPV6, Meta, NARROW_2, NARROW_3, NARROW_5, NARROW_6, Part, Set, Step, Verdict, WIDE_1,
    WIDE_2, family, from, known, link, local, published,
};

const PREROUTING: u32 = 0;
const FORWARD: u32 = 2;
const OUTPUT: u32 = 3;
const POSTROUTING: u32 = 4;
const DESTINATION: i32 = -100;
const FILTER: i32 = 0;
const SOURCE: i32 = 100;

/// How traffic of one bridge is treated.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BridgeRules {
    /// The link.
    pub name: String,
    /// Its networks; what goes out from them gets the host's address.
    pub subnets: Vec<Prefix>,
    /// Nothing goes out or comes in.
    pub internal: bool,
    /// Containers on it may reach each other.
    pub icc: bool,
    /// Outgoing traffic gets the host's address.
    pub masquerade: bool,
}

/// A port of the host that leads to a container.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PortRule {
    /// The protocol's number: 6, 17, 132.
    pub protocol: u8,
    /// The host's address; unspecified: all of that version of IP.
    pub address: IpAddr,
    /// The host's port.
    pub port: u16,
    /// The container's address and port, of the same version of IP.
    pub target: SocketAddr,
}

/// Everything that the table says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Rules {
    /// All bridges.
    pub bridges: Vec<BridgeRules>,
    /// All published ports.
    pub ports: Vec<PortRule>,
}

/// The number of the present generation of all tables of this network namespace.
pub fn generation() -> io::Result<u32> {
    const ID: u16 = 1;
    let answers = Socket::netfilter()?.ask(&encode::ask_generation())?;
    let found = answers.iter().find_map(|answer| {
        let (_, value) = attributes(answer.payload.get(4..)?).find(|(kind, _)| *kind == ID)?;
        Some(u32::from_be_bytes(value.get(..4)?.try_into().ok()?))
    });
    found.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Replaces the table of this name, if the generation is still this one; without bridges and ports it is removed. The new
/// generation.
///
/// An error of kind `Interrupted` means that somebody else changed something meanwhile.
pub fn replace(table: &str, rules: &Rules, generation: u32) -> io::Result<u32> {
    let mut batch = Batch::begin(table, generation);
    batch.remove_table();
    if !rules.bridges.is_empty() || !rules.ports.is_empty() {
        batch.add_table();
        for set in sets(rules) {
            batch.add_set(&set);
        }
        for chain in chains(rules) {
            batch.add_chain(chain);
        }
    }
    match Socket::netfilter()?.ask(&batch.end()) {
        // Zero is left out when the count begins anew.
        Ok(_) => Ok(generation.wrapping_add(1).max(1)),
        // ERESTART, which has no meaning outside the kernel otherwise.
        Err(error) if error.raw_os_error() == Some(85) => Err(io::ErrorKind::Interrupted.into()),
        Err(error) => Err(error),
    }
}

/// Another's chain that sees everything this host passes on, and drops what none of its rules lets through: a verdict of our table
/// lets nothing past it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// The version of IP, as `nft` names it: `ip`, `ip6`, or `inet` for both.
    pub family: &'static str,
    /// Its table.
    pub table: String,
    /// Its name.
    pub chain: String,
}

/// All such chains but those of this table.
pub fn obstacles(own: &str) -> io::Result<Vec<Obstacle>> {
    let answers = Socket::netfilter()?.ask(&encode::ask_chains())?;
    Ok(answers.iter().filter_map(|answer| obstacle(&answer.payload)).filter(|one| one.table != own).collect())
}

fn obstacle(payload: &[u8]) -> Option<Obstacle> {
    const TABLE: u16 = 1;
    const NAME: u16 = 3;
    const HOOK: u16 = 4;
    const POLICY: u16 = 5;
    const DROP: u32 = 0;
    let family = match *payload.first()? {
        encode::INET => "inet",
        IPV4 => "ip",
        IPV6 => "ip6",
        _ => return None,
    };
    let of = |wanted| attributes(payload.get(4..)?).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    let number = |value: &[u8]| Some(u32::from_be_bytes(value.get(..4)?.try_into().ok()?));
    let (_, hook) = attributes(of(HOOK)?).find(|(kind, _)| *kind == 1)?;
    let stands = number(hook)? == FORWARD && number(of(POLICY)?)? == DROP;
    stands.then_some(Obstacle { family, table: read_text(of(TABLE)?), chain: read_text(of(NAME)?) })
}

/// The table of [`redirect`]; not [`TABLE`], which an engine within the namespace may have.
const REDIRECT_TABLE: &str = "umiak-names";

/// Leads what programs in this network namespace send to addresses and ports of its own to others of its own, loopback ones
/// included. Made once in a namespace of a container, and gone with it.
///
/// So that a server is found at a well-known port that programs in the namespace can still listen on.
pub fn redirect(ports: &[PortRule]) -> io::Result<()> {
    const KEY: &[Part] = &[Part::Ipv4, Part::Protocol, Part::Port];
    const VALUE: &[Part] = &[Part::Ipv4, Part::Port];
    let element = |port: &PortRule| {
        let key = [octets(port.address), padded(&[port.protocol]), padded(&port.port.to_be_bytes())];
        (key.concat(), [octets(port.target.ip()), padded(&port.target.port().to_be_bytes())].concat())
    };
    if let Some(port) = ports.iter().find(|port| !port.address.is_ipv4() || !port.target.is_ipv4()) {
        let why = format!("only IPv4 is redirected, and not {}", port.address);
        return Err(io::Error::new(io::ErrorKind::Unsupported, why));
    }
    let mut batch = Batch::begin(REDIRECT_TABLE, generation()?);
    batch.remove_table();
    batch.add_table();
    let elements = ports.iter().map(element).collect();
    batch.add_set(&Set { name: "addressed4", key: KEY, value: VALUE, elements });
    let rules = to_ports(&[], &[]).into_iter().take(1).collect();
    batch.add_chain(Chain { name: "output", kind: "nat", hook: OUTPUT, priority: DESTINATION, rules });
    Socket::netfilter()?.ask(&batch.end()).map(drop)
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// A small number at the beginning of its four bytes.
fn padded(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.resize(4, 0);
    bytes
}

fn sets(rules: &Rules) -> Vec<Set> {
    const V4: &[Part] = &[Part::Ipv4, Part::Port];
    const V6: &[Part] = &[Part::Ipv6, Part::Port];
    let links = |wanted: fn(&BridgeRules) -> bool| {
        rules.bridges.iter().filter(|b| wanted(b)).map(|b| (link(&b.name), Vec::new())).collect()
    };
    let pairs = |wanted: fn(&BridgeRules) -> bool| {
        let found = rules.bridges.iter().filter(|b| wanted(b));
        found.map(|b| ([link(&b.name), link(&b.name)].concat(), Vec::new())).collect()
    };
    let ports = |v4: bool, any: bool| {
        let wanted =
            rules.ports.iter().filter(|p| p.address.is_ipv4() == v4 && p.address.is_unspecified() == any);
        let element = |port: &PortRule| {
            let key = [padded(&[port.protocol]), padded(&port.port.to_be_bytes())].concat();
            let key = if any { key } else { [octets(port.address), key].concat() };
            (key, [octets(port.target.ip()), padded(&port.target.port().to_be_bytes())].concat())
        };
        // A loopback address is the proxy's.
        wanted.filter(|p| !p.address.is_loopback()).map(element).collect()
    };
    let set = |name, key, value, elements| Set { name, key, value, elements };
    vec![
        set("bridges", &[Part::Link], &[], links(|_| true)),
        set("internal", &[Part::Link], &[], links(|b| b.internal)),
        set("within", &[Part::Link, Part::Link], &[], pairs(|b| b.icc)),
        set("apart", &[Part::Link, Part::Link], &[], pairs(|b| !b.icc)),
        set("ports4", &[Part::Protocol, Part::Port], V4, ports(true, true)),
        set("ports6", &[Part::Protocol, Part::Port], V6, ports(false, true)),
        set("addressed4", &[Part::Ipv4, Part::Protocol, Part::Port], V4, ports(true, false)),
        set("addressed6", &[Part::Ipv6, Part::Protocol, Part::Port], V6, ports(false, false)),
    ]
}

fn chains(rules: &Rules) -> Vec<Chain> {
    vec![
        Chain {
            name: "prerouting",
            kind: "nat",
            hook: PREROUTING,
            priority: DESTINATION,
            rules: to_ports(&[], &[]),
        },
        Chain {
            name: "output",
            kind: "nat",
            hook: OUTPUT,
            priority: DESTINATION,
            rules: to_ports(&not_loopback(16, &[127], 1), &not_loopback(24, &loopback6(), 16)),
        },
        Chain { name: "forward", kind: "filter", hook: FORWARD, priority: FILTER, rules: forward() },
        Chain {
            name: "postrouting",
            kind: "nat",
            hook: POSTROUTING,
            priority: SOURCE,
            rules: rules.bridges.iter().flat_map(outgoing).collect(),
        },
    ]
}

fn loopback6() -> [u8; 16] {
    std::net::Ipv6Addr::LOCALHOST.octets()
}

/// Only destinations that are not loopback ones.
fn not_loopback(at: u32, prefix: &[u8], length: u32) -> Vec<Step> {
    vec![Step::Network(at, length, WIDE_1), Step::Unequal(prefix.to_vec())]
}

/// Sends what is for a published port to its container; the two conditions are for IPv4 and IPv6.
fn to_ports(only4: &[Step], only6: &[Step]) -> Vec<Vec<Step>> {
    let any = |protocol: u8, only: &[Step], map| {
        let keys = vec![Step::Meta(Meta::Protocol, WIDE_1), Step::Port(NARROW_2), Step::Map(map)];
        let port = if protocol == IPV4 { NARROW_2 } else { NARROW_5 };
        [family(protocol), local(), only.to_vec(), keys, vec![Step::Dnat(protocol, port)]].concat()
    };
    let addressed = |protocol: u8, only: &[Step], map| {
        let (keys, port) = if protocol == IPV4 {
            let keys =
                [Step::Network(16, 4, WIDE_1), Step::Meta(Meta::Protocol, NARROW_2), Step::Port(NARROW_3)];
            (keys, NARROW_2)
        } else {
            let keys =
                [Step::Network(24, 16, WIDE_1), Step::Meta(Meta::Protocol, NARROW_5), Step::Port(NARROW_6)];
            (keys, NARROW_5)
        };
        let map = vec![Step::Map(map), Step::Dnat(protocol, port)];
        [family(protocol), local(), only.to_vec(), keys.to_vec(), map].concat()
    };
    vec![
        addressed(IPV4, only4, "addressed4"),
        addressed(IPV6, only6, "addressed6"),
        any(IPV4, only4, "ports4"),
        any(IPV6, only6, "ports6"),
    ]
}

/// Who may send to whom, through this host.
fn forward() -> Vec<Vec<Step>> {
    use Verdict::{Accept, Drop};
    let rule = |conditions: &[Vec<Step>], verdict| {
        let mut steps = conditions.concat();
        steps.push(Step::Verdict(verdict));
        steps
    };
    let comes_from = |set| vec![Step::Meta(Meta::InName, WIDE_1), Step::Among(set, WIDE_1)];
    let goes_to = |set| vec![Step::Meta(Meta::OutName, WIDE_1), Step::Among(set, WIDE_1)];
    let both = |set| {
        vec![Step::Meta(Meta::InName, WIDE_1), Step::Meta(Meta::OutName, WIDE_2), Step::Among(set, WIDE_1)]
    };
    vec![
        rule(&[both("within")], Accept),
        // What was let through once comes back, and so do published ports, even where containers are kept apart.
        rule(&[both("apart"), known()], Accept),
        rule(&[both("apart"), published()], Accept),
        rule(&[both("apart")], Drop),
        rule(&[comes_from("internal")], Drop),
        rule(&[goes_to("internal")], Drop),
        rule(&[goes_to("bridges"), known()], Accept),
        rule(&[goes_to("bridges"), published()], Accept),
        // Neither another bridge nor anyone outside reaches what is not published.
        rule(&[goes_to("bridges")], Drop),
    ]
}

/// What leaves a bridge's networks gets the host's address, and so does what comes back to the same bridge through a
/// published port: the answer must take the same way.
fn outgoing(bridge: &BridgeRules) -> Vec<Vec<Step>> {
    if bridge.internal || !bridge.masquerade {
        return Vec::new();
    }
    let out = |step: Step| vec![Step::Meta(Meta::OutName, WIDE_1), step];
    let networks = bridge.subnets.iter().flat_map(|&(network, bits)| {
        let version = family(if network.is_ipv4() { IPV4 } else { IPV6 });
        let ours = [version, from(network, bits)].concat();
        let leaves = [ours.clone(), out(Step::Unequal(link(&bridge.name))), vec![Step::Masquerade]].concat();
        let returns =
            [ours, out(Step::Equal(link(&bridge.name))), published(), vec![Step::Masquerade]].concat();
        [leaves, returns]
    });
    networks.collect()
}
