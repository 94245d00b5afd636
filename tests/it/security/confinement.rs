//! What a container sees and can do by default: docker's capabilities, its seccomp profile, masked paths, nothing of the host.

use umiak::model::Digest;

use crate::support::host::Host;
use crate::support::{registry, require};

/// Runs a script in busybox and returns what it printed.
#[track_caller]
fn inside(host: &Host, flags: &[&str], script: &str) -> String {
    let image = registry::busybox();
    let mut args = vec!["run", "--rm"];
    args.extend(flags);
    args.extend([image.as_str(), "sh", "-c", script]);
    host.umiak(&args).exits(0).stdout
}

#[test]
fn capabilities_and_seccomp_are_dockers() {
    require!(root, registry);
    let host = Host::new();
    let status = inside(&host, &[], "cat /proc/self/status");
    for line in [
        "CapInh:\t0000000000000000",
        "CapPrm:\t00000000a80425fb",
        "CapEff:\t00000000a80425fb",
        "CapBnd:\t00000000a80425fb",
        "CapAmb:\t0000000000000000",
        "Seccomp:\t2",
    ] {
        assert!(status.lines().any(|found| found == line), "no `{line}` in {status}");
    }
    let user = inside(&host, &["-u", "alice"], "cat /proc/self/status");
    assert!(user.contains("CapEff:\t0000000000000000"), "{user}");
    assert!(user.contains("Uid:\t1000\t1000\t1000\t1000"), "{user}");
}

#[test]
fn what_the_kernel_is_asked_for_is_refused() {
    require!(root, registry);
    let host = Host::new();
    for script in [
        "mount -t tmpfs none /mnt",
        "mkdir /c && mount -t cgroup -o memory none /c",
        "echo x > /proc/sysrq-trigger",
        "echo 1 > /proc/sys/kernel/panic",
        "echo x > /sys/kernel/uevent_helper",
        "mknod /blk b 8 0 && head -c 1 /blk",
        "dmesg -c",
        "hostname other",
        "unshare -U true",
        "unshare -m true",
        "umount /proc",
        "mount -o remount,rw /sys",
        "head -c 1 /proc/kcore | grep -q .",
        "ls /sys/firmware | grep -q .",
        "ls /proc/scsi | grep -q .",
        "ls /proc/acpi | grep -q .",
        "cat /proc/keys | grep -q .",
        "cat /proc/timer_list | grep -q .",
        "swapoff -a && cat /nowhere",
        "chroot /proc/1/root/.. ls /work",
    ] {
        let out = inside(&host, &[], &format!("({script}) >/dev/null 2>&1 && echo allowed; true"));
        assert_eq!(out, "", "`{script}` works");
    }
}

#[test]
fn a_container_sees_only_itself() {
    require!(root, registry);
    let host = Host::new();
    // Files: standard streams, and the one that lists them.
    assert_eq!(inside(&host, &[], "ls /proc/self/fd | wc -l").trim(), "4");
    assert_eq!(inside(&host, &[], "ls /proc/1/fd; true").trim(), "0\n1\n2");
    let processes = inside(&host, &[], "ls /proc | grep -c '^[0-9]*$'");
    assert!(processes.trim().parse::<u32>().expect("a number") <= 4, "{processes}");
    assert_eq!(inside(&host, &[], "echo $$").trim(), "1");
    let env = inside(&host, &[], "env | cut -d= -f1 | sort");
    assert_eq!(env, "HOME\nHOSTNAME\nPATH\nPWD\nSHLVL\n");
    let mounts = inside(&host, &[], "cat /proc/mounts");
    for word in [" /dev/pts devpts ", " /dev/mqueue mqueue ", " /dev/shm tmpfs ", " / overlay "] {
        assert!(mounts.contains(word), "no {word} in {mounts}");
    }
    let net = inside(&host, &[], "cat /proc/net/dev | tail -n +3 | cut -d: -f1");
    assert_eq!(net.trim(), "lo");
    assert_eq!(inside(&host, &[], "ping -c 1 -W 1 127.0.0.1 >/dev/null && echo up").trim(), "up");
    assert_eq!(inside(&host, &[], "umask").trim(), "0022");
    let groups = inside(&host, &[], "cut -d: -f3 /proc/self/cgroup | sort -u");
    assert_eq!(groups.trim(), "/", "its own group is the root of what it sees");
}

