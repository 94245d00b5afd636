//! Networks of containers: bridges, pairs of virtual Ethernet devices, the firewall's table.
//!
//! Everything goes to the kernel over netlink; no program is spawned, and nothing of the host's that this crate did not make is
//! changed, except that forwarding is switched on for the versions of IP that a bridge has. A device in a container's network
//! namespace is gone with the namespace, and takes its other end along.

mod conntrack;
mod hub;
mod links;
mod netlink;
mod nft;

use std::collections::hash_map::DefaultHasher;
use std::fs::File;
use std::hash::{Hash, Hasher};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

pub use hub::Handle;
pub use links::Prefix;
use netlink::Socket;
pub use nft::{BridgeRules, Obstacle, PortRule, Rules, generation, obstacles, redirect, replace};

/// A change of the host's network that was refused.
#[derive(Debug, thiserror::Error)]
#[error("{action} `{subject}`")]
pub struct NetError {
    /// What was being done.
    pub action: &'static str,
    /// To what.
    pub subject: String,
    /// Why not.
    #[source]
    pub source: io::Error,
}

fn failed(action: &'static str, subject: &str) -> impl FnOnce(io::Error) -> NetError {
    let subject = subject.to_owned();
    move |source| NetError { action, subject, source }
}

/// A bridge: a switch between containers, and the host's place on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bridge {
    /// The link's name, at most 15 bytes.
    pub name: String,
    /// The host's addresses on it: the containers' gateways.
    pub addresses: Vec<Prefix>,
    /// The largest packet in bytes; `None` is the kernel's default.
    pub mtu: Option<u32>,
}

/// Makes a bridge, if there is none of this name; whether it was made.
pub fn ensure_bridge(bridge: &Bridge) -> Result<bool, NetError> {
    let action = "making the bridge";
    let socket = Socket::route().map_err(failed(action, &bridge.name))?;
    if let Some(found) = links::find(&socket, &bridge.name).map_err(failed(action, &bridge.name))? {
        return if found.kind == "bridge" {
            Ok(false)
        } else {
            Err(failed(action, &bridge.name)(io::ErrorKind::AlreadyExists.into()))
        };
    }
    let make = || -> io::Result<()> {
        forward(&bridge.addresses)?;
        links::add_bridge(&socket, &bridge.name, own_address(&bridge.name), bridge.mtu)?;
        let made = links::find(&socket, &bridge.name)?.ok_or(io::ErrorKind::NotFound)?;
        let v6 = bridge.addresses.iter().any(|(address, _)| address.is_ipv6());
        quiet(&bridge.name, v6)?;
        links::configure(&socket, made.index, &bridge.addresses, &[])
    };
    match make() {
        Ok(()) => Ok(true),
        // Somebody else made it just now.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => {
            // Half a bridge would be taken for a whole one.
            let _ = links::remove(&socket, &bridge.name);
            Err(failed(action, &bridge.name)(error))
        }
    }
}

/// A hardware address of a bridge's own, always the same: one that is administered locally, as containers have them.
fn own_address(name: &str) -> [u8; 6] {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    let [a, b, c, d, ..] = hasher.finish().to_be_bytes();
    [0x02, 0x42, a, b, c, d]
}

/// Brings a link up: in a new network namespace even the loopback device is down.
pub fn up(link: &str) -> Result<(), NetError> {
    let up = || -> io::Result<()> {
        let socket = Socket::route()?;
        let found = links::find(&socket, link)?.ok_or(io::ErrorKind::NotFound)?;
        links::configure(&socket, found.index, &[], &[])
    };
    up().map_err(failed("bringing up", link))
}

/// Removes a bridge; one that is not there is no failure.
pub fn remove_bridge(name: &str) -> Result<(), NetError> {
    let remove = || links::remove(&Socket::route()?, name);
    remove().map_err(failed("removing the bridge", name))
}

/// The names of all bridges of the host.
pub fn bridges() -> Result<Vec<String>, NetError> {
    let list = || -> io::Result<Vec<String>> {
        let links = links::all(&Socket::route()?)?;
        Ok(links.into_iter().filter(|link| link.kind == "bridge").map(|link| link.name).collect())
    };
    list().map_err(failed("listing", "bridges"))
}

/// The networks that the host has routes to; default routes are left aside, and those over this link.
pub fn routes(aside: Option<&str>) -> Result<Vec<Prefix>, NetError> {
    let list = || {
        let socket = Socket::route()?;
        let aside = match aside {
            Some(link) => links::find(&socket, link)?,
            None => None,
        };
        links::destinations(&socket, &aside.map(|link| link.index).into_iter().collect::<Vec<_>>())
    };
    list().map_err(failed("listing", "routes"))
}

/// Makes the kernel forget where it has sent packets of UDP so far that are for these ports of the host; the address is one of
/// the host's, or unspecified for all of them. How many exchanges it had remembered.
///
/// An exchange goes where it went at first for as long as packets come, whatever the firewall's table says by now.
pub fn forget_exchanges(ports: &[SocketAddr]) -> Result<usize, NetError> {
    let forget = || {
        let all = if ports.iter().any(|port| port.ip().is_unspecified()) {
            links::addresses(&Socket::route()?)?
        } else {
            Vec::new()
        };
        conntrack::forget(ports, &all)
    };
    forget().map_err(failed("forgetting exchanges with", "published ports of UDP"))
}

