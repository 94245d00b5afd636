//! What a container may do: capabilities, filter, devices, groups, process limits, by docker's rules.

use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use runtime_linux::{Device, Plan, Rlimit, Seccomp, caps};

use crate::executor::{Create, ExecError};
use crate::model::{DeviceMapping, ErrorKind, HostConfig, SeccompChoice};

/// A wish that cannot be met.
#[derive(Debug, thiserror::Error)]
enum SecurityError {
    /// No such capability.
    #[error("invalid capability: \"CAP_{name}\"")]
    Capability {
        /// As given, without prefix.
        name: String,
    },
    /// A device of the host.
    #[error("error gathering device information while adding custom device \"{path}\"")]
    Device {
        /// Its path.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is no device.
    #[error("error gathering device information while adding custom device \"{path}\": not a device node")]
    NoDevice {
        /// Its path.
        path: String,
    },
    /// A rule of the device controller.
    #[error("invalid device cgroup rule: {rule}")]
    Rule {
        /// As given.
        rule: String,
    },
    /// The kernel has no such security module.
    #[error("{option} was asked for, and this kernel does not enforce it")]
    Module {
        /// The option.
        option: String,
    },
}

fn failed(kind: ErrorKind, error: SecurityError) -> ExecError {
    ExecError::failed(kind, "applying the security settings", error)
}

/// Everything of this kind that the request says, into the plan.
pub(super) fn apply(plan: &mut Plan, request: &Create) -> Result<(), ExecError> {
    let host = &request.host;
    plan.capabilities = capabilities(host)?;
    plan.privileged = host.privileged;
    plan.read_only = host.read_only;
    plan.no_new_privs = host.security.no_new_privileges;
    plan.additional_groups.clone_from(&host.group_add);
    plan.sysctls = host.sysctls.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    plan.oom_score_adj = (host.oom_score_adj != 0).then_some(host.oom_score_adj);
    plan.seccomp = match &host.security.seccomp {
        SeccompChoice::Default if host.privileged => Seccomp::Unconfined,
        SeccompChoice::Default => Seccomp::Default,
        SeccompChoice::Unconfined => Seccomp::Unconfined,
        SeccompChoice::Profile(text) => Seccomp::Profile(text.clone()),
    };
    if host.privileged || host.security.system_paths_unconfined {
        plan.masked_paths.clear();
        plan.readonly_paths.clear();
    }
    plan.apparmor = modules(host)?;
    if let Some(size) = host.shm_size {
        plan.shm_size = size;
    }
    plan.rlimits = host.ulimits.iter().map(rlimit).collect();
    for mapping in &host.devices {
        devices(&mut plan.devices, mapping)?;
    }
    if host.privileged {
        all_devices(&mut plan.devices, Path::new("/dev"), "/dev", 0);
    }
    for rule in &host.device_cgroup_rules {
        plan.device_rules.push(device_rule(rule)?);
    }
    Ok(())
}

fn rlimit(limit: &crate::model::Ulimit) -> Rlimit {
    let value = |n: i64| u64::try_from(n).unwrap_or(u64::MAX);
    Rlimit { name: limit.name.clone(), soft: value(limit.soft), hard: value(limit.hard) }
}

/// AppArmor and `SELinux`: this host may have neither, and then nothing is promised that nobody keeps. The answer is the
/// AppArmor profile.
fn modules(host: &HostConfig) -> Result<Option<String>, ExecError> {
    let profile = host.security.apparmor.as_ref().filter(|profile| *profile != "unconfined");
    if let Some(profile) = profile
        && !runtime_linux::apparmor::enabled()
    {
        let option = format!("apparmor={profile}");
        return Err(failed(ErrorKind::Unsupported, SecurityError::Module { option }));
    }
    match host.security.labels.iter().find(|label| label.as_str() != "disable") {
        Some(label) => {
            let option = format!("label={label}");
            Err(failed(ErrorKind::Unsupported, SecurityError::Module { option }))
        }
        None => Ok(profile.cloned()),
    }
}

/// Docker's arithmetic: `ALL` first, then what is taken away, then what is added.
fn capabilities(host: &HostConfig) -> Result<Vec<String>, ExecError> {
    let plain = |name: &String| name.to_ascii_uppercase().trim_start_matches("CAP_").to_owned();
    let add: Vec<_> = host.cap_add.iter().map(plain).collect();
    let drop: Vec<_> = host.cap_drop.iter().map(plain).collect();
    let known =
        |name: &str| name == "ALL" || caps::ALL.iter().any(|cap| cap.trim_start_matches("CAP_") == name);
    if let Some(name) = add.iter().chain(&drop).find(|name| !known(name)) {
        return Err(failed(ErrorKind::InvalidInput, SecurityError::Capability { name: name.clone() }));
    }
    let all = |list: &[String]| list.iter().any(|name| name == "ALL");
    let base = if host.privileged || all(&add) {
        caps::ALL
    } else if all(&drop) {
        &[]
    } else {
        caps::DEFAULT
    };
    if host.privileged {
        return Ok(base.iter().map(|&cap| cap.to_owned()).collect());
    }
    let mut names: Vec<String> = base.iter().map(|cap| cap.trim_start_matches("CAP_").to_owned()).collect();
    if !all(&drop) || all(&add) {
        names.retain(|name| !drop.contains(name));
    }
    for name in add.into_iter().filter(|name| name != "ALL") {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names.into_iter().map(|name| format!("CAP_{name}")).collect())
}

/// A device, or all devices in a directory.
fn devices(to: &mut Vec<Device>, mapping: &DeviceMapping) -> Result<(), ExecError> {
    let path = mapping.host.display().to_string();
    let failed_at =
        |source| failed(ErrorKind::InvalidInput, SecurityError::Device { path: path.clone(), source });
    let stat = std::fs::metadata(&mapping.host).map_err(failed_at)?;
    if stat.is_dir() {
        for entry in std::fs::read_dir(&mapping.host).map_err(failed_at)?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let inner = DeviceMapping {
                host: entry.path(),
                container: format!("{}/{name}", mapping.container.trim_end_matches('/')),
                access: mapping.access.clone(),
            };
            let kind = std::fs::metadata(&inner.host).map(|stat| stat.file_type());
            if kind.is_ok_and(|kind| kind.is_dir() || kind.is_char_device() || kind.is_block_device()) {
                devices(to, &inner)?;
            }
        }
        return Ok(());
    }
    match device(&mapping.host, &mapping.container, &mapping.access) {
        Some(device) => to.push(device),
        None => return Err(failed(ErrorKind::InvalidInput, SecurityError::NoDevice { path })),
    }
    Ok(())
}

