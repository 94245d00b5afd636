//! `diff`, `commit`, `export`, `import`, `history`, and `cp` from and to archives; what is expected was seen on docker 28.

use std::process::Command;

use serde_json::Value;

use super::digests;
use crate::support::host::Host;
use crate::support::tar::{Entry, archive, device, dir, file, hard_link, symlink};
use crate::support::{program, require};

/// A small image without a registry: a shell, and a tree to change.
fn base(host: &Host) -> String {
    let shell = program();
    let mut entries = vec![dir("bin"), file("bin/busybox", 0o755, &shell), dir("etc"), dir("d"), dir("d/e")];
    let names: Vec<String> = [
        "sh", "cat", "ls", "rm", "mkdir", "chmod", "touch", "sleep", "ln", "mv", "dd", "mkfifo", "mknod",
        "chown", "cp", "echo", "true", "stat",
    ]
    .iter()
    .map(|name| format!("bin/{name}"))
    .collect();
    entries.extend(names.iter().map(|name| symlink(name, "busybox")));
    entries.extend([
        file("etc/passwd", 0o644, b"root:x:0:0::/:/bin/sh\n"),
        file("etc/hi", 0o644, b"hi\n"),
        file("d/e/f", 0o644, b"x\n"),
    ]);
    let out = host
        .umiak_reading(&archive(&entries), &["import", "-m", "hello", "-c", "CMD [\"sh\"]", "-", "base:1"]);
    out.exits(0).text().to_owned()
}

fn changed(host: &Host, name: &str, script: &str) {
    host.umiak(&["run", "--network", "none", "--name", name, "base:1", "sh", "-c", script]).exits(0);
}

#[test]
fn diff_is_dockers() {
    require!(root);
    let host = Host::new();
    base(&host);
    let script = "echo new > /new; rm /etc/hi; chmod 700 /d; mkdir -p /a/b; echo y >> /d/e/f; touch /etc/x; \
        rm -r /d/e; mkdir /d/e; touch /d/e/g";
    changed(&host, "cc", script);
    // Docker's own lines, in the order of names.
    let expected = "A /a\nA /a/b\nC /d\nC /d/e\nD /d/e/f\nA /d/e/g\nC /etc\nD /etc/hi\nA /etc/x\nA /new\n";
    assert_eq!(host.umiak(&["diff", "cc"]).exits(0).stdout, expected);
    host.umiak(&["create", "--name", "never", "base:1"]).exits(0);
    assert_eq!(host.umiak(&["diff", "never"]).exits(0).stdout, "");
    changed(&host, "none", "true");
    assert_eq!(host.umiak(&["diff", "none"]).exits(0).stdout, "");
    // Opened for writing and not written: copied up, and no change.
    changed(&host, "opened", ": >> /etc/hi; chmod 600 /etc/hi; chmod 644 /etc/hi");
    assert_eq!(host.umiak(&["diff", "opened"]).exits(0).stdout, "");
    host.umiak(&["diff", "nothing"]).fails(1, &["nothing"]);
}

