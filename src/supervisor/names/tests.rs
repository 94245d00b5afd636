//! The name server in a network namespace of the test's own, between a hostile container and a lying upstream server.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, QCLASS, QTYPE, Question, RCODE, TYPE};

use super::*;
use crate::model::{EndpointSettings, Lease, MacAddress, Network, NetworkDriver, Timestamp};
use crate::state::{Database, tests as sample};

/// A process that does nothing in a network namespace of its own.
struct Guest(Child);

impl Guest {
    /// `None` where this user may not make one.
    fn new() -> Option<Self> {
        let root =
            std::fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0);
        let wanted = std::env::var("REQUIRE_TIERS").unwrap_or_default();
        assert!(root || !wanted.split(',').any(|tier| tier == "root"), "the tier `root` is required");
        let script = "ip link set lo up && echo && exec sleep 1000";
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", script]).stdout(Stdio::piped());
        let mut child = root.then(|| command.spawn().expect("unshare"))?;
        let mut said = [0];
        child.stdout.take().expect("piped").read_exact(&mut said).expect("it is up");
        Some(Self(child))
    }

    fn namespace(&self) -> Namespace {
        Namespace::of(self.0.id()).expect("a namespace")
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn network(name: &str, internal: bool) -> Network {
    Network {
        id: name.repeat(8),
        name: name.into(),
        created: Timestamp::UNIX_EPOCH,
        driver: NetworkDriver::Bridge,
        internal,
        attachable: false,
        ipv4: true,
        ipv6: false,
        labels: BTreeMap::new(),
        options: BTreeMap::new(),
        ipam_options: BTreeMap::new(),
        pools: Vec::new(),
        chosen_by_user: false,
    }
}

/// A store with containers on networks; each has the address that its number says.
struct Records {
    root: tempfile::TempDir,
    database: Database,
}

impl Records {
    fn new(internal: bool) -> Self {
        let root = tempfile::tempdir().expect("it works");
        let database = Database::open(root.path()).expect("it works");
        database.put_image(&sample::image("a", "linux/amd64"), None).expect("it works");
        let networks = vec![network("front", internal), network("back", false)];
        database.create_networks(|_| Ok::<_, Infallible>(networks)).expect("it works").expect("it works");
        Self { root, database }
    }

    fn add(&self, number: u8, name: &str, network: &str, aliases: &[&str]) -> ContainerId {
        let mut container = sample::container(number.into(), name, &sample::image("a", "linux/amd64"));
        container.host.networks = vec![EndpointSettings {
            network: network.into(),
            aliases: aliases.iter().map(|&alias| alias.to_owned()).collect(),
            ..EndpointSettings::default()
        }];
        self.database.insert_container(&container).expect("it works");
        let lease = Lease {
            ipv4: Some(Ipv4Addr::new(10, 0, 0, number)),
            ipv6: None,
            mac: MacAddress([2, 0, 0, 0, 0, number]),
            interface: 0,
        };
        self.database
            .lease_addresses(&container.id, |_| Ok::<_, Infallible>(lease))
            .expect("it works")
            .expect("it works");
        container.id
    }
}

/// A server on a thread of its own, in the event loop that a supervisor has.
struct Running {
    _end: mpsc::Sender<()>,
}

fn serve(guest: &Guest, records: &Records, container: ContainerId, servers: &[&str]) -> Running {
    let setting = Setting {
        root: records.root.path().into(),
        container,
        servers: servers.iter().map(|server| server.parse().expect("it works")).collect(),
        expands: false,
    };
    let namespace = guest.namespace();
    let (end, ended) = mpsc::channel::<()>();
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("it works");
        runtime.block_on(async {
            let _server = NameServer::start(setting, namespace).expect("it works");
            tell.send(()).expect("it works");
            loop {
                tokio::time::sleep(Duration::from_millis(5)).await;
                if matches!(ended.try_recv(), Err(mpsc::TryRecvError::Disconnected)) {
                    return;
                }
            }
        });
    });
    told.recv().expect("it works");
    Running { _end: end }
}

