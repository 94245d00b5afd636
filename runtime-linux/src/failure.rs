//! How init says what went wrong: a step, its subject and a cause, as values that cross a process boundary.
//!
//! Invariant: the text a user reads is made here and nowhere else. Not strings from the start: the exit status (126,
//! 127) and tests depend on the kind of a failure, which a text does not give.

use serde::{Deserialize, Serialize};

/// What init was doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Step {
    /// Receiving the plan and clearing the inherited state.
    Begin,
    /// Making, limiting or joining the cgroup.
    Cgroup,
    /// Making the namespaces.
    Namespaces,
    /// Joining namespaces of another process.
    Join,
    /// Opening the source of a mount.
    Source,
    /// Making the root filesystem.
    Root,
    /// Mounting.
    Mount,
    /// Making a device node.
    Device,
    /// Hiding a path.
    Mask,
    /// Making a path read-only.
    ReadOnly,
    /// Writing a kernel parameter.
    Sysctl,
    /// Setting host or domain name.
    Hostname,
    /// Bringing loopback up.
    Network,
    /// Making the terminal.
    Terminal,
    /// Setting a resource limit.
    Rlimit,
    /// Setting the OOM score.
    OomScore,
    /// Finding or becoming the user.
    User,
    /// Changing to the working directory.
    WorkingDirectory,
    /// Setting capabilities.
    Capabilities,
    /// Choosing the AppArmor profile.
    AppArmor,
    /// Installing the system call filter.
    Seccomp,
    /// Executing the program.
    Exec,
}

impl Step {
    fn phrase(self) -> &'static str {
        match self {
            Self::Begin => "starting init",
            Self::Cgroup => "setting up cgroup",
            Self::Namespaces => "creating namespaces",
            Self::Join => "joining namespaces of",
            Self::Source => "opening mount source",
            Self::Root => "setting up root filesystem",
            Self::Mount => "mounting",
            Self::Device => "creating device",
            Self::Mask => "masking",
            Self::ReadOnly => "making read-only",
            Self::Sysctl => "setting sysctl",
            Self::Hostname => "setting host name",
            Self::Network => "bringing up",
            Self::Terminal => "setting up terminal",
            Self::Rlimit => "setting rlimit",
            Self::OomScore => "setting oom score",
            Self::User => "setting user",
            Self::WorkingDirectory => "changing to working directory",
            Self::Capabilities => "setting capabilities",
            Self::AppArmor => "applying apparmor profile",
            Self::Seccomp => "installing seccomp filter",
            Self::Exec => "exec",
        }
    }
}

/// Why it did not work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Cause {
    /// The kernel's answer.
    Errno(i32),
    /// No user of this name in `/etc/passwd`.
    UnknownUser(String),
    /// No group of this name in `/etc/group`.
    UnknownGroup(String),
    /// A number beyond what ids can be.
    IdOutOfRange(String),
    /// Not found in any directory of PATH.
    NotInPath,
    /// The path to the program cannot be looked at (mostly: does not exist).
    Stat(i32),
    /// The program is a directory.
    IsDirectory,
    /// The path resolves to a place where this must not be done, for the reason given.
    Refused(String),
    /// The value cannot be understood.
    Malformed(String),
    /// The kernel or the host's configuration lacks this.
    Unsupported(String),
}

/// A step of init that failed. `Display` is for users.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{}", self.text())]
pub struct InitFailure {
    /// What was being done.
    pub step: Step,
    /// To what: a path, a name.
    pub subject: String,
    /// Why it failed.
    pub cause: Cause,
}

pub(crate) type Result<T> = std::result::Result<T, InitFailure>;

impl InitFailure {
    pub(crate) fn new(step: Step, subject: impl Into<String>, cause: Cause) -> Self {
        Self { step, subject: subject.into(), cause }
    }

    /// The exit status docker gives a command that ends so: 127 not found, 126 not executable, 125 anything else.
    pub fn exit_status(&self) -> u8 {
        match (self.step, &self.cause) {
            (Step::Exec, Cause::NotInPath) => 127,
            (Step::Exec, Cause::Errno(code) | Cause::Stat(code)) if *code == libc::ENOENT => 127,
            (Step::WorkingDirectory, Cause::Errno(code)) if *code == libc::ENOENT => 127,
            (Step::Exec | Step::WorkingDirectory, _) => 126,
            _ => 125,
        }
    }

    fn text(&self) -> String {
        let Self { step, subject, cause } = self;
        match (step, cause) {
            (_, Cause::UnknownUser(name)) => {
                format!("unable to find user {name}: no matching entries in passwd file")
            }
            (_, Cause::UnknownGroup(name)) => {
                format!("unable to find group {name}: no matching entries in group file")
            }
            (Step::Exec, Cause::NotInPath) => {
                format!("exec: \"{subject}\": executable file not found in $PATH")
            }
            (Step::Exec, Cause::Stat(code)) => {
                format!("exec: \"{subject}\": stat {subject}: {}", errno_text(*code))
            }
            (Step::Exec, Cause::IsDirectory) => {
                format!("exec: \"{subject}\": is a directory: permission denied")
            }
            (Step::Exec, Cause::Errno(code)) if *code == libc::EACCES => {
                format!("exec: \"{subject}\": permission denied")
            }
            (Step::Exec, Cause::Errno(code)) => format!("exec {subject}: {}", errno_text(*code)),
            _ => format!("{} `{subject}`: {}", step.phrase(), cause.text()),
        }
    }
}

impl Cause {
    fn text(&self) -> String {
        match self {
            Self::Errno(code) | Self::Stat(code) => errno_text(*code),
            Self::UnknownUser(name) => format!("no user `{name}`"),
            Self::UnknownGroup(name) => format!("no group `{name}`"),
            Self::IdOutOfRange(id) => format!("id `{id}` is out of range"),
            Self::NotInPath => "executable file not found in $PATH".to_owned(),
            Self::IsDirectory => "is a directory".to_owned(),
            Self::Refused(why) => format!("refused: {why}"),
            Self::Malformed(what) => format!("malformed: {what}"),
            Self::Unsupported(what) => format!("not supported here: {what}"),
        }
    }
}

/// The system's words, without `(os error N)`, in lower case.
pub(crate) fn errno_text(code: i32) -> String {
    let text = std::io::Error::from_raw_os_error(code).to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

/// Turns an error of a system call into a failure.
pub(crate) trait At<T> {
    fn at(self, step: Step, subject: impl AsRef<str>) -> Result<T>;
}

impl<T> At<T> for std::result::Result<T, rustix::io::Errno> {
    fn at(self, step: Step, subject: impl AsRef<str>) -> Result<T> {
        self.map_err(|errno| InitFailure::new(step, subject.as_ref(), Cause::Errno(errno.raw_os_error())))
    }
}

impl<T> At<T> for std::io::Result<T> {
    fn at(self, step: Step, subject: impl AsRef<str>) -> Result<T> {
        self.map_err(|error| {
            let code = error.raw_os_error().unwrap_or(libc::EIO);
            InitFailure::new(step, subject.as_ref(), Cause::Errno(code))
        })
    }
}
