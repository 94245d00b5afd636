//! Links, addresses and routes (rtnetlink(7)).

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::netlink::{
    Answer, CREATE, DUMP, EXCL, Messages, REPLACE, Socket, attributes, read_number, read_text,
};

const NEWLINK: u16 = 16;
const DELLINK: u16 = 17;
const GETLINK: u16 = 18;
const NEWADDR: u16 = 20;
const GETADDR: u16 = 22;
const NEWROUTE: u16 = 24;
const GETROUTE: u16 = 26;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
const INFO_SLAVE_KIND: u16 = 4;
const INFO_SLAVE_DATA: u16 = 5;
const BRIDGE_PORT_HAIRPIN: u16 = 4;
const BRIDGE_PORT_ISOLATED: u16 = 33;
const VETH_PEER: u16 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_FLAGS: u16 = 8;
/// Usable at once: nobody else can have an address that was given by us.
const NO_DAD: u32 = 2;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;

const UP: u32 = 1;
/// The main table, added by hand, for everywhere, to be reached by a gateway.
const MAIN: u8 = 254;
const STATIC: u8 = 4;
const UNIVERSE: u8 = 0;
const UNICAST: u8 = 1;

/// An address and how many of its bits are the network's.
pub type Prefix = (IpAddr, u8);

/// The fixed part of a message about a link.
fn link(index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut body = [0; 16];
    body[4..8].copy_from_slice(&index.to_ne_bytes());
    body[8..12].copy_from_slice(&flags.to_ne_bytes());
    body[12..].copy_from_slice(&change.to_ne_bytes());
    body
}

pub(super) fn family(address: IpAddr) -> u8 {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    family.to_le_bytes()[0]
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

pub(super) fn address_of(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        16 => Some(IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?)),
        _ => None,
    }
}

/// What is known of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) master: Option<u32>,
    pub(super) kind: String,
}

fn read_link(answer: &Answer) -> Option<Link> {
    let index = read_number(answer.payload.get(4..8)?)?;
    let mut found = Link { index, name: String::new(), master: None, kind: String::new() };
    for (kind, value) in attributes(answer.payload.get(16..)?) {
        match kind {
            IFLA_IFNAME => found.name = read_text(value),
            IFLA_MASTER => found.master = read_number(value),
            IFLA_LINKINFO => {
                let kind = attributes(value).find(|(kind, _)| *kind == INFO_KIND);
                found.kind = kind.map(|(_, value)| read_text(value)).unwrap_or_default();
            }
            _ => {}
        }
    }
    Some(found)
}

/// The link of this name.
pub(super) fn find(socket: &Socket, name: &str) -> io::Result<Option<Link>> {
    let mut messages = Messages::default();
    messages.begin(GETLINK, 0, &link(0, 0, 0));
    messages.text(IFLA_IFNAME, name);
    match socket.ask(&messages) {
        Ok(answers) => Ok(answers.iter().find_map(read_link)),
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
        Err(error) => Err(error),
    }
}

/// All links.
pub(super) fn all(socket: &Socket) -> io::Result<Vec<Link>> {
    let mut messages = Messages::default();
    messages.begin(GETLINK, DUMP, &link(0, 0, 0));
    Ok(socket.ask(&messages)?.iter().filter_map(read_link).collect())
}

/// Makes a bridge that is up. Left to itself it takes over the lowest address of its ports, which changes with every container, and
/// those that know the gateway by the old one lose it.
pub(super) fn add_bridge(socket: &Socket, name: &str, mac: [u8; 6], mtu: Option<u32>) -> io::Result<()> {
    let mut messages = Messages::default();
    messages.begin(NEWLINK, CREATE | EXCL, &link(0, UP, UP));
    messages.text(IFLA_IFNAME, name);
    messages.attribute(IFLA_ADDRESS, &mac);
    if let Some(mtu) = mtu {
        messages.number(IFLA_MTU, mtu);
    }
    let info = messages.nest(IFLA_LINKINFO);
    messages.text(INFO_KIND, "bridge");
    messages.end(info);
    socket.ask(&messages).map(drop)
}

/// A pair of virtual Ethernet devices: one here, up and in a bridge, one there.
#[derive(Debug)]
pub(super) struct Pair<'a> {
    pub(super) here: &'a str,
    pub(super) bridge: u32,
    pub(super) there: &'a str,
    pub(super) mac: [u8; 6],
    pub(super) mtu: Option<u32>,
    pub(super) hairpin: bool,
    pub(super) isolated: bool,
}

pub(super) fn add_pair(socket: &Socket, pair: &Pair<'_>, namespace: BorrowedFd<'_>) -> io::Result<()> {
    let mut messages = Messages::default();
    messages.begin(NEWLINK, CREATE | EXCL, &link(0, UP, UP));
    messages.text(IFLA_IFNAME, pair.here);
    messages.number(IFLA_MASTER, pair.bridge);
    if let Some(mtu) = pair.mtu {
        messages.number(IFLA_MTU, mtu);
    }
    let info = messages.nest(IFLA_LINKINFO);
    messages.text(INFO_KIND, "veth");
    let data = messages.nest(INFO_DATA);
    let peer = messages.nest(VETH_PEER);
    messages.raw(&link(0, 0, 0));
    messages.text(IFLA_IFNAME, pair.there);
    messages.attribute(IFLA_ADDRESS, &pair.mac);
    if let Some(mtu) = pair.mtu {
        messages.number(IFLA_MTU, mtu);
    }
    messages.attribute(IFLA_NET_NS_FD, &namespace.as_raw_fd().to_ne_bytes());
    messages.end(peer);
    messages.end(data);
    messages.end(info);
    if pair.hairpin {
        port_flag(&mut messages, pair.here, BRIDGE_PORT_HAIRPIN);
    }
    if pair.isolated {
        port_flag(&mut messages, pair.here, BRIDGE_PORT_ISOLATED);
    }
    socket.ask(&messages).map(drop)
}

