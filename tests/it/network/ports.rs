//! Published ports.

use super::{asked, asked_from, bare, detached, field, host, neighbour, page};
use crate::support::require;

#[test]
fn a_port_leads_to_the_container_from_everywhere_and_tells_who_asks() {
    require!(root, registry, net);
    let (host, _) = host();
    let other = neighbour(host.space());
    page(&host, &["--name", "web", "-p", "8080:80", "-p", "127.0.0.1:8081:80", "-p", "192.0.2.1:8082:80"]);
    detached(&host, &["--name", "client"], "exec sleep 1000");
    let space = host.space();
    assert_eq!(asked(space, "127.0.0.1:8080").as_deref(), Some("172.17.0.1"), "loopback");
    assert_eq!(
        asked(space, "[::1]:8080").as_deref(),
        Some("172.17.0.1"),
        "loopback of IPv6, to a container without"
    );
    assert_eq!(asked(space, "127.0.0.1:8081").as_deref(), Some("172.17.0.1"));
    assert!(asked(space, "192.0.2.1:8080").is_some() && asked(space, "192.0.2.1:8082").is_some());
    assert_eq!(asked(space, "127.0.0.1:8082"), None);
    assert_eq!(asked(&other, "192.0.2.1:8080").as_deref(), Some("192.0.2.9"), "the client's address is kept");
    assert_eq!(asked(&other, "192.0.2.1:8082").as_deref(), Some("192.0.2.9"));
    assert_eq!(asked(&other, "192.0.2.1:8081"), None, "what is for loopback stays there");
    assert!(asked(&other, "[2001:db8::1]:8080").is_some());
    // Hairpin: from a neighbour, and from the container itself.
    assert!(asked_from(&host, "client", "172.17.0.1:8080").is_some());
    assert!(asked_from(&host, "client", "192.0.2.1:8080").is_some());
    assert!(asked_from(&host, "web", "192.0.2.1:8080").is_some());
    let port = |args: &[&str]| host.umiak(&[&["port"], args].concat()).exits(0).stdout;
    assert_eq!(
        port(&["web"]),
        "80/tcp -> 0.0.0.0:8080\n80/tcp -> 127.0.0.1:8081\n80/tcp -> 192.0.2.1:8082\n80/tcp -> [::]:8080\n"
    );
    assert_eq!(port(&["web", "80"]).lines().count(), 4);
    host.umiak(&["port", "web", "81"]).fails(1, &["No public port '81' published for web"]);
    let shown = host.umiak(&["ps", "--filter", "name=web", "--format", "{{.Ports}}"]).exits(0);
    assert_eq!(
        shown.text(),
        "0.0.0.0:8080->80/tcp, 127.0.0.1:8081->80/tcp, 192.0.2.1:8082->80/tcp, [::]:8080->80/tcp"
    );
    assert!(
        field(&host, "web", "{{json .HostConfig.PortBindings}}")
            .contains("{\"HostIp\":\"\",\"HostPort\":\"8080\"}")
    );
    host.umiak(&["rm", "-f", "web", "client"]).exits(0);
    assert_eq!(asked(space, "127.0.0.1:8080"), None);
    bare(&host);
}

#[test]
fn packets_ranges_and_ports_that_the_engine_chooses() {
    require!(root, registry, net);
    let (host, image) = host();
    let other = neighbour(host.space());
    detached(
        &host,
        &[
            "--name",
            "many",
            "-P",
            "--expose",
            "70",
            "--expose",
            "71/udp",
            "-p",
            "9000-9001:80-81",
            "-p",
            "9100-9110:90",
            "-p",
            "53",
        ],
        "exec sleep 1000",
    );
    let port = |wanted: &str| {
        let out = host.umiak(&["port", "many", wanted]).exits(0);
        let first = out.stdout.lines().next().unwrap_or_default().to_owned();
        first.rsplit(':').next().unwrap_or_default().parse::<u16>().expect("a port")
    };
    assert_eq!((port("80"), port("81"), port("90")), (9000, 9001, 9100));
    for chosen in [port("70"), port("71/udp"), port("53")] {
        assert!(chosen >= 32768, "{chosen}");
    }
    // The next one of the range.
    detached(&host, &["--name", "next", "-p", "9100-9110:90"], "exec sleep 1000");
    assert!(field(&host, "next", "{{json .NetworkSettings.Ports}}").contains("\"9101\""));
    host.umiak(&["run", "--rm", "-p", "9100-9101:90", &image, "true"])
        .fails(125, &["9100-9101/tcp", "all of them are in use"]);
    // UDP: to the container from another host, with its address, and back.
    let udp = "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(3); \
               s.sendto(b'hello', ('192.0.2.1', PORT)); print(s.recv(99).decode())";
    let echo = "import socket, sys; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('', 71)); print('up', flush=True)\n\
                for _ in range(2): b, a = s.recvfrom(99); s.sendto(a[0].encode(), a)";
    // Python is the machine's: in the container's network alone.
    let pid = field(&host, "many", "{{.State.Pid}}");
    let mut server = std::process::Command::new("nsenter")
        .args([&format!("--net=/proc/{pid}/ns/net"), "--", "python3", "-c", echo])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("nsenter");
    std::io::Read::read_exact(server.stdout.as_mut().expect("piped"), &mut [0; 3]).expect("it is up");
    let ask = |space: &crate::support::host::Space, address: &str| {
        let script = udp.replace("PORT", &port("71/udp").to_string()).replace("192.0.2.1", address);
        let out = space.command("python3").args(["-c", &script]).output().expect("python3");
        String::from_utf8_lossy(&out.stdout).trim().to_owned()
    };
    assert_eq!(ask(&other, "192.0.2.1"), "192.0.2.9");
    assert_eq!(ask(host.space(), "127.0.0.1"), "172.17.0.1");
    server.wait().expect("it answered twice");
    host.umiak(&["rm", "-f", "many", "next"]).exits(0);
    bare(&host);
}

