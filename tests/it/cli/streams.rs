//! Standard streams: pipes byte by byte, and terminals.

use std::io::Read;
use std::process::Command;
use std::time::Duration;

use super::detached;
use crate::support::host::Host;
use crate::support::{registry, require};

#[test]
fn standard_input_reaches_the_container() {
    require!(root, registry);
    let host = Host::new();
    let image = registry::busybox();
    let out = host.umiak_reading(b"x\n", &["run", "-i", "--rm", &image, "cat"]).exits(0);
    assert_eq!(out.stdout, "x\n");
    // Without -i there is nothing to read.
    assert_eq!(host.umiak_reading(b"x\n", &["run", "--rm", &image, "cat"]).exits(0).stdout, "");
    let big: Vec<u8> = (0..3_000_000_u32).map(|n| b'a' + (n % 23) as u8).collect();
    let sum = umiak::model::Digest::of(&big);
    let out = host.umiak_reading(&big, &["run", "-i", "--rm", &image, "sha256sum"]).exits(0);
    assert_eq!(out.stdout, format!("{}  -\n", sum.hex()));
    assert_eq!(
        host.umiak_reading(&big, &["run", "-i", "--rm", &image, "cat"]).exits(0).stdout.len(),
        big.len()
    );
    // A container that does not read ends all the same.
    host.umiak_reading(&big, &["run", "-i", "--rm", &image, "true"]).exits(0);
}

#[test]
fn the_streams_are_apart_and_whole() {
    require!(root, registry);
    let host = Host::new();
    let image = registry::busybox();
    host.umiak(&["pull", "-q", &image]).exits(0);
    let script = "head -c 1000000 /dev/zero | tr '\\0' x; echo e >&2; exit 5";
    let out = host.umiak(&["run", "--name", "loud", &image, "sh", "-c", script]).exits(5);
    assert_eq!((out.stdout.len(), out.stderr.as_str()), (1_000_000, "e\n"));
    assert_eq!(host.umiak(&["logs", "loud"]).exits(0).stdout.len(), 1_000_000);
    host.umiak(&["rm", "loud"]).exits(0);
}

/// Reads a command's output in pieces with pauses; how much came.
fn read_slowly(mut child: std::process::Child, piece: usize, pause: Duration) -> usize {
    let mut stdout = child.stdout.take().expect("piped");
    let mut buffer = vec![0; piece];
    let mut total = 0;
    loop {
        match stdout.read(&mut buffer).expect("read") {
            0 => break,
            n => total += n,
        }
        std::thread::sleep(pause);
    }
    assert_eq!(child.wait().expect("wait").code(), Some(0));
    total
}

#[test]
fn a_reader_may_be_slow_and_gets_everything() {
    require!(root, registry);
    let host = Host::new();
    let image = registry::busybox();
    host.umiak(&["pull", "-q", &image]).exits(0);
    // The end is recorded although nobody has read a byte; what was left in pipes and queues comes afterwards.
    let args = ["run", "--name", "slow", &image, "head", "-c", "420000", "/dev/zero"];
    let child = host.command(&args).spawn().expect("umiak starts");
    super::until("it ended", || {
        host.umiak(&["ps", "-aqf", "name=slow", "-f", "status=exited"]).exits(0).stdout.lines().count() == 1
    });
    assert_eq!(read_slowly(child, 1 << 20, Duration::ZERO), 420_000);
    host.umiak(&["rm", "slow"]).exits(0);
    let id = detached(&host, &[], &["sleep", "1000"]);
    let child =
        host.command(&["exec", &id, "head", "-c", "20000000", "/dev/zero"]).spawn().expect("umiak starts");
    // Longer than the supervisor would wait for a stream that somebody else holds.
    std::thread::sleep(Duration::from_millis(2500));
    assert_eq!(read_slowly(child, 1 << 16, Duration::from_millis(1)), 20_000_000);
    // Nor does the container's own end take anything from the reader of an `exec`.
    let child = host
        .command(&["exec", &id, "sh", "-c", "head -c 300000 /dev/zero; touch /wrote"])
        .spawn()
        .expect("umiak starts");
    super::until("it wrote", || host.umiak(&["exec", &id, "test", "-e", "/wrote"]).status == 0);
    host.umiak(&["rm", "-f", &id]).exits(0);
    std::thread::sleep(Duration::from_millis(2500));
    assert_eq!(read_slowly(child, 1 << 16, Duration::ZERO), 300_000);
}

#[test]
fn the_input_ends_with_the_client_that_gave_it() {
    require!(root, registry);
    let host = Host::new();
    let image = registry::busybox();
    host.umiak(&["pull", "-q", &image]).exits(0);
    let mut child = host.command(&["run", "-i", "--name", "fed", &image, "sh", "-c", "cat; exit 4"]);
    let mut child = child.stdin(std::process::Stdio::piped()).spawn().expect("umiak starts");
    super::until("it runs", || host.umiak(&["ps", "-qf", "name=fed"]).exits(0).stdout.lines().count() == 1);
    child.kill().expect("it lives");
    child.wait().expect("wait");
    assert_eq!(host.umiak(&["wait", "fed"]).exits(0).stdout, "4\n");
    host.umiak(&["rm", "fed"]).exits(0);
    let id = detached(&host, &[], &["sleep", "1000"]);
    let mut child = host.command(&["exec", "-i", &id, "sh", "-c", "cat; echo over > /over"]);
    let mut child = child.stdin(std::process::Stdio::piped()).spawn().expect("umiak starts");
    super::until("it runs", || host.umiak(&["top", &id]).exits(0).stdout.contains("cat"));
    child.kill().expect("it lives");
    child.wait().expect("wait");
    super::until("its input ended", || host.umiak(&["exec", &id, "cat", "/over"]).status == 0);
    host.umiak(&["rm", "-f", &id]).exits(0);
}

