//! `-v`, `--mount` and `--tmpfs`.
//!
//! `--mount` is one record of comma-separated values (RFC 4180), so that a path may hold a comma. Stricter than docker: a
//! target of `-v` must be absolute also when it is all there is, and options of `--tmpfs` that say nothing to the kernel
//! are left to the container's start, as docker leaves them.

use std::path::{Path, PathBuf};

use super::number::size;
use super::refused::Refused;
use crate::model::{Mount, MountSource, Propagation};

/// One `-v`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// What is mounted; an anonymous volume has no name yet.
    pub mount: Mount,
    /// It has a source: docker shows it among `Binds`.
    pub bind: Option<String>,
}

fn refuse<T>(message: impl Into<String>) -> Result<T, Refused> {
    Err(Refused::text(message))
}

/// An absolute path without `.`, `..`, or doubled and trailing slashes; it must not be the root.
fn target(path: &str) -> Result<String, String> {
    match place(path)?.as_str() {
        "/" => Err("invalid specification: destination can't be '/'".to_owned()),
        place => Ok(place.to_owned()),
    }
}

/// The same, or the root: whether a directory of the host can be one depends on what runs the image, which is not known yet.
fn place(path: &str) -> Result<String, String> {
    if !path.starts_with('/') {
        return Err(format!("invalid mount path: '{path}' mount path must be absolute"));
    }
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    Ok(format!("/{}", parts.join("/")))
}

fn volume_name(name: &str) -> Result<(), Refused> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let good =
        name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.len() > 1 && name.chars().all(fits);
    if good {
        return Ok(());
    }
    refuse(format!(
        "create {name}: \"{name}\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
    ))
}

fn propagation(text: &str) -> Option<Propagation> {
    Some(match text {
        "private" => Propagation::Private,
        "rprivate" => Propagation::Rprivate,
        "shared" => Propagation::Shared,
        "rshared" => Propagation::Rshared,
        "slave" => Propagation::Slave,
        "rslave" => Propagation::Rslave,
        _ => return None,
    })
}

/// What the third part of a `-v` says.
#[derive(Debug, Default)]
struct Mode {
    read_only: bool,
    propagation: Option<Propagation>,
    no_copy: bool,
}

/// Of each kind of word at most one. Labels for `SELinux` (`z`, `Z`) and hints for other systems' file sharing (`cached`) are
/// taken and do nothing, as with docker where there is neither.
fn mode(text: &str) -> Result<Mode, Refused> {
    let mut mode = Mode::default();
    let (mut access, mut label, mut copy, mut consistency) = (0, 0, 0, 0);
    let wrong = || refuse(format!("invalid mode: {text}"));
    for word in text.split(',') {
        match word {
            "ro" | "rw" => {
                access += 1;
                mode.read_only = word == "ro";
            }
            "z" | "Z" => label += 1,
            "nocopy" => {
                copy += 1;
                mode.no_copy = true;
            }
            "consistent" | "cached" | "delegated" | "default" => consistency += 1,
            _ => match propagation(word) {
                Some(found) if mode.propagation.is_none() => mode.propagation = Some(found),
                _ => return wrong(),
            },
        }
    }
    if [access, label, copy, consistency].iter().any(|count| *count > 1) { wrong() } else { Ok(mode) }
}

/// What colons separate; where there are drives (`C:\data:/data`, `C:/data:/data`), not the one of the source's.
fn sections(text: &str, drives: bool) -> Vec<&str> {
    let drive = matches!(text.as_bytes(), [letter, b':', b'\\' | b'/', ..] if letter.is_ascii_alphabetic());
    let skipped = if drives && drive { 2 } else { 0 };
    let end = |at: Option<usize>| at.map_or(text.len(), |at| at + skipped);
    let source = &text[..end(text[skipped..].find(':'))];
    let rest = text[source.len()..].strip_prefix(':');
    std::iter::once(source).chain(rest.into_iter().flat_map(|rest| rest.split(':'))).collect()
}

