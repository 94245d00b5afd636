//! User namespaces: in which an ordinary user is root, and which ids are whose.
//!
//! [`enter`] puts the whole process (it must have one thread yet) into a new user and mount namespace in which its user is
//! root: it can then mount, unpack layers with their owners, and make containers, and can do nothing to the host that its
//! user could not. Two mappings:
//! - **Subordinate ids**: `/etc/subuid` and `/etc/subgid` give the user ranges; `newuidmap` and `newgidmap` (set-user-id
//!   programs of the package `uidmap`) write the maps: the user itself is 0, the ranges are 1 and on.
//! - **A single id**, where there are no ranges or no such programs: the user is 0 and nothing else exists. Nobody can
//!   become another user in it, and supplementary groups cannot be set.
//!
//! Why not `clone` with a child that does the work: then every command would be two processes, and signals, terminals and
//! exit statuses would have to be carried over. Why not parse NSS (`subid: sss`): it would load the host's modules.
//!
//! [`join`] goes into one that exists: two processes can look into each other's containers only from one namespace.
//!
//! Invariant: the maps are complete before `enter` returns, so no file is ever made by an id that is not mapped.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use crate::sys;

/// The inode of the first user namespace (`PROC_USER_INIT_INO`).
const INITIAL: u64 = 0xEFFF_FFFD;

/// The kernel takes 340 lines a map; nobody has so many ranges.
const MAX_RANGES: usize = 300;

/// Consecutive ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange {
    /// The first id in the namespace.
    pub inside: u32,
    /// The first id in the namespace's parent.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// Which ids of a user namespace are which outside it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMappings {
    /// Users.
    pub uids: Vec<IdRange>,
    /// Groups.
    pub gids: Vec<IdRange>,
}

impl IdMappings {
    /// Those of this process's namespace.
    pub fn current() -> io::Result<Self> {
        let read = |path| Ok::<_, io::Error>(parse_map(&std::fs::read_to_string(path)?));
        Ok(Self { uids: read("/proc/self/uid_map")?, gids: read("/proc/self/gid_map")? })
    }

    /// Whether there is one user and one group, so that nobody can become another.
    pub fn single(&self) -> bool {
        let one = |ranges: &[IdRange]| ranges.iter().map(|range| u64::from(range.count)).sum::<u64>() <= 1;
        one(&self.uids) || one(&self.gids)
    }

    /// Whether the group exists in the namespace.
    pub fn has_gid(&self, gid: u32) -> bool {
        has(&self.gids, gid)
    }

    /// Whether the user exists in the namespace.
    pub fn has_uid(&self, uid: u32) -> bool {
        has(&self.uids, uid)
    }
}

fn has(ranges: &[IdRange], id: u32) -> bool {
    ranges.iter().any(|range| id.checked_sub(range.inside).is_some_and(|offset| offset < range.count))
}

/// The text of `uid_map` (`user_namespaces(7)`).
fn parse_map(text: &str) -> Vec<IdRange> {
    let line = |line: &str| {
        let mut numbers = line.split_whitespace().map(str::parse::<u32>);
        let mut next = || numbers.next()?.ok();
        Some(IdRange { inside: next()?, outside: next()?, count: next()? })
    };
    text.lines().filter_map(line).collect()
}

/// Whether this process is in a user namespace other than the first: then devices cannot be made, and some kernel objects
/// are out of reach whatever the capabilities say. One look at `/proc`, once.
pub fn inside() -> bool {
    static INSIDE: OnceLock<bool> = OnceLock::new();
    *INSIDE.get_or_init(|| rustix::fs::stat("/proc/self/ns/user").is_ok_and(|stat| stat.st_ino != INITIAL))
}

/// A namespace could not be entered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnterError {
    /// The kernel does not let this user make one.
    #[error("making a user namespace")]
    Refused(#[source] io::Error),
    /// The maps were not written.
    #[error("mapping the subordinate ids of {user}: {message}")]
    Map {
        /// The user, by name or number.
        user: String,
        /// What the program said.
        message: String,
    },
    /// A file of this process.
    #[error("writing `{}`", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Making the process that maps.
    #[error("starting the process that maps ids")]
    Process(#[source] io::Error),
}

/// What keeps ordinary users of this host from making user namespaces, as far as it can be told.
pub fn obstacle() -> Option<&'static str> {
    let set = |path: &str, value: &str| std::fs::read_to_string(path).is_ok_and(|text| text.trim() == value);
    if set("/proc/sys/user/max_user_namespaces", "0") {
        return Some("the kernel parameter `user.max_user_namespaces` is 0");
    }
    if set("/proc/sys/kernel/unprivileged_userns_clone", "0") {
        return Some("the kernel parameter `kernel.unprivileged_userns_clone` is 0");
    }
    if set("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1") {
        return Some(
            "the kernel parameter `kernel.apparmor_restrict_unprivileged_userns` is 1, and no AppArmor profile allows this program to",
        );
    }
    None
}

