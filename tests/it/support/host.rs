//! A host for one test: a root and a run folder in a temporary folder, and the binary run in a process group of its own.

use std::io::Read;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What a command said, and how it ended.
#[derive(Debug)]
pub(crate) struct Output {
    /// The exit status; 128 + n after signal n.
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Output {
    /// Fails the test unless the status is `status`; shows everything that was said.
    #[track_caller]
    pub(crate) fn exits(self, status: i32) -> Self {
        assert_eq!(self.status, status, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }
}

#[derive(Debug)]
pub(crate) struct Host {
    dir: tempfile::TempDir,
}

impl Host {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::Builder::new().prefix("umiak-test-").tempdir().expect("a temporary folder") }
    }

    /// Runs `umiak` with a minute to end.
    pub(crate) fn umiak(&self, args: &[&str]) -> Output {
        let mut child = Command::new(env!("CARGO_BIN_EXE_umiak"))
            .args(args)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.dir.path())
            .env("UMIAK_ROOT", self.dir.path().join("root"))
            .env("UMIAK_RUN_ROOT", self.dir.path().join("run"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("umiak starts");
        let out = drain(child.stdout.take().expect("piped"));
        let err = drain(child.stderr.take().expect("piped"));
        let end = Instant::now() + Duration::from_mins(1);
        let status = loop {
            if let Some(status) = child.try_wait().expect("wait") {
                break status;
            }
            if Instant::now() > end {
                let _ = Command::new("kill").args(["-KILL", "--", &format!("-{}", child.id())]).status();
                let _ = child.wait();
                panic!("umiak {args:?} did not end in a minute");
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let status = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        Output { status, stdout: out.join().expect("read"), stderr: err.join().expect("read") }
    }
}

impl Drop for Host {
    /// No mount and no process of this host may be left when its test ends.
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let root = self.dir.path().to_string_lossy().into_owned();
        let end = Instant::now() + Duration::from_secs(3);
        loop {
            let left = leftovers(&root);
            if left.is_empty() {
                return;
            }
            assert!(Instant::now() < end, "left behind: {left:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn leftovers(root: &str) -> Vec<String> {
    let mut left = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let dir = entry.path();
        for file in ["mountinfo", "cmdline", "environ"] {
            let Ok(bytes) = std::fs::read(dir.join(file)) else { continue };
            if String::from_utf8_lossy(&bytes).contains(root) {
                left.push(dir.join(file).display().to_string());
            }
        }
    }
    left
}

fn drain(mut from: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
