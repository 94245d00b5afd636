//! A disk without room, at any point; a read-only one; one that may not be written to.

use std::io::Write as _;
use std::process::{Child, Command, Stdio};

use super::{Subject, clear};
use crate::support::host::{Host, Output};
use crate::support::require;
use crate::support::rogue::Rogue;

/// A mount namespace of its own, whose first process waits for the end of its input: when the test ends, in whatever way, the
/// mounts go with it.
pub(crate) struct Space {
    keeper: Child,
}

impl Space {
    pub(crate) fn new() -> Self {
        let mut keeper = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", "echo ready; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare starts");
        let mut line = String::new();
        let out = keeper.stdout.take().expect("piped");
        std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line).expect("ready");
        Self { keeper }
    }

    pub(crate) fn sh(&self, script: &str) {
        let pid = self.keeper.id().to_string();
        let status = Command::new("nsenter").args(["-t", &pid, "-m", "sh", "-ec", script]).status();
        assert!(status.expect("nsenter starts").success(), "{script}");
    }

    /// The supervisor of a container that has ended puts its records away for a moment, and has the database open.
    pub(crate) fn unmount(&self, at: &impl std::fmt::Display) {
        self.sh(&format!(
            "for n in $(seq 500); do umount {at} 2>/dev/null && exit 0; sleep 0.02; done; umount {at}"
        ));
    }

    pub(crate) fn umiak(&self, host: &Host, args: &[&str]) -> Output {
        let plain = host.command(args);
        let mut inside = Command::new("nsenter");
        inside.args(["-t", &self.keeper.id().to_string(), "-m", "--"]).arg(plain.get_program()).args(args);
        inside.env_clear();
        for (key, value) in plain.get_envs() {
            if let Some(value) = value {
                inside.env(key, value);
            }
        }
        let child = inside.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        host.finish(child.expect("nsenter starts"), args)
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// Pulls, on a disk of `kib`; whether it fitted. Whatever happens is clear, clean, and right once there is room.
fn squeeze(subject: &Subject, space: &Space, kib: u64, disk: &str) -> bool {
    let host = Host::new();
    let root = host.root();
    let at = root.display();
    let context = format!("{disk} of {kib} KiB");
    std::fs::create_dir(&root).expect("made");
    let image = host.dir().join("disk");
    if disk == "tmpfs" {
        space.sh(&format!("mount -t tmpfs -o size={kib}k,mode=700 tmpfs {at}"));
    } else {
        let make =
            format!("truncate -s {kib}k {0} && mke2fs -q -t ext4 -m 0 -O ^has_journal {0}", image.display());
        space.sh(&format!("{make} && mount -o loop {} {at}", image.display()));
    }
    let out = space.umiak(&host, &["run", "--rm", &subject.name]);
    let fitted = out.status == 0;
    if !fitted {
        clear(&out, &context);
        assert_eq!(out.status, 125, "{context}: {}", out.stderr);
        let told = ["No space left on device", "database or disk is full", "disk I/O error"];
        assert!(told.iter().any(|words| out.stderr.contains(words)), "{context}: {}", out.stderr);
    }
    if disk == "tmpfs" {
        space.sh(&format!("mount -o remount,size=64m {at}"));
    } else if !fitted {
        // An image file cannot be made larger under a mounted file system of no journal: what fills it is the image.
        space.unmount(&at);
        space.sh(&format!(
            "truncate -s 64m {0} && {{ e2fsck -fy {0} >/dev/null; test $? -lt 4; }} && \
            resize2fs {0} >/dev/null 2>&1 && mount -o loop {0} {at}",
            image.display()
        ));
    }
    let check = space.umiak(&host, &["system", "check"]);
    assert_eq!(check.status, 0, "{context}: {}{}", check.stdout, check.stderr);
    let shown = space.umiak(&host, &["images", "-q"]).exits(0).stdout;
    let out = space.umiak(&host, &["run", "--rm", &subject.name]).exits(0).stdout;
    assert!(out.contains("200000 /a"), "{context}: {out} {shown}");
    let check = space.umiak(&host, &["system", "check"]);
    assert!(check.status == 0 && !check.stdout.contains("left it"), "{context}: {}", check.stdout);
    space.umiak(&host, &["system", "prune", "-af"]).exits(0);
    space.unmount(&at);
    fitted
}

#[test]
fn heavy_a_full_disk_is_told_and_got_over() {
    require!(root);
    let rogue = Rogue::new();
    let subject = Subject::at(&rogue, "room", 1, 200_000);
    let space = Space::new();
    let mut fitted = Vec::new();
    // From no room for a database to room for everything.
    for kib in (64..6144).step_by(304) {
        fitted.push(squeeze(&subject, &space, kib, "tmpfs"));
    }
    assert!(!fitted[0] && fitted[fitted.len() - 1], "{fitted:?}");
    let tight = fitted.iter().filter(|fits| !**fits).count();
    assert!(tight > 5, "the disks were hardly ever full: {fitted:?}");
    for kib in [1024, 2560, 4096] {
        squeeze(&subject, &space, kib, "ext4");
    }
    let _ = writeln!(std::io::stderr(), "{} disks, {tight} of them too small", fitted.len() + 3);
}

#[test]
fn a_full_disk_can_be_emptied() {
    require!(root);
    let (host, rogue, space) = (Host::new(), Rogue::new(), Space::new());
    let subject = Subject::at(&rogue, "emptied", 1, 200_000);
    std::fs::create_dir(host.root()).expect("made");
    let at = host.root().display().to_string();
    space.sh(&format!("mount -t tmpfs -o size=48m,mode=700 tmpfs {at}"));
    space.umiak(&host, &["run", "--name", "one", &subject.name]).exits(0);
    space.sh(&format!("cat /dev/zero >{at}/volumes-fill 2>/dev/null || true"));
    let pull = space.umiak(&host, &["pull", &format!("{}:other", subject.name)]);
    assert_ne!(pull.status, 0);
    // What frees room must work without any.
    space.umiak(&host, &["rm", "one"]).exits(0);
    space.umiak(&host, &["rmi", &subject.name]).exits(0);
    space.sh(&format!("rm {at}/volumes-fill"));
    let check = space.umiak(&host, &["system", "check"]);
    assert_eq!(check.status, 0, "{}{}", check.stdout, check.stderr);
    space.unmount(&at);
}

#[test]
fn a_read_only_store_says_so() {
    require!(root);
    let (host, rogue, space) = (Host::new(), Rogue::new(), Space::new());
    let subject = Subject::at(&rogue, "frozen", 1, 20_000);
    host.umiak(&["pull", "-q", &subject.name]).exits(0);
    let at = host.root().display().to_string();
    space.sh(&format!("mount --bind {at} {at} && mount -o remount,bind,ro {at}"));
    let out = space.umiak(&host, &["pull", "-q", "hello"]);
    assert_ne!(out.status, 0);
    clear(&out, "read-only");
    let told = out.stderr.to_lowercase();
    assert!(told.contains("read-only") || told.contains("readonly"), "{}", out.stderr);
    space.unmount(&at);
    super::sound(&host, true, "afterwards");
}
