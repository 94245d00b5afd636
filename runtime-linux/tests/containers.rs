//! Containers for real: needs root and a static busybox. Skipped with a reason elsewhere, unless `REQUIRE_TIERS` names
//! `root`. Its own `main`, since this binary is re-executed as init.
#![cfg(target_os = "linux")]
#![expect(clippy::print_stdout, clippy::unwrap_used, clippy::exit, reason = "a test runner")]

use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use runtime_linux::{
    CgroupPlan, Created, Exit, Limits, Mount, Plan, Propagation, Root, Seccomp, SpawnError, StartError,
    Stdio, WindowSize, cgroups, init, spawn,
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
        for applet in
            ["sh", "true", "cat", "id", "env", "ls", "sleep", "tty", "mount", "hostname", "stat", "dd", "wc"]
        {
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
    let (mut process, mut output) = create(plan).unwrap();
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

type Test = (&'static str, fn());

const TESTS: &[Test] = &[
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
    let _used_elsewhere = cgroups::Cgroup::open("umiak-test").map(|parent| parent.remove());
    println!("{passed} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
