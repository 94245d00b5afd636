//! What is mounted into a container: decided in two steps.
//!
//! When a container is made, its record takes everything that was asked for: `-v`, `--mount`, `--tmpfs`, then what
//! `--volumes-from` brings, then the image's volumes; of several for one path the first counts. Anonymous volumes get names.
//! When it starts, names become directories, missing directories of `-v` are made, and an empty volume is filled from the
//! image. An image's path is followed inside the container's root only, through open directories: what an image says of its
//! volumes reaches no file of the host (CVE-2022-23648).

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use cap_std::fs::Dir;

use crate::executor::Mount;
use crate::model::{self, Container, ErrorKind, Kind, MountSource, Propagation, Root, VolumeMount};

use super::{Engine, EngineError};

/// A mount that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The host has no such file.
    #[error("invalid mount config for type \"bind\": bind source path does not exist: {}", path.display())]
    NoSource {
        /// The source.
        path: PathBuf,
    },
    /// The source cannot be looked at, or made.
    #[error("error while creating mount source path '{}'", path.display())]
    Source {
        /// The source.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A directory in the place of the root, which only a sandbox can be given.
    #[error("invalid mount config for type \"bind\": invalid specification: destination can't be '/'")]
    Root,
    /// A directory inside a volume.
    #[error("cannot access path `{subpath}` of volume `{volume}`")]
    Subpath {
        /// The volume.
        volume: String,
        /// The path inside it.
        subpath: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Mounts are to travel from or to a source whose mounts do not.
    #[error("path {} is mounted on {} but it is not a {wanted} mount", path.display(), mount.display())]
    NotShared {
        /// The source.
        path: PathBuf,
        /// The mount that it is in.
        mount: PathBuf,
        /// `shared`, `shared or slave`.
        wanted: &'static str,
    },
    /// A volume of the image's over the image's root.
    #[error("invalid volume of the image: '{path}': destination can't be '/'")]
    ImageVolume {
        /// As the image has it.
        path: String,
    },
    /// `--volumes-from` with an unknown mode.
    #[error("invalid volumes-from specification `{text}`: the mode is ro or rw")]
    VolumesFrom {
        /// As given.
        text: String,
    },
}

impl Kind for MountError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NoSource { .. }
            | Self::Root
            | Self::Subpath { .. }
            | Self::NotShared { .. }
            | Self::ImageVolume { .. }
            | Self::VolumesFrom { .. } => ErrorKind::InvalidInput,
            Self::Source { .. } => ErrorKind::Unavailable,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::NotShared { mount, .. } => {
                vec![format!("`mount --make-rshared {}` makes it one", mount.display())]
            }
            Self::NoSource { .. } => vec!["make it first, or use -v, which makes a directory".to_owned()],
            Self::ImageVolume { .. } => {
                vec!["make the image anew with a VOLUME below `/`, or without it".to_owned()]
            }
            _ => Vec::new(),
        }
    }
}

impl Engine {
    /// Completes the mounts of a record that is being made, and makes the directories of its volumes.
    pub(super) fn resolve_mounts(&self, container: &mut Container) -> Result<(), EngineError> {
        let host = &container.host;
        if host.mounts.is_empty() && host.volumes_from.is_empty() && container.config.volumes.is_empty() {
            return Ok(());
        }
        let mut mounts = host.mounts.clone();
        let mut taken: BTreeSet<String> = mounts.iter().map(|mount| mount.target.clone()).collect();
        for text in &host.volumes_from {
            for mount in self.volumes_of(text)? {
                if taken.insert(mount.target.clone()) {
                    mounts.push(mount);
                }
            }
        }
        for target in &container.config.volumes {
            let target = image_volume(target)?;
            if taken.insert(target.clone()) {
                let source = MountSource::Volume {
                    name: String::new(),
                    anonymous: true,
                    no_copy: false,
                    subpath: String::new(),
                };
                mounts.push(model::Mount { source, target, read_only: false });
            }
        }
        let is_root = |mount: &model::Mount| mount.target == "/";
        if container.executor.name != crate::executor::wasm::NAME && mounts.iter().any(is_root) {
            return Err(MountError::Root.into());
        }
        for mount in &mut mounts {
            match &mut mount.source {
                MountSource::Volume { name, anonymous, .. } => {
                    if name.is_empty() {
                        *name = hex::encode(super::create::random_bytes()?);
                        *anonymous = true;
                    }
                    self.make_volume_files(name)?;
                }
                MountSource::Bind { path, create: false, .. } if !path.exists() => {
                    return Err(MountError::NoSource { path: path.clone() }.into());
                }
                MountSource::Bind { .. } | MountSource::Tmpfs { .. } => {}
            }
        }
        container.host.mounts = mounts;
        Ok(())
    }

