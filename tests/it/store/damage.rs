//! Damage of every sort is found by `system check` and repaired by it; pins and the disk budget.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use super::{Subject, sound};
use crate::support::host::Host;
use crate::support::rogue::Rogue;
use crate::support::{registry, require};

fn sql(host: &Host, statement: &str) {
    let connection = rusqlite::Connection::open(host.root().join("metadata.db")).expect("opened");
    connection.execute_batch(statement).expect(statement);
}

fn blob(host: &Host, hex: &str) -> PathBuf {
    host.root().join("blobs/sha256").join(hex)
}

/// The layer that has a file of this name.
fn layer_with(host: &Host, name: &str) -> PathBuf {
    let all = host.layers().into_iter().map(|layer| host.root().join("layers").join(layer));
    all.into_iter().find(|layer| layer.join(name).exists()).expect("a layer with it")
}

/// Found (by a quick look or only by a full one), told, repaired, and sound again.
fn heals(host: &Host, what: &str, quick: bool, words: &str, damage: impl Fn()) {
    sound(host, true, what);
    damage();
    let out = host.umiak(&["system", "check", "--quick"]);
    assert_eq!(out.status, i32::from(quick), "{what}: {}", out.stdout);
    let out = host.umiak(&["system", "check"]);
    assert!(out.status == 1 && out.stdout.contains(words), "{what}: {}{}", out.stdout, out.stderr);
    let out = host.umiak(&["system", "check", "--repair"]);
    assert!(out.status == 0 && out.stdout.contains("repaired: "), "{what}: {}{}", out.stdout, out.stderr);
    sound(host, true, what);
}

#[test]
fn damage_is_found_and_repaired() {
    require!(root);
    let (host, rogue) = (Host::new(), Rogue::new());
    let subject = Subject::at(&rogue, "damaged", 1, 50_000);
    host.umiak(&["pull", "-q", &subject.name]).exits(0);
    let hex = subject.made.layers[0].hex().to_owned();
    let id = host.umiak(&["images", "-q", "--no-trunc"]).exits(0).text().replace("sha256:", "");
    heals(&host, "a blob's bytes", false, "its content has the digest", || {
        let mut bytes = fs::read(blob(&host, &hex)).expect("read");
        bytes[1000] ^= 1;
        fs::write(blob(&host, &hex), bytes).expect("written");
    });
    heals(&host, "a cut blob", true, "bytes instead of", || {
        fs::write(blob(&host, &hex), "short").expect("written");
    });
    heals(&host, "a missing blob", true, "it is missing", || {
        fs::remove_file(blob(&host, &hex)).expect("removed");
    });
    heals(&host, "a missing config", true, "it is missing", || {
        fs::remove_file(blob(&host, &id)).expect("removed");
    });
    heals(&host, "a file's bytes", false, "`c` has other content", || {
        let path = layer_with(&host, "c").join("c");
        let time = fs::metadata(&path).and_then(|meta| meta.modified()).expect("a time");
        fs::write(&path, "Y").expect("written");
        fs::File::options().write(true).open(&path).and_then(|file| file.set_modified(time)).expect("set");
    });
    heals(&host, "a file's time", true, "`d` has another time", || {
        fs::write(layer_with(&host, "c").join("d"), "dd").expect("written");
    });
    heals(&host, "a file more", true, "`new` is not in the archive", || {
        fs::write(layer_with(&host, "c").join("new"), "").expect("written");
    });
    heals(&host, "a file less", true, "`b` is missing", || {
        fs::remove_file(layer_with(&host, "b").join("b")).expect("removed");
    });
    heals(&host, "a missing layer", true, "it is missing", || {
        fs::remove_dir_all(layer_with(&host, "a")).expect("removed");
    });
    heals(&host, "layer and blob", true, "it is missing", || {
        fs::remove_dir_all(layer_with(&host, "a")).expect("removed");
        fs::remove_file(blob(&host, &hex)).expect("removed");
    });
    heals(&host, "an image's record", true, "its record cannot be read", || {
        sql(&host, "UPDATE images SET record = '{}'");
    });
    heals(&host, "a dangling name", true, "is not there", || {
        sql(
            &host,
            "PRAGMA foreign_keys=OFF; INSERT INTO names (name, platform, image) VALUES ('x', 'linux/amd64', 'sha256:0')",
        );
    });
    let out = host.umiak(&["run", "--rm", &subject.name]).exits(0).stdout;
    assert!(out.contains("50000 /a"), "{out}");
}

