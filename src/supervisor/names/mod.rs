//! The name server of a container on users' networks: 127.0.0.11, port 53, in the container's network namespace.
//!
//! It answers from the metadata database what [`zone`](crate::network::dns::zone) knows, and passes everything else on. Its port is
//! another one, to which the namespace's own firewall leads: programs in the container can still listen on port 53 of all addresses.
//!
//! Invariants:
//! - Only what the container's own networks tell is known to it.
//! - It holds little: the database is opened when first asked and let go of after a while, a message is on the stack while it is
//!   read, and there is a bound for queries on their way and for connections. What is beyond is refused at once.
//! - What a container sends costs its supervisor time, and never the container's neighbours or the host's other commands a lock.
//! - Nothing is passed on for a container that has no way out (`--internal`).

mod catalogue;
mod forward;
mod life;
mod links;
#[cfg_attr(target_os = "linux", path = "sockets_linux.rs")]
#[cfg_attr(not(target_os = "linux"), path = "sockets_other.rs")]
mod sockets;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::model::{ContainerId, chain};
use crate::network::dns::message::{self, Code, Query};
use crate::network::dns::zone::Known;
use catalogue::Catalogue;
use forward::Forwarder;

pub(super) use life::Names;
use sockets::Namespace;

/// Queries on their way to other servers at once.
const MOST_QUERIES: usize = 128;

/// Connections at once.
const MOST_CLIENTS: usize = 32;

/// How long a connection may be idle.
const IDLE: Duration = Duration::from_secs(10);

/// A larger query is nobody's.
const LARGEST_QUERY: usize = 4096;

/// What the server is told.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    /// The store's root.
    pub(super) root: PathBuf,
    /// Whose it is.
    pub(super) container: ContainerId,
    /// The servers that the user wants asked, from the container (`--dns`); empty: the host's, from the host.
    pub(super) servers: Vec<IpAddr>,
    /// Short names are to be looked for in domains first (`ndots`), so they are never passed on.
    pub(super) expands: bool,
}

/// A server that runs; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct NameServer {
    tasks: [JoinHandle<()>; 3],
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

struct Shared {
    setting: Setting,
    catalogue: Mutex<Catalogue>,
    forwarder: Forwarder,
    on_their_way: Semaphore,
    turn: AtomicUsize,
}

/// What becomes of a query.
enum Next {
    Answer(Vec<u8>),
    Silence,
    Forward(Query),
}

impl NameServer {
    /// Opens the sockets in the namespace and serves, in the event loop that this is called in.
    pub(super) fn start(setting: Setting, namespace: Namespace) -> std::io::Result<Self> {
        let (udp, tcp) = namespace.listen()?;
        udp.set_nonblocking(true)?;
        tcp.set_nonblocking(true)?;
        let (udp, tcp) = (Arc::new(UdpSocket::from_std(udp)?), TcpListener::from_std(tcp)?);
        let shared = Arc::new(Shared {
            catalogue: Mutex::new(Catalogue::new(&setting.root, &setting.container)),
            forwarder: Forwarder::new(setting.servers.clone(), namespace),
            on_their_way: Semaphore::new(MOST_QUERIES),
            turn: AtomicUsize::new(0),
            setting,
        });
        let tasks = [
            tokio::spawn(packets(Arc::clone(&shared), udp)),
            tokio::spawn(connections(Arc::clone(&shared), tcp)),
            tokio::spawn(rest(shared)),
        ];
        Ok(Self { tasks })
    }
}

impl Shared {
    fn catalogue(&self) -> std::sync::MutexGuard<'_, Catalogue> {
        self.catalogue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers what can be answered at once.
    fn look(&self, bytes: &[u8], limit: impl FnOnce(&Query) -> usize) -> Next {
        let query = match Query::parse(bytes) {
            Ok(query) => query,
            Err(Some(answer)) => return Next::Answer(answer),
            Err(None) => return Next::Silence,
        };
        let answer = |code, records: &[_]| Next::Answer(query.answer(bytes, code, records, limit(&query)));
        let mut catalogue = self.catalogue();
        let zone = match catalogue.zone() {
            Ok(zone) => zone,
            Err(error) => {
                tracing::warn!(error = chain(&error), "looking up a name");
                return answer(Code::Failed, &[]);
            }
        };
        let name = query.name.as_deref().filter(|_| query.internet);
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        match name.map_or(Known::Nothing, |name| zone.ask(name, query.kind, turn)) {
            Known::Answers(records) => answer(Code::Good, &records),
            Known::NoData => answer(Code::Good, &[]),
            Known::Nothing if !zone.leads_out() => answer(Code::Failed, &[]),
            Known::Nothing => {
                let address = query.kind == message::A || query.kind == message::AAAA;
                let short = name.is_some_and(|name| !name.contains('.'));
                if self.setting.expands && address && short {
                    answer(Code::Good, &[])
                } else {
                    Next::Forward(query)
                }
            }
        }
    }
}

