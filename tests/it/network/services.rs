//! Real services, as their images are used: nginx, redis and postgres behind published ports, found by name across two networks
//! of the user's. The images are made by `fixtures/services`.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::{bare, field, neighbour};
use crate::support::host::{Host, Output, Space};
use crate::support::require;

const NGINX: &str = "localhost/nginx:1";
const REDIS: &str = "localhost/redis:1";
const POSTGRES: &str = "localhost/postgres:1";

/// Where the images are.
pub(crate) fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/target/fixtures-services/layout"))
}

/// Passes on to another container, which is found by its name when the server starts.
const PROXY: &str = "server { listen 80; root /var/www/html; index index.nginx-debian.html; location /back/ { proxy_pass http://app/; } }\n";

/// A host with the images in its store, and the networks `front` and `back`.
fn town() -> Host {
    let host = Host::networked(&[]);
    let layout = folder().display().to_string();
    let out = host.umiak(&["load", "-i", &layout]).exits(0);
    for name in [NGINX, REDIS, POSTGRES] {
        assert!(out.stdout.contains(&format!("Loaded image: {name}")), "{}", out.stdout);
    }
    for network in ["front", "back"] {
        host.umiak(&["network", "create", network]).exits(0);
    }
    host
}

fn service(host: &Host, name: &str, flags: &[&str], image: &str) {
    host.umiak(&[&["run", "-d", "--name", name], flags, &[image]].concat()).exits(0);
}

fn database(host: &Host) {
    let flags = [
        "--network",
        "back",
        "--network-alias",
        "store",
        "-p",
        "5432:5432",
        "-e",
        "POSTGRES_PASSWORD=secret",
    ];
    service(host, "db", &[&flags[..], &["-v", "rows:/var/lib/postgresql/data"]].concat(), POSTGRES);
}

fn inside(host: &Host, container: &str, script: &str) -> Output {
    host.umiak(&[
        "exec",
        "-e",
        "PGPASSWORD=secret",
        "-e",
        "PGCONNECT_TIMEOUT=3",
        container,
        "bash",
        "-c",
        script,
    ])
}

/// What a query says to a container that connects with the database over the network.
#[track_caller]
fn query(host: &Host, server: &str, sql: &str) -> String {
    let script = format!("psql -h {server} -U postgres -Atqc \"{sql}\"");
    inside(host, "client", &script).exits(0).text().to_owned()
}

