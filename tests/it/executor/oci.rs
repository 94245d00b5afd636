//! The suite for executors on the one that drives an installed runtime, with every runtime that is installed here; and what a
//! user sees of it.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use umiak::executor::conformance::{self, Program, Subject};
use umiak::executor::{Create, Entry, ExecError, Executor, Settings, Stdio, Workload, oci_cli, runtimes};
use umiak::model::{ContainerId, OciRuntime};

use super::conformance::{BUSYBOX, Linux};
use crate::support::{host::Host, registry, require};

/// The same containers, by another program.
struct Oci {
    linux: Linux,
    runtime: OciRuntime,
}

impl Subject for Oci {
    fn entry(&self) -> Entry {
        oci_cli::ENTRY
    }

    fn open(&self) -> Result<Box<dyn Executor>, ExecError> {
        (oci_cli::ENTRY.open)(&Settings {
            exe: PathBuf::new(),
            cache: PathBuf::new(),
            guest_memory: None,
            interpreted: false,
            own_process: false,
            scratch: self.linux.dir().join("nobody"),
            group_parent: String::new(),
            runtime: Some(self.runtime.clone()),
        })
    }

    fn request(&self, id: ContainerId, program: &Program, stdio: Stdio) -> Option<Create> {
        self.linux.request(id, program, stdio)
    }

    fn has_terminals(&self) -> bool {
        true
    }

    fn taken(&self) -> Workload {
        self.linux.taken()
    }

    fn refused(&self) -> Vec<Workload> {
        let init = Workload { wants: vec![umiak::executor::Want::Init], ..self.taken() };
        self.linux.refused().into_iter().chain([init]).collect()
    }
}

