//! Sockets that hold the host's ports for a container, so that nobody else gets them and what somebody else has is noticed.
//!
//! They are more than placeholders: what the firewall does not lead to the container (connections from the host's own loopback
//! addresses, and over IPv6 to a container without it) arrives at them, and the supervisor passes it on.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use super::{Connected, NetworkError, gateway, make, wanted_ports};
use crate::model::{Container, PortBinding, Protocol, PublishedPort};
use crate::state::Database;

/// How often a port that the kernel chose is tried, since it may be free for one version of IP and not for the other.
const TRIES: u32 = 64;

/// How long a port is waited for whose holder is dying, or cannot be seen.
const DYING: Duration = Duration::from_secs(1);

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(5);

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

/// A port of the host that is held.
#[derive(Debug)]
pub struct Held {
    /// The port.
    pub port: PublishedPort,
    /// What holds it.
    pub socket: Socket,
}

/// A socket.
#[derive(Debug)]
pub enum Socket {
    /// Of TCP, listening.
    Tcp(TcpListener),
    /// Of UDP.
    Udp(UdpSocket),
}

/// Takes all ports that a container wants, or none of them.
pub fn hold(
    database: &Database,
    container: &Container,
    connected: &[Connected],
) -> Result<Vec<Held>, NetworkError> {
    let wanted = wanted_ports(container);
    let way_out = gateway(connected, false).or_else(|| gateway(connected, true));
    // On a network that leads nowhere nothing is published, as with docker.
    let (false, Some((network, _))) = (wanted.is_empty(), way_out) else { return Ok(Vec::new()) };
    let default = network.options.get(make::HOST_BINDING).and_then(|text| text.parse::<Ipv4Addr>().ok());
    let default = default.filter(|address| !address.is_unspecified()).map(IpAddr::from);
    all(database, container, &wanted, default)
}

/// Takes all of these ports or none; on `default` where no address is named.
pub(super) fn all(
    database: &Database,
    container: &Container,
    wanted: &[PortBinding],
    default: Option<IpAddr>,
) -> Result<Vec<Held>, NetworkError> {
    let recorded = database.ports()?;
    let mut held: Vec<Held> = Vec::new();
    for binding in wanted {
        let addresses = match binding.address.or(default) {
            Some(address) => vec![address],
            None => vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
        };
        held.extend(one(database, container, binding, &addresses, &recorded)?);
    }
    Ok(held)
}

/// Takes one port, on all of these addresses.
fn one(
    database: &Database,
    container: &Container,
    binding: &PortBinding,
    addresses: &[IpAddr],
    recorded: &[(String, PublishedPort)],
) -> Result<Vec<Held>, NetworkError> {
    let port = |address, host| PublishedPort {
        container: binding.container,
        protocol: binding.protocol,
        address,
        host,
    };
    let clash = |host| {
        let others = recorded.iter().filter(|(holder, _)| holder != container.id.as_str());
        others.into_iter().find_map(|(holder, other)| {
            let mine =
                addresses.iter().map(|address| port(*address, host)).find(|mine| mine.clashes(other))?;
            Some((holder.clone(), mine))
        })
    };
    let Some((first, last)) = binding.host else {
        for _ in 0..TRIES {
            let held = take(port, addresses, 0);
            match held {
                Ok(held) if clash(held.first().map_or(0, |one| one.port.host)).is_none() => return Ok(held),
                Ok(_) => {}
                Err((_, error)) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err((port, source)) => return Err(NetworkError::Port { port, source }),
            }
        }
        return Err(NetworkError::NoPort { first: 1, last: u16::MAX, protocol: binding.protocol.name() });
    };
    for host in first..=last {
        let in_use = match clash(host) {
            Some((holder, port)) => (port, Some(holder)),
            None => {
                match if first < last { take(port, addresses, host) } else { outlive(port, addresses, host) }
                {
                    Ok(held) => return Ok(held),
                    Err((port, error)) if error.kind() == io::ErrorKind::AddrInUse => (port, None),
                    Err((port, source)) => return Err(NetworkError::Port { port, source }),
                }
            }
        };
        if first < last {
            continue;
        }
        let (port, holder) = in_use;
        let holder = match holder {
            Some(id) => {
                let name = id.parse().ok().and_then(|id| database.container(&id).ok().flatten());
                Some(format!("container {}", name.map_or(id, |container| container.name)))
            }
            None => program(&port),
        };
        return Err(NetworkError::PortInUse { port, holder });
    }
    Err(NetworkError::NoPort { first, last, protocol: binding.protocol.name() })
}

/// Binds one port on all addresses; 0 is one that the kernel chooses for the first address.
fn take(
    port: impl Fn(IpAddr, u16) -> PublishedPort,
    addresses: &[IpAddr],
    host: u16,
) -> Result<Vec<Held>, (PublishedPort, io::Error)> {
    let mut number = host;
    let mut held = Vec::new();
    for address in addresses {
        match bind(port(*address, number)) {
            Ok(one) => {
                number = one.port.host;
                held.push(one);
            }
            // A host without IPv6 publishes on IPv4 alone, where both were meant.
            Err(error)
                if addresses.len() > 1
                    && address.is_ipv6()
                    && matches!(
                        error.raw_os_error(),
                        Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL | libc::EPROTONOSUPPORT)
                    ) => {}
            Err(error) => return Err((port(*address, number), error)),
        }
    }
    Ok(held)
}

