//! The Linux process as image and flags describe it.

use serde_json::json;

use crate::support::host::Host;
use crate::support::rogue::Rogue;
use crate::support::tar::{archive, dir, file};
use crate::support::{program, registry, require};

#[test]
fn flags_win_over_the_image() {
    require!(root, registry);
    let host = Host::new();
    let base = registry::address();
    let file = host.dir().join("env");
    std::fs::write(&file, "# comment\nF=from file\n\nG=1\n").expect("a file");
    let file = file.to_string_lossy().into_owned();
    let (env, entry, work) =
        (format!("{base}/config:env"), format!("{base}/config:entrypoint"), format!("{base}/config:workdir"));
    for (args, expected) in [
        (&["-e", "A=2", &env, "sh", "-c", "echo $A-$B"][..], "2-x y\n"),
        (&["--env-file", &file, "-e", "G=2", &env, "sh", "-c", "echo $F-$G"], "from file-2\n"),
        (&["--entrypoint", "/bin/echo", &entry, "x"], "x\n"),
        // Another entrypoint forgets the image's command.
        (&["--entrypoint", "/bin/echo", &entry], "\n"),
        (&["--entrypoint", "", &entry, "echo", "bare"], "bare\n"),
        (&["-w", "/etc", &work, "pwd"], "/etc\n"),
        (&["-w", "/made/by/umiak", &work, "pwd"], "/made/by/umiak\n"),
    ] {
        let mut all = vec!["run", "--rm"];
        all.extend(args);
        assert_eq!(host.umiak(&all).exits(0).stdout, expected, "{args:?}");
    }
    host.umiak(&["run", "--rm", "--entrypoint", "", &entry]).fails(125, &["no command"]);
}

#[test]
fn programs_are_found_as_by_execvp() {
    require!(root);
    let (host, rogue) = (Host::new(), Rogue::new());
    let shell = program();
    let script = b"#!/busybox sh\necho script $0 $1\n";
    let layer = archive(&[
        file("busybox", 0o755, &shell),
        dir("tools"),
        file("tools/script", 0o755, script),
        file("tools/locked", 0o600, script),
        file("tools/nobody", 0o755, b"#!/nowhere\n"),
        file("tools/noise", 0o755, b"\x7fELF but not really"),
    ]);
    rogue.image("tools", &[layer], &json!({ "Env": ["PATH=/missing:/tools"] }));
    let name = format!("{}/tools", rogue.address());
    assert_eq!(
        host.umiak(&["run", "--rm", &name, "script", "x"]).exits(0).stdout,
        "script /tools/script x\n"
    );
    for (program, status) in [
        ("nosuch", 127),
        ("/tools/nosuch", 127),
        ("locked", 127),
        ("/tools/locked", 126),
        ("/tools", 126),
        ("nobody", 127),
        ("noise", 126),
    ] {
        let out = host.umiak(&["run", "--rm", &name, program]).fails(status, &[program]);
        assert!(out.stdout.is_empty(), "{out:?}");
    }
    assert_eq!(host.umiak(&["ps", "-aq"]).exits(0).stdout, "");
    // Without --rm it stays as created, with its status.
    host.umiak(&["run", "--name", "failed", &name, "nosuch"]).exits(127);
    assert_eq!(
        host.umiak(&["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "failed"]).text(),
        "created 127"
    );
    host.umiak(&["rm", "failed"]).exits(0);
}

#[test]
fn changes_stay_in_the_container() {
    require!(root, registry);
    let host = Host::new();
    let image = registry::busybox();
    let change = "rm /etc/group; echo new > /etc/passwd; mkdir -p /a/b; echo x > /a/b/c; ls /etc";
    assert_eq!(
        host.umiak(&["run", "--name", "one", &image, "sh", "-c", change]).exits(0).stdout,
        "hostname\nhosts\npasswd\nresolv.conf\n"
    );
    let look = "head -n 1 /etc/passwd; ls -d /a /etc/group 2>/dev/null";
    let out = host.umiak(&["run", "--rm", &image, "sh", "-c", look]);
    assert_eq!(out.stdout, "root:x:0:0:root:/root:/bin/sh\n/etc/group\n");
    host.umiak(&["rm", "one"]).exits(0);
}

#[test]
fn layers_lie_over_one_another() {
    require!(root);
    let (host, rogue) = (Host::new(), Rogue::new());
    let shell = program();
    let layers = [
        archive(&[
            file("busybox", 0o755, &shell),
            dir("d"),
            file("d/old", 0o644, b"1"),
            file("gone", 0o644, b"1"),
            file("over", 0o644, b"1"),
        ]),
        archive(&[
            file(".wh.gone", 0o644, b""),
            dir("d"),
            file("d/.wh..wh..opq", 0o644, b""),
            file("d/new", 0o644, b"2"),
        ]),
        archive(&[file("over", 0o600, b"3")]),
    ];
    rogue.image("layers", &layers, &json!({ "Entrypoint": ["/busybox", "sh", "-c"] }));
    let name = format!("{}/layers", rogue.address());
    let script = "/busybox ls /d /gone 2>&1; /busybox cat /over";
    let out = host.umiak(&["run", "--rm", &name, script]).exits(0).stdout;
    assert!(
        out.contains("new")
            && !out.contains("old")
            && out.contains("gone: No such file")
            && out.ends_with('3'),
        "{out}"
    );
}

#[test]
fn orphans_are_reaped_and_ended() {
    require!(root, registry);
    let host = Host::new();
    let image = registry::busybox();
    // What is left running ends with the first process, and holds nothing up.
    let begun = std::time::Instant::now();
    host.umiak(&["run", "--rm", &image, "sh", "-c", "sleep 1000 & sleep 1000 & exit 0"]).exits(0);
    assert!(begun.elapsed() < std::time::Duration::from_secs(10));
}
