//! Passes on what arrives at a held port of the host: connections from the host's own loopback addresses, which the firewall leaves
//! alone, and what has to change its version of IP on the way. The container sees the host's address, as behind docker's proxy.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::model::PublishedPort;
use crate::network::{Connected, gateway};

/// Connections of one port at once; more wait in the kernel.
const MOST: usize = 1024;

/// How long a container may take to answer the first packet of a connection.
const CONNECT: Duration = Duration::from_secs(10);

/// After so long without a packet a UDP client is forgotten.
const SILENCE: Duration = Duration::from_secs(90);

/// The largest packet of UDP.
const PACKET: usize = 65536;

/// Where the container is now; it may be connected with other networks while it runs.
#[derive(Debug, Clone, Default)]
pub(super) struct Targets(Arc<Mutex<[Option<IpAddr>; 2]>>);

impl Targets {
    /// Takes over where it is.
    pub(super) fn set(&self, connected: &[Connected]) {
        let lease = |ipv6| gateway(connected, ipv6).and_then(|(_, endpoint)| endpoint.lease);
        let ipv4 = lease(false).and_then(|lease| lease.ipv4).map(IpAddr::from);
        let ipv6 = lease(true).and_then(|lease| lease.ipv6).map(IpAddr::from);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = [ipv4, ipv6];
    }

    /// Of the same version of IP, if it has such an address.
    fn of(&self, port: &PublishedPort) -> Option<SocketAddr> {
        let [ipv4, ipv6] = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let address = if port.address.is_ipv6() { ipv6.or(ipv4) } else { ipv4.or(ipv6) };
        Some(SocketAddr::new(address?, port.container))
    }
}

/// What passes one port on; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Proxy(JoinHandle<()>);

impl Drop for Proxy {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Proxy {
    /// Ends it; the port is free when this returns. A dropped one is free when the event loop comes to it.
    pub(super) async fn end(mut self) {
        self.0.abort();
        // Cancelled is what it is meant to be.
        let _cancelled = (&mut self.0).await;
    }
}

/// Passes connections on.
pub(super) fn tcp(
    listener: std::net::TcpListener,
    port: PublishedPort,
    targets: Targets,
) -> io::Result<Proxy> {
    let listener = TcpListener::from_std(listener)?;
    Ok(Proxy(tokio::spawn(async move {
        let room = Arc::new(Semaphore::new(MOST));
        loop {
            let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((client, _)) => {
                    let target = targets.of(&port);
                    tokio::spawn(async move {
                        // Whoever goes away takes the other side along; there is nobody to tell.
                        let _ = pass(client, target).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "accepting a connection at a published port");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    })))
}

async fn pass(mut client: TcpStream, target: Option<SocketAddr>) -> io::Result<()> {
    let target = target.ok_or(io::ErrorKind::AddrNotAvailable)?;
    let mut server = tokio::time::timeout(CONNECT, TcpStream::connect(target)).await??;
    tokio::io::copy_bidirectional(&mut client, &mut server).await.map(drop)
}

/// Passes packets on, each client by a socket of its own, so that answers find their way back.
pub(super) fn udp(socket: std::net::UdpSocket, port: PublishedPort, targets: Targets) -> io::Result<Proxy> {
    let socket = Arc::new(UdpSocket::from_std(socket)?);
    Ok(Proxy(tokio::spawn(async move {
        let mut clients: HashMap<SocketAddr, (Arc<UdpSocket>, Proxy)> = HashMap::new();
        loop {
            if socket.readable().await.is_err() {
                return;
            }
            let Some((bytes, from)) = receive(&socket) else { continue };
            clients.retain(|_, (_, back)| !back.0.is_finished());
            let known = clients.get(&from).map(|(own, _)| Arc::clone(own));
            let own = match known {
                Some(own) => Some(own),
                None if clients.len() >= MOST => None,
                None => match back(&socket, from, targets.of(&port)).await {
                    Ok((own, proxy)) => {
                        clients.insert(from, (Arc::clone(&own), proxy));
                        Some(own)
                    }
                    Err(error) => {
                        tracing::debug!(%error, "passing a packet on");
                        None
                    }
                },
            };
            if let Some(own) = own {
                // What a container refuses is lost, as packets are.
                let _ = own.send(&bytes).await;
            }
        }
    })))
}

/// One packet; the room for it is not kept while there is none.
fn receive(socket: &UdpSocket) -> Option<(Vec<u8>, SocketAddr)> {
    let mut bytes = vec![0; PACKET];
    let (length, from) = socket.try_recv_from(&mut bytes).ok()?;
    bytes.truncate(length);
    Some((bytes, from))
}

/// A client's own socket towards the container, and what brings answers back.
async fn back(
    socket: &Arc<UdpSocket>,
    client: SocketAddr,
    target: Option<SocketAddr>,
) -> io::Result<(Arc<UdpSocket>, Proxy)> {
    let target = target.ok_or(io::ErrorKind::AddrNotAvailable)?;
    let any: IpAddr = if target.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let own = Arc::new(UdpSocket::bind((any, 0)).await?);
    own.connect(target).await?;
    let (socket, from) = (Arc::clone(socket), Arc::clone(&own));
    let task = tokio::spawn(async move {
        while let Ok(Ok(())) = tokio::time::timeout(SILENCE, from.readable()).await {
            let mut bytes = vec![0; PACKET];
            match from.try_recv(&mut bytes) {
                Ok(length) => drop(socket.send_to(&bytes[..length], client).await),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // Nobody listens in the container just now.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(_) => return,
            }
        }
    });
    Ok((own, Proxy(task)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Protocol;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn here(container: u16, protocol: Protocol) -> (PublishedPort, Targets) {
        let targets = Targets::default();
        *targets.0.lock().unwrap() = [Some([127, 0, 0, 1].into()), None];
        (PublishedPort { container, protocol, address: [127, 0, 0, 1].into(), host: 0 }, targets)
    }

    #[tokio::test]
    async fn connections_are_passed_on_with_both_ends() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, targets) = here(server.local_addr().unwrap().port(), Protocol::Tcp);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let _proxy = tcp(listener, port, targets).unwrap();
        let mut client = TcpStream::connect(address).await.unwrap();
        let (mut inner, _) = server.accept().await.unwrap();
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let mut heard = String::new();
        inner.read_to_string(&mut heard).await.unwrap();
        inner.write_all(b"answer").await.unwrap();
        drop(inner);
        let mut said = String::new();
        client.read_to_string(&mut said).await.unwrap();
        assert_eq!((heard.as_str(), said.as_str()), ("question", "answer"));
    }

    #[tokio::test]
    async fn packets_find_their_way_back_to_each_client() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (port, targets) = here(server.local_addr().unwrap().port(), Protocol::Udp);
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let address = socket.local_addr().unwrap();
        let _proxy = udp(socket, port, targets).unwrap();
        let (one, two) =
            (UdpSocket::bind("127.0.0.1:0").await.unwrap(), UdpSocket::bind("127.0.0.1:0").await.unwrap());
        for (client, word) in [(&one, b"one"), (&two, b"two"), (&one, b"uno")] {
            client.send_to(word, address).await.unwrap();
            let mut bytes = [0; 16];
            let (length, from) = server.recv_from(&mut bytes).await.unwrap();
            assert_eq!(&bytes[..length], word);
            server.send_to(&bytes[..length], from).await.unwrap();
            let length = client.recv(&mut bytes).await.unwrap();
            assert_eq!(&bytes[..length], word);
        }
    }
}
