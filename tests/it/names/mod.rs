//! What containers are told of names: through the real binary, on a host that is a network namespace of the test's own. The files
//! are those that docker 28 writes for the same flags, its comments aside.

mod wasm;

use std::fs::File;
use std::io::Read;
use std::net::UdpSocket;
use std::process::{Child, Command, Stdio};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use simple_dns::rdata::{A, RData};
use simple_dns::{CLASS, Packet, PacketFlag, QTYPE, RCODE, ResourceRecord, TYPE};

use crate::support::host::{Host, Output};
use crate::support::{registry, require};

/// A host of the test's own: its network, its `/etc/resolv.conf`, its store.
struct Town {
    host: Host,
    holder: Child,
    image: String,
}

impl Town {
    /// `resolver` is what the host's `/etc/resolv.conf` says.
    fn new(resolver: &str) -> Self {
        let (host, image) = (Host::new(), registry::busybox());
        host.umiak(&["pull", &image]).exits(0);
        std::fs::write(host.dir().join(".config/umiak/config.toml"), "")
            .expect("the default network is the bridge");
        let file = host.dir().join("resolver");
        std::fs::write(&file, resolver).expect("written");
        let script = "ip link set lo up && mount --bind \"$1\" /etc/resolv.conf && echo && exec sleep 1000";
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount", "sh", "-c", script, "sh"]).arg(file).stdout(Stdio::piped());
        let mut holder = command.spawn().expect("unshare starts");
        holder.stdout.take().expect("piped").read_exact(&mut [0]).expect("the host is up");
        Self { host, holder, image }
    }

    fn umiak(&self, args: &[&str]) -> Output {
        let like = self.host.command(args);
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.holder.id().to_string(), "--net", "--mount"]);
        command.arg(like.get_program()).args(like.get_args());
        command.env_clear().envs(like.get_envs().filter_map(|(key, value)| Some((key, value?))));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        self.host.finish(command.spawn().expect("nsenter starts"), args)
    }

    /// A container that sleeps.
    #[track_caller]
    fn resident(&self, name: &str, flags: &[&str]) {
        let head = ["run", "-d", "--name", name];
        self.umiak(&[&head[..], flags, &[&self.image, "sleep", "1000"]].concat()).exits(0);
    }

    /// What a script prints in a container made for it.
    #[track_caller]
    fn inside(&self, flags: &[&str], script: &str) -> String {
        let head = ["run", "--rm"];
        self.umiak(&[&head[..], flags, &[&self.image, "sh", "-c", script]].concat()).exits(0).stdout
    }

    /// What a script prints in one that runs.
    fn within(&self, name: &str, script: &str) -> String {
        self.umiak(&["exec", name, "sh", "-c", script]).stdout
    }

    /// The addresses that a name has for a container that runs.
    fn addresses(&self, container: &str, name: &str) -> Vec<String> {
        let said = self.within(container, &format!("nslookup -type=a {name}"));
        let answers = said.split("answer:").skip(1).flat_map(str::lines);
        answers.filter_map(|line| line.strip_prefix("Address: ")).map(str::to_owned).collect()
    }

    /// A name server on this host that knows `*.example` and nothing else; `last` is the end of every address.
    fn server(&self, address: &'static str, last: u8) {
        serve(self.holder.id(), address, last);
    }
}

/// The same in the network of a process.
pub(crate) fn serve(pid: u32, address: &'static str, last: u8) {
    let namespace = File::open(format!("/proc/{pid}/ns/net")).expect("its namespace");
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        move_into_link_name_space(std::os::fd::AsFd::as_fd(&namespace), Some(LinkNameSpaceType::Network))
            .expect("entered");
        let socket = UdpSocket::bind((address, 53)).expect("bound");
        tell.send(()).expect("somebody waits");
        let mut bytes = [0; 1500];
        while let Ok((length, from)) = socket.recv_from(&mut bytes) {
            let _ = socket.send_to(&answer(&bytes[..length], last), from);
        }
    });
    told.recv().expect("it serves");
}

