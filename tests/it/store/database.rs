//! A metadata database that cannot be used: every command says which file and what to try, and a repair records anew what is there.

use std::fs;
use std::path::PathBuf;

use super::room::Space;
use super::{Subject, sound};
use crate::support::host::Host;
use crate::support::require;
use crate::support::rogue::Rogue;

fn file(host: &Host) -> PathBuf {
    host.root().join("metadata.db")
}

/// A store with an image, a container that has ended and changed something, and a volume; its database in one file.
fn furnished(rogue: &Rogue) -> (Host, Subject) {
    let host = Host::new();
    let subject = Subject::at(rogue, "furnished", 1, 20_000);
    host.umiak(&["pull", "-q", &subject.name]).exits(0);
    let script = "echo mine > /v/mine; echo mine > /mine";
    let run = [
        "run",
        "--name",
        "one",
        "-v",
        "vol:/v",
        "--entrypoint",
        "/busybox",
        &subject.name,
        "sh",
        "-c",
        script,
    ];
    host.umiak(&run).exits(0);
    // Until its supervisor has gone, it may still write.
    host.umiak(&["wait", "one"]).exits(0);
    checkpoint(&host);
    (host, subject)
}

/// Moves the journal into the file.
fn checkpoint(host: &Host) {
    let connection = rusqlite::Connection::open(file(host)).expect("opened");
    connection.busy_timeout(std::time::Duration::from_secs(10)).expect("set");
    let busy = || connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0));
    // The supervisor of what has just ended puts its records away for a moment.
    crate::cli::until("nobody has the database open", || busy() == Ok(false));
}

