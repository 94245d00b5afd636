//! Known escapes of runtimes, and bombs: what was a hole elsewhere has the right outcome here.

use std::path::PathBuf;

use serde_json::json;

use super::escape::{canary, look};
use crate::cli::until;
use crate::support::host::Host;
use crate::support::pty::Typed;
use crate::support::rogue::Rogue;
use crate::support::tar::{archive, dir, file, symlink};
use crate::support::{program, registry, require};

fn pulled(host: &Host) -> String {
    let image = registry::busybox();
    host.umiak(&["pull", "-q", &image]).exits(0);
    image
}

/// CVE-2024-21626 by `exec`: a working directory among the descriptors of whoever makes the process.
#[test]
fn a_further_process_has_no_way_out_by_descriptors() {
    require!(root, registry);
    let host = Host::new();
    let image = pulled(&host);
    let canary = host.dir().join("canary");
    std::fs::write(&canary, "sings").expect("a canary");
    host.umiak(&["run", "-d", "--name", "one", &image, "sleep", "1000"]).exits(0);
    let script = format!("cat {0} ../../../../../../../..{0} 2>/dev/null; true", canary.display());
    for n in 3..16 {
        let out = host.umiak(&["exec", "-w", &format!("/proc/self/fd/{n}"), "one", "sh", "-c", &script]);
        assert!(out.stdout.is_empty(), "{n}: {out:?}");
    }
    // Nothing of ours is open in what runs, nor told to it.
    let seen = host
        .umiak(&["exec", "one", "sh", "-c", "ls /proc/self/fd | wc -l; ls /proc/1/fd; env"])
        .exits(0)
        .stdout;
    assert!(seen.starts_with("4\n0\n1\n2\n") && !seen.contains("UMIAK"), "{seen}");
    host.umiak(&["rm", "-f", "one"]).exits(0);
}

/// CVE-2025-31133, CVE-2025-52565, CVE-2026-41579: devices and terminals of the image's own making.
#[test]
fn an_images_devices_are_not_believed() {
    require!(root);
    let (host, rogue) = (Host::new(), Rogue::new());
    let top = canary(&host);
    let victim = top.join("victim").display().to_string();
    let folder = top.join("dir").display().to_string();
    let shell = program();
    for (case, links) in [
        ("null", &[("dev/null", victim.as_str())][..]),
        ("console", &[("dev/console", &victim)]),
        ("pts", &[("dev/pts", &folder)]),
        ("ptmx", &[("dev/ptmx", &victim), ("dev/shm", &folder)]),
        (
            "upwards",
            &[("dev/null", "../../../../../../..//etc/passwd"), ("dev/console", "/proc/sysrq-trigger")],
        ),
    ] {
        let mut entries = vec![file("busybox", 0o755, &shell), dir("dev")];
        entries.extend(links.iter().map(|(name, link)| symlink(name, link)));
        rogue.image(case, &[archive(&entries)], &json!({ "Cmd": ["/busybox", "true"] }));
        let name = format!("{}/{case}", rogue.address());
        let before = look(&top);
        let script = "echo x >/dev/null; /busybox cat /proc/timer_list | /busybox wc -c; /busybox tty";
        let typed =
            Typed::run(&host, (24, 80), &["run", "--rm", "-t", &name, "/busybox", "sh", "-c", script]);
        let (status, said) = typed.end();
        assert_eq!(look(&top), before, "{case}: {said}");
        assert_eq!(status, Some(0), "{case}: {said}");
        assert!(said.lines().any(|line| line.trim() == "0"), "masked: {case}: {said}");
        assert!(said.contains("/dev/"), "{case}: {said}");
    }
}

/// CVE-2019-16884, CVE-2023-28642, CVE-2025-52881: nothing is mounted over what programs believe, whatever way leads there.
#[test]
fn nothing_is_mounted_inside_proc() {
    require!(root);
    let (host, rogue) = (Host::new(), Rogue::new());
    let shell = program();
    let layer = archive(&[
        file("busybox", 0o755, &shell),
        dir("ways"),
        symlink("ways/attr", "/proc/self/attr"),
        symlink("ways/sys", "../proc/sys"),
        symlink("ways/proc", "/proc"),
    ]);
    rogue.image("ways", &[layer], &json!({ "Cmd": ["/busybox", "true"] }));
    let name = format!("{}/ways", rogue.address());
    for target in
        ["/proc", "/proc/self/attr", "/proc/sys/kernel", "/ways/attr", "/ways/sys/kernel", "/ways/proc/self"]
    {
        for flags in [["-v", "data:TARGET"], ["--tmpfs", "TARGET"]] {
            let flag = flags[1].replace("TARGET", target);
            let out = host.umiak(&["run", "--rm", flags[0], &flag, &name]);
            assert_eq!(out.status, 125, "{flags:?} {target}: {out:?}");
        }
    }
    host.umiak(&["volume", "rm", "-f", "data"]).exits(0);
}

