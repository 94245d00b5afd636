//! What a runtime's failure means.
//!
//! The runtime specification has no classes of failures, so they are told by the words of the message, as docker tells them:
//! runc and crun say of a program that is not there or not executable what the kernel or Go's library says.

use runtime_linux::InitFailure;

use crate::executor::ExecError;
use crate::model::ErrorKind;

/// What a runtime said when it failed.
#[derive(Debug, thiserror::Error)]
#[error("`{program} {verb}` failed ({status}): {}", if text.is_empty() { "it did not say why" } else { text })]
pub(super) struct Said {
    pub(super) program: String,
    pub(super) verb: String,
    pub(super) status: String,
    pub(super) text: String,
}

/// A runtime that could not be run, or did not end.
#[derive(Debug, thiserror::Error)]
#[error("`{program} {verb}`")]
struct Unrun {
    program: String,
    verb: String,
    source: std::io::Error,
}

/// The error messages in a log of JSON lines; `None` when there is none, or it is not such a log.
pub(super) fn errors_of_log(log: &str) -> Option<String> {
    let message = |line: &str| {
        let entry: serde_json::Value = serde_json::from_str(line).ok()?;
        let bad = matches!(entry.get("level")?.as_str()?, "error" | "fatal" | "panic");
        bad.then(|| entry.get("msg").and_then(|msg| msg.as_str()).map(str::to_owned))?
    };
    let mut all: Vec<_> = log.lines().filter_map(message).collect();
    all.dedup();
    (!all.is_empty()).then(|| all.join("; "))
}

fn class(text: &str) -> ErrorKind {
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    // Of the program alone: mounts and namespaces fail with the same words.
    let of_program = has(&["exec", "executable"]) && !has(&["mount", "rootfs", "cgroup"]);
    if of_program && has(&["executable file", "no such file or directory"]) && !has(&["permission denied"]) {
        ErrorKind::CommandNotFound
    } else if of_program
        && has(&["permission denied", "is a directory", "exec format error", "not executable"])
    {
        ErrorKind::CommandNotExecutable
    } else if has(&["operation not permitted", "permission denied"]) {
        ErrorKind::Forbidden
    } else {
        ErrorKind::Internal
    }
}

/// A command that said no.
pub(super) fn command(said: Said) -> ExecError {
    let (kind, action) = match said.verb.as_str() {
        "create" => (class(&said.text.to_lowercase()), "creating the container's process"),
        "start" => (class(&said.text.to_lowercase()), "starting the program"),
        "exec" => (class(&said.text.to_lowercase()), "running a further process"),
        "kill" => (ErrorKind::Internal, "sending the signal"),
        "pause" => (ErrorKind::Internal, "pausing the container"),
        "resume" => (ErrorKind::Internal, "unpausing the container"),
        "update" => (ErrorKind::InvalidInput, "changing the container's limits"),
        _ => (ErrorKind::Internal, "removing the container"),
    };
    ExecError::failed(kind, action, said)
}

/// A command that was not carried out.
pub(super) fn unstarted(program: String, verb: String, source: std::io::Error) -> ExecError {
    ExecError::failed(
        ErrorKind::Unavailable,
        "running the container's runtime",
        Unrun { program, verb, source },
    )
}

/// What was to be ready for the runtime is not.
pub(super) fn stage(error: InitFailure) -> ExecError {
    ExecError::failed(ErrorKind::Unavailable, "preparing the runtime's mounts", error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_runtimes_have_dockers_classes() {
        for (text, kind) in [
            (
                "runc create failed: unable to start container process: exec: \"nosuch\": executable file not found in $PATH",
                ErrorKind::CommandNotFound,
            ),
            ("exec failed: exec: \"/no\": stat /no: no such file or directory", ErrorKind::CommandNotFound),
            (
                "executable file `nosuch` not found in $PATH: No such file or directory",
                ErrorKind::CommandNotFound,
            ),
            (
                "unable to start container process: exec: \"/plain\": permission denied",
                ErrorKind::CommandNotExecutable,
            ),
            ("open executable: Permission denied", ErrorKind::CommandNotExecutable),
            ("exec: \"/etc\": is a directory", ErrorKind::CommandNotExecutable),
            ("error mounting \"/x\" to rootfs: exec: no such file or directory", ErrorKind::Internal),
            ("write cgroup.procs: operation not permitted", ErrorKind::Forbidden),
        ] {
            assert_eq!(class(&text.to_lowercase()), kind, "{text}");
        }
    }

    #[test]
    fn the_log_is_read_line_by_line() {
        let log = "{\"level\":\"warning\",\"msg\":\"old\",\"time\":\"t\"}\nnoise\n{\"level\":\"error\",\"msg\":\"no\"}\n\
                   {\"level\":\"error\",\"msg\":\"no\"}\n";
        assert_eq!(errors_of_log(log).as_deref(), Some("no"));
        assert_eq!(errors_of_log("plain text\n"), None);
    }
}
