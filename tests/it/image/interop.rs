//! Docker, podman and skopeo take what we save and push, and we what they do; ids and digests agree everywhere.
//!
//! Seen on docker 28 (its classic store): it unpacks blobs and writes plain layers, so its archives have manifests of its own, and
//! only ids survive it. Podman and registries keep every digest.

use std::path::Path;
use std::process::Command;

use super::{digests, layout};
use crate::support::host::{Host, Output};
use crate::support::peers::{Docker, Podman};
use crate::support::{registry, require};

const PACKAGINGS: [&str; 4] = ["latest", "schema2", "zstd", "plain"];

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// A host with a busybox of this packaging as `box:1`; its id.
fn with_box(packaging: &str) -> (Host, String) {
    let host = Host::new();
    host.umiak(&["load", "-i", &text(&layout(&format!("library+busybox@{packaging}")))]).exits(0);
    let id = id(&host, None);
    host.umiak(&["tag", &id, "box:1"]).exits(0);
    (host, id)
}

/// The id of a name, or of the only image.
fn id(host: &Host, name: Option<&str>) -> String {
    let args = ["images", "-q", "--no-trunc"].into_iter().chain(name);
    host.umiak(&args.collect::<Vec<_>>()).exits(0).text().to_owned()
}

/// Two images with a layer in common: `one:1` and `two:2`, made of `box:1`.
fn two_more(host: &Host) {
    for (name, file) in [("one:1", "/one"), ("two:2", "/two")] {
        host.umiak(&["run", "--name", "made", "--network", "none", "box:1", "touch", file]).exits(0);
        host.umiak(&["commit", "-c", "CMD [\"ls\", \"/\"]", "made", name]).exits(0);
        host.umiak(&["rm", "made"]).exits(0);
    }
}

/// What another's `images` shows of a name's id, with or without the algorithm.
fn same_id(theirs: &Output, ours: &str, context: &str) {
    let shown = theirs.text().trim_start_matches("sha256:");
    assert_eq!(shown, ours.trim_start_matches("sha256:"), "{context}: {}", theirs.stderr);
}

#[test]
fn heavy_docker_and_we_load_each_others_archives() {
    require!(root, registry, docker);
    let docker = Docker::start();
    for packaging in PACKAGINGS {
        let (host, own) = with_box(packaging);
        let (ours, theirs) = (host.dir().join("ours.tar"), host.dir().join("theirs.tar"));
        host.umiak(&["save", "-o", &text(&ours), "box:1"]).exits(0);
        let said = docker.run(&["load", "-i", &text(&ours)]).exits(0).stdout;
        assert_eq!(said, "Loaded image: box:1\n", "{packaging}");
        same_id(&docker.run(&["images", "-q", "--no-trunc", "box:1"]), &own, packaging);
        let run = ["run", "--rm", "--network", "none", "box:1", "cat", "/etc/group"];
        let group = docker.run(&run).exits(0).stdout;
        docker.run(&["save", "-o", &text(&theirs), "box:1"]).exits(0);
        let other = Host::new();
        let said = other.umiak(&["load", "-i", &text(&theirs)]).exits(0).stdout;
        assert_eq!(said, "Loaded image: box:1\n", "{packaging}");
        assert_eq!(id(&other, Some("box:1")), own, "{packaging}");
        assert_eq!(other.umiak(&run).exits(0).stdout, group, "{packaging}");
        docker.run(&["rmi", "-f", "box:1"]).exits(0);
    }
    let (host, own) = with_box("latest");
    two_more(&host);
    several(&docker, &host);
    // By id, an image has no name.
    let path = text(&host.dir().join("id.tar"));
    host.umiak(&["save", "-o", &path, &own]).exits(0);
    let said = docker.run(&["load", "-i", &path]).exits(0).stdout;
    assert_eq!(said, format!("Loaded image ID: {own}\n"));
    docker.run(&["save", "-o", &path, &own]).exits(0);
    let said = Host::new().umiak(&["load", "-i", &path]).exits(0).stdout;
    assert_eq!(said, format!("Loaded image ID: {own}\n"));
}

