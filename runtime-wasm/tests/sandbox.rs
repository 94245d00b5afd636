//! Programs in the sandbox, through the public interface. Guests are text, so that the test needs no compiler for them.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs::{self, File};
use std::io::{PipeReader, PipeWriter, Read as _, Write as _, pipe};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

use runtime_wasm::{
    Exit, Grants, Input, Kind, Limits, LinkError, LoadError, ModuleError, Origin, Preopen, Program, Refused,
    RunError, Runtime, Settings, SetupError, Source,
};

/// Imports every guest of this file may use.
const HEAD: &str = r#"
 (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
 (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
 (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
 (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes (param i32 i32) (result i32)))
 (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
 (import "wasi_snapshot_preview1" "environ_sizes_get" (func $env_sizes (param i32 i32) (result i32)))
 (import "wasi_snapshot_preview1" "environ_get" (func $env (param i32 i32) (result i32)))
 (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
 (import "wasi_snapshot_preview1" "path_open" (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
 (memory (export "memory") 1)
"#;

fn core(body: &str) -> Vec<u8> {
    wat::parse_str(format!("(module {HEAD} {body})")).unwrap()
}

fn runtime() -> Runtime {
    Runtime::new(&common::settings()).unwrap()
}

fn load(runtime: &Runtime, bytes: &[u8]) -> Result<Program, LoadError> {
    runtime.load(&Source { input: Input::Bytes(bytes), digest: None }, &mut |_| {})
}

fn null() -> File {
    File::options().read(true).write(true).open("/dev/null").unwrap()
}

fn out() -> (PipeReader, File) {
    let (reader, writer) = pipe().unwrap();
    (reader, OwnedFd::from(writer).into())
}

fn nothing() -> Grants {
    Grants::new(null(), null(), null())
}

fn run(bytes: &[u8], grants: Grants) -> Exit {
    load(&runtime(), bytes).unwrap().run(grants).unwrap().wait()
}

#[test]
fn exit_statuses_are_kept() {
    let component = |result: &str| {
        let text = format!(
            r#"(component
              (core module $m (func (export "run") (result i32) {result}))
              (core instance $i (instantiate $m))
              (func $run (result (result)) (canon lift (core func $i "run")))
              (instance $r (export "run" (func $run)))
              (export "wasi:cli/run@0.2.3" (instance $r)))"#
        );
        wat::parse_str(text).unwrap()
    };
    let with_code = |code: u8| {
        let text = format!(
            r#"(component
              (import "wasi:cli/exit@0.2.3" (instance $exit (export "exit" (func (param "status" (result))))))
              (core func $exit (canon lower (func $exit "exit")))
              (core module $m
                (import "e" "exit" (func $exit (param i32)))
                (func (export "run") (result i32) (call $exit (i32.const {code})) i32.const 0))
              (core instance $i (instantiate $m (with "e" (instance (export "exit" (func $exit))))))
              (func $run (result (result)) (canon lift (core func $i "run")))
              (instance $r (export "run" (func $run)))
              (export "wasi:cli/run@0.2.0" (instance $r)))"#
        );
        wat::parse_str(text).unwrap()
    };
    let exits = |code: i32| core(&format!(r#"(func (export "_start") (call $exit (i32.const {code})))"#));
    let table = [
        (core(r#"(func (export "_start"))"#), 0),
        (exits(7), 7),
        (exits(130), 130),
        (exits(255), 255),
        (component("i32.const 0"), 0),
        (component("i32.const 1"), 1),
        (with_code(0), 0),
        (with_code(1), 1),
    ];
    for (bytes, code) in table {
        assert_eq!(run(&bytes, nothing()), Exit::Code(code));
    }
}

#[test]
fn arguments_and_environment_are_the_granted_ones_only() {
    let dump = core(
        r#"(func (export "_start")
            (call $args_sizes (i32.const 0) (i32.const 4)) drop
            (call $args (i32.const 64) (i32.const 4096)) drop
            (call $env_sizes (i32.const 8) (i32.const 12)) drop
            (call $env (i32.const 2048) (i32.add (i32.const 4096) (i32.load (i32.const 4)))) drop
            (i32.store (i32.const 16) (i32.const 4096))
            (i32.store (i32.const 20) (i32.add (i32.load (i32.const 4)) (i32.load (i32.const 12))))
            (call $write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 24)) drop)"#,
    );
    let (mut reader, writer) = out();
    let mut grants = Grants::new(null(), writer, null());
    grants.args = vec!["prog".into(), "a b".into()];
    grants.env = vec![("KEY".into(), "välue".into())];
    assert_eq!(run(&dump, grants), Exit::Code(0));
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "prog\0a b\0KEY=välue\0");

    let mut grants = nothing();
    grants.args = vec!["a\0b".into()];
    let refused = load(&runtime(), &dump).unwrap().run(grants);
    assert!(matches!(refused, Err(RunError::Grant(_))), "{refused:?}");
}

/// A guest that opens `path` under descriptor 3 and exits with the errno.
fn opener(path: &str, oflags: u32, rights: u64) -> Vec<u8> {
    core(&format!(
        r#"(data (i32.const 100) "{path}")
        (func (export "_start")
          (call $exit (call $open (i32.const 3) (i32.const 1) (i32.const 100) (i32.const {len})
            (i32.const {oflags}) (i64.const {rights}) (i64.const 0) (i32.const 0) (i32.const 8))))"#,
        len = path.len()
    ))
}

#[test]
fn preopens_confine_and_keep_their_rights() {
    const READ: u64 = 2;
    const WRITE: u64 = 64;
    const CREAT: u32 = 1;
    let dir = tempfile::tempdir().unwrap();
    let inside = dir.path().join("root");
    fs::create_dir_all(inside.join("sub")).unwrap();
    fs::write(dir.path().join("canary"), "untouched").unwrap();
    fs::write(inside.join("file"), "x").unwrap();
    symlink("../canary", inside.join("up")).unwrap();
    symlink(dir.path().join("canary"), inside.join("absolute")).unwrap();
    symlink("../", inside.join("slash")).unwrap();
    symlink("file", inside.join("good")).unwrap();
    let table: &[(&str, u32, u64, bool, bool)] = &[
        ("file", 0, READ, false, true),
        ("good", 0, READ, true, true),
        ("sub/../file", 0, READ, true, true),
        ("new", CREAT, WRITE, false, true),
        ("file", 0, WRITE, true, false),
        ("other", CREAT, WRITE, true, false),
        ("../canary", 0, WRITE, false, false),
        ("up", 0, WRITE, false, false),
        ("absolute", 0, WRITE, false, false),
        ("slash/canary", 0, WRITE, false, false),
        ("slash/", 0, READ, false, false),
        ("/etc/passwd", 0, READ, false, false),
        ("missing", 0, READ, false, false),
    ];
    let open = File::open(&inside).unwrap();
    let by_descriptor = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&open));
    for (path, oflags, rights, read_only, works) in table {
        let mut grants = nothing();
        let host = if cfg!(target_os = "linux") { by_descriptor.clone().into() } else { inside.clone() };
        grants.preopens = vec![Preopen { host, guest: "/".into(), read_only: *read_only }];
        let Exit::Code(errno) = run(&opener(path, *oflags, *rights), grants) else {
            panic!("{path} trapped")
        };
        assert_eq!(errno == 0, *works, "{path}: errno {errno}");
    }
    assert!(!inside.join("other").exists());
    assert_eq!(fs::read_to_string(dir.path().join("canary")).unwrap(), "untouched");
    // Without a preopen there is no descriptor 3.
    assert_eq!(run(&opener("file", 0, READ), nothing()), Exit::Code(8));
}

/// Interrupts a program after a moment and says how long that took to work.
fn interrupt(bytes: &[u8], grants: Grants) -> (Exit, Duration) {
    let running = load(&runtime(), bytes).unwrap().run(grants).unwrap();
    let interrupter = running.interrupter();
    std::thread::sleep(Duration::from_millis(50));
    let start = Instant::now();
    interrupter.interrupt();
    interrupter.clone().interrupt();
    (running.wait(), start.elapsed())
}

#[test]
fn whatever_a_guest_does_it_is_interrupted() {
    let endless = core(r#"(func (export "_start") (loop (br 0)))"#);
    let start = core(r#"(func $s (loop (br 0))) (start $s) (func (export "_start"))"#);
    let reads = core(
        r#"(func (export "_start") (i32.store (i32.const 4) (i32.const 9))
            (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 16)) drop)"#,
    );
    let writes = core(
        r#"(func (export "_start") (i32.store (i32.const 4) (i32.const 60000))
            (loop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)) drop (br 0)))"#,
    );
    let sleeps = core(
        r#"(func (export "_start") (i32.store (i32.const 16) (i32.const 1)) (i64.store (i32.const 24) (i64.const 99000000000))
            (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)) drop)"#,
    );
    let (quiet, _kept): (PipeReader, PipeWriter) = pipe().unwrap();
    let (_unread, full) = out();
    let stdin = || File::from(OwnedFd::from(quiet.try_clone().unwrap()));
    for (name, bytes) in
        [("loop", endless), ("start", start), ("read", reads), ("write", writes), ("sleep", sleeps)]
    {
        let (exit, time) = interrupt(&bytes, Grants::new(stdin(), full.try_clone().unwrap(), null()));
        assert_eq!(exit, Exit::Interrupted, "{name}");
        assert!(time < Duration::from_millis(400), "{name} took {time:?}");
    }
}

