//! Questions that are passed on: to the host's name servers from the host, or to the user's (`--dns`) from the container.
//!
//! Each is sent from a socket of its own, so with a port that the kernel draws, under a number of ours that is drawn as well. An
//! answer counts when it comes from the server that was asked, has that number and repeats the question; everything else on the
//! socket is ignored, and the wait goes on. The next server is asked when one is silent, unreachable or at a loss; what one says
//! about a name, that it does not exist included, is the answer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, UdpSocket};

use super::Namespace;
use crate::network::dns::message::{self, Code, Query};
use crate::network::files::Resolver;

/// How long one server has: two that are down are over before a client's usual five seconds.
const PATIENCE: Duration = Duration::from_secs(2);

/// Servers that are asked at the most.
const MOST_SERVERS: usize = 3;

/// For so long the host's file is not read again.
const FRESH: Duration = Duration::from_secs(2);

const PORT: u16 = 53;

pub(super) struct Forwarder {
    /// Of the user's choice.
    wanted: Vec<IpAddr>,
    namespace: Namespace,
    /// The host's.
    hosts: Mutex<Option<(Instant, Vec<IpAddr>)>>,
}

/// The host's name servers.
pub(super) fn host_servers() -> Vec<IpAddr> {
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    Resolver::parse(&text).servers
}

impl Forwarder {
    pub(super) fn new(wanted: Vec<IpAddr>, namespace: Namespace) -> Self {
        Self { wanted, namespace, hosts: Mutex::new(None) }
    }

    fn servers(&self) -> Vec<SocketAddr> {
        let list = if self.wanted.is_empty() {
            let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
            hosts.take_if(|(read, _)| read.elapsed() > FRESH);
            hosts.get_or_insert_with(|| (Instant::now(), host_servers())).1.clone()
        } else {
            self.wanted.clone()
        };
        list.into_iter().take(MOST_SERVERS).map(|address| SocketAddr::new(address, PORT)).collect()
    }

    /// Makes a socket where the servers are asked from.
    fn there<T: Send>(&self, make: impl FnOnce() -> std::io::Result<T> + Send) -> std::io::Result<T> {
        if self.wanted.is_empty() { make() } else { self.namespace.run(make) }
    }

    /// The answer to a question that came in a packet, with the client's number; `None`: nobody had one.
    pub(super) async fn by_packet(&self, query: &Query, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut refusal = None;
        for server in self.servers() {
            match tokio::time::timeout(PATIENCE, self.packet(server, query, bytes)).await {
                Ok(Ok((code, answer))) if definitive(code) => return Some(answer),
                Ok(Ok((_, answer))) => refusal = refusal.or(Some(answer)),
                Ok(Err(error)) => tracing::debug!(%server, %error, "asking a name server"),
                Err(_) => tracing::debug!(%server, "a name server is silent"),
            }
        }
        refusal
    }

    async fn packet(
        &self,
        server: SocketAddr,
        query: &Query,
        bytes: &[u8],
    ) -> std::io::Result<(u8, Vec<u8>)> {
        let socket = self.there(|| {
            let socket = std::net::UdpSocket::bind((any(server), 0))?;
            socket.set_nonblocking(true)?;
            // From now on the kernel lets nobody else's packets through.
            socket.connect(server)?;
            Ok(socket)
        })?;
        let socket = UdpSocket::from_std(socket)?;
        let id = random()?;
        socket.send(&message::with_id(bytes, id)).await?;
        loop {
            socket.readable().await?;
            match receive(&socket, query, bytes, id) {
                Ok(Some(found)) => return Ok(found),
                Ok(None) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The same over a connection.
    pub(super) async fn by_stream(&self, query: &Query, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut refusal = None;
        for server in self.servers() {
            match tokio::time::timeout(PATIENCE, self.stream(server, query, bytes)).await {
                Ok(Ok((code, answer))) if definitive(code) => return Some(answer),
                Ok(Ok((_, answer))) => refusal = refusal.or(Some(answer)),
                Ok(Err(error)) => tracing::debug!(%server, %error, "asking a name server by TCP"),
                Err(_) => tracing::debug!(%server, "a name server is silent by TCP"),
            }
        }
        refusal
    }

    async fn stream(
        &self,
        server: SocketAddr,
        query: &Query,
        bytes: &[u8],
    ) -> std::io::Result<(u8, Vec<u8>)> {
        let socket =
            self.there(|| if server.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() })?;
        let mut stream = socket.connect(server).await?;
        let id = random()?;
        let length = u16::try_from(bytes.len()).map_err(std::io::Error::other)?;
        let message = message::with_id(bytes, id);
        stream.write_all(&[&length.to_be_bytes(), message.as_slice()].concat()).await?;
        let length = usize::from(stream.read_u16().await?);
        let mut answer = vec![0; length];
        stream.read_exact(&mut answer).await?;
        match query.answered(bytes, id, &answer) {
            Some(code) => Ok((code, message::with_id(&answer, message::id(bytes)))),
            None => Err(std::io::ErrorKind::InvalidData.into()),
        }
    }
}

/// Whether the next server need not be asked.
fn definitive(code: u8) -> bool {
    code == Code::Good as u8 || code == Code::NoName as u8
}

/// One packet, if it is the answer; the room for it is needed only now.
fn receive(
    socket: &UdpSocket,
    query: &Query,
    bytes: &[u8],
    id: u16,
) -> std::io::Result<Option<(u8, Vec<u8>)>> {
    let mut packet = [0; message::LARGEST_UDP];
    let length = socket.try_recv(&mut packet)?;
    let answer = &packet[..length];
    Ok(query.answered(bytes, id, answer).map(|code| (code, message::with_id(answer, message::id(bytes)))))
}

fn any(server: SocketAddr) -> IpAddr {
    if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

fn random() -> std::io::Result<u16> {
    let mut bytes = [0; 2];
    getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
    Ok(u16::from_be_bytes(bytes))
}
