//! A profile as the runtime specification of OCI has it: docker's conditions (capabilities, architecture, kernel) decided.
//!
//! Invariant: the rules are the ones that this crate's own compiler applies, so a container has one filter whoever installs it.

use serde::Serialize;

use super::compile::{ARCHES, applies, capability_bits};
use super::{Arg, ProfileError, Rule};

/// `linux.seccomp` of a runtime configuration.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Resolved {
    default_action: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    default_errno_ret: Option<u32>,
    architectures: Vec<&'static str>,
    syscalls: Vec<Syscalls>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Syscalls {
    names: Vec<String>,
    action: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    errno_ret: Option<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    args: Vec<Arg>,
}

impl From<Rule> for Syscalls {
    fn from(rule: Rule) -> Self {
        let single = (!rule.name.is_empty()).then_some(rule.name);
        let names = rule.names.into_iter().chain(single).collect();
        Self { names, action: rule.action, errno_ret: rule.errno_ret, args: rule.args }
    }
}

/// The filter for a process with these capabilities; `None` is no filter.
pub fn resolve(wanted: &crate::Seccomp, capabilities: &[String]) -> Result<Option<Resolved>, ProfileError> {
    let Some(profile) = super::profile(wanted)? else { return Ok(None) };
    // What this crate does not understand is refused by it, whoever would install it.
    super::compile::compile(&profile, capabilities)?;
    let bits = capability_bits(capabilities);
    let rules = profile.syscalls.into_iter().filter(|rule| applies(rule, ARCHES[0].name, bits));
    Ok(Some(Resolved {
        default_action: profile.default_action,
        default_errno_ret: profile.default_errno_ret,
        architectures: ARCHES.iter().map(|arch| arch.scmp).collect(),
        syscalls: rules.map(Syscalls::from).collect(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Seccomp;

    fn rules_of(call: &str, capabilities: &[&str]) -> Vec<(String, Option<u32>, usize)> {
        let capabilities: Vec<_> = capabilities.iter().map(|&name| name.to_owned()).collect();
        let resolved = resolve(&Seccomp::Default, &capabilities).unwrap().unwrap();
        let named = resolved.syscalls.iter().filter(|rule| rule.names.iter().any(|name| name == call));
        named.map(|rule| (rule.action.clone(), rule.errno_ret, rule.args.len())).collect()
    }

    #[test]
    fn capabilities_decide() {
        let allow = |args| ("SCMP_ACT_ALLOW".to_owned(), None, args);
        assert_eq!(rules_of("mount", &[]), []);
        assert_eq!(rules_of("mount", &["CAP_SYS_ADMIN"]), [allow(0)]);
        assert_eq!(rules_of("clone", &[]), [allow(1)]);
        assert_eq!(rules_of("clone", &["CAP_SYS_ADMIN"]), [allow(0)]);
        assert_eq!(rules_of("clone3", &[]), [("SCMP_ACT_ERRNO".to_owned(), Some(38), 0)]);
    }

    #[test]
    fn it_is_written_as_the_specification_has_it() {
        let text = serde_json::to_value(resolve(&Seccomp::Default, &[]).unwrap().unwrap()).unwrap();
        assert_eq!(text["defaultAction"], "SCMP_ACT_ERRNO");
        let clone = text["syscalls"].as_array().unwrap().iter().find(|rule| rule["names"][0] == "clone");
        assert_eq!(clone.unwrap()["args"][0]["op"], "SCMP_CMP_MASKED_EQ");
        assert!(resolve(&Seccomp::Unconfined, &[]).unwrap().is_none());
        assert!(resolve(&Seccomp::Profile("{}".into()), &[]).is_err());
    }
}
