//! `cp`: between a container and the host, and never out of the container.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;

use super::{detached, until};
use crate::support::host::Host;
use crate::support::{registry, require, tar};

#[test]
fn files_and_folders_go_both_ways() {
    require!(root, registry);
    let host = Host::new();
    let work = host.dir().join("work");
    fs::create_dir_all(work.join("tree/sub")).expect("made");
    fs::write(work.join("tree/sub/file"), "deep").expect("written");
    symlink("sub/file", work.join("tree/link")).expect("linked");
    let path = |name: &str| work.join(name).display().to_string();
    let id = detached(&host, &["--name", "box", "-v", "kept:/kept"], &["sleep", "1000"]);
    let shown = host.umiak(&["inspect", "-f", "{{range .Mounts}}{{.Source}}{{end}}", "box"]).exits(0).stdout;
    assert_eq!(shown, host.umiak(&["volume", "inspect", "-f", "{{.Mountpoint}}", "kept"]).exits(0).stdout);
    for args in [["box:", "-"], ["box:", "there"], [".", "box:"]] {
        host.umiak(&["cp", args[0], args[1]]).fails(1, &["path cannot be empty"]);
    }
    for round in ["running", "stopped"] {
        // Into a directory that is there, as a new name, and only what is inside.
        let out = host.umiak(&["cp", &path("tree"), "box:/tmp"]).exits(0);
        assert_eq!(out.stderr, "", "scripts hear of failures alone");
        host.umiak(&["cp", &path("tree"), &format!("box:/new-{round}")]).exits(0);
        host.umiak(&["cp", &format!("{}/.", path("tree")), "box:/kept"]).exits(0);
        let back = path(round);
        host.umiak(&["cp", "-q", &format!("box:/new-{round}"), &back]).exits(0);
        assert_eq!(fs::read_to_string(work.join(round).join("sub/file")).expect("copied"), "deep");
        assert_eq!(
            fs::read_link(work.join(round).join("link")).expect("a link").display().to_string(),
            "sub/file"
        );
        host.umiak(&["cp", "-L", &format!("box:/new-{round}/link"), &path("followed")]).exits(0);
        assert_eq!(fs::read_to_string(work.join("followed")).expect("copied"), "deep");
        host.umiak(&["cp", "box:/kept/sub/file", &path("single")]).exits(0);
        assert_eq!(fs::read_to_string(work.join("single")).expect("copied"), "deep");
        host.umiak(&["cp", "box:/nope", &path("x")])
            .fails(1, &["Could not find the file /nope in container box"]);
        host.umiak(&["cp", &path("nope"), "box:/"]).fails(1, &["Could not find the file"]);
        host.umiak(&["cp", &path("single"), "box:/no/such/dir/x"]).fails(1, &["no such directory"]);
        host.umiak(&["cp", &path("tree"), "box:/etc/passwd"]).fails(1, &["cannot copy a directory"]);
        host.umiak(&["cp", &path("single"), &path("x")]).fails(1, &["container"]);
        host.umiak(&["stop", "-t", "0", &id]).exits(0);
    }
    host.umiak(&["rm", "box"]).exits(0);
    host.umiak(&["volume", "rm", "kept"]).exits(0);
}

/// While a big folder goes in, its destination becomes a link to a folder of the host: neither its content nor its mode changes.
#[test]
fn a_folder_that_becomes_a_link_changes_nothing_outside() {
    use std::os::unix::fs::PermissionsExt as _;
    require!(root, registry);
    let host = Host::new();
    let canary = host.dir().join("canary");
    fs::create_dir(&canary).expect("made");
    fs::set_permissions(&canary, fs::Permissions::from_mode(0o700)).expect("set");
    let big = host.dir().join("big");
    fs::create_dir(&big).expect("made");
    fs::set_permissions(&big, fs::Permissions::from_mode(0o777)).expect("set");
    for number in 0..1500 {
        fs::write(big.join(number.to_string()), "x").expect("written");
    }
    let outside = canary.display().to_string();
    let script = format!(
        "while [ ! -e /big/5 ]; do :; done; mv /big /x; ln -s {outside} /big; echo swapped; sleep 1000"
    );
    for _ in 0..3 {
        let id = detached(&host, &[], &["sh", "-c", &script]);
        host.umiak(&["cp", &big.display().to_string(), &format!("{id}:/")]);
        let mode = fs::metadata(&canary).expect("it is there").permissions().mode() & 0o7777;
        assert_eq!(mode, 0o700, "{mode:o}");
        assert_eq!(fs::read_dir(&canary).expect("readable").count(), 0);
        host.umiak(&["rm", "-f", &id]).exits(0);
    }
}

