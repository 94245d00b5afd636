//! Layers that try to write outside their folder: a tree of canaries beside the root stays as it is, to the inode.

use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::support::host::Host;
use crate::support::rogue::Rogue;
use crate::support::tar::{Entry, archive, device, dir, file, hard_link, symlink};
use crate::support::{program, require};

/// Mode, owner, links, times, inode, content.
pub(super) type Seen = (u32, u32, u64, i64, i64, u64, Vec<u8>);

/// Mode, owner, links, times, inode and content of everything below a folder.
pub(super) fn look(top: &Path) -> BTreeMap<PathBuf, Seen> {
    let mut seen = BTreeMap::new();
    let mut open = vec![top.to_owned()];
    while let Some(path) = open.pop() {
        let meta = path.symlink_metadata().expect("a canary");
        let content = if meta.is_file() { std::fs::read(&path).expect("a canary") } else { Vec::new() };
        let what =
            (meta.mode(), meta.uid(), meta.nlink(), meta.mtime(), meta.mtime_nsec(), meta.ino(), content);
        if meta.is_dir() {
            open.extend(path.read_dir().expect("a canary").flatten().map(|entry| entry.path()));
        }
        seen.insert(path, what);
    }
    seen
}

pub(super) fn canary(host: &Host) -> PathBuf {
    let top = host.dir().join("canary");
    std::fs::create_dir_all(top.join("dir")).expect("a folder");
    for path in ["victim", "dir/victim"] {
        std::fs::write(top.join(path), "sings").expect("a canary");
    }
    top
}

/// Pulls an image of these layers; whether it was taken or refused, the canaries are as they were.
#[track_caller]
fn tried(host: &Host, rogue: &Rogue, case: &str, layers: &[Vec<Entry<'_>>], top: &Path) -> bool {
    let before = look(top);
    let layers: Vec<_> = layers.iter().map(|entries| archive(entries)).collect();
    rogue.image(case, &layers, &json!({ "Cmd": ["/x"] }));
    let name = format!("{}/{case}", rogue.address());
    let out = host.umiak(&["pull", &name]);
    assert_eq!(look(top), before, "{case}: {out:?}");
    assert!(!host.layers().iter().any(|name| name.starts_with("tmp-")), "{case}");
    if out.status != 0 {
        out.fails(1, &["layer"]);
        return false;
    }
    true
}

#[test]
fn no_layer_leaves_its_folder() {
    require!(root);
    let (host, rogue) = (Host::new(), Rogue::new());
    let top = canary(&host);
    let absolute = top.to_string_lossy().into_owned();
    let (victim, folder) = (format!("{absolute}/victim"), format!("{absolute}/dir"));
    let relative = "../../../canary";
    let up_victim = format!("{relative}/victim");
    let deep = format!("a/../{relative}/victim");
    let slashes = format!("//{victim}");
    let wh_absolute = format!("{absolute}/.wh.victim");
    let wh_relative = format!("{relative}/.wh.victim");
    let evil = |name| file(name, 0o777, b"evil");
    // One layer each …
    for (case, entries) in [
        ("dots", vec![evil(&up_victim)]),
        ("deep-dots", vec![dir("a"), evil(&deep)]),
        ("absolute", vec![evil(&victim)]),
        ("slashes", vec![evil(&slashes)]),
        ("dots-only", vec![dir("..")]),
        ("dots-file", vec![evil("..")]),
        ("symlink-absolute", vec![symlink("l", &absolute), evil("l/victim")]),
        ("symlink-relative", vec![symlink("l", relative), evil("l/victim")]),
        ("symlink-file", vec![symlink("l", &victim), evil("l")]),
        (
            "symlink-chain",
            vec![symlink("a", "b"), symlink("b", "c"), symlink("c", &absolute), evil("a/victim")],
        ),
        ("symlink-loop", vec![symlink("a", "b"), symlink("b", "a"), evil("a/victim")]),
        ("symlink-parent", vec![dir("d"), symlink("d/l", ".."), evil("d/l/../../../../canary/victim")]),
        ("hard-absolute", vec![hard_link("h", &victim), evil("h")]),
        ("hard-relative", vec![hard_link("h", &up_victim), evil("h")]),
        ("hard-by-symlink", vec![symlink("l", &absolute), hard_link("h", "l/victim"), evil("h")]),
        ("hard-to-symlink", vec![symlink("l", &victim), hard_link("h", "l"), evil("h")]),
        ("hard-itself", vec![hard_link("h", "h")]),
        (
            "dir-over-symlink",
            vec![symlink("l", &folder), Entry { mode: 0o777, ..dir("l") }, evil("l/victim")],
        ),
        ("whiteout-symlink", vec![symlink("l", &absolute), file("l/.wh.victim", 0o644, b"")]),
        ("opaque-symlink", vec![symlink("l", &absolute), file("l/.wh..wh..opq", 0o644, b"")]),
        ("whiteout-absolute", vec![file(&wh_absolute, 0o644, b"")]),
        ("whiteout-relative", vec![file(&wh_relative, 0o644, b"")]),
        ("whiteout-dots", vec![file(".wh...", 0o644, b"")]),
        ("whiteout-empty", vec![file(".wh.", 0o644, b"")]),
        ("empty-name", vec![evil("")]),
        ("pax-path", vec![Entry { pax: &[("path", "../../../canary/victim")], ..evil("harmless") }]),
        (
            "pax-link",
            vec![Entry { pax: &[("linkpath", "../../../canary/victim")], ..hard_link("h", "x") }, evil("h")],
        ),
        ("socket", vec![device("s", b's', 0, 0)]),
    ] {
        tried(&host, &rogue, case, &[entries], &top);
    }
    // … and what the first layer prepares for the second.
    for (case, first, second) in [
        ("next-write", symlink("l", &absolute), evil("l/victim")),
        ("next-whiteout", symlink("l", &absolute), file("l/.wh.victim", 0o644, b"")),
        ("next-opaque", symlink("l", &absolute), file("l/.wh..wh..opq", 0o644, b"")),
        ("next-hard", symlink("l", &absolute), hard_link("h", "l/victim")),
        ("next-dir", symlink("l", &folder), Entry { mode: 0o777, ..dir("l") }),
    ] {
        tried(&host, &rogue, case, &[vec![first], vec![second]], &top);
    }
}

/// Every path in the unpacked layers.
fn unpacked(host: &Host) -> Vec<PathBuf> {
    let mut all = Vec::new();
    let mut open = vec![host.root().join("layers")];
    while let Some(path) = open.pop() {
        if path.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
            open.extend(path.read_dir().expect("a folder").flatten().map(|entry| entry.path()));
        }
        all.push(path);
    }
    all
}

