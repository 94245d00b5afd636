//! Tests of the metadata database.

use std::collections::BTreeMap;
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use super::*;
use crate::model::{
    Container, ContainerConfig, ContainerId, Digest, ExecutorChoice, HostConfig, Image, ImageConfig,
    Kind as _, Layer, LayerKind, Packaging, Platform, RunState, RuntimeStatus, Timestamp,
};

pub(crate) fn image(seed: &str, platform: &str) -> Image {
    Image {
        id: Digest::of(seed.as_bytes()),
        manifest: Digest::of(format!("{seed} manifest").as_bytes()),
        target: Digest::of(format!("{seed} target").as_bytes()),
        platform: platform.parse::<Platform>().unwrap(),
        platform_as_published: platform.into(),
        packaging: Packaging::Image,
        created: None,
        author: None,
        config: ImageConfig::default(),
        layers: vec![Layer {
            digest: Digest::of(format!("{seed} gz").as_bytes()),
            diff_id: Digest::of(format!("{seed} layer").as_bytes()),
            size: 1,
            kind: LayerKind::TarGzip,
        }],
        unpacked_size: 1,
        history: Vec::new(),
    }
}

pub(crate) fn container(number: u32, name: &str, image: &Image) -> Container {
    let mut id = [0; 32];
    id[..4].copy_from_slice(&number.to_be_bytes());
    Container {
        id: ContainerId::from_bytes(id),
        name: name.into(),
        created: Timestamp::from_second(i64::from(number)).unwrap(),
        image: image.id.clone(),
        image_name: "x".into(),
        layers: image.layers.iter().map(|layer| layer.diff_id.clone()).collect(),
        platform: image.platform.clone(),
        executor: ExecutorChoice { name: "linux".into(), reason: "test".into(), runtime: None },
        config: ContainerConfig::default(),
        host: HostConfig::default(),
        state: RunState::default(),
    }
}

#[test]
fn the_journal_stays_short_however_short_lived_its_writers_are() {
    let root = tempfile::tempdir().unwrap();
    let image = image("a", "linux/amd64");
    Database::open(root.path()).unwrap().put_image(&image, Some("x:latest")).unwrap();
    let journal = || std::fs::metadata(root.path().join("metadata.db-wal")).unwrap().len();
    let mut longest = 0;
    for number in 0..200 {
        let database = Database::open(root.path()).unwrap();
        database.insert_container(&container(number, &format!("c{number}"), &image)).unwrap();
        longest = longest.max(journal());
    }
    assert!(longest < 2 * JOURNAL, "{longest}");
    let database = Database::open(root.path()).unwrap();
    // One who reads keeps the journal as it is, and keeps nobody from writing.
    let reader = Connection::open(root.path().join(Database::FILE)).unwrap();
    let mut all = reader.prepare("SELECT id FROM containers").unwrap();
    let mut rows = all.query([]).unwrap();
    assert!(rows.next().unwrap().is_some());
    for number in 200..300 {
        database.insert_container(&container(number, &format!("c{number}"), &image)).unwrap();
    }
    drop(rows);
    database.settle();
    assert!(journal() <= SETTLED, "{}", journal());
    assert_eq!(database.containers().unwrap().len(), 300);
}

