//! What can go wrong with networks.

use std::io;
use std::net::{IpAddr, SocketAddr};

use crate::model::{ErrorKind, Kind, NetworkNameError, PublishedPort, Subnet};
use crate::state::StateError;

/// A failure around networks. Where docker has a message, it is docker's.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The records.
    #[error(transparent)]
    State(#[from] StateError),
    /// No name of a network.
    #[error(transparent)]
    Name(#[from] NetworkNameError),
    /// The kernel refuses something.
    #[error("{action} `{subject}`")]
    Kernel {
        /// What was being done.
        action: &'static str,
        /// To what.
        subject: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The firewall's table cannot be changed.
    #[error("writing the table `{table}` of nftables")]
    Firewall {
        /// The table.
        table: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The kernel was built without something, or its module is not loaded.
    #[error("this kernel has no {part}, which networks of containers need")]
    NoKernelPart {
        /// What is not there.
        part: KernelPart,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Containers of this store have networks elsewhere.
    #[error("this store's networks are up in another network namespace of the host")]
    Elsewhere,
    /// A file of the engine's own.
    #[error("cannot use `{}`", path.display())]
    File {
        /// The file.
        path: std::path::PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// All of docker's subnets are in use.
    #[error("all predefined address pools have been fully subnetted")]
    NoSubnet,
    /// Two networks would share addresses.
    #[error(
        "invalid pool request: Pool overlaps with other one on this address space: {subnet} and {other} of network {network}"
    )]
    Overlap {
        /// The new one.
        subnet: Subnet,
        /// The one that is there.
        other: Subnet,
        /// Whose it is.
        network: String,
    },
    /// The host reaches something else by these addresses.
    #[error("cannot use {subnet} for network {network}: it overlaps the host's route to {route}")]
    Route {
        /// The network's subnet.
        subnet: Subnet,
        /// The host's route.
        route: Subnet,
        /// The network.
        network: String,
    },
    /// All addresses of a network are in use.
    #[error("no available {version} addresses on this network's address pools: {network} ({id})")]
    UsedUp {
        /// `IPv4` or `IPv6`.
        version: &'static str,
        /// The network.
        network: String,
        /// Its id.
        id: String,
    },
    /// An address that is not the network's.
    #[error("invalid endpoint settings: no configured subnet contains IP address {address}")]
    Outside {
        /// As asked for.
        address: IpAddr,
    },
    /// An address on a network whose subnet nobody chose.
    #[error(
        "invalid config for network: user specified IP address is supported only when connecting to networks with user configured subnets"
    )]
    NotChosen,
    /// An address that no container gets.
    #[error("Address already in use: {address} is the network's own")]
    Reserved {
        /// As asked for.
        address: IpAddr,
    },
    /// A wish for a network that cannot be.
    #[error("{message}")]
    Invalid {
        /// In docker's words.
        message: String,
    },
    /// One of the three networks that are always there.
    #[error("{message}")]
    Predefined {
        /// In docker's words.
        message: String,
    },
    /// Somebody else listens on a port.
    #[error(
        "failed to bind host port {}/{}: address already in use{}",
        SocketAddr::new(port.address, port.host),
        port.protocol.name(),
        holder.as_ref().map(|holder| format!(" by {holder}")).unwrap_or_default()
    )]
    PortInUse {
        /// The port.
        port: PublishedPort,
        /// Who it is, where that can be told.
        holder: Option<String>,
    },
    /// A port cannot be had.
    #[error("failed to bind host port {}/{}", SocketAddr::new(port.address, port.host), port.protocol.name())]
    Port {
        /// The port.
        port: PublishedPort,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Every port of a range is in use.
    #[error("failed to bind host ports {first}-{last}/{protocol}: all of them are in use")]
    NoPort {
        /// The first one.
        first: u16,
        /// The last one.
        last: u16,
        /// The protocol's name.
        protocol: &'static str,
    },
    /// Only root may.
    #[error("{what} needs root")]
    Root {
        /// What was asked for.
        what: &'static str,
    },
    /// What gives an ordinary user's containers the network is not there.
    #[error("{what} needs root or `pasta`: {missing}")]
    NoPasta {
        /// What was asked for.
        what: &'static str,
        /// What is not there.
        missing: Missing,
    },
    /// `pasta` ended before the container was connected.
    #[error("connecting the container by `{}`: {said}", program.display())]
    Pasta {
        /// The program.
        program: std::path::PathBuf,
        /// Its last words.
        said: String,
    },
    /// This system has none.
    #[error("networks of containers need a Linux host")]
    Unsupported,
}

