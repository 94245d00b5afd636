//! The commands of a docker tutorial, typed with `umiak` and with `docker`, and what both say compared.
//!
//! The commands are in `tutorial.txt`. Ids and names of the two programs are made alike before the comparison; hints, which
//! docker has none of, are left out. A row that compares less than everything is a difference that is meant: ours says more, or
//! says it on standard error.
//!
//! The daemon is one of this test alone: its own state, its own socket, no bridge and no firewall, in a mount namespace.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::host::{Host, Output};
use crate::support::pty::Typed;
use crate::support::{registry, require};

const TUTORIAL: &str = include_str!("tutorial.txt");

/// What of a row is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Status, output and errors.
    All,
    /// Status and output.
    Output,
    /// The status.
    Status,
    /// Status and output, on a terminal.
    Terminal,
}

/// The words of a line, as a shell splits them; a quoted blank and a quoted nothing are kept.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote, mut begun) = (Vec::new(), String::new(), None, false);
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (None, ' ') => {
                if std::mem::take(&mut begun) {
                    words.push(std::mem::take(&mut word));
                }
                continue;
            }
            (None, '\'' | '"') => quote = Some(letter),
            (Some(open), close) if open == close => quote = None,
            (Some('"') | None, '\\') => word.extend(letters.next()),
            _ => word.push(letter),
        }
        begun = true;
    }
    words.extend(begun.then_some(word));
    words
}

fn rows(image: &str) -> Vec<(Mode, Vec<String>)> {
    let lines = TUTORIAL.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let row = |line: &str| {
        let (mode, command) = line.split_once(' ').expect("a mode and a command");
        let mode = match mode {
            "=" => Mode::All,
            "~" => Mode::Output,
            ":" => Mode::Status,
            "t" => Mode::Terminal,
            other => panic!("no such mode: {other}"),
        };
        (mode, words(command).into_iter().map(|word| word.replace("IMAGE", image)).collect())
    };
    lines.map(row).collect()
}

/// The text with ids made alike: 64 hexadecimal digits, or the first 12 of them.
fn alike(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let hex = word.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        out.push_str(match word.len() {
            64 if hex => "<ID>",
            12 if hex => "<id>",
            _ => word,
        });
        let next = after.chars().next().map_or(0, char::len_utf8);
        out.push_str(&after[..next]);
        rest = &after[next..];
    }
    out
}

/// Errors without what each program puts around them.
fn complaint(text: &str) -> String {
    let frame = |line: &&str| !["hint: ", "See '", "Run '"].iter().any(|start| line.starts_with(start));
    let bare = |line: &str| {
        let mut line = line.trim();
        for prefix in ["docker: ", "umiak: ", "Error response from daemon: ", "Error: ", "error: "] {
            line = line.strip_prefix(prefix).unwrap_or(line);
        }
        line.replace("docker", "umiak")
    };
    let lines: Vec<_> = text.lines().filter(frame).map(bare).filter(|line| !line.is_empty()).collect();
    alike(&lines.join("\n"))
}

/// How this machine runs a docker daemon: in the root of the peers, or as installed.
fn daemon() -> Option<Vec<String>> {
    let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers");
    let there = Command::new(&peers).arg("where").stdout(Stdio::null()).status().is_ok_and(|s| s.success());
    if there {
        return Some(vec![peers.display().to_string(), "enter".to_owned()]);
    }
    let installed = ["/usr/sbin/dockerd", "/usr/bin/dockerd"].iter().any(|path| Path::new(path).exists());
    let apart = "mount -t tmpfs tmpfs /run && exec \"$@\"";
    let apart = ["unshare", "--mount", "--propagation", "private", "sh", "-c", apart, "sh"];
    installed.then(|| apart.map(str::to_owned).into())
}

/// Whether there is a docker to compare with.
pub(crate) fn available() -> bool {
    daemon().is_some()
}

/// A daemon of this test alone.
struct Docker {
    enter: Vec<String>,
    dir: tempfile::TempDir,
    process: Child,
}

