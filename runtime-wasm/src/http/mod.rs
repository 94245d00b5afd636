//! Serves an HTTP component: connections, limits, and the end.
//!
//! hyper speaks HTTP/1.1 on sockets that the caller bound; wasmtime-wasi-http hands requests to instances. Everything has a bound:
//! connections, requests at a time, the time for headers and for an answer, the size of headers and bodies; what is over it is
//! answered with a status (408 and closed, 413, 431, 503, 504) and never waited for.
//!
//! **Instances.** One of 0.2 answers one request and is dropped, so no request sees what another left. One of 0.3 answers several, also at a
//! time, as its specification allows and `wasmtime serve` does: 128 in all and 16 at a time unless [`ServeLimits`] say otherwise, and
//! it goes after a second without work. A request that finds none free gets a new one. What is shared that way is the program's own
//! memory and nothing else: all instances are of one program, under one set of grants, and a client gets by it only what the program
//! itself tells. Whoever does not want even that sets `reuse` to 1. What holds with it as without:
//! - Time is each request's own, and fuel is given anew with each; memory is counted over all instances together.
//! - A trap, or a request that is over its time, retires the instance. After a trap what it carried is answered with 500, since nobody can
//!   tell what state the others were in; after a time-out only that request is (504), and the others are carried to their end, unless it
//!   keeps the instance to itself all the while: then they come to be as late.
//! - A stop waits for what instances carry, and they take no more.
//!
//! A guest that loops yields its thread at every tick, so that it holds up nobody, and is dropped when its time is over. A trap is 500 to
//! the client and a backtrace on the program's standard error.
//!
//! Not HTTP/2 and not TLS: both end in front of a container, at a proxy that has the certificates.

mod access;
mod gather;
mod worker;

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Request, Response, StatusCode, Uri, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use wasmtime_wasi_http::handler::{
    ExpirationError, InstantiationError, ProxyHandler, ProxyPre, TrapOrPanicError,
};
use wasmtime_wasi_http::{Error, WasiBody};

use crate::control::Account;
use crate::engine::Program;
use crate::link::{Export, Linked};
use crate::run::{Exit, RunError, Running, Shared};
use crate::wasi::{Grants, Streams};
use access::{Access, Entry, Logged};
use gather::Gathered;
use worker::Instances;

/// Requests that one instance of 0.3 answers when nothing else is said.
const REUSE: usize = 128;

/// Bounds of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServeLimits {
    /// Open connections; further ones wait to be accepted. 4096 by default.
    pub connections: usize,
    /// Requests answered at a time; further ones wait as long as a request may take, then get 503. 512 by default.
    pub requests: usize,
    /// Bytes of a request's body; 128 MiB by default.
    pub body_bytes: u64,
    /// Bytes of a request's line and headers; 64 KiB by default.
    pub header_bytes: usize,
    /// How long a client may take to send them, idle connections included; 60 seconds by default.
    pub header_time: Duration,
    /// How long the guest may take to begin its answer; 60 seconds by default.
    pub answer_time: Duration,
    /// Requests that one instance answers before it is dropped; by default 1 of WASI 0.2, and 128 of 0.3.
    pub reuse: Option<usize>,
    /// Of them at a time; 16 by default. An instance of 0.2 answers one at a time whatever this says.
    pub together: usize,
    /// How long an instance that may answer more is kept without work; one second by default.
    pub idle_time: Duration,
}

impl Default for ServeLimits {
    fn default() -> Self {
        Self {
            connections: 4096,
            requests: 512,
            body_bytes: 128 << 20,
            header_bytes: 64 << 10,
            header_time: Duration::from_mins(1),
            answer_time: Duration::from_mins(1),
            reuse: None,
            together: 16,
            idle_time: Duration::from_secs(1),
        }
    }
}

/// Where and how a program serves.
#[derive(Debug)]
pub struct Serving {
    /// Sockets that listen already. Without any the program is there and nobody reaches it.
    pub listeners: Vec<TcpListener>,
    /// Bounds.
    pub limits: ServeLimits,
}

/// What every connection needs.
struct Server {
    handler: ProxyHandler<Instances>,
    limits: ServeLimits,
    account: Account,
    places: Semaphore,
    connections: Arc<Semaphore>,
    access: Access,
}

