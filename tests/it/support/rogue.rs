//! A registry that misbehaves as it is told: plain HTTP/1.1 by hand, because a real server would not lie about lengths.
//!
//! It keeps what was asked for, with headers, so that a test can tell which bytes were fetched again and where a token went.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flate2::{Compression, write::GzEncoder};
use serde_json::json;
use umiak::model::Digest;

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const TAR: &str = "application/vnd.oci.image.layer.v1.tar";
pub(crate) const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// What is done to requests for a path.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// The connection is closed without an answer.
    Close,
    /// Without a token: a challenge that names this same server as the token service.
    Challenge,
    /// A challenge, and then no to the token as well.
    Deny,
    /// This status and these header lines, always.
    Status(u16, &'static str),
    /// The same so many times, and then none.
    Times(u32, u16, &'static str),
    /// At most so many bytes of each body; `true`: ranges are understood.
    Cut(usize, bool),
    /// The first answer stops after its head for so long.
    Stall(Duration),
    /// Another body, announced with its own length.
    Body(Vec<u8>),
    /// Redirects to this origin.
    Redirect(String),
    /// Another content type.
    Media(&'static str),
    /// So many bytes, then a pause, and so on.
    Slow(usize, Duration),
}

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) authorization: Option<String>,
    /// Where the wanted bytes begin.
    pub(crate) offset: usize,
}

#[derive(Debug, Default)]
struct State {
    objects: Mutex<HashMap<String, (Vec<u8>, String)>>,
    faults: Mutex<Vec<(String, Fault)>>,
    seen: Mutex<Vec<Seen>>,
    stop: AtomicBool,
}

/// The registry; it ends with the value.
#[derive(Debug)]
pub(crate) struct Rogue {
    port: u16,
    state: Arc<State>,
}

/// What an image became at the registry.
#[derive(Debug, Clone)]
pub(crate) struct Made {
    pub(crate) layers: Vec<Digest>,
}

impl Rogue {
    pub(crate) fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.stop.load(Ordering::Relaxed) {
                    break;
                }
                let (Ok(stream), state) = (stream, Arc::clone(&shared)) else { continue };
                // A client that goes away is no failure of the test.
                std::thread::spawn(move || drop(serve(&state, port, stream)));
            }
        });
        Self { port, state }
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// From now on paths that contain `part` are answered with this fault.
    pub(crate) fn fault(&self, part: &str, fault: Fault) {
        self.state.faults.lock().expect("no panic").push((part.to_owned(), fault));
    }

    /// From now on it behaves.
    pub(crate) fn behave(&self) {
        self.state.faults.lock().expect("no panic").clear();
    }

    /// What was asked for since the last call.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.state.seen.lock().expect("no panic"))
    }

    pub(crate) fn put(&self, path: String, body: Vec<u8>, media: &str) {
        self.state.objects.lock().expect("no panic").insert(path, (body, media.to_owned()));
    }

    fn blob(&self, repository: &str, body: Vec<u8>) -> serde_json::Value {
        let (digest, size) = (Digest::of(&body), body.len());
        self.put(format!("/v2/{repository}/blobs/{digest}"), body, "application/octet-stream");
        json!({ "digest": digest.as_str(), "size": size })
    }

    /// Puts an image of gzip layers there, tagged `latest`.
    pub(crate) fn image(&self, repository: &str, layers: &[Vec<u8>], config: &serde_json::Value) -> Made {
        let packed = layers.iter().map(|tar| (gzip(tar), Digest::of(tar))).collect();
        self.image_of(repository, packed, GZIP, config)
    }

    /// The same of layers as they are, each with its diff id.
    pub(crate) fn image_of(
        &self,
        repository: &str,
        layers: Vec<(Vec<u8>, Digest)>,
        media: &str,
        config: &serde_json::Value,
    ) -> Made {
        let ids: Vec<_> = layers.iter().map(|(_, id)| id.as_str().to_owned()).collect();
        let made = Made { layers: layers.iter().map(|(packed, _)| Digest::of(packed)).collect() };
        let body = json!({ "os": "linux", "architecture": "amd64", "config": config,
            "rootfs": { "type": "layers", "diff_ids": ids } });
        let described = |mut blob: serde_json::Value, media: &str| {
            blob["mediaType"] = media.into();
            blob
        };
        let config = described(self.blob(repository, body.to_string().into_bytes()), CONFIG);
        let layers: Vec<_> =
            layers.into_iter().map(|(packed, _)| described(self.blob(repository, packed), media)).collect();
        let manifest =
            json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers });
        self.manifest(repository, manifest.to_string().into_bytes(), MANIFEST);
        made
    }

    /// Puts a manifest there as `latest` and by digest.
    pub(crate) fn manifest(&self, repository: &str, body: Vec<u8>, media: &str) {
        self.put(format!("/v2/{repository}/manifests/{}", Digest::of(&body)), body.clone(), media);
        self.put(format!("/v2/{repository}/manifests/latest"), body, media);
    }
}

