//! Modules that are made to hurt: each gives an error or an end that says what it was, and the process lives.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs::File;

use runtime_wasm::{Exit, Grants, Input, Limits, LoadError, Preopen, Program, Runtime, Source};

fn load(bytes: &[u8]) -> Result<Program, LoadError> {
    let runtime = Runtime::new(&common::settings()).unwrap();
    runtime.load(&Source { input: Input::Bytes(bytes), digest: None }, &mut |_| {})
}

fn null() -> File {
    File::options().read(true).write(true).open("/dev/null").unwrap()
}

fn nothing() -> Grants {
    Grants::new(null(), null(), null())
}

/// Runs a module of text, with little memory.
fn run(text: &str) -> Exit {
    let grants = Grants { limits: Limits { memory_bytes: 64 << 20, ..Limits::default() }, ..nothing() };
    load(&wat::parse_str(text).unwrap()).unwrap().run(grants).unwrap().wait()
}

/// A number as the binary format has it.
fn leb(mut number: usize, into: &mut Vec<u8>) {
    loop {
        let low = u8::try_from(number & 127).unwrap();
        number >>= 7;
        into.push(low | if number > 0 { 128 } else { 0 });
        if number == 0 {
            return;
        }
    }
}

/// A module of sections.
fn module(sections: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = b"\0asm\x01\0\0\0".to_vec();
    for (id, content) in sections {
        bytes.push(*id);
        leb(content.len(), &mut bytes);
        bytes.extend(content);
    }
    bytes
}

/// So many of the same.
fn vector(count: usize, item: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    leb(count, &mut bytes);
    bytes.extend(item.repeat(count));
    bytes
}

/// A module with one function of this body, without its length.
fn function(locals_and_code: &[u8]) -> Vec<u8> {
    let mut code = vec![1];
    leb(locals_and_code.len(), &mut code);
    code.extend(locals_and_code);
    module(&[(1, vector(1, &[0x60, 0, 0])), (3, vector(1, &[0])), (10, code)])
}

