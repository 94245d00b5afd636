//! What can go wrong with the metadata database.

use std::path::PathBuf;

use crate::model::{ContainerId, Digest, ErrorKind, Kind, PublishedPort, VolumeNameError};

/// An error of the metadata database.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The database cannot be opened.
    #[error("cannot open the metadata database `{}`", path.display())]
    Open {
        /// Its file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// Its file is no database any more, or parts of it are lost.
    #[error("the metadata database `{}` is damaged", path.display())]
    Damaged {
        /// Its file.
        path: PathBuf,
        /// What shows it.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A newer program wrote it.
    #[error(
        "the metadata database `{}` has schema version {found}; this program knows versions up to {known}",
        path.display()
    )]
    NewerSchema {
        /// Its file.
        path: PathBuf,
        /// The version of the file.
        found: i64,
        /// The newest version that this program knows.
        known: i64,
    },
    /// A statement failed.
    #[error("the metadata database `{}` failed to {action}", path.display())]
    Database {
        /// Its file.
        path: PathBuf,
        /// What was being done.
        action: &'static str,
        /// Why it failed.
        #[source]
        source: rusqlite::Error,
    },
    /// A record in the database is not what this program writes.
    #[error("the record of {what} in the metadata database is damaged")]
    Record {
        /// What the record is of.
        what: &'static str,
        /// Why it is not understood.
        #[source]
        source: serde_json::Error,
    },
    /// A digest or an id in the database is malformed.
    #[error("the metadata database holds `{text}` where a digest belongs")]
    Malformed {
        /// What it holds.
        text: String,
    },
    /// The name belongs to another container.
    #[error(
        "Conflict. The container name \"/{name}\" is already in use by container \"{holder}\". You have to remove (or rename) \
         that container to be able to reuse that name."
    )]
    NameTaken {
        /// The name.
        name: String,
        /// The container that has it.
        holder: ContainerId,
    },
    /// There is no such container.
    #[error("no container {}", id.short())]
    NoContainer {
        /// The id looked for.
        id: ContainerId,
    },
    /// There is no such image.
    #[error("no image {}", id.short())]
    NoImage {
        /// The id looked for.
        id: Digest,
    },
    /// Containers are made of the image.
    #[error("image {} is in use by {} container(s)", image.short(), containers.len())]
    InUse {
        /// The image.
        image: Digest,
        /// The containers made of it.
        containers: Vec<ContainerId>,
    },
    /// A volume's name is none.
    #[error(transparent)]
    VolumeName {
        /// Why.
        source: VolumeNameError,
    },
    /// There is no such volume.
    #[error("get {name}: no such volume")]
    NoVolume {
        /// The name looked for.
        name: String,
    },
    /// Containers use the volume.
    #[error(
        "remove {name}: volume is in use - [{}]",
        users.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    )]
    VolumeInUse {
        /// The volume.
        name: String,
        /// The containers that use it.
        users: Vec<ContainerId>,
    },
    /// There is no such network.
    #[error("network {name} not found")]
    NoNetwork {
        /// The name or id looked for.
        name: String,
    },
    /// A network has this name.
    #[error("network with name {name} already exists")]
    NetworkTaken {
        /// The name.
        name: String,
    },
    /// Containers that run are on the network.
    #[error(
        "error while removing network: network {name} has active endpoints ({})",
        users.iter().map(|(name, id)| format!("name:{name:?} id:{:?}", &id[..12])).collect::<Vec<_>>().join(", ")
    )]
    NetworkInUse {
        /// The network.
        name: String,
        /// Names and ids of the containers.
        users: Vec<(String, String)>,
    },
    /// It is there already.
    #[error("endpoint with name {container} already exists in network {network}")]
    Connected {
        /// The container's name.
        container: String,
        /// The network's name.
        network: String,
    },
    /// It is not there.
    #[error("container {container} is not connected to network {network}")]
    NotConnected {
        /// The container's name.
        container: String,
        /// The network's name.
        network: String,
    },
    /// Another container has the address.
    #[error("Address already in use: {address} belongs to container {}", holder.short())]
    AddressTaken {
        /// The address.
        address: String,
        /// The container that has it.
        holder: ContainerId,
    },
    /// Another container has the port.
    #[error(
        "failed to bind host port {}/{}: address already in use by container {holder}",
        std::net::SocketAddr::new(port.address, port.host),
        port.protocol.name()
    )]
    PortTaken {
        /// The port.
        port: PublishedPort,
        /// The name of the container that has it.
        holder: String,
    },
    /// A volume's files could not be taken away; nothing was changed.
    #[error("removing the files of volume `{name}`")]
    Retire {
        /// The volume.
        name: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A step around the database failed.
    #[error("the metadata database failed to {action}")]
    Step {
        /// What was being done.
        action: &'static str,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// A lease's lock cannot be had.
    #[error("cannot {action} `{}`", path.display())]
    Lease {
        /// What was attempted.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// What runs inside a collection failed; nothing was recorded.
    #[error("collecting what is unused failed")]
    Collect {
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Kind for StateError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::VolumeName { source } => source.kind(),
            Self::NameTaken { .. }
            | Self::InUse { .. }
            | Self::VolumeInUse { .. }
            | Self::NetworkTaken { .. }
            | Self::NetworkInUse { .. }
            | Self::Connected { .. }
            | Self::NotConnected { .. }
            | Self::AddressTaken { .. }
            | Self::PortTaken { .. } => ErrorKind::Conflict,
            Self::NoContainer { .. }
            | Self::NoImage { .. }
            | Self::NoVolume { .. }
            | Self::NoNetwork { .. } => ErrorKind::NotFound,
            Self::NewerSchema { .. } => ErrorKind::Unsupported,
            Self::Open { source, .. } | Self::Database { source, .. } => match source.sqlite_error_code() {
                Some(
                    rusqlite::ErrorCode::DatabaseBusy
                    | rusqlite::ErrorCode::DatabaseLocked
                    | rusqlite::ErrorCode::DiskFull,
                ) => ErrorKind::Unavailable,
                Some(rusqlite::ErrorCode::PermissionDenied | rusqlite::ErrorCode::ReadOnly) => {
                    ErrorKind::Forbidden
                }
                _ => ErrorKind::Internal,
            },
            Self::Retire { .. } | Self::Lease { .. } | Self::Step { .. } => ErrorKind::Unavailable,
            Self::Damaged { .. } | Self::Record { .. } | Self::Malformed { .. } | Self::Collect { .. } => {
                ErrorKind::Internal
            }
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::NameTaken { name, .. } => {
                vec![format!("remove or rename the container `{name}`, or choose another name")]
            }
            Self::InUse { .. } | Self::VolumeInUse { .. } => vec!["remove the containers first".into()],
            Self::Record { .. } | Self::Malformed { .. } => {
                vec!["`umiak system check --repair` mends what can be mended".into()]
            }
            Self::NetworkInUse { .. } => {
                vec!["disconnect or stop the containers first, or use `umiak network disconnect -f`".into()]
            }
            Self::PortTaken { holder, .. } => {
                vec![format!("stop the container `{holder}`, or publish another port")]
            }
            Self::Damaged { .. } => vec![
                "`umiak system check --repair` puts the file aside and records anew what is there: images, volumes, and what \
                 can still be read of the rest"
                    .into(),
            ],
            Self::Open { path, .. } => {
                vec![format!("see who may read and write `{}`, and its folder", path.display())]
            }
            Self::Database { source, path, .. } if source.sqlite_error_code() == Some(rusqlite::ErrorCode::ReadOnly) => {
                vec![format!("see who may write `{}`, its folder, and the file system", path.display())]
            }
            Self::NewerSchema { .. } => vec!["use the newer version of this program".into()],
            _ => Vec::new(),
        }
    }
}
