//! A registry that takes pushes and gives them back, and misbehaves as it is told: HTTP/1.1 by hand, as in [`super::rogue`].

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use umiak::model::Digest;

/// `alice:s3cret pass`.
pub(crate) const BASIC: &str = "Basic YWxpY2U6czNjcmV0IHBhc3M=";

/// What it does wrong, or wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// So many times what was sent is forgotten.
    Lose(u32),
    /// Bodies of more bytes are refused.
    Most(usize),
    /// So many requests that change something are refused with 429.
    Busy(u32),
    /// Uploads go to this origin.
    Elsewhere(String),
    /// It names another digest than was sent.
    WrongDigest,
    /// So many bodies are cut after so many bytes.
    Cut(usize, u32),
    /// Tokens are good for so many requests.
    Tokens(u32),
    /// The token service exchanges a password for a refresh token, and that for tokens; a password again is refused.
    Identity,
    /// Name and password.
    Password,
    /// What is pushed is refused, with these words.
    Refuse(u16, &'static str),
    /// Uploads are answered with a web page.
    Page,
}

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) authorization: Option<String>,
    /// Bytes of the body.
    pub(crate) length: usize,
    pub(crate) range: Option<String>,
}

#[derive(Debug, Default)]
struct Content {
    /// `repository/blobs/digest`, `repository/manifests/tag`.
    objects: HashMap<String, (Vec<u8>, String)>,
    uploads: HashMap<String, Vec<u8>>,
    /// Fixed answers by path.
    pages: HashMap<String, (String, String)>,
    asked: Vec<Asked>,
    trouble: Vec<Trouble>,
    next: u32,
    /// The token that is good, and how often it still is.
    token: (u32, u32),
}

#[derive(Debug)]
pub(crate) struct Depot {
    port: u16,
    content: Arc<Mutex<Content>>,
    stop: Arc<AtomicBool>,
}

impl Depot {
    pub(crate) fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let (content, stop) = (Arc::new(Mutex::new(Content::default())), Arc::new(AtomicBool::new(false)));
        let (shared, ends) = (Arc::clone(&content), Arc::clone(&stop));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ends.load(Ordering::Relaxed) {
                    break;
                }
                let (Ok(stream), content) = (stream, Arc::clone(&shared)) else { continue };
                // A client that goes away is no failure of the test.
                std::thread::spawn(move || drop(serve(&content, port, &stream)));
            }
        });
        Self { port, content, stop }
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn content(&self) -> std::sync::MutexGuard<'_, Content> {
        self.content.lock().expect("no panic")
    }

    pub(crate) fn trouble(&self, trouble: Trouble) {
        self.content().trouble.push(trouble);
    }

    pub(crate) fn behave(&self) {
        self.content().trouble.clear();
    }

    /// Forgets all that was pushed.
    pub(crate) fn forget(&self) {
        let mut content = self.content();
        content.objects.clear();
        content.uploads.clear();
    }

    /// What was asked for since the last call.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.content().asked)
    }

    /// Whether it has something: `repository/blobs/digest` or `repository/manifests/tag`.
    pub(crate) fn get(&self, path: &str) -> Option<Vec<u8>> {
        self.content().objects.get(path).map(|(bytes, _)| bytes.clone())
    }

    /// From now on a path is answered with this body, and these header lines.
    pub(crate) fn page(&self, path: &str, body: &str, lines: &str) {
        self.content().pages.insert(path.to_owned(), (body.to_owned(), lines.to_owned()));
    }
}

