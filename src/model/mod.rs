//! Pure data of the engine and its state machine: no I/O, no clock, no global.
//!
//! Everything here is a value that several modules share and that is written to the metadata database or shown to a user.
//! Invariant: a value of these types is valid once it exists ([`Digest`], [`ContainerId`] and [`Platform`] check on the way
//! in), so no other module checks again. Times are [`Timestamp`]s in UTC with nanoseconds; sizes are bytes.

mod container;
mod digest;
mod event;
mod group;
mod host;
mod id;
mod image;
mod kind;
mod list;
mod network;
mod platform;
pub mod signal;
mod volume;

pub use container::{
    Container, ContainerConfig, ExecutorChoice, Health, HealthProbe, HealthStatus, Healthcheck, OciRuntime,
    Root, RunState, RuntimeStatus, variables_over,
};
pub use digest::{Digest, DigestError};
pub use event::{Event, EventType};
pub use group::{GroupParent, GroupParentError};
pub use host::{
    DeviceMapping, HostConfig, HostIds, LogConfig, LogDriver, Mount, MountSource, NamespaceMode, NetworkMode,
    Propagation, Resources, RestartPolicy, SeccompChoice, Security, Ulimit, UserNamespace,
};
pub use id::{ContainerId, IdError};
pub use image::{Image, ImageConfig, Layer, LayerKind, Packaging};
pub use jiff::Timestamp;
pub use kind::{ErrorKind, Kind, chain};
pub use list::ListEntry;
pub use network::{
    DEFAULT_NETWORK, Endpoint, EndpointSettings, ExtraHost, Lease, Link, MacAddress, MacError, Network,
    NetworkDriver, NetworkNameError, Pool, PortBinding, Protocol, PublishedPort, Subnet, SubnetError,
    check_network_name,
};
pub use platform::{Platform, PlatformError};
pub use volume::{Volume, VolumeMount, VolumeNameError, VolumeOptionError};