/// Switches forwarding on where it is off.
fn forward(addresses: &[Prefix]) -> io::Result<()> {
    for (v4, file) in [(true, "net/ipv4/ip_forward"), (false, "net/ipv6/conf/all/forwarding")] {
        let path = Path::new("/proc/sys").join(file);
        if addresses.iter().any(|(address, _)| address.is_ipv4() == v4)
            && std::fs::read_to_string(&path)?.trim() == "0"
        {
            std::fs::write(&path, "1")?;
        }
    }
    Ok(())
}

/// Nobody on a link may tell this host of routers, and one without IPv6 has none at all.
///
/// What is seen below `/proc/sys/net` belongs to the namespace of the thread that looks.
fn quiet(link: &str, v6: bool) -> io::Result<()> {
    let folder = Path::new("/proc/sys/net/ipv6/conf").join(link);
    // Its own announcement, sent back by a bridge, would look like somebody else's claim on its address.
    let values = [("accept_ra", "0"), ("accept_dad", "0"), ("disable_ipv6", if v6 { "0" } else { "1" })];
    for (file, value) in values {
        match std::fs::write(folder.join(file), value) {
            // The kernel has no IPv6.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !v6 => {}
            outcome => outcome?,
        }
    }
    Ok(())
}

/// One connection of a container with a bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// The bridge.
    pub bridge: String,
    /// The end that stays on the host.
    pub here: String,
    /// The container's end, as it is called there: `eth0`.
    pub there: String,
    /// Its hardware address.
    pub mac: [u8; 6],
    /// The container's addresses.
    pub addresses: Vec<Prefix>,
    /// Where everything else goes.
    pub gateways: Vec<IpAddr>,
    /// The largest packet in bytes.
    pub mtu: Option<u32>,
    /// It may reach its own published ports.
    pub hairpin: bool,
    /// It reaches no other isolated port of the bridge.
    pub isolated: bool,
}

/// A container's network namespace.
#[derive(Debug)]
pub struct Namespace(File);

impl Namespace {
    /// That of a process. The caller answers for it that the number still is that process's.
    pub fn of(pid: u32) -> Result<Self, NetError> {
        let path = format!("/proc/{pid}/ns/net");
        let file = File::open(&path).map_err(failed("opening", &path))?;
        Ok(Self(file))
    }

    /// Runs something within it, on a thread of its own: what is opened there stays there.
    pub fn run<T: Send>(&self, job: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        let file = self.0.as_fd();
        std::thread::scope(|scope| {
            let run = scope.spawn(move || {
                enter(file)?;
                job()
            });
            run.join().unwrap_or_else(|_| Err(io::Error::other("a thread in the network namespace died")))
        })
    }

    /// Connects a container with bridges, in this order.
    pub fn connect(&self, ports: &[Port]) -> Result<(), NetError> {
        let host = Socket::route().map_err(failed("connecting", "the container"))?;
        self.connect_over(&host, ports)
    }

    /// The same with bridges of the namespace that the socket was opened in.
    fn connect_over(&self, host: &Socket, ports: &[Port]) -> Result<(), NetError> {
        for port in ports {
            let action = "connecting the container with the bridge";
            let bridge = links::find(host, &port.bridge).map_err(failed(action, &port.bridge))?;
            let bridge =
                bridge.ok_or_else(|| failed(action, &port.bridge)(io::ErrorKind::NotFound.into()))?;
            let pair = links::Pair {
                here: &port.here,
                bridge: bridge.index,
                there: &port.there,
                mac: port.mac,
                mtu: port.mtu,
                hairpin: port.hairpin,
                isolated: port.isolated,
            };
            links::add_pair(host, &pair, self.0.as_fd()).map_err(failed(action, &port.bridge))?;
        }
        let inside = self.run(|| {
            let socket = Socket::route()?;
            for port in ports {
                let found = links::find(&socket, &port.there)?.ok_or(io::ErrorKind::NotFound)?;
                let v6 = port.addresses.iter().any(|(address, _)| address.is_ipv6());
                quiet(&port.there, v6)?;
                links::configure(&socket, found.index, &port.addresses, &port.gateways)?;
            }
            Ok(())
        });
        inside.map_err(failed("giving addresses to", "the container"))
    }
}

impl Namespace {
    /// Sends everything else over a device that is there, to these gateways.
    pub fn route(&self, there: &str, gateways: &[IpAddr]) -> Result<(), NetError> {
        let route = || {
            let socket = Socket::route()?;
            let found = links::find(&socket, there)?.ok_or(io::ErrorKind::NotFound)?;
            links::configure(&socket, found.index, &[], gateways)
        };
        self.run(route).map_err(failed("changing the default route to", there))
    }

    /// The same, in place of whatever default routes there are.
    pub fn replace_route(&self, there: &str, gateways: &[IpAddr]) -> Result<(), NetError> {
        let route = || {
            let socket = Socket::route()?;
            let found = links::find(&socket, there)?.ok_or(io::ErrorKind::NotFound)?;
            links::replace_routes(&socket, found.index, gateways)
        };
        self.run(route).map_err(failed("changing the default route to", there))
    }
}

/// Moves this thread into a network namespace.
fn enter(namespace: BorrowedFd<'_>) -> io::Result<()> {
    use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
    Ok(move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))?)
}

/// Takes the host's end of a connection out of its bridge: nothing comes or goes any more, and the rest may take its time. One that
/// is not there is no failure.
pub fn cut_off(here: &str) -> Result<(), NetError> {
    let cut = || links::take_out(&Socket::route()?, here);
    cut().map_err(failed("disconnecting", here))
}

/// Removes the host's end of a connection, and with it the container's; one that is not there is no failure.
pub fn disconnect(here: &str) -> Result<(), NetError> {
    let remove = || links::remove(&Socket::route()?, here);
    remove().map_err(failed("disconnecting", here))
}
