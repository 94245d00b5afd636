//! Servers through the public interface, with and without the pool that instances come from.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};

use runtime_wasm::{
    Exit, Grants, Input, Limits, Origin, Program, Running, Runtime, ServeLimits, Serving, Settings, Source,
};

/// A server that gives no answer, with this in its module.
fn server(module: &str, body: &str) -> Vec<u8> {
    wat::parse_str(format!(
        r#"(component
          (import "wasi:http/types@0.2.0" (instance $types
            (export "incoming-request" (type (sub resource)))
            (export "response-outparam" (type (sub resource)))))
          (alias export $types "incoming-request" (type $request))
          (alias export $types "response-outparam" (type $out))
          (core module $m {module} (func (export "handle") (param i32 i32) {body}))
          (core instance $i (instantiate $m))
          (func $handle (param "request" (own $request)) (param "response-out" (own $out)) (canon lift (core func $i "handle")))
          (instance $handler (export "handle" (func $handle)))
          (export "wasi:http/incoming-handler@0.2.0" (instance $handler)))"#
    ))
    .unwrap()
}

fn null() -> File {
    File::options().read(true).write(true).open("/dev/null").unwrap()
}

fn serve(program: &Program, grants: Grants) -> (Running, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serving = Serving { listeners: vec![listener], limits: ServeLimits::default() };
    (program.serve(grants, serving).unwrap(), address)
}

fn ask(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn load(runtime: &Runtime, bytes: &[u8]) -> Program {
    runtime.load(&Source { input: Input::Bytes(bytes), digest: None }, &mut |_| {}).unwrap()
}

#[test]
fn a_server_that_fits_into_no_pool_serves_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings { cache_dir: Some(dir.path().join("cache")), ..common::settings() };
    for module in ["(memory 1)", "(memory 1) (memory 1) (memory 1)", "(table 200000 funcref) (memory 1)"] {
        let bytes = server(module, "");
        for origin in [Origin::Compiled, Origin::Cached] {
            let program = load(&Runtime::new(&settings).unwrap(), &bytes);
            assert_eq!(*program.origin(), origin, "{module}");
            let (running, address) = serve(&program, Grants::new(null(), null(), null()));
            // It was begun, and said nothing; an instance that cannot be made would be 503.
            assert!(ask(address).starts_with("HTTP/1.1 500 "), "{module}");
            running.interrupter().drain();
            assert_eq!(running.wait(), Exit::Code(0));
        }
    }
}

#[test]
fn what_an_instance_wrote_is_gone_for_the_next() {
    // Traps when anything is there already, and leaves something at the beginning, in the middle and at the end.
    let touch = |at: u32| {
        format!(
            "(if (i32.load (i32.const {at})) (then unreachable)) (i32.store (i32.const {at}) (i32.const 7))"
        )
    };
    let body = [0, 70_000, 1_000_000, 3_276_796].map(touch).concat();
    let first = "(if (i32.ne (i32.load8_u (i32.const 99)) (i32.const 120)) (then unreachable)) (i32.store8 (i32.const 99) (i32.const 0))";
    let bytes = server("(memory 50) (data (i32.const 99) \"x\")", &format!("{body}{first}"));
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let program = load(&Runtime::new(&common::settings()).unwrap(), &bytes);
    let (running, address) = serve(&program, Grants::new(null(), null(), File::create(&log).unwrap()));
    let asking = || (0..20).for_each(|_| assert!(ask(address).starts_with("HTTP/1.1 500 ")));
    std::thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(asking))));
    running.interrupter().drain();
    assert_eq!(running.wait(), Exit::Code(0));
    let said = std::fs::read_to_string(&log).unwrap();
    assert!(said.contains("response-outparam") && !said.contains("unreachable"), "{said}");
}

#[test]
fn requests_and_fuel_are_counted() {
    let runtime = Runtime::new(&Settings { fuel: true, ..common::settings() }).unwrap();
    let account = runtime.account(Limits { fuel: Some(10_000), ..Limits::default() });
    let work = "(local i32) (loop (br_if 0 (i32.lt_u (local.tee 2 (i32.add (local.get 2) (i32.const 1))) (i32.const 100))))";
    let program = load(&runtime, &server("(memory 1)", work));
    let grants = Grants { account: Some(account.clone()), ..Grants::new(null(), null(), null()) };
    let (running, address) = serve(&program, grants);
    assert_eq!((account.usage().requests, account.usage().fuel), (0, Some(0)));
    for _ in 0..3 {
        assert!(ask(address).starts_with("HTTP/1.1 500 "));
    }
    running.interrupter().drain();
    assert_eq!(running.wait(), Exit::Code(0));
    let used = account.usage();
    assert_eq!((used.requests, used.failures), (3, 3));
    // Each of them the same, and within what one may use.
    let fuel = used.fuel.unwrap();
    assert!(fuel > 3 * 100 && fuel.is_multiple_of(3) && fuel < 3 * 10_000, "{fuel}");
    assert_eq!(runtime.account(Limits::default()).usage().fuel, None);
}