/// Several images in one archive, compressed or not, to docker and back.
fn several(docker: &Docker, host: &Host) {
    let plain = host.dir().join("all.tar");
    host.umiak(&["save", "-o", &text(&plain), "box:1", "one:1", "two:2"]).exits(0);
    for (tool, end) in [("gzip", "gz"), ("zstd", "zst")] {
        let made = Command::new(tool).args(["-q", "-k", &text(&plain)]).status();
        assert!(made.expect("installed").success(), "{tool}");
        let packed = format!("{}.{end}", text(&plain));
        let said = docker.run(&["load", "-i", &packed]).exits(0).stdout;
        assert_eq!(said, "Loaded image: box:1\nLoaded image: one:1\nLoaded image: two:2\n", "{end}");
    }
    let theirs = text(&host.dir().join("back.tar"));
    docker.run(&["save", "-o", &theirs, "box:1", "one:1", "two:2"]).exits(0);
    let other = Host::new();
    let said = other.umiak(&["load", "-i", &theirs]).exits(0).stdout;
    assert_eq!(said.lines().count(), 3, "{said}");
    for name in ["box:1", "one:1", "two:2"] {
        let ours = id(host, Some(name));
        same_id(&docker.run(&["images", "-q", "--no-trunc", name]), &ours, name);
        assert_eq!(id(&other, Some(name)), ours, "{name}");
    }
    let listed = |out: Output| out.exits(0).stdout.contains("\ntwo\n");
    assert!(listed(other.umiak(&["run", "--rm", "--network", "none", "two:2"])));
    assert!(listed(docker.run(&["run", "--rm", "--network", "none", "two:2"])));
}

#[test]
fn heavy_podman_and_we_load_each_others_archives() {
    require!(root, registry, podman);
    for packaging in PACKAGINGS {
        let (host, own) = with_box(packaging);
        // Podman gives names without a host to `localhost`, so ours has one.
        host.umiak(&["tag", "box:1", "example.org/box:1"]).exits(0);
        for (ours, file) in [("docker-archive", "d.tar"), ("oci-archive", "o.tar"), ("oci-dir", "folder")] {
            let context = format!("{packaging}, {ours}");
            let podman = Podman::new();
            let path = text(&host.dir().join(format!("ours-{file}")));
            host.umiak(&["save", "--format", ours, "-o", &path, "example.org/box:1"]).exits(0);
            podman.run(&["load", "-i", &path]).exits(0);
            same_id(&podman.run(&["images", "-q", "--no-trunc"]), &own, &context);
            let run = ["run", "--rm", "--network", "none", "--cgroups", "disabled", &own, "echo", "runs"];
            assert_eq!(podman.run(&run).exits(0).stdout, "runs\n", "{context}");
            if ours != "docker-archive" {
                continue;
            }
            podman.run(&["tag", &own, "example.org/back:2"]).exits(0);
            for theirs in ["docker-archive", "oci-archive", "oci-dir", "docker-dir"] {
                let path = text(&host.dir().join(format!("theirs-{theirs}-{file}")));
                podman.run(&["save", "--format", theirs, "-o", &path, "example.org/back:2"]).exits(0);
                let other = Host::new();
                let loaded = other.umiak(&["load", "-i", &path]);
                if theirs == "docker-dir" {
                    // No archive, and no layout that names images.
                    loaded.fails(1, &["manifest.json"]);
                    continue;
                }
                loaded.exits(0);
                let context = format!("{context}, {theirs}");
                // Podman writes a config of its own where it makes docker's into the OCI's: to itself as well.
                let expected = if packaging == "schema2" && theirs.starts_with("oci") {
                    let again = Podman::new();
                    again.run(&["load", "-i", &path]).exits(0);
                    format!(
                        "sha256:{}",
                        again.run(&["images", "-q", "--no-trunc"]).text().replace("sha256:", "")
                    )
                } else {
                    own.clone()
                };
                assert_eq!(id(&other, None), expected, "{context}");
                let run = ["run", "--rm", "--network", "none", &expected, "echo", "runs"];
                assert_eq!(other.umiak(&run).exits(0).stdout, "runs\n", "{context}");
            }
        }
    }
    let (host, own) = with_box("latest");
    two_more(&host);
    let podman = Podman::new();
    let (path, back) = (text(&host.dir().join("all.tar")), text(&host.dir().join("back.tar")));
    host.umiak(&["save", "-o", &path, "box:1", "one:1", "two:2"]).exits(0);
    podman.run(&["load", "-i", &path]).exits(0);
    podman.run(&["save", "-m", "-o", &back, "box:1", "one:1", "two:2"]).exits(0);
    let other = Host::new();
    other.umiak(&["load", "-i", &back]).exits(0);
    for (ours, theirs) in
        [("box:1", "localhost/box:1"), ("one:1", "localhost/one:1"), ("two:2", "localhost/two:2")]
    {
        let ours = id(&host, Some(ours));
        same_id(&podman.run(&["images", "-q", "--no-trunc", theirs]), &ours, theirs);
        assert_eq!(id(&other, Some(theirs)), ours, "{theirs}");
    }
    // By id, an image has no name; podman keeps its digest.
    host.umiak(&["save", "-o", &path, &own]).exits(0);
    let podman = Podman::new();
    podman.run(&["load", "-i", &path]).exits(0);
    same_id(&podman.run(&["images", "-q", "--no-trunc"]), &own, "by id");
}