#[test]
fn logs_follow_and_count_lines() {
    require!(root, registry);
    let host = Host::new();
    let id = detached(&host, &[], &["sh", "-c", "for n in 1 2 3 4; do echo $n; sleep 0.1; done"]);
    assert_eq!(host.umiak(&["logs", "-f", &id]).exits(0).stdout, "1\n2\n3\n4\n");
    assert_eq!(host.umiak(&["logs", "-n", "2", &id]).exits(0).stdout, "3\n4\n");
    let stamped = host.umiak(&["logs", "-t", "-n", "1", &id]).exits(0).stdout;
    assert!(stamped.ends_with("Z 4\n") && stamped.starts_with("20"), "{stamped}");
    host.umiak(&["rm", &id]).exits(0);
}

/// Runs a command of `umiak` in a terminal of a size and types into it; returns what the terminal showed.
#[track_caller]
fn terminal(host: &Host, typed: &str, args: &[&str]) -> (String, i32) {
    let script = r"
import fcntl, os, pty, struct, sys, termios, time, select
pid, fd = pty.fork()
if pid == 0:
    time.sleep(0.1)
    os.execv(sys.argv[2], sys.argv[2:])
fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack('HHHH', 33, 99, 0, 0))
seen, typed, end = b'', sys.argv[1].encode(), time.time() + 30
while time.time() < end:
    if typed and b'ready' in seen:
        os.write(fd, typed); typed = b''
    if not select.select([fd], [], [], 0.1)[0]:
        continue
    try:
        data = os.read(fd, 65536)
    except OSError:
        break
    if not data:
        break
    seen += data
sys.stdout.buffer.write(seen)
sys.stdout.flush()
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
";
    let mut command = Command::new("/usr/bin/python3");
    let mut wrapped = vec!["-c", script, typed, env!("CARGO_BIN_EXE_umiak")];
    wrapped.extend(args);
    command.args(wrapped).env_clear().envs(host.command(args).get_envs().filter_map(|(k, v)| Some((k, v?))));
    let out = command.output().expect("python3");
    (String::from_utf8_lossy(&out.stdout).into_owned(), out.status.code().unwrap_or(-1))
}

#[test]
fn a_terminal_has_its_size_and_its_manners() {
    require!(root, registry);
    let host = Host::new();
    let image = registry::busybox();
    host.umiak(&["pull", "-q", &image]).exits(0);
    let (shown, status) =
        terminal(&host, "", &["run", "--rm", "-it", &image, "sh", "-c", "stty size; tty; exit 3"]);
    assert_eq!(status, 3, "{shown}");
    assert!(shown.contains("33 99\r\n") && shown.contains("/dev/"), "{shown}");
    // The outer terminal is raw: what is typed arrives as it is, and Ctrl-C is the container's affair.
    let echo = "stty raw -echo; echo ready; head -c 3 | od -An -tx1";
    let (shown, status) = terminal(&host, "a\u{1}\r", &["run", "--rm", "-it", &image, "sh", "-c", echo]);
    assert!(status == 0 && shown.contains("61 01 0d"), "{status}: {shown}");
    let trap = "trap 'echo caught; exit 9' INT; echo ready; while :; do sleep 0.05; done";
    let (shown, status) = terminal(&host, "\u{3}", &["run", "--rm", "-it", &image, "sh", "-c", trap]);
    assert!(status == 9 && shown.contains("caught"), "{status}: {shown}");
    host.umiak(&["run", "--rm", "-it", &image, "true"]).fails(1, &["not a TTY"]);
    assert_eq!(host.umiak(&["run", "--rm", "-t", &image, "echo", "x"]).exits(0).stdout, "x\r\n");
}

#[test]
fn a_signal_to_the_client_is_the_containers() {
    require!(root, registry);
    let host = Host::new();
    let image = registry::busybox();
    host.umiak(&["pull", "-q", &image]).exits(0);
    let script = "trap 'echo told; exit 6' TERM; echo ready; while :; do sleep 0.02; done";
    let args = ["run", "--name", "told", &image, "sh", "-c", script];
    let client = host.command(&args).spawn().expect("umiak starts");
    super::until("it runs", || host.umiak(&["logs", "told"]).stdout.contains("ready"));
    let pid = rustix::process::Pid::from_raw(client.id().try_into().expect("a pid")).expect("not 0");
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it lives");
    let out = host.finish(client, &args).exits(6);
    assert_eq!(out.stdout, "ready\ntold\n");
    host.umiak(&["rm", "told"]).exits(0);
}