#[test]
fn devices_are_dockers() {
    require!(root, registry);
    let host = Host::new();
    let dev = inside(&host, &[], "cd /dev && ls -d * | sort | tr '\\n' ' '");
    assert_eq!(dev.trim(), "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero");
    let works = inside(
        &host,
        &[],
        "echo x > /dev/null && head -c 4 /dev/zero | wc -c && head -c 4 /dev/urandom | wc -c",
    );
    assert_eq!(works, "4\n4\n");
}

#[test]
fn a_working_directory_is_inside() {
    require!(root, registry);
    let host = Host::new();
    let image = registry::busybox();
    let canary = host.dir().join("canary");
    std::fs::write(&canary, "sings").expect("a canary");
    let script = format!("cat {0} ../../../../../../../..{0} 2>/dev/null; true", canary.display());
    for n in 3..20 {
        for dir in [format!("/proc/self/fd/{n}"), format!("/proc/self/fd/{n}/../../..")] {
            let out = host.umiak(&["run", "--rm", "-w", &dir, &image, "sh", "-c", &script]);
            assert!(out.stdout.is_empty(), "{dir}: {out:?}");
            assert!(matches!(out.status, 0 | 125 | 126 | 127), "{dir}: {out:?}");
        }
    }
    for (dir, status) in [("/new/deep", 0), ("/etc", 0), ("relative", 125), ("/etc/passwd", 126)] {
        let out = host.umiak(&["run", "--rm", "-w", dir, &image, "pwd"]);
        assert!(out.status == status || (status == 126 && matches!(out.status, 125..=127)), "{dir}: {out:?}");
        if status == 0 {
            assert_eq!(out.text(), dir);
        }
    }
}

#[test]
fn the_engine_is_not_written_to_from_inside() {
    require!(root, registry);
    let host = Host::new();
    let engine = env!("CARGO_BIN_EXE_umiak");
    let before = Digest::of(&std::fs::read(engine).expect("the engine"));
    let image = registry::busybox();
    // As the entrypoint, and through the first process, before and after it is the container's own program.
    for script in [
        "echo broken > /proc/1/exe",
        "for n in 1 2 3 4 5; do cat /proc/[0-9]*/exe >/dev/null; echo broken > /proc/$n/exe; done",
        "echo broken > /proc/self/exe",
    ] {
        host.umiak(&["run", "--rm", &image, "sh", "-c", script]);
    }
    host.umiak(&["run", "--rm", "--entrypoint", "/proc/self/exe", &image, "version"]);
    assert_eq!(Digest::of(&std::fs::read(engine).expect("the engine")), before);
}

#[test]
fn users_and_groups_are_the_images() {
    require!(root, registry);
    let host = Host::new();
    for (user, expected) in [
        ("alice", "uid=1000(alice) gid=1000(alice) groups=50(staff),1000(alice)"),
        ("1000", "uid=1000(alice) gid=1000(alice) groups=50(staff),1000(alice)"),
        ("1000:50", "uid=1000(alice) gid=50(staff)"),
        ("alice:staff", "uid=1000(alice) gid=50(staff)"),
        ("4711", "uid=4711 gid=0(root)"),
        ("0:7", "uid=0(root) gid=7"),
    ] {
        let out = inside(&host, &["-u", user], "id");
        assert!(out.starts_with(expected), "{user}: {out}");
    }
    let image = registry::busybox();
    host.umiak(&["run", "--rm", "-u", "nobody-knows", &image, "id"]).fails(125, &["nobody-knows"]);
    host.umiak(&["run", "--rm", "-u", "alice:nogroup", &image, "id"]).fails(125, &["nogroup"]);
    assert_eq!(host.umiak(&["ps", "-aq"]).exits(0).stdout, "");
}

#[test]
fn the_host_name_is_the_id_or_what_is_asked() {
    require!(root, registry);
    let host = Host::new();
    let image = registry::busybox();
    let file = host.dir().join("id");
    let out = host.umiak(&["run", "--cidfile", &file.to_string_lossy(), &image, "hostname"]).exits(0);
    let id = std::fs::read_to_string(&file).expect("the id");
    assert_eq!(out.text(), &id[..12]);
    assert_eq!(inside(&host, &["-h", "web"], "hostname; echo $HOSTNAME"), "web\nweb\n");
    host.umiak(&["rm", &id]).exits(0);
}
