//! What a guest may reach, and where it may listen.
//!
//! Nothing is allowed that is not named. A rule names addresses by number (one, or a network) or by name. A name is looked up when the
//! guest connects, so a rule `db:5432` follows the name; whoever answers for a name decides what it is. In a request of `wasi:http` the
//! name that the guest writes is compared with names, the number with numbers: a name that resolves into an allowed network
//! is not enough, since it may resolve to something else a moment later.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;

use ipnet::IpNet;
use wasmtime_wasi::sockets::SocketAddrUse;

/// What a run may do on the network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// Where it may connect and send to.
    pub connect: Vec<Target>,
    /// Ports it may listen on; UDP and TCP alike.
    pub listen: Listen,
}

/// Ports to listen on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Listen {
    /// None.
    #[default]
    Nothing,
    /// These.
    Ports(Vec<u16>),
    /// All: the network is the guest's own, or the host's by wish.
    Anything,
}

/// One rule of where to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    host: Host,
    ports: RangeInclusive<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    Any,
    Net(IpNet),
    Name(String),
}

/// Text that is no rule.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{text}` names no destination: {why}")]
pub struct TargetError {
    /// As given.
    pub text: String,
    /// What is wrong.
    pub why: &'static str,
}

impl Target {
    /// Everywhere.
    pub const ANYWHERE: Self = Self { host: Host::Any, ports: 0..=u16::MAX };

    fn allows_address(&self, address: SocketAddr) -> bool {
        let ip = address.ip().to_canonical();
        self.ports.contains(&address.port())
            && match &self.host {
                Host::Any => true,
                Host::Net(net) => net.contains(&ip),
                Host::Name(_) => false,
            }
    }

    fn name(&self, port: u16) -> Option<&str> {
        match &self.host {
            Host::Name(name) if self.ports.contains(&port) => Some(name),
            _ => None,
        }
    }
}

impl FromStr for Target {
    type Err = TargetError;

    /// `HOST[:PORT[-PORT]]`; the host is `*`, a name, an address, or a network as `10.0.0.0/8` or `[fd00::]/8`.
    fn from_str(text: &str) -> Result<Self, TargetError> {
        let fail = |why| TargetError { text: text.to_owned(), why };
        let (host, ports) = split(text).ok_or_else(|| fail("a bracket is not closed"))?;
        let ports = match ports {
            None => 0..=u16::MAX,
            Some(ports) => {
                let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
                let number =
                    |text: &str| text.parse::<u16>().map_err(|_| fail("a port is a number up to 65535"));
                number(first)?..=number(last)?
            }
        };
        if ports.is_empty() {
            return Err(fail("the range of ports is backwards"));
        }
        let host = if host == "*" {
            Host::Any
        } else if let Ok(net) = host.parse::<IpNet>() {
            Host::Net(net)
        } else if let Ok(address) = host.parse::<IpAddr>() {
            Host::Net(address.into())
        } else if is_name(&host) {
            Host::Name(host.to_ascii_lowercase())
        } else {
            return Err(fail("the host is `*`, a name, an address, or a network as 10.0.0.0/8"));
        };
        Ok(Self { host, ports })
    }
}

/// Host, and ports behind the last colon. Brackets around an address of version 6 are taken away.
fn split(text: &str) -> Option<(String, Option<&str>)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (address, rest) = rest.split_once(']')?;
        let (length, ports) =
            rest.split_once(':').map_or((rest, None), |(length, ports)| (length, Some(ports)));
        return Some((format!("{address}{length}"), ports));
    }
    Some(match text.rsplit_once(':') {
        // More than one colon: an address of version 6 alone.
        Some((host, _)) if host.contains(':') => (text.to_owned(), None),
        Some((host, ports)) => (host.to_owned(), Some(ports)),
        None => (text.to_owned(), None),
    })
}

fn is_name(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
    };
    text.len() <= 253 && text.strip_suffix('.').unwrap_or(text).split('.').all(label)
        // Digits alone are a mistyped address.
        && text.bytes().any(|b| b.is_ascii_alphabetic())
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Any => f.write_str("*")?,
            Host::Net(IpNet::V6(net)) => {
                write!(f, "[{}]", net.addr())?;
                if net.prefix_len() < 128 {
                    write!(f, "/{}", net.prefix_len())?;
                }
            }
            Host::Net(IpNet::V4(net)) if net.prefix_len() == 32 => write!(f, "{}", net.addr())?,
            Host::Net(net) => write!(f, "{net}")?,
            Host::Name(name) => f.write_str(name)?,
        }
        match (*self.ports.start(), *self.ports.end()) {
            (0, u16::MAX) => Ok(()),
            (first, last) if first == last => write!(f, ":{first}"),
            (first, last) => write!(f, ":{first}-{last}"),
        }
    }
}

impl Network {
    /// Everything that the host, or the network namespace, can do.
    pub fn everything() -> Self {
        Self { connect: vec![Target::ANYWHERE], listen: Listen::Anything }
    }

    /// Whether there is anything at all to do with sockets.
    pub fn any(&self) -> bool {
        !self.connect.is_empty() || self.listen != Listen::Nothing
    }

    /// Whether names may be looked up: only where a rule does not name a number.
    pub fn names(&self) -> bool {
        self.connect.iter().any(|target| !matches!(target.host, Host::Net(_)))
    }

    fn listens(&self, port: u16) -> bool {
        match &self.listen {
            Listen::Nothing => false,
            Listen::Ports(ports) => ports.contains(&port),
            Listen::Anything => true,
        }
    }