/// The ranges that a file such as `/etc/subuid` gives to a user known by these names, as (first, count). Lines that make
/// no sense, and ranges that reach beyond the last id, give nothing.
pub fn subordinate(text: &str, names: &[&str]) -> Vec<(u32, u32)> {
    let line = |line: &str| {
        let mut fields = line.trim().split(':');
        let name = fields.next().filter(|name| !name.is_empty() && names.contains(name))?;
        let (start, count): (u32, u32) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let whole = count > 0 && start.checked_add(count).is_some_and(|end| end < u32::MAX);
        (whole && !name.starts_with('#')).then_some((start, count))
    };
    text.lines().filter_map(line).take(MAX_RANGES).collect()
}

/// The login name of a user in the text of `/etc/passwd`.
fn login_name(passwd: &str, uid: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    })
}

/// What is to be mapped to what.
#[derive(Debug)]
struct Subordinate {
    user: String,
    uids: Vec<(u32, u32)>,
    gids: Vec<(u32, u32)>,
    map_users: PathBuf,
    map_groups: PathBuf,
}

impl Subordinate {
    /// `None`: this user has no ranges, or the host no programs to map them.
    fn find(uid: u32) -> Option<Self> {
        let text = |path| std::fs::read_to_string(path).unwrap_or_default();
        let (passwd, number) = (text("/etc/passwd"), uid.to_string());
        let user = login_name(&passwd, uid).unwrap_or(&number);
        let names = [user, number.as_str()];
        let uids = subordinate(&text("/etc/subuid"), &names);
        let gids = subordinate(&text("/etc/subgid"), &names);
        if uids.is_empty() || gids.is_empty() {
            return None;
        }
        let (map_users, map_groups) = (program("newuidmap")?, program("newgidmap")?);
        Some(Self { user: user.to_owned(), uids, gids, map_users, map_groups })
    }
}

/// A program of the host: in PATH, or where set-user-id programs are on every distribution.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/bin", "/bin", "/run/wrappers/bin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .filter(|dir| dir.is_absolute())
        .chain(usual)
        .map(|dir| dir.join(name))
        .find(|file| rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok())
}

/// The arguments of `newuidmap`: process, then triples of inside, outside, count.
fn map_arguments(pid: u32, own: u32, ranges: &[(u32, u32)]) -> Vec<String> {
    let mut arguments = vec![pid.to_string(), "0".into(), own.to_string(), "1".into()];
    let mut inside = 1_u32;
    for &(start, count) in ranges {
        arguments.extend([inside.to_string(), start.to_string(), count.to_string()]);
        inside = inside.saturating_add(count);
    }
    arguments
}

/// Enters a new user and mount namespace in which this process's user is root. To be called while the process has one
/// thread. Mounts made on the host later are seen in it, and none of its own on the host.
pub fn enter() -> Result<IdMappings, EnterError> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    match Subordinate::find(uid) {
        Some(subordinate) => with_subordinate(&subordinate, uid, gid)?,
        None => with_single(uid, gid)?,
    }
    let path = PathBuf::from("/proc/self/uid_map");
    IdMappings::current().map_err(|source| EnterError::Write { path, source })
}

/// Enters the user namespace of a process, such as the first one of a container that this user runs, with a mount namespace
/// of its own. `None`: that process is gone, or in no such namespace, and nothing was done.
pub fn join(pid: u32) -> Result<Option<IdMappings>, EnterError> {
    let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) else { return Ok(None) };
    let joined = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())
        .and_then(|pidfd| sys::join(pidfd.as_fd(), libc::CLONE_NEWUSER));
    if joined.is_err() {
        return Ok(None);
    }
    sys::unshare_mounts().map_err(|errno| EnterError::Refused(errno.into()))?;
    let path = PathBuf::from("/proc/self/uid_map");
    IdMappings::current().map(Some).map_err(|source| EnterError::Write { path, source })
}

fn with_single(uid: u32, gid: u32) -> Result<(), EnterError> {
    sys::unshare_user().map_err(|errno| EnterError::Refused(errno.into()))?;
    let write = |path: &str, value: &str| {
        std::fs::write(path, value).map_err(|source| EnterError::Write { path: path.into(), source })
    };
    // Without this an ordinary user may not map a group: it could shed one that keeps it from a file.
    write("/proc/self/setgroups", "deny")?;
    write("/proc/self/uid_map", &format!("0 {uid} 1\n"))?;
    write("/proc/self/gid_map", &format!("0 {gid} 1\n"))
}

