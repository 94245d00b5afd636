//! Bridges, connections and the firewall's table, in network namespaces of the test's own.
//!
//! Every test runs in a thread that has moved to a fresh network namespace, its host: nothing of the machine's network is
//! touched, and all of it is gone with the thread.
#![cfg(target_os = "linux")]

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use runtime_linux::net::{self, Bridge, BridgeRules, Handle, Namespace, Port, PortRule, Rules};

fn root() -> bool {
    let root = rustix::process::geteuid().is_root();
    let wanted = std::env::var("REQUIRE_TIERS").unwrap_or_default();
    assert!(root || !wanted.split(',').any(|tier| tier == "root"), "the tier `root` is required");
    root
}

/// Runs a test with a network namespace of its own as its host.
fn on_own_host(test: impl FnOnce() + Send + 'static) {
    if !root() {
        return;
    }
    let run = std::thread::spawn(move || {
        fresh();
        test();
    });
    if let Err(panic) = run.join() {
        std::panic::resume_unwind(panic);
    }
}

/// A new network namespace for this thread, with its loopback device up.
#[expect(
    unsafe_code,
    reason = "leaving the network namespace touches no file table that other threads share"
)]
fn fresh() {
    use rustix::thread::{UnshareFlags, unshare_unsafe};
    // SAFETY: only the network namespace of this thread changes.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.expect("a network namespace");
    net::up("lo").expect("loopback");
}

/// A process that does nothing in a network namespace of its own.
struct Guest {
    namespace: Namespace,
    end: std::sync::mpsc::Sender<()>,
}

impl Guest {
    fn new() -> Self {
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            fresh();
            tell.send(rustix::thread::gettid().as_raw_nonzero().get()).expect("somebody listens");
            let _ = ended.recv();
        });
        let thread = told.recv().expect("a thread");
        let namespace = Namespace::of(u32::try_from(thread).expect("positive")).expect("its namespace");
        Self { namespace, end }
    }

    fn listen(&self, address: &str) -> TcpListener {
        self.namespace.run(|| TcpListener::bind(address)).expect("a listener")
    }

    fn tries(&self, address: &str, patience: Duration) -> bool {
        let to: SocketAddr = address.parse().expect("an address");
        self.namespace.run(|| TcpStream::connect_timeout(&to, patience).map(drop)).is_ok()
    }

    /// Long enough for a link that is just coming up to lose the first packets.
    fn reaches(&self, address: &str) -> bool {
        self.tries(address, Duration::from_secs(10))
    }

    /// Of what is dropped there is never an answer.
    fn is_kept_from(&self, address: &str) -> bool {
        !self.tries(address, Duration::from_millis(400))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.end.send(());
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn bridge(name: &str, address: &str) -> Bridge {
    Bridge { name: name.into(), addresses: vec![(ip(address), 24)], mtu: None }
}

fn rules(bridge: &str, subnet: &str) -> BridgeRules {
    BridgeRules {
        name: bridge.into(),
        subnets: vec![(ip(subnet), 24)],
        internal: false,
        icc: true,
        masquerade: true,
    }
}

fn join(guest: &Guest, bridge: &str, number: u8, address: &str, gateway: &str) {
    let port = Port {
        bridge: bridge.into(),
        here: format!("veth{number}"),
        there: "eth0".into(),
        mac: [2, 0, 0, 0, 0, number],
        addresses: vec![(ip(address), 24)],
        gateways: vec![ip(gateway)],
        mtu: None,
        hairpin: true,
        isolated: false,
    };
    guest.namespace.connect(&[port]).expect("connected");
}

fn put(bridges: Vec<BridgeRules>, ports: Vec<PortRule>) {
    net::replace("test", &Rules { bridges, ports }, net::generation().expect("a generation"))
        .expect("replaced");
}

fn published(protocol: u8, address: &str, port: u16, target: &str) -> PortRule {
    PortRule { protocol, address: ip(address), port, target: target.parse().expect("an address") }
}

/// Answers every connection with the client's address.
fn serve(listener: TcpListener) {
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let peer = stream.peer_addr().map(|peer| peer.ip().to_string()).unwrap_or_default();
            let _ = stream.write_all(peer.as_bytes());
        }
    });
}

fn asked(to: &str) -> String {
    let mut stream = TcpStream::connect_timeout(&to.parse().expect("an address"), Duration::from_secs(2))
        .expect("answered");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("read");
    text
}