#[test]
fn a_taken_port_names_its_holder_and_nothing_is_left() {
    require!(root, registry, net);
    let (host, image) = host();
    let id = detached(&host, &["--name", "holder", "-p", "8080:80"], "exec sleep 1000");
    for binding in ["8080:80", "127.0.0.1:8080:1", "8080:80/tcp"] {
        host.umiak(&["run", "--rm", "-p", binding, &image, "true"]).fails(
            125,
            &["failed to bind host port", ":8080/tcp", "address already in use by container holder"],
        );
    }
    // Of another program.
    let script = "import socket, time; s = socket.socket(); s.bind(('127.0.0.1', 8090)); s.listen(); print('up', flush=True); time.sleep(1000)";
    let mut program = host
        .space()
        .command("python3")
        .args(["-c", script])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("python3");
    std::io::Read::read_exact(program.stdout.as_mut().expect("piped"), &mut [0; 3]).expect("it is up");
    host.umiak(&["create", "--name", "late", "-p", "8090:80", &image, "true"]).exits(0);
    host.umiak(&["start", "late"]).fails(
        1,
        &["failed to bind host port", "8090/tcp: address already in use by process python3", "(pid "],
    );
    program.kill().expect("killed");
    program.wait().expect("gone");
    host.umiak(&["start", "-a", "late"]).exits(0);
    // What a stop frees is free at once.
    host.umiak(&["stop", "-t", "0", "holder"]).exits(0);
    host.umiak(&["run", "--rm", "-p", "8080:80", &image, "true"]).exits(0);
    host.umiak(&["rm", &id, "late"]).exits(0);
    bare(&host);
}

/// Sends packets from one port of its own, ten a second, and tells what it hears when that changes.
const PERSISTENT: &str = "\
import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('', 5555)); s.settimeout(0.1)
last, missed, end = None, 0, time.time() + 50
while time.time() < end:
    s.sendto(b'?', ('192.0.2.1', 7100))
    try: heard, missed = s.recv(99).decode(), 0
    except OSError: missed += 1; heard = last if missed < 4 else 'silence'
    if heard != last: print(heard, flush=True); last = heard
    time.sleep(0.05)
";

/// Answers with its name and the asker's address.
const ANSWERS: &str = "\
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('', 71))
while True: b, a = s.recvfrom(99); s.sendto((sys.argv[1] + ' ' + a[0]).encode(), a)
";

#[test]
fn an_exchange_goes_on_with_the_container_that_has_the_port_now() {
    require!(root, registry, net);
    let (host, _) = host();
    let other = neighbour(host.space());
    host.umiak(&["network", "create", "--subnet", "10.5.0.0/24", "front"]).exits(0);
    let mut servers: Vec<Reaped> = Vec::new();
    let mut start = |name: &str, ip: &str| {
        let flags = ["--name", name, "--network", "front", "--ip", ip, "-p", "7100:71/udp"];
        detached(&host, &flags, "exec sleep 1000");
        let net = format!("--net=/proc/{}/ns/net", field(&host, name, "{{.State.Pid}}"));
        let mut server = std::process::Command::new("nsenter");
        servers.push(Reaped(
            server.args([&net, "--", "python3", "-c", ANSWERS, name]).spawn().expect("nsenter"),
        ));
    };
    let mut client = other.command("python3");
    let mut client = Reaped(
        client.args(["-c", PERSISTENT]).stdout(std::process::Stdio::piped()).spawn().expect("python3"),
    );
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(client.0.stdout.take().expect("piped")));
    // Between two of these there may be pauses, and the last words of one that is being removed.
    let mut hears = |wanted: &str| {
        let mut heard = lines.by_ref().map_while(Result::ok);
        assert!(heard.any(|line| line == wanted), "never: {wanted}");
    };
    hears("silence");
    // The packets before it were for nobody. The client's address is kept all the same.
    start("one", "10.5.0.10");
    hears("one 192.0.2.9");
    host.umiak(&["rm", "-f", "one"]).exits(0);
    start("two", "10.5.0.20");
    hears("two 192.0.2.9");
    host.umiak(&["rm", "-f", "two"]).exits(0);
    hears("silence");
    // The host may have the port now.
    let mut server = host.space().command("python3");
    let here = ANSWERS.replace("71", "7100");
    let server = Reaped(server.args(["-c", &here, "host"]).spawn().expect("python3"));
    hears("host 192.0.2.9");
    drop(server);
    start("three", "10.5.0.30");
    hears("three 192.0.2.9");
    host.umiak(&["rm", "-f", "three"]).exits(0);
    bare(&host);
}

/// A process that ends with the test.
struct Reaped(std::process::Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
