//! Sockets in a container's network namespace.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};

use runtime_linux::net::{self, PortRule};

use crate::network::files::NAME_SERVER;

const UDP: u8 = 17;
const TCP: u8 = 6;
const PORT: u16 = 53;

/// A container's network namespace, held open.
#[derive(Debug)]
pub(in crate::supervisor) struct Namespace(net::Namespace);

impl Namespace {
    /// That of a container's first process, which this process has made and not reaped.
    pub(in crate::supervisor) fn of(pid: u32) -> io::Result<Self> {
        net::Namespace::of(pid).map(Self).map_err(|error| error.source)
    }

    pub(super) fn run<T: Send>(&self, job: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        self.0.run(job)
    }

    /// Listens on ports that the kernel draws, and leads the well-known one there.
    pub(super) fn listen(&self) -> io::Result<(UdpSocket, TcpListener)> {
        self.run(|| {
            let (udp, tcp) = (UdpSocket::bind((NAME_SERVER, 0))?, TcpListener::bind((NAME_SERVER, 0))?);
            let rule = |protocol, target: SocketAddr| PortRule {
                protocol,
                address: IpAddr::from(NAME_SERVER),
                port: PORT,
                target,
            };
            net::redirect(&[rule(UDP, udp.local_addr()?), rule(TCP, tcp.local_addr()?)])?;
            Ok((udp, tcp))
        })
    }
}
