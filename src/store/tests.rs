//! Tests of the store as a whole.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use tar::{Builder, EntryType, Header};

use super::*;
use crate::model::{ContainerId, Image, LayerKind};

fn open() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("canary"), "alive").unwrap();
    let store = Store::open(&directory.path().join("root")).unwrap();
    (directory, store)
}

/// One entry: type, name, link target or content.
type Item<'i> = (EntryType, &'i str, &'i str);

const F: EntryType = EntryType::Regular;
const D: EntryType = EntryType::Directory;
const S: EntryType = EntryType::Symlink;
const H: EntryType = EntryType::Link;

fn archive(items: &[Item<'_>]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (kind, name, rest) in items {
        let mut header = Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o755);
        header.set_mtime(1000);
        header.set_uid(0);
        header.set_gid(0);
        let link = matches!(*kind, S | H);
        // Written raw: the crate's own setters refuse the names that matter here.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        if link {
            header.as_old_mut().linkname[..rest.len()].copy_from_slice(rest.as_bytes());
        }
        if matches!(*kind, EntryType::Char) {
            let (major, minor) = rest.split_once(':').unwrap();
            header.set_device_major(major.parse().unwrap()).unwrap();
            header.set_device_minor(minor.parse().unwrap()).unwrap();
        }
        let content = if *kind == F { rest.as_bytes() } else { b"" };
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, content).unwrap();
    }
    builder.into_inner().unwrap()
}

fn unpack(store: &Store, bytes: &[u8]) -> Result<PathBuf, StoreError> {
    let diff_id = Digest::of(bytes);
    if let Some(mut writer) = store.layers().begin(&diff_id)? {
        writer.apply(bytes, LayerKind::Tar)?;
        writer.commit()?;
    }
    Ok(store.layers().path(&diff_id))
}

/// The store's surroundings are as they were.
fn unharmed(directory: &Path) {
    assert_eq!(fs::read_to_string(directory.join("canary")).unwrap(), "alive");
    let mut names: Vec<_> = fs::read_dir(directory).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["canary", "root"]);
}

#[test]
fn hostile_archives_stay_in_the_root() {
    let refused = |items: &[Item<'_>], reason: EntryRefusal| {
        let (directory, store) = open();
        match unpack(&store, &archive(items)).unwrap_err() {
            StoreError::Layer { source: LayerError::Entry { reason: found, .. }, .. } => {
                assert_eq!(found, reason, "{items:?}");
            }
            other => panic!("{items:?}: {other:?}"),
        }
        unharmed(directory.path());
        assert_eq!(fs::read_dir(store.layer_root()).unwrap().count(), 0, "nothing is left of {items:?}");
    };
    refused(&[(F, "../x", "")], EntryRefusal::Escape);
    refused(&[(F, "a/../../x", "")], EntryRefusal::Escape);
    refused(&[(D, "..", "")], EntryRefusal::Escape);
    refused(&[(F, "", "x")], EntryRefusal::Name);
    refused(&[(H, "h", "/etc/passwd")], EntryRefusal::LinkTarget);
    refused(&[(H, "h", "../../canary")], EntryRefusal::Escape);
    refused(&[(H, "h", "h")], EntryRefusal::LinkTarget);
    refused(&[(S, "s", "../.."), (H, "h", "s/canary")], EntryRefusal::LinkTarget);
    refused(&[(H, "h", "later"), (F, "later", "")], EntryRefusal::LinkTarget);
    refused(&[(S, "a", "b"), (S, "b", "a"), (F, "a/f", "")], EntryRefusal::Loop);
    refused(&[(F, "a", ""), (F, "a/f", "")], EntryRefusal::NotDirectory);
    for name in [".wh.", ".wh..", ".wh...", "d/.wh."] {
        refused(&[(F, name, "")], EntryRefusal::Whiteout);
    }
    refused(&[(EntryType::Char, "c", "0:0")], EntryRefusal::ReservedDevice);
    refused(&[(EntryType::new(b'7'), "ok", ""), (EntryType::new(b'Q'), "q", "")], EntryRefusal::Type);
}

