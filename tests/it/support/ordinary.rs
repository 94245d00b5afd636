//! Ordinary users: who is not root on this machine, and how a test becomes one (`setpriv` of util-linux).

use std::path::Path;
use std::process::{Command, Stdio};

/// An account with ranges in `/etc/subuid` and `/etc/subgid`, made by `tests/run`.
pub(crate) const WITH_RANGES: &str = "umiak-test";

/// A number that is nobody's account: it has no ranges.
pub(crate) const ALONE: &str = "412345";

/// The binary as this user.
pub(crate) fn command(user: &str, args: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", user, "--regid", user, "--clear-groups"])
        .arg(env!("CARGO_BIN_EXE_umiak"))
        .args(args);
    command
}

/// Gives a folder to a user.
pub(crate) fn own(folder: &Path, user: &str) {
    let owner = format!("{user}:{user}");
    assert!(
        Command::new("chown").arg(owner).arg(folder).status().is_ok_and(|status| status.success()),
        "chown"
    );
}

/// Whether this user can be become, can reach the binary, and has ranges if it should.
pub(crate) fn available(user: &str) -> bool {
    let runs = command(user, &["version"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let text = |path| std::fs::read_to_string(path).unwrap_or_default();
    let named = |path| text(path).lines().any(|line| line.starts_with(&format!("{user}:")));
    let ranges = user == ALONE || named("/etc/subuid") && named("/etc/subgid");
    let spaces = text("/proc/sys/user/max_user_namespaces").trim() != "0";
    runs.is_ok_and(|status| status.success()) && ranges && spaces
}
