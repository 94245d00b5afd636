//! One real registry per test process, started on first use. It serves until its standard input closes, which the kernel
//! does when this process ends in whatever way: no test can leave it running.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

struct Registry {
    address: String,
    /// Its standard input is what keeps it serving.
    _child: Child,
}

static SHARED: OnceLock<Registry> = OnceLock::new();

fn tree() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Debian's registry is installed and the images are made.
pub(crate) fn available() -> bool {
    Path::new("/usr/bin/docker-registry").exists() && tree().join("target/fixtures/layouts").is_dir()
}

/// `host:port` of the shared registry.
pub(crate) fn address() -> &'static str {
    &SHARED.get_or_init(start).address
}

fn start() -> Registry {
    let mut child = Command::new(tree().join("fixtures/registry"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("fixtures/registry starts");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("its address");
    assert!(line.ends_with('\n'), "fixtures/registry ended without an address");
    Registry { address: line.trim().to_owned(), _child: child }
}
