//! `images` and `rmi`.

use super::detached;
use crate::support::host::Host;
use crate::support::{registry, require};

#[test]
fn images_shows_dockers_columns() {
    require!(root, registry);
    let host = Host::new();
    let image = registry::busybox();
    host.umiak(&["pull", "-q", &image]).exits(0);
    let table = host.umiak(&["images"]).exits(0).stdout;
    let mut lines = table.lines();
    let title = lines.next().expect("a title").split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(title, "REPOSITORY TAG IMAGE ID CREATED SIZE");
    let line = lines.next().expect("an image");
    assert!(line.starts_with(&image) && line.contains("latest") && line.ends_with("MB"), "{line}");
    assert_eq!(lines.next(), None);
    let id = host.umiak(&["images", "-q", "--no-trunc"]).exits(0).text().to_owned();
    assert!(id.starts_with("sha256:") && id.len() == 71, "{id}");
    assert_eq!(host.umiak(&["images", "-q"]).exits(0).text(), &id[7..19]);
    assert_eq!(host.umiak(&["images", "-q", &image]).exits(0).text(), &id[7..19]);
    assert_eq!(host.umiak(&["images", "-q", "nothing"]).exits(0).text(), "");
    assert_eq!(
        host.umiak(&["images", "--format", "{{.Repository}}:{{.Tag}}"]).exits(0).text(),
        format!("{image}:latest")
    );
    assert!(host.umiak(&["images", "--digests"]).exits(0).stdout.contains("sha256:"));
}

#[test]
fn rmi_untags_then_deletes() {
    require!(root, registry);
    let host = Host::new();
    let image = registry::busybox();
    // Two tags of one image: the same configuration in another compression is the same id.
    host.umiak(&["pull", "-q", &image]).exits(0);
    host.umiak(&["pull", "-q", &format!("{image}:zstd")]).exits(0);
    let ids = host.umiak(&["images", "--format", "{{.ID}}"]).exits(0).stdout;
    let id = ids.lines().next().expect("an id").to_owned();
    assert_eq!(ids, format!("{id}\n{id}\n"), "both tags are one image");
    host.umiak(&["rmi", &id]).fails(1, &["must be forced", "zstd"]);
    let out = host.umiak(&["rmi", &format!("{image}:zstd")]).exits(0).stdout;
    assert_eq!(out, format!("Untagged: {image}:zstd\n"));
    let out = host.umiak(&["rmi", &id]).exits(0).stdout;
    assert!(
        out.contains(&format!("Untagged: {image}:latest\n")) && out.contains("Deleted: sha256:"),
        "{out}"
    );
    assert_eq!(host.umiak(&["images", "-aq"]).exits(0).stdout, "");
    host.umiak(&["rmi", &id]).fails(1, &["No such image"]);
    host.umiak(&["rmi", "nothing"]).fails(1, &["No such image"]);
    assert_eq!(host.layers(), Vec::<String>::new());
    assert_eq!(host.list("blobs/sha256"), Vec::<String>::new());
}

#[test]
fn filters_and_the_tree() {
    require!(root, registry);
    let host = Host::new();
    let both = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target/fixtures/layouts/both@latest");
    host.umiak(&["load", "-i", &both.display().to_string()]).exits(0);
    for id in host.umiak(&["images", "-q"]).exits(0).stdout.lines() {
        host.umiak(&["tag", id, "both:1"]).exits(0);
    }
    for (name, label) in [("a:1", "x=1"), ("b:1", "x=2")] {
        let tar = crate::support::tar::archive(&[crate::support::tar::file(name, 0o644, b"")]);
        host.umiak_reading(&tar, &["import", "-c", &format!("LABEL {label}"), "-", name]).exits(0);
    }
    let named = |filters: &[&str]| {
        let mut args = vec!["images", "--format", "{{.Repository}}"];
        args.extend(filters.iter().flat_map(|filter| ["--filter", filter]));
        let out = host.umiak(&args).exits(0).stdout;
        let mut names: Vec<String> = out.lines().map(str::to_owned).collect();
        names.sort();
        names.dedup();
        names.join(" ")
    };
    assert_eq!(named(&["before=b:1"]), "a both");
    assert_eq!(named(&["since=a:1"]), "b");
    assert_eq!(named(&["label=x"]), "a b");
    assert_eq!(named(&["label=x=2", "dangling=false"]), "b");
    assert_eq!(named(&["reference=bo*"]), "both");
    assert_eq!(named(&["until=2000-01-01T00:00:00Z"]), "");
    host.umiak(&["images", "--filter", "before=nothing"]).fails(1, &["nothing"]);
    let tree = host.umiak(&["images", "--tree", "both"]).exits(0).stdout;
    let lines: Vec<&str> = tree.lines().collect();
    assert!(lines[0].starts_with("IMAGE") && lines[0].ends_with("EXTRA"), "{tree}");
    assert!(lines[1].starts_with("both:1"), "{tree}");
    assert!(tree.contains("├─ ") && tree.contains("└─ ") && tree.contains("wasi/wasm"), "{tree}");
    assert!(!tree.contains("a:1"), "{tree}");
    // By id one platform goes, by name all that are left.
    let wasm = host.umiak(&["images", "--format", "{{.Platform}} {{.ID}}", "both"]).exits(0).stdout;
    let wasm = wasm.lines().find_map(|line| line.strip_prefix("wasi/wasm ")).expect("there").to_owned();
    host.umiak(&["rmi", &wasm]).exits(0);
    assert!(!host.umiak(&["images", "both", "--format", "{{.Platform}}"]).exits(0).stdout.contains("wasi"));
    host.umiak(&["rmi", "both:1"]).exits(0);
    assert_eq!(named(&[]), "a b");
}

#[test]
fn an_image_in_use_stays() {
    require!(root, registry);
    let host = Host::new();
    let image = registry::busybox();
    let id = detached(&host, &["--name", "user"], &["sleep", "1000"]);
    let short = host.umiak(&["images", "-q"]).text().to_owned();
    let named = format!(
        "unable to remove repository reference \"{image}:latest\" (must force) - container {} is using its referenced image {short}",
        &id[..12]
    );
    host.umiak(&["rmi", &image]).fails(1, &[&named]);
    let running = format!(
        "unable to delete {short} (cannot be forced) - image is being used by running container {}",
        &id[..12]
    );
    host.umiak(&["rmi", &short]).fails(1, &[&running]);
    host.umiak(&["rmi", "-f", &short]).fails(1, &[&running]);
    assert_eq!(host.umiak(&["ps", "-q"]).exits(0).text(), &id[..12]);
    host.umiak(&["kill", "user"]).exits(0);
    host.umiak(&["rmi", &image]).fails(1, &["(must force)"]);
    let stopped = format!(
        "unable to delete {short} (must be forced) - image is being used by stopped container {}",
        &id[..12]
    );
    host.umiak(&["rmi", &short]).fails(1, &[&stopped]);
    // By force the name goes, and what the container is made of stays.
    let out = host.umiak(&["rmi", "-f", &image]).exits(0).stdout;
    assert_eq!(out, format!("Untagged: {image}:latest\n"));
    host.umiak(&["start", "user"]).exits(0);
    host.umiak(&["rm", "-f", "user"]).exits(0);
    host.umiak(&["rmi", &short]).exits(0);
    assert_eq!(host.umiak(&["images", "-q"]).exits(0).stdout, "");
}