impl Program {
    /// Serves HTTP until it is stopped. Errors come before any guest code runs.
    pub fn serve(&self, grants: Grants, serving: Serving) -> Result<Running, RunError> {
        let Linked::Component(_, export) = self.linked(None)? else {
            return Err(self.nothing_to_run().into());
        };
        let (pre, reuse, together) = match export {
            Export::Serve2(pre) => (ProxyPre::P2(pre), serving.limits.reuse.unwrap_or(1), 1),
            Export::Serve3(pre) => {
                (ProxyPre::P3(pre), serving.limits.reuse.unwrap_or(REUSE), serving.limits.together)
            }
            _ => return Err(self.nothing_to_run().into()),
        };
        let account = self.account_of(&grants);
        let streams = Streams::new(&grants, self.kind())?;
        let shared = Shared::pending();
        let instances = Instances {
            engine: self.engine().clone(),
            pre,
            access: Access::new(&streams.files[1], &streams.files[2]).map_err(RunError::Thread)?,
            grants: Grants { account: None, ..grants },
            streams,
            account: account.clone(),
            stop: Arc::clone(&shared.stop),
            limits: serving.limits,
            reuse,
            together,
        };
        // What cannot be granted to one instance can be granted to none: it is said now.
        drop(instances.state()?);
        let (listeners, charged) = (serving.listeners, account.clone());
        let confine = instances.grants.confine.clone();
        self.begin(
            shared,
            account,
            confine,
            true,
            Box::new(move |shared| run(shared, instances, listeners, charged)),
        )
    }
}

/// The server's whole life, on its own thread and those of its runtime.
fn run(shared: &Arc<Shared>, instances: Instances, listeners: Vec<TcpListener>, account: Account) -> Exit {
    let failed = |what: &str, error: std::io::Error| Exit::Failed { message: format!("{what}: {error}") };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed("no runtime for the server", error),
    };
    let limits = instances.limits;
    let access = instances.access.clone();
    let exit = runtime.block_on(async {
        let server = Arc::new(Server {
            limits,
            account,
            places: Semaphore::new(limits.requests),
            connections: Arc::new(Semaphore::new(limits.connections)),
            access: access.clone(),
            handler: ProxyHandler::new(instances),
        });
        let mut accepting = JoinSet::new();
        for listener in listeners {
            let listener = match listener.set_nonblocking(true).and_then(|()| tokio::net::TcpListener::from_std(listener)) {
                Ok(listener) => listener,
                Err(error) => return failed("cannot listen", error),
            };
            accepting.spawn(accept(listener, Arc::clone(&server), Arc::clone(shared)));
        }
        tokio::select! {
            biased;
            () = shared.stop.set() => Exit::Interrupted,
            () = async { shared.drain.set().await; while accepting.join_next().await.is_some() {} } => Exit::Code(0),
        }
    });
    // Not waiting for a guest, nor for a blocking call of the host that hangs.
    runtime.shutdown_background();
    access.finish();
    exit
}