/// Asks until a client's command succeeds: the first start of a database takes its time.
#[track_caller]
fn answers(host: &Host, what: &str, script: &str) {
    let end = Instant::now() + Duration::from_secs(40);
    while inside(host, "client", script).status != 0 {
        assert!(Instant::now() < end, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// What an HTTP server says.
fn page(space: &Space, url: &str) -> Option<String> {
    let args = ["3", "busybox", "wget", "-q", "-O", "-", url];
    let out = space.command("timeout").args(args).output().expect("busybox");
    out.status.success().then(|| String::from_utf8_lossy(&out.stdout).into_owned())
}

/// What a program of an image says on another host, to which only the files are a container's.
#[track_caller]
fn elsewhere(host: &Host, other: &Space, words: &[&str]) -> String {
    let mount = format!("--mount=/proc/{}/ns/mnt", field(host, "client", "{{.State.Pid}}"));
    let mut command = other.command("nsenter");
    let out = command.arg(mount).arg("--").args(words).env("PGPASSWORD", "secret").output().expect("nsenter");
    assert!(out.status.success(), "{words:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).trim_end().to_owned()
}

#[test]
fn heavy_services_talk_by_name_behind_published_ports() {
    require!(root, net, services);
    let host = town();
    let other = neighbour(host.space());
    let conf = host.dir().join("proxy.conf");
    std::fs::write(&conf, PROXY).expect("written");
    let conf = format!("{}:/etc/nginx/sites-enabled/default:ro", conf.display());
    database(&host);
    service(&host, "cache", &["--network", "back", "--network-alias", "kv", "-p", "6379:6379"], REDIS);
    service(&host, "app", &["--network", "back"], NGINX);
    service(&host, "web", &["--network", "front", "--network", "back", "-p", "8080:80", "-v", &conf], NGINX);
    // One that is on both networks, and one that is on the outer one alone.
    let sleeps = |name: &str, networks: &[&str]| {
        let tail = ["--entrypoint", "sleep", POSTGRES, "1000"];
        host.umiak(&[&["run", "-d", "--name", name], networks, &tail].concat()).exits(0);
    };
    sleeps("client", &["--network", "front", "--network", "back"]);
    sleeps("outer", &["--network", "front"]);
    // By name, by alias, on either network.
    answers(&host, "the database is up", "psql -h db -U postgres -c 'select 1'");
    for server in ["db", "store", "db.back"] {
        assert_eq!(query(&host, server, "select 6 * 7"), "42", "{server}");
    }
    answers(&host, "the cache is up", "redis-cli -h cache ping");
    assert_eq!(
        inside(&host, "client", "redis-cli -h cache set k v && redis-cli -h kv get k").exits(0).text(),
        "OK\nv"
    );
    let ask = "exec 3<>/dev/tcp/NAME/80 && printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3 && grep -o 'Welcome to nginx' <&3 | head -n 1";
    for (from, name) in [("client", "web"), ("client", "app"), ("outer", "web")] {
        let said = inside(&host, from, &ask.replace("NAME", name)).exits(0);
        assert_eq!(said.text(), "Welcome to nginx", "{name} from {from}");
    }
    // Who is not on a network finds nobody there, and reaches nobody by the address either.
    for name in ["db", "store", "cache", "kv", "app"] {
        let said = inside(&host, "outer", &format!("getent hosts {name}"));
        assert_eq!((said.status, said.stdout.as_str()), (2, ""), "{name}");
    }
    for (name, port) in [("db", 5432), ("cache", 6379), ("app", 80)] {
        let address = field(&host, name, "{{.NetworkSettings.Networks.back.IPAddress}}");
        let connect = format!("timeout 1 bash -c ': </dev/tcp/{address}/{port}'");
        assert_ne!(inside(&host, "outer", &connect).status, 0, "{name}");
        assert_eq!(inside(&host, "client", &connect).status, 0, "{name}");
    }
    // From another host and from this one, through published ports alone.
    let site = page(&other, "http://192.0.2.1:8080/").expect("the site");
    assert!(site.contains("Welcome to nginx"), "{site}");
    let behind = page(&other, "http://192.0.2.1:8080/back/").expect("what the site passes on");
    assert!(behind.contains("Welcome to nginx"), "{behind}");
    assert!(page(host.space(), "http://127.0.0.1:8080/").is_some());
    let logs = host.umiak(&["logs", "web"]).exits(0).stdout;
    assert!(
        logs.lines()
            .any(|line| line.starts_with("192.0.2.9 - - [") && line.contains("\"GET / HTTP/1.1\" 200")),
        "{logs}"
    );
    let sql = elsewhere(
        &host,
        &other,
        &["psql", "-h", "192.0.2.1", "-U", "postgres", "-Atc", "select inet_client_addr()"],
    );
    assert_eq!(sql, "192.0.2.9", "the client's address is kept");
    assert_eq!(elsewhere(&host, &other, &["redis-cli", "-h", "192.0.2.1", "get", "k"]), "v");
    // Each ends as it should when told to.
    for (name, word) in [("web", ""), ("cache", "bye bye"), ("db", "database system is shut down")] {
        host.umiak(&["stop", name]).exits(0);
        assert_eq!(field(&host, name, "{{.State.ExitCode}}"), "0", "{name}");
        let said = host.umiak(&["logs", name]).exits(0);
        assert!(format!("{}{}", said.stdout, said.stderr).contains(word), "{name}: {said:?}");
    }
    host.umiak(&["rm", "-f", "web", "cache", "db", "app", "client", "outer"]).exits(0);
    bare(&host);
}

#[test]
fn heavy_services_keep_their_rows_in_a_volume() {
    require!(root, net, services);
    let host = town();
    let up = "psql -h db -U postgres -c 'select 1'";
    database(&host);
    host.umiak(&[
        "run",
        "-d",
        "--name",
        "client",
        "--network",
        "back",
        "--entrypoint",
        "sleep",
        POSTGRES,
        "1000",
    ])
    .exits(0);
    answers(&host, "the database is up", up);
    query(&host, "db", "create table boats (name text); insert into boats values ('kayak')");
    host.umiak(&["stop", "db"]).exits(0);
    assert_ne!(inside(&host, "client", up).status, 0, "it is stopped");
    host.umiak(&["start", "db"]).exits(0);
    answers(&host, "it is up again", up);
    assert_eq!(query(&host, "db", "insert into boats values ('umiak') returning name"), "umiak");
    // Killed, it recovers; and another container goes on with the same rows.
    host.umiak(&["kill", "db"]).exits(0);
    host.umiak(&["rm", "db"]).exits(0);
    database(&host);
    answers(&host, "the next one is up", up);
    assert_eq!(query(&host, "store", "select name from boats order by name"), "kayak\numiak");
    // Without a password there is no first start, and the log says what it needs.
    let refused = host.umiak(&["run", "--rm", POSTGRES]).exits(1);
    assert!(
        refused.stderr.contains("POSTGRES_PASSWORD: is needed for the first start"),
        "{}",
        refused.stderr
    );
    host.umiak(&["rm", "-f", "-v", "db", "client"]).exits(0);
    assert_eq!(host.umiak(&["volume", "ls", "-q"]).exits(0).text(), "rows", "a volume with a name stays");
    bare(&host);
}