/// Switches something on at a bridge's port. Hairpin lets the bridge send a frame back where it came from: where the firewall sees
/// bridged frames (`br_netfilter`), one that is for a published port of its own sender is never routed, only bridged.
fn port_flag(messages: &mut Messages, name: &str, flag: u16) {
    messages.begin(NEWLINK, 0, &link(0, 0, 0));
    messages.text(IFLA_IFNAME, name);
    let info = messages.nest(IFLA_LINKINFO);
    messages.text(INFO_SLAVE_KIND, "bridge");
    let data = messages.nest(INFO_SLAVE_DATA);
    messages.attribute(flag, &[1]);
    messages.end(data);
    messages.end(info);
}

/// Removes a link; one that is not there is no failure.
pub(super) fn remove(socket: &Socket, name: &str) -> io::Result<()> {
    let mut messages = Messages::default();
    messages.begin(DELLINK, 0, &link(0, 0, 0));
    messages.text(IFLA_IFNAME, name);
    match socket.ask(&messages) {
        Err(error) if error.raw_os_error() != Some(libc::ENODEV) => Err(error),
        _ => Ok(()),
    }
}

/// Takes a link out of its bridge; one that is not there is no failure.
pub(super) fn take_out(socket: &Socket, name: &str) -> io::Result<()> {
    let mut messages = Messages::default();
    messages.begin(NEWLINK, 0, &link(0, 0, 0));
    messages.text(IFLA_IFNAME, name);
    messages.number(IFLA_MASTER, 0);
    match socket.ask(&messages) {
        Err(error) if error.raw_os_error() != Some(libc::ENODEV) => Err(error),
        _ => Ok(()),
    }
}

/// Gives a link its addresses, brings it up, and adds default routes over it.
pub(super) fn configure(
    socket: &Socket,
    index: u32,
    addresses: &[Prefix],
    gateways: &[IpAddr],
) -> io::Result<()> {
    let mut messages = Messages::default();
    for &prefix in addresses {
        address(&mut messages, index, prefix);
    }
    messages.begin(NEWLINK, 0, &link(index, UP, UP));
    for gateway in gateways {
        messages.begin(NEWROUTE, CREATE | EXCL, &route(family(*gateway)));
        messages.attribute(RTA_GATEWAY, &octets(*gateway));
        messages.number(RTA_OIF, index);
    }
    socket.ask(&messages).map(drop)
}

/// Sends everything else over a link, in place of whatever did before.
pub(super) fn replace_routes(socket: &Socket, index: u32, gateways: &[IpAddr]) -> io::Result<()> {
    let mut messages = Messages::default();
    for gateway in gateways {
        messages.begin(NEWROUTE, CREATE | REPLACE, &route(family(*gateway)));
        messages.attribute(RTA_GATEWAY, &octets(*gateway));
        messages.number(RTA_OIF, index);
    }
    socket.ask(&messages).map(drop)
}

fn address(messages: &mut Messages, index: u32, (address, bits): Prefix) {
    let mut body = [family(address), bits, 0, UNIVERSE, 0, 0, 0, 0];
    body[4..].copy_from_slice(&index.to_ne_bytes());
    messages.begin(NEWADDR, CREATE | EXCL, &body);
    messages.attribute(IFA_LOCAL, &octets(address));
    messages.attribute(IFA_ADDRESS, &octets(address));
    if let IpAddr::V4(address) = address
        && bits < 31
    {
        let host = u32::MAX.checked_shr(bits.into()).unwrap_or(0);
        messages.attribute(IFA_BROADCAST, &(address.to_bits() | host).to_be_bytes());
    }
    messages.number(IFA_FLAGS, NO_DAD);
}

/// The host's own addresses.
pub(super) fn addresses(socket: &Socket) -> io::Result<Vec<IpAddr>> {
    let mut messages = Messages::default();
    messages.begin(GETADDR, DUMP, &[0; 8]);
    let read = |answer: &Answer| {
        let all: Vec<_> = attributes(answer.payload.get(8..)?).collect();
        // Of a link between two, the other end is the address, and this one the local.
        let of =
            |wanted| all.iter().find(|(kind, _)| *kind == wanted).and_then(|(_, value)| address_of(value));
        of(IFA_LOCAL).or_else(|| of(IFA_ADDRESS))
    };
    Ok(socket.ask(&messages)?.iter().filter_map(read).collect())
}

fn route(family: u8) -> [u8; 12] {
    [family, 0, 0, 0, MAIN, STATIC, UNIVERSE, UNICAST, 0, 0, 0, 0]
}

/// The destinations of the host's routes, without default ones, those of its own addresses, and those over these links.
pub(super) fn destinations(socket: &Socket, aside: &[u32]) -> io::Result<Vec<Prefix>> {
    let mut messages = Messages::default();
    messages.begin(GETROUTE, DUMP, &route(0)[..]);
    let read = |answer: &Answer| {
        let (bits, table) = (*answer.payload.get(1)?, *answer.payload.get(4)?);
        let find = |wanted| attributes(answer.payload.get(12..)?).find(|(kind, _)| *kind == wanted);
        let to = find(RTA_DST)?;
        let over = find(RTA_OIF).and_then(|(_, value)| read_number(value));
        let counts = table == MAIN && bits > 0 && !over.is_some_and(|link| aside.contains(&link));
        counts.then_some((address_of(to.1)?, bits))
    };
    Ok(socket.ask(&messages)?.iter().filter_map(read).collect())
}
