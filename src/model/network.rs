//! Networks, what a container asks of them, and what it gets: docker's words for all of it.
//!
//! A [`Network`] is a record of the store. What a container wants of one is [`EndpointSettings`]; what connects the two is an
//! [`Endpoint`], which has addresses while the container is up and none before and after. A port of the host that was asked for
//! is a [`PortBinding`]; one that leads to a container is a [`PublishedPort`].

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Timestamp;

/// The name of the network that containers are on unless they say otherwise.
pub const DEFAULT_NETWORK: &str = "bridge";

/// What makes a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkDriver {
    /// A switch of this host's.
    Bridge,
    /// The host's own network.
    Host,
    /// None.
    Null,
}

impl NetworkDriver {
    /// Docker's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Host => "host",
            Self::Null => "null",
        }
    }
}

/// A network as the metadata database keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Unique in the store.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
    /// What makes it.
    pub driver: NetworkDriver,
    /// Nothing goes out of it or comes in.
    #[serde(default)]
    pub internal: bool,
    /// Shown in `inspect`, as with docker; every network of one host can be joined by hand.
    #[serde(default)]
    pub attachable: bool,
    /// Containers get IPv4 addresses.
    #[serde(default)]
    pub ipv4: bool,
    /// Containers get IPv6 addresses.
    #[serde(default)]
    pub ipv6: bool,
    /// The user's labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// `-o`, as given.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// `--ipam-opt`, as given.
    #[serde(default)]
    pub ipam_options: BTreeMap<String, String>,
    /// Where addresses come from: one of each version of IP at the most.
    #[serde(default)]
    pub pools: Vec<Pool>,
    /// The user named the IPv4 subnet: containers may ask for addresses.
    #[serde(default)]
    pub chosen_by_user: bool,
}

impl Network {
    /// Whether it is one of the three that are always there.
    pub fn is_predefined(&self) -> bool {
        matches!(self.name.as_str(), DEFAULT_NETWORK | "host" | "none")
    }

    /// The pool of one version of IP.
    pub fn pool(&self, ipv6: bool) -> Option<&Pool> {
        self.pools.iter().find(|pool| pool.subnet.address.is_ipv6() == ipv6)
    }

    /// A switch among the options, by its last word: `enable_icc`.
    pub fn switch(&self, option: &str, default: bool) -> bool {
        match self.options.get(option).map(String::as_str) {
            Some("true" | "1" | "t" | "T" | "TRUE" | "True") => true,
            Some(_) => false,
            None => default,
        }
    }
}

/// A range of addresses for containers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// The network.
    pub subnet: Subnet,
    /// The host's address on it; `None` on an internal network that was made without.
    pub gateway: Option<IpAddr>,
    /// The part that containers get addresses from.
    #[serde(default)]
    pub range: Option<Subnet>,
    /// Addresses that containers never get, by name.
    #[serde(default)]
    pub auxiliary: BTreeMap<String, IpAddr>,
}

/// A network address with the number of bits that are the network's; the others are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subnet {
    /// The first address.
    pub address: IpAddr,
    /// The network's bits.
    pub bits: u8,
}

/// A text that is no subnet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid CIDR address: {text}")]
pub struct SubnetError {
    text: String,
}

impl Subnet {
    /// The network that an address with so many bits belongs to.
    pub fn of(address: IpAddr, bits: u8) -> Self {
        let address = match address {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(bits.min(32))).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(bits.min(128))).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
            }
        };
        Self { address, bits }
    }

    /// Whether an address is in it.
    pub fn contains(self, address: IpAddr) -> bool {
        address.is_ipv4() == self.address.is_ipv4() && Self::of(address, self.bits) == self
    }

    /// Whether the two have an address in common.
    pub fn overlaps(self, other: Self) -> bool {
        if self.bits <= other.bits { self.contains(other.address) } else { other.contains(self.address) }
    }

    /// Whether all of the other is in it.
    pub fn covers(self, other: Self) -> bool {
        self.bits <= other.bits && self.contains(other.address)
    }

    /// How many bits tell its addresses apart.
    pub fn host_bits(self) -> u8 {
        (if self.address.is_ipv4() { 32 } else { 128 }) - self.bits
    }
}

impl FromStr for Subnet {
    type Err = SubnetError;
    fn from_str(text: &str) -> Result<Self, SubnetError> {
        let parse = || {
            let (address, bits) = text.split_once('/')?;
            let address: IpAddr = address.parse().ok()?;
            let most = if address.is_ipv4() { 32 } else { 128 };
            let plain = !bits.is_empty() && bits.bytes().all(|byte| byte.is_ascii_digit());
            let bits = bits.parse().ok().filter(|bits: &u8| plain && *bits <= most)?;
            Some(Self::of(address, bits))
        };
        parse().ok_or_else(|| SubnetError { text: text.to_owned() })
    }
}