fn query(name: &str, kind: TYPE) -> Vec<u8> {
    let mut packet = Packet::new_query(77);
    let question =
        Question::new(Name::new_unchecked(name), QTYPE::TYPE(kind), QCLASS::CLASS(CLASS::IN), false);
    packet.questions.push(question);
    packet.build_bytes_vec().expect("it works")
}

const SERVER: &str = "127.0.0.11:53";

/// Asks in the guest's namespace.
fn ask(guest: &Guest, bytes: &[u8]) -> Vec<u8> {
    let asked = guest.namespace().run(|| {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.set_read_timeout(Some(Duration::from_secs(20)))?;
        socket.send_to(bytes, SERVER)?;
        let mut answer = [0; 8192];
        let (length, from) = socket.recv_from(&mut answer)?;
        assert_eq!(from, SERVER.parse::<SocketAddr>().expect("it works"), "from where it was asked");
        Ok(answer[..length].to_vec())
    });
    asked.expect("an answer")
}

fn by_stream(guest: &Guest, bytes: &[u8]) -> Vec<u8> {
    let asked = guest.namespace().run(|| {
        let mut stream = TcpStream::connect(SERVER)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        let length = u16::try_from(bytes.len()).expect("it works");
        stream.write_all(&[&length.to_be_bytes(), bytes].concat())?;
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut answer = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut answer)?;
        Ok(answer)
    });
    asked.expect("an answer")
}

/// The code, and the last number of each address.
fn said(answer: &[u8]) -> (RCODE, Vec<u8>) {
    let packet = Packet::parse(answer).expect("readable");
    let last = packet.answers.iter().filter_map(|record| match &record.rdata {
        RData::A(a) => Some(Ipv4Addr::from(a.address).octets()[3]),
        _ => None,
    });
    (packet.rcode(), last.collect())
}

fn lookup(guest: &Guest, name: &str) -> (RCODE, Vec<u8>) {
    said(&ask(guest, &query(name, TYPE::A)))
}

/// Answers packets in the guest's namespace with what `answer` makes of them.
fn upstream(guest: &Guest, address: &str, answer: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static) {
    let socket = guest.namespace().run(|| UdpSocket::bind((address, 53))).expect("a socket");
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok((length, from)) = socket.recv_from(&mut bytes) {
            for message in answer(&bytes[..length]) {
                let _ = socket.send_to(&message, from);
            }
        }
    });
}

fn answered(bytes: &[u8], last: u8) -> Vec<u8> {
    let data = message::Data::Address(IpAddr::from([192, 0, 2, last]));
    Query::parse(bytes).expect("a query").answer(bytes, Code::Good, &[data], message::LARGEST)
}

fn refused(bytes: &[u8], code: Code) -> Vec<u8> {
    Query::parse(bytes).expect("a query").answer(bytes, code, &[], message::LARGEST)
}

#[test]
fn neighbours_are_known_and_nobody_else_is() {
    let Some(guest) = Guest::new() else { return };
    let records = Records::new(true);
    let web = records.add(2, "web", "front", &["www"]);
    records.add(3, "db", "front", &["store", "www"]);
    records.add(4, "secret", "back", &["www"]);
    let _running = serve(&guest, &records, web.clone(), &[]);
    let good = |last: &[u8]| (RCODE::NoError, last.to_vec());
    for (name, wanted) in [
        ("db", good(&[3])),
        ("STORE.front", good(&[3])),
        (web.short(), good(&[2])),
        // Of another network, and nobody's: an internal network has nobody to ask.
        ("secret", (RCODE::ServerFailure, vec![])),
        ("secret.back", (RCODE::ServerFailure, vec![])),
        ("example.org", (RCODE::ServerFailure, vec![])),
    ] {
        assert_eq!(lookup(&guest, name), wanted, "{name}");
        assert_eq!(said(&by_stream(&guest, &query(name, TYPE::A))), wanted, "{name} by TCP");
    }
    assert_eq!(said(&ask(&guest, &query("db", TYPE::AAAA))), good(&[]), "no data is no error");
    let mut first: Vec<_> = (0..4).map(|_| lookup(&guest, "www").1[0]).collect();
    first.sort_unstable();
    assert_eq!(first, [2, 2, 3, 3], "in turns");
    let answer = ask(&guest, &query("3.0.0.10.in-addr.arpa", TYPE::PTR));
    let packet = Packet::parse(&answer).expect("it works");
    let RData::PTR(name) = &packet.answers[0].rdata else { panic!("{packet:?}") };
    assert_eq!(name.0.to_string(), "db.front");
    // What changes is seen at once.
    let new = records.add(9, "new", "front", &[]);
    assert_eq!(lookup(&guest, "new"), good(&[9]));
    records.database.release_addresses(&new).expect("it works");
    assert_eq!(lookup(&guest, "new").0, RCODE::ServerFailure);
}

