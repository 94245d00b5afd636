//! The slim build, which has no compiler: what another build compiled runs, and the rest is refused by name. `UMIAK_SLIM` names its binary
//! (`cargo build --release --no-default-features --features interpreter`, in a target directory of its own).

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use crate::support::host::{Host, Output};
use crate::support::{registry, require};

fn image(name: &str, tag: &str) -> String {
    format!("{}/wasm/{name}:{tag}", registry::address())
}

/// The slim binary on a host's store.
fn slim(host: &Host, args: &[&str]) -> Output {
    host.another(&std::env::var("UMIAK_SLIM").expect("the tier was asked for"), args)
}

#[test]
fn what_another_build_compiled_runs() {
    require!(root, registry, slim);
    let host = Host::new();
    for tag in ["tar-p1", "artifact-p2"] {
        let image = image("hello", tag);
        host.umiak(&["pull", "-q", "--platform", "wasi/wasm", &image]).exits(0);
        let out = slim(&host, &["run", "--rm", "--platform", "wasi/wasm", &image]).exits(0);
        assert_eq!(out.stdout, "hello from wasm\n", "{tag}");
    }
    let port =
        TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
    let publish = format!("127.0.0.1:{port}:80");
    let image = image("serve3", "artifact-p3");
    host.umiak(&["pull", "-q", "--platform", "wasi/wasm", &image]).exits(0);
    slim(&host, &["run", "-d", "--name", "cc", "--platform", "wasi/wasm", "-p", &publish, &image]).exits(0);
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a server");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello from 0.3"), "{answer}");
    slim(&host, &["rm", "-f", "cc"]).exits(0);
}

#[test]
fn what_nobody_compiled_is_refused_by_name() {
    require!(root, registry, slim);
    let host = Host::new();
    let image = image("hello", "artifact-p2");
    // A pull says nothing of it: the image is whole, and another build may run it.
    slim(&host, &["pull", "-q", "--platform", "wasi/wasm", &image]).exits(0);
    let words = ["has not been compiled for", "has a compiler", "cache/wasm"];
    slim(&host, &["run", "--rm", "--platform", "wasi/wasm", &image]).fails(125, &words);
    // Code for the processor is none for the interpreter.
    host.umiak(&["run", "--rm", "--platform", "wasi/wasm", &image]).exits(0);
    slim(&host, &["run", "--rm", "--platform", "wasi/wasm", &image]).exits(0);
    let config = host.dir().join("interpreted.toml");
    std::fs::write(&config, "[wasm]\ntarget = \"pulley64\"\n").expect("a file");
    let config = config.to_string_lossy().into_owned();
    slim(&host, &["--config", &config, "run", "--rm", "--platform", "wasi/wasm", &image])
        .fails(125, &["has not been compiled for pulley64"]);
}
