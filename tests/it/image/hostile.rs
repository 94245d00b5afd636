//! Hostile archives in `load`: refused with a reason, and nothing of them is left; what lies outside stays as it was.

use crate::support::host::Host;
use crate::support::require;
use crate::support::tar::{Entry, archive, device, file, hard_link, symlink};

use super::sha256;

/// A config for these layers.
fn config(diff_ids: &[String]) -> String {
    let ids: Vec<String> = diff_ids.iter().map(|id| format!("\"{id}\"")).collect();
    format!(
        "{{\"architecture\":\"amd64\",\"os\":\"linux\",\"rootfs\":{{\"type\":\"layers\",\"diff_ids\":[{}]}}}}",
        ids.join(",")
    )
}

/// Docker's layout with one image of one good layer, and more members that replace or add.
fn docker(manifest: &str, config: &str, more: &[Entry<'_>]) -> Vec<u8> {
    let layer = archive(&[file("x", 0o644, b"y")]);
    let mut all = vec![file("l.tar", 0o644, &layer), file("c.json", 0o644, config.as_bytes())];
    all.extend(more);
    all.push(file("manifest.json", 0o644, manifest.as_bytes()));
    archive(&all)
}

fn item(layers: &str, tags: &str) -> String {
    format!("[{{\"Config\":\"c.json\",\"RepoTags\":{tags},\"Layers\":{layers}}}]")
}

/// Every case is refused for its reason, and the store is as empty as before.
fn refused(host: &Host, cases: &[(&str, Vec<u8>, &str)]) {
    for (what, bytes, word) in cases {
        host.umiak_reading(bytes, &["load"]).fails(1, &[word]);
        assert_eq!(host.umiak(&["images", "-aq"]).exits(0).stdout, "", "{what}");
        assert_eq!(host.layers(), Vec::<String>::new(), "{what}");
        assert_eq!(host.list("blobs/sha256"), Vec::<String>::new(), "{what}");
    }
}

#[test]
fn hostile_archives_are_refused_and_leave_nothing() {
    require!(root);
    let host = Host::new();
    let secret = host.dir().join("secret");
    std::fs::write(&secret, archive(&[file("s", 0o600, b"secret")])).expect("written");
    let outside = secret.display().to_string();
    let good = config(&[sha256(&archive(&[file("x", 0o644, b"y")]))]);
    let one = item("[\"l.tar\"]", "[\"a:1\"]");
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("traversal", docker(&item("[\"../../etc/passwd\"]", "[]"), &good, &[]), "missing"),
        ("absolute", docker(&item(&format!("[\"{outside}\"]"), "[]"), &good, &[]), "missing"),
        (
            "link out",
            docker(&item("[\"evil.tar\"]", "[]"), &good, &[symlink("evil.tar", &outside)]),
            "evil.tar",
        ),
        (
            "link up",
            docker(&item("[\"evil.tar\"]", "[]"), &good, &[symlink("evil.tar", "../secret")]),
            "evil.tar",
        ),
        (
            "link loop",
            docker(&item("[\"e\"]", "[]"), &good, &[symlink("e", "f"), symlink("f", "e")]),
            "missing",
        ),
        ("member up", docker(&one, &good, &[file("../x", 0o644, b"")]), "leaves the root"),
        ("member twice", docker(&one, &good, &[file("l.tar", 0o644, b"other")]), "occurs twice"),
        ("device", docker(&one, &good, &[device("n", b'3', 1, 3)]), "type"),
        ("layer missing", docker(&item("[\"no.tar\"]", "[]"), &good, &[]), "missing"),
        ("config missing", docker("[{\"Config\":\"no\",\"Layers\":[]}]", &good, &[]), "missing"),
    ];
    refused(&host, &cases);
}

