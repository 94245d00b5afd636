//! The suite for executors on the Linux executor, with the real binary as init and busybox as the programs.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use umiak::executor::conformance::{self, Program, Subject};
use umiak::executor::{
    Create, Entry, ExecError, Executor, Joins, NameFiles, Process, Root, Settings, Stdio, Want, Workload,
    linux,
};
use umiak::model::{ContainerId, HostConfig, Packaging, Platform};

use crate::support::require;

/// A static busybox, as Debian's `busybox-static` has it.
pub(super) const BUSYBOX: &str = "/bin/busybox";

pub(super) struct Linux {
    dir: tempfile::TempDir,
    ids: Mutex<Vec<ContainerId>>,
}

impl Linux {
    pub(super) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("umiak-test-").tempdir().expect("a temporary folder");
        let lower = dir.path().join("lower");
        std::fs::create_dir_all(lower.join("bin")).expect("the layer");
        std::fs::copy(BUSYBOX, lower.join("bin/busybox")).expect("busybox");
        for applet in
            ["sh", "true", "cat", "echo", "sleep", "env", "id", "ls", "ps", "readlink", "touch", "grep"]
        {
            symlink("busybox", lower.join("bin").join(applet)).expect("an applet");
        }
        std::fs::write(lower.join("plain"), "text").expect("a file");
        let plain = std::fs::Permissions::from_mode(0o644);
        std::fs::set_permissions(lower.join("plain"), plain).expect("its mode");
        std::fs::create_dir(lower.join("etc")).expect("a folder");
        std::fs::write(lower.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nwww:x:33:33::/srv:/bin/sh\n")
            .expect("users");
        Self { dir, ids: Mutex::new(Vec::new()) }
    }

    /// Where everything of this suite is.
    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Cgroups that are left of containers of this suite.
    pub(super) fn left(&self) -> Vec<PathBuf> {
        let hierarchies =
            std::fs::read_dir("/sys/fs/cgroup").expect("cgroups").flatten().map(|entry| entry.path());
        let roots: Vec<PathBuf> = hierarchies.chain([PathBuf::from("/sys/fs/cgroup")]).collect();
        let ids = self.ids.lock().expect("no panic");
        let groups = roots.iter().filter_map(|root| std::fs::read_dir(root.join("umiak")).ok()).flatten();
        let of = |name: &str| ids.iter().any(|id| name.starts_with(id.as_str()));
        groups
            .flatten()
            .map(|group| group.path())
            .filter(|path| of(&path.file_name().expect("a name").to_string_lossy()))
            .collect()
    }
}

fn arguments(program: &Program) -> Vec<String> {
    let shell = |script: &str| vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()];
    match program {
        Program::Succeed => vec!["true".to_owned()],
        Program::Exit(status) => shell(&format!("exit {status}")),
        Program::Echo(text) => vec!["echo".to_owned(), (*text).to_owned()],
        Program::CopyInput => vec!["cat".to_owned()],
        // A first process has no default actions: it ends by SIGTERM only if it says so.
        Program::Loop => shell("trap 'exit 143' TERM; echo ready; while :; do sleep 0.02; done"),
        Program::Missing => vec!["nosuch".to_owned()],
        Program::NotExecutable => vec!["/plain".to_owned()],
        Program::LeaveProcesses => shell("for n in 1 2 3 4 5; do sleep 1000 & done; exit 0"),
    }
}

impl Subject for Linux {
    fn entry(&self) -> Entry {
        linux::ENTRY
    }

    fn open(&self) -> Result<Box<dyn Executor>, ExecError> {
        let exe = Path::new(env!("CARGO_BIN_EXE_umiak")).to_owned();
        (linux::ENTRY.open)(&Settings {
            exe,
            cache: self.dir.path().join("cache"),
            guest_memory: None,
            interpreted: false,
            own_process: false,
            scratch: "scratch".into(),
            group_parent: String::new(),
            runtime: None,
        })
    }

    fn request(&self, id: ContainerId, program: &Program, stdio: Stdio) -> Option<Create> {
        let mut ids = self.ids.lock().expect("no panic");
        ids.push(id.clone());
        let own = self.dir.path().join(ids.len().to_string());
        for part in ["upper", "work", "scratch"] {
            std::fs::create_dir_all(own.join(part)).expect("a folder");
        }
        Some(Create {
            id,
            root: Root::Overlay {
                lower: vec![self.dir.path().join("lower")],
                upper: own.join("upper"),
                work: own.join("work"),
                volatile: false,
            },
            scratch: own.join("scratch"),
            process: Process {
                args: arguments(program),
                env: Vec::new(),
                cwd: "/".to_owned(),
                user: String::new(),
            },
            hostname: "conforming".to_owned(),
            domainname: String::new(),
            name_files: NameFiles::default(),
            host: HostConfig::default(),
            mounts: Vec::new(),
            joins: Joins::default(),
            stdio,
        })
    }

    fn has_terminals(&self) -> bool {
        true
    }

    fn taken(&self) -> Workload {
        Workload {
            platform: Platform::linux_native(),
            packaging: Packaging::Image,
            program: Some("/bin/true".to_owned()),
            wants: vec![Want::HostNetwork, Want::User],
        }
    }

    fn refused(&self) -> Vec<Workload> {
        [Platform::wasi(), Platform::new("linux", "s390x", None), Platform::new("windows", "amd64", None)]
            .map(|platform| Workload { platform, ..self.taken() })
            .into()
    }
}

#[tokio::test]
async fn linux_conforms() {
    require!(root);
    if !Path::new(BUSYBOX).exists() {
        // `tests/run` installs it; elsewhere there is nothing to run.
        return;
    }
    let subject = Linux::new();
    let failed: Vec<_> =
        conformance::run(&subject).await.into_iter().filter(|case| case.outcome.is_err()).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert_eq!(subject.left(), Vec::<PathBuf>::new());
}
