//! Servers of HTTP in Wasm containers.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::support::host::Host;
use crate::support::{registry, require};

fn image(name: &str, tag: &str) -> String {
    format!("{}/wasm/{name}:{tag}", registry::address())
}

/// A port that is free now.
fn free() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port()
}

/// Everything the server answers to these bytes.
fn raw(port: u16, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a server");
    stream.set_read_timeout(Some(Duration::from_mins(1))).expect("a time limit");
    let _ = stream.write_all(request);
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Status and body of a request; chunks are put together.
fn get(port: u16, path: &str) -> (u16, String) {
    let answer = raw(port, format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes());
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    if !head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        return (status, body.to_owned());
    }
    let (mut text, mut rest) = (String::new(), body);
    while let Some((size, more)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap_or(0);
        if size == 0 {
            break;
        }
        text.push_str(&more[..size]);
        rest = more.get(size + 2..).unwrap_or_default();
    }
    (status, text)
}

/// Starts a server; its port.
fn serve(host: &Host, name: &str, image: &str, flags: &[&str]) -> u16 {
    let port = free();
    let publish = format!("127.0.0.1:{port}:80");
    let base = ["run", "-d", "--name", name, "--platform", "wasi/wasm", "-p", publish.as_str()];
    host.umiak(&[&base, flags, &[image]].concat()).exits(0);
    port
}

#[test]
fn both_versions_answer_and_are_logged() {
    require!(root, registry);
    let host = Host::new();
    for (name, tag, hello) in
        [("serve2", "artifact-p2", "hello from 0.2"), ("serve3", "artifact-p3", "hello from 0.3")]
    {
        let port = serve(&host, name, &image(name, tag), &[]);
        assert_eq!(get(port, "/"), (200, hello.to_owned()));
        assert_eq!(get(port, "/trap").0, 500);
        assert_eq!(get(port, "/").0, 200, "a trap ends one instance and no more");
        host.umiak(&["stop", name]).exits(0);
        assert_eq!(host.umiak(&["wait", name]).exits(0).text(), "0");
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
        let logs = host.umiak(&["logs", name]).exits(0);
        let lines: Vec<&str> = logs.stdout.lines().collect();
        assert_eq!(lines.len(), 3, "{logs:?}");
        assert!(
            lines[0].starts_with("127.0.0.1 - - [") && lines[0].contains("\"GET / HTTP/1.1\" 200 14 "),
            "{logs:?}"
        );
        assert!(lines[1].contains("\"GET /trap HTTP/1.1\" 500 "), "{logs:?}");
        assert!(logs.stderr.contains("asked to trap") && logs.stderr.contains("wasm backtrace"), "{logs:?}");
    }
}

#[test]
fn no_request_of_the_older_version_sees_what_another_left() {
    require!(root, registry);
    let host = Host::new();
    let port = serve(&host, "two", &image("serve2", "tar-p2"), &["-e", "A=b"]);
    for _ in 0..3 {
        assert_eq!(get(port, "/asked"), (200, "1".to_owned()));
    }
    assert_eq!(get(port, "/env?A"), (200, "b".to_owned()));
    host.umiak(&["rm", "-f", "two"]).exits(0);
    let port = serve(&host, "three", &image("serve3", "artifact-p3"), &[]);
    let most = (0..5).map(|_| get(port, "/asked").1.parse::<u32>().expect("a number")).max();
    assert!(most > Some(1), "an instance of 0.3 answers more than once: {most:?}");
    host.umiak(&["rm", "-f", "three"]).exits(0);
}

/// What many clients get who ask at the same time.
fn at_once(port: u16, paths: Vec<String>) -> Vec<(String, (u16, String))> {
    let asking = |path: String| {
        std::thread::spawn(move || {
            let answer = get(port, &path);
            (path, answer)
        })
    };
    let clients: Vec<_> = paths.into_iter().map(asking).collect();
    clients.into_iter().map(|client| client.join().expect("a client")).collect()
}