/// Configs and documents that lie, and layers that are hostile themselves.
#[test]
fn hostile_documents_are_refused_and_leave_nothing() {
    require!(root);
    let host = Host::new();
    let good = config(&[sha256(&archive(&[file("x", 0o644, b"y")]))]);
    let one = item("[\"l.tar\"]", "[\"a:1\"]");
    let many = vec!["\"l.tar\""; 10_000].join(",");
    let ids = vec![sha256(&archive(&[file("x", 0o644, b"y")])); 10_000];
    let evil_layer = archive(&[file("../../x", 0o644, b"evil")]);
    let linked = archive(&[symlink("d", "/"), hard_link("h", "d/etc/passwd")]);
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("wrong diff id", docker(&one, &config(&[sha256(b"other")]), &[]), "digest mismatch"),
        ("too few diff ids", docker(&one, &config(&[]), &[]), "diff ids"),
        ("bad diff id", docker(&one, &config(&["sha256:../../x".into()]), &[]), "diff id"),
        (
            "twin keys",
            docker("[{\"Config\":\"c.json\",\"Config\":\"d.json\",\"Layers\":[]}]", &good, &[]),
            "duplicate key",
        ),
        (
            "spellings",
            docker("[{\"Config\":\"c.json\",\"config\":\"d.json\",\"Layers\":[]}]", &good, &[]),
            "two spellings",
        ),
        ("twin in config", docker(&one, "{\"os\":\"linux\",\"os\":\"x\"}", &[]), "duplicate key"),
        ("no list", docker("{}", &good, &[]), "manifest.json"),
        ("no JSON", docker("[", &good, &[]), "manifest.json"),
        ("name up", docker(&item("[\"l.tar\"]", "[\"../../x:1\"]"), &good, &[]), "../../x:1"),
        ("tag up", docker(&item("[\"l.tar\"]", "[\"a:../x\"]"), &good, &[]), "a:../x"),
        ("no tag", docker(&item("[\"l.tar\"]", "[\"a\"]"), &good, &[]), "not a name with a tag"),
        ("10,000 layers", docker(&item(&format!("[{many}]"), "[]"), &config(&ids), &[]), "limit"),
        (
            "a layer that leaves",
            docker(
                &item("[\"e.tar\"]", "[]"),
                &config(&[sha256(&evil_layer)]),
                &[file("e.tar", 0o644, &evil_layer)],
            ),
            "leaves the root",
        ),
        (
            "a link through a link",
            docker(&item("[\"e.tar\"]", "[]"), &config(&[sha256(&linked)]), &[file("e.tar", 0o644, &linked)]),
            "hard link",
        ),
        (
            "a layer that is none",
            docker(&item("[\"c.json\"]", "[]"), &config(&[sha256(good.as_bytes())]), &[]),
            "digest mismatch",
        ),
        (
            "no parent",
            archive(&[file(
                "repositories",
                0o644,
                format!("{{\"a\":{{\"1\":\"{}\"}}}}", "1".repeat(64)).as_bytes(),
            )]),
            "missing",
        ),
        ("legacy name", archive(&[file("repositories", 0o644, b"{\"a\":{\"1\":\"../x\"}}")]), "64 digits"),
    ];
    refused(&host, &cases);
    // The good one among them is good.
    assert_eq!(
        host.umiak_reading(&docker(&one, &good, &[]), &["load"]).exits(0).stdout,
        "Loaded image: a:1\n"
    );
}

fn blob(bytes: &[u8]) -> String {
    format!("blobs/sha256/{}", &sha256(bytes)[7..])
}