#[test]
fn an_image_does_not_speak_to_overlay() {
    require!(root);
    let (host, rogue) = (Host::new(), Rogue::new());
    let top = canary(&host);
    tried(
        &host,
        &rogue,
        "whiteout-device",
        &[vec![file("x", 0o644, b"x")], vec![device("x", b'3', 0, 0)]],
        &top,
    );
    let attributes = [
        "SCHILY.xattr.trusted.overlay.redirect",
        "SCHILY.xattr.trusted.overlay.metacopy",
        "SCHILY.xattr.user.overlay.redirect",
        "SCHILY.xattr.user.overlay.whiteout",
    ];
    for (at, name) in attributes.into_iter().enumerate() {
        let pax = [(name, "/canary")];
        tried(&host, &rogue, &format!("xattr-{at}"), &[vec![Entry { pax: &pax, ..dir("d") }]], &top);
    }
    for path in unpacked(&host) {
        let meta = path.symlink_metadata().expect("unpacked");
        assert!(!(meta.file_type().is_char_device() && meta.rdev() == 0), "{} is a whiteout", path.display());
        let mut names = vec![0_u8; 4096];
        let length = rustix::fs::llistxattr(&path, &mut names[..]).expect("attributes");
        let names = String::from_utf8_lossy(&names[..length]).into_owned();
        assert!(
            !names.contains("overlay.redirect") && !names.contains("metacopy"),
            "{}: {names}",
            path.display()
        );
        assert!(!names.contains("user.overlay"), "{}: {names}", path.display());
    }
}

#[test]
fn an_image_of_symbolic_links_starts_without_touching_the_host() {
    require!(root);
    let (host, rogue) = (Host::new(), Rogue::new());
    let top = canary(&host);
    let absolute = format!("{}/dir", top.display());
    let shell = program();
    for (case, link) in [
        ("dev", absolute.as_str()),
        ("dev", "../../../../canary/dir"),
        ("proc", &absolute),
        ("sys", &absolute),
        ("etc", &absolute),
    ] {
        let before = look(&top);
        let layer = archive(&[file("busybox", 0o755, &shell), symlink(case, link)]);
        rogue.image(
            "links",
            &[layer],
            &json!({ "Cmd": ["/busybox", "true"], "WorkingDir": format!("/{case}/new") }),
        );
        let name = format!("{}/links", rogue.address());
        let out = host.umiak(&["run", "--rm", "--pull", "always", &name]);
        assert_eq!(look(&top), before, "{case} -> {link}: {out:?}");
        assert!(matches!(out.status, 0 | 125), "{case} -> {link}: {out:?}");
    }
}