impl Drop for Rogue {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

struct Request {
    method: String,
    seen: Seen,
}

fn read(stream: &TcpStream) -> std::io::Result<Option<Request>> {
    let mut lines = BufReader::new(stream).lines();
    let Some(first) = lines.next().transpose()? else { return Ok(None) };
    let mut words = first.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut seen = Seen { path: path.to_owned(), authorization: None, offset: 0 };
    for line in lines {
        let line = line?;
        let Some((key, value)) = line.split_once(": ") else { break };
        match key.to_ascii_lowercase().as_str() {
            "authorization" => seen.authorization = Some(value.to_owned()),
            "range" => {
                let from = value.trim_start_matches("bytes=").trim_end_matches('-');
                seen.offset = from.parse().unwrap_or(0);
            }
            _ => {}
        }
    }
    Ok(Some(Request { method: method.to_owned(), seen }))
}

/// What the faults make of an answer.
struct Answer {
    body: Vec<u8>,
    media: String,
    ranges: bool,
    most: usize,
    stall: Option<Duration>,
    slow: Option<(usize, Duration)>,
}

/// The fault that applies, counted down where it is limited in number.
fn fault(state: &State, path: &str) -> Option<Fault> {
    let mut faults = state.faults.lock().expect("no panic");
    let at = faults.iter().position(|(part, _)| path.contains(part.as_str()))?;
    let fault = faults[at].1.clone();
    match &mut faults[at].1 {
        Fault::Times(1, ..) | Fault::Stall(_) => drop(faults.remove(at)),
        Fault::Times(left, ..) => *left -= 1,
        _ => {}
    }
    Some(fault)
}

fn serve(state: &State, port: u16, mut stream: TcpStream) -> std::io::Result<()> {
    let Some(Request { method, seen }) = read(&stream)? else { return Ok(()) };
    state.seen.lock().expect("no panic").push(seen.clone());
    if seen.path.starts_with("/token") {
        return send(&mut stream, "200 OK", "", br#"{"token":"let-me-in"}"#);
    }
    let object = state.objects.lock().expect("no panic").get(&seen.path).cloned();
    let Some((body, media)) = object else { return send(&mut stream, "404 Not Found", "", b"{}") };
    let mut answer = Answer { body, media, ranges: true, most: usize::MAX, stall: None, slow: None };
    let challenge =
        format!("WWW-Authenticate: Bearer realm=\"http://127.0.0.1:{port}/token\",service=\"rogue\"\r\n");
    match fault(state, &seen.path) {
        None => {}
        Some(Fault::Close) => return Ok(()),
        Some(Fault::Challenge) if seen.authorization.as_deref() == Some("Bearer let-me-in") => {}
        Some(Fault::Challenge | Fault::Deny) => {
            return send(&mut stream, "401 Unauthorized", &challenge, b"{}");
        }
        Some(Fault::Status(status, lines) | Fault::Times(_, status, lines)) => {
            return send(&mut stream, &format!("{status} No"), lines, b"{}");
        }
        Some(Fault::Cut(most, ranges)) => (answer.most, answer.ranges) = (most, ranges),
        Some(Fault::Stall(pause)) => answer.stall = Some(pause),
        Some(Fault::Body(body)) => answer.body = body,
        Some(Fault::Redirect(origin)) => {
            let line = format!("Location: {origin}{}\r\n", seen.path);
            return send(&mut stream, "307 Temporary Redirect", &line, b"");
        }
        Some(Fault::Media(media)) => media.clone_into(&mut answer.media),
        Some(Fault::Slow(size, pause)) => answer.slow = Some((size, pause)),
    }
    deliver(&mut stream, &method, &seen, &answer)
}

fn send(stream: &mut TcpStream, status: &str, lines: &str, body: &[u8]) -> std::io::Result<()> {
    let length = body.len();
    write!(stream, "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n{lines}\r\n")?;
    stream.write_all(body)
}

fn deliver(stream: &mut TcpStream, method: &str, seen: &Seen, answer: &Answer) -> std::io::Result<()> {
    let total = answer.body.len();
    let mut lines =
        format!("Content-Type: {}\r\nDocker-Content-Digest: {}\r\n", answer.media, Digest::of(&answer.body));
    let (mut status, mut from) = ("200 OK", 0);
    if answer.ranges && seen.offset > 0 {
        if seen.offset >= total {
            return send(stream, "416 Range Not Satisfiable", "", b"");
        }
        (status, from) = ("206 Partial Content", seen.offset);
        let range = format!("Content-Range: bytes {from}-{}/{total}\r\n", total - 1);
        lines.push_str(&range);
    }
    let length = total - from;
    write!(stream, "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n{lines}\r\n")?;
    if method == "HEAD" {
        return Ok(());
    }
    if let Some(pause) = answer.stall {
        std::thread::sleep(pause);
    }
    let body = &answer.body[from..from + length.min(answer.most)];
    let Some((size, pause)) = answer.slow else { return stream.write_all(body) };
    for chunk in body.chunks(size) {
        stream.write_all(chunk)?;
        std::thread::sleep(pause);
    }
    Ok(())
}