#[test]
fn commit_keeps_files_and_says_how_they_are_run() {
    require!(root);
    let host = Host::new();
    base(&host);
    changed(&host, "cc", "echo new > /new; rm /etc/hi; rm -r /d/e; mkdir /d/e; touch /d/e/g");
    let flags = [
        "commit",
        "-a",
        "me",
        "-m",
        "msg",
        "-c",
        "ENV A=b",
        "-c",
        "EXPOSE 80",
        "-c",
        "CMD [\"sh\",\"-c\",\"echo $A; cat /new; ls /d/e /etc\"]",
        "-c",
        "LABEL x=y",
        "-c",
        "VOLUME /v",
        "-c",
        "WORKDIR /d",
        "-c",
        "ONBUILD RUN x",
        "cc",
        "com:1",
    ];
    let id = host.umiak(&flags).exits(0).text().to_owned();
    let inspected: Value =
        serde_json::from_str(&host.umiak(&["image", "inspect", "com:1"]).exits(0).stdout).expect("JSON");
    let image = &inspected[0];
    assert_eq!(image["Id"], id.as_str());
    assert_eq!(image["Author"], "me");
    assert_eq!(image["Comment"], "msg");
    let config = &image["Config"];
    assert_eq!(config["Env"][0], "A=b");
    assert_eq!(config["WorkingDir"], "/d");
    assert_eq!(config["Labels"]["x"], "y");
    assert_eq!(config["OnBuild"][0], "RUN x");
    assert!(config["ExposedPorts"]["80/tcp"].is_object() && config["Volumes"]["/v"].is_object());
    assert_eq!(image["RootFS"]["Layers"].as_array().map(Vec::len), Some(2));
    let out = host.umiak(&["run", "--rm", "--network", "none", "com:1"]).exits(0).stdout;
    assert!(out.starts_with("b\nnew\n") && out.contains("/d/e:\ng\n") && !out.contains("hi\n"), "{out}");
    let history = host
        .umiak(&["history", "--format", "{{.CreatedBy}}|{{.Size}}|{{.Comment}}", "com:1"])
        .exits(0)
        .stdout;
    let lines: Vec<&str> = history.lines().collect();
    assert!(lines[0].starts_with("sh -c echo new > /new;") && lines[0].ends_with("|4B|msg"), "{history}");
    assert!(lines[1].starts_with('|') && lines[1].ends_with("MB|hello"), "{history}");
    let title = host.umiak(&["history", "com:1"]).exits(0).stdout;
    let title = title.lines().next().expect("a title").split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(title, "IMAGE CREATED CREATED BY SIZE COMMENT");
    assert_eq!(
        host.umiak(&["history", "-q", "--no-trunc", "com:1"]).exits(0).stdout,
        format!("{id}\n<missing>\n")
    );
    for (change, words) in
        [("RUN x", "RUN is not a valid change command"), ("ENV A", "ENV requires"), ("EXPOSE x", "EXPOSE")]
    {
        host.umiak(&["commit", "-c", change, "cc"]).fails(1, &[words]);
    }
    host.umiak(&["commit", "cc", "Bad:Name:x"]).exits(1);
    host.umiak(&["commit", "nothing"]).fails(1, &["nothing"]);
    // Nothing changed: no layer, and a step that says so.
    changed(&host, "none", "true");
    host.umiak(&["commit", "none", "same:1"]).exits(0);
    let same: Value =
        serde_json::from_str(&host.umiak(&["image", "inspect", "same:1"]).exits(0).stdout).expect("JSON");
    assert_eq!(same[0]["RootFS"]["Layers"].as_array().map(Vec::len), Some(1));
}

#[test]
fn a_running_container_is_committed_standing_still() {
    require!(root);
    let host = Host::new();
    base(&host);
    let script = "n=0; while :; do n=$((n+1)); echo $n > /a; echo $n > /b; done";
    host.umiak(&["run", "-d", "--network", "none", "--name", "busy", "base:1", "sh", "-c", script]).exits(0);
    crate::cli::until("it writes", || host.umiak(&["diff", "busy"]).stdout.contains("A /b"));
    for pause in ["--pause=true", "--pause=false"] {
        host.umiak(&["commit", pause, "busy", "still:1"]).exits(0);
        let state = host.umiak(&["inspect", "--format", "{{.State.Status}}", "busy"]).exits(0).stdout;
        assert_eq!(state, "running\n", "{pause}");
        host.umiak(&["run", "--rm", "--network", "none", "still:1", "cat", "/etc/hi"]).exits(0);
    }
    host.umiak(&["pause", "busy"]).exits(0);
    host.umiak(&["commit", "busy", "paused:1"]).exits(0);
    assert_eq!(host.umiak(&["inspect", "--format", "{{.State.Status}}", "busy"]).exits(0).stdout, "paused\n");
    host.umiak(&["unpause", "busy"]).exits(0);
    host.umiak(&["rm", "-f", "busy"]).exits(0);
}

