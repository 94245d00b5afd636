//! A host for one test: a root and a run folder in a temporary folder, and the binary run in a process group of its own.

use std::collections::BTreeSet;
use std::io::{Read, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
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

    /// Fails the test unless it failed with `status` and one message of the engine that holds all `words`.
    #[track_caller]
    pub(crate) fn fails(self, status: i32, words: &[&str]) -> Self {
        let out = self.exits(status);
        for word in words {
            assert!(out.stderr.contains(word), "no `{word}` in: {}", out.stderr);
        }
        let messages = out.stderr.lines().filter(|line| line.starts_with("umiak: ")).count();
        assert_eq!(messages, 1, "one message is expected: {}", out.stderr);
        assert!(!out.stderr.contains("panicked"), "{}", out.stderr);
        out
    }

    /// Standard output without the line end.
    pub(crate) fn text(&self) -> &str {
        self.stdout.trim_end()
    }
}

#[derive(Debug)]
pub(crate) struct Host {
    dir: tempfile::TempDir,
    /// Containers that were seen in the store, for the look at control groups in the end.
    ids: Mutex<BTreeSet<String>>,
    /// The network that its commands see, where it is not the machine's.
    space: Option<Arc<Space>>,
}

/// A network namespace of a test's own, with its loopback device up; what is in it is gone with it.
#[derive(Debug)]
pub(crate) struct Space(Child);

impl Space {
    pub(crate) fn new() -> Self {
        let script = "ip link set lo up && echo up && exec sleep 100000";
        let mut child = Command::new("unshare")
            .args(["--net", "sh", "-c", script])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare starts");
        let mut up = [0; 3];
        child.stdout.take().expect("piped").read_exact(&mut up).expect("a network namespace");
        Self(child)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// A program in it, not started yet.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.0.id())).args(["--", program]);
        command
    }

    /// What a shell script in it says; a failure is the test's.
    #[track_caller]
    pub(crate) fn sh(&self, script: &str) -> String {
        let out = self.command("sh").args(["-ec", script]).output().expect("sh starts");
        let (said, complained) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        assert!(out.status.success(), "{script}: {said} {complained}");
        said.trim_end().to_owned()
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The part of the configuration by which programs are interpreted, where `UMIAK_INTERPRETED` is set: all tests of Wasm
/// containers are tests of a build with `--features interpreter` as well.
fn wasm_target() -> &'static str {
    match std::env::var_os("UMIAK_INTERPRETED") {
        Some(_) => "[wasm]\ntarget = \"pulley64\"\n",
        None => "",
    }
}

impl Host {
    /// One that leaves the machine's network alone: containers have none unless a test says otherwise.
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("umiak-test-").tempdir().expect("a temporary folder");
        let config = dir.path().join(".config/umiak");
        std::fs::create_dir_all(&config).expect("a folder");
        let text = format!("default-network = \"none\"\n{}", wasm_target());
        std::fs::write(config.join("config.toml"), text).expect("a configuration");
        Self { dir, ids: Mutex::default(), space: None }
    }

    /// One with a network of its own, and containers on the bridge that is always there. These images are in its store; it
    /// reaches no registry.
    pub(crate) fn networked(images: &[&str]) -> Self {
        let mut host = Self::new();
        for image in images {
            host.umiak(&["pull", "-q", image]).exits(0);
        }
        let config = host.dir.path().join(".config/umiak/config.toml");
        std::fs::write(config, wasm_target()).expect("a configuration");
        host.space = Some(Arc::new(Space::new()));
        host
    }

    /// Another store beside one with a network of its own: on the same network.
    pub(crate) fn beside(other: &Self, images: &[&str]) -> Self {
        let mut host = Self::networked(images);
        host.space.clone_from(&other.space);
        host
    }

    /// Its network.
    pub(crate) fn space(&self) -> &Space {
        self.space.as_deref().expect("a host with a network of its own")
    }

    /// The test's own folder, the parent of the root.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    /// The names in a folder of the root.
    pub(crate) fn list(&self, folder: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.root().join(folder)).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    /// Unpacked layers, whole or not; the files that lock them do not count.
    pub(crate) fn layers(&self) -> Vec<String> {
        let locks = |name: &String| Path::new(name).extension().is_none_or(|end| end != "lock");
        self.list("layers").into_iter().filter(locks).collect()
    }

