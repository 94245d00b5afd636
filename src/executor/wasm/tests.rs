//! The adapter on real modules, and the suite for executors.

use std::error::Error;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Read as _;
#[cfg(unix)]
use std::os::fd::OwnedFd as Owned;
#[cfg(windows)]
use std::os::windows::io::OwnedHandle as Owned;
use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;

use super::*;
use crate::executor::conformance::{self, Case, Subject};
use crate::executor::{Joins, NameFiles, Process, Root, Stdio};
use crate::model::{HostConfig, Kind, NetworkMode, Platform};

/// What every guest begins with.
const HEAD: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 2)
  (func $put (param $fd i32) (param $at i32) (param $left i32)
    (loop $again
      (i32.store (i32.const 0) (local.get $at))
      (i32.store (i32.const 4) (local.get $left))
      (if (call $write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable))
      (local.set $at (i32.add (local.get $at) (i32.load (i32.const 8))))
      (local.set $left (i32.sub (local.get $left) (i32.load (i32.const 8))))
      (br_if $again (local.get $left))))
  (func (export "_start") (local $n i32)
"#;

/// Whether guests are interpreted, see `runtime-wasm/tests/common`.
fn interpreted() -> bool {
    std::env::var_os("UMIAK_INTERPRETED").is_some()
}

/// A module whose `_start` is this body.
fn guest(body: &str) -> Vec<u8> {
    wat::parse_str(format!("{HEAD}{body}))")).unwrap()
}

fn says(text: &str, then: &str) -> Vec<u8> {
    let escaped = text.replace('\n', "\\n");
    let body = format!(
        "(call $put (i32.const 1) (i32.const 1024) (i32.const {})) {then}) (data (i32.const 1024) \"{escaped}\"",
        text.len()
    );
    guest(&body)
}

fn module(program: &conformance::Program) -> Option<Vec<u8>> {
    use conformance::Program;
    Some(match program {
        Program::Succeed => guest(""),
        Program::Exit(status) => guest(&format!("(call $exit (i32.const {status}))")),
        Program::Echo(text) => says(&format!("{text}\n"), ""),
        Program::CopyInput => guest(
            "(loop $more
               (i32.store (i32.const 0) (i32.const 1024))
               (i32.store (i32.const 4) (i32.const 32768))
               (if (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable))
               (local.set $n (i32.load (i32.const 8)))
               (if (local.get $n) (then
                 (call $put (i32.const 1) (i32.const 1024) (local.get $n))
                 (br $more))))",
        ),
        Program::Loop => says("ready\n", "(loop $forever (br $forever))"),
        Program::Missing => Vec::new(),
        Program::NotExecutable => b"#!/bin/sh\n".to_vec(),
        Program::LeaveProcesses => return None,
    })
}

/// What the suite runs in a container that runs already: in every root.
const BESIDE: &[conformance::Program] = &[
    conformance::Program::Succeed,
    conformance::Program::Exit(0),
    conformance::Program::Exit(7),
    conformance::Program::Echo("beside"),
    conformance::Program::CopyInput,
    conformance::Program::Loop,
    conformance::Program::NotExecutable,
];

fn name(program: &conformance::Program) -> String {
    format!("{program:?}.wasm").replace(['"', '(', ')'], "-")
}

/// How the roots of a subject are made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Layout {
    Directory,
    #[cfg(target_os = "linux")]
    Overlay,
}

struct Wasi {
    layout: Layout,
    dir: tempfile::TempDir,
    roots: Mutex<u32>,
}

impl Wasi {
    fn new(layout: Layout) -> Self {
        let dir = tempfile::Builder::new().prefix("umiak-test-").tempdir().unwrap();
        Self { layout, dir, roots: Mutex::new(0) }
    }

    /// A fresh root with this file as `/program.wasm`.
    fn root(&self, file: Option<&[u8]>) -> Root {
        let mut count = self.roots.lock().unwrap();
        *count += 1;
        let dir = self.dir.path().join(format!("root{count}"));
        for part in ["lower", "upper", "work"] {
            std::fs::create_dir_all(dir.join(part)).unwrap();
        }
        if let Some(file) = file {
            std::fs::write(dir.join("lower/program.wasm"), file).unwrap();
        }
        // What is run beside it.
        for program in BESIDE {
            std::fs::write(dir.join("lower").join(name(program)), module(program).unwrap()).unwrap();
        }
        match self.layout {
            Layout::Directory => Root::Directory(dir.join("lower")),
            #[cfg(target_os = "linux")]
            Layout::Overlay => Root::Overlay {
                lower: vec![dir.join("lower")],
                upper: dir.join("upper"),
                work: dir.join("work"),
                volatile: false,
            },
        }
    }