#[test]
fn names_through_links_resolve_within_the_root() {
    for items in [
        &[(S, "a", "../.."), (F, "a/f", "in")][..],
        &[(S, "a", "/"), (F, "a/f", "in")],
        &[(S, "a", "b"), (S, "b", "../../../.."), (F, "a/f", "in")],
        &[(F, "/f", "in")],
        &[(F, "//./f", "in")],
        &[(F, "f", "out"), (F, "f", "in")],
        &[(S, "f", "/canary"), (F, "f", "in")],
        &[(D, "f", ""), (F, "f/x", ""), (F, "f", "in")],
    ] {
        let (directory, store) = open();
        let root = unpack(&store, &archive(items)).unwrap();
        assert_eq!(fs::read_to_string(root.join("f")).unwrap(), "in", "{items:?}");
        unharmed(directory.path());
    }
}

#[test]
fn a_directory_replaces_a_link_and_leaves_its_target_alone() {
    let (directory, store) = open();
    let outside = directory.path().to_str().unwrap();
    let before = fs::metadata(outside).unwrap().permissions();
    let root = unpack(&store, &archive(&[(S, "d", outside), (D, "d", "")])).unwrap();
    assert!(fs::symlink_metadata(root.join("d")).unwrap().is_dir());
    assert_eq!(fs::metadata(outside).unwrap().permissions(), before);
}

#[test]
fn damage_is_an_error_and_leaves_nothing() {
    let (_directory, store) = open();
    let whole = archive(&[(F, "f", &"x".repeat(3000))]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&whole).unwrap();
    let gzip = gzip.finish().unwrap();
    let id = Digest::of(&whole);
    let mut bent = gzip.clone();
    let middle = bent.len() / 2;
    bent[middle] ^= 0x55;
    for bytes in [
        &whole[..700],
        &whole[..2000],
        &gzip[..gzip.len() - 9],
        &bent[..],
        &[&gzip[..], b"junk"].concat()[..],
        b"",
    ] {
        let mut writer = store.layers().begin(&id).unwrap().unwrap();
        assert!(writer.apply(bytes, LayerKind::TarGzip).is_err());
        assert!(writer.commit().is_err());
        assert!(!store.layers().has(&id));
    }
    assert_eq!(fs::read_dir(store.layer_root()).unwrap().count(), 0);
    // Members one after another, and padding, are fine.
    let halves: Vec<u8> = [&whole[..1000], &whole[1000..]]
        .iter()
        .flat_map(|half| {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gzip.write_all(half).unwrap();
            gzip.finish().unwrap()
        })
        .chain([0; 100])
        .collect();
    let mut writer = store.layers().begin(&id).unwrap().unwrap();
    assert_eq!(writer.apply(&halves[..], LayerKind::TarGzip).unwrap().unpacked_size, 3000);
    let zstd = zstd::encode_all(&whole[..], 1).unwrap();
    drop(writer);
    let mut writer = store.layers().begin(&id).unwrap().unwrap();
    writer.apply(&zstd[..], LayerKind::TarZstd).unwrap();
    writer.commit().unwrap();
    assert!(store.layers().has(&id) && store.layers().begin(&id).unwrap().is_none());
}

#[test]
fn bounds_hold() {
    let (_directory, store) = open();
    let bytes = archive(&[(F, "a", "1234"), (F, "b", "")]);
    for limits in [Limits { entries: 1, ..Limits::default() }, Limits { unpacked: 1000, ..Limits::default() }]
    {
        let mut writer = store.layers().begin(&Digest::of(&bytes)).unwrap().unwrap().with_limits(limits);
        let error = writer.apply(&bytes[..], LayerKind::Tar).unwrap_err();
        assert!(matches!(error, StoreError::Layer { source: LayerError::TooLarge { .. }, .. }), "{error:?}");
    }
}

#[test]
fn a_wasm_layer_is_one_file() {
    let (_directory, store) = open();
    for (bytes, good) in [(&b"\0asm\x01\0\0\0"[..], true), (b"\0as", false), (b"<html>", false)] {
        let mut writer = store.layers().begin(&Digest::of(bytes)).unwrap().unwrap();
        assert_eq!(writer.apply(bytes, LayerKind::Wasm).is_ok(), good);
        if good {
            writer.commit().unwrap();
            let path = store.layers().path(&Digest::of(bytes)).join(Image::WASM_FILE);
            assert_eq!(fs::read(path).unwrap(), bytes);
        }
    }
}

