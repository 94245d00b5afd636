//! Compiled code on disk, and the only `unsafe` of the crate: giving that code to wasmtime.
//!
//! wasmtime trusts what it deserializes: a wrong byte is native code of somebody's choosing. So only bytes this crate compiled itself are
//! ever loaded, and the question is whether a file in the cache still is those bytes.
//!
//! **Threats covered.** Another user: the directory and each file must belong to us, be no symbolic link, and be writable by nobody else.
//! Damage (a crash, a bad disk copy, an edit by accident): each `KEY.cwasm` has a `KEY.stamp`, written after it, with the SHA-256 of
//! the code and the file's device, inode, size, mtime and ctime at that moment. While these are unchanged the content is too (ctime cannot be set by a program),
//! so a 60 MB file costs one `fstat` at start. When they differ (a restored backup) the digest decides. A file that fails is
//! refused, reported, and built again. **Not covered:** our own user and root, who can do anything to this process anyway; therefore the
//! digest is a plain one, a key would lie next to what it locks. On Windows the directory's access list is the caller's (a user profile's is right).
//!
//! **Code from elsewhere.** A build without a compiler runs what another build compiled into a cache that was copied here, by somebody who
//! may write where only we may: then the stamp's digest decides, once, as for a restored backup. Nothing of an image gets here.
//!
//! The stamp is the commit: code without one is absent. Both are written to a temporary name, synced and renamed. When a stamp was
//! last changed tells when its code was last used ([`room`]); the code's own times must not change.

use std::fmt::Write as _;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use cap_std::fs::{Dir, File, OpenOptions};
use sha2::{Digest as _, Sha256};
#[cfg(feature = "compiler")]
use wasmtime::Engine;
use wasmtime::Module;
use wasmtime::component::Component;

use crate::pool::Engines;

#[cfg(not(unix))]
mod other;
mod room;
#[cfg(unix)]
mod unix;
#[cfg(not(unix))]
use other as owner;
#[cfg(unix)]
use unix as owner;

pub use room::{CodeUsage, CompiledCode};

/// Changes whenever what is compiled, or how the engine is configured, changes.
const FORMAT: &str = "runtime-wasm 3";

/// Why a cached file was not used.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Refused {
    /// Another user owns it.
    #[error("it belongs to user {uid}")]
    Owner {
        /// The owner.
        uid: u32,
    },
    /// Others may write to it.
    #[error("its mode {mode:o} lets others write")]
    Mode {
        /// The permission bits.
        mode: u32,
    },
    /// Not a regular file (or for the cache itself, not a directory); a symbolic link.
    #[error("it is not of the right type")]
    Type,
    /// Its bytes are not those that were stored.
    #[error("its content was changed")]
    Content,
    /// wasmtime does not take it: another version or machine.
    #[error("wasmtime refuses it: {message}")]
    Engine {
        /// What it said.
        message: String,
    },
}

/// Why the cache cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// A file operation failed.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What was done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The directory is not safe.
    #[error("the cache directory `{}` is refused: {reason}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        reason: Refused,
    },
}

/// Native code wasmtime can run.
#[derive(Clone)]
pub(crate) enum Code {
    Core(Module),
    Component(Component),
}

/// What code is, as far as loading it needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Core,
    Component,
    /// A component that was compiled for the pool of servers, and fits into it.
    Server,
}

#[cfg(feature = "compiler")]
impl Code {
    pub(crate) fn shape(&self, engines: &Engines) -> Shape {
        match self {
            Self::Core(_) => Shape::Core,
            Self::Component(component) if Engine::same(component.engine(), engines.single()) => {
                Shape::Component
            }
            Self::Component(_) => Shape::Server,
        }
    }
}

/// What a look into the cache found.
pub(crate) enum Found {
    Hit(Code),
    Absent,
    Refused(Refused),
}

/// What identifies a file's content without reading it.
pub(super) type Identity = [u64; 5];

/// A directory of compiled code.
#[derive(Debug)]
pub(crate) struct Cache {
    dir: Dir,
    path: PathBuf,
}