#[test]
fn a_long_list_is_cut_and_whole_by_stream() {
    let Some(guest) = Guest::new() else { return };
    let records = Records::new(true);
    let ids: Vec<_> =
        (2..90).map(|number| records.add(number, &format!("c{number}"), "front", &["all"])).collect();
    let _running = serve(&guest, &records, ids[0].clone(), &[]);
    let cut = ask(&guest, &query("all", TYPE::A));
    assert!(
        cut.len() <= 512
            && Packet::parse(&cut).expect("it works").has_flags(simple_dns::PacketFlag::TRUNCATION)
    );
    assert_eq!(said(&by_stream(&guest, &query("all", TYPE::A))).1.len(), 88);
}

#[test]
fn only_the_servers_own_answer_counts() {
    let Some(guest) = Guest::new() else { return };
    let records = Records::new(false);
    let web = records.add(2, "web", "front", &[]);
    upstream(&guest, "127.0.0.2", |bytes| {
        let good = answered(bytes, 1);
        let mut other_id = answered(bytes, 66);
        other_id[0] ^= 0x55;
        let mut other_name = answered(bytes, 67);
        other_name[13] = b'z';
        let mut query = answered(bytes, 68);
        query[2] &= 0x7f;
        vec![b"garbage".to_vec(), other_id, other_name, query, Vec::new(), good]
    });
    let _running = serve(&guest, &records, web, &["127.0.0.2"]);
    // Somebody who is not the server, on a guess at every port.
    for _ in 0..3 {
        assert_eq!(lookup(&guest, "example.org"), (RCODE::NoError, vec![1]));
    }
    assert_eq!(lookup(&guest, "web"), (RCODE::NoError, vec![2]), "what is known is not asked for");
}

#[test]
fn the_next_server_is_asked_when_one_is_at_a_loss() {
    let Some(guest) = Guest::new() else { return };
    let records = Records::new(false);
    let web = records.add(2, "web", "front", &[]);
    upstream(&guest, "127.0.0.2", |bytes| {
        let name = Query::parse(bytes).expect("it works").name.unwrap_or_default();
        match name.as_str() {
            "gone.example" => vec![refused(bytes, Code::NoName)],
            "silent.example" => vec![],
            _ => vec![refused(bytes, Code::Failed)],
        }
    });
    upstream(&guest, "127.0.0.3", |bytes| {
        if Query::parse(bytes).expect("it works").name.as_deref() == Some("nobody.example") {
            return vec![refused(bytes, Code::Failed)];
        }
        vec![answered(bytes, 3)]
    });
    let _running = serve(&guest, &records, web, &["127.0.0.9", "127.0.0.2", "127.0.0.3"]);
    assert_eq!(lookup(&guest, "other.example"), (RCODE::NoError, vec![3]), "refused, then at a loss");
    assert_eq!(lookup(&guest, "gone.example"), (RCODE::NameError, vec![]), "that is an answer");
    assert_eq!(lookup(&guest, "silent.example"), (RCODE::NoError, vec![3]));
    assert_eq!(lookup(&guest, "nobody.example"), (RCODE::ServerFailure, vec![]));
}