impl TryFrom<String> for Subnet {
    type Error = SubnetError;
    fn try_from(text: String) -> Result<Self, SubnetError> {
        text.parse()
    }
}

impl From<Subnet> for String {
    fn from(subnet: Subnet) -> Self {
        subnet.to_string()
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

/// A hardware address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddress(pub [u8; 6]);

/// A text that is no hardware address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid MAC address: address {text}: invalid MAC address")]
pub struct MacError {
    text: String,
}

impl FromStr for MacAddress {
    type Err = MacError;
    fn from_str(text: &str) -> Result<Self, MacError> {
        let parse = || {
            let separator = if text.contains('-') { '-' } else { ':' };
            let parts: Vec<_> = text.split(separator).collect();
            let byte = |part: &&str| {
                let plain = part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
                u8::from_str_radix(part, 16).ok().filter(|_| plain)
            };
            let bytes: Vec<u8> = parts.iter().map(byte).collect::<Option<_>>()?;
            Some(Self(bytes.try_into().ok()?))
        };
        parse().ok_or_else(|| MacError { text: text.to_owned() })
    }
}

impl TryFrom<String> for MacAddress {
    type Error = MacError;
    fn try_from(text: String) -> Result<Self, MacError> {
        text.parse()
    }
}

impl From<MacAddress> for String {
    fn from(mac: MacAddress) -> Self {
        mac.to_string()
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.map(|byte| format!("{byte:02x}")).join(":"))
    }
}

/// What a container asks of one network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointSettings {
    /// The network's name; as typed, until the engine replaces it when the container is made.
    pub network: String,
    /// Names beside the container's own, on this network.
    pub aliases: Vec<String>,
    /// Other containers by names of this container's choice.
    pub links: Vec<Link>,
    /// `--ip`.
    pub ipv4: Option<Ipv4Addr>,
    /// `--ip6`.
    pub ipv6: Option<Ipv6Addr>,
    /// `--mac-address`.
    pub mac: Option<MacAddress>,
    /// `--link-local-ip`.
    pub link_local: Vec<IpAddr>,
    /// `driver-opt=…`.
    pub driver_options: BTreeMap<String, String>,
    /// `gw-priority=…`: of several networks the one with the highest has the default route.
    pub gateway_priority: i64,
}

/// `--link container:alias`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The other container; as typed.
    pub container: String,
    /// What it is called here.
    pub alias: String,
}

/// A container's connection with a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// 64 hexadecimal digits.
    pub id: String,
    /// The network's id.
    pub network: String,
    /// The container's id, 64 digits.
    pub container: String,
    /// What was asked for.
    pub settings: EndpointSettings,
    /// Its place among the container's connections: the first is made first.
    pub position: u32,
    /// What it has while the container is up.
    pub lease: Option<Lease>,
}

/// The addresses that a container has on a network while it is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Its address.
    pub ipv4: Option<Ipv4Addr>,
    /// Its address.
    pub ipv6: Option<Ipv6Addr>,
    /// Its hardware address.
    pub mac: MacAddress,
    /// The number of its device: 0 is `eth0`.
    pub interface: u8,
}

/// What is carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// Its name in port specifications.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }

    /// Its number in IP headers.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    /// The protocol of this name, in any spelling.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Tcp, Self::Udp, Self::Sctp].into_iter().find(|one| one.name().eq_ignore_ascii_case(name))
    }
}

/// One `-p` for one port of the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortBinding {
    /// The container's port.
    pub container: u16,
    /// What it carries.
    pub protocol: Protocol,
    /// The host's address; `None`: all of both versions of IP.
    pub address: Option<IpAddr>,
    /// The host's port, or a range of which one is taken; `None`: any.
    pub host: Option<(u16, u16)>,
}

/// A port of the host that leads to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PublishedPort {
    /// The container's port.
    pub container: u16,
    /// What it carries.
    pub protocol: Protocol,
    /// The host's address; unspecified: all of that version of IP.
    pub address: IpAddr,
    /// The host's port.
    pub host: u16,
}

impl PublishedPort {
    /// Whether the two cannot both be: same protocol and port, and one address in common.
    pub fn clashes(&self, other: &Self) -> bool {
        let all = self.address.is_unspecified() || other.address.is_unspecified();
        self.protocol == other.protocol
            && self.host == other.host
            && self.address.is_ipv4() == other.address.is_ipv4()
            && (self.address == other.address || all)
    }
}