    async fn connects(&self, address: SocketAddr) -> bool {
        if self.connect.iter().any(|target| target.allows_address(address)) {
            return true;
        }
        for name in self.connect.iter().filter_map(|target| target.name(address.port())) {
            match tokio::net::lookup_host((name, address.port())).await {
                Ok(mut found) => {
                    if found.any(|found| found.ip().to_canonical() == address.ip().to_canonical()) {
                        return true;
                    }
                }
                Err(error) => tracing::warn!(%error, name, "looking up a host that may be connected to"),
            }
        }
        false
    }

    /// Whether a socket may do this.
    pub(crate) async fn permits(&self, address: SocketAddr, action: SocketAddrUse) -> bool {
        match action {
            // A port of the system's choice is bound before every connection.
            SocketAddrUse::TcpBind | SocketAddrUse::UdpBind => {
                (address.port() == 0 && self.any()) || self.listens(address.port())
            }
            SocketAddrUse::TcpListen => self.listens(address.port()),
            SocketAddrUse::TcpAccept => self.listen != Listen::Nothing,
            SocketAddrUse::TcpConnect | SocketAddrUse::UdpSend => {
                self.connects(address).await || self.answers(action)
            }
            SocketAddrUse::UdpReceive => self.listen != Listen::Nothing || self.connects(address).await,
        }
    }

    /// A server of datagrams answers whoever asked.
    fn answers(&self, action: SocketAddrUse) -> bool {
        matches!(action, SocketAddrUse::UdpSend) && self.listen != Listen::Nothing
    }

    /// Whether a request may go to this authority of a URL, as the guest wrote it.
    pub(crate) fn requests(&self, host: &str, port: u16) -> bool {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if let Ok(ip) = bare.parse::<IpAddr>() {
            return self.connect.iter().any(|target| target.allows_address(SocketAddr::new(ip, port)));
        }
        let host = host.strip_suffix('.').unwrap_or(host);
        self.connect.iter().any(|target| match &target.host {
            Host::Any => target.ports.contains(&port),
            Host::Net(_) => false,
            Host::Name(name) => {
                target.ports.contains(&port)
                    && name.strip_suffix('.').unwrap_or(name).eq_ignore_ascii_case(host)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(rules: &[&str]) -> Network {
        Network { connect: rules.iter().map(|rule| rule.parse().unwrap()).collect(), listen: Listen::Nothing }
    }

    #[test]
    fn rules_are_read_and_shown() {
        for (text, shown) in [
            ("*", "*"),
            ("*:443", "*:443"),
            ("Example.COM:80-90", "example.com:80-90"),
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("10.1.2.3:5", "10.1.2.3:5"),
            ("::1", "[::1]"),
            ("[::1]:80", "[::1]:80"),
            ("[fd00::]/8:53", "[fd00::]/8:53"),
            ("localhost", "localhost"),
        ] {
            assert_eq!(
                text.parse::<Target>().map(|target| target.to_string()),
                Ok(shown.to_owned()),
                "{text}"
            );
        }
        for bad in [
            "",
            ":80",
            "a:b",
            "a:70000",
            "a:9-8",
            "*.example.com",
            "[::1",
            "300.1.1.1",
            "-a",
            "a..b",
            "a/8",
            "10.0.0.0/33",
        ] {
            assert!(bad.parse::<Target>().is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn what_is_not_named_is_not_reached() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        for (rules, to, allowed) in [
            (&[][..], "127.0.0.1:80", false),
            (&["127.0.0.1:80"], "127.0.0.1:80", true),
            (&["127.0.0.1:80"], "127.0.0.1:81", false),
            (&["127.0.0.0/8"], "127.9.9.9:1", true),
            (&["127.0.0.0/8"], "128.0.0.1:1", false),
            (&["127.0.0.1:80"], "[::ffff:127.0.0.1]:80", true),
            (&["localhost:80"], "127.0.0.1:80", true),
            (&["localhost:80"], "127.0.0.1:81", false),
            (&["*:1-2"], "[::1]:2", true),
        ] {
            let network = network(rules);
            assert_eq!(
                network.permits(address(to), SocketAddrUse::TcpConnect).await,
                allowed,
                "{rules:?} {to}"
            );
            assert!(!network.permits(address("0.0.0.0:80"), SocketAddrUse::TcpListen).await);
        }
    }

    #[tokio::test]
    async fn only_named_ports_are_listened_on() {
        let network = Network { connect: Vec::new(), listen: Listen::Ports(vec![80]) };
        let at = |port| SocketAddr::from(([0, 0, 0, 0], port));
        assert!(network.permits(at(80), SocketAddrUse::TcpBind).await);
        assert!(network.permits(at(80), SocketAddrUse::TcpListen).await);
        assert!(!network.permits(at(81), SocketAddrUse::TcpBind).await);
        assert!(!network.permits(at(80), SocketAddrUse::TcpConnect).await);
    }

    #[test]
    fn requests_are_compared_as_they_are_written() {
        for (rules, host, port, allowed) in [
            (&["example.com:443"][..], "EXAMPLE.com", 443, true),
            (&["example.com"], "example.com.", 1, true),
            (&["example.com"], "example.com.evil", 1, false),
            (&["127.0.0.0/8"], "localhost", 80, false),
            (&["127.0.0.0/8"], "127.0.0.1", 80, true),
            (&["[::1]:80"], "[::1]", 80, true),
            (&["*:80"], "anything", 80, true),
            (&["*:80"], "anything", 81, false),
        ] {
            assert_eq!(network(rules).requests(host, port), allowed, "{rules:?} {host}");
        }
        assert!(network(&["a"]).names() && network(&["*"]).names() && !network(&["10.0.0.0/8"]).names());
    }
}
