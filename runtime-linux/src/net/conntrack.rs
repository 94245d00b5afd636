//! What the kernel remembers of exchanges over UDP (connection tracking, over netlink).

use std::io;
use std::net::{IpAddr, SocketAddr};

use super::links::address_of;
use super::netlink::{Answer, DUMP, Messages, Socket, attributes};

const GET: u16 = (1 << 8) | 1;
const DELETE: u16 = (1 << 8) | 2;

const TUPLE_ORIG: u16 = 1;
const ID: u16 = 12;
const ZONE: u16 = 18;
const FILTER: u16 = 25;
const FILTER_ORIG_FLAGS: u16 = 1;
const FILTER_REPLY_FLAGS: u16 = 2;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTO: u16 = 2;
const V4_DST: u16 = 2;
const V6_DST: u16 = 4;
const PROTO_NUM: u16 = 1;
const PROTO_DST_PORT: u16 = 3;
/// Which fields of a filter count: the protocol and the port that was asked for.
const BY_PORT: u32 = (1 << 3) | (1 << 5);

const UDP: u8 = 17;

/// Forgets the exchanges that began with a packet for one of these ports; `own` are the host's addresses.
pub(super) fn forget(ports: &[SocketAddr], own: &[IpAddr]) -> io::Result<usize> {
    if ports.is_empty() {
        return Ok(0);
    }
    let socket = Socket::conntrack()?;
    let mut found = Vec::new();
    let mut asked: Vec<_> = ports.iter().map(|port| (port.is_ipv4(), port.port())).collect();
    asked.sort_unstable();
    asked.dedup();
    for (v4, port) in asked {
        found.extend(exchanges(&socket, v4, port)?.into_iter().filter(|one| one.is_for(ports, own)));
    }
    for exchange in &found {
        let mut messages = Messages::default();
        messages.begin(DELETE, 0, &head(exchange.to.is_ipv4()));
        for (kind, value) in &exchange.key {
            if *kind == TUPLE_ORIG {
                let nest = messages.nest(*kind);
                messages.raw(value);
                messages.end(nest);
            } else {
                messages.attribute(*kind, value);
            }
        }
        match socket.ask(&messages) {
            // It has just ended by itself.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            outcome => drop(outcome?),
        }
    }
    Ok(found.len())
}

/// The fixed part of a message: the version of IP.
fn head(v4: bool) -> [u8; 4] {
    let family = if v4 { libc::AF_INET } else { libc::AF_INET6 };
    [family.to_le_bytes()[0], 0, 0, 0]
}

/// An exchange that is remembered.
#[derive(Debug, PartialEq, Eq)]
struct Exchange {
    /// Where its first packet was sent.
    to: SocketAddr,
    /// What the kernel knows it by.
    key: Vec<(u16, Vec<u8>)>,
}

impl Exchange {
    fn read(answer: &Answer) -> Option<Self> {
        let all = || answer.payload.get(4..).map(attributes);
        let (_, tuple) = all()?.find(|(kind, _)| *kind == TUPLE_ORIG)?;
        let of_tuple = |wanted| attributes(tuple).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
        let (ip, protocol) = (of_tuple(TUPLE_IP)?, of_tuple(TUPLE_PROTO)?);
        let (_, address) = attributes(ip).find(|(kind, _)| matches!(*kind, V4_DST | V6_DST))?;
        let field = |wanted| attributes(protocol).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
        if field(PROTO_NUM)?.first() != Some(&UDP) {
            return None;
        }
        let port = u16::from_be_bytes(field(PROTO_DST_PORT)?.get(..2)?.try_into().ok()?);
        let key = all()?.filter(|(kind, _)| matches!(*kind, TUPLE_ORIG | ID | ZONE));
        Some(Self {
            to: SocketAddr::new(address_of(address)?, port),
            key: key.map(|(kind, value)| (kind, value.to_vec())).collect(),
        })
    }

    /// Whether it is for one of these ports. An exchange of the host's with somebody else's port of the same number is not.
    fn is_for(&self, ports: &[SocketAddr], own: &[IpAddr]) -> bool {
        ports.iter().any(|port| {
            let addressed = if port.ip().is_unspecified() {
                port.is_ipv4() == self.to.is_ipv4() && own.contains(&self.to.ip())
            } else {
                port.ip() == self.to.ip()
            };
            addressed && port.port() == self.to.port()
        })
    }
}

/// The exchanges with any host's port of this number. A kernel before 5.8 tells all that it knows; whoever asks looks at each.
fn exchanges(socket: &Socket, v4: bool, port: u16) -> io::Result<Vec<Exchange>> {
    let mut messages = Messages::default();
    messages.begin(GET, DUMP, &head(v4));
    let tuple = messages.nest(TUPLE_ORIG);
    let protocol = messages.nest(TUPLE_PROTO);
    messages.attribute(PROTO_NUM, &[UDP]);
    messages.attribute(PROTO_DST_PORT, &port.to_be_bytes());
    messages.end(protocol);
    messages.end(tuple);
    let filter = messages.nest(FILTER);
    messages.number(FILTER_ORIG_FLAGS, BY_PORT);
    messages.number(FILTER_REPLY_FLAGS, 0);
    messages.end(filter);
    Ok(socket.ask(&messages)?.iter().filter_map(Exchange::read).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_exchanges_with_the_hosts_own_ports_are_meant() {
        let exchange = |to: &str| Exchange { to: to.parse().unwrap(), key: Vec::new() };
        let ports =
            ["0.0.0.0:53".parse().unwrap(), "192.0.2.7:99".parse().unwrap(), "[::]:77".parse().unwrap()];
        let own = ["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        for (to, meant) in [
            ("192.0.2.1:53", true),
            ("192.0.2.9:53", false),
            ("192.0.2.1:54", false),
            ("192.0.2.7:99", true),
            ("192.0.2.1:99", false),
            ("[2001:db8::1]:77", true),
            ("[2001:db8::1]:53", false),
            ("192.0.2.1:77", false),
        ] {
            assert_eq!(exchange(to).is_for(&ports, &own), meant, "{to}");
        }
    }

    #[test]
    fn what_the_kernel_tells_is_read() {
        let mut messages = Messages::default();
        messages.begin(0, 0, &head(true));
        let tuple = messages.nest(TUPLE_ORIG);
        let ip = messages.nest(TUPLE_IP);
        messages.attribute(1, &[192, 0, 2, 9]);
        messages.attribute(V4_DST, &[192, 0, 2, 1]);
        messages.end(ip);
        let protocol = messages.nest(TUPLE_PROTO);
        messages.attribute(PROTO_NUM, &[UDP]);
        messages.attribute(2, &5555_u16.to_be_bytes());
        messages.attribute(PROTO_DST_PORT, &53_u16.to_be_bytes());
        messages.end(protocol);
        messages.end(tuple);
        messages.number(3, 8);
        messages.big(ID, 77);
        let payload = messages.payload().to_vec();
        let read = Exchange::read(&Answer { payload: payload.clone() }).unwrap();
        assert_eq!(read.to, "192.0.2.1:53".parse().unwrap());
        assert_eq!(read.key.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), [TUPLE_ORIG, ID]);
        assert_eq!(read.key[1].1, [0, 0, 0, 77]);
        // A message that was cut off is none.
        for end in 0..payload.len() - 20 {
            assert_eq!(Exchange::read(&Answer { payload: payload[..end].to_vec() }), None, "{end}");
        }
    }
}