#[test]
fn a_download_is_taken_up_where_it_broke_off() {
    let (_directory, store) = open();
    let content = store.content();
    let id = Digest::of(b"hello world");
    let mut first = content.ingest(&id, 11).unwrap();
    first.write(b"hello ").unwrap();
    assert!(content.try_ingest(&id, 11).unwrap().is_none(), "exclusive");
    drop(first);
    assert!(!content.has(&id));
    let mut second = content.ingest(&id, 11).unwrap();
    assert_eq!(second.offset(), 6);
    assert!(matches!(second.write(b"world!"), Err(StoreError::SizeMismatch { found: 12, .. })));
    second.write(b"world").unwrap();
    second.finish().unwrap();
    assert_eq!(content.read_small(&id, 11).unwrap(), b"hello world");
    assert!(matches!(content.read_small(&id, 10), Err(StoreError::TooLarge { .. })));
    assert!(content.ingest(&id, 11).unwrap().is_complete());
    let wrong = Digest::of(b"other bytes");
    let mut third = content.ingest(&wrong, 11).unwrap();
    third.write(b"hello world").unwrap();
    assert!(matches!(third.finish(), Err(StoreError::DigestMismatch { .. })));
    assert!(!content.has(&wrong));
    assert_eq!(content.ingest(&wrong, 11).unwrap().offset(), 0);
    fs::write(content.path(&id), "hello_world").unwrap();
    assert!(matches!(content.read_small(&id, 11), Err(StoreError::DigestMismatch { .. })));
}

#[test]
fn a_waiting_puller_finds_the_layer_done() {
    let (_directory, store) = open();
    let bytes = archive(&[(F, "f", "x")]);
    let id = Digest::of(&bytes);
    let mut writer = store.layers().begin(&id).unwrap().unwrap();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| store.layers().begin(&id).unwrap().is_none());
        std::thread::sleep(Duration::from_millis(30));
        writer.apply(&bytes[..], LayerKind::Tar).unwrap();
        writer.commit().unwrap();
        assert!(waiter.join().unwrap());
    });
    assert_eq!(fs::read_dir(store.layer_root()).unwrap().count(), 1, "no lock file stays");
}

#[test]
fn a_sweep_takes_what_is_abandoned_and_nothing_else() {
    let (_directory, store) = open();
    let (held, dead) = (Digest::of(b"held"), Digest::of(b"dead"));
    let _writer = store.layers().begin(&held).unwrap().unwrap();
    let mut ingest = store.content().ingest(&held, 4).unwrap();
    ingest.write(b"he").unwrap();
    fs::create_dir(store.layer_root().join(format!("tmp-{}", dead.hex()))).unwrap();
    fs::create_dir(store.container_root().join("gone-x")).unwrap();
    fs::write(store.ingests().join(format!("{}.part", dead.hex())), "de").unwrap();
    assert_eq!(store.sweep(Duration::from_hours(1)).unwrap(), Swept { temporary: 2, downloads: 0 });
    assert_eq!(store.sweep(Duration::ZERO).unwrap(), Swept { temporary: 0, downloads: 1 });
    assert_eq!(ingest.offset(), 2);
    assert!(ingest.path().exists());
}

#[test]
fn another_layout_is_refused() {
    let (directory, store) = open();
    fs::write(store.root().join("version"), "2\n").unwrap();
    assert!(matches!(Store::open(&directory.path().join("root")), Err(StoreError::Version { .. })));
}