/// The same for the OCI's layout: what its digests say is held against the bytes.
#[test]
fn a_layout_is_held_to_its_digests() {
    require!(root);
    let host = Host::new();
    let layer = archive(&[file("x", 0o644, b"y")]);
    let config = config(&[sha256(&layer)]);
    let manifest = |digest: &str, size: usize| {
        format!(
            "{{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\
             \"config\":{{\"mediaType\":\"application/vnd.oci.image.config.v1+json\",\"digest\":\"{}\",\"size\":{}}},\
             \"layers\":[{{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar\",\"digest\":\"{digest}\",\"size\":{size}}}]}}",
            sha256(config.as_bytes()),
            config.len()
        )
    };
    let index = |target: &str, size: usize, kind: &str| {
        format!(
            "{{\"schemaVersion\":2,\"manifests\":[{{\"mediaType\":\"application/vnd.oci.image.{kind}.v1+json\",\"digest\":\"{target}\",\
             \"size\":{size},\"annotations\":{{\"io.containerd.image.name\":\"docker.io/library/a:1\"}}}}]}}"
        )
    };
    let good = manifest(&sha256(&layer), layer.len());
    let whole = |index: &str, manifest: &str, layer_name: &str, layer: &[u8]| {
        archive(&[
            file("oci-layout", 0o644, b"{\"imageLayoutVersion\":\"1.0.0\"}"),
            file("index.json", 0o644, index.as_bytes()),
            file(&blob(manifest.as_bytes()), 0o644, manifest.as_bytes()),
            file(&blob(config.as_bytes()), 0o644, config.as_bytes()),
            file(layer_name, 0o644, layer),
        ])
    };
    let of = |manifest: &str| index(&sha256(manifest.as_bytes()), manifest.len(), "manifest");
    let short = manifest(&sha256(&layer), layer.len() - 1);
    let nothing = manifest("sha256:../../x", 3);
    let cases = [
        ("another layer's bytes", whole(&of(&good), &good, &blob(&layer), b"other"), "digest mismatch"),
        ("another size", whole(&of(&short), &short, &blob(&layer), &layer), "size mismatch"),
        ("a path for a digest", whole(&of(&nothing), &nothing, &blob(&layer), &layer), "blobs/sha256/"),
        ("no layer", whole(&of(&good), &good, "elsewhere", &layer), "missing"),
        ("no manifest", whole(&index(&sha256(b"x"), 1, "manifest"), &good, &blob(&layer), &layer), "missing"),
        (
            "an index for a manifest",
            whole(&index(&sha256(good.as_bytes()), good.len(), "index"), &good, &blob(&layer), &layer),
            "ambiguous",
        ),
        ("no index", whole(&good, &good, &blob(&layer), &layer), "index.json"),
    ];
    for (what, bytes, word) in &cases {
        host.umiak_reading(bytes, &["load"]).fails(1, &[word]);
        assert_eq!(host.umiak(&["images", "-aq"]).exits(0).stdout, "", "{what}");
        assert!(host.layers().is_empty() && host.list("blobs/sha256").is_empty(), "{what}");
    }
    let bytes = whole(&of(&good), &good, &blob(&layer), &layer);
    assert_eq!(host.umiak_reading(&bytes, &["load"]).exits(0).stdout, "Loaded image: a:1\n");
}

/// Killed at random moments, a load leaves nothing half-made, and the next one succeeds.
#[test]
fn a_killed_load_leaves_nothing_half_made() {
    require!(root);
    let host = Host::new();
    let noise: Vec<u8> = (0..3_000_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[1]).collect();
    let bytes = {
        let made = archive(&[file("a", 0o644, &noise), file("b", 0o644, &noise[..900_000])]);
        host.umiak_reading(&made, &["import", "-", "a:1"]).exits(0);
        let path = host.dir().join("a.tar");
        host.umiak(&["save", "-o", &path.display().to_string(), "a:1"]).exits(0);
        host.umiak(&["rmi", "a:1"]).exits(0);
        path.display().to_string()
    };
    for round in 0..12_u64 {
        let mut child = host.command(&["load", "-i", &bytes]).spawn().expect("starts");
        std::thread::sleep(std::time::Duration::from_millis(round * 7));
        child.kill().expect("killed");
        child.wait().expect("ended");
        let images = host.umiak(&["images", "-q"]).exits(0).stdout;
        if !images.is_empty() {
            host.umiak(&["rmi", "-f", "a:1"]).exits(0);
        }
        host.umiak(&["load", "-i", &bytes]).exits(0);
        host.umiak(&["create", "--name", "cc", "--network", "none", "a:1", "/a"]).exits(0);
        host.umiak(&["rm", "cc"]).exits(0);
        host.umiak(&["rmi", "a:1"]).exits(0);
        let left: Vec<String> = host.layers();
        assert!(left.is_empty(), "round {round}: {left:?}");
    }
}