#[test]
fn neighbours_reach_each_other_and_other_bridges_do_not() {
    on_own_host(|| {
        assert!(net::ensure_bridge(&bridge("brA", "10.1.0.1")).expect("made"));
        assert!(!net::ensure_bridge(&bridge("brA", "10.1.0.1")).expect("there"));
        assert!(net::ensure_bridge(&bridge("brB", "10.2.0.1")).expect("made"));
        put(vec![rules("brA", "10.1.0.0"), rules("brB", "10.2.0.0")], Vec::new());
        let (a, b, c) = (Guest::new(), Guest::new(), Guest::new());
        join(&a, "brA", 1, "10.1.0.2", "10.1.0.1");
        join(&b, "brA", 2, "10.1.0.3", "10.1.0.1");
        join(&c, "brB", 3, "10.2.0.2", "10.2.0.1");
        serve(b.listen("10.1.0.3:80"));
        assert!(a.reaches("10.1.0.3:80"));
        assert!(c.is_kept_from("10.1.0.3:80"), "bridges are apart");
        assert_eq!(asked("10.1.0.3:80"), "10.1.0.1", "the host reaches its containers");
        let gone = Rules::default();
        net::replace("test", &gone, net::generation().unwrap()).unwrap();
        assert!(c.reaches("10.1.0.3:80"), "it was the table that kept them apart");
        net::remove_bridge("brA").unwrap();
        net::remove_bridge("brA").unwrap();
        assert_eq!(net::bridges().unwrap(), ["brB"]);
    });
}

#[test]
fn published_ports_keep_the_clients_address_and_return_to_their_own_bridge() {
    on_own_host(|| {
        net::ensure_bridge(&bridge("brA", "10.1.0.1")).unwrap();
        let (server, neighbour) = (Guest::new(), Guest::new());
        join(&server, "brA", 1, "10.1.0.2", "10.1.0.1");
        join(&neighbour, "brA", 2, "10.1.0.3", "10.1.0.1");
        // Somebody else's host, on a cable of ours: as a bridge that no rule names.
        net::ensure_bridge(&bridge("cable", "192.0.2.1")).unwrap();
        let outside = Guest::new();
        join(&outside, "cable", 9, "192.0.2.9", "192.0.2.1");
        serve(server.listen("10.1.0.2:8080"));
        let ports = vec![
            published(6, "0.0.0.0", 80, "10.1.0.2:8080"),
            published(6, "192.0.2.1", 81, "10.1.0.2:8080"),
            published(17, "0.0.0.0", 53, "10.1.0.2:53"),
        ];
        put(vec![rules("brA", "10.1.0.0")], ports);
        let ask = |guest: &Guest, to: &str| {
            let to = to.to_owned();
            guest.namespace.run(move || Ok(asked(&to))).unwrap()
        };
        assert_eq!(ask(&outside, "192.0.2.1:80"), "192.0.2.9");
        assert_eq!(ask(&outside, "192.0.2.1:81"), "192.0.2.9");
        assert!(
            outside.is_kept_from("192.0.2.1:82") && outside.is_kept_from("10.1.0.2:8080"),
            "only what is published"
        );
        assert_eq!(ask(&neighbour, "192.0.2.1:80"), "10.1.0.1", "back to its own bridge");
        assert_eq!(ask(&server, "192.0.2.1:80"), "10.1.0.1", "and to itself");
        assert_eq!(asked("192.0.2.1:80"), "192.0.2.1", "from the host");
        let udp = server.namespace.run(|| UdpSocket::bind("10.1.0.2:53")).unwrap();
        outside.namespace.run(|| UdpSocket::bind("0.0.0.0:0")?.send_to(b"hello", "192.0.2.1:53")).unwrap();
        udp.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let (length, from) = udp.recv_from(&mut [0; 16]).unwrap();
        assert_eq!((length, from.ip()), (5, ip("192.0.2.9")));
        // Going out, a container has the host's address.
        serve(outside.listen("192.0.2.9:80"));
        assert_eq!(ask(&server, "192.0.2.9:80"), "192.0.2.1");
        let internal = BridgeRules { internal: true, ..rules("brA", "10.1.0.0") };
        put(vec![internal], vec![published(6, "0.0.0.0", 80, "10.1.0.2:8080")]);
        assert!(server.is_kept_from("192.0.2.9:80") && outside.is_kept_from("192.0.2.1:80"), "internal");
        assert!(neighbour.reaches("10.1.0.2:8080"));
    });
}

#[test]
fn a_changed_generation_refuses_and_a_thousand_ports_fit() {
    on_own_host(|| {
        let before = net::generation().unwrap();
        let ports = (1..=5000).map(|port| published(6, "0.0.0.0", port, "10.1.0.2:80")).collect();
        let rules = Rules { bridges: vec![rules("brA", "10.1.0.0")], ports };
        let after = net::replace("test", &rules, before).unwrap();
        assert_eq!(net::generation().unwrap(), after);
        let stale = net::replace("test", &rules, before).unwrap_err();
        assert_eq!(stale.kind(), std::io::ErrorKind::Interrupted);
        assert_eq!(net::generation().unwrap(), after, "nothing changed");
        net::replace("test", &Rules::default(), after).unwrap();
    });
}