#[test]
fn a_name_moves_between_images_of_one_platform_and_is_shared_by_several_platforms() {
    let root = tempfile::tempdir().unwrap();
    let db = Database::open(root.path()).unwrap();
    let (old, new, wasm) = (image("a", "linux/amd64"), image("b", "linux/amd64"), image("c", "wasi/wasm"));
    for image in [&old, &wasm, &new] {
        db.put_image(image, Some("x:latest")).unwrap();
    }
    assert_eq!(db.image(&old.id).unwrap().unwrap().names, Vec::<String>::new());
    assert_eq!(db.image_by_name("x:latest", None).unwrap().len(), 2);
    let linux = db.image_by_name("x:latest", Some(&new.platform)).unwrap();
    assert_eq!(linux.iter().map(|s| &s.image).collect::<Vec<_>>(), [&new]);
    db.tag(&wasm, "y:1").unwrap();
    assert_eq!(db.image(&wasm.id).unwrap().unwrap().names, ["x:latest", "y:1"]);
    assert_eq!(db.untag("x:latest").unwrap().len(), 2);
    assert_eq!(db.images().unwrap().len(), 3);
    assert_eq!(db.images_by_id_prefix(old.id.short()).unwrap().len(), 1);
    assert!(matches!(db.tag(&image("none", "linux/amd64"), "z"), Err(StateError::NoImage { .. })));
}

#[test]
fn an_image_in_use_stays_and_what_nobody_uses_is_collected() {
    let root = tempfile::tempdir().unwrap();
    let db = Database::open(root.path()).unwrap();
    let image = image("a", "linux/amd64");
    db.put_image(&image, None).unwrap();
    let user = container(1, "one", &image);
    db.insert_container(&user).unwrap();
    let error = db.remove_image(&image.id).unwrap_err();
    assert!(
        matches!(&error, StateError::InUse { containers, .. } if containers == std::slice::from_ref(&user.id))
    );
    assert_eq!(error.kind(), crate::model::ErrorKind::Conflict);
    db.remove_container(&user.id, &[]).unwrap();
    let layer = image.layers[0].diff_id.clone();
    let (leased, stray) = (Digest::of(b"leased"), Digest::of(b"stray"));
    let present = [layer, leased.clone(), stray.clone()];
    let lease = db.lease(std::slice::from_ref(&leased)).unwrap();
    let unused = || db.collect(Content::Layer, &present, Ok::<_, std::io::Error>).unwrap();
    assert_eq!(unused(), std::slice::from_ref(&stray));
    db.remove_image(&image.id).unwrap();
    db.release(lease).unwrap();
    assert_eq!(unused(), present);
    db.lease(&present).unwrap();
    assert_eq!(unused(), []);
    // Held by a process that lives: this one.
    let other = Database::open(root.path()).unwrap();
    assert!(other.abandoned().unwrap().is_empty());
    drop(db);
    let dead = other.abandoned().unwrap();
    assert_eq!((dead.len(), dead[0].content.len(), dead[0].rebooted), (1, present.len(), false));
    assert!(other.abandoned().unwrap().is_empty(), "whoever found it first has it");
    other.forget(&dead[0]).unwrap();
    assert!(other.abandoned().unwrap().is_empty());
    assert_eq!(other.collect(Content::Layer, &present, Ok::<_, std::io::Error>).unwrap(), present);
    std::fs::write(root.path().join("leases/99"), "").unwrap();
    let held = other.lease(&[]).unwrap();
    assert_eq!(other.sweep_leases().unwrap(), 1);
    other.release(held).unwrap();
    assert_eq!(std::fs::read_dir(root.path().join("leases")).unwrap().count(), 0);
}

#[test]
fn pins_and_the_last_use() {
    let root = tempfile::tempdir().unwrap();
    let db = Database::open(root.path()).unwrap();
    let (first, second) = (image("a", "linux/amd64"), image("b", "linux/amd64"));
    for image in [&first, &second] {
        db.put_image(image, Some(&format!("docker.io/library/{}:1", image.id.short()))).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(3));
    }
    let order = || db.image_uses().unwrap().into_iter().map(|one| one.image).collect::<Vec<_>>();
    assert_eq!(order(), [first.id.clone(), second.id.clone()]);
    let user = container(1, "one", &first);
    db.insert_container(&user).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(3));
    assert_eq!(order(), [second.id.clone(), first.id.clone()]);
    assert!(db.image_uses().unwrap()[1].in_use);
    db.remove_container(&user.id, &[]).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(3));
    assert!(db.pin(&second.id, true).unwrap() && !db.pin(&second.id, true).unwrap());
    db.put_image(&second, None).unwrap();
    assert!(db.is_pinned(&second.id).unwrap() && !db.is_pinned(&first.id).unwrap());
    assert_eq!(order(), [first.id.clone(), second.id.clone()], "put again is used again");
    assert!(db.pin(&second.id, false).unwrap());
    assert!(matches!(db.pin(&Digest::of(b"no"), true), Err(StateError::NoImage { .. })));
    assert_eq!(db.check(true).unwrap(), []);
}

