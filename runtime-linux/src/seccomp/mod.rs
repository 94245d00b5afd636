//! The system call filter: docker's default profile, profiles in docker's JSON format, and their compiler.
//!
//! Invariants: what no rule names gets the default action; the program refuses every architecture but the native one
//! and its 32-bit sibling; x32 numbers match no rule. Not the seccompiler crate: it kills on a foreign architecture
//! and compares linearly, while the kernel runs a filter once for every number when it is loaded.

mod compile;
mod default;
mod numbers;
mod resolved;

use serde::{Deserialize, Serialize};

use crate::sys::Instruction;

/// A profile cannot be compiled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// Not the JSON of a profile.
    #[error("seccomp profile is not valid JSON of docker's format")]
    Json(#[source] serde_json::Error),
    /// An action this crate does not know.
    #[error("unknown seccomp action `{0}`")]
    Action(String),
    /// A comparison this crate does not know, or an argument index above 5.
    #[error("unknown seccomp comparison `{0}`")]
    Comparison(String),
    /// The kernel takes at most 4096 instructions.
    #[error("seccomp profile compiles to {0} instructions, more than the kernel's 4096")]
    TooLong(usize),
}

/// A profile in docker's format.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Profile {
    pub(crate) default_action: String,
    pub(crate) default_errno_ret: Option<u32>,
    #[serde(default)]
    pub(crate) syscalls: Vec<Rule>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Rule {
    pub(crate) names: Vec<String>,
    pub(crate) name: String,
    pub(crate) action: String,
    pub(crate) errno_ret: Option<u32>,
    #[serde(deserialize_with = "or_empty")]
    pub(crate) args: Vec<Arg>,
    #[serde(deserialize_with = "or_empty")]
    pub(crate) includes: Filter,
    #[serde(deserialize_with = "or_empty")]
    pub(crate) excludes: Filter,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Filter {
    pub(crate) caps: Vec<String>,
    pub(crate) arches: Vec<String>,
    pub(crate) min_kernel: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Arg {
    pub(crate) index: u32,
    pub(crate) value: u64,
    #[serde(default)]
    pub(crate) value_two: u64,
    pub(crate) op: String,
}

/// `null` is what Go writes for an empty list.
fn or_empty<'de, D: serde::Deserializer<'de>, T: Default + Deserialize<'de>>(d: D) -> Result<T, D::Error> {
    Option::<T>::deserialize(d).map(Option::unwrap_or_default)
}

/// Whether a text is a profile in docker's JSON format that can be compiled.
pub fn check(json: &str) -> Result<(), ProfileError> {
    let profile = serde_json::from_str(json).map_err(ProfileError::Json)?;
    compile::compile(&profile, &[]).map(|_| ())
}

/// A filter that allows everything but these, which fail as not permitted.
pub(crate) fn refusing(names: &[&str]) -> Result<Vec<Instruction>, ProfileError> {
    let rule = Rule {
        names: names.iter().map(|&name| name.to_owned()).collect(),
        action: "SCMP_ACT_ERRNO".to_owned(),
        errno_ret: Some(1),
        ..Rule::default()
    };
    let profile = Profile {
        default_action: "SCMP_ACT_ALLOW".to_owned(),
        default_errno_ret: None,
        syscalls: vec![rule],
    };
    compile::compile(&profile, &[])
}

pub use resolved::{Resolved, resolve};

/// The profile that is wanted; `None` is no filter.
fn profile(wanted: &crate::Seccomp) -> Result<Option<Profile>, ProfileError> {
    Ok(Some(match wanted {
        crate::Seccomp::Unconfined => return Ok(None),
        crate::Seccomp::Default => default::profile(),
        crate::Seccomp::Profile(json) => serde_json::from_str(json).map_err(ProfileError::Json)?,
    }))
}

/// Compiles the filter for a process with these capabilities; `None` is no filter.
pub(crate) fn program(
    wanted: &crate::Seccomp,
    capabilities: &[String],
) -> Result<Option<Vec<Instruction>>, ProfileError> {
    let Some(profile) = profile(wanted)? else { return Ok(None) };
    compile::compile(&profile, capabilities).map(Some)
}