impl Cache {
    pub(crate) fn open(path: &Path) -> Result<Self, CacheError> {
        let io = |action| move |source| CacheError::Io { action, path: path.to_owned(), source };
        owner::create_private(path).map_err(io("create"))?;
        let dir = owner::open_directory(path).map_err(io("open"))?;
        let meta = dir.metadata().map_err(io("inspect"))?;
        if !meta.is_dir() {
            return Err(CacheError::Directory { path: path.to_owned(), reason: Refused::Type });
        }
        owner::check(&meta).map_err(|reason| CacheError::Directory { path: path.to_owned(), reason })?;
        Ok(Self { dir: Dir::from_std_file(dir), path: path.to_owned() })
    }

    /// The name under which a module's code is kept. What else the code depends on (wasmtime's version, the processor's abilities) is
    /// written in it and checked when it is loaded, so that code which does not fit is built again.
    pub(crate) fn key(digest: &[u8; 32], machine: &str, fuel: bool) -> String {
        let mut hash = Sha256::new();
        hash.update(format!("{FORMAT}\0{machine}\0{fuel}\0"));
        hash.update(digest);
        hex::encode(hash.finalize())
    }

    pub(crate) fn lookup(&self, engines: &Engines, key: &str) -> Result<Found, CacheError> {
        let Some(mut stamp_file) = self.open_file(&format!("{key}.stamp"))? else { return Ok(Found::Absent) };
        let code_name = format!("{key}.cwasm");
        let Some(file) = self.open_file(&code_name)? else { return Ok(Found::Absent) };
        for file in [&stamp_file, &file] {
            if let Err(reason) = self.check(file)? {
                return Ok(Found::Refused(reason));
            }
        }
        let mut text = String::new();
        if let Err(source) = (&mut stamp_file).take(4096).read_to_string(&mut text) {
            if source.kind() == io::ErrorKind::InvalidData {
                return Ok(Found::Refused(Refused::Content));
            }
            return Err(self.io("read", key)(source));
        }
        let Some(stamp) = Stamp::parse(&text) else { return Ok(Found::Refused(Refused::Content)) };
        let file = file.into_std();
        let identity = owner::identity(&file.metadata().map_err(self.io("inspect", &code_name))?);
        if identity != stamp.identity {
            let digest = digest_of(&file).map_err(self.io("read", &code_name))?;
            if digest != stamp.digest {
                return Ok(Found::Refused(Refused::Content));
            }
            self.replace(&format!("{key}.stamp"), Stamp { identity, ..stamp }.text().as_bytes())?;
        }
        Ok(match deserialize(engines, stamp.shape, &owner::map_path(&file, &self.path.join(&code_name))) {
            Ok(code) => {
                room::used(stamp_file);
                Found::Hit(code)
            }
            Err(error) => Found::Refused(Refused::Engine { message: format!("{error:#}") }),
        })
    }

    /// Keeps code that was just compiled.
    #[cfg(feature = "compiler")]
    pub(crate) fn store(&self, key: &str, shape: Shape, code: &[u8]) -> Result<(), CacheError> {
        let name = format!("{key}.cwasm");
        self.replace(&name, code)?;
        let meta = match self.open_file(&name)? {
            Some(file) => file.into_std().metadata().map_err(self.io("inspect", &name))?,
            // Removed by somebody in the meantime: then there is nothing to stamp.
            None => return Ok(()),
        };
        let stamp = Stamp { shape, digest: Sha256::digest(code).into(), identity: owner::identity(&meta) };
        self.replace(&format!("{key}.stamp"), stamp.text().as_bytes())
    }

    fn io(&self, action: &'static str, name: &str) -> impl FnOnce(io::Error) -> CacheError + use<> {
        let path = self.path.join(name);
        move |source| CacheError::Io { action, path, source }
    }