/// Names, types, modes, owners, times, targets and content of an archive's members, told by Python.
fn listing(bytes: &[u8], host: &Host) -> String {
    let path = host.dir().join("listed.tar");
    std::fs::write(&path, bytes).expect("written");
    let script = "import sys,tarfile,hashlib\n\
        t=tarfile.open(sys.argv[1])\n\
        first={}\n\
        for m in sorted(t.getmembers(), key=lambda m: m.name):\n\
        \x20 if m.islnk() or m.isfile():\n\
        \x20  d=hashlib.sha256(t.extractfile(m).read()).hexdigest()\n\
        \x20 else: d=''\n\
        \x20 kind='f' if m.islnk() or m.isfile() else m.type.decode()\n\
        \x20 x={k:v for k,v in m.pax_headers.items() if k.startswith('SCHILY')}\n\
        \x20 print(m.name,kind,oct(m.mode),m.uid,m.gid,m.mtime if kind!='5' else '',m.linkname if m.issym() else '',m.devmajor,m.devminor,d,x)\n";
    let out = Command::new("python3").args(["-c", script]).arg(&path).output().expect("python3");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

fn exported(host: &Host, name: &str) -> Vec<u8> {
    let path = host.dir().join(format!("{name}.tar"));
    host.umiak(&["export", "-o", &path.display().to_string(), name]).exits(0);
    std::fs::read(path).expect("read")
}

/// What was committed is what there was: owners, modes, times, links, holes, pipes, long names, odd names.
#[test]
fn a_committed_layer_is_the_containers_files() {
    require!(root);
    let host = Host::new();
    base(&host);
    let long = "n".repeat(120);
    let script = format!(
        "rm -r /d/e; mkdir -p /d/e/deep; echo 1 > /d/e/deep/x; ln /d/e/deep/x /d/hard; ln -s deep/x /d/e/soft; \
         dd if=/dev/zero of=/sparse bs=1 count=1 seek=9000000 2>/dev/null; echo tail >> /sparse; mkfifo /pipe; \
         chown 12:345 /etc/hi; chmod 4755 /etc/hi; mkdir /{long}; echo long > /{long}/{long}; \
         echo odd > '/a b\nc'; mv /etc/passwd /etc/moved; ln -s /nowhere /etc/passwd; touch -h /etc/passwd; \
         rm -r /bin/mknod; mkdir /bin/mknod; touch -d '1969-12-31 23:00:00' /etc/hi; rm /d/hard; ln /d/e/deep/x /d/hard"
    );
    changed(&host, "cc", &script);
    host.umiak(&["commit", "cc", "com:1"]).exits(0);
    let (before, size) = {
        let bytes = exported(&host, "cc");
        (listing(&bytes, &host), bytes.len())
    };
    assert!(size < 6_000_000, "the hole went out: {size}");
    host.umiak(&["create", "--name", "again", "com:1"]).exits(0);
    let after = listing(&exported(&host, "again"), &host);
    let skip = |line: &&str| {
        !["dev ", "proc ", "sys ", "etc/hosts ", "etc/hostname ", "etc/resolv.conf "]
            .iter()
            .any(|own| line.starts_with(own))
    };
    let kept = |text: &str| text.lines().filter(skip).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(kept(&after), kept(&before));
    assert!(before.contains(&long) && before.contains("pipe 6"), "{before}");
    // And by way of an archive of both.
    let other = Host::new();
    let path = host.dir().join("saved.tar");
    host.umiak(&["save", "-o", &path.display().to_string(), "com:1"]).exits(0);
    other.umiak(&["load", "-i", &path.display().to_string()]).exits(0);
    other.umiak(&["create", "--name", "again", "com:1"]).exits(0);
    assert_eq!(kept(&listing(&exported(&other, "again"), &other)), kept(&before));
}

#[test]
fn export_has_the_files_and_not_what_is_mounted_over_them() {
    require!(root);
    let host = Host::new();
    base(&host);
    host.umiak(&[
        "run",
        "-d",
        "--network",
        "none",
        "--name",
        "vol",
        "-v",
        "vv:/data",
        "base:1",
        "sh",
        "-c",
        "echo secret > /data/x; echo own > /own; rm /etc/hi; sleep 1000",
    ])
    .exits(0);
    crate::cli::until("it wrote", || host.umiak(&["diff", "vol"]).stdout.contains("D /etc/hi"));
    for _ in 0..2 {
        let names = listing(&exported(&host, "vol"), &host);
        assert!(names.contains("\nown f") && names.contains("\ndata 5"), "{names}");
        assert!(!names.contains("data/x") && !names.contains("etc/hi "), "{names}");
        host.umiak(&["stop", "-t", "0", "vol"]).exits(0);
    }
    // Imported, it is the same files.
    let bytes = exported(&host, "vol");
    host.umiak_reading(&bytes, &["import", "-", "flat:1"]).exits(0);
    assert_eq!(
        host.umiak(&["run", "--rm", "--network", "none", "flat:1", "cat", "/own"]).exits(0).stdout,
        "own\n"
    );
    host.umiak(&["export", "nothing"]).fails(1, &["nothing"]);
    host.umiak(&["rm", "vol"]).exits(0);
    host.umiak(&["volume", "rm", "vv"]).exits(0);
}

#[test]
fn import_says_what_it_made_and_refuses_what_is_none() {
    require!(root);
    let host = Host::new();
    let id = base(&host);
    assert_eq!(host.umiak(&["images", "-q", "--no-trunc"]).exits(0).text(), id);
    let path = host.dir().join("f.tar");
    std::fs::write(&path, archive(&[file("x", 0o600, b"y")])).expect("written");
    let by_name = host.umiak(&["import", "--platform", "linux/arm64", &path.display().to_string()]).exits(0);
    let inspected = host
        .umiak(&["image", "inspect", "--format", "{{.Architecture}} {{.Comment}}", by_name.text()])
        .exits(0);
    assert_eq!(inspected.stdout, format!("arm64 Imported from {}\n", path.display()));
    let before = digests(&host);
    for (bytes, words) in [
        (&b""[..], "empty"),
        (b"no archive at all, and not even long", "archive"),
        (&archive(&[file("../x", 0o644, b"")]), "leaves the root"),
        (&archive(&[hard_link("x", "nothing")]), "hard link"),
        (&archive(&[device("x", b'3', 0, 0)]), "reserved"),
    ] {
        host.umiak_reading(bytes, &["import", "-"]).fails(1, &[words]);
    }
    host.umiak(&["import", "https://localhost/x.tar"]).fails(1, &["not supported"]);
    host.umiak(&["import", "/nope"]).fails(1, &["/nope"]);
    assert_eq!(digests(&host), before);
    assert_eq!(host.layers().len(), 2);
}

#[test]
fn cp_goes_through_archives() {
    require!(root);
    let host = Host::new();
    base(&host);
    changed(&host, "cc", "chown 7:8 /d/e/f; ln -s e/f /d/l; mkdir /into; mkdir /into/dir");
    let out = |args: &[&str]| {
        let child = host.command(args).output().expect("runs");
        assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
        listing(&child.stdout, &host)
    };
    let names = |listing: String| {
        listing.lines().map(|l| l.split(' ').next().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(out(&["cp", "cc:/d", "-"])), ["d", "d/e", "d/e/f", "d/l"]);
    assert_eq!(names(out(&["cp", "cc:/d/.", "-"])), [".", "e", "e/f", "l"]);
    assert!(out(&["cp", "cc:/d/e/f", "-"]).starts_with("f f 0o644 7 8 "));
    assert!(out(&["cp", "cc:/d/l", "-"]).starts_with("l 2 "));
    assert!(out(&["cp", "-L", "cc:/d/l", "-"]).starts_with("f f 0o644 7 8 "));
    host.umiak(&["cp", "cc:/nope", "-"]).fails(1, &["Could not find the file /nope in container cc"]);
    let sent = archive(&[
        dir("t"),
        Entry { kind: b'0', ..file("t/.wh.kept", 0o640, b"plain") },
        symlink("t/link", "/etc"),
        hard_link("t/again", "t/.wh.kept"),
    ]);
    host.umiak_reading(&sent, &["cp", "-", "cc:/into"]).exits(0);
    assert_eq!(names(out(&["cp", "cc:/into/t", "-"])), ["t", "t/.wh.kept", "t/again", "t/link"]);
    for (bytes, to, words) in [
        (&sent[..], "cc:/etc/hi", "destination \"cc:/etc/hi\" must be a directory"),
        (&sent, "cc:/nope", "must be a directory"),
        (b"junk", "cc:/into", "archive"),
        (&archive(&[file("../x", 0o644, b"")]), "cc:/into", "leaves the root"),
        (&archive(&[file("dir", 0o644, b"")]), "cc:/into", "cannot overwrite directory"),
        (&archive(&[device("null", b'3', 1, 3)]), "cc:/into", "device"),
    ] {
        host.umiak_reading(bytes, &["cp", "-", to]).fails(1, &[words]);
    }
    // A link that leads out of the container leads nowhere else.
    let canary = host.dir().join("canary");
    std::fs::create_dir(&canary).expect("made");
    let outside = canary.display().to_string();
    host.umiak_reading(
        &archive(&[symlink("out", &outside), file("out/x", 0o644, b"evil")]),
        &["cp", "-", "cc:/into"],
    );
    assert_eq!(std::fs::read_dir(&canary).expect("readable").count(), 0);
}

/// A container that swaps a folder for a link while an archive is unpacked in it moves nothing but its own files.
#[test]
fn an_archive_never_leaves_a_container_that_swaps_links() {
    require!(root);
    let host = Host::new();
    base(&host);
    let canary = host.dir().join("canary");
    std::fs::create_dir(&canary).expect("made");
    std::fs::write(canary.join("file"), "untouched").expect("written");
    let outside = canary.display().to_string();
    let script = format!(
        "mkdir -p /p{outside}; while :; do rm -rf /p/t; mkdir /p/t; rm -rf /p/t; ln -s {outside} /p/t; done"
    );
    host.umiak(&["run", "-d", "--network", "none", "--name", "swap", "base:1", "sh", "-c", &script]).exits(0);
    let sent =
        archive(&[dir("t"), file("t/file", 0o777, b"evil"), symlink("t/l", "/"), hard_link("t/h", "t/file")]);
    for _ in 0..60 {
        host.umiak_reading(&sent, &["cp", "-", "swap:/p"]);
        assert_eq!(std::fs::read_to_string(canary.join("file")).expect("there"), "untouched");
        assert_eq!(std::fs::read_dir(&canary).expect("readable").count(), 1);
    }
    host.umiak(&["rm", "-f", "swap"]).exits(0);
}

/// Commits of one running container wait for one another: none lets it go on while another reads.
#[test]
fn commits_at_once_take_turns() {
    require!(root);
    let host = Host::new();
    base(&host);
    let script = "dd if=/dev/zero of=/big bs=1000000 count=20 2>/dev/null; exec sleep 10000";
    host.umiak(&["run", "-d", "--network", "none", "--name", "live", "base:1", "sh", "-c", script]).exits(0);
    std::thread::scope(|scope| {
        for hand in 0..4 {
            let host = &host;
            scope.spawn(move || {
                for turn in 0..3 {
                    host.umiak(&["commit", "live", &format!("made:{hand}-{turn}")]).exits(0);
                }
            });
        }
    });
    let state = host.umiak(&["inspect", "-f", "{{.State.Status}}", "live"]).exits(0).stdout;
    assert_eq!(state, "running\n");
    assert_eq!(host.umiak(&["images", "-q", "made"]).exits(0).stdout.lines().count(), 12);
    host.umiak(&["rm", "-f", "live"]).exits(0);
}
