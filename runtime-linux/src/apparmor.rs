//! AppArmor: a profile by its name, from the program's first instruction on.
//!
//! Invariant: the kernel is told by the host's own procfs, before anything of the image is looked at: a procfs of the image's
//! making would take the words and enforce nothing (CVE-2019-16884).

use std::io;

use crate::failure::{Cause, InitFailure, Result, Step};

/// Whether this kernel enforces profiles.
pub fn enabled() -> bool {
    let told = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled");
    told.is_ok_and(|text| text.starts_with('Y'))
}

/// Has the next `execve` of this process, or of one that it forks, go into a profile.
pub(crate) fn on_exec(profile: Option<&str>) -> Result<()> {
    let Some(profile) = profile else { return Ok(()) };
    let words = format!("exec {profile}");
    // Several modules at once have a directory each; older kernels have but one file.
    let told = match std::fs::write("/proc/thread-self/attr/apparmor/exec", &words) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && !separate() => {
            std::fs::write("/proc/thread-self/attr/exec", &words)
        }
        other => other,
    };
    told.map_err(|error| InitFailure::new(Step::AppArmor, profile, cause(&error)))
}

/// Whether AppArmor has a directory of its own.
fn separate() -> bool {
    std::path::Path::new("/proc/thread-self/attr/apparmor").exists()
}

fn cause(error: &io::Error) -> Cause {
    match error.raw_os_error() {
        Some(libc::ENOENT) => {
            Cause::Refused("no such profile is loaded: load it with `apparmor_parser -r`".to_owned())
        }
        Some(code) => Cause::Errno(code),
        None => Cause::Refused(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_that_is_not_loaded_is_told() {
        assert!(
            matches!(cause(&io::Error::from_raw_os_error(libc::ENOENT)), Cause::Refused(why) if why.contains("loaded"))
        );
        assert_eq!(cause(&io::Error::from_raw_os_error(libc::EACCES)), Cause::Errno(libc::EACCES));
        assert_eq!(on_exec(None), Ok(()));
        // Where the kernel has it, and where it has not.
        assert!(on_exec(Some("umiak-no-such-profile")).is_err());
    }
}