#[test]
fn what_is_cut_by_packet_is_whole_by_stream() {
    let Some(guest) = Guest::new() else { return };
    let records = Records::new(false);
    let web = records.add(2, "web", "front", &[]);
    let long = |bytes: &[u8]| {
        let all: Vec<_> = (0..100).map(|n| message::Data::Address(IpAddr::from([192, 0, 2, n]))).collect();
        Query::parse(bytes).expect("it works").answer(bytes, Code::Good, &all, message::LARGEST)
    };
    // More than the client takes: the server here does not keep to it.
    upstream(&guest, "127.0.0.2", move |bytes| vec![long(bytes)]);
    let listener = guest.namespace().run(|| TcpListener::bind("127.0.0.2:53")).expect("it works");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut length = [0; 2];
            stream.read_exact(&mut length).expect("it works");
            let mut bytes = vec![0; u16::from_be_bytes(length).into()];
            stream.read_exact(&mut bytes).expect("it works");
            let answer = long(&bytes);
            stream
                .write_all(&u16::try_from(answer.len()).expect("it works").to_be_bytes())
                .expect("it works");
            stream.write_all(&answer).expect("it works");
        }
    });
    let _running = serve(&guest, &records, web, &["127.0.0.2"]);
    let bytes = query("many.example", TYPE::A);
    let cut = ask(&guest, &bytes);
    assert!(
        cut.len() <= 512
            && Packet::parse(&cut).expect("it works").has_flags(simple_dns::PacketFlag::TRUNCATION)
    );
    assert_eq!(said(&by_stream(&guest, &bytes)).1.len(), 100);
}

#[test]
fn a_flood_and_garbage_do_no_harm() {
    let Some(guest) = Guest::new() else { return };
    let records = Records::new(false);
    let web = records.add(2, "web", "front", &[]);
    // Nobody ever answers what is passed on.
    upstream(&guest, "127.0.0.2", |_| vec![]);
    let _running = serve(&guest, &records, web, &["127.0.0.2"]);
    let (sent, heard) = guest
        .namespace()
        .run(|| {
            let socket = UdpSocket::bind("127.0.0.1:0")?;
            socket.set_read_timeout(Some(Duration::from_millis(500)))?;
            let (mut heard, mut sent) = (0, 0);
            for number in 0..3000_u32 {
                let bytes = match number % 3 {
                    0 => number.to_le_bytes().repeat(1 + number as usize % 60),
                    1 => query(&format!("n{number}.example"), TYPE::A)[..20].to_vec(),
                    _ => query(&format!("n{number}.example"), TYPE::A),
                };
                sent += usize::from(socket.send_to(&bytes, SERVER).is_ok());
                if number % 50 == 0 {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            while socket.recv(&mut [0; 8192]).is_ok() {
                heard += 1;
            }
            Ok((sent, heard))
        })
        .expect("it works");
    assert!(sent == 3000 && heard > 200, "{sent} {heard}: what is too much is refused at once");
    assert_eq!(lookup(&guest, "web"), (RCODE::NoError, vec![2]));
    // Connections that say nothing take no place for ever, and half a message is nobody's answer.
    let silent: Vec<_> = (0..MOST_CLIENTS - 2)
        .map(|_| guest.namespace().run(|| TcpStream::connect(SERVER)).expect("it works"))
        .collect();
    let mut half = guest.namespace().run(|| TcpStream::connect(SERVER)).expect("it works");
    half.write_all(&[255, 255, 1, 2]).expect("it works");
    assert_eq!(said(&by_stream(&guest, &query("web", TYPE::A))).1, [2]);
    half.set_read_timeout(Some(Duration::from_secs(20))).expect("it works");
    assert_eq!(half.read(&mut [0; 8]).unwrap_or(0), 0, "closed");
    drop(silent);
}
