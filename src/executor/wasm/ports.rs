//! Published ports of a server: sockets of the host that listen before the program begins.
//!
//! They are this process's own, on every system the same: there is no network of the container's to forward into.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use super::grants::carries_http;
use crate::executor::ExecError;
use crate::model::{ErrorKind, PortBinding, PublishedPort};

/// What is to listen for a server.
#[derive(Debug)]
pub(super) enum Listeners {
    /// Ports to be bound, if it is one.
    Wanted(Vec<PortBinding>),
    /// It serves nobody: a program beside the first.
    Nothing,
}

/// Where a server of HTTP is looked for when nothing says otherwise.
const HTTP: u16 = 80;

/// A port that cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("failed to bind host port {address}:{ports}/tcp")]
struct PortError {
    address: String,
    ports: String,
    source: io::Error,
}

/// Binds every port, and tells which they are.
pub(super) fn bind(ports: &[PortBinding]) -> Result<(Vec<TcpListener>, Vec<PublishedPort>), ExecError> {
    let (mut listeners, mut published) = (Vec::new(), Vec::new());
    for port in ports.iter().filter(|port| carries_http(port.protocol)) {
        let (first, last) = port.host.unwrap_or((0, 0));
        let mut outcome = Err(io::Error::from(io::ErrorKind::AddrNotAvailable));
        for number in first..=last {
            outcome = at(port.address, number);
            if outcome.is_ok() {
                break;
            }
        }
        let error = match outcome {
            Ok(bound) => {
                published.extend(bound.iter().flat_map(|listener| addresses(listener, port)));
                listeners.extend(bound);
                continue;
            }
            Err(error) => error,
        };
        let kind = match error.kind() {
            io::ErrorKind::AddrInUse => ErrorKind::Conflict,
            io::ErrorKind::PermissionDenied => ErrorKind::Forbidden,
            _ => ErrorKind::Unavailable,
        };
        let address = port.address.map_or_else(|| "0.0.0.0".to_owned(), |address| address.to_string());
        let ports = if first == last { first.to_string() } else { format!("{first}-{last}") };
        return Err(ExecError::failed(
            kind,
            "publishing a port",
            PortError { address, ports, source: error },
        ));
    }
    Ok((listeners, published))
}

/// Where a socket hears: one of version 6 that is bound to no address hears version 4 as well.
fn addresses(listener: &TcpListener, port: &PortBinding) -> Vec<PublishedPort> {
    let Ok(local) = listener.local_addr() else { return Vec::new() };
    let at = |address| PublishedPort {
        container: port.container,
        protocol: port.protocol,
        address,
        host: local.port(),
    };
    let any = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    let both = port.address.is_none() && local.is_ipv6() && !cfg!(windows);
    if both { any.map(at).to_vec() } else { vec![at(local.ip())] }
}

/// Listens on the container's own ports, in its own network: those that are published, or the usual one of a server.
pub(super) fn inside(ports: &[PortBinding]) -> Result<Vec<TcpListener>, ExecError> {
    let published = ports.iter().filter(|port| carries_http(port.protocol)).map(|port| port.container);
    let mut numbers: Vec<u16> = published.collect();
    numbers.sort_unstable();
    numbers.dedup();
    if numbers.is_empty() {
        numbers.push(HTTP);
    }
    let mut listeners = Vec::new();
    for number in numbers {
        let bound = at(None, number).map_err(|source| {
            let error = PortError { address: "0.0.0.0".to_owned(), ports: number.to_string(), source };
            ExecError::failed(ErrorKind::Unavailable, "listening in the container's network", error)
        })?;
        listeners.extend(bound);
    }
    Ok(listeners)
}

/// Listens on one port, of an address or of all addresses of both versions of IP.
fn at(address: Option<IpAddr>, port: u16) -> io::Result<Vec<TcpListener>> {
    let on = |ip: IpAddr| TcpListener::bind(SocketAddr::new(ip, port));
    if let Some(address) = address {
        return Ok(vec![on(address)?]);
    }
    let (four, six) = (IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    if cfg!(windows) {
        // A socket of one version hears that version alone there.
        let listener = on(four)?;
        let port = listener.local_addr()?.port();
        return Ok(TcpListener::bind(SocketAddr::new(six, port)).into_iter().chain([listener]).collect());
    }
    match on(six) {
        Ok(listener) => Ok(vec![listener]),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(error),
        // A host without version 6.
        Err(_) => Ok(vec![on(four)?]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Protocol;

    #[test]
    fn a_port_in_use_is_named_and_a_range_takes_another() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let binding = |first, last| PortBinding {
            container: 80,
            protocol: Protocol::Tcp,
            address: Some(Ipv4Addr::LOCALHOST.into()),
            host: Some((first, last)),
        };
        let error = bind(&[binding(port, port)]).unwrap_err();
        assert!(matches!(&error, ExecError::Failed { kind: ErrorKind::Conflict, .. }), "{error:?}");
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert_eq!(source, format!("failed to bind host port 127.0.0.1:{port}/tcp"));
        let from = port.saturating_sub(20);
        let (listeners, published) = bind(&[binding(from, port)]).unwrap();
        assert_eq!((listeners.len(), published.len()), (1, 1));
        assert_eq!(published[0].host, listeners[0].local_addr().unwrap().port());
        let (_, published) = bind(&[PortBinding { address: None, host: None, ..binding(0, 0) }]).unwrap();
        assert!(published.iter().all(|port| port.host > 0 && port.address.is_unspecified()), "{published:?}");
    }
}