/// Lets go of what nobody has asked for lately.
async fn rest(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(catalogue::REST).await;
        shared.catalogue().rest();
    }
}

/// Reads one packet without keeping room for it while there is none.
fn receive(socket: &UdpSocket, take: impl FnOnce(&[u8], SocketAddr)) -> std::io::Result<()> {
    let mut bytes = [0; LARGEST_QUERY];
    let (length, from) = socket.try_recv_from(&mut bytes)?;
    take(&bytes[..length], from);
    Ok(())
}

async fn packets(shared: Arc<Shared>, socket: Arc<UdpSocket>) {
    loop {
        if let Err(error) = socket.readable().await {
            tracing::error!(%error, "the name server has lost its socket");
            return;
        }
        // An error is a client's that did not wait for its answer.
        let _ = receive(&socket, |bytes, from| match shared.look(bytes, Query::limit) {
            Next::Silence => {}
            Next::Answer(answer) => drop(socket.try_send_to(&answer, from)),
            Next::Forward(query) => forward_packet(&shared, &socket, query, bytes, from),
        });
        // Whoever floods this server is not to hold up everything else that this process does.
        tokio::task::consume_budget().await;
    }
}

fn forward_packet(
    shared: &Arc<Shared>,
    socket: &Arc<UdpSocket>,
    query: Query,
    bytes: &[u8],
    from: SocketAddr,
) {
    let limit = query.limit();
    let refuse = || drop(socket.try_send_to(&query.answer(bytes, Code::Failed, &[], limit), from));
    if shared.on_their_way.available_permits() == 0 {
        return refuse();
    }
    let (shared, socket, bytes) = (Arc::clone(shared), Arc::clone(socket), bytes.to_vec());
    tokio::spawn(async move {
        // Nobody else takes one between the look and this: there is one thread.
        let Ok(_way) = shared.on_their_way.try_acquire() else { return };
        let answer = shared.forwarder.by_packet(&query, &bytes).await;
        let answer = match answer {
            Some(answer) if answer.len() <= limit => answer,
            Some(_) => query.truncated(&bytes),
            None => query.answer(&bytes, Code::Failed, &[], limit),
        };
        let _ = socket.send_to(&answer, from).await;
    });
}

async fn connections(shared: Arc<Shared>, listener: TcpListener) {
    let room = Arc::new(Semaphore::new(MOST_CLIENTS));
    loop {
        // The next one waits in the kernel until there is room.
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    let _ = serve(&shared, stream).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the name server cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// One client after another question, in order.
async fn serve(shared: &Arc<Shared>, mut stream: TcpStream) -> std::io::Result<()> {
    loop {
        let read = async {
            let length = usize::from(stream.read_u16().await?);
            if length > LARGEST_QUERY {
                return Err(std::io::ErrorKind::InvalidData.into());
            }
            let mut bytes = vec![0; length];
            stream.read_exact(&mut bytes).await?;
            std::io::Result::Ok(bytes)
        };
        let bytes = tokio::time::timeout(IDLE, read).await??;
        let answer = match shared.look(&bytes, |_| message::LARGEST) {
            Next::Silence => return Ok(()),
            Next::Answer(answer) => answer,
            Next::Forward(query) => {
                let way = shared.on_their_way.try_acquire();
                let answer =
                    if way.is_ok() { shared.forwarder.by_stream(&query, &bytes).await } else { None };
                answer.unwrap_or_else(|| query.answer(&bytes, Code::Failed, &[], message::LARGEST))
            }
        };
        let length = u16::try_from(answer.len()).unwrap_or_default();
        let framed = [&length.to_be_bytes(), answer.as_slice()].concat();
        tokio::time::timeout(IDLE, stream.write_all(&framed)).await??;
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests;