#[test]
fn an_interrupt_ends_one_run_of_a_runtime_and_not_the_other() {
    let runtime = runtime();
    let program = load(&runtime, &core(r#"(func (export "_start") (loop (br 0)))"#)).unwrap();
    let (first, second) = (program.run(nothing()).unwrap(), program.run(nothing()).unwrap());
    let other = second.interrupter();
    first.interrupter().interrupt();
    assert_eq!(first.wait(), Exit::Interrupted);
    std::thread::sleep(Duration::from_millis(50));
    let waiter = std::thread::spawn(move || second.wait());
    assert!(!waiter.is_finished());
    other.interrupt();
    assert_eq!(waiter.join().unwrap(), Exit::Interrupted);
}

#[test]
fn standard_streams_carry_data_end_and_broken_pipe() {
    // Copies stdin to stdout; exits with 100 at the end of input and with the errno of a write that fails.
    let cat = core(
        r#"(func (export "_start") (local $e i32)
            (loop $again
              (i32.store (i32.const 0) (i32.const 1024)) (i32.store (i32.const 4) (i32.const 30000))
              (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 16)) drop
              (if (i32.eqz (i32.load (i32.const 16))) (then (call $exit (i32.const 100))))
              (i32.store (i32.const 4) (i32.load (i32.const 16)))
              (local.set $e (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 20)))
              (if (local.get $e) (then (call $exit (local.get $e))))
              (br $again)))"#,
    );
    let (stdin, mut feed) = pipe().unwrap();
    let (mut reader, stdout) = out();
    let running = load(&runtime(), &cat)
        .unwrap()
        .run(Grants::new(OwnedFd::from(stdin).into(), stdout, null()))
        .unwrap();
    let data: Vec<u8> = (0..1_000_000_u32).map(|i| i.to_le_bytes()[1]).collect();
    let expected = data.clone();
    let feeder = std::thread::spawn(move || feed.write_all(&data).unwrap());
    let mut copied = Vec::new();
    // The reader is slow at first: the guest waits, nothing is lost.
    std::thread::sleep(Duration::from_millis(50));
    reader.read_to_end(&mut copied).unwrap();
    feeder.join().unwrap();
    assert!(copied == expected, "{} of {} bytes", copied.len(), expected.len());
    assert_eq!(running.wait(), Exit::Code(100));

    let (stdin, mut feed) = pipe().unwrap();
    let (reader, stdout) = out();
    drop(reader);
    feed.write_all(b"x").unwrap();
    let exit = run(&cat, Grants::new(OwnedFd::from(stdin).into(), stdout, null()));
    assert_eq!(exit, Exit::Code(64), "EPIPE is 64 in WASI");
}