impl Drop for Town {
    fn drop(&mut self) {
        let names = self.umiak(&["ps", "-aq"]).stdout;
        let names: Vec<_> = names.lines().collect();
        if !names.is_empty() {
            self.umiak(&[&["rm", "-f"][..], &names].concat());
        }
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

fn answer(bytes: &[u8], last: u8) -> Vec<u8> {
    let query = Packet::parse(bytes).expect("a query");
    let question = query.questions[0].clone();
    let mut answer = Packet::new_reply(query.id());
    answer.set_flags(PacketFlag::RECURSION_AVAILABLE);
    if !question.qname.to_string().ends_with(".example") {
        *answer.rcode_mut() = RCODE::NameError;
    } else if question.qtype == QTYPE::TYPE(TYPE::A) {
        let address = u32::from_be_bytes([192, 0, 2, last]);
        let record = ResourceRecord::new(question.qname.clone(), CLASS::IN, 5, RData::A(A { address }));
        answer.answers.push(record);
    }
    answer.questions.push(question);
    answer.build_bytes_vec().expect("a message")
}

const EVERYWHERE: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n\
                          ff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n";

const FILES: &str = "cat /etc/hosts; echo --; grep -v '^#' /etc/resolv.conf; echo --; cat /etc/hostname";

#[test]
fn files_are_dockers() {
    require!(root, registry);
    let town = Town::new("nameserver 127.0.0.53\nnameserver 192.0.2.53\nsearch lan\n");
    town.umiak(&["network", "create", "--subnet", "10.77.0.0/24", "users"]).exits(0);
    let (near, plain) =
        ("nameserver 192.0.2.53\nsearch lan\n", "nameserver 127.0.0.11\nsearch lan\noptions ndots:0\n");
    let gateway = town.umiak(&["network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", "bridge"]);
    let gateway = gateway.exits(0).text().to_owned();
    let own = town.inside(&["-h", "boat"], "tail -n 1 /etc/hosts | cut -f 1").trim().to_owned();
    let added = ["--add-host", "a:1.2.3.4", "--add-host", "h:host-gateway"];
    for (flags, hosts, resolver, name) in [
        (vec!["-h", "boat"], format!("{own}\tboat\n"), near, "boat"),
        (vec!["-h", "boat.ex.org"], format!("{own}\tboat.ex.org boat\n"), near, "boat.ex.org"),
        (
            [&["-h", "boat", "--domainname", "ex.org"][..], &added].concat(),
            format!("1.2.3.4\ta\n{gateway}\th\n{own}\tboat.ex.org boat\n"),
            near,
            "boat",
        ),
        (
            vec!["-h", "boat", "--dns", "9.9.9.9", "--dns-search", "a.b", "--dns-option", "ndots:3"],
            format!("{own}\tboat\n"),
            "nameserver 9.9.9.9\nsearch a.b\noptions ndots:3\n",
            "boat",
        ),
        (vec!["-h", "boat", "--network", "none"], String::new(), near, "boat"),
        (
            vec!["-h", "boat", "--network", "none", "--add-host", "a:1.2.3.4", "--dns-search", "."],
            "1.2.3.4\ta\n".to_owned(),
            "nameserver 192.0.2.53\n",
            "boat",
        ),
        (vec!["-h", "boat", "--network", "users"], "10.77.0.2\tboat\n".to_owned(), plain, "boat"),
        (
            vec!["-h", "boat", "--network", "users", "--dns", "9.9.9.9", "--dns-option", "ndots:3"],
            "10.77.0.2\tboat\n".to_owned(),
            "nameserver 127.0.0.11\nsearch lan\noptions ndots:3\n",
            "boat",
        ),
    ] {
        let wanted = format!("{EVERYWHERE}{hosts}--\n{resolver}--\n{name}\n");
        assert_eq!(town.inside(&flags, FILES), wanted, "{flags:?}");
    }
    town.umiak(&["run", "--rm", "--network", "none", "--add-host", "h:host-gateway", &town.image, "true"])
        .fails(125, &["unable to derive the IP value for host-gateway"]);
    // With the host's network all is the host's.
    let host = town.inside(&["--network", "host"], "cat /etc/resolv.conf");
    assert!(host.ends_with("nameserver 127.0.0.53\nnameserver 192.0.2.53\nsearch lan\n"), "{host}");
    let hosts = std::fs::read_to_string("/etc/hosts").expect("the host's");
    assert_eq!(town.inside(&["--network", "host"], "cat /etc/hosts"), hosts);
    // Another container's names are that container's.
    town.resident("one", &["--network", "users", "-h", "first"]);
    let joined = town.inside(&["--network", "container:one"], FILES);
    assert_eq!(joined, format!("{EVERYWHERE}10.77.0.2\tfirst\n--\n{plain}--\nfirst\n"));
}

#[test]
fn links_on_the_default_network_are_lines() {
    require!(root, registry);
    let town = Town::new("");
    town.resident("target", &["-h", "inner"]);
    let own = town.within("target", "tail -n 1 /etc/hosts | cut -f 1").trim().to_owned();
    let seen = town.inside(&["--link", "target:al"], "grep al /etc/hosts | grep inner");
    assert_eq!(seen, format!("{own}\tal inner target\n"));
}

#[test]
fn links_on_the_default_network_are_variables() {
    require!(root, registry);
    let town = Town::new("");
    let flags =
        ["--expose", "5432", "-p", "53:53/udp", "-e", "PASSWORD=a=b", "-e", "HOME=/x", "-e", "EMPTY="];
    town.resident("target", &flags);
    let own = town.within("target", "tail -n 1 /etc/hosts | cut -f 1").trim().to_owned();
    let wanted = [
        "DATA_BASE_ENV_EMPTY=".to_owned(),
        "DATA_BASE_ENV_PASSWORD=a=b".to_owned(),
        "DATA_BASE_NAME=/app/data-base".to_owned(),
        format!("DATA_BASE_PORT=tcp://{own}:5432"),
        format!("DATA_BASE_PORT_53_UDP=udp://{own}:53"),
        format!("DATA_BASE_PORT_53_UDP_ADDR={own}"),
        "DATA_BASE_PORT_53_UDP_PORT=53".to_owned(),
        "DATA_BASE_PORT_53_UDP_PROTO=udp".to_owned(),
        format!("DATA_BASE_PORT_5432_TCP=tcp://{own}:5432"),
        format!("DATA_BASE_PORT_5432_TCP_ADDR={own}"),
        "DATA_BASE_PORT_5432_TCP_PORT=mine".to_owned(),
        "DATA_BASE_PORT_5432_TCP_PROTO=tcp".to_owned(),
    ];
    // What the user says himself is over it.
    town.resident("app", &["--link", "target:data-base", "-e", "DATA_BASE_PORT_5432_TCP_PORT=mine"]);
    for all in ["env", "tr '\\0' '\\n' </proc/1/environ"] {
        let said = town.within("app", &format!("{all} | grep ^DATA_BASE | sort"));
        assert_eq!(said.lines().collect::<Vec<_>>(), wanted, "{all}");
    }
    let shown = town.umiak(&["inspect", "-f", "{{json .Config.Env}}", "app"]).exits(0);
    assert!(!shown.stdout.contains("PASSWORD"), "{}", shown.stdout);
    // Started anew, it is told of what is true by then, and refused when nobody is there.
    town.umiak(&["rm", "-f", "target"]).exits(0);
    town.umiak(&["stop", "-t", "0", "app"]).exits(0);
    town.umiak(&["start", "app"])
        .fails(1, &["Cannot link to a non running container: /target AS /app/data-base"]);
    town.resident("target", &["--expose", "99"]);
    town.umiak(&["start", "app"]).exits(0);
    assert!(town.within("app", "env").contains("DATA_BASE_PORT=tcp://"), "another port");
    // On a network of the user's it is a name and nothing else, as with docker.
    town.umiak(&["network", "create", "users"]).exits(0);
    town.resident("other", &["--network", "users"]);
    let said = town.inside(
        &["--network", "users", "--link", "other:al"],
        "env | grep -c ^AL_; ping -c 1 -w 5 al >/dev/null && echo there",
    );
    assert_eq!(said, "0\nthere\n");
}

#[test]
fn containers_find_each_other_by_name() {
    require!(root, registry);
    let town = Town::new("nameserver 127.0.0.77\n");
    for (network, subnet) in [("front", "10.77.1.0/24"), ("back", "10.77.2.0/24")] {
        town.umiak(&["network", "create", "--subnet", subnet, network]).exits(0);
    }
    town.resident("web", &["--network", "front", "--network-alias", "www", "-h", "webhost"]);
    town.resident("web2", &["--network", "front", "--network-alias", "www"]);
    town.resident("db", &["--network", "back"]);
    let id = town.umiak(&["inspect", "-f", "{{.Id}}", "web"]).exits(0).text()[..12].to_owned();
    for name in ["web.", "WEB.front", "webhost.", &format!("{id}.")] {
        assert_eq!(town.addresses("web2", name), ["10.77.1.2"], "{name}");
    }
    let mut both = town.addresses("web", "www.");
    both.sort();
    assert_eq!(both, ["10.77.1.2", "10.77.1.3"]);
    assert!(town.within("web2", "ping -c 1 -w 5 web").contains("1 packets received"));
    assert!(town.within("web2", "nslookup 10.77.1.2").contains("= web.front"));
    // Nobody is seen from another network; on the default one nobody has a name.
    assert!(town.addresses("web", "db.").is_empty() && town.addresses("db", "web.").is_empty());
    // Connected, both sides see it at once; and disconnected neither.
    town.umiak(&["network", "connect", "--alias", "store", "front", "db"]).exits(0);
    assert_eq!(town.addresses("web", "store."), ["10.77.1.4"]);
    assert_eq!(town.addresses("db", "web."), ["10.77.1.2"]);
    let lines = "grep -c ^10.77 /etc/hosts";
    assert_eq!(town.within("db", lines), "2\n");
    town.within("db", "echo 1.2.3.4 mine >> /etc/hosts");
    town.umiak(&["network", "disconnect", "front", "db"]).exits(0);
    assert_eq!(town.within("db", &format!("{lines}; grep -c mine /etc/hosts")), "1\n1\n");
    assert!(town.addresses("web", "store.").is_empty() && town.addresses("db", "web.").is_empty());
    // One that is killed with its supervisor is nobody any more after the next command, and one that is restarted is again.
    let id = town.umiak(&["inspect", "-f", "{{.Id}}", "web2"]).exits(0).text().to_owned();
    let pid = Host::supervisor(&id).expect("a supervisor").to_string();
    assert!(Command::new("kill").args(["-KILL", &pid]).status().is_ok_and(|status| status.success()));
    crate::cli::until("the end", || !town.umiak(&["ps", "--format", "{{.Names}}"]).stdout.contains("web2"));
    town.umiak(&["rm", "web2"]).exits(0);
    assert_eq!(town.addresses("web", "www."), ["10.77.1.2"]);
    town.umiak(&["restart", "-t", "0", "web"]).exits(0);
    assert_eq!(town.addresses("web", "web."), ["10.77.1.2"]);
    // A server of the container's own may have the port.
    let own = "httpd -p 0.0.0.0:53 && grep -c ' 00000000:0035 ' /proc/net/tcp";
    assert_eq!(town.within("web", own), "1\n");
    assert_eq!(town.addresses("web", "web."), ["10.77.1.2"]);
}

#[test]
fn other_names_are_asked_of_the_host_or_of_the_users_servers() {
    require!(root, registry);
    let town = Town::new("nameserver 127.0.0.77\nsearch sub.example\n");
    town.server("127.0.0.77", 77);
    town.umiak(&["network", "create", "--subnet", "10.77.3.0/24", "--gateway", "10.77.3.1", "users"])
        .exits(0);
    town.umiak(&["network", "create", "--internal", "inner"]).exits(0);
    town.resident("web", &["--network", "users"]);
    // The host's server listens on its loopback device alone, which the container does not reach.
    assert_eq!(town.addresses("web", "some.example."), ["192.0.2.77"]);
    assert!(town.addresses("web", "nobody.invalid.").is_empty());
    assert!(town.within("web", "ping -c 1 -w 1 short").starts_with("PING short (192.0.2.77)"), "searched");
    town.server("10.77.3.1", 31);
    town.resident("wish", &["--network", "users", "--dns", "10.77.3.1"]);
    assert_eq!(town.addresses("wish", "some.example."), ["192.0.2.31"]);
    assert_eq!(town.addresses("wish", "web."), ["10.77.3.2"]);
    // Nothing is passed on for a container without a way out.
    town.resident("shut", &["--network", "inner"]);
    assert!(town.addresses("shut", "some.example.").is_empty());
    assert_eq!(town.addresses("shut", "shut.").len(), 1);
}
