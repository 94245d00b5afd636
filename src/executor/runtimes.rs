//! Installed OCI runtimes: what `--runtime` may name beside the executors of this build.
//!
//! A name is, in this order: an executor of ours or an alias of one, a name of the configuration, one of the well-known
//! programs in the search path, an absolute path. What is found is asked for its version once, when the container is made.
//!
//! Invariant: a runtime that was asked for and is not there is refused. Not docker's way, whose `runc` is always there because
//! it brings one along: whoever names a program wants that program. `io.containerd.runc.v2`, which names containerd's way of
//! running the default and no program, is an alias of the executor `linux`.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::select::SelectError;
use crate::config::RuntimeConfig;
use crate::model::OciRuntime;

/// Programs that have runc's command line; searched for by these names.
pub const WELL_KNOWN: &[&str] = &["runc", "crun", "youki", "runsc"];

/// Where administrators' programs are when the search path does not say so.
const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program that takes longer to tell its version is none of ours.
const PATIENCE: Duration = Duration::from_secs(10);

/// More of a version is not read, in bytes.
const MAX_VERSION: u64 = 4096;

/// The installed runtime that a wish names; `None` when it names an executor of ours, or nothing.
pub fn find(
    wish: Option<&str>,
    configured: &BTreeMap<String, RuntimeConfig>,
) -> Result<Option<OciRuntime>, SelectError> {
    let Some(name) = wish else { return Ok(None) };
    let ours = super::entries();
    let named = |entry: &super::Entry| entry.name == name || entry.aliases.contains(&name);
    if name != super::oci_cli::NAME && ours.iter().any(named) {
        return Ok(None);
    }
    let (path, args) = match configured.get(name) {
        Some(runtime) => (runtime.path.clone(), runtime.args.clone()),
        None if Path::new(name).is_absolute() => (PathBuf::from(name), Vec::new()),
        None => (in_path(name).ok_or_else(|| unknown(name, configured))?, Vec::new()),
    };
    let version = version(&path).map_err(|source| SelectError::Runtime {
        name: name.to_owned(),
        path: path.clone(),
        why: source.to_string(),
    })?;
    Ok(Some(OciRuntime { name: name.to_owned(), path, args, version }))
}

/// The runtimes that can be named here: those of the configuration, and the well-known ones that are installed.
pub fn known(configured: &BTreeMap<String, RuntimeConfig>) -> BTreeMap<String, PathBuf> {
    let installed = WELL_KNOWN.iter().filter_map(|name| Some(((*name).to_owned(), in_path(name)?)));
    let configured = configured.iter().map(|(name, runtime)| (name.clone(), runtime.path.clone()));
    installed.chain(configured).collect()
}

fn unknown(name: &str, configured: &BTreeMap<String, RuntimeConfig>) -> SelectError {
    let ours = super::entries().into_iter().map(|entry| entry.name.to_owned());
    let ours = ours.filter(|ours| ours != super::oci_cli::NAME);
    SelectError::Unknown { name: name.to_owned(), known: ours.chain(known(configured).into_keys()).collect() }
}

fn in_path(name: &str) -> Option<PathBuf> {
    if !WELL_KNOWN.contains(&name) || !cfg!(target_os = "linux") {
        return None;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = std::ffi::OsString::from(SYSTEM_PATH);
    let dirs = std::env::split_paths(&path).chain(std::env::split_paths(&system)).collect::<Vec<_>>();
    // What is relative depends on who looks, and when.
    dirs.into_iter().filter(|dir| dir.is_absolute()).map(|dir| dir.join(name)).find(|path| path.is_file())
}

/// The first line of what a program says of its version.
fn version(path: &Path) -> std::io::Result<String> {
    let mut command = Command::new(path);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn()?;
    let stdout = child.stdout.take();
    let (sender, said) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut text = Vec::new();
        let read = stdout.map(|pipe| pipe.take(MAX_VERSION).read_to_end(&mut text));
        let _nobody = sender.send(read.unwrap_or(Ok(0)).map(|_| text));
    });
    let status = bounded(child, PATIENCE)?;
    if !status.success() {
        return Err(std::io::Error::other(format!("`--version` ended with {status}")));
    }
    let text = said.recv_timeout(PATIENCE).map_err(std::io::Error::other)??;
    let text = String::from_utf8_lossy(&text).into_owned();
    let first = text.lines().next().unwrap_or_default().trim();
    if first.is_empty() {
        return Err(std::io::Error::other("`--version` says nothing"));
    }
    Ok(first.to_owned())
}

/// Waits for a child; one that takes too long is killed, and that is an error.
pub(super) fn bounded(mut child: Child, patience: Duration) -> std::io::Result<ExitStatus> {
    let end = Instant::now() + patience;
    let mut pause = Duration::from_micros(200);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() > end {
            child.kill()?;
            child.wait()?;
            let text = format!("no end within {} s", patience.as_secs());
            return Err(std::io::Error::new(std::io::ErrorKind::TimedOut, text));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_come_first_and_the_unknown_are_named() {
        let none = BTreeMap::new();
        for ours in [None, Some("linux"), Some("wasm"), Some("io.containerd.runc.v2"), Some("wasmtime")] {
            assert_eq!(find(ours, &none).unwrap(), None, "{ours:?}");
        }
        for unknown in ["kata", "oci", "relative/crun", ""] {
            let error = find(Some(unknown), &none).unwrap_err();
            assert_eq!(error.to_string(), format!("unknown or invalid runtime name: {unknown}"));
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_path_is_asked_for_its_version() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let script = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let good = script("good", "echo good version 7; echo more");
        let found = find(Some(&good), &BTreeMap::new()).unwrap().unwrap();
        assert_eq!((found.version.as_str(), found.path.to_str()), ("good version 7", Some(good.as_str())));
        let config = RuntimeConfig { path: good.into(), args: vec!["--debug".into()] };
        let found = find(Some("mine"), &[("mine".to_owned(), config)].into()).unwrap().unwrap();
        assert_eq!((found.name.as_str(), found.args), ("mine", vec!["--debug".to_owned()]));
        for (name, text, why) in [
            ("bad", "exit 3", "exit status: 3"),
            ("mute", "exit 0", "says nothing"),
            ("none", "", "No such file"),
        ] {
            let path = script(name, text);
            if name == "none" {
                std::fs::remove_file(&path).unwrap();
            }
            let error = find(Some(&path), &BTreeMap::new()).unwrap_err().to_string();
            assert!(error.contains(why) && error.contains(&path), "{error}");
        }
    }
}