/// As [`take`], but waits for a holder that is dying: a supervisor that was killed closes its files one after another, and the
/// lock that tells of its life may be free before its ports are.
fn outlive(
    port: impl Fn(IpAddr, u16) -> PublishedPort + Copy,
    addresses: &[IpAddr],
    host: u16,
) -> Result<Vec<Held>, (PublishedPort, io::Error)> {
    let end = Instant::now() + DYING;
    loop {
        match take(port, addresses, host) {
            Err((port, error))
                if error.kind() == io::ErrorKind::AddrInUse
                    && Instant::now() < end
                    && holder(&port).is_none_or(is_dying) =>
            {
                std::thread::sleep(PAUSE);
            }
            outcome => return outcome,
        }
    }
}

/// Whether a process is ending: it has exited, is in the middle of it, or was sent `SIGKILL` (proc(5)).
fn is_dying(pid: u32) -> bool {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else { return true };
    let field =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
    let killed = ["SigPnd:", "ShdPnd:"]
        .iter()
        .any(|name| u64::from_str_radix(field(name), 16).is_ok_and(|pending| pending & (1 << 8) != 0));
    // What has given its memory back has no more of it to tell of.
    killed || field("State:").starts_with(['Z', 'X']) || field("VmSize:").is_empty()
}

fn bind(port: PublishedPort) -> io::Result<Held> {
    let family = if port.address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let tcp = port.protocol == Protocol::Tcp;
    let kind = if tcp { SocketType::STREAM } else { SocketType::DGRAM };
    let socket: OwnedFd =
        rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    if port.address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    if tcp {
        // Connections that have just ended do not hold the port.
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    rustix::net::bind(&socket, &SocketAddr::new(port.address, port.host))?;
    let (socket, host) = if tcp {
        rustix::net::listen(&socket, BACKLOG)?;
        let socket = TcpListener::from(socket);
        let host = socket.local_addr()?.port();
        (Socket::Tcp(socket), host)
    } else {
        let socket = UdpSocket::from(socket);
        let host = socket.local_addr()?.port();
        (Socket::Udp(socket), host)
    };
    Ok(Held { port: PublishedPort { host, ..port }, socket })
}

/// The program that has a port: its name and number, where this process may see it.
fn program(port: &PublishedPort) -> Option<String> {
    let pid = holder(port)?;
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(format!("process {} (pid {pid})", name.trim()))
}

/// The process that has a port, where this one may see it.
fn holder(port: &PublishedPort) -> Option<u32> {
    let tables: &[&str] = match port.protocol {
        Protocol::Tcp => &["/proc/net/tcp", "/proc/net/tcp6"],
        _ => &["/proc/net/udp", "/proc/net/udp6"],
    };
    let inodes: Vec<String> = tables
        .iter()
        .filter_map(|table| std::fs::read_to_string(table).ok())
        .flat_map(|text| holders(&text, port.host, port.protocol == Protocol::Tcp))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    let mut numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let has = |pid: &u32| {
        let files = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        files
            .filter_map(|file| std::fs::read_link(file.path()).ok())
            .any(|target| inodes.iter().any(|inode| target == Path::new(inode)))
    };
    numbers.find(has)
}

/// The inodes of sockets that have this local port in one of the kernel's tables; of TCP those that listen.
fn holders(table: &str, port: u16, listening: bool) -> Vec<String> {
    let suffix = format!(":{port:04X}");
    let line = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
        (local.ends_with(&suffix) && (!listening || *state == "0A")).then(|| (*inode).to_owned())
    };
    table.lines().skip(1).filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_found_in_the_kernels_tables() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0\n\
            1: 0100007F:1F90 0100007F:C000 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 20 4 30 10 -1\n";
        assert_eq!(holders(table, 8080, true), ["4711"]);
        assert_eq!(holders(table, 8080, false), ["4711", "4712"]);
        assert!(holders(table, 80, true).is_empty() && holders("", 80, true).is_empty());
    }

    #[test]
    fn a_port_is_held_and_its_holder_named() {
        let wanted = PublishedPort {
            container: 80,
            protocol: Protocol::Tcp,
            address: Ipv4Addr::LOCALHOST.into(),
            host: 0,
        };
        let held = bind(wanted).unwrap();
        assert_ne!(held.port.host, 0);
        let error = bind(held.port).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(program(&held.port).unwrap().contains(&format!("(pid {})", std::process::id())));
        assert!(!is_dying(std::process::id()));
        drop(held.socket);
        bind(held.port).unwrap();
    }

    #[test]
    fn a_port_of_the_dying_is_waited_for() {
        let any = PublishedPort {
            container: 80,
            protocol: Protocol::Tcp,
            address: Ipv4Addr::LOCALHOST.into(),
            host: 0,
        };
        let held = bind(any).unwrap();
        let port = move |address, host| PublishedPort { address, host, ..held.port };
        let taken = || outlive(port, &[held.port.address], held.port.host).map_err(|(_, error)| error.kind());
        // Its holder lives: at once.
        assert_eq!(taken().unwrap_err(), io::ErrorKind::AddrInUse);
        // A process that has ended, and one that is gone.
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        while !is_dying(pid) {
            std::thread::sleep(PAUSE);
        }
        child.wait().unwrap();
        assert!(is_dying(pid));
        drop(held.socket);
        assert_eq!(taken().unwrap().len(), 1);
    }
}
