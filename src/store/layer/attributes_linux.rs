//! Owners, modes, times, extended attributes, devices and whiteouts, on Linux.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use cap_std::fs::Dir;
use rustix::fs::{self, AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};

use super::apply::Meta;
pub(super) use super::facts::Node;
pub(in crate::store) use super::facts::{Facts, Form};

/// Overlayfs's mark, and the one it takes inside a user namespace (mount option `userxattr`).
const OPAQUE: &str = "trusted.overlay.opaque";
const OPAQUE_INSIDE: &str = "user.overlay.opaque";
/// Remembers the owner that a file should have and this user may not give it: `uid:gid`.
const OWNER: &str = "user.umiak.owner";

/// Whether this process lacks rights of root's: an ordinary user, or root of a user namespace.
fn confined() -> bool {
    !rustix::process::geteuid().is_root() || runtime_linux::userns::inside()
}

/// A component of an entry's name, as this system has it.
#[expect(clippy::unnecessary_wraps, reason = "the signature of its twin")]
pub(in crate::store) fn name(bytes: &[u8]) -> Option<OsString> {
    Some(OsStr::from_bytes(bytes).to_owned())
}

/// Whether whiteouts are stored as overlayfs wants them: needs the right to make devices and trusted attributes.
/// Inside a user namespace that is tried out (Linux 5.8 lets its root make the device 0:0, and no other).
pub(super) fn overlay_whiteouts(layer: &Dir) -> bool {
    if !runtime_linux::userns::inside() {
        return rustix::process::geteuid().is_root();
    }
    let probe = OsStr::new(".wh.probe");
    rustix::process::geteuid().is_root()
        && whiteout(layer, probe).is_ok()
        && fs::unlinkat(layer, probe, AtFlags::empty()).is_ok()
}

fn times(meta: &Meta) -> Timestamps {
    let time = Timespec { tv_sec: meta.seconds, tv_nsec: meta.nanoseconds.into() };
    Timestamps { last_access: time, last_modification: time }
}

/// Whether the owner must be set. It is looked at and not taken for our own: below a set-group-id directory it is not.
fn foreign(there: &fs::Stat, meta: &Meta) -> bool {
    meta.uid != there.st_uid || meta.gid != there.st_gid
}

/// Makes a file with its mode, which [`set`] then need not change.
pub(super) fn made_with(options: &mut cap_std::fs::OpenOptions, meta: &Meta) {
    cap_std::fs::OpenOptionsExt::mode(options, meta.mode & 0o777);
}

/// An owner that may not be set is left out, for root in a user namespace and for ordinary users; anything else is an error.
fn permitted(result: rustix::io::Result<()>) -> io::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::PERM | rustix::io::Errno::INVAL) if confined() => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Sets everything of an open file or directory that is not so already: to look costs a tenth of a change. `false`: the owner was
/// left out.
pub(super) fn set(file: impl AsFd, meta: &Meta) -> io::Result<bool> {
    let there = fs::fstat(&file)?;
    let owned = if foreign(&there, meta) {
        permitted(fs::fchown(&file, Some(Uid::from_raw(meta.uid)), Some(Gid::from_raw(meta.gid))))?
    } else {
        true
    };
    // After the owner: chown clears set-user-id and the capabilities, which are not among these bits where nothing is to be done.
    if there.st_mode & 0o7777 != meta.mode || meta.mode & 0o7000 != 0 {
        fs::fchmod(&file, Mode::from_raw_mode(meta.mode))?;
    }
    for (key, value) in &meta.xattrs {
        match fs::fsetxattr(&file, key.as_slice(), value, XattrFlags::empty()) {
            // As docker: file systems without attributes, and users without the right, do without.
            Ok(()) | Err(rustix::io::Errno::NOTSUP) => {}
            Err(rustix::io::Errno::PERM) if confined() => {}
            Err(error) => return Err(error.into()),
        }
    }
    if !owned {
        let wish = format!("{}:{}", meta.uid, meta.gid);
        match fs::fsetxattr(&file, OWNER, wish.as_bytes(), XattrFlags::empty()) {
            // Without attributes the wish is only counted.
            Ok(()) | Err(rustix::io::Errno::NOTSUP | rustix::io::Errno::PERM | rustix::io::Errno::ACCESS) => {
            }
            Err(error) => return Err(error.into()),
        }
    }
    fs::futimens(&file, &times(meta))?;
    Ok(owned)
}