#[test]
fn containers_and_volumes_are_checked() {
    require!(root);
    let (host, rogue) = (Host::new(), Rogue::new());
    let subject = Subject::at(&rogue, "things", 1, 10_000);
    host.umiak(&["run", "--name", "one", "-v", "vol:/v", &subject.name]).exits(0);
    let volume = |name: &str| host.root().join("volumes").join(name);
    fs::write(volume("vol/_data/mine"), "mine").expect("written");
    heals(&host, "files of no container", true, "files of a container that is not recorded", || {
        fs::create_dir_all(host.root().join("containers").join("a".repeat(64)).join("upper")).expect("made");
    });
    heals(&host, "a dead container that is said to run", true, "recorded as running", || {
        sql(
            &host,
            "UPDATE containers SET status = 'running', state = json_set(state, '$.status', 'running')",
        );
    });
    heals(&host, "a volume without files", true, "its files are missing", || {
        fs::rename(volume("vol"), volume(".gone-vol-1")).expect("renamed");
    });
    assert_eq!(fs::read_to_string(volume("vol/_data/mine")).expect("they are back"), "mine");
    heals(&host, "a volume's record", true, "its record cannot be read", || {
        sql(&host, "UPDATE volumes SET record = '{'");
    });
    // Somebody's data: never removed, recorded again.
    heals(&host, "a volume that is not recorded", true, "it has files and no record", || {
        fs::create_dir_all(volume("lost/_data")).expect("made");
        fs::write(volume("lost/_data/mine"), "mine").expect("written");
    });
    assert!(host.umiak(&["volume", "ls", "-q"]).exits(0).stdout.contains("lost"));
    heals(&host, "a container's record", true, "its record cannot be read", || {
        sql(&host, "UPDATE containers SET record = '{'");
    });
    let kept = host.list("containers");
    assert!(kept.iter().any(|name| name.starts_with("lost-")), "its files are put aside: {kept:?}");
    assert!(host.umiak(&["ps", "-aq"]).exits(0).stdout.is_empty());
}

#[test]
fn what_cannot_be_repaired_is_told_and_left() {
    require!(root);
    let host = Host::new();
    let rogue = Rogue::new();
    let subject = Subject::at(&rogue, "gone", 1, 10_000);
    host.umiak(&["pull", "-q", &subject.name]).exits(0);
    let hex = subject.made.layers[0].hex().to_owned();
    drop(rogue);
    fs::remove_file(blob(&host, &hex)).expect("removed");
    let out = host.umiak(&["system", "check", "--repair"]).exits(1).stdout;
    assert!(out.contains("not repaired: ") && out.contains(&hex), "{out}");
    let json = host.umiak(&["system", "check", "--json"]).exits(1).stdout;
    let report: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((&report["Clean"], &report["Images"]), (&Value::Bool(false), &Value::from(1)));
    assert_eq!(report["Findings"][0]["Kind"], "blob");
    // The layer is there: the image runs all the same.
    host.umiak(&["run", "--rm", &subject.name]).exits(0);
}

#[test]
fn a_layer_under_a_running_container_stays() {
    require!(root, registry);
    let host = Host::new();
    let image = registry::busybox();
    let id = host.umiak(&["run", "-d", "--network", "none", &image, "sleep", "1000"]).exits(0);
    let layer = layer_with(&host, "bin");
    let path = layer.join("etc/group");
    fs::write(&path, "changed").expect("written");
    let out = host.umiak(&["system", "check", "--repair"]).exits(1).stdout;
    assert!(out.contains("a running container uses the layer"), "{out}");
    host.umiak(&["exec", id.text(), "true"]).exits(0);
    host.umiak(&["rm", "-f", id.text()]).exits(0);
    host.umiak(&["system", "check", "--repair"]).exits(0);
    assert!(fs::read_to_string(layer.join("etc/group")).expect("there").contains("alice"));
}