    fn create(&self, root: Root, stdio: Stdio) -> Create {
        Create {
            id: ContainerId::from_bytes([1; 32]),
            root,
            scratch: self.dir.path().to_owned(),
            process: Process {
                args: vec!["/program.wasm".to_owned()],
                env: vec!["A=b".to_owned()],
                cwd: "/".to_owned(),
                user: String::new(),
            },
            hostname: "guest".to_owned(),
            domainname: String::new(),
            name_files: NameFiles::default(),
            host: HostConfig::default(),
            mounts: Vec::new(),
            joins: Joins::default(),
            stdio,
        }
    }
}

impl Subject for Wasi {
    fn entry(&self) -> Entry {
        ENTRY
    }

    fn open(&self) -> Result<Box<dyn Executor>, ExecError> {
        (ENTRY.open)(&Settings {
            exe: "umiak".into(),
            cache: self.dir.path().join("cache"),
            guest_memory: None,
            interpreted: interpreted(),
            own_process: false,
            scratch: self.dir.path().to_owned(),
            group_parent: String::new(),
            runtime: None,
        })
    }

    fn request(&self, id: ContainerId, program: &conformance::Program, stdio: Stdio) -> Option<Create> {
        let bytes = module(program)?;
        let root = self.root(None);
        let lower = match &root {
            Root::Directory(dir) => dir,
            Root::Overlay { lower, .. } => &lower[0],
        };
        if *program != conformance::Program::Missing {
            std::fs::write(lower.join(name(program)), bytes).unwrap();
        }
        let mut create = Create { id, ..self.create(root, stdio) };
        create.process.args = vec![format!("/{}", name(program))];
        Some(create)
    }

    fn has_terminals(&self) -> bool {
        cfg!(unix)
    }

    fn taken(&self) -> Workload {
        workload("wasi/wasm", "/app.wasm", &[])
    }

    fn refused(&self) -> Vec<Workload> {
        vec![
            workload("linux/amd64", "/bin/sh", &[]),
            workload("windows/amd64", "cmd", &[]),
            workload("wasi/wasm", "/app.wasm", &[Want::Namespaces]),
            workload("wasi/wasm", "/app.wasm", &[Want::User]),
        ]
    }
}

fn workload(platform: &str, program: &str, wants: &[Want]) -> Workload {
    Workload {
        platform: platform.parse::<Platform>().unwrap(),
        packaging: Packaging::Image,
        program: Some(program.to_owned()),
        wants: wants.to_vec(),
    }
}