/// One `-v`: `[source:]target[:mode]`; `here` is the working directory, for sources such as `./data`.
pub fn volume(text: &str, here: &Path) -> Result<Volume, Refused> {
    let invalid = |reason: &str| refuse(format!("invalid volume specification: '{text}': {reason}"));
    if text.is_empty() {
        return refuse("invalid empty volume spec");
    }
    let parts = sections(text, cfg!(windows));
    if parts.len() > 1 && parts.iter().any(|part| part.is_empty()) {
        return refuse(format!("invalid spec: {text}: empty section between colons"));
    }
    let (source, path, words) = match parts.as_slice() {
        [path] => (None, *path, ""),
        [source, path] => (Some(*source), *path, ""),
        [source, path, words] => (Some(*source), *path, *words),
        _ => return refuse(format!("invalid spec: {text}: too many colons")),
    };
    let mode = if words.is_empty() { Mode::default() } else { mode(words)? };
    let Some(source) = source else {
        let target = target(path).or_else(|reason| invalid(&reason))?;
        let source = MountSource::Volume {
            name: String::new(),
            anonymous: true,
            no_copy: false,
            subpath: String::new(),
        };
        return Ok(Volume { mount: Mount { source, target, read_only: false }, bind: None });
    };
    let is_path = source.starts_with('/') || source.starts_with("./") || source.starts_with("../");
    let is_path = is_path || cfg!(windows) && (source.contains('\\') || source.contains(':'));
    let kind = if is_path || matches!(source, "." | "..") { "bind" } else { "volume" };
    let target = if kind == "bind" { place(path) } else { target(path) }
        .or_else(|reason| invalid(&format!("invalid mount config for type \"{kind}\": {reason}")))?;
    let field = |name: &str| {
        Err::<Volume, _>(Refused::text(format!(
            "invalid volume specification: '{text}': invalid mount config for type \"{kind}\": field {name} must not be specified"
        )))
    };
    let (found, shown) = if kind == "bind" {
        if mode.no_copy {
            return field("VolumeOptions");
        }
        let path = clean(&here.join(source));
        let shown = path.display().to_string();
        let propagation = mode.propagation.unwrap_or_default();
        (MountSource::Bind { path, propagation, non_recursive: false, create: true }, shown)
    } else {
        if mode.propagation.is_some() {
            return field("BindOptions");
        }
        volume_name(source)?;
        let named = MountSource::Volume {
            name: source.to_owned(),
            anonymous: false,
            no_copy: mode.no_copy,
            subpath: String::new(),
        };
        (named, source.to_owned())
    };
    let rest = text.strip_prefix(source).unwrap_or_default();
    let mount = Mount { source: found, target, read_only: mode.read_only };
    Ok(Volume { mount, bind: Some(format!("{shown}{rest}")) })
}

/// A path without `.` and `..`, by text alone, as docker's client does it.
fn clean(path: &Path) -> PathBuf {
    use std::path::Component;
    let mut cleaned = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                cleaned.pop();
            }
            part => cleaned.push(part),
        }
    }
    cleaned
}

/// One `--tmpfs`: `target[:options]`. Also its two parts as typed.
pub fn tmpfs(text: &str) -> Result<(Mount, String, String), Refused> {
    let (path, words) = text.split_once(':').unwrap_or((text, ""));
    let mut mount = Mount {
        source: MountSource::Tmpfs { size: None, mode: None, options: Vec::new() },
        target: target(path).map_err(Refused::Text)?,
        read_only: false,
    };
    let MountSource::Tmpfs { size: bytes, mode, options } = &mut mount.source else { return refuse(text) };
    for word in words.split(',').filter(|word| !word.is_empty()) {
        let wrong = || Refused::text(format!("invalid tmpfs option {word:?}"));
        match word.split_once('=') {
            Some(("size", value)) if !value.ends_with('%') => {
                *bytes = Some(size(value).map_err(|_| wrong())?);
            }
            Some(("mode", value)) => *mode = Some(u32::from_str_radix(value, 8).map_err(|_| wrong())?),
            _ if word == "ro" => mount.read_only = true,
            _ if word == "rw" => mount.read_only = false,
            _ => options.push(word.to_owned()),
        }
    }
    Ok((mount, path.to_owned(), words.to_owned()))
}

