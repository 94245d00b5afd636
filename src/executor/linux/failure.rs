//! The class of the runtime's failures.

use runtime_linux::{Cause, InitFailure, SpawnError, StartError, Step};

use crate::executor::ExecError;
use crate::model::ErrorKind;

/// The class of what init says.
fn class(failure: &InitFailure) -> ErrorKind {
    let missing = [libc::ENOSPC, libc::EDQUOT, libc::ENOMEM, libc::EMFILE, libc::ENFILE, libc::EAGAIN];
    match (failure.exit_status(), &failure.cause) {
        (127, _) => ErrorKind::CommandNotFound,
        (126, _) => ErrorKind::CommandNotExecutable,
        (
            _,
            Cause::UnknownUser(_) | Cause::UnknownGroup(_) | Cause::IdOutOfRange(_) | Cause::Malformed(_),
        ) => ErrorKind::InvalidInput,
        (_, Cause::Refused(_)) => ErrorKind::Forbidden,
        (_, Cause::Unsupported(_)) => ErrorKind::Unsupported,
        (_, Cause::Errno(code) | Cause::Stat(code)) if [libc::EPERM, libc::EACCES].contains(code) => {
            ErrorKind::Forbidden
        }
        (_, Cause::Errno(code) | Cause::Stat(code)) if missing.contains(code) => ErrorKind::Unavailable,
        _ => ErrorKind::Internal,
    }
}

pub(in crate::executor) fn not_created(error: SpawnError) -> ExecError {
    let kind = match &error {
        SpawnError::Init(failure) => class(failure),
        SpawnError::Seccomp(_) => ErrorKind::InvalidInput,
        SpawnError::Exec { .. } => ErrorKind::Unavailable,
        _ => ErrorKind::Internal,
    };
    ExecError::failed(kind, "creating the container's process", error)
}

/// Of an exec, whose container may have ended meanwhile.
pub(super) fn not_entered(error: SpawnError) -> ExecError {
    match &error {
        SpawnError::Init(InitFailure { step: Step::Join, cause: Cause::Errno(libc::ESRCH), .. }) => {
            ExecError::NotRunning
        }
        _ => not_created(error),
    }
}

pub(super) fn not_started(error: StartError) -> ExecError {
    let kind = match &error {
        StartError::Init(failure) => class(failure),
        StartError::Started => ErrorKind::Conflict,
        _ => ErrorKind::Internal,
    };
    ExecError::failed(kind, "starting the program", error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_class_of_a_failure_gives_dockers_status() {
        let failure = |step, cause| InitFailure { step, subject: "x".into(), cause };
        for (step, cause, kind) in [
            (Step::Exec, Cause::NotInPath, ErrorKind::CommandNotFound),
            (Step::Exec, Cause::Stat(libc::ENOENT), ErrorKind::CommandNotFound),
            (Step::Exec, Cause::Errno(libc::EACCES), ErrorKind::CommandNotExecutable),
            (Step::Exec, Cause::IsDirectory, ErrorKind::CommandNotExecutable),
            (Step::User, Cause::UnknownUser("x".into()), ErrorKind::InvalidInput),
            (Step::Mount, Cause::Errno(libc::EPERM), ErrorKind::Forbidden),
            (Step::Cgroup, Cause::Errno(libc::ENOSPC), ErrorKind::Unavailable),
            (Step::Seccomp, Cause::Unsupported("x".into()), ErrorKind::Unsupported),
            (Step::Root, Cause::Errno(libc::EIO), ErrorKind::Internal),
        ] {
            assert_eq!(class(&failure(step, cause.clone())), kind, "{step:?} {cause:?}");
        }
    }
}
