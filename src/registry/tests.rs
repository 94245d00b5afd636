//! Manifests from tables, and the client against a small HTTP server on loopback that misbehaves on request.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::config::Config;
use crate::model::{Digest, ErrorKind, Kind, Packaging, Platform};
use crate::reference::Reference;

const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const TAR: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// What the server answers: status, headers, body, and how many bytes of the body it sends before it cuts.
struct Answer(u16, Vec<(&'static str, String)>, Vec<u8>, Option<usize>);

fn ok(body: &[u8]) -> Answer {
    Answer(200, vec![], body.to_vec(), None)
}

/// Serves until the test's runtime ends; every request's head is kept.
async fn serve(answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let heads = Arc::new(Mutex::new(Vec::new()));
    let (kept, answer) = (heads.clone(), Arc::new(answer));
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let (kept, answer) = (kept.clone(), answer.clone());
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(socket.read_u8().await?);
                }
                let head = String::from_utf8_lossy(&head).to_lowercase();
                kept.lock().unwrap().push(head.clone());
                let Answer(status, headers, body, cut) = answer(&head);
                let mut text =
                    format!("HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
                for (name, value) in headers {
                    text.extend([name, ": ", &value, "\r\n"]);
                }
                socket.write_all((text + "\r\n").as_bytes()).await?;
                socket.write_all(&body[..cut.unwrap_or(body.len())]).await?;
                if status == 299 {
                    std::future::pending::<()>().await;
                }
                socket.shutdown().await
            });
        }
    });
    (host, heads)
}

