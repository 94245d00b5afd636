//! Who is in the user namespace that all of an ordinary user's containers of one store share, so that a newcomer finds it.
//!
//! Supervisors are found by the database and their locks. Commands that are on the way to the first container have neither yet: each
//! leaves its number in a file of the store, with what tells it from a later process of that number. A newcomer reads, joins or makes
//! the namespace and leaves its own number under the file's lock, so that of commands that begin at once one makes it and the others
//! join.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// In the store's root.
const FILE: &str = "namespace.lock";

/// One of the company: a process, when it began in the kernel's ticks since the boot, and the namespace it is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Member {
    pid: u32,
    begun: u64,
    namespace: u64,
}

impl Member {
    /// A process that is there.
    fn of(pid: u32) -> io::Result<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let namespace = std::fs::metadata(format!("/proc/{pid}/ns/user"))?.ino();
        let begun = begun(&stat).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { pid, begun, namespace })
    }

    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split(' ');
        let mut next = || fields.next()?.parse::<u64>().ok();
        Some(Self { pid: next()?.try_into().ok()?, begun: next()?, namespace: next()? })
    }

    fn is_there(&self) -> bool {
        Self::of(self.pid).is_ok_and(|now| now == *self)
    }
}

/// Field 22 of `/proc/PID/stat` (proc(5)); the second may hold anything, in parentheses.
fn begun(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// The company while nobody else can join it.
#[derive(Debug)]
pub(super) struct Company {
    file: File,
    members: Vec<Member>,
}

impl Company {
    /// Waits for others that are about to join.
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        let path = root.join(FILE);
        let mut file = File::options().create(true).truncate(false).read(true).write(true).open(path)?;
        file.lock()?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        let members = text.lines().filter_map(Member::parse).filter(Member::is_there).collect();
        Ok(Self { file, members })
    }

    /// The commands that are in it.
    pub(super) fn commands(&self) -> impl Iterator<Item = u32> {
        self.members.iter().map(|member| member.pid)
    }

    /// Says that this process is in it as well, and lets others come.
    pub(super) fn join(mut self) -> io::Result<()> {
        let own = Member::of(std::process::id())?;
        let mut text = String::new();
        for Member { pid, begun, namespace } in self.members.iter().chain([&own]) {
            let _ = writeln!(text, "{pid} {begun} {namespace}");
        }
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(text.as_bytes())?;
        self.file.set_len(text.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_told_from_a_later_one_of_its_number() {
        let stat = "7 (a b) c) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20 21";
        assert_eq!(begun(stat), Some(4711));
        assert_eq!(begun("7 (a) S 1"), None);
        let own = Member::of(std::process::id()).unwrap();
        assert!(own.is_there());
        assert!(!Member { begun: own.begun + 1, ..own }.is_there());
        assert!(!Member { namespace: 0, ..own }.is_there());
        assert_eq!(Member::parse(&format!("{} {} {}", own.pid, own.begun, own.namespace)), Some(own));
        assert_eq!((Member::parse("1 2"), Member::parse("-1 2 3")), (None, None));
    }

    #[test]
    fn who_has_gone_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), "4294967295 1 1\nnonsense\n").unwrap();
        Company::open(dir.path()).unwrap().join().unwrap();
        let again = Company::open(dir.path()).unwrap();
        assert_eq!(again.commands().collect::<Vec<_>>(), [std::process::id()]);
    }
}
