//! `save` and `load`: what goes out comes in with the same ids and digests, and is what others read and write.
//!
//! Docker 28 writes one archive of both layouts (seen there: `blobs/`, `index.json`, `manifest.json`, `oci-layout`, `repositories`), says
//! `Loaded image: NAME`, and `Loaded image ID: ID` where there is no name.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{digests, layout};
use crate::support::host::Host;
use crate::support::tar::{archive, dir, file, symlink};
use crate::support::{program, registry, require};

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Every packaging goes into an archive and a directory and comes out the same.
#[test]
fn every_packaging_keeps_its_ids_and_digests() {
    require!(root, registry);
    for name in [
        "library+busybox@latest",
        "library+busybox@schema2",
        "library+busybox@zstd",
        "library+busybox@plain",
        "wasm+hello@artifact-p1",
        "wasm+hello@layer-p2",
        "wasm+hello@tar-p1",
        "both@latest",
    ] {
        let (first, second, third) = (Host::new(), Host::new(), Host::new());
        let loaded = first.umiak(&["load", "-i", &text(&layout(name))]).exits(0).stdout;
        assert!(loaded.starts_with("Loaded image ID: sha256:"), "{name}: {loaded}");
        let ids: Vec<&str> =
            loaded.lines().filter_map(|line| line.strip_prefix("Loaded image ID: ")).collect();
        for id in &ids {
            first.umiak(&["tag", id, "saved:1"]).exits(0);
        }
        let before = digests(&first);
        assert_eq!(before.len(), ids.len(), "{name}");
        let (archive, folder) = (first.dir().join("a.tar"), first.dir().join("folder"));
        first.umiak(&["save", "-o", &text(&archive), "saved:1"]).exits(0);
        first.umiak(&["save", "--format", "oci-dir", "-o", &text(&folder), "saved:1"]).exits(0);
        assert!(
            second
                .umiak(&["load", "-i", &text(&archive)])
                .exits(0)
                .stdout
                .contains("Loaded image: saved:1\n")
        );
        assert_eq!(digests(&second), before, "{name}");
        assert!(
            third.umiak(&["load", "-i", &text(&folder)]).exits(0).stdout.contains("Loaded image: saved:1\n")
        );
        assert_eq!(digests(&third), before, "{name}");
        let blobs = |host: &Host| {
            let mut all = host.list("blobs/sha256");
            all.sort();
            all
        };
        assert_eq!(blobs(&second), blobs(&first), "{name}");
        // The same images are the same bytes.
        let again = second.dir().join("again.tar");
        second.umiak(&["save", "-o", &text(&again), "saved:1"]).exits(0);
        assert!(std::fs::read(&again).expect("read") == std::fs::read(&archive).expect("read"), "{name}");
    }
}

#[test]
fn what_was_loaded_runs() {
    require!(root, registry);
    let (host, other) = (Host::new(), Host::new());
    host.umiak(&["pull", "-q", &registry::busybox()]).exits(0);
    host.umiak(&["tag", &registry::busybox(), "box:1"]).exits(0);
    let archive = host.dir().join("box.tar");
    host.umiak(&["save", "-o", &text(&archive), "box:1"]).exits(0);
    other.umiak(&["load", "-i", &text(&archive)]).exits(0);
    let run = ["run", "--rm", "--pull", "never", "--network", "none", "box:1", "cat", "/etc/group"];
    assert_eq!(other.umiak(&run).exits(0).stdout, "root:x:0:\nalice:x:1000:\nstaff:x:50:alice\n");
    // Once more: everything is there, and another image that had the name is told of.
    assert_eq!(other.umiak(&["load", "-i", &text(&archive)]).exits(0).stdout, "Loaded image: box:1\n");
    other.umiak(&["load", "-i", &text(&layout("wasm+hello@tar-p1"))]).exits(0);
    let empty = archive_of(&[dir("x")]);
    other.umiak_reading(&empty, &["import", "-", "box:1"]).exits(0);
    let out = other.umiak(&["load", "-i", &text(&archive)]).exits(0).stdout;
    assert!(out.starts_with("The image box:1 already exists, renaming the old one with ID sha256:"), "{out}");
}

