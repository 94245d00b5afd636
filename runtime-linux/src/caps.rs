//! Capabilities by name, and taking all others away.
//!
//! Invariant: after `restrict`, the inheritable and ambient sets are empty (CVE-2022-24769) and the bounding,
//! permitted and effective sets are the ones asked for, as far as the caller had them.

use rustix::thread::CapabilitySet;

use crate::failure::{At, Cause, InitFailure, Result, Step};

/// What docker grants by default: `00000000a80425fb`.
pub const DEFAULT: &[&str] = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// Every capability, in the order of the kernel's numbers (`linux/capability.h`).
pub const ALL: &[&str] = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// The number of a capability; the prefix `CAP_` may be left out, case does not matter.
pub fn number(name: &str) -> Option<u32> {
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
    ALL.iter().position(|known| known.strip_prefix("CAP_") == Some(bare)).and_then(|n| u32::try_from(n).ok())
}

/// Whether this process may give the capability to others: it is in its bounding set.
pub fn available(name: &str) -> bool {
    let Some(set) = number(name).and_then(|n| CapabilitySet::from_bits(1 << n)) else { return false };
    rustix::thread::capability_is_in_bounding_set(set).unwrap_or(false)
}

/// The names as a bit mask; `Err` is the first name that is none.
pub fn mask(names: &[String]) -> std::result::Result<u64, String> {
    names.iter().try_fold(0, |bits, name| number(name).map(|n| bits | 1 << n).ok_or_else(|| name.clone()))
}

/// Takes everything but `names` out of the bounding set; the other sets follow in `restrict`.
pub(crate) fn restrict_bounding(names: &[String]) -> Result<u64> {
    let keep = mask(names).map_err(|name| {
        InitFailure::new(Step::Capabilities, &name, Cause::Malformed("no such capability".to_owned()))
    })?;
    for n in 0..64_u32 {
        let single = CapabilitySet::from_bits_retain(1 << n);
        match rustix::thread::capability_is_in_bounding_set(single) {
            Ok(true) if keep & 1 << n == 0 => rustix::thread::remove_capability_from_bounding_set(single)
                .at(Step::Capabilities, ALL.get(n as usize).copied().unwrap_or("bounding set"))?,
            Ok(_) => {}
            Err(_) => break, // beyond the kernel's last
        }
    }
    Ok(keep)
}

/// Sets permitted and effective to `keep` (as far as they are held), inheritable and ambient to nothing.
pub(crate) fn restrict(keep: u64) -> Result<()> {
    let subject = "process";
    let held = rustix::thread::capabilities(None).at(Step::Capabilities, subject)?;
    let kept = CapabilitySet::from_bits_retain(keep & held.permitted.bits());
    let sets = rustix::thread::CapabilitySets {
        effective: kept,
        permitted: kept,
        inheritable: CapabilitySet::empty(),
    };
    rustix::thread::set_capabilities(None, sets).at(Step::Capabilities, subject)?;
    rustix::thread::clear_ambient_capability_set().at(Step::Capabilities, subject)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_dockers() {
        let names: Vec<String> = DEFAULT.iter().map(|&n| n.to_owned()).collect();
        assert_eq!(mask(&names), Ok(0xa804_25fb));
    }

    #[test]
    fn names_are_found_in_any_spelling() {
        for (name, expected) in [
            ("CAP_CHOWN", Some(0)),
            ("sys_admin", Some(21)),
            ("cap_bpf", Some(39)),
            ("", None),
            ("CAP_", None),
            ("NO", None),
        ] {
            assert_eq!(number(name), expected, "{name}");
        }
    }
}