/// What may happen to the file.
type Damage = (&'static str, fn(&Host));

const DAMAGES: &[Damage] = &[
    ("garbage", |host| fs::write(file(host), super::noise(5, 40_000)).expect("written")),
    ("text", |host| fs::write(file(host), "no database").expect("written")),
    ("truncated", |host| {
        let half = fs::metadata(file(host)).expect("there").len() / 2;
        fs::File::options().write(true).open(file(host)).and_then(|f| f.set_len(half)).expect("cut");
    }),
    ("empty", |host| fs::write(file(host), "").expect("written")),
    ("gone", |host| fs::remove_file(file(host)).expect("removed")),
    ("a directory", |host| {
        fs::remove_file(file(host)).expect("removed");
        fs::create_dir(file(host)).expect("made");
    }),
];

const COMMANDS: &[(i32, &[&str])] = &[
    (1, &["images"]),
    (1, &["ps", "-a"]),
    (1, &["pull", "-q", "hello"]),
    (125, &["run", "--rm", "hello"]),
    (1, &["create", "hello"]),
    (1, &["rm", "one"]),
    (1, &["rmi", "hello"]),
    (1, &["load", "-i", "/dev/null"]),
    (1, &["image", "prune", "-af"]),
    (1, &["volume", "ls"]),
    (1, &["volume", "prune", "-af"]),
    (1, &["network", "ls"]),
    (1, &["system", "df"]),
    (1, &["system", "prune", "-af"]),
    (1, &["system", "check"]),
    (1, &["info"]),
];

#[test]
fn heavy_a_database_that_cannot_be_used_is_told_and_made_anew() {
    require!(root);
    let rogue = Rogue::new();
    for (what, damage) in DAMAGES {
        let (host, subject) = furnished(&rogue);
        for end in ["-wal", "-shm"] {
            let _not_there = fs::remove_file(host.root().join(format!("metadata.db{end}")));
        }
        damage(&host);
        let path = file(&host).display().to_string();
        for (status, command) in COMMANDS {
            let out = host.umiak(command);
            assert_eq!(out.status, *status, "{what}, {command:?}: {}{}", out.stdout, out.stderr);
            for word in [path.as_str(), "damaged", "system check --repair"] {
                assert!(out.stderr.contains(word), "{what}, {command:?}: {}", out.stderr);
            }
        }
        let said = host.umiak(&["system", "check", "--repair"]).exits(0).stdout;
        assert!(said.contains("repaired: database metadata.db"), "{what}: {said}");
        assert!(said.contains("nothing is wrong now"), "{what}: {said}");
        sound(&host, true, what);
        // The image is here, whatever became of its name; the volume has its files; the container's are put aside or its own.
        rogue.seen();
        let id = host.umiak(&["images", "-q", "--no-trunc"]).exits(0).text().to_owned();
        let out = host.umiak(&["run", "--rm", "--pull", "never", &id]).exits(0).stdout;
        assert!(out.contains("20000 /a"), "{what}: {out}");
        host.umiak(&["pull", "-q", &subject.name]).exits(0);
        let fetched = rogue
            .seen()
            .into_iter()
            .filter(|seen| subject.made.layers.iter().any(|l| seen.path.contains(l.hex())));
        assert_eq!(fetched.count(), 0, "{what}: layers that are here were fetched");
        let mine = |path: PathBuf| fs::read_to_string(path).expect("kept");
        assert_eq!(mine(host.root().join("volumes/vol/_data/mine")), "mine\n", "{what}");
        assert_eq!(host.umiak(&["volume", "ls", "-q"]).exits(0).stdout, "vol\n", "{what}");
        let [kept] = host.list("containers").try_into().expect("one container's files");
        assert_eq!(mine(host.root().join("containers").join(&kept).join("upper/mine")), "mine\n", "{what}");
        let known = host.umiak(&["ps", "-aq", "--no-trunc"]).exits(0).stdout;
        assert_eq!(kept.starts_with("lost-"), known.is_empty(), "{what}: {kept} {known}");
        if *what != "gone" {
            assert!(host.root().join("metadata.db.damaged-1").exists(), "{what}: the old file is gone");
        }
    }
}

/// One bad page: what is on the others is taken over.
#[test]
fn heavy_any_bad_page_costs_no_more_than_what_is_on_it() {
    require!(root);
    let rogue = Rogue::new();
    let (first, subject) = furnished(&rogue);
    let whole = fs::read(file(&first)).expect("read");
    let size = usize::from(u16::from_be_bytes([whole[16], whole[17]]));
    let pages = whole.len() / size;
    assert!(pages > 20, "{pages} pages");
    let (mut rebuilt, mut names) = (0, 0);
    for page in (1..pages).step_by(5) {
        checkpoint(&first);
        let mut bytes = whole.clone();
        bytes[page * size..(page + 1) * size].fill(0xa5);
        fs::write(file(&first), bytes).expect("written");
        let out = first.umiak(&["system", "check", "--repair"]);
        assert_eq!(out.status, 0, "page {page}: {}{}", out.stdout, out.stderr);
        rebuilt += usize::from(out.stdout.contains("repaired: database metadata.db"));
        let out = first.umiak(&["system", "check"]).exits(0).stdout;
        assert!(out.contains("nothing is wrong"), "page {page}: {out}");
        let id = first.umiak(&["images", "-q", "--no-trunc"]).exits(0).text().to_owned();
        first.umiak(&["run", "--rm", "--pull", "never", &id]).exits(0);
        names += usize::from(!first.umiak(&["images", "-q", &subject.name]).exits(0).stdout.is_empty());
        // As it was.
        for kept in first.list("containers") {
            if let Some(id) = kept.strip_prefix("lost-") {
                let all = first.root().join("containers");
                fs::rename(all.join(&kept), all.join(id)).expect("renamed");
            }
        }
    }
    assert!(rebuilt > 0, "no page mattered");
    assert!(names > rebuilt / 2, "{names} of {rebuilt} kept the name");
}

#[test]
fn a_newer_database_is_refused_and_left_alone() {
    require!(root);
    let host = Host::new();
    host.umiak(&["volume", "create", "vol"]).exits(0);
    let set = |version: i64| {
        let connection = rusqlite::Connection::open(file(&host)).expect("opened");
        connection.pragma_update(None, "user_version", version).expect("set");
    };
    let connection = rusqlite::Connection::open(file(&host)).expect("opened");
    let known: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).expect("read");
    drop(connection);
    set(known + 1);
    let path = file(&host).display().to_string();
    for command in [&["images"][..], &["system", "check", "--repair"], &["volume", "ls"]] {
        host.umiak(command).fails(1, &[&path, "schema version", "newer version"]);
    }
    set(known);
    assert_eq!(host.umiak(&["volume", "ls", "-q"]).exits(0).stdout, "vol\n");
    assert!(!host.root().join("metadata.db.damaged-1").exists());
}

#[test]
fn a_database_that_may_not_be_written_says_so() {
    require!(root);
    let (host, rogue, space) = (Host::new(), Rogue::new(), Space::new());
    let subject = Subject::at(&rogue, "frozen", 1, 20_000);
    host.umiak(&["pull", "-q", &subject.name]).exits(0);
    checkpoint(&host);
    let path = file(&host).display().to_string();
    space.sh(&format!("mount --bind {path} {path} && mount -o remount,bind,ro {path}"));
    for command in [&["pull", "-q", "hello"][..], &["tag", &subject.name, "x:1"], &["rmi", &subject.name]] {
        space.umiak(&host, command).fails(1, &[&path, "readonly"]);
    }
    space.unmount(&path);
    sound(&host, true, "afterwards");
}

/// A database that somebody writes to is not taken away from under him.
#[test]
fn nothing_is_made_anew_while_a_container_runs() {
    require!(root);
    let rogue = Rogue::new();
    let (host, subject) = furnished(&rogue);
    let run = ["run", "-d", "--name", "live", "--entrypoint", "/busybox", &subject.name, "sleep", "10000"];
    host.umiak(&run).exits(0);
    let good = fs::read(file(&host)).expect("read");
    fs::write(file(&host), super::noise(5, 40_000)).expect("written");
    host.umiak(&["system", "check", "--repair"]).fails(1, &["damaged", "while container"]);
    fs::write(file(&host), good).expect("written");
    host.umiak(&["rm", "-f", "live"]).exits(0);
}