    /// Downloads that are not whole.
    pub(crate) fn parts(&self) -> Vec<String> {
        let part = |name: &String| Path::new(name).extension().is_some_and(|end| end == "part");
        self.list("ingest").into_iter().filter(part).collect()
    }

    /// `umiak` on this host, not started yet.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        self.command_of(env!("CARGO_BIN_EXE_umiak"), args)
    }

    fn command_of(&self, program: &str, args: &[&str]) -> Command {
        let mut command = match &self.space {
            Some(space) => space.command(program),
            None => Command::new(program),
        };
        command
            .args(args)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.dir.path())
            .env("UMIAK_ROOT", self.root())
            .env("UMIAK_RUN_ROOT", self.dir.path().join("run"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        command
    }

    /// Runs `umiak` with a minute to end.
    pub(crate) fn umiak(&self, args: &[&str]) -> Output {
        self.finish(self.command(args).spawn().expect("umiak starts"), args)
    }

    /// The same of another build.
    pub(crate) fn another(&self, program: &str, args: &[&str]) -> Output {
        self.finish(self.command_of(program, args).spawn().expect("umiak starts"), args)
    }

    /// The same with something on its standard input.
    pub(crate) fn umiak_reading(&self, input: &[u8], args: &[&str]) -> Output {
        let mut child = self.command(args).stdin(Stdio::piped()).spawn().expect("umiak starts");
        let mut stdin = child.stdin.take().expect("piped");
        let input = input.to_vec();
        let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let out = self.finish(child, args);
        writer.join().expect("written");
        out
    }

    /// Waits for a command's end, a minute at most.
    pub(crate) fn finish(&self, mut child: Child, args: &[&str]) -> Output {
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
        self.remember();
        let status = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        Output { status, stdout: out.join().expect("read"), stderr: err.join().expect("read") }
    }

    /// The process of a container's supervisor.
    pub(crate) fn supervisor(id: &str) -> Option<u32> {
        let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
        processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find(|pid: &u32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let mut words = line.split(|byte| *byte == 0);
            words.any(|word| word == b"__supervisor")
                && words.any(|word| word.len() >= 12 && id.as_bytes().starts_with(word))
        })
    }

    fn remember(&self) {
        let seen = self.list("containers");
        self.ids.lock().expect("no panic").extend(seen);
    }

    /// Mounts, processes and control groups of this host.
    fn leftovers(&self) -> Vec<String> {
        let mut left: Vec<String> = self.processes().into_iter().map(|(_, what)| what).collect();
        let ids = self.ids.lock().map(|ids| ids.clone()).unwrap_or_default();
        for group in control_groups() {
            let name = group.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if ids.contains(name.split('-').next().unwrap_or_default()) {
                left.push(group.display().to_string());
            }
        }
        left
    }

    /// Processes that have something to do with this host, and what it is.
    fn processes(&self) -> Vec<(u32, String)> {
        let dir = self.dir.path().to_string_lossy().into_owned();
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            for file in ["mountinfo", "cmdline", "environ"] {
                let file = entry.path().join(file);
                let Ok(bytes) = std::fs::read(&file) else { continue };
                if String::from_utf8_lossy(&bytes).contains(&dir) {
                    found.push((pid, file.display().to_string()));
                }
            }
        }
        found
    }

    /// After a failed test: ends what runs in this root, so that one failure does not become many.
    fn put_down(&self) {
        let own = std::process::id();
        for (pid, what) in self.processes() {
            // A mount that this very process sees is no reason to end it.
            if pid != own && !what.ends_with("mountinfo") {
                let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).status();
            }
        }
    }
}

/// The control groups that containers may be in.
fn control_groups() -> Vec<PathBuf> {
    let top = Path::new("/sys/fs/cgroup");
    let hierarchies = std::fs::read_dir(top).into_iter().flatten().flatten().map(|entry| entry.path());
    let parents = hierarchies.chain([top.to_owned()]).map(|root| root.join("umiak"));
    parents
        .flat_map(|parent| std::fs::read_dir(parent).into_iter().flatten().flatten())
        .map(|entry| entry.path())
        .collect()
}

impl Drop for Host {
    /// No mount, no process and no control group of this host may be left when its test ends.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.put_down();
            return;
        }
        let end = Instant::now() + Duration::from_secs(3);
        loop {
            let left = self.leftovers();
            if left.is_empty() {
                return;
            }
            if Instant::now() > end {
                self.put_down();
                panic!("left behind: {left:?}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn drain(mut from: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