#[test]
fn one_of_eight_threads_gets_a_name() {
    let root = tempfile::tempdir().unwrap();
    let image = image("a", "linux/amd64");
    Database::open(root.path()).unwrap().put_image(&image, None).unwrap();
    let barrier = Barrier::new(8);
    let results: Vec<_> = thread::scope(|scope| {
        let handles: Vec<_> = (0..8)
            .map(|number| {
                let (image, barrier, root) = (&image, &barrier, root.path());
                scope.spawn(move || {
                    let db = Database::open(root).unwrap();
                    barrier.wait();
                    db.insert_container(&container(number, "same", image))
                })
            })
            .collect();
        handles.into_iter().map(|handle| handle.join().unwrap()).collect()
    });
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    let taken =
        |r: &&Result<(), StateError>| matches!(r, Err(StateError::NameTaken { name, .. }) if name == "same");
    assert_eq!(results.iter().filter(taken).count(), 7);
}

#[test]
fn containers_are_found_by_name_and_prefix_and_keep_the_last_state() {
    let root = tempfile::tempdir().unwrap();
    let db = Database::open(root.path()).unwrap();
    let image = image("a", "linux/amd64");
    db.put_image(&image, None).unwrap();
    for (number, name) in [(0xabcd_0001, "one"), (0xabcd_0002, "two"), (0x1234_0000, "abcd")] {
        db.insert_container(&container(number, name, &image)).unwrap();
    }
    for (query, names) in [
        ("one", vec!["one"]),
        ("/one", vec!["one"]),
        ("abcd", vec!["abcd"]),
        ("abcd0", vec!["one", "two"]),
        ("", vec![]),
        ("%", vec![]),
        ("ABCD0", vec![]),
    ] {
        let found = db.containers_matching(query).unwrap();
        assert_eq!(found.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), names, "{query}");
    }
    let id = container(0xabcd_0001, "one", &image).id;
    let running = RunState { status: RuntimeStatus::Running, pid: 7, ..RunState::default() };
    db.set_run_state(&id, &running, &[]).unwrap();
    assert_eq!(db.container(&id).unwrap().unwrap().state, running);
    let counts = BTreeMap::from([("created".to_owned(), 2), ("running".to_owned(), 1)]);
    assert_eq!(db.count_containers().unwrap(), counts);
    let absent = container(9, "x", &image).id;
    assert!(matches!(db.set_run_state(&absent, &running, &[]), Err(StateError::NoContainer { .. })));
}

#[test]
fn a_newer_schema_is_refused_and_untouched() {
    let root = tempfile::tempdir().unwrap();
    drop(Database::open(root.path()).unwrap());
    let raw = rusqlite::Connection::open(root.path().join(Database::FILE)).unwrap();
    raw.pragma_update(None, "user_version", 99).unwrap();
    let error = Database::open(root.path()).unwrap_err();
    assert!(matches!(error, StateError::NewerSchema { found: 99, .. }));
}

