//! Which executor runs an image: a pure function of what is known on the host.

use std::path::PathBuf;

use super::runtimes::WELL_KNOWN;
use super::{Entry, Refusal, Workload, linux, oci_cli, wasm};
use crate::model::{ErrorKind, ExecutorChoice, Kind, OciRuntime, Packaging, Platform};

/// No executor takes the workload.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    /// `--runtime` names none of ours.
    #[error("unknown or invalid runtime name: {name}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// `--runtime` names a program that is no runtime.
    #[error("runtime `{name}`: `{}` cannot be used: {why}", path.display())]
    Runtime {
        /// What was asked for.
        name: String,
        /// The program.
        path: PathBuf,
        /// What is the matter with it.
        why: String,
    },
    /// The one that fits, or the one asked for, refuses.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl Kind for SelectError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Unknown { .. } | Self::Runtime { .. } => ErrorKind::InvalidInput,
            Self::Refused(_) => ErrorKind::Unsupported,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Unknown { name, known } => {
                let mut hints = vec![format!("the runtimes here are {}", known.join(", "))];
                if WELL_KNOWN.contains(&name.as_str()) {
                    hints.push(format!(
                        "install `{name}`, or leave `--runtime` out: `linux` needs no other program"
                    ));
                }
                hints
            }
            Self::Runtime { .. } => {
                vec!["`--runtime` takes a program with the command line of runc".to_owned()]
            }
            Self::Refused(refusal) => refusal.hints(),
        }
    }
}

/// The executors of this build.
pub fn entries() -> Vec<Entry> {
    vec![linux::ENTRY, wasm::ENTRY, oci_cli::ENTRY]
}

/// The platforms that this host runs, the preferred one first.
pub fn default_platforms() -> Vec<Platform> {
    if cfg!(target_os = "linux") {
        vec![Platform::linux_native(), Platform::wasi()]
    } else {
        vec![Platform::wasi()]
    }
}

/// Chooses for a workload that an installed runtime is to run.
pub fn select_installed(
    entries: &[Entry],
    workload: &Workload,
    runtime: OciRuntime,
) -> Result<ExecutorChoice, SelectError> {
    let (_, choice) = select(entries, workload, Some(oci_cli::NAME))?;
    let reason = format!("`--runtime {}` asked for {}", runtime.name, runtime.path.display());
    Ok(ExecutorChoice { reason, runtime: Some(runtime), ..choice })
}

/// Chooses among `entries`: the one the user named, or the first rule that matches. The reason is for people.
pub fn select<'a>(
    entries: &'a [Entry],
    workload: &Workload,
    wish: Option<&str>,
) -> Result<(&'a Entry, ExecutorChoice), SelectError> {
    let find = |name: &str| entries.iter().find(|e| e.name == name || e.aliases.contains(&name));
    let (entry, reason) = if let Some(name) = wish {
        let entry = find(name).ok_or_else(|| SelectError::Unknown {
            name: name.to_owned(),
            known: entries.iter().map(|e| e.name.to_owned()).collect(),
        })?;
        (entry, format!("`--runtime {name}` asked for it"))
    } else {
        by_rule(entries, workload)?
    };
    (entry.admit)(workload)?;
    Ok((entry, ExecutorChoice { name: entry.name.to_owned(), reason, runtime: None }))
}

fn by_rule<'a>(entries: &'a [Entry], workload: &Workload) -> Result<(&'a Entry, String), SelectError> {
    let (name, reason) = match workload.packaging {
        Packaging::WasmArtifact => ("wasm", "the image is a Wasm OCI artifact".to_owned()),
        Packaging::WasmLayer => ("wasm", "the image's layer is a WebAssembly file".to_owned()),
        Packaging::Image if workload.platform.is_wasi() => {
            ("wasm", format!("the image is for {}", workload.platform))
        }
        Packaging::Image if workload.names_wasm_file() => {
            ("wasm", "the program's name ends in `.wasm`".to_owned())
        }
        Packaging::Image => ("linux", format!("the image is for {}", workload.platform)),
    };
    let entry = entries.iter().find(|e| e.name == name).ok_or_else(|| SelectError::Unknown {
        name: name.to_owned(),
        known: entries.iter().map(|e| e.name.to_owned()).collect(),
    })?;
    Ok((entry, reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload(platform: &str, packaging: Packaging, program: &str) -> Workload {
        Workload {
            platform: platform.parse().unwrap(),
            packaging,
            program: Some(program.to_owned()),
            wants: Vec::new(),
        }
    }

    #[test]
    fn the_rules_choose_by_packaging_platform_and_program() {
        for (platform, packaging, program, expected) in [
            ("wasip1/wasm", Packaging::WasmArtifact, "/module.wasm", "wasm"),
            ("wasi/wasm", Packaging::WasmLayer, "/module.wasm", "wasm"),
            ("wasi/wasm32", Packaging::Image, "/app", "wasm"),
            ("linux/amd64", Packaging::Image, "/app.wasm", "wasm"),
        ] {
            let entries = entries();
            let (entry, choice) = select(&entries, &workload(platform, packaging, program), None).unwrap();
            assert_eq!((entry.name, choice.name.as_str()), (expected, expected));
            assert!(!choice.reason.is_empty());
        }
    }

    #[test]
    fn dockers_old_wasm_runtime_name_works_and_unknown_ones_are_named() {
        let wasi = workload("wasi/wasm", Packaging::Image, "/app.wasm");
        assert_eq!(select(&entries(), &wasi, Some("io.containerd.wasmtime.v1")).unwrap().0.name, "wasm");
        let error = select(&entries(), &wasi, Some("kata")).unwrap_err();
        assert_eq!(error.to_string(), "unknown or invalid runtime name: kata");
    }

    #[test]
    fn a_wish_that_does_not_fit_is_refused() {
        let native = Workload {
            platform: Platform::linux_native(),
            packaging: Packaging::Image,
            program: Some("/bin/sh".into()),
            wants: Vec::new(),
        };
        assert!(matches!(
            select(&entries(), &native, Some("wasm")),
            Err(SelectError::Refused(Refusal::Platform { .. }))
        ));
    }
}
