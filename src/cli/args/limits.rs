//! `--ulimit`, `--device-read-bps` and its like, `--sysctl`.

use std::path::PathBuf;

use super::number::{int, size};
use super::refused::Refused;
use crate::model::Ulimit;

/// The limits that a process has.
const ULIMITS: [&str; 16] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// The kernel parameters of namespaces, apart from those below `net.` and `fs.mqueue.`.
const SYSCTLS: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// `name=soft[:hard]`.
pub fn ulimit(text: &str) -> Result<Ulimit, Refused> {
    let Some((name, limits)) = text.split_once('=') else {
        return Err(Refused::text(format!("invalid ulimit argument: {text}")));
    };
    if !ULIMITS.contains(&name) {
        return Err(Refused::text(format!("invalid ulimit type: {name}")));
    }
    let parts: Vec<&str> = limits.split(':').collect();
    let (soft, hard) = match parts.as_slice() {
        [both] => (*both, *both),
        [soft, hard] => (*soft, *hard),
        _ => {
            return Err(Refused::text(format!(
                "too many limit value arguments - {limits}, can only have up to two, `soft[:hard]`"
            )));
        }
    };
    // Docker reads the hard limit first.
    let hard = int(hard)?;
    let soft = int(soft)?;
    if soft == -1 && hard != -1 {
        return Err(Refused::text(format!(
            "ulimit soft limit must be less than or equal to hard limit: soft: -1 (unlimited), hard: {hard}"
        )));
    }
    if hard != -1 && soft > hard {
        return Err(Refused::text(format!(
            "ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"
        )));
    }
    // Docker hands other negative numbers to the kernel, where they are immense.
    if soft < -1 || hard < -1 {
        return Err(Refused::text(format!("ulimit {name}: a limit is a number, or -1 for none: {limits}")));
    }
    Ok(Ulimit { name: name.to_owned(), soft, hard })
}

/// `device:bytes` with a unit.
pub fn bytes_per_second(text: &str) -> Result<(PathBuf, u64), Refused> {
    throttle(text, |rate| size(rate).ok(), "[<unit>]", " Unit is optional and can be kb, mb, or gb")
}

/// `device:operations`.
pub fn operations_per_second(text: &str) -> Result<(PathBuf, u64), Refused> {
    throttle(text, |rate| rate.parse().ok(), "", "")
}

fn throttle(
    text: &str,
    rate: impl Fn(&str) -> Option<u64>,
    unit: &str,
    about: &str,
) -> Result<(PathBuf, u64), Refused> {
    let (path, number) = text
        .split_once(':')
        .filter(|(path, _)| !path.is_empty())
        .ok_or_else(|| Refused::text(format!("bad format: {text}")))?;
    if !path.starts_with("/dev/") {
        return Err(Refused::text(format!("bad format for device path: {text}")));
    }
    if let Some(rate) = rate(number) {
        Ok((path.into(), rate))
    } else {
        let dot = if unit.is_empty() { "" } else { "." };
        Err(Refused::text(format!(
            "invalid rate for device: {text}. The correct format is <device-path>:<number>{unit}. Number must be a positive integer{dot}{about}"
        )))
    }
}

/// `name=value` of a parameter that belongs to a namespace of the container's.
pub fn sysctl(text: &str) -> Result<(String, String), Refused> {
    match text.split_once('=') {
        Some((name, value))
            if SYSCTLS.contains(&name) || name.starts_with("net.") || name.starts_with("fs.mqueue.") =>
        {
            Ok((name.to_owned(), value.to_owned()))
        }
        _ => Err(Refused::text(format!("sysctl '{text}' is not allowed"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ulimits() {
        for (text, soft, hard) in [
            ("nofile=1024", 1024, 1024),
            ("nofile=1024:2048", 1024, 2048),
            ("nofile=-1", -1, -1),
            ("nofile=5:-1", 5, -1),
            ("core=0:0", 0, 0),
        ] {
            let got = ulimit(text).unwrap();
            assert_eq!((got.soft, got.hard), (soft, hard), "{text}");
        }
        for (text, message) in [
            ("nofile=2048:1024", "ulimit soft limit must be less than or equal to hard limit: 2048 > 1024"),
            ("nofile", "invalid ulimit argument: nofile"),
            ("bogus=1", "invalid ulimit type: bogus"),
            ("NOFILE=1", "invalid ulimit type: NOFILE"),
            ("nofile=x", "strconv.ParseInt: parsing \"x\": invalid syntax"),
            (
                "nofile=-1:5",
                "ulimit soft limit must be less than or equal to hard limit: soft: -1 (unlimited), hard: 5",
            ),
            (
                "nofile=1:2:3",
                "too many limit value arguments - 1:2:3, can only have up to two, `soft[:hard]`",
            ),
            ("=1", "invalid ulimit type: "),
            ("", "invalid ulimit argument: "),
            ("nofile=soft:hard", "strconv.ParseInt: parsing \"hard\": invalid syntax"),
            ("nofile=-2", "ulimit nofile: a limit is a number, or -1 for none: -2"),
        ] {
            assert_eq!(ulimit(text).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn rates() {
        assert_eq!(bytes_per_second("/dev/null:1mb").unwrap(), ("/dev/null".into(), 1 << 20));
        assert_eq!(operations_per_second("/dev/nope:1").unwrap(), ("/dev/nope".into(), 1));
        for (text, message) in [
            ("null:1m", "bad format for device path: null:1m"),
            ("/dev/null", "bad format: /dev/null"),
            (":1", "bad format: :1"),
            ("/tmp:1", "bad format for device path: /tmp:1"),
            (
                "/dev/null:-1",
                "invalid rate for device: /dev/null:-1. The correct format is <device-path>:<number>[<unit>]. Number must be a positive integer. Unit is optional and can be kb, mb, or gb",
            ),
        ] {
            assert_eq!(bytes_per_second(text).unwrap_err().to_string(), message);
        }
        assert_eq!(
            operations_per_second("/dev/null:1mb").unwrap_err().to_string(),
            "invalid rate for device: /dev/null:1mb. The correct format is <device-path>:<number>. Number must be a positive integer"
        );
    }

    #[test]
    fn kernel_parameters() {
        assert_eq!(sysctl("net.x=").unwrap(), ("net.x".into(), String::new()));
        assert_eq!(sysctl("kernel.msgmax=a=b").unwrap(), ("kernel.msgmax".into(), "a=b".into()));
        for text in ["kernel.hostname=x", "vm.swappiness=1", "a", "=1", "", "net.x", "netx=1"] {
            assert_eq!(sysctl(text).unwrap_err().to_string(), format!("sysctl '{text}' is not allowed"));
        }
    }
}