#[test]
fn what_cannot_be_is_refused_and_nothing_is_left() {
    on_own_host(|| {
        assert!(net::ensure_bridge(&bridge("a-name-that-is-too-long", "10.1.0.1")).is_err());
        assert!(net::ensure_bridge(&bridge("lo", "10.1.0.1")).is_err(), "not a bridge");
        let wrong = Bridge { addresses: vec![(ip("10.1.0.1"), 99)], ..bridge("brA", "10.1.0.1") };
        assert!(net::ensure_bridge(&wrong).is_err());
        assert!(net::bridges().unwrap().is_empty());
        let guest = Guest::new();
        let port = Port {
            bridge: "nope".into(),
            here: "veth1".into(),
            there: "eth0".into(),
            mac: [2, 0, 0, 0, 0, 1],
            addresses: vec![(ip("10.1.0.2"), 24)],
            gateways: Vec::new(),
            mtu: None,
            hairpin: false,
            isolated: false,
        };
        let error = guest.namespace.connect(&[port]).unwrap_err();
        assert_eq!((error.subject.as_str(), error.source.kind()), ("nope", std::io::ErrorKind::NotFound));
        net::disconnect("nope").unwrap();
    });
}

#[test]
fn a_well_known_port_leads_to_another_and_stays_free() {
    on_own_host(|| {
        let guest = Guest::new();
        let (tcp, udp) =
            (guest.listen("127.0.0.11:0"), guest.namespace.run(|| UdpSocket::bind("127.0.0.11:0")).unwrap());
        let rule = |protocol, target| PortRule { protocol, address: ip("127.0.0.11"), port: 53, target };
        let rules = [rule(6, tcp.local_addr().unwrap()), rule(17, udp.local_addr().unwrap())];
        guest.namespace.run(|| net::redirect(&rules)).unwrap();
        serve(tcp);
        std::thread::spawn(move || {
            let mut bytes = [0; 16];
            while let Ok((length, from)) = udp.recv_from(&mut bytes) {
                let _ = udp.send_to(&bytes[..length], from);
            }
        });
        let ask = || {
            assert_eq!(asked("127.0.0.11:53"), "127.0.0.1");
            let client = UdpSocket::bind("0.0.0.0:0")?;
            client.set_read_timeout(Some(Duration::from_secs(2)))?;
            client.connect("127.0.0.11:53")?;
            client.send(b"hello")?;
            client.recv(&mut [0; 16])
        };
        assert_eq!(guest.namespace.run(ask).unwrap(), 5);
        // A name server of the container's own takes the port on all its addresses.
        let (own, _udp) = guest
            .namespace
            .run(|| Ok((TcpListener::bind("0.0.0.0:53")?, UdpSocket::bind("0.0.0.0:53")?)))
            .unwrap();
        serve(own);
        assert_eq!(guest.namespace.run(|| Ok(asked("127.0.0.1:53"))).unwrap(), "127.0.0.1");
        assert_eq!(guest.namespace.run(ask).unwrap(), 5);
        let six = PortRule { target: "[::1]:1".parse().unwrap(), ..rules[0].clone() };
        assert_eq!(net::redirect(&[six]).unwrap_err().kind(), std::io::ErrorKind::Unsupported);
    });
}

#[test]
fn a_bridge_apart_connects_whom_it_is_given_and_goes_with_its_holder() {
    on_own_host(|| {
        let hub = Namespace::make().expect("a namespace");
        let apart = Bridge { name: "apart".into(), addresses: Vec::new(), mtu: None };
        hub.bridge(&apart).expect("a bridge");
        hub.bridge(&apart).expect("the one that is there");
        let guests = [Guest::new(), Guest::new(), Guest::new(), Guest::new()];
        for (number, guest) in guests.iter().enumerate() {
            let port = Port {
                bridge: "apart".into(),
                here: format!("port{number}"),
                there: "eth0".into(),
                mac: [2, 0, 0, 0, 1, u8::try_from(number).expect("few")],
                addresses: vec![(ip(&format!("10.8.0.{}", number + 2)), 24)],
                gateways: Vec::new(),
                mtu: None,
                hairpin: false,
                isolated: number > 1,
            };
            hub.connect_here(&guest.namespace, std::slice::from_ref(&port)).expect("connected");
        }
        let listener = guests[0].listen("10.8.0.2:80");
        let other = guests[2].listen("10.8.0.4:80");
        assert!(guests[1].reaches("10.8.0.2:80") && guests[3].reaches("10.8.0.2:80"));
        assert!(guests[1].reaches("10.8.0.4:80") && guests[3].is_kept_from("10.8.0.4:80"), "isolated");
        // Nothing of it is on the host.
        assert!(net::bridges().expect("a list").is_empty());
        let (own, handle) = (std::process::id(), hub.handle().expect("its handle"));
        assert!(Namespace::held(own, handle).expect("looked for").is_some());
        let another = Handle { inode: handle.inode + 1, ..handle };
        assert!(Namespace::held(own, another).expect("looked for").is_none());
        hub.disconnect("port1").expect("disconnected");
        hub.disconnect("port1").expect("was disconnected");
        assert!(guests[1].is_kept_from("10.8.0.2:80"));
        // With the last descriptor the bridge goes, and the containers' devices with it.
        drop(hub);
        assert!(Namespace::held(own, handle).expect("looked for").is_none());
        let device = || guests[3].namespace.run(|| std::fs::read_to_string("/proc/thread-self/net/dev"));
        while device().expect("a list").contains("eth0") {
            std::thread::sleep(Duration::from_millis(5));
        }
        drop((listener, other));
    });
}