#[test]
fn limits_hold() {
    let grow = |pages: u32| {
        core(&format!(
            r#"(func (export "_start") (call $exit (i32.eq (memory.grow (i32.const {pages})) (i32.const -1))))"#
        ))
    };
    let limited = |memory_bytes| {
        let mut grants = nothing();
        grants.limits = Limits { memory_bytes, ..Limits::default() };
        grants
    };
    assert_eq!(run(&grow(10), limited(1 << 20)), Exit::Code(0));
    assert_eq!(run(&grow(16), limited(1 << 20)), Exit::Code(1));
    assert!(matches!(run(&grow(1), limited(1000)), Exit::Failed { .. }));
    let table = core(
        r#"(table $t 1 funcref)
        (func (export "_start") (call $exit (i32.eq (table.grow $t (ref.null func) (i32.const 20000000)) (i32.const -1))))"#,
    );
    assert_eq!(run(&table, nothing()), Exit::Code(1));
}

#[test]
fn traps_are_reported_to_the_guests_own_stderr() {
    let table = [
        (r#"(func (export "_start") unreachable)"#, "unreachable"),
        (r#"(func $f (call $f)) (func (export "_start") (call $f))"#, "call stack exhausted"),
        (r#"(func (export "_start") (i32.load (i32.const 70000)) drop)"#, "out of bounds"),
        (r#"(func $s unreachable) (start $s) (func (export "_start"))"#, "unreachable"),
    ];
    for (body, expected) in table {
        let (mut reader, writer) = out();
        let exit = run(&core(body), Grants::new(null(), null(), writer));
        let Exit::Trapped { message, .. } = &exit else { panic!("{exit:?}") };
        assert_eq!(exit.status(), 134);
        let mut shown = String::new();
        reader.read_to_string(&mut shown).unwrap();
        assert!(message.contains(expected) && shown.contains(expected), "{expected}: {message} {shown}");
    }
}

#[test]
fn missing_imports_are_all_named() {
    let names = |bytes: &[u8]| match load(&runtime(), bytes).unwrap().check(None) {
        Err(LinkError::Missing { names }) => names,
        other => panic!("{other:?}"),
    };
    let module = wat::parse_str(
        r#"(module (import "env" "foo" (func)) (import "wasi_unstable" "fd_write" (func (param i32)))
            (import "wasi_snapshot_preview1" "sched_yield" (func (result i32)))
            (import "env" "m" (memory 1)) (func (export "_start")))"#,
    );
    assert_eq!(
        names(&module.unwrap()),
        ["env.foo (func)", "wasi_unstable.fd_write (func)", "env.m (memory)"]
    );
    let component = wat::parse_str(
        r#"(component (import "wasi:keyvalue/store@0.2.0" (instance (export "open" (func)))) (import "wasi:cli/exit@0.4.0" (instance (export "exit" (func))))
            (import "wasi:cli/environment@0.2.99" (instance)) (import "host" (func)))"#,
    );
    assert_eq!(
        names(&component.unwrap()),
        ["wasi:keyvalue/store@0.2.0 (instance)", "wasi:cli/exit@0.4.0 (instance)", "host (func)"]
    );
    for bytes in ["(module (func (export \"run\")))", "(component)"] {
        let error = load(&runtime(), &wat::parse_str(bytes).unwrap()).unwrap().check(None);
        assert!(matches!(error, Err(LinkError::NoEntry { .. })), "{error:?}");
    }
}

#[test]
fn what_is_no_program_is_an_error() {
    let good = core(r#"(func (export "_start"))"#);
    let precompiled = wasmtime::Engine::default().precompile_module(&good).unwrap();
    let error = load(&runtime(), &precompiled).unwrap_err();
    assert!(matches!(error, LoadError::Module(ModuleError::Precompiled)), "{error:?}");
    for cut in 0..good.len() {
        // A cut between two sections may leave a valid module: only a panic would be wrong there.
        let loaded = load(&runtime(), &good[..cut]);
        assert!(
            cut > good.len() / 2
                || loaded.and_then(|p| p.check(None).map_err(|_| LoadError::TooLarge { limit: 0 })).is_err()
        );
    }
    let nested = format!("\0asm\x01\0\0\0{}", "\x01\x7f".repeat(100_000));
    assert!(matches!(load(&runtime(), nested.as_bytes()), Err(LoadError::Compile(_))));
    let small = Runtime::new(&Settings { max_module_bytes: 10, ..common::settings() }).unwrap();
    assert!(matches!(load(&small, &good), Err(LoadError::TooLarge { limit: 10 })));
    let wrong = Source { input: Input::Bytes(&good), digest: Some([1; 32]) };
    assert!(matches!(runtime().load(&wrong, &mut |_| {}), Err(LoadError::Digest { .. })));
}

fn cached(dir: &Path) -> Runtime {
    Runtime::new(&Settings { cache_dir: Some(dir.to_owned()), ..common::settings() }).unwrap()
}

fn find(dir: &Path, extension: &str) -> std::path::PathBuf {
    let mut paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    paths.find(|path| path.extension().is_some_and(|found| found == extension)).unwrap()
}

#[test]
fn the_cache_is_used_and_refuses_what_was_changed() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("cache");
    let bytes = core(r#"(func (export "_start") (call $exit (i32.const 42)))"#);
    let component = wat::parse_str(
        r#"(component (core module $m (func (export "run") (result i32) i32.const 0)) (core instance $i (instantiate $m))
            (func $run (result (result)) (canon lift (core func $i "run"))) (instance $r (export "run" (func $run)))
            (export "wasi:cli/run@0.2.0" (instance $r)))"#,
    );
    let origin = || {
        let program = load(&cached(&dir), &bytes).unwrap();
        assert_eq!(program.run(nothing()).unwrap().wait(), Exit::Code(42));
        program.origin().clone()
    };
    assert_eq!(origin(), Origin::Compiled);
    assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(origin(), Origin::Cached);
    let code = find(&dir, "cwasm");
    let stamp = find(&dir, "stamp");
    let native = fs::read(&code).unwrap();
    // A copy with the same bytes but another identity passes by its digest.
    fs::write(&code, &native).unwrap();
    assert_eq!(origin(), Origin::Cached);
    let mut edited = native.clone();
    *edited.last_mut().unwrap() ^= 1;
    for bad in [&edited[..], &native[..native.len() / 2], &[]] {
        fs::write(&code, bad).unwrap();
        assert_eq!(origin(), Origin::Rebuilt(Refused::Content));
        assert_eq!(origin(), Origin::Cached);
    }
    fs::write(&stamp, "nonsense").unwrap();
    assert_eq!(origin(), Origin::Rebuilt(Refused::Content));
    fs::set_permissions(&code, fs::Permissions::from_mode(0o666)).unwrap();
    assert_eq!(origin(), Origin::Rebuilt(Refused::Mode { mode: 0o666 }));
    fs::rename(&code, dir.join("elsewhere")).unwrap();
    symlink(dir.join("elsewhere"), &code).unwrap();
    assert_eq!(origin(), Origin::Compiled);
    fs::remove_file(&stamp).unwrap();
    assert_eq!(origin(), Origin::Compiled);
    assert_eq!(origin(), Origin::Cached);
    // With a digest the module itself is not even opened.
    let digest = <[u8; 32]>::from(<sha2::Sha256 as sha2::Digest>::digest(&bytes));
    let source = Source { input: Input::Path(Path::new("/nonexistent")), digest: Some(digest) };
    assert_eq!(cached(&dir).load(&source, &mut |_| panic!("compiled")).unwrap().kind(), Kind::CoreP1);
    let component = component.unwrap();
    assert_eq!(load(&cached(&dir), &component).unwrap().origin(), &Origin::Compiled);
    let program = load(&cached(&dir), &component).unwrap();
    assert_eq!((program.origin(), program.kind()), (&Origin::Cached, Kind::ComponentP2));
    assert_eq!(program.run(nothing()).unwrap().wait(), Exit::Code(0));
}

#[test]
fn a_cache_directory_of_others_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let open = dir.path().join("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    let link = dir.path().join("link");
    symlink(dir.path(), &link).unwrap();
    for path in [open, link] {
        let refused = Runtime::new(&Settings { cache_dir: Some(path.clone()), ..common::settings() });
        assert!(matches!(refused, Err(SetupError::Cache(_))), "{path:?}");
    }
}