/// CVE-2022-23648 and its kin: an image's volumes are below its root, and one over the root is refused.
#[test]
fn an_images_volumes_are_below_its_root() {
    require!(root);
    let (host, rogue) = (Host::new(), Rogue::new());
    let layer = archive(&[file("busybox", 0o755, &program())]);
    let image = |case: &str, volume: &str| {
        let config = json!({ "Entrypoint": ["/busybox"], "Volumes": { volume: {} } });
        rogue.image(case, std::slice::from_ref(&layer), &config);
        format!("{}/{case}", rogue.address())
    };
    // What leads upwards is refused with the image, what is the root with the container.
    for (case, volume, words) in [
        ("root", "/", "'/': destination can't be '/'"),
        ("dots", "/./", "'/./': destination can't be '/'"),
        ("back", "/data/..", "a path without `..`"),
        ("up", "/../../etc", "a path without `..`"),
    ] {
        let name = image(case, volume);
        for (verb, status) in [("create", 1), ("run", 125)] {
            host.umiak(&[verb, &name, "true"]).fails(status, &[words]);
        }
    }
    assert_eq!(host.umiak(&["ps", "-aq"]).exits(0).stdout, "");
    assert_eq!(host.umiak(&["volume", "ls", "-q"]).exits(0).stdout, "");
    // As with docker.
    let name = image("relative", "data");
    let mounts = host.umiak(&["run", "--rm", &name, "cat", "/proc/mounts"]).exits(0).stdout;
    assert!(mounts.contains(" /data "), "{mounts}");
}

/// CVE-2021-30465: a place for a mount that another container turns into a link while this one starts.
#[test]
fn heavy_a_mounts_place_that_changes_under_us_is_inside() {
    require!(root, registry);
    let host = Host::new();
    let image = pulled(&host);
    let canary = host.dir().join("canary");
    std::fs::create_dir_all(&canary).expect("a canary");
    std::fs::write(canary.join("file"), "sings").expect("a canary");
    let flips = "while :; do rm -rf /v/place; ln -s / /v/place; rm /v/place; mkdir /v/place; done";
    host.umiak(&["run", "-d", "--name", "flips", "-v", "shared:/v", &image, "sh", "-c", flips]).exits(0);
    let looks = format!(
        "cat {}/file 2>/dev/null; cat /v/place{}/file 2>/dev/null; true",
        canary.display(),
        canary.display()
    );
    for round in 0..40 {
        let args = ["run", "--rm", "-v", "shared:/v", "-v", "other:/v/place", &image, "sh", "-c", &looks];
        let out = host.umiak(&args);
        assert!(matches!(out.status, 0 | 125..=127) && out.stdout.is_empty(), "{round}: {out:?}");
    }
    assert_eq!(std::fs::read_to_string(canary.join("file")).expect("the canary"), "sings");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("the mounts");
    assert!(!mounts.contains(host.dir().to_str().expect("UTF-8")), "nothing is mounted on the host");
    host.umiak(&["rm", "-f", "flips"]).exits(0);
}

#[test]
fn bombs_end_themselves_and_nobody_else() {
    require!(root, registry);
    let host = Host::new();
    let image = pulled(&host);
    let shown =
        |name: &str, format: &str| host.umiak(&["inspect", "-f", format, name]).exits(0).text().to_owned();
    host.umiak(&["run", "--name", "eats", "-m", "32m", "--memory-swap", "32m", &image, "tail", "/dev/zero"])
        .exits(137);
    assert_eq!(shown("eats", "{{.State.OOMKilled}} {{.State.ExitCode}}"), "true 137");
    // A child is killed, and the container lives: docker says so as well.
    let script = "tail /dev/zero; exit 3";
    host.umiak(&["run", "--name", "child", "-m", "32m", "--memory-swap", "32m", &image, "sh", "-c", script])
        .exits(3);
    assert_eq!(shown("child", "{{.State.OOMKilled}}"), "true");
    let script = "bomb() { bomb | bomb & }; bomb; sleep 1; echo survived";
    let out = host.umiak(&["run", "--name", "forks", "--pids-limit", "32", &image, "sh", "-c", script]);
    assert!(out.stderr.contains("can't fork"), "{}", out.stderr);
    host.umiak(&["run", "--rm", &image, "true"]).exits(0);
    host.umiak(&["rm", "-f", "eats", "child", "forks"]).exits(0);
}

/// A first process that is stopped hears nothing, and is killed all the same.
#[test]
fn a_stopped_process_can_be_stopped() {
    require!(root, registry);
    let host = Host::new();
    let image = pulled(&host);
    host.umiak(&[
        "run",
        "-d",
        "--name",
        "frozen",
        &image,
        "sh",
        "-c",
        "trap 'exit 0' TERM; while :; do sleep 1; done",
    ])
    .exits(0);
    let pid = host.umiak(&["inspect", "-f", "{{.State.Pid}}", "frozen"]).exits(0).text().to_owned();
    host.umiak(&["kill", "-s", "STOP", "frozen"]).exits(0);
    // A first process of a pid namespace ignores it from inside; from outside it does not.
    let stat = PathBuf::from(format!("/proc/{pid}/stat"));
    until("it stands still", || std::fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") T ")));
    host.umiak(&["stop", "-t", "1", "frozen"]).exits(0);
    assert_eq!(host.umiak(&["inspect", "-f", "{{.State.ExitCode}}", "frozen"]).exits(0).text(), "137");
    host.umiak(&["rm", "frozen"]).exits(0);
}
