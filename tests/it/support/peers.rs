//! Docker and podman as they are, for tests that hold us against them: each with a state and a folder of one test alone.

use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::host::Output;

/// How a program is run in the root of the peers, where that is built.
fn root() -> Option<Vec<String>> {
    let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers");
    let there = Command::new(&peers).arg("where").stdout(Stdio::null()).status().is_ok_and(|s| s.success());
    there.then(|| vec![peers.display().to_string(), "enter".to_owned()])
}

/// How this machine runs a docker daemon: in the root of the peers, or as installed.
fn daemon() -> Option<Vec<String>> {
    if let Some(enter) = root() {
        return Some(enter);
    }
    let installed = ["/usr/sbin/dockerd", "/usr/bin/dockerd"].iter().any(|path| Path::new(path).exists());
    let apart = "mount -t tmpfs tmpfs /run && exec \"$@\"";
    let apart = ["unshare", "--mount", "--propagation", "private", "sh", "-c", apart, "sh"];
    installed.then(|| apart.map(str::to_owned).into())
}

/// Whether there is a docker to compare with.
pub(crate) fn docker() -> bool {
    daemon().is_some()
}

/// Whether there is a podman.
pub(crate) fn podman() -> bool {
    root().is_some()
}

/// A daemon of one test alone: its own state, its own socket, no bridge and no firewall, in a mount namespace.
pub(crate) struct Docker {
    enter: Vec<String>,
    dir: tempfile::TempDir,
    process: Child,
}

impl Docker {
    pub(crate) fn start() -> Self {
        let enter = daemon().expect("the tier is there");
        let dir = tempfile::Builder::new().prefix("umiak-docker-").tempdir().expect("a temporary folder");
        let path = |name: &str| dir.path().join(name).display().to_string();
        let log = std::fs::File::create(dir.path().join("log")).expect("a log");
        let process = Command::new(&enter[0])
            .args(&enter[1..])
            .args(["dockerd", "--data-root", &path("data"), "--exec-root", &path("exec")])
            .args(["--host", &format!("unix://{}", path("sock")), "--pidfile", &path("pid")])
            .args(["--bridge", "none", "--iptables=false", "--ip6tables=false", "--ip-forward=false"])
            .args(["--ip-masq=false", "--cgroup-parent", "/umiak-docker", "--log-level", "error"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the log"))
            .stderr(log)
            .process_group(0)
            .spawn()
            .expect("dockerd begins");
        let docker = Self { enter, dir, process };
        let end = Instant::now() + Duration::from_mins(1);
        while docker.run(&["version"]).status != 0 {
            let said = || std::fs::read_to_string(docker.dir.path().join("log")).unwrap_or_default();
            assert!(Instant::now() < end, "dockerd does not answer: {}", said());
            std::thread::sleep(Duration::from_millis(200));
        }
        docker
    }

    /// The client's command line: the client of this machine, or the one in the daemon's root.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let own =
            ["/usr/local/bin/docker", "/usr/bin/docker"].into_iter().find(|path| Path::new(path).exists());
        let mut command = Command::new(own.unwrap_or(&self.enter[0]));
        if own.is_none() {
            command.args(&self.enter[1..]).arg("docker");
        }
        let socket = format!("unix://{}", self.dir.path().join("sock").display());
        command.args(["--host", &socket]).args(args).env("HOME", self.dir.path());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        output(self.command(args))
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let listed = self.run(&["ps", "-aq"]).stdout;
        let all: Vec<_> = ["rm", "-f"].into_iter().chain(listed.split_whitespace()).collect();
        if all.len() > 2 {
            self.run(&all);
        }
        let told = Command::new("kill").args(["-TERM", "--", &format!("-{}", self.process.id())]).status();
        if told.is_ok_and(|status| status.success()) {
            let _ = self.process.wait();
        }
        let top = PathBuf::from("/sys/fs/cgroup");
        for hierarchy in std::fs::read_dir(&top).into_iter().flatten().flatten() {
            let _not_there = std::fs::remove_dir(hierarchy.path().join("umiak-docker"));
        }
        let _not_there = std::fs::remove_dir(top.join("umiak-docker"));
    }
}

/// Podman with a store of one test alone. Its mounts are in the mount namespace of each command and go with it.
pub(crate) struct Podman {
    enter: Vec<String>,
    dir: tempfile::TempDir,
}

impl Podman {
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("umiak-podman-").tempdir().expect("a temporary folder");
        Self { enter: root().expect("the tier is there"), dir }
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        let path = |name: &str| self.dir.path().join(name).display().to_string();
        let mut command = Command::new(&self.enter[0]);
        command.args(&self.enter[1..]).args(["podman", "--root", &path("root"), "--runroot", &path("run")]);
        command.args(["--cgroup-manager", "cgroupfs"]).args(args).env("HOME", self.dir.path());
        output(command)
    }
}

impl Drop for Podman {
    /// A container's end has podman called once more, in the background, which makes its folders anew.
    fn drop(&mut self) {
        let mut gone = 0;
        for _ in 0..100 {
            if gone == 5 {
                return;
            }
            let _not_there = std::fs::remove_dir_all(self.dir.path());
            std::thread::sleep(Duration::from_millis(100));
            gone = if self.dir.path().exists() { 0 } else { gone + 1 };
        }
    }
}

/// Runs a command with something to read on its standard input.
fn output(mut command: Command) -> Output {
    use std::io::Write as _;
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().expect("the command begins");
    // Few read it; a pipe that is closed early is no failure.
    let _unread = child.stdin.take().expect("piped").write_all(b"typed\n");
    let out = child.wait_with_output().expect("it ends");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Output {
        status: out.status.code().unwrap_or_else(|| 128 + out.status.signal().unwrap_or(0)),
        stdout: text(&out.stdout),
        stderr: text(&out.stderr),
    }
}
