//! One real registry: `tests/run` starts it once for all test processes and names it in `UMIAK_TEST_REGISTRY`; a process that
//! is run by itself starts its own on first use. It serves until its standard input closes, which the kernel does when the
//! process that holds it ends in whatever way: no test can leave it running.

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

/// `host:port` of the shared registry: the one that `tests/run` started, or one of this process.
pub(crate) fn address() -> &'static str {
    static GIVEN: OnceLock<Option<String>> = OnceLock::new();
    let given =
        GIVEN.get_or_init(|| std::env::var("UMIAK_TEST_REGISTRY").ok().filter(|text| !text.is_empty()));
    given.as_deref().unwrap_or_else(|| &SHARED.get_or_init(start).address)
}

/// The name of its busybox.
pub(crate) fn busybox() -> String {
    format!("{}/library/busybox", address())
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