    /// `NAME[:ro|rw]`: what another container has mounted, but for memory.
    fn volumes_of(&self, text: &str) -> Result<Vec<model::Mount>, EngineError> {
        let (name, read_only) = match text.rsplit_once(':') {
            None => (text, false),
            Some((name, "ro")) => (name, true),
            Some((name, "rw")) => (name, false),
            Some(_) => return Err(MountError::VolumesFrom { text: text.to_owned() }.into()),
        };
        let mut mounts = self.container(name)?.container.host.mounts;
        mounts.retain(|mount| !matches!(mount.source, MountSource::Tmpfs { .. }));
        for mount in &mut mounts {
            mount.read_only |= read_only;
        }
        Ok(mounts)
    }

    /// What a container that is about to start has mounted, the shallow first.
    pub(super) fn mounts(&self, container: &Container, root: &Root) -> Result<Vec<Mount>, EngineError> {
        let mut mounts = Vec::new();
        for mount in &container.host.mounts {
            mounts.push(match &mount.source {
                MountSource::Bind { path, propagation, non_recursive, create } => {
                    bind_source(path, *create)?;
                    if container.executor.name == crate::executor::linux::NAME {
                        shareable(path, *propagation)?;
                    }
                    Mount::Bind {
                        source: path.clone(),
                        subpath: String::new(),
                        target: mount.target.clone(),
                        read_only: mount.read_only,
                        recursive: !non_recursive,
                        propagation: *propagation,
                    }
                }
                MountSource::Volume { name, no_copy, subpath, .. } => {
                    self.make_volume_files(name)?;
                    let options = self.volume_mount(name)?;
                    if options.is_none() && !no_copy && subpath.is_empty() {
                        self.store()?.volumes().fill(name, || image_directory(root, &mount.target))?;
                    }
                    self.volume_bind(name, subpath, options, mount)?
                }
                MountSource::Tmpfs { size, mode, options } => Mount::Tmpfs {
                    target: mount.target.clone(),
                    size: *size,
                    mode: *mode,
                    read_only: mount.read_only,
                    options: options.clone(),
                },
            });
        }
        Ok(mounts)
    }

    /// What a volume's options mount; `None`: the volume is a directory of the store.
    fn volume_mount(&self, name: &str) -> Result<Option<VolumeMount>, EngineError> {
        match self.database.volume(name)? {
            Some(volume) => Ok(volume.mount()?),
            None => Ok(None),
        }
    }

    /// One mount of a volume.
    fn volume_bind(
        &self,
        name: &str,
        subpath: &str,
        options: Option<VolumeMount>,
        mount: &model::Mount,
    ) -> Result<Mount, EngineError> {
        let (recursive, read_only) = match options {
            Some(VolumeMount::Tmpfs { options }) => {
                return Ok(Mount::Tmpfs {
                    target: mount.target.clone(),
                    size: None,
                    mode: None,
                    read_only: mount.read_only,
                    options,
                });
            }
            Some(VolumeMount::Bind { device, recursive, read_only }) => {
                bind_source(&device, false)?;
                (recursive, read_only)
            }
            None => (true, false),
        };
        Ok(Mount::Bind {
            source: self.volume_source(name, subpath)?,
            subpath: subpath.to_owned(),
            target: mount.target.clone(),
            read_only: mount.read_only || read_only,
            recursive,
            propagation: Propagation::Rprivate,
        })
    }

    /// A volume's directory, in which there is something at `subpath` that no link leads out of. Whoever opens that looks it up
    /// himself, by a descriptor of the directory: what is said here may be another's by then.
    pub(super) fn volume_source(&self, name: &str, subpath: &str) -> Result<PathBuf, EngineError> {
        let data = match self.volume_mount(name)? {
            Some(VolumeMount::Bind { device, .. }) => device,
            Some(VolumeMount::Tmpfs { .. }) | None => self.store()?.volumes().data(name),
        };
        if subpath.is_empty() {
            return Ok(data);
        }
        let found = (|| {
            let inside = Dir::open_ambient_dir(&data, cap_std::ambient_authority())?;
            inside.metadata(subpath)
        })();
        match found {
            Ok(_) => Ok(data),
            Err(source) => {
                Err(MountError::Subpath { volume: name.to_owned(), subpath: subpath.to_owned(), source }
                    .into())
            }
        }
    }
}

/// Where a volume of the image's is mounted. As with docker, a relative one lies below the root and `..` does not lead out; one over the
/// root itself would hide the program.
fn image_volume(path: &str) -> Result<String, MountError> {
    match clean(path) {
        root if root == "/" => Err(MountError::ImageVolume { path: path.to_owned() }),
        target => Ok(target),
    }
}

/// An image's path without `.`, `..` and doubled slashes, absolute.
pub(super) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

fn bind_source(path: &Path, create: bool) -> Result<(), MountError> {
    match std::fs::metadata(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound && create => std::fs::create_dir_all(path)
            .map_err(|source| MountError::Source { path: path.to_owned(), source }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(MountError::NoSource { path: path.to_owned() })
        }
        Err(source) => Err(MountError::Source { path: path.to_owned(), source }),
    }
}