/// `Digest: sha256:…` of what a pull or push says.
fn said_digest(out: &str) -> String {
    let at = out.to_lowercase().find("digest: sha256:").unwrap_or_else(|| panic!("no digest in: {out}"));
    out[at + 8..].split_whitespace().next().unwrap_or_default().to_owned()
}

#[test]
fn heavy_our_pushes_are_pulled_by_others_and_theirs_by_us() {
    require!(root, registry, docker, podman);
    let docker = Docker::start();
    let place = |name: &str| format!("{}/interop-{}/{name}", registry::address(), std::process::id());
    for packaging in PACKAGINGS {
        let (host, own) = with_box(packaging);
        let name = place(&format!("box:{packaging}"));
        host.umiak(&["tag", "box:1", &name]).exits(0);
        let digest = said_digest(&host.umiak(&["push", &name]).exits(0).stdout);
        assert_eq!(host.umiak(&["images", "--format", "{{.Digest}}", &name]).exits(0).text(), digest);
        // Docker.
        let pulled = docker.run(&["pull", &name]).exits(0).stdout;
        assert_eq!(said_digest(&pulled), digest, "docker, {packaging}");
        same_id(&docker.run(&["images", "-q", "--no-trunc", &name]), &own, "docker");
        let run = ["run", "--rm", "--network", "none", &name, "echo", "runs"];
        assert_eq!(docker.run(&run).exits(0).stdout, "runs\n", "docker, {packaging}");
        // Podman.
        let podman = Podman::new();
        podman.run(&["pull", "-q", "--tls-verify=false", &name]).exits(0);
        same_id(&podman.run(&["images", "-q", "--no-trunc", &name]), &own, "podman");
        let shown = podman.run(&["image", "inspect", "--format", "{{.Digest}}", &name]).exits(0);
        assert_eq!(shown.text(), digest, "podman, {packaging}");
        // Skopeo, which checks every digest.
        let remote = format!("docker://{name}");
        let skopeo = |args: &[&str]| {
            let out = Command::new("skopeo").args(args).output().expect("skopeo");
            assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
            String::from_utf8_lossy(&out.stdout).trim().to_owned()
        };
        let shown = skopeo(&["inspect", "--tls-verify=false", "--format", "{{.Digest}}", &remote]);
        assert_eq!(shown, digest, "skopeo, {packaging}");
        let folder = format!("dir:{}", text(&host.dir().join("copy")));
        skopeo(&["--insecure-policy", "copy", "-q", "--src-tls-verify=false", &remote, &folder]);
        // The way back.
        for (whose, push) in [
            ("docker", docker.run(&["tag", &name, &place(&format!("from-docker:{packaging}"))])),
            ("podman", podman.run(&["tag", &name, &place(&format!("from-podman:{packaging}"))])),
        ] {
            push.exits(0);
            let back = place(&format!("from-{whose}:{packaging}"));
            let said = if whose == "docker" {
                said_digest(&docker.run(&["push", &back]).exits(0).stdout)
            } else {
                podman.run(&["push", "--tls-verify=false", &back]).exits(0);
                skopeo(&[
                    "inspect",
                    "--tls-verify=false",
                    "--format",
                    "{{.Digest}}",
                    &format!("docker://{back}"),
                ])
            };
            let other = Host::new();
            let pulled = other.umiak(&["pull", &back]).exits(0).stdout;
            assert_eq!(said_digest(&pulled), said, "{whose}, {packaging}");
            assert_eq!(id(&other, Some(&back)), own, "{whose}, {packaging}");
            assert_eq!(digests(&other).len(), 1);
        }
    }
}