#[test]
fn copies_apply_whiteouts_in_order() {
    let (_directory, store) = open();
    let lower = [(F, "a", "1"), (D, "d", ""), (F, "d/x", "1"), (D, "o", ""), (F, "o/x", "1"), (S, "l", "d")];
    let upper = [
        (F, ".wh.a", ""),
        (F, "o/y", "2"),
        (F, "o/.wh..wh..opq", ""),
        (F, ".wh.d", ""),
        (D, "d", ""),
        (F, "d/z", "2"),
        (F, "l/q", "2"),
        (F, "h1", "h"),
        (H, "h2", "h1"),
        (F, ".wh..wh.plnk", ""),
    ];
    let layers: Vec<Digest> = [archive(&lower), archive(&upper)]
        .iter()
        .map(|bytes| {
            unpack(&store, bytes).unwrap();
            Digest::of(bytes)
        })
        .collect();
    let id = ContainerId::from_bytes([1; 32]);
    let copy = snapshot::Copy::new(&store);
    let Root::Directory(root) = copy.prepare(&id, &layers).unwrap() else { panic!("a directory") };
    for (path, there) in [
        ("a", false),
        ("o/x", false),
        ("o/y", true),
        ("d/x", false),
        ("d/z", true),
        ("l/q", true),
        ("d/q", false),
        ("h2", true),
        (".wh.a", false),
    ] {
        assert_eq!(root.join(path).exists(), there, "{path}");
    }
    assert!(fs::symlink_metadata(root.join("l")).unwrap().is_dir(), "not written through the link");
    fs::write(root.join("kept"), "").unwrap();
    copy.prepare(&id, &layers).unwrap();
    assert!(root.join("kept").exists());
    copy.remove(&id).unwrap();
    copy.remove(&id).unwrap();
    assert_eq!(fs::read_dir(store.container_root()).unwrap().count(), 0);
    let missing = copy.prepare(&id, &[Digest::of(b"none")]);
    assert!(matches!(missing, Err(StoreError::Missing { .. })));
    let overlay = snapshot::Overlay::new(&store);
    if cfg!(target_os = "linux") {
        let Root::Overlay { lower, upper, work, .. } = overlay.prepare(&id, &layers).unwrap() else {
            panic!("an overlay")
        };
        assert_eq!(lower, [store.layers().path(&layers[1]), store.layers().path(&layers[0])]);
        assert!(upper.is_dir() && work.is_dir());
        // What a volatile mount leaves, by which the kernel would refuse the next.
        let mark = work.join("work/incompat/volatile");
        fs::create_dir_all(mark.join("dirty")).unwrap();
        overlay.prepare(&id, &layers).unwrap();
        assert!(!mark.exists());
        overlay.remove(&id).unwrap();
        assert!(!upper.exists());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn arbitrary_bytes_neither_panic_nor_escape(
        names in proptest::collection::vec("(\\.\\.|a|b|\\.wh\\.a|/|\\.){1,4}(/(\\.\\.|a|b)){0,3}", 1..8),
        kinds in proptest::collection::vec(prop_oneof![Just(b'0'), Just(b'1'), Just(b'2'), Just(b'5'), Just(b'x'), any::<u8>()], 8),
        flips in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let (directory, store) = open();
        let items: Vec<Item<'_>> = names
            .iter()
            .enumerate()
            .map(|(i, name)| (EntryType::new(kinds[i]), name.as_str(), names[i / 2].as_str()))
            .filter(|item| item.0 != EntryType::Char)
            .collect();
        let mut bytes = archive(&items);
        for (index, byte) in flips {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        let _ = unpack(&store, &bytes);
        unharmed(directory.path());
    }
}

/// `LAYERS=a.tar.gz:b.tar.gz TMPDIR=… cargo test --release --lib figures -- --ignored --nocapture`.
#[test]
#[ignore = "measures; needs LAYERS"]
#[expect(clippy::print_stderr, reason = "its purpose")]
fn unpack_figures() {
    let (directory, store) = open();
    let paths: Vec<PathBuf> = std::env::var("LAYERS").unwrap().split(':').map(PathBuf::from).collect();
    let known: Vec<Digest> = paths
        .iter()
        .map(|path| {
            use sha2::Digest as _;
            let mut hash = sha2::Sha256::new();
            let file = fs::File::open(path).unwrap();
            io::copy(&mut flate2::read::MultiGzDecoder::new(file), &mut hash).unwrap();
            Digest::from_hash(hash.finalize().into())
        })
        .collect();
    let start = Instant::now();
    let writers = std::thread::scope(|scope| {
        let threads: Vec<_> = paths
            .iter()
            .zip(&known)
            .map(|(path, id)| {
                let store = &store;
                scope.spawn(move || {
                    let mut writer = store.layers().begin(id).unwrap().unwrap();
                    let applied = writer.apply(fs::File::open(path).unwrap(), LayerKind::TarGzip).unwrap();
                    (writer, applied)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    eprintln!("applied in {:?}", start.elapsed());
    let mut all = Vec::new();
    for (writer, applied) in writers {
        eprintln!("{applied:?}");
        all.push(writer);
    }
    store.publish(all, Vec::new()).unwrap();
    eprintln!("published in {:?}", start.elapsed());
    if std::env::var_os("KEEP").is_some() {
        eprintln!("kept: {}", directory.keep().display());
    }
}