/// What networks need of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KernelPart {
    /// Switches between containers.
    #[error("bridges")]
    Bridge,
    /// Containers' devices.
    #[error("pairs of virtual Ethernet devices")]
    Veth,
    /// The firewall.
    #[error("nftables with address translation")]
    Nftables,
}

/// What `pasta` lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// The program.
    #[error("it is not installed")]
    Program,
    /// The kernel's device.
    #[error("`/dev/net/tun` cannot be opened by this user")]
    Device,
    /// A way outside of the host's own.
    #[error("the host has no default route")]
    Route,
}

impl NetworkError {
    /// The kernel refuses something.
    pub(super) fn kernel(action: &'static str, subject: &str) -> impl FnOnce(io::Error) -> Self {
        let subject = subject.to_owned();
        move |source| Self::Kernel { action, subject, source }
    }
}

/// The class of what the system says.
fn class(error: &io::Error) -> ErrorKind {
    match error.kind() {
        io::ErrorKind::PermissionDenied => ErrorKind::Forbidden,
        io::ErrorKind::Unsupported => ErrorKind::Unsupported,
        _ => ErrorKind::Unavailable,
    }
}

impl Kind for NetworkError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::State(error) => error.kind(),
            Self::Name(_) | Self::Invalid { .. } | Self::Outside { .. } | Self::NotChosen => {
                ErrorKind::InvalidInput
            }
            Self::Overlap { .. }
            | Self::Route { .. }
            | Self::Reserved { .. }
            | Self::Elsewhere
            | Self::PortInUse { .. }
            | Self::NoPort { .. } => ErrorKind::Conflict,
            Self::NoSubnet
            | Self::UsedUp { .. }
            | Self::File { .. }
            | Self::NoPasta { .. }
            | Self::Pasta { .. } => ErrorKind::Unavailable,
            Self::Predefined { .. } | Self::Root { .. } => ErrorKind::Forbidden,
            Self::Unsupported | Self::NoKernelPart { .. } => ErrorKind::Unsupported,
            Self::Kernel { source, .. } | Self::Firewall { source, .. } | Self::Port { source, .. } => {
                class(source)
            }
        }
    }

    fn hints(&self) -> Vec<String> {
        let hint = match self {
            Self::State(error) => return error.hints(),
            Self::Firewall { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "networks need CAP_NET_ADMIN: run as root"
            }
            Self::NoKernelPart { part: KernelPart::Nftables, .. } => {
                "load its modules (`modprobe -a nf_tables nft_chain_nat nft_masq nft_fib_inet`), or use `--network none` or `host`"
            }
            Self::NoKernelPart { part: KernelPart::Bridge, .. } => {
                "load the module (`modprobe bridge`), or use `--network none` or `host`"
            }
            Self::NoKernelPart { part: KernelPart::Veth, .. } => {
                "load the module (`modprobe veth`), or use `--network none` or `host`"
            }
            Self::Kernel { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "networks need CAP_NET_ADMIN: run as root"
            }
            Self::Elsewhere => {
                "stop the containers on them, or start this one from the namespace in which they were started"
            }
            Self::NoSubnet => {
                "remove networks that nobody uses (`umiak network prune`), or name a subnet with --subnet"
            }
            Self::Overlap { .. } => "choose another subnet, or remove the other network",
            Self::Route { .. } => "make the network with another `--subnet`, or remove the route",
            Self::UsedUp { .. } => "remove containers of this network, or make one with a larger subnet",
            Self::PortInUse { .. } | Self::NoPort { .. } => "end what listens there, or publish another port",
            Self::NoPasta { missing: Missing::Program, .. } => {
                "install `pasta` (Debian's package `passt`), or use `--network none` or `host`"
            }
            Self::NoPasta { missing: Missing::Device, .. } => {
                "load the module `tun` and let users open the device (`chmod 666 /dev/net/tun`)"
            }
            Self::NoPasta { missing: Missing::Route, .. } => "connect the host with a network",
            Self::Port { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "users may have ports from `net.ipv4.ip_unprivileged_port_start` on (mostly 1024)"
            }
            Self::Root { .. } => "run as root, or use `--network none` or `host`",
            _ => return Vec::new(),
        };
        vec![hint.to_owned()]
    }
}