fn config(os: &str, architecture: &str, diff_ids: &[&Digest]) -> Vec<u8> {
    json!({"os": os, "architecture": architecture, "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "config": {"Env": ["A=b\nc"], "Cmd": ["true"], "Volumes": {"/v": {}}, "OnBuild": null}})
    .to_string()
    .into_bytes()
}

fn manifest(config: &[u8], config_type: &str, layers: &[(&str, &Digest)]) -> Vec<u8> {
    let layers: Vec<_> =
        layers.iter().map(|(t, d)| json!({"mediaType": t, "digest": d, "size": 5})).collect();
    json!({"schemaVersion": 2, "mediaType": manifest::OCI_MANIFEST, "layers": layers,
        "config": {"mediaType": config_type, "digest": Digest::of(config), "size": config.len()}})
    .to_string()
    .into_bytes()
}

fn image_error(manifest: &[u8], config: &[u8]) -> String {
    image_from(manifest, config, &Digest::of(b"t")).unwrap_err().to_string()
}

#[test]
fn every_packaging_is_read() {
    let layer = Digest::of(b"l");
    let wasm = "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm";
    for (os, arch, config_type, layer_type, packaging) in [
        ("linux", "amd64", OCI_CONFIG, TAR, Packaging::Image),
        ("wasi", "wasm", OCI_CONFIG, TAR, Packaging::Image),
        ("Wasip1", "wasm", OCI_CONFIG, wasm, Packaging::WasmLayer),
        ("wasip2", "wasm", manifest::WASM_CONFIG, "application/wasm", Packaging::WasmArtifact),
    ] {
        let config = config(os, arch, &[&layer]);
        let bytes = manifest(&config, config_type, &[(layer_type, &layer)]);
        let image = image_from(&bytes, &config, &layer).unwrap();
        assert_eq!((image.packaging, image.platform), (packaging, Platform::new(os, arch, None)));
        assert_eq!((image.id, image.manifest), (Digest::of(&config), Digest::of(&bytes)));
        assert_eq!(image.platform_as_published, format!("{os}/{arch}"));
        assert_eq!((image.config.env, image.config.volumes), (vec!["A=b\nc".into()], vec!["/v".into()]));
    }
}

#[test]
fn hostile_manifests_are_refused() {
    let (layer, other) = (Digest::of(b"l"), Digest::of(b"o"));
    let good = config("linux", "amd64", &[&layer]);
    let wasm = config("wasip1", "wasm", &[&other]);
    let two = config("wasip1", "wasm", &[&layer, &layer]);
    let of = |config_type: &str, layer_type: &str| manifest(&good, config_type, &[(layer_type, &layer)]);
    let text = String::from_utf8(of(OCI_CONFIG, TAR)).unwrap();
    for (bytes, config, message) in [
        (of("application/x", TAR), &good, "unsupported media type `application/x` of the config"),
        (of(OCI_CONFIG, "application/y"), &good, "unsupported media type `application/y` of the layer"),
        (
            manifest(
                &two,
                OCI_CONFIG,
                &[
                    ("application/vnd.fermyon.spin.application.v1+config", &other),
                    ("application/vnd.wasm.content.layer.v1+wasm", &layer),
                ],
            ),
            &two,
            "this is a Spin application",
        ),
        (of("application/vnd.wasmcloud.actor.archive.config", "application/wasm"), &good, "needs wasmCloud"),
        (of(OCI_CONFIG, "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"), &good, "not allowed"),
        (manifest(&good, OCI_CONFIG, &[]), &good, "0 layers but the config has 1 diff ids"),
        (manifest(&good, OCI_CONFIG, &[("application/wasm", &layer)]), &good, "a wasm layer is for `wasm`"),
        (manifest(&wasm, OCI_CONFIG, &[("application/wasm", &layer)]), &wasm, "has another digest"),
        (
            manifest(&two, OCI_CONFIG, &[("application/wasm", &layer); 2]),
            &two,
            "has one layer, this one has 2",
        ),
        (text.replacen('{', "{\"manifests\":[],", 1).into(), &good, "both `manifests` and `layers`"),
        (text.replacen('{', "{\"Layers\":[],", 1).into(), &good, "two spellings"),
        (text.replacen('{', "{\"layers\":[],", 1).into(), &good, "malformed"),
        (text.replace("sha256:", "sha256:../").into(), &good, "malformed"),
        (text.replace("\"schemaVersion\":2", "\"schemaVersion\":1").into(), &good, "malformed"),
        (text.clone().into(), &wasm, "names config"),
        (vec![b'['; 100_000], &good, "malformed"),
        (b"{\"schemaVersion\":1,\"fsLayers\":[]}".to_vec(), &good, "unsupported media type"),
    ] {
        let error = image_error(&bytes, config);
        assert!(error.contains(message), "{message}: {error}");
    }
    for (key, value) in [
        ("User", json!("a\nb")),
        ("WorkingDir", json!("/\u{0}")),
        ("Env", json!(["=x"])),
        ("Env", json!(["A\n=x"])),
        ("Cmd", json!(["a\u{0}"])),
        ("Volumes", json!({"/../etc": {}})),
    ] {
        let config = json!({"os": "linux", "architecture": "amd64", "config": {key: value}}).to_string();
        let error = image_error(&manifest(config.as_bytes(), OCI_CONFIG, &[]), config.as_bytes());
        assert!(error.contains(key), "{error}");
    }
    assert!(
        manifest::document(text.as_bytes(), Some(manifest::OCI_INDEX)).is_err(),
        "header and body differ"
    );
}

#[test]
fn the_best_platform_is_first() {
    let entries: Vec<Descriptor> =
        ["unknown/unknown", "linux/arm/v5", "linux/arm/v7", "wasip1/wasm", "linux/amd64/v3", "linux/amd64"]
            .iter()
            .map(|text| {
                let parts: Vec<&str> = text.split('/').collect();
                serde_json::from_value(json!({"digest": Digest::of(text.as_bytes()), "size": 1, "platform":
                {"os": parts[0], "architecture": parts[1], "variant": parts.get(2)}}))
                .unwrap()
            })
            .collect();
    for (wanted, best) in [
        (vec!["linux/amd64"], Some("linux/amd64")),
        (vec!["linux/arm"], Some("linux/arm/v7")),
        (vec!["linux/arm/v6"], Some("linux/arm/v5")),
        (vec!["linux/arm/v8"], Some("linux/arm/v7")),
        (vec!["linux/s390x", "wasi/wasm"], Some("wasip1/wasm")),
        (vec!["linux/s390x"], None),
        (vec!["unknown/other"], None),
        (vec![], Some("linux/arm/v5")),
    ] {
        let wishes: Vec<Platform> = wanted.iter().map(|text| text.parse().unwrap()).collect();
        let found = select(&entries, &wishes).first().map(|entry| entry.digest.clone());
        assert_eq!(found, best.map(|text| Digest::of(text.as_bytes())), "{wanted:?}");
    }
}

#[tokio::test]
async fn a_token_is_fetched_and_never_follows_a_redirect() {
    let layer = Digest::of(b"l");
    let config_bytes = config("linux", "amd64", &[&layer]);
    let bytes = manifest(&config_bytes, OCI_CONFIG, &[(TAR, &layer)]);
    let stored = config_bytes.clone();
    let (other, other_heads) = serve(move |_| ok(&stored)).await;
    let (realm, _) = serve(|_| ok(b"{\"token\":\"secret\"}")).await;
    let (host, heads) = serve(move |head| {
        if !head.contains("authorization: bearer secret") {
            return Answer(
                401,
                vec![("www-authenticate", format!("Bearer realm=\"http://{realm}/t\""))],
                vec![],
                None,
            );
        }
        if head.contains("/blobs/") {
            return Answer(307, vec![("location", format!("http://{other}/x"))], vec![], None);
        }
        ok(&bytes)
    })
    .await;
    let name: Reference = format!("{host}/x").parse().unwrap();
    let client = Client::new(&Config::default());
    let resolved = client.resolve(&name, &["linux/amd64".parse().unwrap()]).await.unwrap();
    assert_eq!(resolved.image.id, Digest::of(&config_bytes));
    assert_eq!(heads.lock().unwrap().len(), 3, "one 401, then the token is kept");
    assert!(!other_heads.lock().unwrap()[0].contains("authorization"));
    let error = client.resolve(&name, &[Platform::wasi()]).await.unwrap_err();
    assert!(error.to_string().contains("not available for wasi/wasm: it has linux/amd64"), "{error}");
}

#[tokio::test]
async fn names_that_cannot_be_had() {
    let client = Client::new(&Config::default()).with_idle(Duration::from_millis(200));
    let (host, _) = serve(|head| match () {
        () if head.contains("/none/") => Answer(404, vec![], vec![], None),
        () if head.contains("/private/") => {
            Answer(401, vec![("www-authenticate", "Basic".into())], vec![], None)
        }
        () if head.contains("/busy/") => Answer(429, vec![("retry-after", "600".into())], vec![], None),
        () if head.contains("/endless/") => ok(&vec![b' '; 5 << 20]),
        () if head.contains("/circle/") => {
            Answer(302, vec![("location", "/v2/circle/".into())], vec![], None)
        }
        () => ok(b"{}"),
    })
    .await;
    for (repository, message, kind) in [
        ("none", "not found: manifest unknown", ErrorKind::NotFound),
        ("private", "pull access denied for", ErrorKind::NotFound),
        ("busy", "limits the rate", ErrorKind::Unavailable),
        ("endless", "more than 4194304 bytes of a manifest", ErrorKind::InvalidInput),
        ("circle", "in circles", ErrorKind::Unavailable),
        ("wrong", "cannot be used", ErrorKind::InvalidInput),
    ] {
        let name: Reference = format!("{host}/{repository}").parse().unwrap();
        let error = client.resolve(&name, &[]).await.unwrap_err();
        assert!(error.to_string().contains(message), "{repository}: {error}");
        assert_eq!(error.kind(), kind, "{repository}");
    }
    let pinned: Reference = format!("{host}/x@{}", Digest::of(b"other")).parse().unwrap();
    assert!(matches!(client.resolve(&pinned, &[]).await, Err(RegistryError::WrongDigest { .. })));
    let down: Reference = "127.0.0.1:1/x".parse().unwrap();
    assert!(matches!(client.resolve(&down, &[]).await, Err(RegistryError::Unreachable { .. })));
}

#[derive(Default)]
struct Memory(Vec<u8>, usize);

impl Sink for Memory {
    fn offset(&self) -> u64 {
        self.0.len() as u64
    }
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
    fn restart(&mut self) -> io::Result<()> {
        self.1 += 1;
        self.0.clear();
        Ok(())
    }
}

#[tokio::test]
async fn downloads_resume_restart_and_end() {
    let body: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    let (whole, digest, size) = (body.clone(), Digest::of(&body), body.len() as u64);
    let (host, heads) = serve(move |head| {
        let from =
            head.split("range: bytes=").nth(1).and_then(|rest| rest.split('-').next()?.parse::<usize>().ok());
        match from {
            _ if head.contains("/slow/") => Answer(299, vec![], whole.clone(), Some(10)),
            _ if head.contains("/more/") => ok(&[&whole[..], b"x"].concat()),
            _ if head.contains("/none/") => Answer(404, vec![], vec![], None),
            Some(from) if head.contains("/range/") => {
                let range = format!("bytes {from}-{}/{}", whole.len() - 1, whole.len());
                Answer(206, vec![("content-range", range)], whole[from..].to_vec(), None)
            }
            Some(_) => ok(&whole),
            None => Answer(200, vec![], whole.clone(), Some(150_000)),
        }
    })
    .await;
    let client = Client::new(&Config::default()).with_idle(Duration::from_millis(100));
    let source = |repository: &str| Source { host: host.clone(), repository: repository.into() };
    for (repository, restarts) in [("range", 0), ("whole", 1)] {
        let mut sink = Memory::default();
        let mut last = 0;
        client.download(&source(repository), &digest, size, &mut sink, &mut |at| last = at).await.unwrap();
        assert!(sink.0 == body && sink.1 == restarts && last == size, "{repository}: {} restarts", sink.1);
    }
    assert_eq!(heads.lock().unwrap().len(), 4);
    let fetch = async |repository: &str| {
        client
            .download(&source(repository), &digest, size, &mut Memory::default(), &mut |_| ())
            .await
            .unwrap_err()
    };
    assert!(matches!(fetch("more").await, RegistryError::TooLarge { .. }));
    assert!(matches!(fetch("none").await, RegistryError::BlobNotFound { .. }));
    let mut slow = client.blob(&source("slow"), &digest, size, 0).await.unwrap();
    let end = loop {
        match slow.chunk().await {
            Ok(Some(_)) => {}
            end => break end,
        }
    };
    assert!(matches!(end, Err(RegistryError::TimedOut { .. })), "{end:?}");
}

#[tokio::test]
async fn an_upload_that_nobody_reads_ends() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let own = host.clone();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut head = vec![0; 4];
            socket.read_exact(&mut head).await.unwrap();
            let answer = match head.as_slice() {
                b"HEAD" => "404 No\r\n".to_owned(),
                b"POST" => format!("202 Yes\r\nLocation: http://{own}/v2/x/blobs/uploads/1\r\n"),
                // Nothing is read, and nothing said.
                b"PATC" => {
                    kept.push(socket);
                    continue;
                }
                _ => "403 No\r\n".to_owned(),
            };
            let text = format!("HTTP/1.1 {answer}Connection: close\r\nContent-Length: 0\r\n\r\n");
            socket.write_all(text.as_bytes()).await.unwrap();
            let _ = tokio::time::timeout(Duration::from_millis(50), socket.read(&mut [0; 4096])).await;
        }
    });
    let file = tempfile::NamedTempFile::new().unwrap();
    let bytes = vec![7; 32 << 20];
    std::fs::write(file.path(), &bytes).unwrap();
    let blob = Outgoing { digest: Digest::of(&bytes), size: 32 << 20, path: file.path().to_owned() };
    let client = Client::new(&Config::default()).with_idle(Duration::from_millis(100));
    let at = Source { host: host.clone(), repository: "x".into() };
    // It asks how far the upload is, and is told no.
    let error = client.upload(&at, &blob, &[], &|_| ()).await.unwrap_err();
    assert!(matches!(error, RegistryError::Status { status: 403, .. }), "{error}");
}