impl Docker {
    fn start() -> Self {
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
        while docker.run(&["version".to_owned()]).status != 0 {
            let said = || std::fs::read_to_string(docker.dir.path().join("log")).unwrap_or_default();
            assert!(Instant::now() < end, "dockerd does not answer: {}", said());
            std::thread::sleep(Duration::from_millis(200));
        }
        docker
    }

    /// The client's command line: the client of this machine, or the one in the daemon's root.
    fn command(&self, args: &[String]) -> Command {
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

    fn run(&self, args: &[String]) -> Output {
        output(self.command(args))
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let listed = self.run(&["ps".to_owned(), "-aq".to_owned()]).stdout;
        let mut all = vec!["rm".to_owned(), "-f".to_owned()];
        all.extend(listed.split_whitespace().map(str::to_owned));
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

/// Runs a command with something to read on its standard input.
fn output(mut command: Command) -> Output {
    use std::io::Write as _;
    use std::os::unix::process::ExitStatusExt as _;
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

/// Runs a command on a terminal.
fn typed(command: Command) -> Output {
    let (status, stdout) = Typed::on(command, (24, 80)).end();
    Output { status: status.unwrap_or(-1), stdout, stderr: String::new() }
}

/// What differs.
fn differences(mode: Mode, ours: &Output, theirs: &Output) -> Vec<String> {
    let mut found = Vec::new();
    if ours.status != theirs.status {
        found.push(format!("status {}, docker {}", ours.status, theirs.status));
    }
    let (out, err) = (mode != Mode::Status, mode == Mode::All);
    if out && alike(&ours.stdout) != alike(&theirs.stdout) {
        found.push(format!("output {:?}, docker {:?}", ours.stdout, theirs.stdout));
    }
    if (err || !found.is_empty()) && complaint(&ours.stderr) != complaint(&theirs.stderr) {
        found.push(format!("errors {:?}, docker {:?}", ours.stderr, theirs.stderr));
    }
    found
}

#[test]
fn heavy_a_docker_tutorial_reads_the_same() {
    require!(root, registry, docker);
    let (host, docker) = (Host::new(), Docker::start());
    let image = registry::busybox();
    host.umiak(&["pull", "-q", &image]).exits(0);
    docker.run(&["pull".to_owned(), "-q".to_owned(), image.clone()]).exits(0);
    let mut different = Vec::new();
    for (mode, command) in rows(&image) {
        let args: Vec<&str> = command.iter().map(String::as_str).collect();
        let (ours, theirs) = if mode == Mode::Terminal {
            (typed(host.command(&args)), typed(docker.command(&command)))
        } else {
            (host.umiak_reading(b"typed\n", &args), docker.run(&command))
        };
        let found = differences(mode, &ours, &theirs);
        if !found.is_empty() {
            different.push(format!("{}\n    {}", command.join(" "), found.join("\n    ")));
        }
    }
    // One that is left by a row that went wrong must not hold up the end.
    let left = host.umiak(&["ps", "-aq"]).stdout;
    let left: Vec<_> = left.split_whitespace().collect();
    if !left.is_empty() {
        host.umiak(&[&["rm", "-f"], &left[..]].concat());
    }
    assert!(different.is_empty(), "{} differ:\n{}", different.len(), different.join("\n"));
}

#[test]
fn rows_are_read_as_a_shell_reads_them() {
    assert_eq!(words("run  -e 'A=b c' x ''"), ["run", "-e", "A=b c", "x", ""]);
    assert_eq!(words(r#"sh -c 'sh -c "a \$$"' "b\"c""#), ["sh", "-c", r#"sh -c "a \$$""#, "b\"c"]);
    let id = "0123456789ab";
    assert_eq!(alike(&format!("a {id} ({id}{id}) é")), format!("a <id> ({id}{id}) é"));
    assert_eq!(complaint("docker: Error response from daemon: No.\n\nRun 'docker x'\n"), "No.");
    assert!(rows("image").len() > 100);
}