fn archive_of(entries: &[crate::support::tar::Entry<'_>]) -> Vec<u8> {
    archive(entries)
}

/// Several images in one stream, and every compression that docker's `load` takes.
#[test]
fn several_images_go_through_pipes_compressed_or_not() {
    require!(root, registry);
    let host = Host::new();
    for (name, layer) in [("one:1", "a"), ("two:2", "b")] {
        host.umiak_reading(&archive_of(&[file(layer, 0o644, b"x")]), &["import", "-", name]).exits(0);
    }
    let path = host.dir().join("all.tar");
    let pipe = std::fs::File::create(&path).expect("made");
    let mut saving = host.command(&["save", "one:1", "two:2"]).stdout(pipe).spawn().expect("starts");
    assert!(saving.wait().expect("ends").success());
    let plain = std::fs::read(&path).expect("read");
    let script = "import sys,gzip,bz2,lzma\nd=open(sys.argv[1],'rb').read()\n\
        for n,m in (('gz',gzip),('bz2',bz2),('xz',lzma)): open(sys.argv[1]+'.'+n,'wb').write(m.compress(d))";
    assert!(Command::new("python3").args(["-c", script]).arg(&path).status().expect("python3").success());
    assert!(Command::new("zstd").args(["-q", &text(&path)]).status().expect("zstd").success());
    for end in ["", ".gz", ".bz2", ".xz", ".zst"] {
        let bytes = std::fs::read(format!("{}{end}", text(&path))).expect("read");
        let other = Host::new();
        let out = other.umiak_reading(&bytes, &["load", "-q"]).exits(0).stdout;
        assert_eq!(out, "Loaded image: one:1\nLoaded image: two:2\n", "{end}");
        assert_eq!(digests(&other), digests(&host), "{end}");
    }
    // Cut short: nothing of it is there.
    for cut in [plain.len() / 2, plain.len() / 4] {
        let other = Host::new();
        other.umiak_reading(&plain[..cut], &["load"]).fails(1, &["archive"]);
        assert!(other.layers().is_empty() && other.list("blobs/sha256").is_empty());
    }
}

#[test]
fn platforms_are_chosen() {
    require!(root, registry);
    let (host, other) = (Host::new(), Host::new());
    let both = text(&layout("both@latest"));
    host.umiak(&["load", "-i", &both, "--platform", "wasi/wasm"]).exits(0);
    let platforms = |host: &Host| host.umiak(&["images", "--format", "{{.Platform}}"]).exits(0).stdout;
    assert_eq!(platforms(&host), "wasi/wasm\n");
    host.umiak(&["load", "-i", &both, "--platform", "linux/s390x"]).fails(1, &["linux/s390x", "wasi/wasm"]);
    host.umiak(&["load", "-i", &both]).exits(0);
    let ids = host.umiak(&["images", "-q", "--no-trunc"]).exits(0).stdout;
    for id in ids.lines() {
        host.umiak(&["tag", id, "both:1"]).exits(0);
    }
    let archive = host.dir().join("one.tar");
    host.umiak(&["save", "--platform", "wasi/wasm", "-o", &text(&archive), "both:1"]).exits(0);
    other.umiak(&["load", "-i", &text(&archive)]).exits(0);
    assert_eq!(platforms(&other), "wasi/wasm\n");
    host.umiak(&["save", "--platform", "linux/s390x", "-o", &text(&archive), "both:1"])
        .fails(1, &["linux/s390x"]);
    assert!(archive.exists(), "the earlier archive stays");
}

#[test]
fn wrong_wishes_are_told() {
    require!(root);
    let host = Host::new();
    host.umiak(&["save", "nothing"]).fails(1, &["No such image: nothing"]);
    let path = host.dir().join("x.tar");
    host.umiak(&["save", "-o", &text(&path), "nothing"]).fails(1, &["No such image: nothing"]);
    assert!(!path.exists());
    host.umiak(&["load", "-i", "/nope"]).fails(1, &["/nope", "No such file"]);
    host.umiak(&["load"]).fails(1, &["it is empty"]);
    host.umiak_reading(b"no archive", &["load"]).fails(1, &["not a tar archive"]);
    host.umiak_reading(&archive_of(&[file("x", 0o644, b"")]), &["load"]).fails(1, &["no image", "import"]);
    host.umiak(&["save", "--format", "oci-dir", "x"]).fails(1, &["-o"]);
}

fn config(layers: &[Vec<u8>]) -> Vec<u8> {
    let ids: Vec<String> = layers.iter().map(|layer| format!("\"{}\"", super::sha256(layer))).collect();
    format!(
        "{{\"architecture\":\"amd64\",\"os\":\"linux\",\"config\":{{\"Cmd\":[\"/busybox\",\"cat\",\"/a\",\"/b\"]}},\
         \"rootfs\":{{\"type\":\"layers\",\"diff_ids\":[{}]}}}}",
        ids.join(",")
    )
    .into_bytes()
}

/// What docker wrote before 25 (a folder a layer, links between equal ones) and before 1.10 (no manifest).
#[test]
fn older_archives_are_read() {
    require!(root);
    let shell = program();
    let layers = [
        archive(&[file("busybox", 0o755, &shell), file("a", 0o644, b"lower\n")]),
        archive(&[file("b", 0o644, b"upper\n")]),
    ];
    let config = config(&layers);
    let (one, two) = ("1".repeat(64), "2".repeat(64));
    let listed = format!(
        "[{{\"Config\":\"c.json\",\"RepoTags\":[\"old:1\"],\"Layers\":[\"{one}/layer.tar\",\"{two}/layer.tar\"]}}]"
    );
    let (lower, upper) = (format!("{one}/layer.tar"), format!("{two}/layer.tar"));
    let links = archive(&[
        file("real.tar", 0o644, &layers[0]),
        symlink(&lower, "../real.tar"),
        file(&upper, 0o644, &layers[1]),
        file("c.json", 0o644, &config),
        file("manifest.json", 0o644, listed.as_bytes()),
    ]);
    let (lower_json, upper_json) = (format!("{one}/json"), format!("{two}/json"));
    let run = "{\"Cmd\":[\"/busybox\",\"cat\",\"/a\",\"/b\"]}";
    let described = [
        format!("{{\"id\":\"{one}\",\"created\":\"2015-01-01T00:00:00Z\"}}"),
        format!(
            "{{\"id\":\"{two}\",\"parent\":\"{one}\",\"created\":\"2015-01-02T00:00:00Z\",\"architecture\":\"amd64\",\"os\":\"linux\",\"config\":{run}}}"
        ),
    ];
    let named = format!("{{\"old\":{{\"1\":\"{two}\"}}}}");
    let oldest = archive(&[
        file(&lower_json, 0o644, described[0].as_bytes()),
        file(&lower, 0o644, &layers[0]),
        file(&upper_json, 0o644, described[1].as_bytes()),
        file(&upper, 0o644, &layers[1]),
        file("repositories", 0o644, named.as_bytes()),
    ]);
    for bytes in [links, oldest] {
        let host = Host::new();
        assert_eq!(host.umiak_reading(&bytes, &["load"]).exits(0).stdout, "Loaded image: old:1\n");
        let out = host.umiak(&["run", "--rm", "--network", "none", "old:1"]).exits(0).stdout;
        assert_eq!(out, "lower\nupper\n");
    }
}

fn skopeo(args: &[&str]) -> String {
    let out = Command::new("skopeo")
        .args(["--insecure-policy", "--tmpdir", "/tmp"])
        .args(args)
        .stderr(Stdio::piped())
        .output()
        .expect("skopeo");
    assert!(out.status.success(), "skopeo {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// Skopeo (podman's and buildah's library) reads what we write, and we what it writes, in every archive format it has.
#[test]
fn skopeo_and_we_read_each_other() {
    require!(root, registry);
    let host = Host::new();
    host.umiak(&["load", "-i", &text(&layout("library+busybox@latest"))]).exits(0);
    let id = host.umiak(&["images", "-q", "--no-trunc"]).exits(0).text().to_owned();
    host.umiak(&["tag", &id, "box:1"]).exits(0);
    let ours = host.dir().join("ours.tar");
    host.umiak(&["save", "-o", &text(&ours), "box:1"]).exits(0);
    let digest = host.umiak(&["images", "--digests", "--format", "{{.Digest}}"]).exits(0).text().to_owned();
    let inspected = skopeo(&["inspect", "--format", "{{.Digest}}", &format!("oci-archive:{}", text(&ours))]);
    assert_eq!(inspected.trim(), digest);
    let raw = skopeo(&["inspect", "--config", "--raw", &format!("docker-archive:{}:box:1", text(&ours))]);
    assert_eq!(super::sha256(raw.as_bytes()), id);
    for (format, name) in
        [("docker-archive", ":box:2"), ("oci-archive", ":box:2"), ("oci", ""), ("docker-archive", "")]
    {
        let path: PathBuf = host.dir().join(format!("{format}{}", name.len()));
        let theirs = format!("{format}:{}{name}", text(&path));
        skopeo(&["copy", &format!("oci-archive:{}", text(&ours)), &theirs]);
        let other = Host::new();
        other.umiak(&["load", "-i", &text(&path)]).exits(0);
        assert_eq!(other.umiak(&["images", "-q", "--no-trunc"]).exits(0).text(), id, "{format}");
        let again = other.umiak(&["run", "--rm", "--network", "none", &id, "echo", "runs"]).exits(0).stdout;
        assert_eq!(again, "runs\n", "{format}");
    }
}

/// Umoci takes our layout for one, and unpacks it to the same files.
#[test]
fn umoci_unpacks_our_layout() {
    require!(root, registry, umoci);
    let host = Host::new();
    host.umiak(&["load", "-i", &text(&layout("library+busybox@latest"))]).exits(0);
    let id = host.umiak(&["images", "-q"]).exits(0).text().to_owned();
    host.umiak(&["tag", &id, "box:1"]).exits(0);
    let (folder, bundle) = (host.dir().join("oci"), host.dir().join("bundle"));
    host.umiak(&["save", "--format", "oci-dir", "-o", &text(&folder), "box:1"]).exits(0);
    let umoci = |args: &[&str]| {
        let out = Command::new("umoci").args(args).output().expect("umoci");
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).into_owned()
    };
    assert_eq!(umoci(&["ls", "--layout", &text(&folder)]), "1\n");
    umoci(&["stat", "--image", &format!("{}:1", text(&folder))]);
    umoci(&["unpack", "--image", &format!("{}:1", text(&folder)), &text(&bundle)]);
    let group = std::fs::read_to_string(bundle.join("rootfs/etc/group")).expect("unpacked");
    assert_eq!(group, "root:x:0:\nalice:x:1000:\nstaff:x:50:alice\n");
}
