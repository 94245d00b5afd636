//! Other containers' namespaces: from the names that were typed to ids when a container is made, and to the processes that run
//! when it starts.
//!
//! Invariants: a record names the other container by its full id, so that a new name for it, or another container of that name,
//! changes nothing; a process id is looked up at every start and never kept. Whether it is still that container's when the
//! namespace is joined is checked by the executor, which holds the process.

use crate::executor::Joins;
use crate::model::{Container, ErrorKind, Kind, NamespaceMode, NetworkMode};
use crate::supervisor;

use super::{Engine, EngineError};

/// A container cannot be in the namespaces that were asked for.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The other container does not run.
    #[error("cannot join {kind} namespace of container `{container}`: it is not running")]
    NotRunning {
        /// `network`, `PID`, `IPC`.
        kind: &'static str,
        /// The other container's name.
        container: String,
    },
    /// The other container has been removed.
    #[error("cannot join {kind} namespace: No such container: {container}")]
    Gone {
        /// The kind.
        kind: &'static str,
        /// The other container's id.
        container: String,
    },
    /// The other container keeps its IPC namespace to itself.
    #[error(
        "can't join IPC of container {container}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)"
    )]
    PrivateIpc {
        /// The other container's id.
        container: String,
    },
    /// Docker has no such mode.
    #[error("{flag}: invalid {kind} mode")]
    Mode {
        /// The flag.
        flag: &'static str,
        /// The kind.
        kind: &'static str,
    },
    /// The name belongs to a namespace that is another's.
    #[error("conflicting options: hostname and the {kind} mode")]
    Hostname {
        /// `network`, `UTS`.
        kind: &'static str,
    },
}

impl Kind for JoinError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NotRunning { .. } | Self::PrivateIpc { .. } => ErrorKind::Conflict,
            Self::Gone { .. } => ErrorKind::NotFound,
            Self::Mode { .. } | Self::Hostname { .. } => ErrorKind::InvalidInput,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::NotRunning { container, .. } => vec![format!("start it first: `umiak start {container}`")],
            Self::PrivateIpc { .. } => vec!["make the other container with `--ipc shareable`".to_owned()],
            Self::Gone { .. } | Self::Mode { .. } | Self::Hostname { .. } => Vec::new(),
        }
    }
}

impl Engine {
    /// Replaces the names of other containers by ids, in a record that is being made; their host name comes with the network.
    pub(super) fn resolve_joins(&self, container: &mut Container) -> Result<(), EngineError> {
        for (mode, flag, kind) in
            [(&container.host.uts, "--uts", "UTS"), (&container.host.cgroupns, "--cgroupns", "cgroup")]
        {
            if !matches!(mode, NamespaceMode::Private | NamespaceMode::Host) {
                return Err(JoinError::Mode { flag, kind }.into());
            }
        }
        let named = !container.config.hostname.is_empty();
        if let NetworkMode::Container(name) = &mut container.host.network {
            if named {
                return Err(JoinError::Hostname { kind: "network" }.into());
            }
            let other = self.container(name)?.container;
            name.replace_range(.., other.id.as_str());
            container.config.hostname = if other.config.hostname.is_empty() {
                other.id.short().to_owned()
            } else {
                other.config.hostname
            };
            container.config.domainname = other.config.domainname;
        }
        if container.host.uts == NamespaceMode::Host {
            if named {
                return Err(JoinError::Hostname { kind: "UTS" }.into());
            }
            container.config.hostname = host_name();
        }
        for mode in [&mut container.host.pid, &mut container.host.ipc] {
            if let NamespaceMode::Container(name) = mode {
                let other = self.container(name)?.container;
                name.replace_range(.., other.id.as_str());
            }
        }
        Ok(())
    }

    /// The first processes of the containers whose namespaces this one shares; each must run.
    pub(super) fn joins(&self, container: &Container) -> Result<Joins, EngineError> {
        let mut joins = Joins::default();
        if let NetworkMode::Container(id) = &container.host.network {
            let other = self.joined("network", id)?;
            joins.network = Some(other.state.pid);
            joins.name_files = Some(self.run_dir(&other.id));
        }
        if let NamespaceMode::Container(id) = &container.host.pid {
            joins.pid = Some(self.joined("PID", id)?.state.pid);
        }
        if let NamespaceMode::Container(id) = &container.host.ipc {
            let other = self.joined("IPC", id)?;
            // As with docker: what is private is not shared.
            if !matches!(other.host.ipc, NamespaceMode::Shareable | NamespaceMode::Host) {
                return Err(JoinError::PrivateIpc { container: other.id.to_string() }.into());
            }
            joins.ipc = Some(other.state.pid);
        }
        Ok(joins)
    }

    fn joined(&self, kind: &'static str, id: &str) -> Result<Container, EngineError> {
        let found = self.database.containers_matching(id)?.into_iter().find(|other| other.id.as_str() == id);
        let Some(other) = found else {
            return Err(JoinError::Gone { kind, container: id.to_owned() }.into());
        };
        if other.state.pid == 0 || !supervisor::is_alive(&self.run_dir(&other.id)) {
            return Err(JoinError::NotRunning { kind, container: other.name }.into());
        }
        Ok(other)
    }
}

#[cfg(unix)]
fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Elsewhere no container has the host's name: the executors there refuse it.
#[cfg(not(unix))]
fn host_name() -> String {
    String::new()
}