/// Accepts connections until the server drains, then waits for those there are.
async fn accept(listener: tokio::net::TcpListener, server: Arc<Server>, shared: Arc<Shared>) {
    let mut open = JoinSet::new();
    loop {
        // Closed never: the semaphore lives as long as the server.
        let Ok(place) = Arc::clone(&server.connections).acquire_owned().await else { return };
        let accepted = tokio::select! {
            biased;
            () = shared.drain.set() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (server, shared) = (Arc::clone(&server), Arc::clone(&shared));
                open.spawn(async move {
                    connection(stream, peer, server, shared).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accepting a connection");
                // Out of descriptors, most likely: some close meanwhile.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        while open.try_join_next().is_some() {}
    }
    drop(listener);
    while open.join_next().await.is_some() {}
}

async fn connection(stream: TcpStream, peer: SocketAddr, server: Arc<Server>, shared: Arc<Shared>) {
    // Small pieces of an answer go out at once: a guest that sends events would wait 40 ms for each.
    let _ = stream.set_nodelay(true);
    let limits = server.limits;
    let service = hyper::service::service_fn(move |request| {
        let server = Arc::clone(&server);
        async move { Ok::<_, Infallible>(server.answer(request, peer).await) }
    });
    let mut connection = pin!(
        hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.header_time)
            .max_buf_size(limits.header_bytes.max(8192))
            .serve_connection(TokioIo::new(stream), service)
    );
    let mut draining = false;
    loop {
        tokio::select! {
            outcome = &mut connection => {
                if let Err(error) = outcome {
                    tracing::debug!(%error, %peer, "a connection ended badly");
                }
                return;
            }
            () = shared.drain.set(), if !draining => {
                draining = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// Why a request is not answered by the guest.
enum Trouble {
    Status(StatusCode, &'static str),
    Guest(wasmtime::Error),
}

impl Server {
    async fn answer(&self, request: Request<Incoming>, peer: SocketAddr) -> Response<Logged> {
        let begun = Instant::now();
        let mut entry = Entry::new(peer, &request);
        let response = match self.ask(request).await {
            Ok(response) => response,
            Err(trouble) => refusal(self.explain(trouble)),
        };
        entry.status = response.status().as_u16();
        self.account.answered(response.status().is_server_error());
        let access = self.access.clone();
        let (head, body) = response.into_parts();
        let body = Gathered::new(body).await;
        Response::from_parts(head, Logged::new(body, entry, begun, access))
    }

    /// The status for what went wrong; what an operator should know goes to the program's standard error.
    fn explain(&self, trouble: Trouble) -> (StatusCode, &'static str) {
        let error = match trouble {
            Trouble::Status(status, why) => return (status, why),
            Trouble::Guest(error) => error,
        };
        if error.downcast_ref::<ExpirationError>().is_some() {
            return (StatusCode::GATEWAY_TIMEOUT, "the program took too long to answer");
        }
        if let Some(InstantiationError { error, .. }) = error.downcast_ref::<InstantiationError<()>>() {
            self.access.error(&format!("error: cannot make an instance: {error:?}"));
            return (StatusCode::SERVICE_UNAVAILABLE, "the program cannot be started for this request");
        }
        if error.downcast_ref::<TrapOrPanicError>().is_none() {
            self.access.error(&format!("error: {error:?}"));
        }
        (StatusCode::INTERNAL_SERVER_ERROR, "the program failed to answer")
    }

    async fn ask(&self, request: Request<Incoming>) -> Result<Response<WasiBody>, Trouble> {
        let limit = self.limits.answer_time;
        let late = |_| Trouble::Status(StatusCode::SERVICE_UNAVAILABLE, "too many requests at a time");
        let place = match self.places.try_acquire() {
            Ok(place) => Ok(place),
            Err(_) => tokio::time::timeout(limit, self.places.acquire()).await.map_err(late)?,
        };
        if self.account.is_frozen() {
            let mut frozen = self.account.frozen();
            let thawed = frozen.wait_for(|frozen| !frozen);
            drop(tokio::time::timeout(limit, thawed).await.map_err(late)?);
        }
        let request = self.prepare(request)?;
        let begun = Instant::now();
        // An instance that is kept busy beyond its time goes, and what it carried fails in various ways.
        let why = |error: wasmtime::Error| {
            let late = begun.elapsed() >= limit && error.downcast_ref::<InstantiationError<()>>().is_none();
            Trouble::Guest(if late { ExpirationError.into() } else { error })
        };
        // Each worker keeps the time as well; this is for one that cannot even be made.
        let asked =
            tokio::time::timeout(limit + Duration::from_secs(1), self.handler.handle((), request)).await;
        let response = asked.map_err(|_| Trouble::Guest(ExpirationError.into()))?.map_err(why)?;
        drop(place);
        Ok(response)
    }

    /// The request as a guest gets it: whole in its address, bounded in its body.
    fn prepare(&self, request: Request<Incoming>) -> Result<Request<WasiBody>, Trouble> {
        let limit = self.limits.body_bytes;
        let too_large = || Trouble::Status(StatusCode::PAYLOAD_TOO_LARGE, "the request's body is too large");
        if request.body().size_hint().lower() > limit {
            return Err(too_large());
        }
        let bad = |why| Trouble::Status(StatusCode::BAD_REQUEST, why);
        let (mut parts, body) = request.into_parts();
        if parts.version == Version::HTTP_11 && parts.headers.get_all(HOST).iter().count() != 1 {
            return Err(bad("the request does not name one host"));
        }
        let uri = std::mem::take(&mut parts.uri).into_parts();
        let host = parts.headers.get(HOST).map(HeaderValue::as_bytes).filter(|host| !host.is_empty());
        let authority = match (uri.authority, host) {
            (Some(authority), _) => authority,
            (None, host) => {
                host.unwrap_or(b"localhost").try_into().map_err(|_| bad("the host is malformed"))?
            }
        };
        let path = uri.path_and_query.ok_or_else(|| bad("the request has no path"))?;
        let whole = Uri::builder().scheme("http").authority(authority).path_and_query(path).build();
        parts.uri = whole.map_err(|_| bad("the address is malformed"))?;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let body = Limited::new(body, limit).map_err(|error| match error.downcast::<hyper::Error>() {
            Ok(error) => Error::from(*error),
            Err(_) => Error::HttpRequestBodySize(None),
        });
        Ok(Request::from_parts(parts, body.boxed_unsync()))
    }
}

/// An answer of ours, in plain text.
fn refusal((status, why): (StatusCode, &'static str)) -> Response<WasiBody> {
    let text = Bytes::from(format!("{why}\n"));
    let length = text.len();
    let mut response = Response::new(Full::new(text).map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    response
}
