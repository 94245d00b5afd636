//! Further processes, a reaping first process and shared namespaces, through the executor's boundary.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use umiak::executor::conformance::{Program, Subject as _};
use umiak::executor::{Create, ExecRequest, Process, Stdio, Task, WindowSize};
use umiak::model::{ContainerId, HostConfig, NamespaceMode};

use super::conformance::{BUSYBOX, Linux};
use crate::support::require;

fn pipe() -> (File, File) {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    (OwnedFd::from(reader).into(), OwnedFd::from(writer).into())
}

/// Standard streams, and the end at which the output is read.
fn streams() -> (Stdio, File) {
    let (out, stdout) = pipe();
    let stderr = stdout.try_clone().expect("a descriptor");
    (Stdio::Files { stdin: File::open("/dev/null").expect("the null device"), stdout, stderr }, out)
}

fn shell(script: &str) -> Vec<String> {
    ["sh", "-c", script].map(str::to_owned).into()
}

/// A running container, and where its output is read.
async fn run(
    subject: &Linux,
    id: u8,
    script: &str,
    change: impl FnOnce(&mut Create),
) -> (Box<dyn Task>, File) {
    let (stdio, out) = streams();
    let id = ContainerId::from_bytes(
        [id ^ 0xa5; 32].map(|byte| byte ^ u8::try_from(std::process::id() & 0xff).unwrap_or(0)),
    );
    let mut request = subject.request(id, &Program::Succeed, stdio).expect("a request");
    request.process.args = shell(script);
    change(&mut request);
    let executor = subject.open().expect("an executor");
    let task = executor.create(request).await.expect("a container");
    task.start().await.expect("a start");
    (task, out)
}

fn request(script: &str, stdio: Stdio) -> ExecRequest {
    let process = Process { args: shell(script), env: Vec::new(), cwd: String::new(), user: String::new() };
    ExecRequest { process, privileged: false, stdio }
}

/// What a further process says, and its status.
async fn inside(task: &dyn Task, script: &str, change: impl FnOnce(&mut ExecRequest)) -> (i32, String) {
    let (stdio, mut out) = streams();
    let mut request = request(script, stdio);
    change(&mut request);
    let further = task.exec().expect("the ability").exec(request).await.expect("an exec");
    further.start().await.expect("a start");
    let code = further.wait().await.expect("an end").code;
    further.delete().await.expect("its deletion");
    let mut text = String::new();
    out.read_to_string(&mut text).expect("its output");
    (code, text)
}

/// Ends a container by force.
async fn end(task: Box<dyn Task>) {
    task.delete().await.expect("its deletion");
}

fn runs_here() -> bool {
    Path::new(BUSYBOX).exists()
}