async fn conforms(layout: Layout) {
    let failed: Vec<Case> =
        conformance::run(&Wasi::new(layout)).await.into_iter().filter(|case| case.outcome.is_err()).collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

#[tokio::test]
async fn wasm_conforms_in_a_directory() {
    conforms(Layout::Directory).await;
}

#[cfg(target_os = "linux")]
fn may_mount() -> bool {
    rustix::process::geteuid().is_root()
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn wasm_conforms_in_an_overlay() {
    if may_mount() {
        conforms(Layout::Overlay).await;
    }
}

fn files() -> (Stdio, File) {
    let (read, write) = std::io::pipe().unwrap();
    let null =
        || File::options().read(true).write(true).open(if cfg!(windows) { "NUL" } else { "/dev/null" });
    let stdio =
        Stdio::Files { stdin: null().unwrap(), stdout: Owned::from(write).into(), stderr: null().unwrap() };
    (stdio, Owned::from(read).into())
}

fn text(error: &ExecError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        write!(text, ": {error}").unwrap();
        source = error.source();
    }
    text
}

/// What creating a task of this file says.
async fn refusal(subject: &Wasi, file: Option<&[u8]>, args: &[&str]) -> (ErrorKind, String) {
    let mut request = subject.create(subject.root(file), files().0);
    request.process.args = args.iter().map(|&arg| arg.to_owned()).collect();
    let error = subject.open().unwrap().create(request).await.unwrap_err();
    (error.kind(), text(&error))
}

#[tokio::test]
async fn what_is_no_program_is_said() {
    let subject = Wasi::new(Layout::Directory);
    let unknown =
        wat::parse_str(r#"(module (import "env" "gone" (func)) (func (export "_start")))"#).unwrap();
    let good = guest("");
    let program: &[&str] = &["/program.wasm"];
    for (file, args, kind, said) in [
        (None, program, ErrorKind::CommandNotFound, "exec: \"/program.wasm\": no such file or directory"),
        (None, &["x/y"], ErrorKind::CommandNotFound, "exec: \"x/y\": no such file or directory"),
        (None, &[], ErrorKind::InvalidInput, "no command specified"),
        (None, &["/"], ErrorKind::CommandNotExecutable, "not a regular file"),
        (Some(b"\x7fELF0000".as_slice()), program, ErrorKind::CommandNotExecutable, "precompiled"),
        (Some(b""), program, ErrorKind::CommandNotExecutable, "ends after 0 bytes"),
        (Some(&good[..good.len() - 3]), program, ErrorKind::CommandNotExecutable, "does not compile"),
        (Some(&unknown), program, ErrorKind::CommandNotExecutable, "nobody provides env.gone"),
    ] {
        let (found, text) = refusal(&subject, file, args).await;
        assert_eq!(found, kind, "{args:?} {text}");
        assert!(text.contains(said), "{text}");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn links_are_followed_inside_the_root_only() {
    use std::os::unix::fs::symlink;
    let subject = Wasi::new(Layout::Directory);
    let outside = subject.dir.path().join("outside.wasm");
    std::fs::write(&outside, guest("")).unwrap();
    for (link, found) in [
        (Path::new("/program.wasm"), true),
        (Path::new("../../program.wasm"), true),
        (outside.as_path(), false),
        (Path::new("../outside.wasm"), false),
    ] {
        let root = subject.root(Some(&guest("")));
        let Root::Directory(dir) = &root else { panic!("a directory") };
        symlink(link, dir.join("link.wasm")).unwrap();
        let mut request = subject.create(root, files().0);
        request.process.args = vec!["link.wasm".to_owned()];
        assert_eq!(subject.open().unwrap().create(request).await.is_ok(), found, "{}", link.display());
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_fifo_is_no_program_and_nobody_waits_for_it() {
    let subject = Wasi::new(Layout::Directory);
    let root = subject.root(None);
    let Root::Directory(dir) = &root else { panic!("a directory") };
    let fifo = dir.join("program.wasm");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let error = subject.open().unwrap().create(subject.create(root, files().0)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CommandNotExecutable);
}

/// Makes `/made` and says how that went.
#[cfg(target_os = "linux")]
const MAKES_A_FILE: &str = r#"(call $exit (call $open (i32.const 3) (i32.const 0) (i32.const 1024) (i32.const 4)
    (i32.const 1) (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 8))))
    (data (i32.const 1024) "made""#;

#[cfg(target_os = "linux")]
#[tokio::test]
async fn changes_go_to_the_layer_that_takes_them() {
    if !may_mount() {
        return;
    }
    let subject = Wasi::new(Layout::Overlay);
    let root = subject.root(Some(&guest(MAKES_A_FILE)));
    let Root::Overlay { lower, upper, .. } = &root else { panic!("an overlay") };
    let (lower, upper) = (lower[0].clone(), upper.clone());
    let task = subject.open().unwrap().create(subject.create(root, files().0)).await.unwrap();
    task.start().await.unwrap();
    assert_eq!(task.wait().await.unwrap().code, 0);
    task.delete().await.unwrap();
    assert!(upper.join("made").exists() && !lower.join("made").exists());
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(subject.dir.path().to_str().unwrap()), "{mounts}");
}

#[tokio::test]
async fn signals_without_effect_have_none_and_those_that_stop_are_refused() {
    let subject = Wasi::new(Layout::Directory);
    let root = subject.root(module(&conformance::Program::Loop).as_deref());
    let (stdio, mut out) = files();
    let task = subject.open().unwrap().create(subject.create(root, stdio)).await.unwrap();
    assert!(matches!(task.signal(9).await, Err(ExecError::NotRunning)), "not started yet");
    task.start().await.unwrap();
    let mut ready = [0; 6];
    out.read_exact(&mut ready).unwrap();
    for signal in [0, 17, 18, 23, 28] {
        task.signal(signal).await.unwrap();
    }
    assert!(matches!(task.signal(19).await, Err(ExecError::Refused(_))));
    assert_eq!(task.signal(65).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    assert!(tokio::time::timeout(std::time::Duration::from_millis(50), task.wait()).await.is_err());
    task.signal(2).await.unwrap();
    assert_eq!(task.wait().await.unwrap().code, 130);
    task.delete().await.unwrap();
}

#[tokio::test]
async fn a_program_is_not_read_again_once_its_digest_is_remembered() {
    if !cfg!(target_os = "linux") {
        return;
    }
    let subject = Wasi::new(Layout::Directory);
    let root = subject.root(Some(&guest("(call $exit (i32.const 3))")));
    std::thread::sleep(std::time::Duration::from_millis(250));
    let remembered =
        || std::fs::read_dir(subject.dir.path().join("cache/wasm-digests")).map_or(0, Iterator::count);
    for count in [0, 1, 1] {
        assert_eq!(remembered(), count);
        let task = subject.open().unwrap().create(subject.create(root.clone(), files().0)).await.unwrap();
        task.start().await.unwrap();
        assert_eq!(task.wait().await.unwrap().code, 3);
    }
    // Another program under the same name is another program.
    let Root::Directory(dir) = &root else { panic!("a directory") };
    std::fs::write(dir.join("program.wasm"), guest("(call $exit (i32.const 4))")).unwrap();
    let task = subject.open().unwrap().create(subject.create(root, files().0)).await.unwrap();
    task.start().await.unwrap();
    assert_eq!(task.wait().await.unwrap().code, 4);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn what_was_anticipated_is_run_only_if_it_is_the_program() {
    let subject = Wasi::new(Layout::Directory);
    let root = subject.root(Some(&guest("(call $exit (i32.const 3))")));
    let Root::Directory(dir) = &root else { panic!("a directory") };
    let prospect = Prospect {
        layers: vec![dir.clone()],
        args: vec!["/program.wasm".to_owned()],
        cwd: "/".to_owned(),
        fuel: false,
        offline: true,
    };
    let caches = Caches { dir: subject.dir.path().join("cache"), interpreted: interpreted() };
    let is_ready = || {
        let loader = loader(&caches, false).unwrap();
        loader.anticipate(&prospect);
        loader.ready.into_inner().unwrap().is_some()
    };
    let runs = async |change: Option<&[u8]>| {
        let executor = subject.open().unwrap();
        executor.anticipate(&prospect);
        if let Some(bytes) = change {
            std::fs::write(dir.join("program.wasm"), bytes).unwrap();
        }
        let task = executor.create(subject.create(root.clone(), files().0)).await.unwrap();
        task.start().await.unwrap();
        task.wait().await.unwrap().code
    };
    std::thread::sleep(std::time::Duration::from_millis(250));
    assert!(!is_ready(), "nothing is compiled ahead");
    assert_eq!(runs(None).await, 3);
    assert!(is_ready());
    assert_eq!(runs(None).await, 3);
    assert_eq!(runs(Some(&guest("(call $exit (i32.const 4))"))).await, 4, "it is another program by now");
}

#[tokio::test]
async fn networks_of_other_containers_are_refused() {
    let subject = Wasi::new(Layout::Directory);
    let mut request = subject.create(subject.root(None), files().0);
    request.host.network = NetworkMode::Container("x".to_owned());
    let error = subject.open().unwrap().create(request).await.unwrap_err();
    assert!(matches!(error, ExecError::Refused(Refusal::Cannot { .. })));
}

/// Figures, not a check: `cargo test --release -- --ignored --nocapture wasm_figures`.
#[cfg(target_os = "linux")]
#[tokio::test]
#[ignore = "prints how long the steps take"]
#[expect(clippy::print_stderr, reason = "its output is its purpose")]
async fn wasm_figures() {
    for layout in [Layout::Directory, Layout::Overlay] {
        let subject = Wasi::new(layout);
        let mut guest = guest("");
        // A custom section makes it 20 MB.
        let payload = vec![1; 20 << 20];
        guest.push(0);
        let mut length = u32::try_from(payload.len()).unwrap();
        while length > 127 {
            guest.push(u8::try_from(length & 127).unwrap() | 128);
            length >>= 7;
        }
        guest.push(u8::try_from(length).unwrap());
        guest.extend(payload);
        let root = subject.root(Some(&guest));
        std::thread::sleep(std::time::Duration::from_millis(300));
        for round in ["compile", "remembered", "remembered"] {
            let begun = Instant::now();
            let executor = subject.open().unwrap();
            let opened = begun.elapsed();
            let step = Instant::now();
            let held = root::open(&root).unwrap();
            let rooted = step.elapsed();
            let step = Instant::now();
            drop(held);
            let unmounted = step.elapsed();
            let step = Instant::now();
            let task = executor.create(subject.create(root.clone(), files().0)).await.unwrap();
            let created = step.elapsed();
            let step = Instant::now();
            task.start().await.unwrap();
            task.wait().await.unwrap();
            let ran = step.elapsed();
            eprintln!(
                "{round}: open {opened:?} root {rooted:?} unmount {unmounted:?} create {created:?} run {ran:?}"
            );
        }
    }
}