#[test]
fn how_often_an_instance_answers_is_the_users_to_say() {
    require!(root, registry);
    let host = Host::new();
    let image = image("serve3", "artifact-p3");
    let reuse = |count: &str| format!("umiak.http.max-instance-reuse-count={count}");
    let asked = |port: u16| get(port, "/asked").1.parse::<u32>().expect("a number");
    let port = serve(&host, "once", &image, &["--annotation", &reuse("1")]);
    assert_eq!((0..5).map(|_| asked(port)).max(), Some(1), "nothing is left for the next");
    let port = serve(&host, "thrice", &image, &["--annotation", &reuse("3")]);
    assert_eq!((0..20).map(|_| asked(port)).max(), Some(3), "what is kept goes after three");
    let alone = "umiak.http.max-instance-concurrent-reuse-count=1";
    let port = serve(&host, "alone", &image, &["--annotation", alone]);
    let waiting = std::thread::spawn(move || get(port, "/after?x"));
    std::thread::sleep(Duration::from_millis(150));
    assert_eq!(asked(port), 1, "whoever waits has an instance of its own");
    assert_eq!(waiting.join().expect("a client"), (200, "x".to_owned()));
    host.umiak(&["run", "-d", "--platform", "wasi/wasm", "--annotation", &reuse("none"), &image])
        .fails(125, &["umiak.http.max-instance-reuse-count", "\"none\"", "from 1 on"]);
    for name in ["once", "thrice", "alone"] {
        host.umiak(&["rm", "-f", name]).exits(0);
    }
}

#[test]
fn a_trap_fails_what_its_instance_carried_and_mixes_up_no_answers() {
    require!(root, registry);
    let host = Host::new();
    let port = serve(&host, "cc", &image("serve3", "artifact-p3"), &[]);
    for round in 0..3 {
        let mut paths: Vec<String> = (0..40).map(|n| format!("/after?{round}-{n}")).collect();
        paths.insert(20, "/trap".to_owned());
        let mut lost = 0;
        for (path, answer) in at_once(port, paths) {
            match answer.0 {
                200 => assert_eq!(answer.1, path.trim_start_matches("/after?")),
                status => {
                    assert_eq!(status, 500, "{path}");
                    lost += 1;
                }
            }
        }
        assert!((1..=16).contains(&lost), "no more than one instance carries: {lost}");
        assert_eq!(get(port, "/after?next"), (200, "next".to_owned()));
    }
    host.umiak(&["rm", "-f", "cc"]).exits(0);
}

#[test]
fn a_server_that_is_stopped_answers_what_its_instances_carry() {
    require!(root, registry);
    let host = Host::new();
    let port = serve(&host, "cc", &image("serve3", "artifact-p3"), &[]);
    let asking = std::thread::spawn(move || at_once(port, (0..20).map(|n| format!("/after?{n}")).collect()));
    std::thread::sleep(Duration::from_millis(250));
    host.umiak(&["stop", "cc"]).exits(0);
    for (path, answer) in asking.join().expect("clients") {
        assert_eq!(answer, (200, path.trim_start_matches("/after?").to_owned()));
    }
    assert_eq!(host.umiak(&["wait", "cc"]).exits(0).text(), "0");
}

#[test]
fn a_request_that_loops_in_an_instance_of_many_holds_up_no_other_instance() {
    require!(root, registry);
    let host = Host::new();
    let port = serve(&host, "cc", &image("serve3", "artifact-p3"), &[]);
    assert_eq!(get(port, "/").0, 200);
    let busy = std::thread::spawn(move || get(port, "/loop"));
    std::thread::sleep(Duration::from_millis(100));
    for _ in 0..10 {
        assert_eq!(get(port, "/").0, 200);
    }
    host.umiak(&["kill", "cc"]).exits(0);
    assert!(matches!(busy.join().expect("a client").0, 0 | 500));
}

/// That an answer begins in two seconds or not at all.
const SOON: [&str; 2] = ["--annotation", "umiak.http.answer-timeout=2"];

#[test]
fn a_request_that_is_late_is_told_so_and_takes_no_other_with_it() {
    require!(root, registry);
    let host = Host::new();
    let port = serve(&host, "cc", &image("serve3", "artifact-p3"), &SOON);
    let late = std::thread::spawn(move || get(port, "/slow"));
    std::thread::sleep(Duration::from_millis(200));
    // The instance that is late takes them as long as it may, and some are in the middle of their work when its time is over.
    let others = (0..16).map(|n| {
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(150 * n));
            (n, get(port, &format!("/after?{n}")))
        })
    });
    for other in others.collect::<Vec<_>>() {
        let (n, answer) = other.join().expect("a client");
        assert_eq!(answer, (200, n.to_string()));
    }
    let (status, said) = late.join().expect("a client");
    assert!(status == 504 && said.contains("took too long"), "{status} {said}");
    assert_eq!(get(port, "/").0, 200);
    host.umiak(&["rm", "-f", "cc"]).exits(0);
}

