//! Where mounts come from: a part of a volume that somebody swaps, and mounts that come and go below a source.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::host::Host;
use crate::support::{registry, require};

/// Swaps two names until it is told to stop.
fn swap(dir: &Path, stop: &AtomicBool) {
    let dir = fs::File::open(dir).expect("the volume");
    while !stop.load(Ordering::Relaxed) {
        let both = rustix::fs::RenameFlags::EXCHANGE;
        rustix::fs::renameat_with(&dir, "part", &dir, "other", both).expect("both are there");
    }
}

#[test]
fn a_part_of_a_volume_is_never_anything_else() {
    require!(root, registry);
    let host = Host::new();
    let image = registry::busybox();
    let outside = host.dir().join("outside");
    fs::create_dir(&outside).expect("made");
    fs::write(outside.join("secret"), "").expect("written");
    host.umiak(&["volume", "create", "vv"]).exits(0);
    let data = host.root().join("volumes/vv/_data");
    fs::create_dir(data.join("part")).expect("made");
    fs::write(data.join("part/mine"), "").expect("written");
    host.umiak(&["pull", "-q", &image]).exits(0);
    let listed = || {
        let mount = "type=volume,src=vv,dst=/x,volume-nocopy,volume-subpath=part";
        host.umiak(&["run", "--rm", "--mount", mount, &image, "ls", "/x"])
    };
    assert_eq!(listed().exits(0).text(), "mine");
    for link in [outside.clone(), Path::new("../../../../outside").to_owned(), "/".into()] {
        symlink(&link, data.join("other")).expect("linked");
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let swapper = scope.spawn(|| swap(&data, &stop));
            for _ in 0..15 {
                // Which of the two is there depends on the moment; a link that leads out is followed at none.
                let out = listed();
                assert!(
                    out.status == 0 && out.text() == "mine" || out.status == 125,
                    "{}: {} {} {}",
                    link.display(),
                    out.status,
                    out.stdout,
                    out.stderr
                );
            }
            stop.store(true, Ordering::Relaxed);
            swapper.join().expect("it swaps");
        });
        if data.join("part").is_symlink() {
            listed().fails(125, &["part"]);
            fs::remove_file(data.join("part")).expect("removed");
            fs::rename(data.join("other"), data.join("part")).expect("renamed");
        } else {
            assert_eq!(listed().exits(0).text(), "mine");
            fs::remove_file(data.join("other")).expect("removed");
        }
    }
    // A link that stays inside is a name like any other.
    symlink("part", data.join("inside")).expect("linked");
    let mount = "type=volume,src=vv,dst=/x,volume-subpath=inside";
    let out = host.umiak(&["run", "--rm", "--mount", mount, &image, "ls", "/x"]).exits(0);
    assert_eq!(out.text(), "mine");
}

/// What is mounted is what was looked at, whatever is at the source's path by then: here a folder and a file in turn.
#[test]
fn a_source_that_changes_is_one_thing_or_the_other() {
    require!(root, registry);
    let host = Host::new();
    let image = registry::busybox();
    let dir = host.dir().join("sources");
    fs::create_dir_all(dir.join("part")).expect("made");
    fs::write(dir.join("part/mine"), "folder").expect("written");
    fs::write(dir.join("other"), "file").expect("written");
    host.umiak(&["pull", "-q", &image]).exits(0);
    let bind = format!("{}:/x", dir.join("part").display());
    let stop = AtomicBool::new(false);
    let seen: Vec<_> = std::thread::scope(|scope| {
        let swapper = scope.spawn(|| swap(&dir, &stop));
        let look = || {
            host.umiak(&["run", "--rm", "-v", &bind, &image, "sh", "-c", "cat /x/mine 2>/dev/null || cat /x"])
        };
        let seen = (0..20).map(|_| look()).collect();
        stop.store(true, Ordering::Relaxed);
        swapper.join().expect("it swaps");
        seen
    });
    for out in seen {
        let out = out.exits(0);
        assert!(matches!(out.text(), "folder" | "file"), "{}", out.text());
    }
}

/// What the kernel says in a container of a source and of the mounts below it: `S` is shared, `R` receives, `-` neither.
fn travels(host: &Host, image: &str, dir: &Path, wish: &str) -> String {
    // A mount that is shared with nobody else, and below it one that is as well and one that is not.
    let script = "mount -t tmpfs a $DIR && mount --make-shared $DIR && mkdir $DIR/b $DIR/c && \
                  mount -t tmpfs b $DIR/b && mount -t tmpfs c $DIR/c && mount --make-private $DIR/c && \
                  exec $UMIAK run --rm -v $DIR:/s:$WISH $IMAGE cat /proc/self/mountinfo";
    let out = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-ec", script])
        .env_clear()
        .envs([("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"), ("WISH", wish), ("IMAGE", image)])
        .envs([("DIR", dir), ("HOME", host.dir()), ("UMIAK", Path::new(env!("CARGO_BIN_EXE_umiak")))])
        .envs([("UMIAK_ROOT", host.root()), ("UMIAK_RUN_ROOT", host.dir().join("run"))])
        .output()
        .expect("unshare starts");
    assert!(out.status.success(), "{wish}: {}", String::from_utf8_lossy(&out.stderr));
    let table = String::from_utf8_lossy(&out.stdout).into_owned();
    let kind = |target: &str| {
        let line = table.lines().find(|line| line.split(' ').nth(4) == Some(target)).expect("it is mounted");
        let tags = line.split(" - ").next().expect("a row").split(' ').skip(6).collect::<Vec<_>>();
        match (
            tags.iter().any(|tag| tag.starts_with("shared:")),
            tags.iter().any(|tag| tag.starts_with("master:")),
        ) {
            (true, _) => 'S',
            (false, true) => 'R',
            (false, false) => '-',
        }
    };
    ["/s", "/s/b", "/s/c"].map(kind).iter().collect()
}

#[test]
fn each_way_for_mounts_to_travel_is_the_kernels_own() {
    require!(root, registry);
    let host = Host::new();
    let image = registry::busybox();
    host.umiak(&["pull", "-q", &image]).exits(0);
    let dir = host.dir().join("source");
    fs::create_dir(&dir).expect("made");
    for (wish, wanted) in [
        ("rprivate", "---"),
        ("private", "-R-"),
        ("rslave", "RR-"),
        ("slave", "RR-"),
        ("rshared", "SSS"),
        ("shared", "SS-"),
    ] {
        assert_eq!(travels(&host, &image, &dir, wish), wanted, "{wish}");
    }
}
