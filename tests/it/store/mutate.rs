//! Archives and manifests as chance makes them, and archives of other programs against GNU tar's own reading of them.
//!
//! The bytes are those of good archives with bits, fields, blocks and ends changed. Whatever comes of them is an error or a tree
//! within its root; nothing panics, nothing is left, nothing around the store changes. `UMIAK_FUZZ_ROUNDS` makes it longer.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;
use umiak::model::{Digest, LayerKind};
use umiak::store::{Limits, Store, StoreError};

use super::noise;
use crate::support::require;
use crate::support::tar::{archive, device, dir, file, hard_link, symlink};

const LIMITS: Limits = Limits { entries: 10_000, unpacked: 64 << 20 };

/// What a tree looks like: kind, size, mode, seconds, target of a link.
type Seen = (u32, u64, i64, PathBuf);

fn look(root: &Path) -> BTreeMap<PathBuf, Seen> {
    let mut found = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory).expect("listed").flatten() {
            let (path, meta) = (entry.path(), entry.metadata().expect("metadata"));
            let target = fs::read_link(&path).unwrap_or_default();
            // A directory's time is that of the last thing done in it where the archive does not name it.
            let (size, time) = if meta.is_dir() { (0, 0) } else { (meta.size(), meta.mtime()) };
            found.insert(
                path.strip_prefix(root).expect("below").to_owned(),
                (meta.mode(), size, time, target),
            );
            if meta.is_dir() {
                pending.push(path);
            }
        }
    }
    found
}

/// Unpacks with ours; the layer's directory.
fn ours(store: &Store, bytes: &[u8]) -> Result<PathBuf, StoreError> {
    let id = Digest::of(bytes);
    if let Some(writer) = store.layers().begin(&id)? {
        let mut writer = writer.with_limits(LIMITS);
        writer.apply(bytes, LayerKind::Tar)?;
        writer.commit()?;
    }
    Ok(store.layers().path(&id))
}

/// Unpacks with GNU tar; `None` when it is not content.
fn gnu(dir: &Path, archive: &Path) -> Option<PathBuf> {
    let to = dir.join("gnu");
    let _ = fs::remove_dir_all(&to);
    fs::create_dir(&to).expect("made");
    let status = Command::new("timeout")
        .args(["20", "tar", "--numeric-owner", "-xpf"])
        .arg(archive)
        .arg("-C")
        .arg(&to)
        .stderr(Stdio::null())
        .status();
    status.expect("tar starts").success().then_some(to)
}

fn tree(at: &Path) {
    let long = "n".repeat(90);
    fs::create_dir_all(at.join("d/e").join(&long)).expect("made");
    fs::write(at.join("d/f"), "content").expect("written");
    fs::write(at.join("d/e").join(&long).join("short"), "").expect("written");
    fs::write(at.join("d").join(std::ffi::OsStr::from_bytes(b"not-\xff-text")), "x").expect("written");
    fs::hard_link(at.join("d/f"), at.join("again")).expect("linked");
    std::os::unix::fs::symlink("../nowhere", at.join("d/link")).expect("linked");
    fs::write(at.join("big"), vec![7; 300_000]).expect("written");
    let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(12_345);
    fs::File::options().write(true).open(at.join("big")).and_then(|big| big.set_modified(old)).expect("set");
}

#[test]
fn every_format_of_gnu_tar_unpacks_as_it_does_there() {
    require!(root);
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::open(&dir.path().join("root")).expect("a store");
    let source = dir.path().join("source");
    tree(&source);
    for (format, deep) in [("gnu", true), ("oldgnu", true), ("posix", true), ("ustar", true), ("v7", false)] {
        if deep {
            fs::create_dir_all(source.join("d").join("l".repeat(80)).join("m".repeat(80))).expect("made");
        } else {
            fs::remove_dir_all(source.join("d/e"))
                .and_then(|()| fs::remove_dir_all(source.join("d").join("l".repeat(80))))
                .expect("removed");
        }
        let path = dir.path().join("archive");
        let mut command = Command::new("tar");
        command.args(["--sort=name", &format!("--format={format}"), "-cf"]).arg(&path);
        let made = command.arg("-C").arg(&source).arg(".").status();
        assert!(made.expect("tar starts").success(), "{format}");
        let there = ours(&store, &fs::read(&path).expect("read")).expect(format);
        assert_eq!(look(&there), look(&source), "{format}");
        let inode = |name: &str| fs::metadata(there.join(name)).expect("there").ino();
        assert_eq!(inode("again"), inode("d/f"), "{format}");
    }
}