/// Refuses to let mounts travel where the source's own mount does not: docker's rule.
fn shareable(path: &Path, propagation: Propagation) -> Result<(), MountError> {
    if matches!(propagation, Propagation::Private | Propagation::Rprivate) {
        return Ok(());
    }
    let failed = |source| MountError::Source { path: path.to_owned(), source };
    let table = std::fs::read_to_string("/proc/self/mountinfo").map_err(failed)?;
    travels(&path.canonicalize().map_err(failed)?, propagation, &table)
}

/// The same by a table of mounts (proc(5)).
fn travels(path: &Path, propagation: Propagation, table: &str) -> Result<(), MountError> {
    let rows = table.lines().filter_map(|line| {
        let target = line.split(' ').nth(4)?.replace("\\040", " ").replace("\\134", "\\");
        Some((PathBuf::from(target), line.split(" - ").next()?))
    });
    // The deepest, and of several on one place the last.
    let Some((mount, row)) = rows
        .filter(|(target, _)| path.starts_with(target))
        .max_by_key(|(target, _)| target.components().count())
    else {
        return Ok(());
    };
    let has = |tag: &str| row.split(' ').skip(6).any(|field| field.starts_with(tag));
    let (fits, wanted) = match propagation {
        Propagation::Shared | Propagation::Rshared => (has("shared:"), "shared"),
        _ => (has("shared:") || has("master:"), "shared or slave"),
    };
    if fits { Ok(()) } else { Err(MountError::NotShared { path: path.to_owned(), mount, wanted }) }
}

/// The directory of the container's root that a volume covers; `None` when there is none.
#[cfg(target_os = "linux")]
fn image_directory(root: &Root, target: &str) -> io::Result<Option<Dir>> {
    use rustix::fs::{Mode, OFlags, ResolveFlags};
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let top = match root {
        Root::Overlay { lower, upper, work, .. } => runtime_linux::detached::overlay_fd(
            lower,
            Some(runtime_linux::detached::Writable { upper, work, volatile: false }),
        )?,
        Root::Directory(path) => rustix::fs::open(path, flags, Mode::empty())?,
    };
    let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(&top, target, flags, Mode::empty(), inside) {
        Ok(found) => Ok(Some(Dir::from_std_file(found.into()))),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The directory of the container's root that a volume covers; `None` when there is none.
#[cfg(not(target_os = "linux"))]
fn image_directory(root: &Root, target: &str) -> io::Result<Option<Dir>> {
    let Root::Directory(path) = root else { return Ok(None) };
    let top = Dir::open_ambient_dir(path, cap_std::ambient_authority())?;
    match top.open_dir(target.trim_start_matches('/')) {
        Ok(found) => Ok(Some(found)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_images_path_stays_below_the_root() {
        for (path, expected) in
            [("/a/b", "/a/b"), ("a", "/a"), ("/../../etc", "/etc"), ("//x/./y/../z/", "/x/z"), ("/..", "/")]
        {
            assert_eq!(clean(path), expected);
        }
    }

    #[test]
    fn an_images_volume_is_not_its_root() {
        for (path, expected) in
            [("/data", "/data"), ("data", "/data"), ("/../../etc", "/etc"), ("/a..b", "/a..b")]
        {
            assert_eq!(image_volume(path).unwrap(), expected);
        }
        for path in ["/", "//.", "", "..", "/a/.."] {
            let error = image_volume(path).unwrap_err();
            let words = format!("invalid volume of the image: '{path}': destination can't be '/'");
            assert_eq!(error.to_string(), words);
            assert_eq!((error.kind(), error.hints().len()), (ErrorKind::InvalidInput, 1));
        }
    }

    #[test]
    fn mounts_travel_only_from_mounts_that_are_shared() {
        use Propagation::{Rshared, Rslave, Shared, Slave};
        let table = "1 0 8:0 / / rw shared:1 - ext4 x rw\n2 1 8:0 / /a rw,x - tmpfs x rw\n\
                     3 1 8:0 / /a/b rw master:7 - tmpfs x rw\n4 1 8:0 / /a\\040c rw shared:2 - tmpfs x rw\n";
        for (path, propagation, message) in [
            ("/x", Shared, ""),
            ("/a/x", Rshared, "path /a/x is mounted on /a but it is not a shared mount"),
            ("/a/x", Slave, "path /a/x is mounted on /a but it is not a shared or slave mount"),
            ("/a/b/c", Rslave, ""),
            ("/a/b", Shared, "path /a/b is mounted on /a/b but it is not a shared mount"),
            ("/a c/x", Shared, ""),
            ("/ab", Shared, ""),
        ] {
            let told = travels(Path::new(path), propagation, table).err().map(|error| error.to_string());
            assert_eq!(told.unwrap_or_default(), message, "{path}");
        }
    }

    #[test]
    fn a_source_is_made_only_for_those_who_ask() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        assert!(matches!(bind_source(&path, false), Err(MountError::NoSource { .. })));
        bind_source(&path, true).unwrap();
        assert!(path.is_dir());
        bind_source(&path, false).unwrap();
    }
}