/// The same directory, open for more than lookups: cap-std opens directories with `O_PATH`.
pub(in crate::store) fn readable(directory: &Dir) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(fs::openat(directory, ".", flags, Mode::empty())?)
}

/// Sets everything of a directory. `false`: the owner was left out.
pub(super) fn set_directory(directory: &Dir, meta: &Meta) -> io::Result<bool> {
    set(readable(directory)?, meta)
}

/// Sets owner and times of what cannot be opened: links and nodes.
pub(super) fn set_at(parent: &Dir, name: &OsStr, meta: &Meta) -> io::Result<bool> {
    let there = fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let owned = if foreign(&there, meta) {
        let owner = (Some(Uid::from_raw(meta.uid)), Some(Gid::from_raw(meta.gid)));
        permitted(fs::chownat(parent, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW))?
    } else {
        true
    };
    fs::utimensat(parent, name, &times(meta), AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(owned)
}

/// The mode of a directory that the archive only implies.
pub(super) fn implied(directory: &Dir) -> io::Result<()> {
    Ok(fs::fchmod(readable(directory)?, Mode::from_raw_mode(0o755))?)
}

/// Makes a symbolic link with this very text.
pub(super) fn symlink(parent: &Dir, target: &[u8], name: &OsStr) -> io::Result<()> {
    Ok(fs::symlinkat(OsStr::from_bytes(target), parent, name)?)
}

/// Makes a device or pipe; `false`: this user may not.
pub(super) fn node(
    parent: &Dir,
    name: &OsStr,
    node: Node,
    major: u32,
    minor: u32,
    meta: &Meta,
) -> io::Result<bool> {
    let kind = match node {
        Node::Character => FileType::CharacterDevice,
        Node::Block => FileType::BlockDevice,
        Node::Pipe => FileType::Fifo,
    };
    match fs::mknodat(parent, name, kind, Mode::from_raw_mode(meta.mode), fs::makedev(major, minor)) {
        Ok(()) => {}
        Err(rustix::io::Errno::PERM) => return Ok(false),
        Err(error) => return Err(error.into()),
    }
    // It is ours and new, and nobody else writes in this tree: no link can be in the way.
    fs::chmodat(parent, name, Mode::from_raw_mode(meta.mode), AtFlags::empty())?;
    Ok(true)
}

/// Makes an overlay whiteout.
pub(super) fn whiteout(parent: &Dir, name: &OsStr) -> io::Result<()> {
    Ok(fs::mknodat(parent, name, FileType::CharacterDevice, Mode::empty(), 0)?)
}

/// Marks a directory opaque for overlayfs.
pub(super) fn opaque(directory: &Dir) -> io::Result<()> {
    let mark = if runtime_linux::userns::inside() { OPAQUE_INSIDE } else { OPAQUE };
    Ok(fs::fsetxattr(readable(directory)?, mark, b"y", XattrFlags::empty())?)
}

/// Whether a name is an overlay whiteout.
pub(in crate::store) fn is_whiteout(metadata: &cap_std::fs::Metadata) -> bool {
    use cap_std::fs::{FileTypeExt as _, MetadataExt as _};
    metadata.file_type().is_char_device() && metadata.rdev() == 0
}

/// Whether a directory is marked opaque.
pub(in crate::store) fn is_opaque(directory: &Dir) -> bool {
    let Ok(directory) = readable(directory) else { return false };
    [OPAQUE, OPAQUE_INSIDE].into_iter().any(|mark| {
        let mut value = [0_u8; 1];
        fs::fgetxattr(&directory, mark, value.as_mut_slice()).is_ok() && value == *b"y"
    })
}

/// Whether nothing changed, as far as facts tell.
pub(in crate::store) fn same(one: &Facts, other: &Facts) -> bool {
    let key = |facts: &Facts| {
        let size = if facts.form == Form::Directory { 0 } else { facts.size };
        let numbers = (facts.mode, facts.uid, facts.gid, size, facts.device);
        (facts.form, numbers, facts.seconds, facts.nanoseconds)
    };
    key(one) == key(other)
}

/// The facts of what was looked at.
pub(in crate::store) fn facts(metadata: &cap_std::fs::Metadata) -> Facts {
    use cap_std::fs::MetadataExt as _;
    let form = match FileType::from_raw_mode(metadata.mode()) {
        FileType::Directory => Form::Directory,
        FileType::Symlink => Form::Link,
        FileType::CharacterDevice => Form::Character,
        FileType::BlockDevice => Form::Block,
        FileType::Fifo => Form::Pipe,
        FileType::Socket => Form::Socket,
        _ => Form::File,
    };
    let number = matches!(form, Form::Character | Form::Block).then(|| metadata.rdev());
    Facts {
        form,
        mode: metadata.mode() & 0o7777,
        uid: metadata.uid(),
        gid: metadata.gid(),
        seconds: metadata.mtime(),
        nanoseconds: metadata.mtime_nsec().try_into().unwrap_or(0),
        size: metadata.size(),
        device: number.map_or((0, 0), |number| (fs::major(number), fs::minor(number))),
        shared: (metadata.nlink() > 1 && form != Form::Directory).then(|| (metadata.dev(), metadata.ino())),
    }
}

/// A name that leads to a thing in an open directory, for the calls that take no directory. The last component is not followed.
fn through(parent: &Dir, name: &OsStr) -> OsString {
    use std::os::fd::AsRawFd as _;
    let mut path = OsString::from(format!("/proc/self/fd/{}/", parent.as_fd().as_raw_fd()));
    path.push(name);
    path
}

fn value(path: &OsStr, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let mut value = vec![0_u8; 256];
    loop {
        match fs::lgetxattr(path, key, value.as_mut_slice()) {
            Ok(size) => {
                value.truncate(size);
                return Ok(Some(value));
            }
            Err(rustix::io::Errno::RANGE) if value.len() < 64 << 10 => value.resize(64 << 10, 0),
            Err(rustix::io::Errno::NODATA | rustix::io::Errno::NOTSUP | rustix::io::Errno::NOENT) => {
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// The capability of a file, which changes without its time.
pub(in crate::store) fn capability(parent: &Dir, name: &OsStr) -> io::Result<Option<Vec<u8>>> {
    value(&through(parent, name), b"security.capability")
}

/// Attributes that belong in an archive: not the file system's own, nor a security module's. The owner that a file should have,
/// where it could not be given, becomes the owner.
pub(in crate::store) fn extended(
    parent: &Dir,
    name: &OsStr,
    facts: &mut Facts,
) -> io::Result<Vec<(String, Vec<u8>)>> {
    let path = through(parent, name);
    let mut names = vec![0_u8; 4096];
    let length = loop {
        match fs::llistxattr(path.as_os_str(), names.as_mut_slice()) {
            Ok(length) => break length,
            Err(rustix::io::Errno::RANGE) if names.len() < 64 << 10 => names.resize(64 << 10, 0),
            Err(rustix::io::Errno::NOTSUP | rustix::io::Errno::NOENT) => break 0,
            Err(error) => return Err(error.into()),
        }
    };
    let mut found = Vec::new();
    for key in names[..length].split(|byte| *byte == 0).filter(|key| !key.is_empty()) {
        let Ok(text) = std::str::from_utf8(key) else { continue };
        if text == OWNER {
            let wish = value(&path, key)?.and_then(|wish| String::from_utf8(wish).ok());
            let ids = wish.as_deref().and_then(|wish| wish.split_once(':'));
            if let Some((Ok(uid), Ok(gid))) = ids.map(|(uid, gid)| (uid.parse(), gid.parse())) {
                (facts.uid, facts.gid) = (uid, gid);
            }
            continue;
        }
        let foreign = text.starts_with("trusted.")
            || text.starts_with("user.overlay.")
            || text.starts_with("user.umiak.")
            || (text.starts_with("security.") && text != "security.capability");
        if !foreign
            && !text.contains('=')
            && let Some(value) = value(&path, key)?
        {
            found.push((text.to_owned(), value));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// A file that has become a pipe since must not be waited for, nor a link followed.
pub(in crate::store) fn without_waiting(options: &mut cap_std::fs::OpenOptions) {
    use cap_std::fs::OpenOptionsExt as _;
    options.custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW);
}

/// The pieces of a file that are not holes: offset and length.
pub(in crate::store) fn pieces(file: &cap_std::fs::File, size: u64) -> io::Result<Vec<(u64, u64)>> {
    use cap_std::fs::MetadataExt as _;
    /// A file in more pieces is written as it is.
    const MOST: usize = 10_000;
    let whole = vec![(0, size)];
    if size == 0 || file.metadata()?.blocks().saturating_mul(512) >= size {
        return Ok(whole);
    }
    let mut pieces = Vec::new();
    let mut at = 0;
    while at < size {
        let data = match fs::seek(file, fs::SeekFrom::Data(at)) {
            Ok(data) if data < size => data,
            Ok(_) | Err(rustix::io::Errno::NXIO) => break,
            // This file system knows no holes.
            Err(rustix::io::Errno::INVAL) => return Ok(whole),
            Err(error) => return Err(error.into()),
        };
        let end = fs::seek(file, fs::SeekFrom::Hole(data))?.min(size);
        pieces.push((data, end - data));
        at = end;
        if pieces.len() > MOST {
            return Ok(whole);
        }
    }
    Ok(pieces)
}

/// The extended attributes of a name, links not followed; those that cannot be read count as absent.
pub(super) fn listed(path: &std::path::Path) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut names = vec![0_u8; 4096];
    let Ok(length) = fs::llistxattr(path, names.as_mut_slice()) else { return Vec::new() };
    let mut found = Vec::new();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0_u8; 1 << 16];
        if let Ok(length) = fs::lgetxattr(path, OsStr::from_bytes(name), value.as_mut_slice()) {
            value.truncate(length);
            found.push((name.to_owned(), value));
        }
    }
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use cap_std::fs::OpenOptions;

    #[test]
    fn what_is_right_already_is_left_and_the_rest_is_set() {
        let folder = tempfile::tempdir().unwrap();
        let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
        if user.is_root() {
            // What is made in here has another group than ours.
            fs::chown(folder.path(), None, Some(Gid::from_raw(7))).unwrap();
            fs::chmod(folder.path(), Mode::from_raw_mode(0o2755)).unwrap();
        }
        let dir = Dir::open_ambient_dir(folder.path(), cap_std::ambient_authority()).unwrap();
        for mode in [0o644, 0o666, 0o000, 0o4755, 0o2755, 0o1777, 0o600] {
            let seconds = 1_000_000_000 + i64::from(mode);
            let meta = Meta { mode, uid: user.as_raw(), gid: group.as_raw(), seconds, ..Meta::default() };
            let name = format!("{mode:o}");
            let mut options = OpenOptions::new();
            options.write(true).create_new(true);
            made_with(&mut options, &meta);
            assert!(set(dir.open_with(&name, &options).unwrap(), &meta).unwrap());
            let there = fs::statat(&dir, &*name, AtFlags::empty()).unwrap();
            let found = (there.st_mode & 0o7777, there.st_uid, there.st_gid, there.st_mtime);
            assert_eq!(found, (mode, meta.uid, meta.gid, seconds), "{name}");
            let link = format!("{name}.link");
            symlink(&dir, b"x", OsStr::new(&link)).unwrap();
            assert!(set_at(&dir, OsStr::new(&link), &meta).unwrap());
            let there = fs::statat(&dir, &*link, AtFlags::SYMLINK_NOFOLLOW).unwrap();
            assert_eq!((there.st_uid, there.st_gid, there.st_mtime), (meta.uid, meta.gid, seconds), "{link}");
        }
    }
}
