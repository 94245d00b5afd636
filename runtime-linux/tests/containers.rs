//! Containers for real: needs root and a static busybox. Skipped with a reason elsewhere, unless `REQUIRE_TIERS` names
//! `root`. Its own `main`, since this binary is re-executed as init.
#![cfg(target_os = "linux")]
#![expect(clippy::print_stdout, clippy::unwrap_used, clippy::exit, reason = "a test runner")]

use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use runtime_linux::aside::{Aside, Wish};
use runtime_linux::landlock::{self, Place};
use runtime_linux::{
    CgroupPlan, Created, ExecPlan, Exit, IdMappings, IdRange, Limits, Mount, Namespace, Namespaces, Network,
    Peer, Plan, Propagation, Rlimit, Root, Seccomp, Shm, SpawnError, StartError, Stdio, WindowSize, cgroups,
    exec, init, spawn, wall,
};

const BUSYBOX: &str = "/bin/busybox";
const EXE: &str = "/proc/self/exe";

/// A root directory, an overlay over it and a cgroup, removed at the end.
struct Box_ {
    dir: PathBuf,
    cgroup: String,
}

impl Box_ {
    fn new(name: &str) -> Self {
        let name = format!("umiak-test-{}-{name}", std::process::id());
        let dir = std::env::temp_dir().join(&name);
        for part in ["root/bin", "root/etc", "upper", "work"] {
            fs::create_dir_all(dir.join(part)).unwrap();
        }
        fs::copy(BUSYBOX, dir.join("root/bin/busybox")).unwrap();
        for applet in [
            "sh", "true", "cat", "id", "env", "ls", "sleep", "tty", "mount", "hostname", "stat", "dd", "wc",
            "ps", "readlink", "kill", "touch",
        ] {
            std::os::unix::fs::symlink("busybox", dir.join("root/bin").join(applet)).unwrap();
        }
        fs::write(dir.join("root/etc/passwd"), "root:x:0:0::/root:/bin/sh\nwww:x:33:33::/srv:/bin/sh\n")
            .unwrap();
        fs::write(dir.join("root/etc/group"), "root:x:0:\nwww:x:33:\nadm:x:4:www\n").unwrap();
        Self { dir, cgroup: format!("umiak-test/{name}") }
    }

    fn plan(&self, args: &[&str]) -> Plan {
        let root = Root::Overlay {
            lower: vec![self.dir.join("root")],
            upper: self.dir.join("upper"),
            work: self.dir.join("work"),
            volatile: false,
        };
        Plan::new(root, args.iter().map(|&a| a.to_owned()).collect())
    }

    fn shell(&self, script: &str) -> Plan {
        self.plan(&["sh", "-c", script])
    }

    fn limited(&self, script: &str, limits: Limits) -> Plan {
        Plan { cgroup: Some(CgroupPlan { path: self.cgroup.clone(), limits }), ..self.shell(script) }
    }
}

impl Drop for Box_ {
    fn drop(&mut self) {
        cgroups::sweep(&self.cgroup).unwrap();
        fs::remove_dir_all(&self.dir).unwrap();
    }
}

fn create(plan: &Plan) -> Result<(Created, fs::File), SpawnError> {
    let (read, write) = std::io::pipe().unwrap();
    let stdin: OwnedFd = fs::File::open("/dev/null").unwrap().into();
    let streams = Stdio::Streams { stdin, stdout: write.try_clone().unwrap().into(), stderr: write.into() };
    Ok((spawn(Path::new(EXE), plan, streams)?, OwnedFd::from(read).into()))
}

fn run(plan: &Plan) -> (Exit, String) {
    finish(create(plan).unwrap())
}

fn finish((mut process, mut output): (Created, fs::File)) -> (Exit, String) {
    process.start().unwrap();
    let mut text = String::new();
    output.read_to_string(&mut text).unwrap();
    (process.wait().unwrap(), text.trim().to_owned())
}

fn refused(plan: &Plan) -> (String, u8) {
    let failure = match create(plan) {
        Err(SpawnError::Init(failure)) => failure,
        Err(other) => panic!("{other:?}"),
        Ok((mut process, _)) => match process.start() {
            Err(StartError::Init(failure)) => failure,
            other => panic!("{other:?}"),
        },
    };
    (failure.to_string(), failure.exit_status())
}

/// A container that runs until it is dropped.
fn running(plan: &Plan) -> Created {
    let (mut process, _) = create(plan).unwrap();
    process.start().unwrap();
    process
}

/// Creates a further process of a container.
fn enter(of: &Created, plan: &ExecPlan) -> Result<(Created, fs::File), SpawnError> {
    let (read, write) = std::io::pipe().unwrap();
    let stdin: OwnedFd = fs::File::open("/dev/null").unwrap().into();
    let streams = Stdio::Streams { stdin, stdout: write.try_clone().unwrap().into(), stderr: write.into() };
    Ok((exec(Path::new(EXE), plan, of.pidfd(), streams)?, OwnedFd::from(read).into()))
}

fn like(of: &Created, plan: &Plan, script: &str) -> ExecPlan {
    ExecPlan::like(plan, of.pid(), ["sh", "-c", script].map(str::to_owned).into())
}

fn inside(of: &Created, plan: &Plan, script: &str) -> (Exit, String) {
    finish(enter(of, &like(of, plan, script)).unwrap())
}

fn exec_refused(of: &Created, plan: &ExecPlan) -> (String, u8) {
    let failure = match enter(of, plan) {
        Err(SpawnError::Init(failure)) => failure,
        Err(other) => panic!("{other:?}"),
        Ok((mut process, _)) => match process.start() {
            Err(StartError::Init(failure)) => failure,
            other => panic!("{other:?}"),
        },
    };
    (failure.to_string(), failure.exit_status())
}

