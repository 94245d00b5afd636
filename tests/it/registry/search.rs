//! Searching: Docker Hub's service (a stand-in of it), and the catalogue of a private registry.

use crate::support::depot::Depot;
use crate::support::host::Host;
use crate::support::{registry, require};

const RESULTS: &str = r#"{"num_results":3,"query":"box","results":[
 {"name":"busybox","description":"Busybox base image, in one file that is everything you may ever want.","star_count":3456,"is_official":true,"is_automated":false},
 {"name":"someone/box","description":"a box\nof \u001b[31mlines","star_count":12,"is_official":false,"is_automated":true},
 {"name":"","description":"nameless","star_count":1}]}"#;

#[test]
fn docker_hubs_results() {
    require!(root);
    let (host, depot) = (Host::new(), Depot::new());
    depot.page("/v1/search", RESULTS, "");
    let config = host.dir().join("c.toml");
    std::fs::write(&config, format!("[registries.\"docker.io\"]\nsearch = \"{}\"\n", depot.address()))
        .expect("written");
    let path = config.to_str().expect("text");
    let search = |args: &[&str]| host.umiak(&[&["--config", path, "search"], args].concat());
    let table = search(&["box"]).exits(0).stdout;
    let lines: Vec<_> = table.lines().collect();
    assert_eq!(lines.len(), 3, "{table}");
    assert_eq!(lines[0].split_whitespace().collect::<Vec<_>>(), ["NAME", "DESCRIPTION", "STARS", "OFFICIAL"]);
    assert!(
        lines[1].starts_with("busybox") && lines[1].contains('…') && lines[1].contains("3456"),
        "{table}"
    );
    assert!(lines[1].trim_end().ends_with("[OK]") && !table.contains('\u{1b}'), "{table}");
    assert!(depot.asked()[0].path.contains("q=box&n=25"));
    for (args, names) in [
        (&["-f", "stars=100", "box"][..], &["busybox"][..]),
        (&["-f", "is-official=false", "box"], &["someone/box"]),
        (&["-f", "is-automated=true", "box"], &["someone/box"]),
        (&["--limit", "1", "box"], &["busybox"]),
    ] {
        let out = search(&[args, &["--format", "{{.Name}}"]].concat()).exits(0).stdout;
        assert_eq!(out.lines().collect::<Vec<_>>(), names, "{args:?}");
    }
    let whole = search(&["--no-trunc", "box"]).exits(0).stdout;
    assert!(whole.contains("everything you may ever want.") && !whole.contains('…'), "{whole}");
    search(&["--limit", "101", "box"]).fails(1, &["limit 101 is outside the range of [1, 100]"]);
    search(&["-f", "foo=1", "box"]).exits(1);
    search(&["-f", "stars=a", "box"]).exits(1);
    depot.page("/v1/search", "<html>", "");
    search(&["box"]).fails(1, &["search results are not of the form expected"]);
}

#[test]
fn a_private_registrys_catalogue() {
    require!(root, registry);
    let host = Host::new();
    let address = registry::address();
    let found = host.umiak(&["search", "--format", "{{.Name}}", &format!("{address}/wasm/")]).exits(0).stdout;
    assert!(found.lines().any(|line| line == format!("{address}/wasm/hello")), "{found}");
    assert!(!found.contains("busybox"), "{found}");
    let name = format!("{address}/library/busybox");
    let tags =
        host.umiak(&["search", "--list-tags", "--format", "{{.Name}} {{.Tag}}", &name]).exits(0).stdout;
    assert!(tags.lines().any(|line| line == format!("{name} zstd")), "{tags}");
    host.umiak(&["search", "--list-tags", &format!("{address}/none/x")])
        .fails(1, &["not found: name unknown"]);
}

#[test]
fn lists_without_end_are_refused() {
    require!(root);
    let (host, depot) = (Host::new(), Depot::new());
    let term = format!("{}/x", depot.address());
    for (link, words) in [
        ("</v2/_catalog?n=1000>; rel=\"next\"", "its list has no end"),
        ("<http://192.0.2.1/v2/_catalog>; rel=\"next\"", "continues on another host"),
    ] {
        depot.page("/v2/_catalog", r#"{"repositories":["x"]}"#, &format!("Link: {link}\r\n"));
        host.umiak(&["search", &term]).fails(1, &[words]);
    }
    depot.page("/v2/_catalog", r#"{"repositories":["x","a\u001bx"]}"#, "");
    assert_eq!(host.umiak(&["search", "--format", "{{.Name}}", &term]).exits(0).stdout, format!("{term}\n"));
}
