//! Ports in docker's words: `0.0.0.0:8080->80/tcp`.

use std::net::{IpAddr, SocketAddr};

use crate::model::{Protocol, PublishedPort};

/// The container's side: `80/tcp`.
pub fn inner(port: &PublishedPort) -> String {
    format!("{}/{}", port.container, port.protocol.name())
}

/// The host's side: `0.0.0.0:8080`, `[::]:8080`.
pub fn outer(port: &PublishedPort) -> String {
    SocketAddr::new(port.address, port.host).to_string()
}

/// Consecutive ports of one kind.
struct Run {
    address: Option<IpAddr>,
    protocol: Protocol,
    /// The container's.
    inner: (u16, u16),
    /// The host's; 0 where it is not published.
    outer: (u16, u16),
}

impl Run {
    fn text(&self) -> String {
        let range = |(first, last): (u16, u16)| {
            if first == last { first.to_string() } else { format!("{first}-{last}") }
        };
        let inner = format!("{}/{}", range(self.inner), self.protocol.name());
        match self.address {
            None => inner,
            Some(IpAddr::V6(address)) => format!("[{address}]:{}->{inner}", range(self.outer)),
            Some(address) => format!("{address}:{}->{inner}", range(self.outer)),
        }
    }
}

/// The column of `ps`: what is published, and what is only exposed; consecutive ports as ranges.
pub fn column(exposed: &[String], published: &[PublishedPort]) -> String {
    let mut all: Vec<(Protocol, Option<IpAddr>, u16, u16)> =
        published.iter().map(|port| (port.protocol, Some(port.address), port.container, port.host)).collect();
    for text in exposed {
        let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let (Ok(port), Some(protocol)) = (port.parse(), Protocol::parse(protocol)) else { continue };
        if !published.iter().any(|one| one.container == port && one.protocol == protocol) {
            all.push((protocol, None, port, 0));
        }
    }
    // Published ones first; of one port the addresses in order.
    all.sort_by_key(|&(protocol, address, inner, outer)| {
        (address.is_none(), address, protocol, inner, outer)
    });
    let mut runs: Vec<Run> = Vec::new();
    for (protocol, address, inner, outer) in all {
        if let Some(last) = runs.last_mut() {
            let next = last.inner.1.checked_add(1) == Some(inner)
                && (address.is_none() || last.outer.1.checked_add(1) == Some(outer));
            if next && last.address == address && last.protocol == protocol {
                (last.inner.1, last.outer.1) = (inner, outer);
                continue;
            }
        }
        runs.push(Run { address, protocol, inner: (inner, inner), outer: (outer, outer) });
    }
    runs.iter().map(Run::text).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_shown_as_docker_shows_them() {
        let port = |address: &str, host, container| PublishedPort {
            container,
            protocol: Protocol::Tcp,
            address: address.parse().unwrap(),
            host,
        };
        let exposed = ["443/tcp", "80/tcp", "53/udp", "444/tcp", "nonsense"].map(str::to_owned);
        let both = [port("0.0.0.0", 8080, 80), port("::", 8080, 80)];
        for (exposed, published, shown) in [
            (&exposed[..], &both[..], "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp, 443-444/tcp, 53/udp"),
            (&[], &[port("127.0.0.1", 1, 80), port("127.0.0.1", 2, 81)], "127.0.0.1:1-2->80-81/tcp"),
            (
                &[],
                &[port("127.0.0.1", 1, 80), port("127.0.0.1", 3, 81)],
                "127.0.0.1:1->80/tcp, 127.0.0.1:3->81/tcp",
            ),
            (&[], &[], ""),
        ] {
            assert_eq!(column(exposed, published), shown);
        }
        assert_eq!((inner(&both[1]), outer(&both[1])), ("80/tcp".into(), "[::]:8080".into()));
    }
}