fn exits_and_signals() {
    let b = Box_::new("exit");
    assert_eq!(run(&b.shell("exit 7")).0, Exit::Code(7));
    assert_eq!(run(&b.plan(&["true"])).0, Exit::Code(0));
    let (mut process, _) = create(&b.plan(&["sleep", "100"])).unwrap();
    assert_eq!(process.try_wait().unwrap(), None);
    process.start().unwrap();
    assert!(matches!(process.start(), Err(StartError::Started)));
    process.signal(9).unwrap();
    assert_eq!(process.wait().unwrap().status(), 137);
}

fn what_cannot_run_says_so() {
    let b = Box_::new("refused");
    fs::write(b.dir.join("root/bin/garbage"), "\u{1}\u{2}").unwrap();
    fs::set_permissions(b.dir.join("root/bin/garbage"), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    for (args, text, status) in [
        ("foo", "exec: \"foo\": executable file not found in $PATH", 127),
        ("/x", "exec: \"/x\": stat /x: no such file or directory", 127),
        ("/etc/passwd", "exec: \"/etc/passwd\": permission denied", 126),
        ("/etc", "exec: \"/etc\": is a directory: permission denied", 126),
        ("garbage", "exec garbage: exec format error", 126),
        ("", "exec: \"\": executable file not found in $PATH", 127),
    ] {
        assert_eq!(refused(&b.plan(&[args])), (text.to_owned(), status));
    }
    let user = Plan { user: "foo".into(), ..b.plan(&["true"]) };
    assert_eq!(refused(&user).0, "unable to find user foo: no matching entries in passwd file");
    let cwd = Plan { cwd: "/etc/passwd".into(), ..b.plan(&["true"]) };
    assert_eq!(refused(&cwd).0, "changing to working directory `/etc/passwd`: not a directory");
    let bind = Mount::Bind {
        source: "/nonexistent/x".into(),
        subpath: String::new(),
        target: "/data".into(),
        read_only: false,
        recursive: true,
        propagation: Propagation::Private,
    };
    let plan = Plan { mounts: vec![bind], ..b.plan(&["true"]) };
    assert_eq!(refused(&plan).0, "opening mount source `/nonexistent/x`: no such file or directory");
}

fn the_process_is_what_was_asked_for() {
    let b = Box_::new("process");
    let plan = Plan {
        user: "www".into(),
        cwd: "/made/here".into(),
        hostname: "boat".into(),
        env: vec!["PATH=/bin".into(), "A=b c".into()],
        umask: 0o027,
        ..b.shell("id; pwd; env; hostname; umask; echo $$")
    };
    let text = run(&plan).1;
    for part in ["uid=33", "gid=33", "groups=4", "/made/here", "A=b c", "HOME=/srv", "boat", "0027", "\n1"] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

fn privileges_are_dockers() {
    let b = Box_::new("caps");
    let text = run(&b.shell("cat /proc/self/status")).1;
    for line in [
        "CapInh:\t0000000000000000",
        "CapPrm:\t00000000a80425fb",
        "CapEff:\t00000000a80425fb",
        "CapBnd:\t00000000a80425fb",
        "CapAmb:\t0000000000000000",
        "NoNewPrivs:\t0",
        "Seccomp:\t2",
        "SigBlk:\t0000000000000000",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    let user = Plan { user: "www".into(), no_new_privs: true, ..b.shell("cat /proc/self/status") };
    let text = run(&user).1;
    assert!(text.contains("CapEff:\t0000000000000000") && text.contains("NoNewPrivs:\t1"), "{text}");
    assert!(run(&b.shell("mount -t tmpfs x /etc 2>&1")).1.contains("ermi"), "mounting is refused");
    let free = Plan { seccomp: Seccomp::Unconfined, ..b.shell("cat /proc/self/status") };
    assert!(run(&free).1.contains("Seccomp:\t0"));
    let own = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":38}]}"#;
    let own = Plan { seccomp: Seccomp::Profile(own.into()), ..b.shell("/bin/busybox mkdir /x; echo $?") };
    assert!(run(&own).1.ends_with('1'));
}

fn the_root_is_closed() {
    let b = Box_::new("root");
    assert_eq!(run(&b.shell("cat /proc/timer_list /proc/keys | wc -c; ls /sys/firmware | wc -l")).1, "0\n0");
    assert_eq!(run(&b.shell("echo 1 > /proc/sys/kernel/printk")).0, Exit::Code(1));
    assert_eq!(run(&b.shell("echo b > /proc/sysrq-trigger")).0, Exit::Code(1));
    let read_only = Plan { read_only: true, ..b.shell("echo x > /etc/x") };
    assert_eq!(run(&read_only).0, Exit::Code(1));
    assert_eq!(run(&b.shell("echo x > /etc/x")).0, Exit::Code(0));
    assert!(b.dir.join("upper/etc/x").exists() && !b.dir.join("root/etc/x").exists());
    assert_eq!(run(&b.shell("ls /proc/self/fd | wc -l")).1, "4", "three and the listing's own");
    let _held = fs::File::open("/").unwrap();
    for n in 0..20 {
        let plan = Plan { cwd: format!("/proc/self/fd/{n}"), ..b.plan(&["true"]) };
        assert!(refused(&plan).0.starts_with("changing to working directory"), "{n}");
    }
    let outcome = run(&b.shell("echo x > /proc/1/exe"));
    assert_ne!(outcome.0, Exit::Code(0));
}

fn linked_directories_are_refused() {
    for name in ["proc", "sys", "dev"] {
        for to in ["/etc", "../../../../etc", "/nowhere"] {
            let b = Box_::new("links");
            std::os::unix::fs::symlink(to, b.dir.join("root").join(name)).unwrap();
            let (text, status) = refused(&b.plan(&["true"]));
            assert_eq!(
                text,
                format!("mounting `/{name}`: refused: it is not an ordinary directory in the image")
            );
            assert_eq!(status, 125);
        }
    }
}

fn binds_stay_inside() {
    let b = Box_::new("binds");
    let data = b.dir.join("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("f"), "hello").unwrap();
    std::os::unix::fs::symlink("/../../../../elsewhere", b.dir.join("root/link")).unwrap();
    fs::create_dir(b.dir.join("root/elsewhere")).unwrap();
    let bind = |target: &str, read_only| Mount::Bind {
        source: data.clone(),
        subpath: String::new(),
        target: target.into(),
        read_only,
        recursive: true,
        propagation: Propagation::Private,
    };
    let tmpfs =
        Mount::Tmpfs { target: "/t/u".into(), options: vec!["mode=1777".into()], size: Some(1 << 20) };
    let plan = Plan {
        mounts: vec![bind("/link/sub", true), bind("/w", false), tmpfs],
        ..b.shell("cat /elsewhere/sub/f; echo x > /link/sub/f || echo ro; echo y > /w/g; stat -c %a /t/u")
    };
    let text = run(&plan).1;
    assert!(text.starts_with("hello") && text.contains("\nro\n") && text.ends_with("1777"), "{text}");
    assert_eq!(fs::read_to_string(data.join("g")).unwrap(), "y\n");
    for target in ["/proc/sys", "/proc", "relative"] {
        let plan = Plan { mounts: vec![bind(target, false)], ..b.plan(&["true"]) };
        assert!(refused(&plan).0.contains("refused"), "{target}");
    }
}

fn a_terminal_is_one() {
    let b = Box_::new("tty");
    let size = Some(WindowSize { rows: 33, cols: 77 });
    let plan = Plan { terminal: size, ..b.shell("tty; stat -c %t:%T /dev/console; read x; echo got $x") };
    let mut process = spawn(Path::new(EXE), &plan, Stdio::Terminal).unwrap();
    let mut master = fs::File::from(process.take_terminal().unwrap());
    process.start().unwrap();
    runtime_linux::resize(&master, 10, 20).unwrap();
    master.write_all(b"word\n").unwrap();
    assert_eq!(process.wait().unwrap(), Exit::Code(0));
    let mut text = vec![0; 4096];
    let length = master.read(&mut text).unwrap();
    let text = String::from_utf8_lossy(&text[..length]).into_owned();
    assert!(text.contains("/dev/pts/0") && text.contains("88:0") && text.contains("got word"), "{text}");
}

fn limits_hold() {
    let b = Box_::new("limits");
    let limits = Limits { memory: Some(32 << 20), pids: Some(16), ..Limits::default() };
    // `tail` of an endless line keeps all of it in memory.
    let (exit, _) = run(&b.limited("exec /bin/busybox tail /dev/zero", limits.clone()));
    assert_eq!(exit.status(), 137);
    let cgroup = cgroups::Cgroup::open(&b.cgroup).unwrap();
    assert!(cgroup.oom_killed().unwrap());
    cgroup.remove().unwrap();
    let (_, text) = run(&b.limited(
        "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do sleep 1 & done; wait",
        limits,
    ));
    assert!(text.contains("fork"), "{text}");
    assert!(
        !run(&b.limited("cat /proc/self/cgroup", Limits::default())).1.contains("umiak"),
        "a cgroup namespace"
    );
}

fn frozen_and_killed_by_cgroup() {
    let b = Box_::new("freeze");
    let (mut process, _) = create(&b.limited("sleep 100 & sleep 100", Limits::default())).unwrap();
    process.start().unwrap();
    let cgroup = cgroups::Cgroup::open(&b.cgroup).unwrap();
    assert!(cgroup.processes().contains(&process.pid()));
    cgroup.freeze().unwrap();
    cgroup.thaw().unwrap();
    cgroup.kill_all().unwrap();
    assert_eq!(process.wait().unwrap(), Exit::Signal(9));
    cgroup.remove().unwrap();
    cgroup.remove().unwrap();
    assert!(cgroup.processes().is_empty());
}

/// A host process of its own, killed: the container dies with it, and the sweep removes the rest.
fn death_of_the_host_process() {
    let b = Box_::new("orphan");
    let plan = b.limited("sleep 1000 & sleep 1000", Limits::default());
    let mut host = std::process::Command::new(EXE)
        .env("UMIAK_TEST_HOST", &b.dir)
        .env("UMIAK_TEST_CGROUP", &plan.cgroup.unwrap().path)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = [0; 1];
    host.stdout.as_mut().unwrap().read_exact(&mut line).unwrap();
    let cgroup = cgroups::Cgroup::open(&b.cgroup).unwrap();
    assert!(!cgroup.processes().is_empty());
    host.kill().unwrap();
    host.wait().unwrap();
    cgroups::sweep(&b.cgroup).unwrap();
    assert!(cgroup.processes().is_empty());
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!table.contains("umiak-test"), "nothing is mounted on the host");
}

fn host_role(dir: &str) -> ! {
    let cgroup = std::env::var("UMIAK_TEST_CGROUP").unwrap();
    let b = std::mem::ManuallyDrop::new(Box_ { dir: dir.into(), cgroup });
    let (mut process, _output) = create(&b.limited("sleep 1000 & sleep 1000", Limits::default())).unwrap();
    process.start().unwrap();
    println!("started");
    process.wait().unwrap();
    std::process::exit(1)
}

fn a_thread_that_ends_kills_nothing() {
    let b = Box_::new("thread");
    let plan = b.plan(&["sleep", "0.3"]);
    let start = move || {
        let mut made = create(&plan).unwrap();
        made.0.start().unwrap();
        made
    };
    let (mut process, _output) = std::thread::spawn(start).join().unwrap();
    assert_eq!(process.wait().unwrap(), Exit::Code(0));
}

fn nothing_is_left_open() {
    let b = Box_::new("fds");
    let count = || fs::read_dir("/proc/self/fd").unwrap().count();
    run(&b.plan(&["true"]));
    let before = count();
    for _ in 0..5 {
        run(&b.plan(&["true"]));
        let _failed = create(&Plan { user: "nobody-here".into(), ..b.plan(&["true"]) });
    }
    assert_eq!(count(), before);
    assert!(fs::File::open("/dev/null").unwrap().as_raw_fd() < 64);
}

/// Waits for what a process does in its own time.
fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if done() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    panic!("never: {what}");
}

fn exec_is_in_the_container() {
    let b = Box_::new("exec");
    let plan = Plan {
        hostname: "boat".into(),
        ..b.limited("echo x > /etc/mark; exec sleep 1000", Limits::default())
    };
    let first = running(&plan);
    eventually("the mark", || b.dir.join("upper/etc/mark").exists());
    let seen = inside(
        &first,
        &plan,
        "cat /etc/mark; hostname; readlink /proc/1/exe; ls /proc/self/fd | wc -l; echo $HOME; exit 9",
    );
    assert_eq!(seen, (Exit::Code(9), "x\nboat\n/bin/busybox\n4\n/root".to_owned()));
    let links = "for n in mnt pid net ipc uts cgroup user; do [ $(readlink /proc/1/ns/$n) = $(readlink /proc/self/ns/$n) ] || echo $n; done";
    let free = Plan { capabilities: vec!["CAP_SYS_PTRACE".into()], ..plan.clone() };
    assert_eq!(
        inside(&first, &free, links),
        (Exit::Code(0), String::new()),
        "all namespaces are the container's"
    );
    assert_eq!(
        inside(&first, &plan, "cat /proc/self/cgroup").1,
        inside(&first, &plan, "cat /proc/1/cgroup").1,
    );
    let (mut sleeper, _) = enter(&first, &like(&first, &plan, "exec sleep 1000")).unwrap();
    sleeper.start().unwrap();
    assert!(cgroups::Cgroup::open(&b.cgroup).unwrap().processes().contains(&sleeper.pid()));
    assert!(inside(&first, &plan, "ps").1.contains("sleep 1000"));
    // It ends with the container, whose own end is complete only then.
    first.signal(9).unwrap();
    assert_eq!(sleeper.wait().unwrap(), Exit::Signal(9));
    let mut first = first;
    assert_eq!(first.wait().unwrap(), Exit::Signal(9));
    let late = exec_refused(&first, &like(&first, &plan, "true"));
    assert_eq!(late.0, format!("joining namespaces of `{}`: no such process", first.pid()));
}

fn exec_has_the_containers_privileges() {
    let b = Box_::new("exec-caps");
    let plan = b.shell("exec sleep 1000");
    let first = running(&plan);
    let status = "cat /proc/self/status";
    let text = inside(&first, &plan, status).1;
    for line in [
        "CapInh:\t0000000000000000",
        "CapPrm:\t00000000a80425fb",
        "CapEff:\t00000000a80425fb",
        "CapBnd:\t00000000a80425fb",
        "CapAmb:\t0000000000000000",
        "NoNewPrivs:\t0",
        "Seccomp:\t2",
        "SigBlk:\t0000000000000000",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    let user = Plan { user: "www".into(), no_new_privs: true, ..plan.clone() };
    let text = inside(&first, &user, "cat /proc/self/status; id; echo $HOME").1;
    for part in [
        "CapInh:\t0000000000000000",
        "CapEff:\t0000000000000000",
        "NoNewPrivs:\t1",
        "uid=33",
        "groups=4",
        "/srv",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let all = Plan {
        capabilities: runtime_linux::caps::ALL.iter().map(|&c| c.into()).collect(),
        seccomp: Seccomp::Unconfined,
        ..plan.clone()
    };
    let text = inside(&first, &all, status).1;
    assert!(text.contains("Seccomp:\t0") && text.contains("CapInh:\t0000000000000000"), "{text}");
    assert!(!text.contains("CapEff:\t00000000a80425fb"), "{text}");
}

fn exec_refuses_what_cannot_run() {
    let b = Box_::new("exec-refused");
    std::os::unix::fs::symlink("/proc/self/fd", b.dir.join("root/fds")).unwrap();
    let plan = b.shell("exec sleep 1000");
    let first = running(&plan);
    let line = |args: &[&str]| ExecPlan {
        args: args.iter().map(|&a| a.into()).collect(),
        ..like(&first, &plan, "")
    };
    for (args, text, status) in [
        ("foo", "exec: \"foo\": executable file not found in $PATH", 127),
        ("/x", "exec: \"/x\": stat /x: no such file or directory", 127),
        ("/etc/passwd", "exec: \"/etc/passwd\": permission denied", 126),
        ("", "exec: \"\": executable file not found in $PATH", 127),
    ] {
        assert_eq!(exec_refused(&first, &line(&[args])), (text.to_owned(), status));
    }
    let user = ExecPlan { user: "foo".into(), ..line(&["true"]) };
    assert_eq!(exec_refused(&first, &user).0, "unable to find user foo: no matching entries in passwd file");
    let _held = fs::File::open("/").unwrap();
    for n in 0..=20 {
        for cwd in
            [format!("/proc/self/fd/{n}"), format!("/fds/{n}"), format!("/proc/self/fd/{n}/../../../..")]
        {
            let plan = ExecPlan { cwd: cwd.clone(), ..line(&["true"]) };
            assert!(exec_refused(&first, &plan).0.starts_with("changing to working directory"), "{cwd}");
        }
    }
    let missing = ExecPlan { cwd: "/not/there".into(), ..line(&["true"]) };
    assert_eq!(
        exec_refused(&first, &missing).0,
        "changing to working directory `/not/there`: no such file or directory"
    );
    assert!(!b.dir.join("upper/not").exists(), "exec makes no directories");
}

/// The container's processes try to get hold of those that enter it (CVE-2019-5736, CVE-2016-9962).
fn exec_cannot_be_caught() {
    let b = Box_::new("caught");
    // Every process that appears is looked into, over and over, by one that may trace what it could trace.
    let script = "while :; do for p in /proc/[0-9]*; do [ $p = /proc/1 ] && continue; l=$(readlink $p/exe 2>/dev/null); \
        case \"$l\" in /bin/busybox|'') ;; *) echo \"$l\" >> /etc/caught; echo x 2>/dev/null > $p/exe; esac; done; done";
    let before = fs::metadata(fs::read_link(EXE).unwrap()).unwrap().modified().unwrap();
    let plan = b.shell(script);
    let first = running(&plan);
    for _ in 0..30 {
        let made = enter(&first, &like(&first, &plan, "exit 3")).unwrap();
        // Ready, and not started: it is in the container, and still ours.
        let inode = |path: &str| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap());
        assert_eq!(inode(&format!("/proc/{}/exe", made.0.pid())), inode(EXE));
        std::thread::sleep(std::time::Duration::from_millis(5));
        assert_eq!(finish(made).0, Exit::Code(3));
    }
    assert!(
        !b.dir.join("upper/etc/caught").exists(),
        "{:?}",
        fs::read_to_string(b.dir.join("upper/etc/caught"))
    );
    assert_eq!(fs::metadata(fs::read_link(EXE).unwrap()).unwrap().modified().unwrap(), before);
    // Its own binary, when it is a link to the one that started it.
    let outcome = inside(&first, &plan, "echo x > /proc/self/exe");
    assert_ne!(outcome.0, Exit::Code(0));
}

fn exec_has_a_terminal_of_its_own() {
    let b = Box_::new("exec-tty");
    let plan = b.shell("exec sleep 1000");
    let first = running(&plan);
    let wanted = ExecPlan {
        terminal: Some(WindowSize { rows: 33, cols: 77 }),
        user: "www".into(),
        ..like(&first, &plan, "tty; stat -c %U $(tty); stat -c %t:%T /dev/console; read x; echo got $x")
    };
    let mut process = exec(Path::new(EXE), &wanted, first.pidfd(), Stdio::Terminal).unwrap();
    let mut master = fs::File::from(process.take_terminal().unwrap());
    process.start().unwrap();
    master.write_all(b"word\n").unwrap();
    assert_eq!(process.wait().unwrap(), Exit::Code(0));
    let mut text = Vec::new();
    // It comes in pieces, and ends with an error.
    let _ended = master.read_to_end(&mut text);
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(text.contains("/dev/pts/0") && text.contains("www") && text.contains("got word"), "{text}");
    assert!(text.contains("'/dev/console': No such"), "the console is the first process's alone: {text}");
    drop(first);
    // What lies where the terminals should be is not believed.
    for replace in [
        "ln -s /dev/null /dev/pts/x 2>/dev/null; mount -t tmpfs x /dev/pts; touch /dev/pts/ptmx",
        "mount -t tmpfs x /dev/pts; ln -s /dev/null /dev/pts/ptmx",
    ] {
        let plan = Plan {
            capabilities: vec!["CAP_SYS_ADMIN".into()],
            seccomp: Seccomp::Unconfined,
            ..b.shell(&format!("{replace}; echo done > /etc/done; exec sleep 1000"))
        };
        let _old = fs::remove_file(b.dir.join("upper/etc/done"));
        let first = running(&plan);
        eventually("the mount", || b.dir.join("upper/etc/done").exists());
        let wanted =
            ExecPlan { terminal: Some(WindowSize { rows: 3, cols: 7 }), ..like(&first, &plan, "true") };
        match exec(Path::new(EXE), &wanted, first.pidfd(), Stdio::Terminal) {
            Err(SpawnError::Init(failure)) => {
                assert!(failure.to_string().contains("multiplexer"), "{failure}");
            }
            other => panic!("{other:?}"),
        }
    }
}

fn init_reaps_and_forwards() {
    let b = Box_::new("init");
    let with = |script: &str| Plan { init: true, ..b.limited(script, Limits::default()) };
    assert_eq!(run(&with("exit 7")).0, Exit::Code(7));
    assert_eq!(
        run(&with("kill -9 $$")).0,
        Exit::Code(137),
        "a process that is not the first can be killed from within"
    );
    assert_eq!(
        run(&with("[ $$ != 1 ] && echo $PPID; ls /proc/self/fd | wc -l")),
        (Exit::Code(0), "1\n4".to_owned())
    );
    for (args, status) in [("foo", 127), ("/etc/passwd", 126)] {
        let plan = Plan { args: vec![args.into()], ..with("") };
        assert_eq!(refused(&plan).1, status, "{args}");
    }
    let zombies = "(sleep 0.05 & sleep 0.05 & exit 0); sleep 0.3; ps -o stat | grep -c Z";
    assert_eq!(run(&with(zombies)).1, "0", "orphans are reaped");
    for (signal, trap) in [(15, "TERM"), (10, "USR1"), (2, "INT"), (1, "HUP"), (28, "WINCH")] {
        let plan =
            with(&format!("trap 'exit 42' {trap}; touch /etc/ready-{signal}; while :; do sleep 0.02; done"));
        let mut process = running(&plan);
        eventually("ready", || b.dir.join(format!("upper/etc/ready-{signal}")).exists());
        process.signal(signal).unwrap();
        assert_eq!(process.wait().unwrap(), Exit::Code(42), "{trap}");
    }
    // A program with default actions ends by them, although it is a container's only one.
    let mut process = running(&with("exec sleep 1000"));
    process.signal(15).unwrap();
    assert_eq!(process.wait().unwrap(), Exit::Code(143));
    // The reaper has the program's rights, and its binary is out of reach.
    let plan = Plan {
        user: "www".into(),
        ..with("cat /proc/1/status; echo x > /proc/1/exe; cat /proc/1/exe | wc -c; ls /proc/1/fd")
    };
    let text = run(&plan).1;
    assert!(text.contains("Uid:\t33\t33\t33\t33") && text.contains("CapEff:\t0000000000000000"), "{text}");
    assert!(text.contains("Seccomp:\t2") && text.contains("Permission denied"), "{text}");
    let text = run(&with("echo x > /proc/1/exe; cat /proc/1/exe | wc -c; ls /proc/1/fd")).1;
    assert!(text.contains("can't create /proc/1/exe") && text.contains("\n0"), "{text}");
}

fn init_has_the_terminal() {
    let b = Box_::new("init-tty");
    let plan = Plan {
        init: true,
        terminal: Some(WindowSize { rows: 3, cols: 7 }),
        ..b.shell("trap 'echo interrupted; exit 5' INT; echo ready; while :; do sleep 0.02; done")
    };
    let mut process = spawn(Path::new(EXE), &plan, Stdio::Terminal).unwrap();
    let mut master = fs::File::from(process.take_terminal().unwrap());
    process.start().unwrap();
    let mut seen = String::new();
    let mut buffer = [0; 256];
    let mut until = |word: &str, master: &mut fs::File| {
        while !seen.contains(word) {
            let length = master.read(&mut buffer).unwrap();
            seen.push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
    };
    until("ready", &mut master);
    master.write_all(b"\x03").unwrap();
    until("interrupted", &mut master);
    assert_eq!(process.wait().unwrap(), Exit::Code(5));
}

fn namespaces_are_shared() {
    let b = Box_::new("share");
    let other = Box_::new("share-by");
    let donor_plan = Plan {
        hostname: "donor".into(),
        ..b.limited(
            "echo shared > /dev/shm/f; touch /dev/mqueue/q; echo x > /etc/done; exec sleep 1000",
            Limits::default(),
        )
    };
    let donor = running(&donor_plan);
    eventually("the file", || b.dir.join("upper/etc/done").exists());
    let peer = || Peer { pid: donor.pid(), cgroup: b.cgroup.rsplit('/').next().unwrap().to_owned() };
    let join = || Namespace::Join(peer());
    let plan = |namespaces, network, shm, script: &str| Plan {
        namespaces,
        network,
        shm,
        ..other.limited(script, Limits::default())
    };
    let own = Namespaces::default;
    let script = "ps -o comm | grep -c sleep; [ $$ = 1 ] || echo notfirst";
    let shared = plan(Namespaces { pid: join(), ..own() }, Network::None, Shm::Own, script);
    assert_eq!(run(&shared).1, "1\nnotfirst");
    let shared = plan(
        Namespaces { ipc: join(), ..own() },
        Network::None,
        Shm::Of(peer()),
        "cat /dev/shm/f; ls /dev/mqueue; echo back > /dev/shm/g",
    );
    assert_eq!(run(&shared).1, "shared\nq");
    assert_eq!(inside(&donor, &donor_plan, "cat /dev/shm/g").1, "back");
    let shared = plan(own(), Network::Join(peer()), Shm::None, "readlink /proc/self/ns/net; ls /dev/shm");
    let text = run(&shared).1;
    let theirs = fs::read_link(format!("/proc/{}/ns/net", donor.pid())).unwrap();
    assert!(text.contains(theirs.to_str().unwrap()) && text.contains("No such file"), "{text}");
    let host = plan(
        Namespaces {
            pid: Namespace::Inherit,
            uts: Namespace::Inherit,
            ipc: Namespace::Inherit,
            cgroup: Namespace::Inherit,
        },
        Network::Host,
        Shm::Host,
        "for n in pid uts ipc cgroup net; do readlink /proc/self/ns/$n; done; cat /proc/self/cgroup; sleep 1000 >/dev/null 2>&1 & exit 0",
    );
    let text = finish(create(&host).unwrap_or_else(|error| panic!("{error}"))).1;
    for kind in ["pid", "uts", "ipc", "cgroup", "net"] {
        let ours = fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        assert!(text.contains(ours.to_str().unwrap()), "{kind} in {text}");
    }
    assert!(text.contains(&other.cgroup), "{text}");
    let group = cgroups::Cgroup::open(&other.cgroup).unwrap();
    assert_eq!(group.processes().len(), 1, "no end of a namespace kills what the first left");
    cgroups::sweep(&other.cgroup).unwrap();
    assert!(group.processes().is_empty());
    // A number that is not the meant container's any more.
    for peer in [Peer { cgroup: "another".into(), ..peer() }, Peer { pid: 4_000_000, ..peer() }] {
        let plan = plan(own(), Network::Join(peer.clone()), Shm::Own, "true");
        assert_eq!(refused(&plan).0, format!("joining namespaces of `{}`: no such process", peer.pid));
    }
}

type Test = (&'static str, fn());

/// Ids that nobody has on a host under test.
fn own_ids() -> IdMappings {
    let range = vec![IdRange { inside: 0, outside: 1_500_000_000, count: 65_536 }];
    IdMappings { uids: range.clone(), gids: range }
}

fn a_user_namespace_of_its_own() {
    use std::os::unix::fs::MetadataExt;
    let b = Box_::new("remap");
    let data = b.dir.join("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("f"), "hello").unwrap();
    std::os::unix::fs::chown(data.join("f"), Some(33), Some(4)).unwrap();
    let script = "cat /proc/self/uid_map; stat -c %u:%g /etc/passwd /data/f; touch /made /data/new; echo x >/dev/null; \
                  echo y >/dev/stderr; busybox chown 33:4 /made; busybox mv /etc /moved; busybox rm -r /moved; ls /etc; \
                  busybox chroot / true && busybox ping -c1 -w2 127.0.0.1 >/dev/null && echo done";
    let bind = Mount::Bind {
        source: data.clone(),
        subpath: String::new(),
        target: "/data".into(),
        read_only: false,
        recursive: true,
        propagation: Propagation::Private,
    };
    let plan = Plan {
        user_namespace: Some(own_ids()),
        mounts: vec![bind],
        hostname: "boat".into(),
        rlimits: vec![Rlimit { name: "nofile".into(), soft: 99, hard: 99 }],
        oom_score_adj: Some(500),
        ..b.limited(script, Limits { pids: Some(50), ..Limits::default() })
    };
    let (exit, text) = run(&plan);
    let words: Vec<_> = text.split_whitespace().collect();
    let wanted = "0 1500000000 65536 0:0 33:4 y ls: /etc: No such file or directory done";
    assert_eq!((exit, words.join(" ").as_str()), (Exit::Code(0), wanted));
    // On disk everything has the ids that the image and the container gave it.
    let owner = |path: &str| fs::symlink_metadata(b.dir.join(path)).map(|m| (m.uid(), m.gid())).unwrap();
    assert_eq!((owner("upper/made"), owner("data/new"), owner("upper")), ((33, 4), (0, 0), (0, 0)));

    let sleeper = Plan { args: ["sleep", "100"].map(str::to_owned).into(), ..plan.clone() };
    let process = running(&sleeper);
    let status = |name: &str| fs::read_to_string(format!("/proc/{}/{name}", process.pid())).unwrap();
    assert!(status("status").contains("Uid:\t1500000000\t1500000000\t1500000000"), "{}", status("status"));
    assert!(status("status").contains("CapEff:\t00000000a80425fb"), "{}", status("status"));
    assert_eq!(status("oom_score_adj").trim(), "500");
    assert!(status("limits").lines().any(|line| line.starts_with("Max open files            99 ")));
    let further = ExecPlan { user: "33".into(), ..like(&process, &sleeper, "id -u; touch /tmp/x; hostname") };
    let (exit, text) = finish(enter(&process, &further).unwrap());
    assert_eq!((exit.status(), text.as_str()), (0, "33\ntouch: /tmp/x: No such file or directory\nboat"));
    drop(process);

    let terminal =
        Plan { terminal: Some(WindowSize { rows: 3, cols: 4 }), user: "33".into(), ..b.shell("tty; id -u") };
    let (mut process, _) = create(&Plan { user_namespace: Some(own_ids()), ..terminal }).unwrap();
    let mut master = fs::File::from(process.take_terminal().unwrap());
    process.start().unwrap();
    let mut shown = Vec::new();
    let _until_hung_up = master.read_to_end(&mut shown);
    assert_eq!(String::from_utf8_lossy(&shown), "/dev/pts/0\r\n33\r\n");
    assert_eq!(process.wait().unwrap().status(), 0);
}

fn what_a_user_namespace_cannot_share_is_refused() {
    let b = Box_::new("remap-no");
    let plan = Plan { user_namespace: Some(own_ids()), ..b.plan(&["true"]) };
    let shared = Namespaces { pid: Namespace::Inherit, ..Namespaces::default() };
    for (plan, words) in [
        (Plan { network: Network::Host, ..plan.clone() }, "cannot share the host's network namespace"),
        (Plan { namespaces: shared, ..plan.clone() }, "cannot share the host PID namespace"),
        (Plan { user_namespace: Some(IdMappings::default()), ..plan.clone() }, "mapped to nobody"),
        (Plan { user: "70000".into(), ..plan.clone() }, "id 70000 is beyond"),
    ] {
        let (text, status) = refused(&plan);
        assert!(text.contains(words) && status == 125, "{status} {text}");
    }
    let proc = Mount::Bind {
        source: "/proc/sys".into(),
        subpath: String::new(),
        target: "/p".into(),
        read_only: true,
        recursive: false,
        propagation: Propagation::Private,
    };
    let (text, _) = refused(&Plan { mounts: vec![proc], ..plan });
    assert!(text.contains("`/proc/sys`") && text.contains("idmapped mounts"), "{text}");
}

/// Needs a kernel with Landlock, as that of `tests/vm` is.
fn a_thread_reaches_what_it_was_given() {
    let mine = Box_::new("landlock");
    let open = |name: &str| fs::File::open(mine.dir.join(name)).unwrap();
    let (root, upper, passwd) = (open("root/bin"), open("upper"), open("root/etc/passwd"));
    let reaches = |name: &str| fs::read(mine.dir.join(name)).is_ok();
    let writes = |name: &str| fs::write(mine.dir.join(name), "x").is_ok();
    std::thread::scope(|scope| {
        let confined = scope.spawn(|| {
            rustix::thread::set_no_new_privs(true).unwrap();
            let places =
                [Place::Readable(root.as_fd()), Place::Writable(upper.as_fd()), Place::File(passwd.as_fd())];
            let confined = landlock::restrict_thread(&places, false).unwrap();
            assert_eq!(writes("root/bin/new"), !confined);
            assert_eq!(
                reaches("root/etc/group") || writes("root/etc/passwd") || writes("work/new"),
                !confined
            );
            assert!(reaches("root/bin/busybox") && reaches("root/etc/passwd"));
            assert!(writes("upper/new") && fs::remove_file(mine.dir.join("upper/new")).is_ok());
            // A thread that it starts is where it is.
            let started = scope.spawn(|| reaches("root/etc/group"));
            assert_eq!(started.join().unwrap(), !confined);
            let listens = std::net::TcpListener::bind("127.0.0.1:0");
            // TCP came later than files.
            assert!(confined || listens.is_ok());
            println!("Landlock: {confined}, TCP: {}", listens.is_err());
        });
        confined.join().unwrap();
    });
    assert!(reaches("root/etc/group"), "others are as they were");
}

fn a_thread_goes_apart() {
    let mine = Box_::new("aside");
    let mounts = || fs::read_to_string("/proc/self/mounts").unwrap();
    let before = mounts();
    let files = vec![(mine.dir.join("root/etc/group"), "/etc/hosts")];
    let thread = Aside::start(Wish { network: false, files }).unwrap();
    assert!(thread.refused().is_none(), "{thread:?}");
    let space = |task: &str, kind: &str| fs::read_link(format!("/proc/self/task/{task}/ns/{kind}")).unwrap();
    let (own, main) = (thread.id().to_string(), std::process::id().to_string());
    for (kind, apart) in [("mnt", true), ("ipc", true), ("uts", true), ("net", false), ("pid", false)] {
        assert_eq!(space(&own, kind) != space(&main, kind), apart, "{kind}");
    }
    let held = fs::File::open(mine.dir.join("root")).unwrap();
    let path = PathBuf::from(format!("/proc/self/fd/{}/etc/passwd", held.as_raw_fd()));
    let (found, hosts, handed, written, child) = thread
        .run(move || {
            let mut found: Vec<_> = fs::read_dir("/")
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            found.sort();
            let child = std::thread::spawn(|| Path::new("/bin").exists() || Path::new("/proc/1").exists());
            let written = fs::write("/new", "x").is_ok() || fs::write("/etc/new", "x").is_ok();
            (
                found,
                fs::read_to_string("/etc/hosts"),
                fs::read_to_string(path),
                written,
                child.join().unwrap(),
            )
        })
        .unwrap();
    assert_eq!(found, ["etc", "proc"]);
    assert!(hosts.unwrap().contains("www:x:33") && handed.unwrap().contains("www:x:33"));
    assert!(!written && !child);
    assert!(Path::new("/bin").exists(), "others are where they were");
    assert_eq!(mounts(), before);
    // Open sockets go on; new ones there are none.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let client = std::net::TcpStream::connect(address).unwrap();
    let (accepted, bound) = thread
        .run(move || {
            rustix::thread::set_no_new_privs(true).unwrap();
            wall::without_sockets().unwrap();
            (listener.accept().is_ok(), std::net::UdpSocket::bind("127.0.0.1:0").map(drop))
        })
        .unwrap();
    assert!(accepted, "{client:?}");
    assert_eq!(bound.unwrap_err().kind(), std::io::ErrorKind::PermissionDenied);
    drop(thread);
    let gone = (0..200).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        !Path::new(&format!("/proc/self/task/{own}")).exists()
    });
    assert!(gone, "the thread ends with its last handle");
}

const TESTS: &[Test] = &[
    ("a_thread_goes_apart", a_thread_goes_apart),
    ("a_thread_reaches_what_it_was_given", a_thread_reaches_what_it_was_given),
    ("a_user_namespace_of_its_own", a_user_namespace_of_its_own),
    ("what_a_user_namespace_cannot_share_is_refused", what_a_user_namespace_cannot_share_is_refused),
    ("exits_and_signals", exits_and_signals),
    ("what_cannot_run_says_so", what_cannot_run_says_so),
    ("the_process_is_what_was_asked_for", the_process_is_what_was_asked_for),
    ("privileges_are_dockers", privileges_are_dockers),
    ("the_root_is_closed", the_root_is_closed),
    ("linked_directories_are_refused", linked_directories_are_refused),
    ("binds_stay_inside", binds_stay_inside),
    ("a_terminal_is_one", a_terminal_is_one),
    ("limits_hold", limits_hold),
    ("frozen_and_killed_by_cgroup", frozen_and_killed_by_cgroup),
    ("death_of_the_host_process", death_of_the_host_process),
    ("a_thread_that_ends_kills_nothing", a_thread_that_ends_kills_nothing),
    ("nothing_is_left_open", nothing_is_left_open),
    ("exec_is_in_the_container", exec_is_in_the_container),
    ("exec_has_the_containers_privileges", exec_has_the_containers_privileges),
    ("exec_refuses_what_cannot_run", exec_refuses_what_cannot_run),
    ("exec_cannot_be_caught", exec_cannot_be_caught),
    ("exec_has_a_terminal_of_its_own", exec_has_a_terminal_of_its_own),
    ("init_reaps_and_forwards", init_reaps_and_forwards),
    ("init_has_the_terminal", init_has_the_terminal),
    ("namespaces_are_shared", namespaces_are_shared),
];

fn main() -> ExitCode {
    init::main_if_init();
    if let Ok(dir) = std::env::var("UMIAK_TEST_HOST") {
        host_role(&dir);
    }
    let flag = |name: &str| std::env::args().any(|argument| argument == name);
    if flag("--list") {
        // What cargo-nextest asks for; none of the tests is an ignored one.
        for (name, _) in TESTS.iter().filter(|_| !flag("--ignored")) {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    let root = rustix::process::geteuid().is_root();
    if !root || !Path::new(BUSYBOX).exists() {
        println!("skipped: {}", if root { "no /bin/busybox" } else { "not root" });
        let required =
            std::env::var("REQUIRE_TIERS").is_ok_and(|tiers| tiers.split(',').any(|t| t == "root"));
        return if required { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    }
    let wanted = std::env::args().skip(1).find(|a| !a.starts_with('-'));
    let exact = flag("--exact");
    let (mut passed, mut failed) = (0, 0);
    for (name, test) in TESTS.iter().filter(|(name, _)| {
        wanted.as_ref().is_none_or(|w| if exact { name == w } else { name.contains(w.as_str()) })
    }) {
        if std::panic::catch_unwind(test).is_ok() {
            passed += 1;
        } else {
            println!("FAILED {name}");
            failed += 1;
        }
    }
    // The parent alone, and only when it is empty: other tests' processes make theirs in it at the same time.
    for hierarchy in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
        let _used_elsewhere = fs::remove_dir(hierarchy.path().join("umiak-test"));
    }
    println!("{passed} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