    fn open_file(&self, name: &str) -> Result<Option<File>, CacheError> {
        match self.dir.open_with(name, &owner::no_follow()) {
            Ok(file) => Ok(Some(file)),
            // A symbolic link counts as absent as well; storing replaces it.
            Err(error) if error.kind() == io::ErrorKind::NotFound || owner::is_link(&error) => Ok(None),
            Err(error) => Err(self.io("open", name)(error)),
        }
    }

    fn check(&self, file: &File) -> Result<Result<(), Refused>, CacheError> {
        let file = file.try_clone().map_err(self.io("inspect", ""))?.into_std();
        let meta = file.metadata().map_err(self.io("inspect", ""))?;
        Ok(if meta.is_file() { owner::check(&meta) } else { Err(Refused::Type) })
    }

    /// Writes a file so that it is whole or absent.
    fn replace(&self, name: &str, content: &[u8]) -> Result<(), CacheError> {
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        let temporary = format!(".{name}.{}.{}", std::process::id(), SERIAL.fetch_add(1, Ordering::Relaxed));
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        owner::private(&mut options);
        let written = self.dir.open_with(&temporary, &options).and_then(|mut file| {
            file.write_all(content)?;
            file.sync_all()?;
            drop(file);
            self.dir.rename(&temporary, &self.dir, name)
        });
        written.map_err(|source| {
            // The first error counts; a leftover has a name nobody reads.
            let _ = self.dir.remove_file(&temporary);
            self.io("write", name)(source)
        })?;
        owner::sync_directory(&self.dir).map_err(self.io("sync", ""))
    }
}

/// What is known of a stored file.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    shape: Shape,
    digest: [u8; 32],
    identity: Identity,
}

impl Stamp {
    fn text(&self) -> String {
        let shape = match self.shape {
            Shape::Core => "core",
            Shape::Component => "component",
            Shape::Server => "server",
        };
        let mut text = format!("{FORMAT}\n{shape}\n{}\n", hex::encode(self.digest));
        for number in self.identity {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{number}");
        }
        text
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        if lines.next()? != FORMAT {
            return None;
        }
        let shape = match lines.next()? {
            "core" => Shape::Core,
            "component" => Shape::Component,
            "server" => Shape::Server,
            _ => return None,
        };
        let mut digest = [0; 32];
        hex::decode_to_slice(lines.next()?, &mut digest).ok()?;
        let mut identity = [0; 5];
        for number in &mut identity {
            *number = lines.next()?.parse().ok()?;
        }
        lines.next().is_none().then_some(Self { shape, digest, identity })
    }
}

fn digest_of(mut file: &std::fs::File) -> io::Result<[u8; 32]> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hash.finalize().into()),
            count => hash.update(&buffer[..count]),
        }
    }
}

/// Maps a verified file.
#[expect(unsafe_code, reason = "precompiled code is trusted by nature; there is no safe way to load it")]
fn deserialize(engines: &Engines, shape: Shape, path: &Path) -> wasmtime::Result<Code> {
    // SAFETY: the bytes came from this crate's own compilation: `Cache::lookup` checked that nobody else can have written the file,
    // and that it is unchanged since it was stored. `path` names the very file that was checked, or one in a directory only we can write.
    unsafe {
        let component = |engine| Component::deserialize_file(engine, path).map(Code::Component);
        match shape {
            Shape::Core => Module::deserialize_file(engines.single(), path).map(Code::Core),
            Shape::Component => component(engines.single()),
            // The pool may have been larger when it was compiled.
            Shape::Server => component(engines.pooled().unwrap_or_else(|| engines.single())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_survives_writing_and_nothing_else_parses() {
        let stamp = Stamp { shape: Shape::Server, digest: [7; 32], identity: [1, 2, 3, 4, u64::MAX] };
        let text = stamp.text();
        assert_eq!(Stamp::parse(&text), Some(stamp));
        for bad in [
            "",
            "runtime-wasm 0\n",
            &text[..text.len() - 22],
            &text.replace("server", "x"),
            &format!("{text}1\n"),
        ] {
            assert_eq!(Stamp::parse(bad), None, "{bad:?}");
        }
    }
}