/// Figures, for people: `cargo test --release --lib state -- --ignored --nocapture`.
#[test]
#[ignore = "measures"]
#[expect(clippy::print_stderr, reason = "its purpose")]
fn figures() {
    let root = tempfile::tempdir().unwrap();
    let image = image("a", "linux/amd64");
    let db = Database::open(root.path()).unwrap();
    db.put_image(&image, Some("x")).unwrap();
    for number in 0..1000 {
        db.insert_container(&container(number, &format!("c{number}"), &image)).unwrap();
    }
    let start = Instant::now();
    assert_eq!(db.containers().unwrap().len(), 1000);
    eprintln!("containers() of 1000: {:?}", start.elapsed());
    drop(db);
    let start = Instant::now();
    for _ in 0..100 {
        Database::open(root.path()).unwrap().image_by_name("x", None).unwrap();
    }
    eprintln!("open and one read: {:?}", start.elapsed() / 100);
    let db = Database::open(root.path()).unwrap();
    let start = Instant::now();
    for _ in 0..100 {
        db.set_run_state(&container(1, "", &image).id, &RunState::default(), &[]).unwrap();
    }
    eprintln!("set_run_state: {:?}", start.elapsed() / 100);
}

/// One config by two manifests: each name keeps its own, and what no name has any more is collected.
#[test]
fn names_of_one_image_keep_what_they_came_by() {
    let root = tempfile::tempdir().unwrap();
    let db = Database::open(root.path()).unwrap();
    let gzip = image("a", "linux/amd64");
    let other = image("b", "linux/amd64");
    let mut zstd = gzip.clone();
    (zstd.manifest, zstd.target) = (other.manifest.clone(), other.target.clone());
    zstd.layers[0].digest = other.layers[0].digest.clone();
    db.put_image(&gzip, Some("x:gzip")).unwrap();
    db.put_image(&zstd, Some("x:zstd")).unwrap();
    let named = |name: &str| db.image_by_name(name, None).unwrap().pop().unwrap();
    let of = |name: &str| named(name).image;
    assert_eq!((of("x:gzip"), of("x:zstd")), (gzip.clone(), zstd.clone()));
    // A name more is as the one it was given by.
    db.tag(&of("x:gzip"), "y:1").unwrap();
    db.tag(&of("x:zstd"), "z:1").unwrap();
    assert_eq!((of("y:1"), of("z:1")), (gzip.clone(), zstd.clone()));
    assert_eq!(named("y:1").names, ["x:gzip", "x:zstd", "y:1", "z:1"]);
    for seen in [named("y:1"), named("z:1"), db.images().unwrap().pop().unwrap()] {
        let mut versions: Vec<_> = seen.versions().into_iter().map(|v| (v.names, v.image)).collect();
        versions.sort_by(|a, b| a.0.cmp(&b.0));
        let expected = [(["x:gzip", "y:1"], &gzip), (["x:zstd", "z:1"], &zstd)];
        assert_eq!(versions.len(), 2);
        for ((names, image), (expected, wanted)) in versions.iter().zip(expected) {
            assert_eq!((names.as_slice(), image), (expected.map(str::to_owned).as_slice(), wanted));
        }
    }
    let unused = || {
        let all = [&gzip, &zstd].map(|image| image.layers[0].digest.clone());
        db.collect(Content::Blob, &all, Ok::<_, std::io::Error>).unwrap()
    };
    assert_eq!(unused(), []);
    // The last name of one goes: so does what it came by, and the image is as the others have it.
    for name in ["x:zstd", "z:1"] {
        db.untag(name).unwrap();
    }
    assert_eq!(unused(), [zstd.layers[0].digest.clone()]);
    assert_eq!(db.image(&gzip.id).unwrap().unwrap().image, gzip);
    // Found by its digest, it is as it was found.
    db.put_image(&zstd, Some("x:zstd")).unwrap();
    let found = db.image(&gzip.id).unwrap().unwrap().found_by(&gzip.manifest, &gzip.target);
    assert_eq!(found.image, gzip);
    // Another image takes a name.
    db.put_image(&other, Some("y:1")).unwrap();
    db.put_image(&other, Some("x:gzip")).unwrap();
    assert_eq!(unused(), [gzip.layers[0].digest.clone()]);
    assert_eq!(db.check(true).unwrap(), []);
}