#[test]
fn a_request_that_loops_ends_with_its_time_and_the_next_instance_serves() {
    require!(root, registry);
    let host = Host::new();
    for (name, tag) in [("serve2", "artifact-p2"), ("serve3", "artifact-p3")] {
        let port = serve(&host, name, &image(name, tag), &SOON);
        let began = Instant::now();
        // What waits in an instance that another's loop keeps cannot go on: those of 0.2 wait in none.
        let waiting = (name == "serve3").then(|| std::thread::spawn(move || get(port, "/after?x")));
        std::thread::sleep(Duration::from_millis(200));
        let (status, said) = get(port, "/loop");
        assert!(status == 504 && said.contains("took too long"), "{name}: {status} {said}");
        if let Some(waiting) = waiting {
            let (status, said) = waiting.join().expect("a client");
            assert!(status == 504 || said == "x", "{status} {said}");
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{name}: {:?}", began.elapsed());
        assert_eq!(get(port, "/").0, 200, "{name}");
        host.umiak(&["rm", "-f", name]).exits(0);
    }
}

#[test]
fn every_request_has_its_own_fuel_in_an_instance_of_many() {
    require!(root, registry);
    let host = Host::new();
    let port = serve(&host, "cc", &image("serve3", "artifact-p3"), &["--fuel", "30000000"]);
    for n in 0..10 {
        assert_eq!(get(port, "/work").0, 200, "request {n} has what the first had");
    }
    let asked = get(port, "/asked").1.parse::<u32>().expect("a number");
    assert!(asked > 5, "they were one instance's: {asked}");
    assert_eq!(get(port, "/loop").0, 500, "and no more");
    assert_eq!(get(port, "/").0, 200);
    host.umiak(&["rm", "-f", "cc"]).exits(0);
}

#[test]
fn a_small_answer_is_sent_whole() {
    require!(root, registry);
    let host = Host::new();
    for (name, tag) in [("serve2", "artifact-p2"), ("serve3", "artifact-p3")] {
        let port = serve(&host, name, &image(name, tag), &[]);
        let whole = (0..5).filter(|_| {
            let answer =
                raw(port, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").to_ascii_lowercase();
            answer.contains("content-length: 14\r\n") && !answer.contains("chunked")
        });
        assert!(whole.count() > 0, "{name}: its length is known when it is sent");
        let head = raw(port, b"HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        assert!(head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"), "{head}");
        host.umiak(&["rm", "-f", name]).exits(0);
    }
}

#[test]
fn malformed_and_oversized_requests_are_refused() {
    require!(root, registry);
    let host = Host::new();
    let port = serve(&host, "cc", &image("serve2", "artifact-p2"), &[]);
    let huge = format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "a".repeat(200_000));
    for (request, status) in [
        ("GET / HTTP/1.1\r\nConnection: close\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n", "400"),
        ("NONSENSE\r\n\r\n", "400"),
        (huge.as_str(), "431"),
        (
            "POST /count HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999999\r\nConnection: close\r\n\r\n",
            "413",
        ),
        ("POST /count HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nConnection: close\r\n\r\nabcde", "200"),
    ] {
        let answer = raw(port, request.as_bytes());
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{}: {answer}",
            &request[..request.len().min(60)]
        );
    }
    assert_eq!(get(port, "/").0, 200);
    host.umiak(&["rm", "-f", "cc"]).exits(0);
}

#[test]
fn one_request_that_loops_holds_up_nobody_and_cannot_keep_the_container() {
    require!(root, registry);
    let host = Host::new();
    let port = serve(&host, "cc", &image("serve2", "artifact-p2"), &[]);
    let busy: Vec<_> = (0..4).map(|_| std::thread::spawn(move || get(port, "/loop"))).collect();
    for _ in 0..10 {
        assert_eq!(get(port, "/").0, 200);
    }
    host.umiak(&["kill", "cc"]).exits(0);
    assert_eq!(host.umiak(&["wait", "cc"]).exits(0).text(), "137");
    for thread in busy {
        // The connection ends, or says so first.
        assert!(matches!(thread.join().expect("a client").0, 0 | 500));
    }
}