impl Drop for Depot {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

struct Request {
    method: String,
    path: String,
    query: HashMap<String, String>,
    headers: HashMap<String, String>,
    body: Vec<u8>,
    cut: bool,
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let hex = after.get(..2).and_then(|two| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok());
        (bytes, rest) = match (first, hex) {
            (b'%', Some(byte)) => ([bytes, vec![byte]].concat(), &after[2..]),
            (b'+', _) => ([bytes, vec![b' ']].concat(), after),
            (byte, _) => ([bytes, vec![*byte]].concat(), after),
        };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn read(content: &Mutex<Content>, stream: &TcpStream) -> std::io::Result<Option<Request>> {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut words = first.split(' ');
    let (Some(method), Some(target)) = (words.next(), words.next()) else { return Ok(None) };
    // A proxy is asked with the whole address.
    let target = target
        .strip_prefix("http://")
        .and_then(|rest| rest.find('/').map(|at| &rest[at..]))
        .unwrap_or(target);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let query = query.split('&').filter_map(|pair| pair.split_once('='));
    let query = query.map(|(key, value)| (decoded(key), decoded(value))).collect();
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((key, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(key.to_ascii_lowercase(), value.to_owned());
    }
    let length = headers.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let most = {
        let mut content = content.lock().expect("no panic");
        let cut = content.trouble.iter_mut().find_map(|trouble| match trouble {
            Trouble::Cut(at, times) if *times > 0 && length > *at => {
                *times -= 1;
                Some(*at)
            }
            _ => None,
        });
        cut.unwrap_or(length)
    };
    let mut body = vec![0; most];
    reader.read_exact(&mut body)?;
    let request = Request {
        method: method.to_owned(),
        path: path.to_owned(),
        query,
        headers,
        body,
        cut: most < length,
    };
    content.lock().expect("no panic").asked.push(Asked {
        method: request.method.clone(),
        path: target.to_owned(),
        authorization: request.headers.get("authorization").cloned(),
        length,
        range: request.headers.get("content-range").cloned(),
    });
    Ok(Some(request))
}

struct Answer(u16, String, Vec<u8>);

fn plain(status: u16, lines: &str) -> Answer {
    Answer(status, lines.to_owned(), b"{}".to_vec())
}

fn serve(content: &Mutex<Content>, port: u16, mut stream: &TcpStream) -> std::io::Result<()> {
    let Some(request) = read(content, stream)? else { return Ok(()) };
    let Answer(status, lines, body) = {
        let mut content = content.lock().expect("no panic");
        let answer = answer(&mut content, port, &request);
        if request.cut {
            return Ok(());
        }
        answer
    };
    let length = body.len();
    let empty = request.method == "HEAD" || status == 204;
    let told = if status == 204 { String::new() } else { format!("Content-Length: {length}\r\n") };
    write!(stream, "HTTP/1.1 {status} X\r\nConnection: close\r\n{told}{lines}\r\n")?;
    if empty { Ok(()) } else { stream.write_all(&body) }
}

fn answer(content: &mut Content, port: u16, request: &Request) -> Answer {
    if let Some((body, lines)) = content.pages.get(&request.path) {
        let status = if lines.starts_with("Location") { 307 } else { 200 };
        return Answer(status, lines.clone(), body.clone().into_bytes());
    }
    if request.path == "/token" {
        let uses = content.trouble.iter().find_map(|trouble| match trouble {
            Trouble::Tokens(uses) => Some(*uses),
            _ => None,
        });
        let body = String::from_utf8_lossy(&request.body);
        let mut refresh = "";
        if content.trouble.contains(&Trouble::Identity) {
            let known = request.headers.get("authorization").is_some_and(|value| value == BASIC);
            match request.method.as_str() {
                "GET" if known && request.query.contains_key("offline_token") => {
                    refresh = r#","refresh_token":"fresh""#;
                }
                "POST"
                    if body.contains("grant_type=refresh_token") && body.contains("refresh_token=fresh") => {}
                _ => return plain(401, ""),
            }
        }
        content.token = (content.token.0 + 1, uses.unwrap_or(u32::MAX));
        return Answer(
            200,
            String::new(),
            format!(r#"{{"token":"t{}"{refresh}}}"#, content.token.0).into_bytes(),
        );
    }
    if let Some(refused) = door(content, port, request) {
        return refused;
    }
    let Some(rest) = request.path.strip_prefix("/v2/") else { return plain(404, "") };
    if rest.is_empty() {
        return plain(200, "");
    }
    match (request.method.as_str(), rest.split_once("/blobs/uploads/")) {
        (_, Some((repository, id))) => upload(content, port, request, repository, id),
        ("PUT", None) => {
            let media = request.headers.get("content-type").cloned().unwrap_or_default();
            let digest = Digest::of(&request.body);
            let (repository, _) = rest.split_once("/manifests/").expect("a manifest");
            content.objects.insert(rest.to_owned(), (request.body.clone(), media.clone()));
            content.objects.insert(format!("{repository}/manifests/{digest}"), (request.body.clone(), media));
            let wrong = content.trouble.contains(&Trouble::WrongDigest);
            let named = if wrong { Digest::of(b"another") } else { digest };
            plain(201, &format!("Docker-Content-Digest: {named}\r\n"))
        }
        _ => match content.objects.get(rest) {
            Some((bytes, media)) => {
                let lines =
                    format!("Content-Type: {media}\r\nDocker-Content-Digest: {}\r\n", Digest::of(bytes));
                Answer(200, lines, bytes.clone())
            }
            None => plain(404, ""),
        },
    }
}

/// Whether a request is let in, and what is said if not.
fn door(content: &mut Content, port: u16, request: &Request) -> Option<Answer> {
    let authorization = request.headers.get("authorization").map(String::as_str);
    let changes = matches!(request.method.as_str(), "POST" | "PUT" | "PATCH");
    let (number, uses) = &mut content.token;
    for trouble in &mut content.trouble {
        match trouble {
            Trouble::Tokens(_) => {
                let good = format!("Bearer t{number}");
                if authorization != Some(&good) || *uses == 0 {
                    let realm =
                        format!("WWW-Authenticate: Bearer realm=\"http://127.0.0.1:{port}/token\"\r\n");
                    return Some(plain(401, &realm));
                }
                *uses -= 1;
            }
            Trouble::Password if authorization != Some(BASIC) => {
                return Some(plain(401, "WWW-Authenticate: Basic realm=\"depot\"\r\n"));
            }
            Trouble::Busy(times) if changes && *times > 0 => {
                *times -= 1;
                return Some(plain(429, "Retry-After: 1\r\n"));
            }
            Trouble::Refuse(status, words) if changes => {
                return Some(Answer(*status, String::new(), words.as_bytes().to_vec()));
            }
            Trouble::Page if changes => {
                return Some(Answer(
                    200,
                    "Content-Type: text/html\r\n".into(),
                    b"<html>hello</html>".to_vec(),
                ));
            }
            Trouble::Most(most) if request.body.len() > *most => return Some(plain(413, "")),
            _ => {}
        }
    }
    None
}

fn upload(content: &mut Content, port: u16, request: &Request, repository: &str, id: &str) -> Answer {
    if request.method == "POST" {
        let mounted = request.query.get("mount").zip(request.query.get("from"));
        if let Some((digest, from)) = mounted
            && let Some(found) = content.objects.get(&format!("{from}/blobs/{digest}")).cloned()
        {
            content.objects.insert(format!("{repository}/blobs/{digest}"), found);
            return plain(201, "");
        }
        content.next += 1;
        let id = format!("u{}", content.next);
        content.uploads.insert(id.clone(), Vec::new());
        let elsewhere = content.trouble.iter().find_map(|trouble| match trouble {
            Trouble::Elsewhere(origin) => Some(origin.clone()),
            _ => None,
        });
        let origin = elsewhere.unwrap_or_default();
        return plain(202, &format!("Location: {origin}/v2/{repository}/blobs/uploads/{id}?state=a%2Fb\r\n"));
    }
    // Uploads that another depot began are taken here.
    let foreign = request.headers.get("host").is_some_and(|host| host.ends_with(&port.to_string()));
    let known = content.uploads.contains_key(id);
    if !(known || foreign && id.starts_with('u') && content.trouble.is_empty()) {
        return plain(404, "");
    }
    let bytes = content.uploads.entry(id.to_owned()).or_default();
    let at = bytes.len();
    let begins = request.headers.get("content-range").and_then(|text| text.split_once('-')?.0.parse().ok());
    if begins.is_some_and(|begin: usize| begin != at) {
        return plain(416, "");
    }
    bytes.extend(&request.body);
    let end = bytes.len().saturating_sub(1);
    for trouble in &mut content.trouble {
        if let Trouble::Lose(times) = trouble
            && *times > 0
            && !request.body.is_empty()
        {
            *times -= 1;
            content.uploads.remove(id);
            return plain(404, "");
        }
    }
    let location = format!("Location: /v2/{repository}/blobs/uploads/{id}?state=c\r\nRange: 0-{end}\r\n");
    match request.method.as_str() {
        "PATCH" => plain(202, &location),
        "GET" => plain(204, &location),
        "PUT" if !request.cut => {
            let body = content.uploads.remove(id).unwrap_or_default();
            let digest = Digest::of(&body);
            if request.query.get("digest").map(String::as_str) != Some(digest.as_str()) {
                return Answer(400, String::new(), br#"{"errors":[{"code":"DIGEST_INVALID"}]}"#.to_vec());
            }
            content
                .objects
                .insert(format!("{repository}/blobs/{digest}"), (body, "application/octet-stream".into()));
            plain(201, &format!("Docker-Content-Digest: {digest}\r\n"))
        }
        _ => plain(204, ""),
    }
}