/// Go's own test archives, where they are installed (Debian's `golang-src`) or named.
#[test]
fn go_test_archives_unpack_as_with_gnu_tar_or_are_refused() {
    require!(root);
    let named = std::env::var_os("UMIAK_GO_TESTDATA").map(PathBuf::from);
    let installed = fs::read_dir("/usr/share").into_iter().flatten().flatten().map(|entry| entry.path());
    let installed =
        installed.filter(|path| path.file_name().is_some_and(|name| name.as_bytes().starts_with(b"go-")));
    let all: Vec<_> =
        named.into_iter().chain(installed.map(|go| go.join("src/archive/tar/testdata"))).collect();
    let Some(data) = all.into_iter().find(|path| path.is_dir()) else {
        let _ = writeln!(
            std::io::stderr(),
            "skipped: Go's test archives are not here (Debian's golang-src has them)"
        );
        return;
    };
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::open(&dir.path().join("root")).expect("a store");
    let (mut same, mut refused, mut different) = (0, 0, Vec::new());
    for entry in fs::read_dir(data).expect("listed").flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|extension| extension != "tar") {
            continue;
        }
        let Ok(there) = ours(&store, &fs::read(&path).expect("read")) else {
            refused += 1;
            continue;
        };
        match gnu(dir.path(), &path) {
            Some(reference) if look(&there) == look(&reference) => same += 1,
            Some(reference) => {
                different.push(format!("{path:?}: {:?}\n{:?}", look(&there), look(&reference)));
            }
            // GNU tar lets a global record rename every file after it. Go, and so docker, does not apply them, nor do we.
            None if path.ends_with("pax-global-records.tar") => same += 1,
            None => different.push(format!("{path:?}: only we take it: {:?}", look(&there))),
        }
    }
    let _ =
        writeln!(std::io::stderr(), "{same} as GNU tar, {refused} refused, {} otherwise", different.len());
    assert!(different.is_empty(), "{}", different.join("\n"));
    assert!(same >= 15, "{same}");
}

struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(below.max(1)).unwrap_or(1)).unwrap_or(0)
    }
}