#[test]
fn read_only_is_read_only_whether_it_runs_or_not() {
    require!(root, registry);
    let host = Host::new();
    let file = host.dir().join("file");
    fs::write(&file, "x").expect("written");
    let file = file.display().to_string();
    let id = detached(&host, &["--read-only", "-v", "vv:/free", "-v", "ww:/bound:ro"], &["sleep", "1000"]);
    for _ in 0..2 {
        host.umiak(&["cp", &file, &format!("{id}:/free/")]).exits(0);
        assert_ne!(host.umiak(&["cp", &file, &format!("{id}:/etc/")]).status, 0);
        assert_ne!(host.umiak(&["cp", &file, &format!("{id}:/x/../bound/")]).status, 0);
        host.umiak(&["stop", "-t", "0", &id]).exits(0);
    }
    host.umiak(&["rm", &id]).exits(0);
}

/// A process in the container swaps a folder for a link to the host's root while files are copied through it.
#[test]
fn a_swapped_path_never_leads_out() {
    require!(root, registry);
    let host = Host::new();
    let canary = host.dir().join("canary");
    fs::create_dir(&canary).expect("made");
    fs::write(canary.join("file"), "untouched").expect("written");
    fs::write(host.dir().join("file"), "evil").expect("written");
    let outside = canary.display().to_string();
    let script = format!(
        "mkdir -p {outside} /real; echo inside >/real/file; echo ready; \
         while :; do rm -rf /path; mkdir /path; rm -rf /path; ln -s {outside} /path; done"
    );
    let id = detached(&host, &["--name", "swap"], &["sh", "-c", &script]);
    until("it swaps", || host.umiak(&["logs", "swap"]).stdout.contains("ready"));
    let source = host.dir().join("file").display().to_string();
    for _ in 0..200 {
        // Whether it succeeds depends on the moment; where it goes does not.
        host.umiak(&["cp", &source, "swap:/path/file"]);
        host.umiak(&["cp", "swap:/path/file", &host.dir().join("out").display().to_string()]);
        assert_eq!(fs::read_to_string(canary.join("file")).expect("it is there"), "untouched");
        let out = fs::read_to_string(host.dir().join("out")).unwrap_or_default();
        assert!(out.is_empty() || out == "evil", "{out}");
    }
    host.umiak(&["rm", "-f", &id]).exits(0);
}

/// One that does not run is its files alone: a copy and a start of it do not meet.
#[test]
fn a_container_is_not_started_while_its_files_are_copied() {
    require!(root, registry);
    let host = Host::new();
    let image = registry::busybox();
    let id = host.umiak(&["create", "--name", "box", &image, "cat", "/made"]).exits(0).text().to_owned();
    let run = host.dir().join("run").join(&id[..24]);
    let args = ["cp", "-", "box:/"];
    let mut copying = host.command(&args).stdin(std::process::Stdio::piped()).spawn().expect("umiak starts");
    let mut input = copying.stdin.take().expect("piped");
    until("it has the container", || umiak::supervisor::is_alive(&run));
    host.umiak(&["start", "-a", "box"]).fails(1, &["cannot start", "its files are being copied"]);
    host.umiak(&["rm", "box"]).fails(1, &["cannot remove", "its files are being copied"]);
    host.umiak(&["cp", "box:/etc/passwd", "/dev/null"]).fails(1, &["another command is busy with it"]);
    assert_eq!(host.umiak(&["ps", "-q"]).exits(0).stdout, "");
    input.write_all(&tar::archive(&[tar::file("made", 0o644, b"copied")])).expect("it reads");
    drop(input);
    host.finish(copying, &args).exits(0);
    assert_eq!(host.umiak(&["start", "-a", "box"]).exits(0).text(), "copied");
    host.umiak(&["cp", "-q", "box:/made", &host.dir().join("out").display().to_string()]).exits(0);
    let told = host.umiak(&["events", "--since", "0", "--until", "0s", "--format", "{{.Action}}"]).exits(0);
    let actions: Vec<&str> = told.stdout.lines().collect();
    assert_eq!(actions.iter().filter(|action| **action == "extract-to-dir").count(), 1, "{actions:?}");
    assert_eq!(actions.last(), Some(&"archive-path"));
    host.umiak(&["rm", "box"]).exits(0);
}