/// `--add-host name:address`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtraHost {
    /// The name.
    pub name: String,
    /// Its address; `None` is `host-gateway`: the host's address as the container reaches it.
    pub address: Option<IpAddr>,
}

impl fmt::Display for ExtraHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => write!(f, "{}:{address}", self.name),
            None => write!(f, "{}:host-gateway", self.name),
        }
    }
}

/// A name that no network can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid network name {name:?}: only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed")]
pub struct NetworkNameError {
    name: String,
}

/// Checks a network's name: docker's rule.
pub fn check_network_name(name: &str) -> Result<(), NetworkNameError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let sound = name.len() <= 255
        && name.bytes().all(plain)
        && name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    if sound { Ok(()) } else { Err(NetworkNameError { name: name.to_owned() }) }
}

#[cfg(test)]
mod tests {
    use super::Protocol::{Tcp, Udp};
    use super::*;

    fn subnet(text: &str) -> Subnet {
        text.parse().unwrap()
    }

    #[test]
    fn subnets_are_read_cut_and_compared() {
        assert_eq!(subnet("10.1.2.3/8").to_string(), "10.0.0.0/8");
        assert_eq!(subnet("fd00::5/64").to_string(), "fd00::/64");
        assert_eq!(subnet("0.0.0.0/0").host_bits(), 32);
        for bad in ["", "10.0.0.0", "10.0.0.0/33", "10.0.0/8", "::/129", "10.0.0.0/+8", "10.0.0.0/", "a/8"] {
            let error = bad.parse::<Subnet>().unwrap_err();
            assert_eq!(error.to_string(), format!("invalid CIDR address: {bad}"));
        }
        for (a, b, overlap, covers) in [
            ("10.0.0.0/8", "10.1.0.0/16", true, true),
            ("10.1.0.0/16", "10.0.0.0/8", true, false),
            ("10.0.0.0/24", "10.0.1.0/24", false, false),
            ("10.0.0.0/24", "fd00::/8", false, false),
            ("0.0.0.0/0", "192.0.2.1/32", true, true),
        ] {
            assert_eq!(
                (subnet(a).overlaps(subnet(b)), subnet(a).covers(subnet(b))),
                (overlap, covers),
                "{a} {b}"
            );
            assert_eq!(subnet(b).overlaps(subnet(a)), overlap);
        }
        assert!(subnet("10.0.0.0/24").contains("10.0.0.255".parse().unwrap()));
        assert!(!subnet("10.0.0.0/24").contains("10.0.1.0".parse().unwrap()));
    }

    #[test]
    fn hardware_addresses() {
        let mac: MacAddress = "02:42:aC-11-00-02".replace('-', ":").parse().unwrap();
        assert_eq!(mac.to_string(), "02:42:ac:11:00:02");
        for bad in [
            "",
            "02:42",
            "02:42:ac:11:00:0",
            "02:42:ac:11:00:02:03",
            "zz:42:ac:11:00:02",
            "+2:42:ac:11:00:02",
        ] {
            assert!(bad.parse::<MacAddress>().is_err(), "{bad}");
        }
    }

    #[test]
    fn ports_clash_where_they_share_an_address() {
        let port = |address: &str, host, protocol| PublishedPort {
            container: 80,
            protocol,
            address: address.parse().unwrap(),
            host,
        };
        for (a, b, clash) in [
            (port("0.0.0.0", 80, Tcp), port("127.0.0.1", 80, Tcp), true),
            (port("127.0.0.1", 80, Tcp), port("127.0.0.2", 80, Tcp), false),
            (port("127.0.0.1", 80, Tcp), port("127.0.0.1", 80, Tcp), true),
            (port("0.0.0.0", 80, Tcp), port("::", 80, Tcp), false),
            (port("0.0.0.0", 80, Tcp), port("0.0.0.0", 80, Udp), false),
            (port("0.0.0.0", 80, Tcp), port("0.0.0.0", 81, Tcp), false),
        ] {
            assert_eq!((a.clashes(&b), b.clashes(&a)), (clash, clash), "{a:?} {b:?}");
        }
    }

    #[test]
    fn names_are_plain() {
        for good in ["a", "my-net_1.x", "0"] {
            check_network_name(good).unwrap();
        }
        for bad in ["", "-a", ".a", "a b", "a/b", "é", "a\0"] {
            assert!(check_network_name(bad).is_err(), "{bad}");
        }
    }
}