/// The programs that map must run outside the namespace, so a child is born before it is made.
fn with_subordinate(wanted: &Subordinate, uid: u32, gid: u32) -> Result<(), EnterError> {
    let failed = |message: &str| EnterError::Map { user: wanted.user.clone(), message: message.to_owned() };
    let (mut ours, theirs) = UnixStream::pair().map_err(EnterError::Process)?;
    let own = std::process::id();
    let Some(child) = sys::fork().map_err(|errno| EnterError::Process(errno.into()))? else {
        drop(ours);
        map_for(own, wanted, (uid, gid), theirs);
        sys::exit_now(0)
    };
    drop(theirs);
    let made = sys::unshare_user();
    let told = made.and_then(|()| rustix::io::write(&ours, b"m").map(drop));
    if told.is_err() {
        // The end of the stream tells the child that there is nothing to map.
        let _ = ours.shutdown(std::net::Shutdown::Both);
    }
    let mut answer = String::new();
    let heard = ours.read_to_string(&mut answer);
    let _ = rustix::io::retry_on_intr(|| {
        rustix::process::waitpid(Some(child), rustix::process::WaitOptions::empty())
    });
    told.map_err(|errno| EnterError::Refused(errno.into()))?;
    heard.map_err(EnterError::Process)?;
    match answer.as_str() {
        "done" => Ok(()),
        "" => Err(failed("the process that maps ended without a word")),
        message => Err(failed(message.trim())),
    }
}

/// In the child, outside the namespace: both programs at once; `done`, or what is wrong.
fn map_for(pid: u32, wanted: &Subordinate, own: (u32, u32), mut channel: UnixStream) {
    if channel.read_exact(&mut [0]).is_err() {
        return;
    }
    let start = |program: &Path, own, ranges: &[_]| {
        Command::new(program)
            .args(map_arguments(pid, own, ranges))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
    };
    let users = start(&wanted.map_users, own.0, &wanted.uids);
    let groups = start(&wanted.map_groups, own.1, &wanted.gids);
    let mut answer = String::from("done");
    for (program, started) in [(&wanted.map_users, users), (&wanted.map_groups, groups)] {
        let problem = match started.and_then(std::process::Child::wait_with_output) {
            Ok(output) if output.status.success() => continue,
            Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            Err(error) => crate::failure::errno_text(error.raw_os_error().unwrap_or(libc::EIO)),
        };
        answer = format!("`{}` failed: {problem}", program.display());
        break;
    }
    let _ = channel.write_all(answer.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_found_by_name_and_by_number() {
        let text = "root:1:5\njoe:100000:65536\n# joe:7:7\n1000:300000:10\njoe:x:9\njoe:9\n:5:5\njoe:4294967290:9\njoe:5:0\n\
                    joey:400000:65536\n#:1:1\n";
        assert_eq!(subordinate(text, &["joe", "1000"]), [(100_000, 65_536), (300_000, 10)]);
        assert_eq!(subordinate(text, &["1000"]), [(300_000, 10)]);
        assert_eq!(subordinate(text, &["nobody"]), []);
        assert_eq!(subordinate("", &["joe"]), []);
    }

    #[test]
    fn the_user_is_root_and_its_ranges_follow() {
        assert_eq!(
            map_arguments(7, 1000, &[(100_000, 65_536), (300_000, 10)]).join(" "),
            "7 0 1000 1 1 100000 65536 65537 300000 10"
        );
    }

    #[test]
    fn maps_say_who_is_there() {
        let wide = parse_map("         0       1000          1\n         1     100000      65536\njunk\n");
        let narrow = parse_map("0 1000 1\n");
        let mappings = IdMappings { uids: wide.clone(), gids: narrow.clone() };
        assert!(mappings.single(), "one group is too few");
        assert!(mappings.has_uid(65_536) && !mappings.has_uid(65_537) && mappings.has_uid(0));
        assert!(mappings.has_gid(0) && !mappings.has_gid(5));
        assert!(!IdMappings { uids: wide.clone(), gids: wide }.single());
        assert!(IdMappings { uids: narrow.clone(), gids: narrow }.single());
    }

    #[test]
    fn login_names_are_looked_up_by_number() {
        let passwd = "root:x:0:0::/:/bin/sh\njoe:x:1000:7::/:\nbad\n";
        assert_eq!(login_name(passwd, 1000), Some("joe"));
        assert_eq!(login_name(passwd, 7), None);
    }
}
