//! Finds user and groups in the container's own `/etc/passwd` and `/etc/group`, as docker does.
//!
//! Invariant: these files are hostile. They are read up to a limit, lines that make no sense are skipped, and a name
//! that is not there is an error, never root. Not `getpwnam`: it would load the host's NSS modules and read the
//! host's files.

use crate::failure::{Cause, InitFailure, Result, Step};

/// Files longer than this are cut: no real one comes near it.
pub(crate) const MAX_FILE: u64 = 16 << 20;

/// Ids above this are `-1` to the kernel or negative to other programs.
const MAX_ID: u32 = i32::MAX as u32;

/// Who the process becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// All groups, that one among them.
    pub groups: Vec<u32>,
    /// The user's home, if the root's files say so.
    pub home: Option<String>,
}

struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

fn id(text: &str) -> Option<u32> {
    text.parse::<u32>().ok().filter(|&n| n <= MAX_ID)
}

fn accounts(passwd: &str) -> impl Iterator<Item = Account<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let (name, _, uid, gid) = (fields.next()?, fields.next()?, id(fields.next()?)?, id(fields.next()?)?);
        let home = fields.nth(1).unwrap_or("");
        (!name.is_empty()).then_some(Account { name, uid, gid, home })
    })
}

fn groups(group: &str) -> impl Iterator<Item = Group<'_>> {
    group.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let (name, _, gid) = (fields.next()?, fields.next()?, id(fields.next()?)?);
        (!name.is_empty()).then_some(Group { name, gid, members: fields.next().unwrap_or("") })
    })
}

fn out_of_range(text: &str) -> bool {
    !text.is_empty() && text.strip_prefix('-').unwrap_or(text).bytes().all(|b| b.is_ascii_digit())
}

/// Resolves `spec` (see [`crate::Plan::user`]) and the additional groups.
pub(crate) fn resolve(spec: &str, additional: &[String], passwd: &str, group: &str) -> Result<Identity> {
    let fail = |cause| InitFailure::new(Step::User, spec, cause);
    let (user, wanted_group) = spec.split_once(':').map_or((spec, ""), |(user, group)| (user, group));
    let wanted = if user.is_empty() { "0" } else { user };
    // A name that is a number is looked for as a name first, as docker does.
    let account = accounts(passwd)
        .find(|a| a.name == wanted)
        .or_else(|| accounts(passwd).find(|a| id(wanted) == Some(a.uid)));
    let (uid, mut gid, name, home) = match (&account, id(wanted)) {
        (Some(a), _) => (a.uid, a.gid, Some(a.name), (!a.home.is_empty()).then(|| a.home.to_owned())),
        (None, Some(uid)) => (uid, 0, None, None),
        (None, None) if out_of_range(wanted) => return Err(fail(Cause::IdOutOfRange(wanted.to_owned()))),
        (None, None) => return Err(fail(Cause::UnknownUser(wanted.to_owned()))),
    };
    let find_group =
        |wanted: &str| match groups(group).find(|g| g.name == wanted).map(|g| g.gid).or_else(|| id(wanted)) {
            Some(gid) => Ok(gid),
            None if out_of_range(wanted) => Err(fail(Cause::IdOutOfRange(wanted.to_owned()))),
            None => Err(fail(Cause::UnknownGroup(wanted.to_owned()))),
        };
    let mut supplementary = Vec::new();
    if !wanted_group.is_empty() {
        gid = find_group(wanted_group)?;
    } else if let Some(name) = name {
        let member = |g: &Group<'_>| g.members.split(',').any(|m| m.trim() == name);
        supplementary.extend(groups(group).filter(member).map(|g| g.gid));
    }
    for extra in additional {
        supplementary.push(find_group(extra)?);
    }
    // The primary group is one of the set, as login has it (and against CVE-2022-36109's negative groups).
    supplementary.push(gid);
    supplementary.sort_unstable();
    supplementary.dedup();
    supplementary.truncate(65_536); // NGROUPS_MAX
    Ok(Identity { uid, gid, groups: supplementary, home })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nbin:x:1:1::/bin:\n# c\n:x:9:9::/:\nodd\nbad:x:-1:zz::/:\n\
        big:x:4294967295:0::/:\nwww:x:33:33:w:/var/www:/bin/sh\n1000:x:77:78::/seven:\nroot:x:5:5::/evil:\n";
    const GROUP: &str =
        "root:x:0:\nbin:x:1:root,www\nadm:x:4:www, bin\nwww:x:33:\nevil:x:4294967295:www\nshort\n";

    fn ids(spec: &str) -> (u32, u32, Vec<u32>) {
        let i = resolve(spec, &[], PASSWD, GROUP).unwrap();
        (i.uid, i.gid, i.groups)
    }

    #[test]
    fn users_are_found_as_docker_finds_them() {
        assert_eq!(ids(""), (0, 0, vec![0, 1]));
        assert_eq!(ids("root"), (0, 0, vec![0, 1]), "the first entry counts");
        assert_eq!(ids("www"), (33, 33, vec![1, 4, 33]));
        assert_eq!(ids("33"), (33, 33, vec![1, 4, 33]));
        assert_eq!(ids("www:adm"), (33, 4, vec![4]));
        assert_eq!(ids("12:34"), (12, 34, vec![34]));
        assert_eq!(ids("12"), (12, 0, vec![0]));
        assert_eq!(ids("1000"), (77, 78, vec![78]), "a name that looks like a number");
        assert_eq!(
            resolve("www", &["bin".into(), "99".into()], PASSWD, GROUP).unwrap().groups,
            [1, 4, 33, 99]
        );
        assert_eq!(resolve("www", &[], PASSWD, GROUP).unwrap().home.as_deref(), Some("/var/www"));
    }

    #[test]
    fn what_is_not_there_is_an_error() {
        for (spec, text) in [
            ("foo", "unable to find user foo: no matching entries in passwd file"),
            ("www:foo", "unable to find group foo: no matching entries in group file"),
            ("4294967295", "setting user `4294967295`: id `4294967295` is out of range"),
            ("-1", "setting user `-1`: id `-1` is out of range"),
            ("big", "unable to find user big: no matching entries in passwd file"),
            ("bad", "unable to find user bad: no matching entries in passwd file"),
        ] {
            assert_eq!(resolve(spec, &[], PASSWD, GROUP).unwrap_err().to_string(), text);
        }
        assert!(resolve("", &[], "", "").is_ok(), "an image without files still has root");
    }
}
