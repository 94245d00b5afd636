//! A bridge in a network namespace of its own: a switch between containers, and nothing else.
//!
//! No process is in such a namespace. It lives while somebody holds a descriptor of it, and what is in it, the bridge and the ends of
//! the containers' devices, goes with it. Who else needs it finds it by a descriptor of a process that has one.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use super::netlink::Socket;
use super::{Bridge, Namespace, NetError, Port, ensure_bridge, failed, links};
use crate::sys;

/// Whether what arrives for others is passed on, in the namespace of the thread that looks.
const FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";

/// Where a namespace's descriptor is in a process: its number, and the inode of what it leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handle {
    /// The descriptor.
    pub descriptor: i32,
    /// The namespace's inode.
    pub inode: u64,
}

/// A new namespace of the network has the host's setting for IPv4; that of IPv6 begins as off.
fn forward_nothing() -> io::Result<()> {
    if std::fs::read_to_string(FORWARD)?.trim() != "0" {
        std::fs::write(FORWARD, "0")?;
    }
    Ok(())
}

impl Namespace {
    /// A new one without a process in it, which passes nothing on between its links. It belongs to this process's user namespace.
    pub fn make() -> Result<Self, NetError> {
        let enter = || -> io::Result<File> {
            sys::unshare_network()?;
            forward_nothing()?;
            File::open("/proc/thread-self/ns/net")
        };
        let made = std::thread::scope(|scope| {
            let thread = scope.spawn(enter);
            thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread that made it died")))
        });
        made.map(Self).map_err(failed("making", "a network namespace"))
    }

    /// The one that a process holds by this handle; `None` when it holds it no more.
    pub fn held(pid: u32, handle: Handle) -> Result<Option<Self>, NetError> {
        let path = format!("/proc/{pid}/fd/{}", handle.descriptor);
        let gone = |error: &io::Error| {
            error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
        };
        let open = || -> io::Result<Option<File>> {
            // Nothing else is opened, since that might wait or change something.
            if std::fs::read_link(&path)? != Path::new(&format!("net:[{}]", handle.inode)) {
                return Ok(None);
            }
            let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path)?;
            Ok((file.metadata()?.ino() == handle.inode).then_some(file))
        };
        match open() {
            Ok(found) => Ok(found.map(Self)),
            Err(error) if gone(&error) => Ok(None),
            Err(error) => Err(failed("opening", &path)(error)),
        }
    }

    /// By what other processes find it while this one holds it.
    pub fn handle(&self) -> io::Result<Handle> {
        Ok(Handle { descriptor: self.0.as_fd().as_raw_fd(), inode: self.0.metadata()?.ino() })
    }

    /// Makes a bridge in it, if there is none of this name.
    pub fn bridge(&self, bridge: &Bridge) -> Result<(), NetError> {
        self.run(|| Ok(ensure_bridge(bridge))).map_err(failed("making the bridge", &bridge.name))?.map(drop)
    }

    /// Connects a container with bridges of this namespace. A device of the same name that is there goes before.
    pub fn connect_here(&self, container: &Self, ports: &[Port]) -> Result<(), NetError> {
        let socket = self.run(Socket::route).map_err(failed("connecting", "the container"))?;
        for port in ports {
            links::remove(&socket, &port.here).map_err(failed("disconnecting", &port.here))?;
        }
        container.connect_over(&socket, ports)
    }

    /// Sees to it that it passes nothing on between its links.
    pub fn forward_nothing(&self) -> Result<(), NetError> {
        self.run(forward_nothing).map_err(failed("switching forwarding off in", "the container"))
    }

    /// Removes this namespace's end of a connection, and with it the container's; one that is not there is no failure.
    pub fn disconnect(&self, here: &str) -> Result<(), NetError> {
        let remove = || links::remove(&Socket::route()?, here);
        self.run(remove).map_err(failed("disconnecting", here))
    }
}
