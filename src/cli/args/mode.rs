//! `--pid`, `--ipc`, `--uts`, `--cgroupns`, `--userns`, `--cgroup-parent`.

use super::refused::Refused;
use crate::model::{GroupParent, NamespaceMode, UserNamespace};

fn of_container(text: &str) -> Option<NamespaceMode> {
    let name = text.strip_prefix("container:").filter(|name| !name.is_empty())?;
    Some(NamespaceMode::Container(name.to_owned()))
}

/// `--pid`.
pub fn pid(text: &str) -> Result<NamespaceMode, Refused> {
    match text {
        "" => Ok(NamespaceMode::Private),
        "host" => Ok(NamespaceMode::Host),
        _ => of_container(text).ok_or_else(|| Refused::text("--pid: invalid PID mode")),
    }
}

/// `--ipc`.
pub fn ipc(text: &str) -> Result<NamespaceMode, Refused> {
    match text {
        "" | "private" => Ok(NamespaceMode::Private),
        "shareable" => Ok(NamespaceMode::Shareable),
        "none" => Ok(NamespaceMode::None),
        "host" => Ok(NamespaceMode::Host),
        _ => of_container(text).ok_or_else(|| Refused::text(format!("invalid IPC mode: {text}"))),
    }
}

/// `--uts`.
pub fn uts(text: &str) -> Result<NamespaceMode, Refused> {
    match text {
        "" => Ok(NamespaceMode::Private),
        "host" => Ok(NamespaceMode::Host),
        _ => Err(Refused::text("--uts: invalid UTS mode")),
    }
}

/// `--cgroupns`.
pub fn cgroup(text: &str) -> Result<NamespaceMode, Refused> {
    match text {
        "" | "private" => Ok(NamespaceMode::Private),
        "host" => Ok(NamespaceMode::Host),
        _ => Err(Refused::text("--cgroupns: invalid CGROUP mode")),
    }
}

/// `--cgroup-parent`, kept as given.
pub fn cgroup_parent(text: &str) -> Result<String, Refused> {
    GroupParent::parse(text).map(|_| text.to_owned()).map_err(|error| Refused::text(error.to_string()))
}

/// `--userns`; `auto` is podman's.
pub fn user(text: &str) -> Result<UserNamespace, Refused> {
    match text {
        "" => Ok(UserNamespace::Default),
        "host" => Ok(UserNamespace::Host),
        "auto" => Ok(UserNamespace::Auto),
        _ => Err(Refused::text("--userns: invalid USER mode")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces() {
        let other = NamespaceMode::Container("other".into());
        assert_eq!(pid("container:other").unwrap(), other);
        assert_eq!(ipc("container:other").unwrap(), other);
        assert_eq!(ipc("shareable").unwrap(), NamespaceMode::Shareable);
        assert_eq!(ipc("none").unwrap(), NamespaceMode::None);
        for parse in [pid, ipc, uts, cgroup] {
            assert_eq!(parse("host").unwrap(), NamespaceMode::Host);
            assert_eq!(parse("").unwrap(), NamespaceMode::Private);
        }
        assert_eq!(user("auto").unwrap(), UserNamespace::Auto);
        for text in ["private", "shareable", "none", "container:", "bogus"] {
            assert_eq!(pid(text).unwrap_err().to_string(), "--pid: invalid PID mode");
            assert_eq!(uts(text).unwrap_err().to_string(), "--uts: invalid UTS mode");
            assert_eq!(user(text).unwrap_err().to_string(), "--userns: invalid USER mode");
        }
        assert_eq!(cgroup("none").unwrap_err().to_string(), "--cgroupns: invalid CGROUP mode");
        assert_eq!(ipc("container:").unwrap_err().to_string(), "invalid IPC mode: container:");
    }
}