/// A header's checksum made right again, so that more than the checksum is tried.
fn mend(block: &mut [u8]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

fn mutate(bytes: &mut Vec<u8>, dice: &mut Dice) {
    for _ in 0..=dice.roll(4) {
        let blocks = bytes.len() / 512;
        if blocks < 2 {
            return;
        }
        let at = dice.roll(blocks) * 512;
        match dice.roll(9) {
            0 => {
                let place = dice.roll(bytes.len());
                bytes[place] ^= 1 << dice.roll(8);
            }
            1 => bytes.truncate(dice.roll(bytes.len()).max(1)),
            2 => drop(bytes.drain(at..at + 512)),
            3 => {
                let copy = bytes[at..at + 512].to_vec();
                let to = dice.roll(blocks) * 512;
                bytes.splice(to..to, copy);
            }
            4 => bytes[at + 156] = b"0123456789LKxgSDMVNA\0"[dice.roll(21)],
            5 => {
                let names: [&[u8]; 8] = [
                    b"../../canary",
                    b"/canary",
                    b".wh..wh..opq",
                    b".wh.",
                    b".wh...",
                    b"l/canary",
                    b"",
                    b"a/../b",
                ];
                let name = names[dice.roll(8)];
                let field = if dice.roll(2) == 0 { at } else { at + 157 };
                bytes[field..field + 100].fill(0);
                bytes[field..field + name.len()].copy_from_slice(name);
            }
            6 => {
                let sizes: [&[u8]; 5] = [
                    b"77777777777\0",
                    b"-0000000001\0",
                    b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff",
                    b"00000000000\0",
                    b"            ",
                ];
                bytes[at + 124..at + 136].copy_from_slice(sizes[dice.roll(5)]);
            }
            7 => {
                let place = at + dice.roll(500);
                let value = u8::try_from(dice.roll(256)).unwrap_or(0);
                bytes[place..place + 8].fill(value);
            }
            _ => {
                let record = b"30 path=../../../../../canary\n";
                bytes[at..at + record.len()].copy_from_slice(record);
            }
        }
        if dice.roll(4) != 0 && at + 512 <= bytes.len() {
            mend(&mut bytes[at..at + 512]);
        }
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let text = noise(3, 3000);
    vec![
        archive(&[
            dir("d"),
            file("d/f", 0o644, b"content"),
            symlink("l", ".."),
            hard_link("h", "d/f"),
            file("big", 0o600, &text),
        ]),
        archive(&[
            file("a", 0o4755, b"1"),
            file("a", 0o644, b"2"),
            dir("a"),
            file("a/.wh.x", 0o644, b""),
            file("a/.wh..wh..opq", 0, b""),
        ]),
        archive(&[
            symlink("l", "/"),
            file("l/etc/x", 0o644, b"x"),
            device("null", b'3', 1, 3),
            device("pipe", b'6', 0, 0),
        ]),
        {
            let mut entry = file("p", 0o644, b"pax");
            entry.pax =
                &[("path", "longer/name"), ("mtime", "-1.5"), ("SCHILY.xattr.user.x", "y"), ("size", "3")];
            archive(&[entry, file("after", 0o644, b"z")])
        },
    ]
}

#[test]
fn heavy_archives_by_chance() {
    require!(root);
    let rounds =
        std::env::var("UMIAK_FUZZ_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1500_u64);
    let dir = tempfile::tempdir().expect("a folder");
    fs::write(dir.path().join("canary"), "alive").expect("written");
    let store = Store::open(&dir.path().join("root")).expect("a store");
    let seeds = seeds();
    let (mut taken, mut refused) = (0, 0);
    for round in 0..rounds {
        let mut dice = Dice(round.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let mut bytes = seeds[dice.roll(seeds.len())].clone();
        mutate(&mut bytes, &mut dice);
        match ours(&store, &bytes) {
            Ok(there) => {
                taken += 1;
                look(&there);
                fs::remove_dir_all(there).expect("removed");
            }
            Err(StoreError::Layer { .. } | StoreError::DigestMismatch { .. }) => refused += 1,
            Err(error) => panic!("round {round}: {error:?}"),
        }
        let left: Vec<_> = fs::read_dir(dir.path().join("root/layers")).expect("listed").flatten().collect();
        assert!(left.is_empty(), "round {round}: {left:?}");
        assert_eq!(fs::read(dir.path().join("canary")).expect("alive"), b"alive", "round {round}");
    }
    assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 2);
    assert!(taken > 0 && refused > 0);
    let _ = writeln!(std::io::stderr(), "{rounds} archives, {taken} unpacked, {refused} refused");
}

#[test]
fn manifests_and_names_by_chance() {
    let rounds =
        std::env::var("UMIAK_FUZZ_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(4000_u64);
    let digest = |text: &str| Digest::of(text.as_bytes());
    let config = json!({ "architecture": "amd64", "os": "linux", "config": { "Cmd": ["x"], "Env": ["A=b"], "Volumes": { "/v": {} } },
        "rootfs": { "type": "layers", "diff_ids": [digest("d")] }, "history": [{ "created_by": "x" }] })
    .to_string()
    .into_bytes();
    let manifest = json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": Digest::of(&config), "size": config.len() },
        "layers": [{ "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest("l"), "size": 3 }] })
    .to_string()
    .into_bytes();
    assert!(umiak::registry::image_from(&manifest, &config, &digest("t")).is_ok());
    let names = [
        "registry.lan:5000/a/b-c__d:v1.0",
        "docker.io/library/x@sha256:",
        "[::1]:5000/x",
        "UPPER",
        "a//b",
        "x:",
    ];
    for round in 0..rounds {
        let mut dice = Dice(round.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let (mut one, mut other) = (manifest.clone(), config.clone());
        for _ in 0..=dice.roll(3) {
            let target = if dice.roll(2) == 0 { &mut one } else { &mut other };
            let at = dice.roll(target.len());
            match dice.roll(4) {
                0 => target[at] ^= 1 << dice.roll(8),
                1 => target[at] = b"\"{}[]:,09-ntf\\"[dice.roll(14)],
                2 => {
                    let end = (at + dice.roll(40)).min(target.len());
                    target.drain(at..end);
                }
                _ => {
                    let end = (at + dice.roll(40)).min(target.len());
                    let copy = target[at..end].to_vec();
                    target.splice(at..at, copy);
                }
            }
            if target.is_empty() {
                target.push(b'{');
            }
        }
        // An answer of either sort will do; a panic will not.
        let _ = umiak::registry::image_from(&one, &other, &digest("t"));
        let mut name = names[dice.roll(names.len())].as_bytes().to_vec();
        for _ in 0..dice.roll(4) {
            let at = dice.roll(name.len());
            name[at] = b"abcABC019._-/:@[]% \n"[dice.roll(20)];
        }
        let text = String::from_utf8_lossy(&name);
        if let Ok(parsed) = text.parse::<umiak::reference::Reference>() {
            let again: umiak::reference::Reference =
                parsed.canonical().parse().expect("what we write we read");
            assert_eq!(again.canonical(), parsed.canonical(), "{text}");
        }
    }
}
