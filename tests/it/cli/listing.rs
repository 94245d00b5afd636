//! `ps` and `inspect`.

use serde_json::Value;

use super::detached;
use crate::support::host::Host;
use crate::support::{registry, require};

/// The cells of a table: columns are separated by two spaces at least.
fn cells(line: &str) -> Vec<&str> {
    line.split("   ").map(str::trim).filter(|cell| !cell.is_empty()).collect()
}

#[test]
fn ps_shows_dockers_columns() {
    require!(root, registry);
    let host = Host::new();
    let image = registry::busybox();
    assert_eq!(
        host.umiak(&["ps"]).exits(0).stdout.split_whitespace().collect::<Vec<_>>().join(" "),
        "CONTAINER ID IMAGE COMMAND CREATED STATUS PORTS NAMES"
    );
    let running = detached(&host, &["--name", "up"], &["sleep", "1000"]);
    let ended = detached(&host, &["--name", "down"], &["sh", "-c", "exit 3"]);
    host.umiak(&["wait", "down"]).exits(0);
    let table = host.umiak(&["ps"]).exits(0).stdout;
    let line = table.lines().nth(1).expect("a line");
    assert_eq!(table.lines().count(), 2, "{table}");
    let row = cells(line);
    assert_eq!((row[0], row[1]), (&running[..12], image.as_str()), "{line}");
    assert!(row[2].contains("sleep 1000") && row[3].ends_with("ago") && row[4].starts_with("Up "), "{line}");
    assert_eq!(row.last(), Some(&"up"));
    let all = host.umiak(&["ps", "-a"]).exits(0).stdout;
    // The newest first.
    assert!(
        all.lines().nth(1).is_some_and(|line| line.contains("Exited (3)") && line.contains("down")),
        "{all}"
    );
    assert_eq!(host.umiak(&["ps", "-aq", "--no-trunc"]).exits(0).stdout, format!("{ended}\n{running}\n"));
    for (flags, names) in [
        (&["-f", "name=up"][..], "up\n"),
        (&["-f", "status=exited"], "down\n"),
        (&["-f", "status=running"], "up\n"),
        (&["-a", "-f", "exited=3"], "down\n"),
        (&["-a", "-f", "exited=0"], ""),
        (&["-a", "-f", &format!("id={}", &ended[..6])], "down\n"),
        (&["-a", "-f", &format!("ancestor={image}")], "down\nup\n"),
        (&["-a", "-n", "1"], "down\n"),
        (&["-l"], "down\n"),
    ] {
        let mut args = vec!["ps", "--format", "{{.Names}}"];
        args.extend(flags);
        assert_eq!(host.umiak(&args).exits(0).stdout, names, "{flags:?}");
    }
    host.umiak(&["ps", "-f", "colour=red"]).exits(1);
    host.umiak(&["ps", "--format", "{{.Nothing"]).exits(1);
    let json = host.umiak(&["ps", "--format", "json"]).exits(0).stdout;
    let row: Value = serde_json::from_str(json.trim()).expect("JSON");
    assert_eq!((row["ID"].as_str(), row["State"].as_str()), (Some(&running[..12]), Some("running")));
    let table = host.umiak(&["ps", "--format", "table {{.ID}}\t{{.Names}}"]).exits(0).stdout;
    assert!(table.starts_with("CONTAINER ID") && table.contains("up"), "{table}");
    host.umiak(&["rm", "-f", "up", "down"]).exits(0);
}

#[test]
fn inspect_finds_out_what_the_name_is() {
    require!(root, registry);
    let host = Host::new();
    let image = registry::busybox();
    let id = detached(&host, &["--name", "box", "-e", "A=1", "-l", "k=v"], &["sleep", "1000"]);
    let all: Value =
        serde_json::from_str(&host.umiak(&["inspect", "box", &image]).exits(0).stdout).expect("JSON");
    let (container, found) = (&all[0], &all[1]);
    assert_eq!(container["Id"], id.as_str());
    assert_eq!(container["Name"], "/box");
    assert_eq!(container["State"]["Running"], true);
    assert_eq!(container["Config"]["Labels"]["k"], "v");
    assert!(container["Config"]["Env"].as_array().is_some_and(|env| env.contains(&"A=1".into())));
    assert_eq!(container["Executor"]["Name"], "linux");
    assert!(container["Executor"]["Reason"].as_str().is_some_and(|why| !why.is_empty()));
    assert!(container["State"]["Pid"].as_u64().is_some_and(|pid| pid > 1));
    assert_eq!(found["RepoTags"][0].as_str(), Some(format!("{image}:latest").as_str()));
    assert_eq!((found["Os"].as_str(), found["Architecture"].as_str()), (Some("linux"), Some("amd64")));
    assert_eq!(container["Image"], found["Id"]);
    assert_eq!(host.umiak(&["inspect", "-f", "{{.Name}}", &id[..6]]).exits(0).text(), "/box");
    assert_eq!(
        host.umiak(&["inspect", "--type", "container", "-f", "{{.State.Running}}", "box"]).exits(0).text(),
        "true"
    );
    host.umiak(&["inspect", "--type", "image", "box"]).fails(1, &["No such image: box"]);
    host.umiak(&["inspect", "--type", "container", &image]).fails(1, &["o such container"]);
    host.umiak(&["inspect", "--type", "planet", "box"]).fails(1, &["planet"]);
    host.umiak(&["inspect", "-f", "{{.Name", "box"]).exits(1);
    let out = host.umiak(&["inspect", "nothing"]).fails(1, &["No such object: nothing"]);
    assert_eq!(out.stdout.trim(), "[]");
    host.umiak(&["rm", "-f", "box"]).exits(0);
}

#[test]
fn an_ambiguous_id_names_the_candidates() {
    require!(root, registry);
    let host = Host::new();
    // Of 17 ids two begin with the same digit.
    let ids: Vec<_> = (0..17).map(|_| detached(&host, &[], &["true"])).collect();
    let digit = |c: char| ids.iter().filter(|id| id.starts_with(c)).collect::<Vec<_>>();
    let shared =
        ids.iter().map(|id| &id[..1]).find(|first| digit(first.chars().next().expect("one")).len() > 1);
    let shared = shared.expect("the pigeonhole principle");
    let out = host.umiak(&["inspect", shared]).exits(1);
    for id in digit(shared.chars().next().expect("one")).into_iter().take(2) {
        assert!(out.stderr.contains(&id[..12]), "{}", out.stderr);
    }
    let mut args = vec!["rm", "-f"];
    args.extend(ids.iter().map(String::as_str));
    host.umiak(&args).exits(0);
}
