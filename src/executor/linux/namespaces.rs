//! Whose namespaces a container is in: from docker's modes to the runtime's plan.

use runtime_linux::{Namespace, Network, Peer, Plan, Shm, cgroups};

use crate::executor::{Create, ExecError};
use crate::model::{ErrorKind, NamespaceMode, NetworkMode};

/// A namespace cannot be had.
#[derive(Debug, thiserror::Error)]
enum NamespaceError {
    /// Nobody found out where the other container runs.
    #[error("container `{container}` is not running")]
    NotRunning {
        /// Its id.
        container: String,
    },
    /// The kind has no such mode.
    #[error("{flag} does not know the mode `{mode:?}`")]
    Mode {
        /// The flag.
        flag: &'static str,
        /// The mode.
        mode: NamespaceMode,
    },
}

/// The other container's first process. The supervisor is told its number; that it is still the container's is told by the name
/// of its control group, which begins with the container's id.
fn peer(container: &str, pid: Option<u32>) -> Result<Peer, ExecError> {
    let pid = pid.ok_or_else(|| {
        let error = NamespaceError::NotRunning { container: container.to_owned() };
        ExecError::failed(ErrorKind::Conflict, "joining a container's namespaces", error)
    })?;
    // Where containers have no control group, the number alone must do: the supervisor's lock was looked at just now.
    let cgroup = if cgroups::base().is_some() { container.to_owned() } else { String::new() };
    Ok(Peer { pid, cgroup })
}

/// `join` is the process to join, or the flag of a kind that docker knows no joining of.
fn namespace(mode: &NamespaceMode, join: Result<Option<u32>, &'static str>) -> Result<Namespace, ExecError> {
    match (mode, join) {
        (NamespaceMode::Private | NamespaceMode::Shareable | NamespaceMode::None, _) => Ok(Namespace::New),
        (NamespaceMode::Host, _) => Ok(Namespace::Inherit),
        (NamespaceMode::Container(of), Ok(pid)) => Ok(Namespace::Join(peer(of, pid)?)),
        (NamespaceMode::Container(_), Err(flag)) => {
            let error = NamespaceError::Mode { flag, mode: mode.clone() };
            Err(ExecError::failed(ErrorKind::InvalidInput, "choosing namespaces", error))
        }
    }
}

/// Sets namespaces, network and `/dev/shm`.
pub(super) fn apply(plan: &mut Plan, request: &Create) -> Result<(), ExecError> {
    let (host, joins) = (&request.host, &request.joins);
    plan.network = match &host.network {
        // Its networks are connected by whoever asked for it, between its making and its start.
        NetworkMode::None | NetworkMode::Default | NetworkMode::Named(_) | NetworkMode::Pasta => {
            Network::None
        }
        NetworkMode::Host => Network::Host,
        NetworkMode::Container(of) => Network::Join(peer(of, joins.network)?),
    };
    plan.namespaces.pid = namespace(&host.pid, Ok(joins.pid))?;
    plan.namespaces.ipc = namespace(&host.ipc, Ok(joins.ipc))?;
    plan.namespaces.uts = namespace(&host.uts, Err("--uts"))?;
    plan.namespaces.cgroup = namespace(&host.cgroupns, Err("--cgroupns"))?;
    plan.shm = match &host.ipc {
        NamespaceMode::Private | NamespaceMode::Shareable => Shm::Own,
        NamespaceMode::None => Shm::None,
        NamespaceMode::Host => Shm::Host,
        NamespaceMode::Container(of) => Shm::Of(peer(of, joins.ipc)?),
    };
    plan.init = host.init;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_become_namespaces() {
        use NamespaceMode::{Container, Host, None as Without, Private, Shareable};
        let peer = |pid| Peer { pid, cgroup: "abc".into() };
        for (mode, join, wanted) in [
            (Private, Err("--x"), Some(Namespace::New)),
            (Shareable, Ok(None), Some(Namespace::New)),
            (Without, Ok(None), Some(Namespace::New)),
            (Host, Err("--x"), Some(Namespace::Inherit)),
            (Container("abc".into()), Ok(Some(5)), Some(Namespace::Join(peer(5)))),
            (Container("abc".into()), Ok(None), None),
            (Container("abc".into()), Err("--x"), None),
        ] {
            assert_eq!(namespace(&mode, join).ok(), wanted, "{mode:?} {join:?}");
        }
    }
}