#[test]
fn requests_go_only_where_they_may() {
    require!(root, registry);
    let host = Host::new();
    let image = image("serve2", "artifact-p2");
    let target = serve(&host, "target", &image, &[]);
    let authority = format!("127.0.0.1:{target}");
    let shut = serve(&host, "shut", &image, &[]);
    let answer = get(shut, &format!("/fetch?{authority}")).1;
    assert!(answer.starts_with("refused: ") && answer.contains("Denied"), "{answer}");
    let open = serve(&host, "open", &image, &["--allow-net", &authority]);
    assert_eq!(get(open, &format!("/fetch?{authority}")).1, "status 200");
    // Of 0.3, and for no path at all.
    let three = serve(&host, "three", &self::image("serve3", "artifact-p3"), &["--allow-net", &authority]);
    assert_eq!(get(three, &format!("/ask?{authority}")).1, "status 200");
    for name in ["target", "shut", "open", "three"] {
        host.umiak(&["rm", "-f", name]).exits(0);
    }
}

#[test]
fn a_port_that_is_taken_is_named() {
    require!(root, registry);
    let host = Host::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let publish = format!("127.0.0.1:{port}:80");
    let image = image("serve2", "artifact-p2");
    host.umiak(&["run", "-d", "--platform", "wasi/wasm", "-p", &publish, &image])
        .fails(125, &[&port.to_string(), "bind"]);
}

#[test]
fn a_paused_server_answers_when_it_goes_on() {
    require!(root, registry);
    let host = Host::new();
    let port = serve(&host, "cc", &image("serve2", "artifact-p2"), &[]);
    assert_eq!(get(port, "/").0, 200);
    host.umiak(&["pause", "cc"]).exits(0);
    let client = std::thread::spawn(move || get(port, "/"));
    std::thread::sleep(Duration::from_millis(200));
    assert!(!client.is_finished());
    host.umiak(&["unpause", "cc"]).exits(0);
    assert_eq!(client.join().expect("a client").0, 200);
    host.umiak(&["rm", "-f", "cc"]).exits(0);
}

/// What `stats` says of a container.
fn stats(host: &Host, format: &str, name: &str) -> String {
    host.umiak(&["stats", "--no-stream", "--format", format, name]).exits(0).text().to_owned()
}

#[test]
fn requests_are_counted_and_exposed_ports_published() {
    require!(root, registry);
    let host = Host::new();
    let image = image("serve2", "artifact-p2");
    let run = ["run", "-d", "--name", "cc", "--platform", "wasi/wasm", "-P", "--expose", "80", &image];
    host.umiak(&run).exits(0);
    let told = host.umiak(&["port", "cc", "80"]).exits(0);
    let port = told.stdout.lines().next().and_then(|line| line.rsplit(':').next()).unwrap_or_default();
    let port: u16 = port.parse().unwrap_or_else(|_| panic!("{told:?}"));
    assert_eq!(get(port, "/").0, 200);
    assert_eq!(get(port, "/trap").0, 500);
    let listed = host.umiak(&["ps", "--format", "{{.Ports}}"]).exits(0);
    assert!(listed.stdout.contains(&format!("0.0.0.0:{port}->80/tcp")), "{listed:?}");
    let listens = host.umiak(&["inspect", "-f", "{{json .Grants.Listen}}", "cc"]).exits(0);
    assert_eq!(listens.text(), "[80]");
    assert_eq!(stats(&host, "{{.Requests}} {{.Failures}} {{.Fuel}}", "cc"), "2 1 --");
    assert!(stats(&host, "json", "cc").contains("\"Requests\":\"2\""));
    host.umiak(&["stop", "cc"]).exits(0);
    assert_eq!(host.umiak(&["port", "cc"]).exits(0).stdout, "");
    host.umiak(&["start", "cc"]).exits(0);
    assert_eq!(host.umiak(&["port", "cc"]).exits(0).stdout.lines().count(), told.stdout.lines().count());
    host.umiak(&["rm", "-f", "cc"]).exits(0);
}

#[test]
fn fuel_is_counted_while_it_burns() {
    require!(root, registry);
    let host = Host::new();
    let image = image("does", "artifact-p1");
    let fuel = ["--fuel", "9000000000000000000"];
    let base = ["run", "-d", "--name", "cc", "--platform", "wasi/wasm"];
    host.umiak(&[&base[..], &fuel, &[&image, "count"]].concat()).exits(0);
    let said = stats(&host, "{{.Fuel}} {{.Requests}}", "cc");
    let burnt = said.strip_suffix(" --").and_then(|fuel| fuel.parse::<u64>().ok());
    assert!(burnt.is_some_and(|burnt| burnt > 1000), "{said}");
    host.umiak(&["rm", "-f", "cc"]).exits(0);
}
