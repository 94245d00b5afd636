//! Where this crate stands in front of wasmtime-wasi: polls, the limit of open files, directories named with a slash.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs::{self, File};
use std::io::{Write as _, pipe};
use std::os::fd::OwnedFd;
use std::path::Path;

use runtime_wasm::{Exit, Grants, Input, Limits, Preopen, Runtime, Source};

/// Imports, a memory, and the eight bytes at 8 as what calls write their answers to.
const HEAD: &str = r#"
 (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
 (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
 (import "wasi_snapshot_preview1" "path_open" (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
 (import "wasi_snapshot_preview1" "path_remove_directory" (func $rmdir (param i32 i32 i32) (result i32)))
 (import "wasi_snapshot_preview1" "fd_seek" (func $seek (param i32 i64 i32 i32) (result i32)))
 (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
 (import "wasi_snapshot_preview1" "fd_renumber" (func $renumber (param i32 i32) (result i32)))
 (import "wasi_snapshot_preview1" "path_rename" (func $rename (param i32 i32 i32 i32 i32 i32) (result i32)))
 (import "wasi_snapshot_preview1" "path_link" (func $link (param i32 i32 i32 i32 i32 i32 i32) (result i32)))
 (memory (export "memory") 1)
 (data (i32.const 100) "file")
 (func $open (result i32)
   (call $path_open (i32.const 3) (i32.const 0) (i32.const 100) (i32.const 4) (i32.const 0) (i64.const 6) (i64.const 0) (i32.const 0) (i32.const 8)))
 (func $is (param i32 i32) (if (i32.ne (local.get 0) (local.get 1)) (then (call $exit (local.get 0)))))
"#;

fn null() -> File {
    File::options().read(true).write(true).open("/dev/null").unwrap()
}

fn run(body: &str, grants: Grants) -> Exit {
    let bytes = wat::parse_str(format!("(module {HEAD} {body})")).unwrap();
    let runtime = Runtime::new(&common::settings()).unwrap();
    let source = Source { input: Input::Bytes(&bytes), digest: None };
    runtime.load(&source, &mut |_| {}).unwrap().run(grants).unwrap().wait()
}

fn given(dir: &Path) -> Grants {
    let host = dir.to_owned();
    Grants {
        preopens: vec![Preopen { host, guest: "/".into(), read_only: false }],
        ..Grants::new(null(), null(), null())
    }
}

/// A folder with a file of ten bytes.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "0123456789").unwrap();
    dir
}

#[test]
fn a_poll_tells_how_many_bytes_there_are() {
    let dir = folder();
    let (stdin, mut feed) = pipe().unwrap();
    feed.write_all(b"hello").unwrap();
    // Two subscriptions to read, of 48 bytes at 512: standard input, and the file from its fourth byte on. Events go to 1024. Each is
    // waited for by itself: of two the first that is ready is enough.
    let body = r#"(func (export "_start")
        (call $is (call $open) (i32.const 0))
        (call $is (call $seek (i32.load (i32.const 8)) (i64.const 4) (i32.const 0) (i32.const 16)) (i32.const 0))
        (i64.store (i32.const 512) (i64.const 77)) (i32.store8 (i32.const 520) (i32.const 1)) (i32.store (i32.const 528) (i32.const 0))
        (i64.store (i32.const 560) (i64.const 78)) (i32.store8 (i32.const 568) (i32.const 1)) (i32.store (i32.const 576) (i32.load (i32.const 8)))
        (call $is (call $poll (i32.const 512) (i32.const 1024) (i32.const 1) (i32.const 24)) (i32.const 0))
        (call $is (call $poll (i32.const 560) (i32.const 1056) (i32.const 1) (i32.const 28)) (i32.const 0))
        (call $is (i32.load (i32.const 1024)) (i32.const 77))
        (call $is (i32.load (i32.const 1040)) (i32.const 5))
        (call $is (i32.load (i32.const 1056)) (i32.const 78))
        (call $is (i32.load (i32.const 1072)) (i32.const 6))
        (call $exit (i32.const 100)))"#;
    let grants = Grants { stdin: OwnedFd::from(stdin).into(), ..given(dir.path()) };
    assert_eq!(run(body, grants), Exit::Code(100));
}

#[test]
fn a_sleep_with_a_wrong_pointer_traps() {
    let sleep = |subscription: u32, events: u32, written: u32| {
        let body = format!(
            r#"(func (export "_start") (i64.store (i32.const 536) (i64.const 1000)) (i64.store (i32.const 540) (i64.const 0))
            (call $is (call $poll (i32.const {subscription}) (i32.const {events}) (i32.const 1) (i32.const {written})) (i32.const 0)))"#
        );
        run(&body, Grants::new(null(), null(), null()))
    };
    assert_eq!(sleep(512, 1024, 24), Exit::Code(0));
    for (subscription, events, written) in [
        (516, 1024, 24),
        (65500, 1024, 24),
        (512, 1028, 24),
        (512, 65520, 24),
        (512, 1024, 26),
        (512, 1024, 65536),
    ] {
        let exit = sleep(subscription, events, written);
        assert!(
            matches!(exit, Exit::Trapped { starved: false, .. }),
            "{subscription} {events} {written}: {exit:?}"
        );
    }
}

#[test]
fn one_file_too_many_is_an_errno_until_another_is_closed() {
    let dir = folder();
    let body = r#"(func (export "_start") (local $first i32)
        (call $is (call $open) (i32.const 0)) (local.set $first (i32.load (i32.const 8)))
        (call $is (call $open) (i32.const 0))
        (call $is (call $open) (i32.const 33))
        (call $is (call $open) (i32.const 33))
        (call $is (call $close (i32.const 99)) (i32.const 8))
        (call $is (call $open) (i32.const 33))
        (call $is (call $close (local.get $first)) (i32.const 0))
        (call $is (call $open) (i32.const 0))
        (call $is (call $open) (i32.const 33))
        (call $is (call $renumber (i32.load (i32.const 8)) (i32.load (i32.const 8))) (i32.const 0))
        (call $is (call $open) (i32.const 33))
        (call $is (call $renumber (i32.load (i32.const 8)) (i32.const 2)) (i32.const 0))
        (call $is (call $open) (i32.const 0))
        (call $is (call $open) (i32.const 33))
        (call $exit (i32.const 100)))"#;
    // Three streams and the folder are among them.
    let limits = Limits { files: 6, ..Limits::default() };
    assert_eq!(run(body, Grants { limits, ..given(dir.path()) }), Exit::Code(100));
    assert_eq!(run(body, given(dir.path())), Exit::Code(0), "without a small limit the third is opened");
}

#[test]
fn a_slash_at_the_end_of_a_directorys_name_is_none_of_its_own() {
    for (name, errno, gone) in [
        ("made/", 0, true),
        ("made///", 0, true),
        ("made", 0, true),
        ("made/.", 28, false),
        ("made/in", 44, false),
        ("file/", 54, false),
        ("link/", 54, false),
        ("/", 63, false),
        ("../made/", 63, false),
    ] {
        let dir = folder();
        fs::create_dir(dir.path().join("made")).unwrap();
        std::os::unix::fs::symlink("made", dir.path().join("link")).unwrap();
        let body = format!(
            r#"(data (i32.const 200) "{name}")
            (func (export "_start") (call $exit (call $rmdir (i32.const 3) (i32.const 200) (i32.const {}))))"#,
            name.len()
        );
        assert_eq!(run(&body, given(dir.path())), Exit::Code(errno), "{name}");
        assert_eq!(!dir.path().join("made").exists(), gone, "{name}");
    }
    let outside = r#"(func (export "_start") (call $exit (call $rmdir (i32.const 3) (i32.const 65530) (i32.const 100))))"#;
    assert!(matches!(run(outside, given(folder().path())), Exit::Trapped { .. }));
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_that_would_leave_its_file_system_is_told_so() {
    use std::os::linux::fs::MetadataExt as _;
    let (here, there) = (folder(), tempfile::tempdir_in("/dev/shm").unwrap());
    let device = |dir: &tempfile::TempDir| dir.path().metadata().unwrap().st_dev();
    assert_ne!(device(&here), device(&there), "temporary files are kept in memory here");
    let body = r#"(data (i32.const 200) "none")
        (func $move (param i32 i32) (result i32) (call $rename (i32.const 3) (local.get 0) (i32.const 4) (local.get 1) (i32.const 104) (i32.const 4)))
        (func (export "_start")
        (i32.store (i32.const 104) (i32.load (i32.const 100)))
        (call $is (call $move (i32.const 100) (i32.const 4)) (i32.const 75))
        (call $is (call $link (i32.const 3) (i32.const 0) (i32.const 100) (i32.const 4) (i32.const 4) (i32.const 104) (i32.const 4)) (i32.const 75))
        (call $is (call $move (i32.const 200) (i32.const 3)) (i32.const 44))
        (i32.store8 (i32.const 107) (i32.const 115))
        (call $is (call $move (i32.const 100) (i32.const 3)) (i32.const 0))
        (call $exit (i32.const 100)))"#;
    let mut grants = given(here.path());
    grants.preopens.push(Preopen { host: there.path().to_owned(), guest: "/there".into(), read_only: false });
    assert_eq!(run(body, grants), Exit::Code(100));
    assert!(here.path().join("fils").exists() && !here.path().join("file").exists());
}
