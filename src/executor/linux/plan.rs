//! From a request to the runtime's plan: docker's defaults, and what the request says.

use std::io;
use std::path::{Path, PathBuf};

use runtime_linux::{CgroupPlan, Mount, Plan, Propagation};

use super::group;
use crate::executor::{Create, ExecError, Process, Root, Stdio, WindowSize};
use crate::model::ErrorKind;

/// What docker sets when an image does not.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Docker's defaults, and what the request says.
pub(in crate::executor) fn plan(request: &Create) -> Result<Plan, ExecError> {
    let root = match &request.root {
        Root::Overlay { lower, upper, work, volatile } => runtime_linux::Root::Overlay {
            lower: lower.clone(),
            upper: upper.clone(),
            work: work.clone(),
            volatile: *volatile,
        },
        Root::Directory(path) => runtime_linux::Root::Directory(path.clone()),
    };
    let mut plan = Plan::new(root, request.process.args.clone());
    plan.env = environment(&request.process, &request.hostname, &request.stdio);
    plan.cwd.clone_from(&request.process.cwd);
    plan.user.clone_from(&request.process.user);
    plan.hostname.clone_from(&request.hostname);
    plan.domainname.clone_from(&request.domainname);
    super::namespaces::apply(&mut plan, request)?;
    super::security::apply(&mut plan, request)?;
    if let Stdio::Terminal(WindowSize { rows, cols }) = request.stdio {
        plan.terminal = Some(runtime_linux::WindowSize { rows, cols });
    }
    plan.mounts = super::mounts::all(name_files(request)?, &request.mounts);
    let limits = super::resources::limits(&request.host.resources)?;
    plan.cgroup = Some(CgroupPlan {
        path: group::path(&request.host.cgroup_parent, &request.scratch, &request.id)?,
        limits,
    });
    if let Some(ids) = request.host.ids {
        let range = |outside| vec![runtime_linux::IdRange { inside: 0, outside, count: ids.count }];
        plan.user_namespace = Some(runtime_linux::IdMappings { uids: range(ids.uid), gids: range(ids.gid) });
    }
    super::inside::adapt(&mut plan, &request.host)?;
    Ok(plan)
}

/// The request's environment over docker's defaults, which keep their places. `HOME` is the runtime's: it knows the user.
pub(in crate::executor) fn environment(process: &Process, hostname: &str, stdio: &Stdio) -> Vec<String> {
    let mut all = vec![DEFAULT_PATH.to_owned(), format!("HOSTNAME={hostname}")];
    if matches!(stdio, Stdio::Terminal(_)) {
        all.push("TERM=xterm".to_owned());
    }
    let defaults = all.len();
    let key = |pair: &str| pair.split('=').next().unwrap_or_default().to_owned();
    for pair in &process.env {
        match all.iter().take(defaults).position(|default| key(default) == key(pair)) {
            Some(place) => all[place].clone_from(pair),
            None => all.push(pair.clone()),
        }
    }
    all
}

/// `/etc/hostname`, `/etc/hosts` and `/etc/resolv.conf`: files of the container's own, so that it may write to them, mounted over the
/// image's and not written into the container's layer.
fn name_files(request: &Create) -> Result<Vec<Mount>, ExecError> {
    if let Some(of) = &request.joins.name_files {
        return Ok(["hostname", "hosts", "resolv.conf"].map(|name| name_file(of.join(name), name)).into());
    }
    let hostname = format!("{}\n", request.hostname);
    let files = &request.name_files;
    [("hostname", hostname.as_bytes()), ("hosts", &files.hosts), ("resolv.conf", &files.resolv_conf)]
        .into_iter()
        .map(|(name, bytes)| {
            let source = request.scratch.join(name);
            write_plain(&source, bytes).map_err(|error| {
                ExecError::failed(
                    ErrorKind::Unavailable,
                    "writing the container's name files",
                    FileError::new(&source, error),
                )
            })?;
            Ok(name_file(source, name))
        })
        .collect()
}

fn name_file(source: PathBuf, name: &str) -> Mount {
    let target = format!("/etc/{name}");
    let (subpath, propagation) = (String::new(), Propagation::Rprivate);
    Mount::Bind { source, subpath, target, read_only: false, recursive: false, propagation }
}

/// Readable by every user of the container, whatever this process's mask.
fn write_plain(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, bytes)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644))
}

/// An error about a file of the host.
#[derive(Debug, thiserror::Error)]
#[error("`{}`", path.display())]
struct FileError {
    path: PathBuf,
    source: io::Error,
}

impl FileError {
    fn new(path: &Path, source: io::Error) -> Self {
        Self { path: path.to_owned(), source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executor::{Joins, NameFiles};
    use crate::model::{ContainerId, HostConfig};

    fn create(env: &[&str], stdio: Stdio, scratch: &Path) -> Create {
        Create {
            id: ContainerId::from_bytes([7; 32]),
            root: Root::Directory("/nowhere".into()),
            scratch: scratch.to_owned(),
            process: Process {
                args: vec!["true".into()],
                env: env.iter().map(|&pair| pair.to_owned()).collect(),
                cwd: "/work".into(),
                user: "www".into(),
            },
            hostname: "boat".into(),
            domainname: String::new(),
            name_files: NameFiles { hosts: b"127.0.0.1 here\n".into(), resolv_conf: Vec::new() },
            host: HostConfig::default(),
            mounts: Vec::new(),
            joins: Joins::default(),
            stdio,
        }
    }

    #[test]
    fn a_plan_has_dockers_defaults_and_the_requests_values() {
        let dir = tempfile::tempdir().unwrap();
        let terminal = Stdio::Terminal(WindowSize { rows: 5, cols: 6 });
        let plan = plan(&create(&["PATH=/x", "A=b=c"], terminal, dir.path())).unwrap();
        assert_eq!(plan.env, ["PATH=/x", "HOSTNAME=boat", "TERM=xterm", "A=b=c"]);
        assert_eq!((plan.user.as_str(), plan.cwd.as_str(), plan.hostname.as_str()), ("www", "/work", "boat"));
        assert_eq!(plan.network, runtime_linux::Network::None);
        assert_eq!(plan.terminal, Some(runtime_linux::WindowSize { rows: 5, cols: 6 }));
        assert!(plan.cgroup.unwrap().path.starts_with(&format!("umiak/{}-", "07".repeat(32))));
        assert!(!plan.capabilities.is_empty() && !plan.masked_paths.is_empty() && !plan.privileged);
        let hosts = std::fs::read_to_string(dir.path().join("hosts")).unwrap();
        assert_eq!(hosts, "127.0.0.1 here\n");
        assert_eq!(std::fs::read_to_string(dir.path().join("hostname")).unwrap(), "boat\n");
    }

    #[test]
    fn a_scratch_directory_that_is_not_there_is_named() {
        let stdio = Stdio::Terminal(WindowSize { rows: 1, cols: 1 });
        let error = plan(&create(&[], stdio, Path::new("/nowhere"))).unwrap_err();
        let source = std::error::Error::source(&error).unwrap();
        assert_eq!(source.to_string(), "`/nowhere/hostname`");
    }
}