#[test]
fn pinned_images_stay_and_the_budget_takes_the_oldest() {
    require!(root);
    let (host, rogue) = (Host::new(), Rogue::new());
    let names: Vec<_> = (0..4_u64)
        .map(|number| Subject::at(&rogue, &format!("b{number}"), number * 9 + 1, 400_000).name)
        .collect();
    let config = host.dir().join("config.toml");
    let shown = || host.umiak(&["images", "--format", "{{.Repository}}"]).exits(0).stdout;
    let has = |name: &str| shown().lines().any(|line| line == name);
    host.umiak(&["pull", "-q", &names[0]]).exits(0);
    host.umiak(&["image", "pin", &names[0]]).exits(0);
    host.umiak(&["rmi", &names[0]]).fails(1, &["it is pinned", "unpin"]);
    host.umiak(&["image", "prune", "-af"]).exits(0);
    assert!(has(&names[0]));
    host.umiak(&["image", "pin", "nothing"]).fails(1, &["No such image"]);
    host.umiak(&["run", "--name", "user", &names[1]]).exits(0);
    host.umiak(&["pull", "-q", &names[2]]).exits(0);
    // Room for three images: the shell of 2 MB is in each first layer.
    let each = fs::metadata("/bin/busybox").expect("there").len() * 2 + 1_000_000;
    fs::write(&config, format!("[store]\nbudget = {}\n", each * 3)).expect("written");
    let config = config.to_str().expect("UTF-8");
    host.umiak(&["--config", config, "pull", "-q", &names[3]]).exits(0);
    assert!(has(&names[0]) && has(&names[1]) && has(&names[3]), "{}", shown());
    assert!(!has(&names[2]), "neither pinned, nor used, nor new: {}", shown());
    host.umiak(&["rm", "user"]).exits(0);
    host.umiak(&["image", "unpin", &names[0]]).exits(0);
    fs::write(config, "[store]\nbudget = \"1kB\"\n").expect("written");
    let out = host.umiak(&["--config", config, "system", "prune", "-f"]).exits(0).stdout;
    assert!(out.contains("Deleted Images (disk budget):"), "{out}");
    assert_eq!(shown(), "");
    assert!(host.layers().is_empty());
}

#[test]
fn after_the_machine_stopped_what_was_in_flight_is_looked_at() {
    require!(root);
    let (host, rogue) = (Host::new(), Rogue::new());
    let subject = Subject::at(&rogue, "flight", 1, 50_000);
    host.umiak(&["pull", "-q", &subject.name]).exits(0);
    let hex = subject.made.layers[0].hex().to_owned();
    // As a power cut would leave it if the disk lied: the lease's row, and bad bytes under good names.
    let layer = layer_with(&host, "b");
    let diff_id = layer.file_name().expect("a name").to_string_lossy().into_owned();
    sql(
        &host,
        &format!(
            "INSERT INTO leases (id, taken, boot) VALUES (99, 'x', 'another');
        INSERT INTO lease_content VALUES (99, 'sha256:{hex}'), (99, 'sha256:{diff_id}')"
        ),
    );
    fs::write(blob(&host, &hex), "bad").expect("written");
    fs::write(layer.join("b"), "bad").expect("written");
    let out = host.umiak(&["run", "--rm", &subject.name]).exits(0).stdout;
    assert!(out.contains("25000 /b"), "{out}");
    assert!(!blob(&host, &hex).exists(), "a bad blob goes");
    host.umiak(&["system", "check", "--repair"]).exits(0);
    sound(&host, true, "in the end");
}

#[test]
fn a_bad_partial_download_is_fetched_again_by_the_same_pull() {
    require!(root);
    let (host, rogue) = (Host::new(), Rogue::new());
    let subject = Subject::at(&rogue, "stale", 1, 100_000);
    host.umiak(&["images"]).exits(0);
    host.umiak(&["image", "prune", "-f"]).exits(0);
    // The length of a download, and none of its bytes: what a file system may keep of one that was not synced.
    let hex = subject.made.layers[0].hex();
    fs::write(host.root().join("ingest").join(format!("{hex}.part")), vec![0; 60_000]).expect("written");
    let out = host.umiak(&["run", "--rm", &subject.name]).exits(0).stdout;
    assert!(out.contains("100000 /a"), "{out}");
    sound(&host, true, "in the end");
}

#[test]
fn a_pull_fetches_the_blob_of_a_layer_that_is_here_without_it() {
    require!(root);
    let (host, rogue) = (Host::new(), Rogue::new());
    let subject = Subject::at(&rogue, "half", 1, 20_000);
    host.umiak(&["pull", "-q", &subject.name]).exits(0);
    let hex = subject.made.layers[0].hex();
    // As a collection leaves it that is killed between the blobs and the layers.
    sql(&host, "DELETE FROM images");
    fs::remove_file(blob(&host, hex)).expect("removed");
    host.umiak(&["pull", "-q", &subject.name]).exits(0);
    assert!(blob(&host, hex).exists());
    sound(&host, true, "pulled again");
    // And of one that is recorded as well.
    fs::remove_file(blob(&host, hex)).expect("removed");
    host.umiak(&["pull", "-q", &subject.name]).exits(0);
    sound(&host, true, "pulled once more");
}
