//! The slim build, which has no compiler: what another build compiled runs, and the rest is refused by name. `UMIAK_SLIM` names its binary
//! (`cargo build --release --no-default-features --features interpreter`, in a target directory of its own). It is given
//! interpreted code as well.

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

/// Files of configurations: for the processor, and where this build compiles for the interpreter, for that.
fn configurations(host: &Host) -> Vec<String> {
    let targets = if cfg!(feature = "interpreter") { &["native", "pulley64"][..] } else { &["native"][..] };
    targets.iter().map(|target| configuration(host, target)).collect()
}

fn configuration(host: &Host, target: &str) -> String {
    let file = host.dir().join(format!("{target}.toml"));
    let text = format!("default-network = \"none\"\n[wasm]\ntarget = \"{target}\"\n");
    std::fs::write(&file, text).expect("a file");
    file.to_string_lossy().into_owned()
}

/// Pulls by the build that compiles.
fn pull(host: &Host, config: &str, image: &str) {
    host.umiak(&["--config", config, "pull", "-q", "--platform", "wasi/wasm", image]).exits(0);
}

#[test]
fn what_another_build_compiled_runs() {
    require!(root, registry, slim);
    let host = Host::new();
    for config in configurations(&host) {
        for tag in ["tar-p1", "artifact-p2"] {
            let image = image("hello", tag);
            pull(&host, &config, &image);
            let run = ["--config", &config, "run", "--rm", "--platform", "wasi/wasm", &image];
            assert_eq!(slim(&host, &run).exits(0).stdout, "hello from wasm\n", "{config} {tag}");
        }
        for (name, tag, hello) in
            [("serve2", "artifact-p2", "hello from 0.2"), ("serve3", "artifact-p3", "hello from 0.3")]
        {
            let image = image(name, tag);
            pull(&host, &config, &image);
            let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
            let port = port.expect("a port").port();
            let publish = format!("127.0.0.1:{port}:80");
            let run = ["run", "-d", "--name", name, "--platform", "wasi/wasm", "-p", &publish, &image];
            slim(&host, &[&["--config", &config][..], &run].concat()).exits(0);
            let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a server");
            stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("sent");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).expect("an answer");
            assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with(hello), "{config}: {answer}");
            slim(&host, &["rm", "-f", name]).exits(0);
        }
    }
}

#[test]
fn code_that_is_copied_into_another_store_runs_there() {
    require!(root, registry, slim);
    let (host, edge) = (Host::new(), Host::new());
    let images = [image("hello", "tar-p1"), image("hello", "artifact-p2"), image("run3", "artifact-p3")];
    for config in configurations(&host) {
        for image in &images {
            pull(&host, &config, image);
            slim(&edge, &["--config", &config, "pull", "-q", "--platform", "wasi/wasm", image]).exits(0);
        }
        let [from, to] = [&host, &edge].map(|store| store.root().join("cache/wasm"));
        let copied = std::process::Command::new("cp").arg("-rT").args([from, to]).status();
        assert!(copied.expect("cp starts").success());
        for image in &images {
            let out = slim(&edge, &["--config", &config, "run", "--rm", image]).exits(0);
            assert!(out.stdout.starts_with("hello from wasm\n") || out.stdout.starts_with("arguments "));
        }
    }
    let kept = code(&host).len();
    assert_eq!(kept, images.len() * configurations(&host).len(), "each kind of code has names of its own");
}

/// The files of compiled code.
fn code(host: &Host) -> Vec<String> {
    host.list("cache/wasm").into_iter().filter(|name| name.contains(".cwasm")).collect()
}

#[test]
fn code_that_was_changed_is_refused_by_name() {
    require!(root, registry, slim);
    let host = Host::new();
    let image = image("hello", "artifact-p2");
    for config in configurations(&host) {
        let before = code(&host);
        pull(&host, &config, &image);
        let new = code(&host).into_iter().find(|name| !before.contains(name)).expect("code");
        let file = host.root().join("cache/wasm").join(new);
        let mut bytes = std::fs::read(&file).expect("code");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&file, bytes).expect("written");
        let run = ["--config", &config, "run", "--rm", "--platform", "wasi/wasm", &image];
        slim(&host, &run).fails(125, &["is refused", "its content was changed", "has a compiler"]);
        // Who has a compiler builds it anew, for both.
        assert_eq!(host.umiak(&run).exits(0).stdout, "hello from wasm\n");
        assert_eq!(slim(&host, &run).exits(0).stdout, "hello from wasm\n");
    }
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
    let config = configuration(&host, "pulley64");
    slim(&host, &["--config", &config, "run", "--rm", "--platform", "wasi/wasm", &image])
        .fails(125, &["has not been compiled for pulley64"]);
}