fn refused(name: &str, bytes: &[u8]) {
    match load(bytes) {
        Err(LoadError::Compile(_)) => {}
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn more_of_anything_than_there_may_be_is_refused() {
    let claims = |id, count| {
        let mut content = Vec::new();
        leb(count, &mut content);
        module(&[(id, content)])
    };
    for id in 1..=12 {
        // A number of items, and none of them.
        refused("a claim", &claims(id, 0xffff_ffff));
    }
    refused("types", &module(&[(1, vector(1_000_001, &[0x60, 0, 0]))]));
    refused("memories", &module(&[(5, vector(101, &[0, 1]))]));
    refused("tables", &module(&[(4, vector(101, &[0x70, 0, 1]))]));
    refused("globals", &module(&[(6, vector(1_000_001, &[0x7f, 0, 0x41, 0, 0x0b]))]));
    // One group of four billion locals, and many groups.
    refused("locals", &function(&[1, 0xff, 0xff, 0xff, 0xff, 0x0f, 0x7f, 0x0b]));
    refused("groups of locals", &function(&[vector(60_000, &[1, 0x7f]), vec![0x0b]].concat()));
    // A module that says to be a gigabyte long.
    let mut long = b"\0asm\x01\0\0\0".to_vec();
    long.extend([0, 0x80, 0x80, 0x80, 0x80, 4]);
    refused("a length", &long);
}

#[test]
fn depth_is_no_way_to_run_over_the_hosts_stack() {
    let bounded = |bytes: &[u8]| {
        if let Err(error) = load(bytes) {
            assert!(matches!(error, LoadError::Compile(_)), "{error:?}");
        }
    };
    // Blocks in each other: valid, and compiled or refused, but never by falling over.
    let mut deep = vec![0];
    deep.extend([2, 0x40].repeat(20_000));
    deep.extend([0x0b].repeat(20_001));
    bounded(&function(&deep));
    // Components in each other.
    let mut bytes = b"\0asm\x0d\0\x01\0".to_vec();
    for _ in 0..500 {
        let mut outer = b"\0asm\x0d\0\x01\0\x04".to_vec();
        leb(bytes.len(), &mut outer);
        outer.extend(bytes);
        bytes = outer;
    }
    bounded(&bytes);
}

#[test]
fn what_is_too_large_to_be_made_never_runs() {
    let failed = |text: &str| match run(text) {
        Exit::Failed { message } => message,
        other => panic!("{text}: {other:?}"),
    };
    failed(r#"(module (memory 65536) (func (export "_start")))"#);
    failed(r#"(module (memory 600) (memory 600) (func (export "_start")))"#);
    failed(r#"(module (table 4294967295 funcref) (func (export "_start")))"#);
    failed(r#"(module (table 6000000 funcref) (table 6000000 funcref) (func (export "_start")))"#);
    // Data beyond the end is a trap before the first instruction.
    let trapped = run(r#"(module (memory 1) (data (i32.const 65536) "x") (func (export "_start")))"#);
    assert!(matches!(trapped, Exit::Trapped { .. } | Exit::Failed { .. }), "{trapped:?}");
}

#[test]
fn growth_ends_at_the_limit_and_recursion_at_the_stack() {
    // Page by page to four gigabytes, then uses what it did not get.
    let grows = r#"(module (memory 1) (func (export "_start")
        (loop (br_if 0 (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))
        (i32.store (i32.const 0x7fffffff) (i32.const 1))))"#;
    let ended = run(grows);
    assert!(matches!(ended, Exit::Trapped { starved: true, .. }) && ended.status() == 137, "{ended:?}");
    for calls in [
        "(call $f (i32.add (local.get 0) (i32.const 1)))",
        "(call_indirect (param i32) (local.get 0) (i32.const 0))",
    ] {
        let text = format!(
            r#"(module (table funcref (elem $f)) (func $f (param i32) (local i64 i64 i64 i64) {calls}) (func (export "_start") (call $f (i32.const 0))))"#
        );
        let Exit::Trapped { message, starved: false } = run(&text) else { panic!("{calls}") };
        assert!(message.contains("call stack exhausted"), "{message}");
    }
}

#[test]
fn every_kind_of_trap_is_an_end_that_says_which_it_was() {
    for (body, expected) in [
        ("unreachable", "unreachable"),
        ("(drop (i32.load (i32.const 65533)))", "out of bounds memory access"),
        ("(drop (i32.load offset=0xffffffff (i32.const 0xffffffff)))", "out of bounds memory access"),
        ("(i64.store offset=8 (i32.const -8) (i64.const 0))", "out of bounds memory access"),
        ("(memory.fill (i32.const 65000) (i32.const 1) (i32.const 1000))", "out of bounds memory access"),
        ("(drop (i32.div_u (i32.const 1) (i32.load (i32.const 0))))", "integer divide by zero"),
        ("(drop (i64.rem_s (i64.const 1) (i64.load (i32.const 0))))", "integer divide by zero"),
        (
            "(drop (i32.div_s (i32.const 0x80000000) (i32.sub (i32.load (i32.const 0)) (i32.const 1))))",
            "integer overflow",
        ),
        ("(drop (i32.trunc_f64_s (f64.const 1e10)))", "integer overflow"),
        ("(drop (i64.trunc_f32_u (f32.const nan)))", "invalid conversion to integer"),
        ("(call_indirect (i32.const 1))", "uninitialized element"),
        ("(call_indirect (i32.const 7))", "undefined element"),
        ("(call_indirect (param i64) (i64.const 1) (i32.const 0))", "indirect call type mismatch"),
    ] {
        let text = format!(
            r#"(module (memory 1) (table 2 funcref) (elem (i32.const 0) $f) (func $f) (func (export "_start") {body}))"#
        );
        let Exit::Trapped { message, starved: false } = run(&text) else { panic!("{body}") };
        assert!(message.contains(expected), "{body}: {message}");
    }
}

#[test]
fn a_call_of_the_host_that_hangs_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let opens = r#"(module
        (import "wasi_snapshot_preview1" "path_open" (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
        (memory (export "memory") 1) (data (i32.const 64) "fifo")
        (func (export "_start")
          (call $open (i32.const 3) (i32.const 0) (i32.const 64) (i32.const 4) (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 8)) drop))"#;
    let host = dir.path().to_owned();
    let grants = Grants { preopens: vec![Preopen { host, guest: "/".into(), read_only: true }], ..nothing() };
    let running = load(&wat::parse_str(opens).unwrap()).unwrap().run(grants).unwrap();
    let interrupter = running.interrupter();
    interrupter.interrupt();
    assert_eq!(running.wait(), Exit::Interrupted);
    // Lets the thread go that hangs there still.
    drop(File::options().read(true).write(true).open(&fifo).unwrap());
}