fn device(host: &Path, container: &str, access: &str) -> Option<Device> {
    let stat = rustix::fs::stat(host).ok()?;
    let kind = rustix::fs::FileType::from_raw_mode(stat.st_mode);
    if !kind.is_block_device() && !kind.is_char_device() {
        return None;
    }
    Some(Device {
        path: container.to_owned(),
        block: kind.is_block_device(),
        major: rustix::fs::major(stat.st_rdev),
        minor: rustix::fs::minor(stat.st_rdev),
        mode: stat.st_mode & 0o777,
        access: access.to_owned(),
    })
}

/// The host's devices, as a privileged container sees them. What every container has by itself is left out.
fn all_devices(to: &mut Vec<Device>, dir: &Path, prefix: &str, depth: u32) {
    const OWN: [&str; 13] = [
        "pts",
        "shm",
        "fd",
        "mqueue",
        ".lxc",
        ".lxd-mounts",
        ".udev",
        "console",
        "null",
        "zero",
        "full",
        "random",
        "urandom",
    ];
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if depth == 0 && (OWN.contains(&name.as_str()) || name == "tty" || name == "ptmx") {
            continue;
        }
        let (path, inside) = (entry.path(), format!("{prefix}/{name}"));
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() && depth < 8 {
            all_devices(to, &path, &inside, depth + 1);
        } else if let Some(device) = (!kind.is_symlink()).then(|| device(&path, &inside, "rwm")).flatten()
            && to.iter().all(|known| known.path != device.path)
        {
            to.push(device);
        }
    }
}

/// `c 1:3 rwm`, `a *:* m`, ….
fn device_rule(rule: &str) -> Result<runtime_linux::DeviceRule, ExecError> {
    let parse = || {
        let mut words = rule.split_whitespace();
        let (kind, numbers, access) = (words.next()?, words.next()?, words.next()?);
        let number = |text: &str| if text == "*" { Some(None) } else { text.parse().ok().map(Some) };
        let (major, minor) = numbers.split_once(':')?;
        let sound = words.next().is_none()
            && matches!(kind, "a" | "b" | "c")
            && !access.is_empty()
            && access.bytes().all(|byte| b"rwm".contains(&byte));
        sound.then_some(runtime_linux::DeviceRule {
            kind: kind.chars().next()?,
            major: number(major)?,
            minor: number(minor)?,
            access: access.to_owned(),
        })
    };
    parse().ok_or_else(|| failed(ErrorKind::InvalidInput, SecurityError::Rule { rule: rule.to_owned() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(add: &[&str], drop: &[&str], privileged: bool) -> Vec<String> {
        let list = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let host =
            HostConfig { cap_add: list(add), cap_drop: list(drop), privileged, ..HostConfig::default() };
        capabilities(&host).unwrap()
    }

    #[test]
    fn capabilities_are_added_and_dropped_as_docker_does() {
        assert_eq!(names(&[], &[], false).len(), caps::DEFAULT.len());
        assert_eq!(names(&["ALL"], &[], false).len(), caps::ALL.len());
        assert_eq!(names(&["ALL"], &["SYS_ADMIN"], false).len(), caps::ALL.len() - 1);
        assert_eq!(names(&["NET_ADMIN"], &["ALL"], false), ["CAP_NET_ADMIN"]);
        assert_eq!(names(&[], &["ALL"], false), Vec::<String>::new());
        assert_eq!(names(&[], &["ALL"], true).len(), caps::ALL.len());
        assert!(names(&["cap_sys_ptrace"], &[], false).contains(&"CAP_SYS_PTRACE".to_owned()));
        let host = HostConfig { cap_add: vec!["NOPE".into()], ..HostConfig::default() };
        assert!(crate::model::chain(&capabilities(&host).unwrap_err()).contains("CAP_NOPE"));
    }

    #[test]
    fn device_rules_are_read_or_refused() {
        let rule = device_rule("c 10:* rw").unwrap();
        assert_eq!((rule.kind, rule.major, rule.minor, rule.access.as_str()), ('c', Some(10), None, "rw"));
        for bad in ["", "c 1:3", "x 1:3 r", "c 1 r", "c 1:3 q", "c 1:3 r more", "c a:b r"] {
            assert!(device_rule(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_no_device_is_refused_by_name() {
        for path in ["/nowhere", "/etc/passwd"] {
            let mapping =
                DeviceMapping { host: path.into(), container: "/dev/x".into(), access: "rwm".into() };
            let error = devices(&mut Vec::new(), &mapping).unwrap_err();
            assert!(crate::model::chain(&error).contains(path));
        }
    }
}