/// One record of comma-separated values.
fn record(text: &str) -> Result<Vec<String>, Refused> {
    if text.is_empty() {
        return refuse("EOF");
    }
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let at = |rest: &str| text.len() - rest.len() + 1;
        let mut field = String::new();
        if let Some(mut quoted) = rest.strip_prefix('"') {
            loop {
                let Some((before, after)) = quoted.split_once('"') else {
                    return refuse(format!(
                        "parse error on line 1, column {}: extraneous or missing \" in quoted-field",
                        text.len() + 1
                    ));
                };
                field += before;
                if let Some(more) = after.strip_prefix('"') {
                    field.push('"');
                    quoted = more;
                } else {
                    quoted = after;
                    break;
                }
            }
            if !quoted.is_empty() && !quoted.starts_with(',') {
                return refuse(format!(
                    "parse error on line 1, column {}: extraneous or missing \" in quoted-field",
                    at(quoted) - 1
                ));
            }
            rest = quoted;
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            if let Some(quote) = rest[..end].find('"') {
                return refuse(format!(
                    "parse error on line 1, column {}: bare \" in non-quoted-field",
                    at(&rest[quote..])
                ));
            }
            field += &rest[..end];
            rest = &rest[end..];
        }
        fields.push(field);
        match rest.strip_prefix(',') {
            Some(more) => rest = more,
            None => return Ok(fields),
        }
    }
}

/// The fields of a `--mount`.
#[derive(Debug, Default)]
struct Fields {
    kind: String,
    source: String,
    target: String,
    read_only: bool,
    propagation: String,
    non_recursive: bool,
    recursive: String,
    no_copy: bool,
    subpath: String,
    size: Option<u64>,
    mode: Option<u32>,
    /// Groups of options that were used: they fit one type only.
    bind: bool,
    volume: bool,
    tmpfs: bool,
}

fn boolean(key: &str, value: Option<&str>) -> Result<bool, Refused> {
    match value {
        None | Some("1" | "t" | "T" | "TRUE" | "true" | "True") => Ok(true),
        Some("0" | "f" | "F" | "FALSE" | "false" | "False") => Ok(false),
        Some(value) => refuse(format!("invalid value for {key}: {value}")),
    }
}