#[tokio::test]
async fn an_exec_has_what_the_first_process_has() {
    require!(root);
    if !runs_here() {
        return;
    }
    let subject = Linux::new();
    let script = "touch /tmp/x 2>/dev/null; exec sleep 1000";
    let (task, _out) = run(&subject, 1, script, |create| {
        create.process.user = "www".into();
        create.process.cwd = "/srv/made".into();
    })
    .await;
    let task_ref = task.as_ref();
    let (_, env) = inside(task_ref, "env; pwd; id -u", |_| {}).await;
    for line in ["HOME=/srv", "HOSTNAME=conforming", "/srv/made", "33", "PWD=/srv/made"] {
        assert!(env.lines().any(|found| found == line), "no `{line}` in {env}");
    }
    assert!(env.contains("PATH=/usr/local/sbin:") && !env.contains("TERM="), "{env}");
    let (_, other) = inside(task_ref, "echo $HOME $A; pwd; id -u", |request| {
        request.process.user = "root".into();
        request.process.cwd = "/etc".into();
        request.process.env = vec!["A=b c".into()];
    })
    .await;
    assert_eq!(other, "/root b c\n/etc\n0\n");
    let caps = "grep -E '^(Cap|Seccomp:|NoNew)' /proc/self/status";
    let as_root = |request: &mut ExecRequest| request.process.user = "0".into();
    let (_, status) = inside(task_ref, caps, as_root).await;
    for line in
        ["CapInh:\t0000000000000000", "CapEff:\t00000000a80425fb", "CapBnd:\t00000000a80425fb", "Seccomp:\t2"]
    {
        assert!(status.contains(line), "no `{line}` in {status}");
    }
    let (_, all) = inside(task_ref, caps, |request| {
        as_root(request);
        request.privileged = true;
    })
    .await;
    assert!(all.contains("CapInh:\t0000000000000000") && !all.contains("CapEff:\t00000000a80425fb"), "{all}");
    end(task).await;
    assert_eq!(subject.left(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn nothing_of_the_host_leaks_into_an_exec() {
    require!(root);
    if !runs_here() {
        return;
    }
    let subject = Linux::new();
    let (task, _out) = run(&subject, 2, "exec sleep 1000", |_| {}).await;
    let _held: Vec<File> = (0..20).map(|_| File::open("/").expect("the root")).collect();
    assert_eq!(inside(task.as_ref(), "ls /proc/self/fd", |_| {}).await.1, "0\n1\n2\n3\n", "3 is the listing");
    // Not through a pipe, of which the shell has an end for a moment.
    let own = "ls /proc/$$/fd >/dev/shm/fds; grep -vE '^([012]|10)$' /dev/shm/fds";
    assert_eq!(inside(task.as_ref(), own, |_| {}).await.1, "");
    for n in 3..=20 {
        let (stdio, _out) = streams();
        let mut request = request("ls ..", stdio);
        request.process.cwd = format!("/proc/self/fd/{n}");
        let error = task.exec().expect("the ability").exec(request).await.expect_err("a refusal");
        let source = std::error::Error::source(&error).expect("a source").to_string();
        assert!(source.starts_with("changing to working directory"), "{n}: {source}");
    }
    let own =
        "ls -l /proc/self/exe /proc/1/exe >/dev/null; (echo x > /proc/self/exe) 2>/dev/null && echo written";
    assert_eq!(inside(task.as_ref(), own, |_| {}).await.1, "");
    end(task).await;
}

#[tokio::test]
async fn a_terminal_of_an_exec_says_so_in_its_environment() {
    require!(root);
    if !runs_here() {
        return;
    }
    let subject = Linux::new();
    let (task, _out) = run(&subject, 3, "exec sleep 1000", |_| {}).await;
    let stdio = Stdio::Terminal(WindowSize { rows: 9, cols: 9 });
    let further =
        task.exec().expect("the ability").exec(request("echo $TERM", stdio)).await.expect("an exec");
    let mut screen = further.terminal().expect("a terminal").stream().expect("its stream");
    further.start().await.expect("a start");
    assert_eq!(further.wait().await.expect("an end").code, 0);
    let mut text = [0; 64];
    let length = screen.read(&mut text).expect("the output");
    assert_eq!(&text[..length], b"xterm\r\n");
    further.delete().await.expect("its deletion");
    end(task).await;
}

#[tokio::test]
async fn init_reaps_what_is_left() {
    require!(root);
    if !runs_here() {
        return;
    }
    let subject = Linux::new();
    let init = |create: &mut Create| create.host = HostConfig { init: true, ..HostConfig::default() };
    let (task, _out) = run(&subject, 4, "sleep 0.02 & sleep 0.02 & exec sleep 1000", init).await;
    assert_eq!(inside(task.as_ref(), "cat /proc/1/comm", |_| {}).await.1, "umiak-init\n");
    // The orphans of an exec fall to the first process as well.
    inside(task.as_ref(), "(sleep 0.05 &) ; exit 0", |_| {}).await;
    // The program's own children are its affair, here two; those of the exec are gone.
    let (_, seen) = inside(task.as_ref(), "sleep 0.2; ps -o pid,stat,comm", |_| {}).await;
    let orphans = seen.lines().filter(|line| line.contains('Z')).count();
    assert_eq!(orphans, 2, "{seen}");
    task.signal(15).await.expect("a signal");
    assert_eq!(task.wait().await.expect("an end").code, 143);
    end(task).await;
}

#[tokio::test]
async fn what_a_shared_pid_namespace_leaves_is_killed() {
    require!(root);
    if !runs_here() {
        return;
    }
    let subject = Linux::new();
    let host = |create: &mut Create| create.host.pid = NamespaceMode::Host;
    let (task, mut out) = run(&subject, 5, "sleep 1000 & readlink /proc/self/ns/pid; exit 3", host).await;
    assert_eq!(task.wait().await.expect("an end").code, 3);
    let mut text = String::new();
    // Ends only because what was left is gone.
    out.read_to_string(&mut text).expect("the output");
    let ours = std::fs::read_link("/proc/self/ns/pid").expect("a link");
    assert_eq!(text.trim(), ours.to_string_lossy());
    end(task).await;
    assert_eq!(subject.left(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn containers_share_processes_and_memory() {
    require!(root);
    if !runs_here() {
        return;
    }
    let subject = Linux::new();
    let mut name = String::new();
    let (first, mut ready) =
        run(&subject, 6, "echo shared > /dev/shm/f; echo ready; exec sleep 1000", |create| {
            name = create.id.to_string();
        })
        .await;
    ready.read_exact(&mut [0; 6]).expect("the word");
    let pid = first.pid();
    let join = |create: &mut Create| {
        create.host.pid = NamespaceMode::Container(name.clone());
        create.host.ipc = NamespaceMode::Container(name.clone());
        (create.joins.pid, create.joins.ipc) = (Some(pid), Some(pid));
    };
    let (second, mut out) = run(&subject, 7, "cat /dev/shm/f; cat /proc/1/comm; exec sleep 1000", join).await;
    let mut text = [0; 13];
    out.read_exact(&mut text).expect("the output");
    assert_eq!(&text, b"shared\nsleep\n");
    // The end of the namespace is the end of all in it.
    first.signal(9).await.expect("a signal");
    assert_eq!(second.wait().await.expect("an end").code, 137);
    end(second).await;
    end(first).await;
    // Without shared memory, and with the number of a process that is none of that container's.
    let none = |create: &mut Create| create.host.ipc = NamespaceMode::None;
    let (task, mut out) = run(&subject, 8, "ls -d /dev/shm", none).await;
    let mut text = String::new();
    out.read_to_string(&mut text).expect("the output");
    assert!(text.contains("No such file"), "{text}");
    end(task).await;
    let (stdio, _out) = streams();
    let mut wrong =
        subject.request(ContainerId::from_bytes([9; 32]), &Program::Succeed, stdio).expect("a request");
    wrong.host.pid = NamespaceMode::Container(name.clone());
    wrong.joins.pid = Some(std::process::id());
    let error = subject.open().expect("an executor").create(wrong).await.expect_err("a refusal");
    assert!(std::error::Error::source(&error).expect("a source").to_string().ends_with("no such process"));
    assert_eq!(subject.left(), Vec::<PathBuf>::new());
}
