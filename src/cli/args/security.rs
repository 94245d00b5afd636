//! `--cap-add`, `--cap-drop`, `--security-opt`.

use super::refused::Refused;
use crate::model::{SeccompChoice, Security};

/// Linux's capabilities, without `CAP_`.
const CAPABILITIES: [&str; 41] = [
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "PERFMON",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
];

/// Names without `CAP_`, in upper case, sorted, each once; `ALL` stands for all. `list` is docker's name of the list.
pub fn capabilities(given: &[String], list: &str) -> Result<Vec<String>, Refused> {
    let mut names = Vec::with_capacity(given.len());
    for text in given {
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
        if upper != "ALL" && !CAPABILITIES.contains(&name) {
            return Err(Refused::text(format!("invalid {list}: unknown capability: \"CAP_{name}\"")));
        }
        names.push(name.to_owned());
    }
    names.sort();
    names.dedup();
    // All are all, whatever else is named.
    if names.iter().any(|name| name == "ALL") { Ok(vec!["ALL".to_owned()]) } else { Ok(names) }
}

/// All `--security-opt`s: as `inspect` shows them, and understood. Reads a profile's file.
pub fn security(given: &[String]) -> Result<(Vec<String>, Security), Refused> {
    let mut shown = Vec::new();
    let mut all = Security::default();
    for text in given {
        let unknown = || Refused::text(format!("invalid --security-opt 2: {text:?}"));
        if text == "no-new-privileges" {
            all.no_new_privileges = true;
            shown.push(text.clone());
            continue;
        }
        let Some((key, value)) = text.split_once('=').or_else(|| text.split_once(':')) else {
            return Err(Refused::text(format!("Invalid --security-opt: {text:?}")));
        };
        match (key, value) {
            ("no-new-privileges", _) => {
                all.no_new_privileges = super::super::flags::switch(value).map_err(|_| unknown())?;
            }
            ("systempaths", "unconfined") => {
                // Docker shows it by what it does: no masked and no read-only paths.
                all.system_paths_unconfined = true;
                continue;
            }
            ("label", _) => all.labels.push(value.to_owned()),
            ("apparmor", _) => all.apparmor = Some(value.to_owned()),
            ("seccomp", "unconfined") => all.seccomp = SeccompChoice::Unconfined,
            ("seccomp", "builtin") => all.seccomp = SeccompChoice::Default,
            ("seccomp", path) => {
                let profile = profile(std::path::Path::new(path))?;
                shown.push(format!("seccomp={profile}"));
                all.seccomp = SeccompChoice::Profile(profile);
                continue;
            }
            _ => return Err(unknown()),
        }
        shown.push(text.clone());
    }
    Ok((shown, all))
}

/// A profile's text, without needless space.
fn profile(path: &std::path::Path) -> Result<String, Refused> {
    let text = std::fs::read_to_string(path).map_err(|source| Refused::File {
        what: "opening seccomp profile",
        path: path.to_owned(),
        source,
    })?;
    let value: serde_json::Value =
        serde_json::from_str(&text).map_err(|source| Refused::Json { path: path.to_owned(), source })?;
    let text = value.to_string();
    #[cfg(target_os = "linux")]
    runtime_linux::seccomp::check(&text).map_err(|error| {
        let reason = crate::cli::output::error::chain(&error);
        Refused::text(format!("seccomp profile ({}): {reason}", path.display()))
    })?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_table_is_the_runtimes() {
        let mut known: Vec<_> = runtime_linux::caps::ALL.iter().map(|name| &name["CAP_".len()..]).collect();
        known.sort_unstable();
        assert_eq!(known, CAPABILITIES);
    }

    #[test]
    fn capability_names() {
        for name in ["NET_ADMIN", "net_admin", "CAP_NET_ADMIN", "cap_net_admin"] {
            assert_eq!(capabilities(&strings(&[name]), "CapAdd").unwrap(), ["NET_ADMIN"]);
        }
        let several = strings(&["NET_ADMIN", "net_admin", "chown"]);
        assert_eq!(capabilities(&several, "CapAdd").unwrap(), ["CHOWN", "NET_ADMIN"]);
        assert_eq!(capabilities(&strings(&["chown", "all"]), "CapAdd").unwrap(), ["ALL"]);
        for (name, shown) in [("bogus", "CAP_BOGUS"), ("", "CAP_"), ("CAP_ALL", "CAP_ALL")] {
            let error = capabilities(&strings(&[name]), "CapDrop").unwrap_err();
            assert_eq!(error.to_string(), format!("invalid CapDrop: unknown capability: {shown:?}"));
        }
    }

    #[test]
    fn security_options() {
        let given = strings(&[
            "seccomp:unconfined",
            "apparmor=foo",
            "label=disable",
            "no-new-privileges",
            "systempaths=unconfined",
        ]);
        let (shown, all) = security(&given).unwrap();
        assert_eq!(shown, given[..4]);
        assert!(all.no_new_privileges && all.system_paths_unconfined);
        assert_eq!((all.seccomp, all.apparmor.as_deref()), (SeccompChoice::Unconfined, Some("foo")));
        assert_eq!(all.labels, ["disable"]);
        assert!(!security(&strings(&["no-new-privileges:false"])).unwrap().1.no_new_privileges);
        for (text, message) in [
            ("no-new-privileges=maybe", "invalid --security-opt 2: \"no-new-privileges=maybe\""),
            ("systempaths=x", "invalid --security-opt 2: \"systempaths=x\""),
            ("bogus=1", "invalid --security-opt 2: \"bogus=1\""),
            ("bogus", "Invalid --security-opt: \"bogus\""),
            ("", "Invalid --security-opt: \"\""),
        ] {
            assert_eq!(security(&strings(&[text])).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn profiles_are_read_and_understood_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("profile");
        let option = strings(&[&format!("seccomp={}", path.display())]);
        assert!(matches!(security(&option), Err(Refused::File { .. })));
        std::fs::write(&path, "{bad").unwrap();
        assert!(matches!(security(&option), Err(Refused::Json { .. })));
        std::fs::write(&path, "{ \"defaultAction\": \"SCMP_ACT_ALLOW\" }\n").unwrap();
        let (shown, all) = security(&option).unwrap();
        assert_eq!(shown, ["seccomp={\"defaultAction\":\"SCMP_ACT_ALLOW\"}"]);
        assert_eq!(all.seccomp, SeccompChoice::Profile("{\"defaultAction\":\"SCMP_ACT_ALLOW\"}".into()));
        #[cfg(target_os = "linux")]
        for odd in ["{\"a\":1}", "{\"defaultAction\":\"NOPE\"}"] {
            std::fs::write(&path, odd).unwrap();
            assert!(matches!(security(&option), Err(Refused::Text(_))), "{odd}");
        }
    }
}