async fn conforms(name: &str) {
    require!(root);
    if !Path::new(BUSYBOX).exists() {
        // `tests/run` installs it; elsewhere there is nothing to run.
        return;
    }
    let runtime =
        runtimes::find(Some(name), &BTreeMap::new()).expect("the runtime").expect("an installed one");
    let subject = Oci { linux: Linux::new(), runtime };
    let failed: Vec<_> =
        conformance::run(&subject).await.into_iter().filter(|case| case.outcome.is_err()).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert_eq!(subject.linux.left(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn heavy_runc_conforms() {
    require!(runtimes);
    conforms("runc").await;
}

#[tokio::test]
async fn heavy_crun_conforms() {
    require!(runtimes);
    conforms("crun").await;
}

const BOTH: [&str; 2] = ["runc", "crun"];

#[test]
fn heavy_an_installed_runtime_does_what_ours_does() {
    require!(root, registry, runtimes);
    let host = Host::new();
    let image = registry::busybox();
    for runtime in BOTH {
        let run = |flags: &[&str], command: &[&str]| {
            let args =
                [&["run", "--rm", "--network", "none", "--runtime", runtime], flags, &[&image], command];
            host.umiak(&args.concat())
        };
        for (command, status) in [
            (&["true"][..], 0),
            (&["sh", "-c", "exit 7"], 7),
            (&["/etc/passwd"], 126),
            (&["no-such-command"], 127),
            (&["sh", "-c", "sh -c 'kill -KILL $$'; exit $?"], 137),
        ] {
            run(&[], command).exits(status);
        }
        run(&[], &["no-such-command"]).fails(127, &["no-such-command", "not found in $PATH"]);
        for (flags, command, wanted) in [
            (&["-h", "boat", "--domainname", "sea"][..], &["cat", "/proc/sys/kernel/domainname"][..], "sea"),
            (&["-h", "boat"], &["hostname"], "boat"),
            (&["-u", "33:44"], &["sh", "-c", "id -u; id -g"], "33\n44"),
            (&["-w", "/made/here"], &["pwd"], "/made/here"),
            (&["-e", "A=b c"], &["sh", "-c", "echo $A"], "b c"),
            (&["--cap-drop", "ALL"], &["grep", "CapBnd", "/proc/self/status"], "CapBnd:\t0000000000000000"),
            (&[], &["grep", "CapEff", "/proc/self/status"], "CapEff:\t00000000a80425fb"),
            (&[], &["grep", "Seccomp:", "/proc/self/status"], "Seccomp:\t2"),
            (&["--privileged"], &["grep", "Seccomp:", "/proc/self/status"], "Seccomp:\t0"),
            (&["--ulimit", "nofile=77"], &["sh", "-c", "ulimit -n"], "77"),
            (&["--sysctl", "net.ipv4.ip_forward=1"], &["cat", "/proc/sys/net/ipv4/ip_forward"], "1"),
            (&["--shm-size", "1m"], &["sh", "-c", "df /dev/shm | tail -1 | awk '{print $2}'"], "1024"),
            (&["--tmpfs", "/t:size=64k"], &["sh", "-c", "df /t | tail -1 | awk '{print $2}'"], "64"),
            (
                &["--security-opt", "no-new-privileges"],
                &["grep", "NoNewPrivs", "/proc/self/status"],
                "NoNewPrivs:\t1",
            ),
            (&["-m", "64m"], &["cat", "/sys/fs/cgroup/memory/memory.limit_in_bytes"], "67108864"),
            (&[], &["sh", "-c", "cat /etc/hostname | wc -c; cat /proc/timer_list | wc -c"], "13\n0"),
        ] {
            // What the limit is called depends on the host's hierarchies.
            let unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
            if unified && command.iter().any(|word| word.contains("memory.limit")) {
                continue;
            }
            assert_eq!(run(flags, command).exits(0).text(), wanted, "{runtime} {flags:?}");
        }
        let refused = run(&["--read-only"], &["touch", "/x"]);
        assert!(refused.exits(1).stderr.contains("Read-only"), "{runtime}");
        let denied = run(&[], &["sh", "-c", "echo 1 >/proc/sys/kernel/panic"]);
        assert!(denied.exits(1).stderr.contains("Read-only"), "{runtime}");
        run(&["--init"], &["true"]).fails(125, &["executor `oci` cannot run an init process"]);
        run(&["-v", "/tmp:/t:rshared"], &["true"]).fails(125, &["bind-propagation=shared"]);
    }
}

#[test]
fn heavy_a_container_of_an_installed_runtime_lives_as_ours_do() {
    require!(root, registry, runtimes);
    let host = Host::new();
    let image = registry::busybox();
    for runtime in BOTH {
        let begin = ["run", "-d", "--network", "none", "--runtime", runtime, "--name", "one", "-m", "64m"];
        host.umiak(&[&begin[..], &[&image, "sh", "-c", "echo begun; sleep 1000"]].concat()).exits(0);
        let shown = |format: &str| host.umiak(&["inspect", "-f", format, "one"]).exits(0).text().to_owned();
        assert_eq!(shown("{{.HostConfig.Runtime}} {{.Executor.Name}}"), format!("{runtime} oci"));
        assert!(
            shown("{{.Executor.Runtime.Version}}").starts_with(runtime),
            "{}",
            shown("{{.Executor.Runtime}}")
        );
        assert!(shown("{{.Executor.Reason}}").contains(runtime));
        assert_eq!(host.umiak(&["exec", "one", "sh", "-c", "echo $PPID; exit 5"]).exits(5).text(), "0");
        host.umiak(&["exec", "one", "no-such-command"]).fails(127, &["no-such-command"]);
        host.umiak(&["exec", "one", "/etc/passwd"]).fails(126, &["ermission denied"]);
        assert!(host.umiak(&["top", "one"]).exits(0).stdout.contains("sleep 1000"));
        let stats = host.umiak(&["stats", "--no-stream", "--format", "{{.MemUsage}}", "one"]).exits(0);
        assert!(stats.stdout.contains("/ 64MiB"), "{}", stats.stdout);
        host.umiak(&["update", "-m", "96m", "--memory-swap", "128m", "one"]).exits(0);
        let stats = host.umiak(&["stats", "--no-stream", "--format", "{{.MemUsage}}", "one"]).exits(0);
        assert!(stats.stdout.contains("/ 96MiB"), "{}", stats.stdout);
        host.umiak(&["pause", "one"]).exits(0);
        assert_eq!(shown("{{.State.Status}}"), "paused");
        host.umiak(&["exec", "one", "true"]).fails(1, &["is paused"]);
        host.umiak(&["unpause", "one"]).exits(0);
        host.umiak(&["restart", "-t", "0", "one"]).exits(0);
        host.umiak(&["exec", "one", "true"]).exits(0);
        host.umiak(&["stop", "-t", "0", "one"]).exits(0);
        assert_eq!(shown("{{.State.ExitCode}}"), "137");
        assert_eq!(host.umiak(&["logs", "one"]).exits(0).stdout, "begun\nbegun\n");
        host.umiak(&["start", "one"]).exits(0);
        host.umiak(&["pause", "one"]).exits(0);
        host.umiak(&["rm", "-f", "one"]).exits(0);
        let bomb = [
            "run",
            "--name",
            "bomb",
            "--network",
            "none",
            "--runtime",
            runtime,
            "-m",
            "16m",
            "--memory-swap",
            "16m",
        ];
        host.umiak(&[&bomb[..], &[&image, "tail", "/dev/zero"]].concat()).exits(137);
        let oom = host.umiak(&["inspect", "-f", "{{.State.OOMKilled}}", "bomb"]).exits(0);
        assert_eq!(oom.text(), "true", "{runtime}");
        host.umiak(&["rm", "bomb"]).exits(0);
        assert!(host.list("containers").is_empty());
    }
}

#[test]
fn heavy_namespaces_are_shared_with_containers_of_installed_runtimes() {
    require!(root, registry, runtimes);
    let host = Host::new();
    let image = registry::busybox();
    host.umiak(&[
        "run",
        "-d",
        "--name",
        "ours",
        "--ipc",
        "shareable",
        "--network",
        "none",
        &image,
        "sleep",
        "1000",
    ])
    .exits(0);
    host.umiak(&["exec", "ours", "sh", "-c", "echo seen >/dev/shm/file"]).exits(0);
    for runtime in BOTH {
        let by = ["run", "--rm", "--runtime", runtime, "--pid", "container:ours", "--ipc", "container:ours"];
        let out = host.umiak(
            &[&by[..], &["--network", "container:ours", &image, "sh", "-c", "ps; cat /dev/shm/file"]]
                .concat(),
        );
        let out = out.exits(0).stdout;
        assert!(out.contains("sleep 1000") && out.contains("seen"), "{runtime}: {out}");
        // The other way round.
        host.umiak(&[
            "run",
            "-d",
            "--name",
            "theirs",
            "--network",
            "none",
            "--runtime",
            runtime,
            &image,
            "sleep",
            "2000",
        ])
        .exits(0);
        let out = host.umiak(&[
            "run",
            "--rm",
            "--pid",
            "container:theirs",
            "--network",
            "container:theirs",
            &image,
            "ps",
        ]);
        assert!(out.exits(0).stdout.contains("sleep 2000"), "{runtime}");
        host.umiak(&["rm", "-f", "theirs"]).exits(0);
    }
    host.umiak(&["rm", "-f", "ours"]).exits(0);
}

#[test]
fn heavy_a_crash_leaves_nothing_of_an_installed_runtime() {
    require!(root, registry, runtimes);
    let host = Host::new();
    let image = registry::busybox();
    for runtime in BOTH {
        let begin = [
            "run",
            "-d",
            "--network",
            "none",
            "--runtime",
            runtime,
            "--name",
            "lost",
            &image,
            "sleep",
            "1000",
        ];
        let id = host.umiak(&begin).exits(0).text().to_owned();
        let pid = host.umiak(&["inspect", "-f", "{{.State.Pid}}", "lost"]).exits(0).text().to_owned();
        let supervisor = Host::supervisor(&id).expect("its supervisor").try_into().expect("a pid");
        let supervisor = rustix::process::Pid::from_raw(supervisor).expect("not 0");
        rustix::process::kill_process(supervisor, rustix::process::Signal::KILL).expect("it lives");
        crate::cli::until("it is noticed", || host.umiak(&["ps", "-q"]).exits(0).stdout.is_empty());
        host.umiak(&["start", "lost"]).exits(0);
        // It is the host's first process that reaps it.
        crate::cli::until("its process is gone", || !alive(&pid));
        host.umiak(&["rm", "-f", "lost"]).exits(0);
    }
}

/// Whether a process is there and not a zombie.
fn alive(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn a_runtime_that_is_missing_or_fails_says_so() {
    require!(root, registry);
    let host = Host::new();
    let image = registry::busybox();
    host.umiak(&["run", "--runtime", "kata", &image])
        .fails(125, &["unknown or invalid runtime name: kata", "linux"]);
    host.umiak(&["run", "--runtime", "/no/such", &image]).fails(125, &["/no/such", "No such file"]);
    host.umiak(&["run", "--runtime", "youki", &image])
        .fails(125, &["unknown or invalid runtime name: youki", "install `youki`"]);
    let script = host.dir().join("broken");
    let text =
        "#!/bin/sh\n[ \"$1\" != --version ] || { echo broken 1.0; exit; }\necho 'it is broken' >&2\nexit 3\n";
    std::fs::write(&script, text).expect("a script");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("its mode");
    let path = script.to_str().expect("UTF-8");
    host.umiak(&["run", "--runtime", path, "--network", "none", "-t", &image, "true"])
        .fails(125, &["it is broken", "exit status: 3", path]);
    let config = host.dir().join("config.toml");
    std::fs::write(&config, format!("[runtimes.mine]\npath = \"{path}\"\nargs = [\"--debug\"]\n"))
        .expect("a file");
    let config = config.to_str().expect("UTF-8");
    host.umiak(&["--config", config, "create", "--name", "it", "--runtime", "mine", &image]).exits(0);
    let shown = host
        .umiak(&["inspect", "-f", "{{.HostConfig.Runtime}} {{.Executor.Runtime.Version}}", "it"])
        .exits(0);
    assert_eq!(shown.text(), "mine broken 1.0");
    host.umiak(&["start", "it"]).fails(1, &["it is broken"]);
    host.umiak(&["rm", "-f", "it"]).exits(0);
    let info = host.umiak(&["--config", config, "info", "-f", "{{json .Runtimes}}"]).exits(0).stdout;
    assert!(info.contains(path) && info.contains("linux"), "{info}");
    // Docker's names for its default, and for WASI images.
    host.umiak(&["run", "--rm", "--network", "none", "--runtime", "io.containerd.runc.v2", &image, "true"])
        .exits(0);
    let wasm = format!("{}/both", registry::address());
    let args = ["run", "--rm", "--runtime=io.containerd.wasmtime.v1", "--platform=wasi/wasm", &wasm];
    assert_eq!(host.umiak(&args).exits(0).stdout, "hello from wasm\n");
}