impl Fields {
    fn take(&mut self, field: &str) -> Result<(), Refused> {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (field, None),
        };
        let key = key.to_ascii_lowercase();
        match key.split_once('-').map_or("", |(group, _)| group) {
            "bind" => self.bind = true,
            "volume" => self.volume = true,
            "tmpfs" => self.tmpfs = true,
            _ => {}
        }
        match (key.as_str(), value) {
            ("readonly" | "ro", value) => self.read_only = boolean(&key, value)?,
            ("volume-nocopy", value) => self.no_copy = boolean(&key, value)?,
            ("bind-nonrecursive", value) => self.non_recursive = boolean(&key, value)?,
            (_, None) => return refuse(format!("invalid field '{field}' must be a key=value pair")),
            ("type", Some(value)) => self.kind = value.to_ascii_lowercase(),
            ("source" | "src", Some(value)) => {
                value.clone_into(&mut self.source);
                if value.starts_with('.') {
                    let path =
                        std::path::absolute(value).map_err(|error| Refused::text(error.to_string()))?;
                    self.source = clean(&path).display().to_string();
                }
            }
            ("target" | "dst" | "destination", Some(value)) => value.clone_into(&mut self.target),
            ("consistency", Some(_)) | ("volume-driver", Some("local" | "")) => {}
            ("bind-propagation", Some(value)) => self.propagation = value.to_ascii_lowercase(),
            ("bind-recursive", Some(value)) => match value {
                "enabled" => {}
                "disabled" => self.non_recursive = true,
                "writable" | "readonly" => value.clone_into(&mut self.recursive),
                _ => {
                    return refuse(format!(
                        "invalid value for {key}: {value} (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")"
                    ));
                }
            },
            ("volume-subpath", Some(value)) => value.clone_into(&mut self.subpath),
            ("volume-driver", Some(value)) => {
                return Err(Refused::Unsupported(format!(
                    "volume driver {value:?} is not supported: only local exists"
                )));
            }
            ("volume-opt" | "volume-label", Some(_)) => {
                return Err(Refused::Unsupported(format!(
                    "{key} is not supported here: make the volume first, with volume create"
                )));
            }
            ("tmpfs-size", Some(value)) => {
                self.size = Some(
                    size(value).map_err(|_| Refused::text(format!("invalid value for {key}: {value}")))?,
                );
            }
            ("tmpfs-mode", Some(value)) => {
                let mode = u32::from_str_radix(value, 8).ok().filter(|mode| *mode <= 0o7777);
                self.mode =
                    Some(mode.ok_or_else(|| Refused::text(format!("invalid value for {key}: {value}")))?);
            }
            (_, Some(_)) => return refuse(format!("unexpected key '{key}' in '{field}'")),
        }
        Ok(())
    }

    /// What docker's client refuses.
    fn fits(&self) -> Result<(), Refused> {
        let kind = &self.kind;
        if kind.is_empty() {
            return refuse("type is required");
        }
        if self.target.is_empty() {
            return refuse("target is required");
        }
        for (group, used) in [("volume", self.volume), ("bind", self.bind), ("tmpfs", self.tmpfs)] {
            if used && kind != group {
                return refuse(format!("cannot mix '{group}-*' options with mount type '{kind}'"));
            }
        }
        let needs = |what: &str| {
            refuse(format!(
                "option 'bind-recursive=readonly' requires '{what}' to be specified in conjunction"
            ))
        };
        match self.recursive.as_str() {
            "readonly" if !self.read_only => return needs("readonly"),
            "readonly" if self.propagation != "rprivate" => return needs("bind-propagation=rprivate"),
            "writable" if !self.read_only => {
                return refuse(
                    "option 'bind-recursive=writable' requires 'readonly' to be specified in conjunction",
                );
            }
            "writable" => {
                return Err(Refused::Unsupported(
                    "bind-recursive=writable is not supported: mounts below a read-only one are read-only as well".to_owned(),
                ));
            }
            _ => {}
        }
        Ok(())
    }

    fn source(&self) -> Result<MountSource, String> {
        match self.kind.as_str() {
            "bind" if self.source.is_empty() => Err("field Source must not be empty".to_owned()),
            "bind" if !self.source.starts_with('/') => {
                Err(format!("invalid mount path: '{}' mount path must be absolute", self.source))
            }
            "bind" => {
                let mode = if self.propagation.is_empty() { "rprivate" } else { &self.propagation };
                let propagation =
                    propagation(mode).ok_or_else(|| format!("invalid propagation mode: {mode}"))?;
                let path = clean(Path::new(&self.source));
                Ok(MountSource::Bind { path, propagation, non_recursive: self.non_recursive, create: false })
            }
            "volume" => {
                let outside =
                    self.subpath.starts_with('/') || self.subpath.split('/').any(|part| part == "..");
                if outside {
                    return Err("subpath must be a relative path within the volume".to_owned());
                }
                Ok(MountSource::Volume {
                    name: self.source.clone(),
                    anonymous: self.source.is_empty(),
                    no_copy: self.no_copy,
                    subpath: self.subpath.clone(),
                })
            }
            "tmpfs" if !self.source.is_empty() => Err("field Source must not be specified".to_owned()),
            "tmpfs" => Ok(MountSource::Tmpfs { size: self.size, mode: self.mode, options: Vec::new() }),
            _ => Err("mount type unknown".to_owned()),
        }
    }
}

/// One `--mount`.
pub fn mount(text: &str) -> Result<Mount, Refused> {
    let mut fields = Fields { kind: "volume".to_owned(), ..Fields::default() };
    for field in record(text)? {
        fields.take(&field)?;
    }
    fields.fits()?;
    let invalid = |reason: String| {
        Refused::text(format!("invalid mount config for type \"{}\": {reason}", fields.kind))
    };
    let source = fields.source().map_err(invalid)?;
    let is_bind = matches!(source, MountSource::Bind { .. });
    let target = if is_bind { place(&fields.target) } else { target(&fields.target) }.map_err(invalid)?;
    if let MountSource::Volume { name, anonymous: false, .. } = &source {
        volume_name(name)?;
    }
    Ok(Mount { source, target, read_only: fields.read_only })
}

#[cfg(test)]
#[path = "mount_tests.rs"]
mod tests;
