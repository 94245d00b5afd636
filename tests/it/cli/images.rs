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
fn an_image_in_use_stays() {
    require!(root, registry);
    let host = Host::new();
    let image = registry::busybox();
    let id = detached(&host, &["--name", "user"], &["sleep", "1000"]);
    host.umiak(&["rmi", &image]).fails(1, &["using it", &id[..12]]);
    host.umiak(&["rmi", "-f", host.umiak(&["images", "-q"]).text()]).fails(1, &["using it"]);
    assert_eq!(host.umiak(&["ps", "-q"]).exits(0).text(), &id[..12]);
    host.umiak(&["kill", "user"]).exits(0);
    host.umiak(&["rmi", &image]).fails(1, &["using it"]);
    host.umiak(&["rm", "user"]).exits(0);
    host.umiak(&["rmi", &image]).exits(0);
    assert_eq!(host.umiak(&["images", "-q"]).exits(0).stdout, "");
}
