//! Debian's registry behind a door: a password file, a token service, TLS with an authority of our own. Everything is made by
//! `openssl` when a test wants it, in a folder of its own.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The password of `alice`, and what `htpasswd -B` makes of it.
pub(crate) const PASSWORD: &str = "s3cret pass";
const HTPASSWD: &str = "alice:$2y$05$abcdefghijklmnopqrstuu1qdcFaS0PtqFUPzaCxLQ8/0lspH0ZEW\n";

/// What the door is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    Password,
    Token,
    /// TLS and the password.
    Tls,
    /// TLS, and a client's certificate.
    Client,
}

#[derive(Debug)]
pub(crate) struct Private {
    pub(crate) address: String,
    dir: tempfile::TempDir,
    child: Child,
}

fn openssl(dir: &Path, args: &str) {
    let out = Command::new("openssl")
        .args(args.split(' '))
        .current_dir(dir)
        .output()
        .expect("openssl is installed");
    assert!(out.status.success(), "openssl {args}: {}", String::from_utf8_lossy(&out.stderr));
}

/// An authority, and certificates by it for the server and a client.
fn certificates(dir: &Path) {
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    openssl(dir, &format!("req -x509 {key} -keyout ca.key -out ca.pem -days 2 -subj /CN=ca"));
    for (name, usage) in [("server", "serverAuth"), ("client", "clientAuth")] {
        let text = format!("subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage={usage}\n");
        std::fs::write(dir.join("extensions"), text).expect("written");
        openssl(dir, &format!("req {key} -keyout {name}.key -out {name}.csr -subj /CN={name}"));
        let by = "-CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile extensions";
        openssl(dir, &format!("x509 -req -in {name}.csr {by} -out {name}.pem"));
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address").port()
}

impl Private {
    pub(crate) fn new(door: Door) -> Self {
        let dir = tempfile::Builder::new().prefix("umiak-private-").tempdir().expect("a folder");
        let (path, port) = (dir.path(), free_port());
        let at = path.display();
        std::fs::write(path.join("htpasswd"), HTPASSWD).expect("written");
        let password = format!("auth: {{htpasswd: {{realm: umiak, path: {at}/htpasswd}}}}\n");
        let mut more = String::new();
        let mut http = format!("addr: 127.0.0.1:{port}");
        match door {
            Door::Password => more = password,
            Door::Token => {
                let keys = "req -x509 -newkey rsa:2048 -nodes -keyout token.key -out token.pem -days 2 -subj /CN=token";
                openssl(path, keys);
                let realm = token_service(path.to_owned());
                let service = format!(
                    "realm: \"{realm}\", service: depot, issuer: umiak, rootcertbundle: {at}/token.pem"
                );
                let _ = writeln!(more, "auth: {{token: {{{service}}}}}");
            }
            Door::Tls | Door::Client => {
                certificates(path);
                let clients = if door == Door::Client {
                    format!(", clientcas: [\"{at}/ca.pem\"]")
                } else {
                    String::new()
                };
                let _ =
                    write!(http, ", tls: {{certificate: {at}/server.pem, key: {at}/server.key{clients}}}");
                if door == Door::Tls {
                    more = password;
                }
            }
        }
        let config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {at}/data}}, delete: {{enabled: true}}}}\nhttp: {{{http}}}\n{more}"
        );
        std::fs::write(path.join("config.yml"), config).expect("written");
        // It ends with this process, in whatever way that ends.
        let script =
            "docker-registry serve config.yml >log 2>&1 </dev/null & trap \"kill $!\" EXIT; cat >/dev/null";
        let child = Command::new("bash")
            .args(["-c", script])
            .current_dir(path)
            .stdin(Stdio::piped())
            .spawn()
            .expect("bash starts");
        let end = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let log = std::fs::read_to_string(path.join("log")).unwrap_or_default();
            assert!(Instant::now() < end, "the registry does not start: {log}");
            std::thread::sleep(Duration::from_millis(10));
        }
        Self { address: format!("localhost:{port}"), dir, child }
    }

    /// A file that was made for it: `ca.pem`, `client.pem`, `client.key`.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

fn base64(dir: &Path, bytes: &[u8]) -> String {
    let mut child = Command::new("openssl")
        .args(["base64", "-A"])
        .current_dir(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("openssl");
    child.stdin.take().expect("piped").write_all(bytes).expect("written");
    String::from_utf8(child.wait_with_output().expect("ended").stdout).expect("text").trim().to_owned()
}

fn url_safe(text: &str) -> String {
    text.trim_end_matches('=').replace('+', "-").replace('/', "_")
}

/// A token service in a thread, for `alice` and for nobody; its address. It ends with the process.
fn token_service(dir: PathBuf) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("its address").port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
            let first = lines.next().unwrap_or_default();
            let authorization = lines.take_while(|line| !line.is_empty()).find_map(|line| {
                line.to_lowercase().starts_with("authorization: ").then(|| line[15..].to_owned())
            });
            let known = authorization.as_deref() == Some(super::depot::BASIC);
            let (status, body) = if authorization.is_some() && !known {
                ("401 Unauthorized", r#"{"errors":[{"code":"UNAUTHORIZED","message":"who?"}]}"#.to_owned())
            } else {
                ("200 OK", format!(r#"{{"token":"{}","expires_in":300}}"#, token(&dir, &first, known)))
            };
            let head =
                format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
            let _ = (&stream).write_all((head + &body).as_bytes());
        }
    });
    format!("http://127.0.0.1:{port}/token")
}

/// A signed token for the scopes of a request's first line; anonymous people may only pull.
fn token(dir: &Path, line: &str, known: bool) -> String {
    let mut access = Vec::new();
    for pair in line.split(' ').nth(1).unwrap_or_default().split(['?', '&']) {
        let scope = pair
            .strip_prefix("scope=")
            .unwrap_or_default()
            .replace("%3A", ":")
            .replace("%2F", "/")
            .replace("%2C", ",");
        let parts: Vec<&str> = scope.split(':').collect();
        if let [kind, name, actions] = parts.as_slice() {
            let allowed: Vec<&str> = actions.split(',').filter(|action| known || *action == "pull").collect();
            access.push(serde_json::json!({ "type": kind, "name": name, "actions": allowed }));
        }
    }
    let now = seconds_since_1970();
    let claims = serde_json::json!({ "iss": "umiak", "aud": "depot", "sub": "alice", "exp": now + 300, "nbf": now - 10,
        "iat": now, "jti": "1", "access": access });
    let pem = std::fs::read_to_string(dir.join("token.pem")).expect("made");
    let chain: String = pem.lines().filter(|line| !line.starts_with("--")).collect();
    let head = serde_json::json!({ "typ": "JWT", "alg": "RS256", "x5c": [chain] });
    let part = |value: &serde_json::Value| url_safe(&base64(dir, value.to_string().as_bytes()));
    let text = format!("{}.{}", part(&head), part(&claims));
    let mut child = Command::new("openssl")
        .args(["dgst", "-sha256", "-sign", "token.key"])
        .current_dir(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("openssl");
    child.stdin.take().expect("piped").write_all(text.as_bytes()).expect("written");
    let signature = child.wait_with_output().expect("ended").stdout;
    format!("{text}.{}", url_safe(&base64(dir, &signature)))
}

fn seconds_since_1970() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs()
}
