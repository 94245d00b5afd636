//! What of the host's network is ours: bridges, one table of nftables, the ends of containers' devices.
//!
//! One lock serialises the changes of every engine of the host, whatever its store. It is on a file that root alone can open: of one
//! that others can open too, as the namespace itself, anybody could hold a lock, and nobody could start a container.
//!
//! A small file in the run directory says which bridges were made and which rules were written. It is written before a bridge is
//! made and removed after the last one is gone, so that whoever finds it without a container that has addresses knows that a crash
//! left something. What another program does to the table (a flush) is seen by the kernel's count of changes.
//!
//! A network comes up with its first container and goes with its last: a moment after the container (see [`linger`]), or after a crash
//! with the next command.
//!
//! Why no daemon that keeps all this: it would be one more thing to be up, and everything it knew is in the database.

use std::collections::BTreeSet;
use std::collections::hash_map::DefaultHasher;
use std::fs::File;
use std::hash::{Hash, Hasher};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use runtime_linux::net::{self, Bridge, BridgeRules, Namespace, NetError, Port, PortRule, Rules};
use serde::{Deserialize, Serialize};

use super::linger::{self, Lingering};
use super::ports::{Held, hold};
use super::{Connected, KernelPart, NetworkError, bridge_name, device, gateway, host_device, make, pool};
use crate::model::{Container, ContainerId, Network, NetworkDriver, Protocol, Subnet, chain};
use crate::state::{Database, StateError};

/// The namespace of this process.
const NAMESPACE: &str = "/proc/thread-self/ns/net";

/// What is locked. It stays: who removed it would have to hold it.
const LOCK: &str = "/run/umiak-network.lock";

/// How often a change of the table is tried while others change tables as well.
const TRIES: u32 = 100;

/// The host's network as one store sees it.
#[derive(Debug, Clone)]
pub struct Kernel {
    table: String,
    file: PathBuf,
    default_bridge: Option<&'static str>,
}

/// What is up, as the file says it.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Up {
    /// The boot and the namespace that it is about.
    place: String,
    /// The kernel's count of changes after ours.
    generation: u32,
    /// Of the rules that were written.
    rules: u64,
    /// Links that were made.
    bridges: Vec<String>,
    /// Ports of UDP, and where they lead.
    #[serde(default)]
    packets: BTreeSet<(SocketAddr, SocketAddr)>,
}

/// The lock of the host's network.
#[derive(Debug)]
struct Lock {
    _file: File,
}

/// What a container has while it is up. Its ports of the host are held by the sockets.
#[derive(Debug)]
pub struct Attached {
    /// Its networks and addresses there.
    pub connected: Vec<Connected>,
    /// Its ports.
    pub ports: Vec<Held>,
}

pub(super) fn refused(error: NetError) -> NetworkError {
    NetworkError::Kernel { action: error.action, subject: error.subject, source: error.source }
}

/// The same of a link: a kind that the kernel does not know is told as what is missing.
fn no_link(part: KernelPart) -> impl Fn(NetError) -> NetworkError {
    move |error| match error.source.raw_os_error() {
        Some(libc::EOPNOTSUPP) => NetworkError::NoKernelPart { part, source: error.source },
        _ => refused(error),
    }
}

/// The firewall refuses something. A kernel without nftables says so in several ways: it has no such socket, does not know the
/// request, or has no such kind of chain or rule.
fn no_rules(table: &str, source: io::Error, asked: bool) -> NetworkError {
    match source.raw_os_error() {
        Some(libc::EPROTONOSUPPORT | libc::EOPNOTSUPP | libc::EAFNOSUPPORT | libc::ENOENT) => {
            NetworkError::NoKernelPart { part: KernelPart::Nftables, source }
        }
        // The plainest of all questions.
        Some(libc::EINVAL) if asked => NetworkError::NoKernelPart { part: KernelPart::Nftables, source },
        _ => NetworkError::Firewall { table: table.to_owned(), source },
    }
}

fn lock() -> Result<Lock, NetworkError> {
    let failed = NetworkError::kernel("locking", LOCK);
    let lock = || {
        // Not through a link, should somebody have laid one there.
        let mut options = File::options();
        options.read(true).write(true).create(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let file = options.open(LOCK)?;
        file.lock()?;
        Ok(Lock { _file: file })
    };
    lock().map_err(failed)
}

fn place() -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let namespace = std::fs::metadata(NAMESPACE).map_or(0, |metadata| metadata.ino());
    format!("{} {namespace}", boot.trim())
}

/// The networks that the host has routes to.
pub fn routes() -> Result<Vec<Subnet>, NetworkError> {
    routes_beside(None)
}

/// The same, without those over this link.
fn routes_beside(link: Option<&str>) -> Result<Vec<Subnet>, NetworkError> {
    let routes = net::routes(link).map_err(refused)?;
    Ok(routes.into_iter().map(|(address, bits)| Subnet::of(address, bits)).collect())
}

fn prefixes(network: &Network) -> Vec<(IpAddr, u8)> {
    let gateway = |pool: &crate::model::Pool| Some((pool.gateway?, pool.subnet.bits));
    network.pools.iter().filter_map(gateway).collect()
}

pub(super) fn mtu(network: &Network) -> Option<u32> {
    network.options.get(make::MTU)?.parse().ok()
}

impl Kernel {
    /// For the store in `root`, whose volatile files are in `run_root`.
    pub fn new(root: &Path, run_root: &Path) -> Self {
        let standard = root == Path::new("/var/lib/umiak");
        let mut hasher = DefaultHasher::new();
        root.hash(&mut hasher);
        let table = if standard { "umiak".to_owned() } else { format!("umiak-{:016x}", hasher.finish()) };
        Self { table, file: run_root.join("network.json"), default_bridge: standard.then_some("umiak0") }
    }

    /// The name of the default network's link, where it is not one by its id.
    pub fn default_bridge(&self) -> Option<&'static str> {
        self.default_bridge
    }

    /// Other programs' chains of the firewall that let nothing of ours through by themselves.
    pub fn obstacles(&self) -> Result<Vec<String>, NetworkError> {
        let found = net::obstacles(&self.table).map_err(|source| no_rules(&self.table, source, true))?;
        let name =
            |one: net::Obstacle| format!("the chain {} of the table {} {}", one.chain, one.family, one.table);
        Ok(found.into_iter().map(name).collect())
    }

    /// Whether something of ours may be up.
    pub fn is_up(&self) -> bool {
        self.file.exists()
    }

    fn read(&self) -> Up {
        let place = place();
        let up = std::fs::read(&self.file).ok().and_then(|bytes| serde_json::from_slice::<Up>(&bytes).ok());
        // What was up before the last boot, or is up in another namespace, is not here.
        up.filter(|up| up.place == place).unwrap_or_else(|| Up { place, ..Up::default() })
    }

    /// Whether what is up is in another namespace of the host, where this process sees and changes nothing.
    fn is_elsewhere(&self) -> bool {
        let up = std::fs::read(&self.file).ok().and_then(|bytes| serde_json::from_slice::<Up>(&bytes).ok());
        let boot = |place: &str| place.split(' ').next().map(str::to_owned);
        let here = place();
        up.is_some_and(|up| up.place != here && boot(&up.place) == boot(&here))
    }

    fn write(&self, up: &Up) -> Result<(), NetworkError> {
        let failed = |source| NetworkError::File { path: self.file.clone(), source };
        let bytes = serde_json::to_vec(up).map_err(|error| failed(error.into()))?;
        if let Some(parent) = self.file.parent() {
            std::fs::create_dir_all(parent).map_err(failed)?;
        }
        // Whole or not at all: whoever is killed here leaves the old one.
        let new = self.file.with_extension("new");
        std::fs::write(&new, bytes).and_then(|()| std::fs::rename(&new, &self.file)).map_err(failed)
    }

    /// Gives a container addresses and ports, and brings its networks up. One that is started `again` has its ports already. What
    /// fails leaves nothing.
    pub fn attach(
        &self,
        database: &Database,
        container: &Container,
        again: bool,
    ) -> Result<Attached, NetworkError> {
        let lock = lock()?;
        let outcome = self.attach_locked(database, container, again);
        if outcome.is_err() {
            database.release_addresses(&container.id)?;
            if !self.is_elsewhere() {
                self.settle_locked(&lock, database)?;
            }
        }
        outcome
    }

    fn attach_locked(
        &self,
        database: &Database,
        container: &Container,
        again: bool,
    ) -> Result<Attached, NetworkError> {
        if self.is_elsewhere() && !database.active_networks()?.is_empty() {
            return Err(NetworkError::Elsewhere);
        }
        let mut up = self.read();
        let (connected, mut changed) = self.addresses(database, &mut up, container)?;
        let ports = if again { Vec::new() } else { hold(database, container, &connected)? };
        if !ports.is_empty() {
            let all: Vec<_> = ports.iter().map(|held| held.port).collect();
            database.publish(&container.id, &all)?;
            changed = true;
        }
        self.rules(database, &mut up, None, changed)?;
        Ok(Attached { connected, ports })
    }

    /// Gives a container that runs addresses on networks that it was just connected with.
    pub fn extend(&self, database: &Database, container: &Container) -> Result<Vec<Connected>, NetworkError> {
        let _lock = lock()?;
        let mut up = self.read();
        let (connected, changed) = self.addresses(database, &mut up, container)?;
        self.rules(database, &mut up, None, changed)?;
        Ok(connected)
    }

    /// Addresses on networks that are up; whether one has just come up.
    fn addresses(
        &self,
        database: &Database,
        up: &mut Up,
        container: &Container,
    ) -> Result<(Vec<Connected>, bool), NetworkError> {
        let networks = database.networks()?;
        let mut changed = false;
        let mut raised = Vec::new();
        for endpoint in database.endpoints_of(&container.id)? {
            let network = networks.iter().find(|network| network.id == endpoint.network);
            let Some(network) = network else {
                return Err(StateError::NoNetwork { name: endpoint.settings.network }.into());
            };
            changed |= self.raise(database, up, network, &networks, &raised)?;
            raised.push(bridge_name(network));
        }
        Ok((database.lease_addresses(&container.id, pool::lease)??, changed))
    }

    /// Brings a network's bridge up; whether it was made. Nobody is on those that were `raised` before, yet.
    fn raise(
        &self,
        database: &Database,
        up: &mut Up,
        network: &Network,
        all: &[Network],
        raised: &[String],
    ) -> Result<bool, NetworkError> {
        if network.driver != NetworkDriver::Bridge {
            return Ok(false);
        }
        let name = bridge_name(network);
        let bridge = |network: &Network| Bridge {
            name: name.clone(),
            addresses: prefixes(network),
            mtu: mtu(network),
        };
        if up.bridges.contains(&name) && (is_used(database, network)? || !clashes(network, Some(&name))?) {
            return net::ensure_bridge(&bridge(network)).map_err(no_link(KernelPart::Bridge));
        }
        if clashes(network, None)? {
            // It may be with what nobody uses any more.
            self.take_down(database, up, raised)?;
        }
        let network = without_clash(database, network, all)?;
        up.bridges.push(name.clone());
        self.write(up)?;
        match net::ensure_bridge(&bridge(&network)).map_err(no_link(KernelPart::Bridge)) {
            Ok(true) => Ok(true),
            other => {
                up.bridges.retain(|one| *one != name);
                self.write(up)?;
                other?;
                let exists = io::Error::from(io::ErrorKind::AlreadyExists);
                Err(NetworkError::kernel("making the bridge", &name)(exists))
            }
        }
    }

    /// Writes the rules, where they may not be there: for these bridges, or for all that are up.
    fn rules(
        &self,
        database: &Database,
        up: &mut Up,
        bridges: Option<&[String]>,
        changed: bool,
    ) -> Result<(), NetworkError> {
        let unknown = |source| no_rules(&self.table, source, true);
        let failed = |source| no_rules(&self.table, source, false);
        let mut generation = net::generation().map_err(unknown)?;
        if !changed && generation == up.generation {
            return Ok(());
        }
        let rules = rules(database, bridges.unwrap_or(&up.bridges))?;
        let mut hasher = DefaultHasher::new();
        rules.hash(&mut hasher);
        let hash = hasher.finish();
        if hash == up.rules && generation == up.generation {
            return Ok(());
        }
        for _ in 0..TRIES {
            match net::replace(&self.table, &rules, generation) {
                Ok(now) => {
                    (up.generation, up.rules) = (now, hash);
                    redirected(up, &rules);
                    return self.write(up);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    generation = net::generation().map_err(failed)?;
                }
                Err(error) => return Err(failed(error)),
            }
        }
        Err(failed(io::ErrorKind::Interrupted.into()))
    }

    /// Connects the namespace of a container's first process with all its networks.
    pub fn connect(&self, pid: u32, connected: &[Connected]) -> Result<(), NetworkError> {
        let ports: Vec<Port> = connected.iter().filter_map(|one| port(one, connected)).collect();
        if ports.is_empty() {
            return Ok(());
        }
        let namespace = Namespace::of(pid).map_err(refused)?;
        namespace.connect(&ports).map_err(no_link(KernelPart::Veth)).inspect_err(|_| {
            for port in &ports {
                // It may not have been made.
                let _ = net::disconnect(&port.here);
            }
        })
    }

    /// Connects a container that runs with one more network: the last of `connected`.
    pub fn plug(&self, pid: u32, connected: &[Connected]) -> Result<(), NetworkError> {
        let Some((last, before)) = connected.split_last() else { return Ok(()) };
        let Some(mut port) = port(last, connected) else { return Ok(()) };
        let replaces = |ipv6| gateway(before, ipv6).is_some();
        // A default route that is there is replaced only by hand of the kernel's: the old one goes first.
        let gateways = std::mem::take(&mut port.gateways);
        let (new, over): (Vec<_>, Vec<_>) = gateways.into_iter().partition(|one| !replaces(one.is_ipv6()));
        port.gateways = new;
        let namespace = Namespace::of(pid).map_err(refused)?;
        let plugged = namespace.connect(std::slice::from_ref(&port)).and_then(|()| {
            if over.is_empty() { Ok(()) } else { namespace.replace_route(&port.there, &over) }
        });
        plugged.map_err(no_link(KernelPart::Veth)).inspect_err(|_| drop(net::disconnect(&port.here)))
    }

    /// Ends a container's connection with a network; `left` are those that it still has.
    pub fn unplug(&self, pid: u32, gone: &Connected, left: &[Connected]) -> Result<(), NetworkError> {
        let Some(lease) = gone.1.lease else { return Ok(()) };
        net::disconnect(&host_device(&gone.1.container, lease.interface)).map_err(refused)?;
        for ipv6 in [false, true] {
            let mut all = left.to_vec();
            all.push(gone.clone());
            let was = gateway(&all, ipv6).is_some_and(|(network, _)| network.id == gone.0.id);
            if was
                && let Some(next) = gateway(left, ipv6)
                && let Some(port) = port(next, left)
            {
                let gateways: Vec<_> =
                    port.gateways.into_iter().filter(|one| one.is_ipv6() == ipv6).collect();
                Namespace::of(pid)
                    .and_then(|namespace| namespace.route(&port.there, &gateways))
                    .map_err(refused)?;
            }
        }
        Ok(())
    }

    /// Takes a container's devices out of their bridges: it has ended, and another may get its addresses at once.
    pub fn cut_off(&self, connected: &[Connected]) -> Result<(), NetworkError> {
        for (_, endpoint) in connected {
            if let Some(lease) = endpoint.lease {
                net::cut_off(&host_device(&endpoint.container, lease.interface)).map_err(refused)?;
            }
        }
        Ok(())
    }

    /// Removes a container's devices, wherever their other ends are.
    pub fn disconnect(&self, connected: &[Connected]) -> Result<(), NetworkError> {
        for (_, endpoint) in connected {
            if let Some(lease) = endpoint.lease {
                net::disconnect(&host_device(&endpoint.container, lease.interface)).map_err(refused)?;
            }
        }
        Ok(())
    }

    /// Takes everything back from a container whose supervisor is gone.
    pub fn forget(&self, database: &Database, container: &ContainerId) -> Result<(), NetworkError> {
        let mut had = false;
        for endpoint in database.endpoints_of(container)? {
            if let Some(lease) = endpoint.lease {
                had = true;
                net::disconnect(&host_device(container.as_str(), lease.interface)).map_err(refused)?;
            }
        }
        if had { Ok(database.release_addresses(container)?) } else { Ok(()) }
    }

    /// Whether other links were made than those that are wanted.
    pub fn is_stale(&self, wanted: &[String]) -> bool {
        if self.is_elsewhere() {
            return false;
        }
        let mut made = self.read().bridges;
        made.sort_unstable();
        let mut wanted = wanted.to_vec();
        wanted.sort_unstable();
        made != wanted
    }

    /// Begins to linger: until that ends, no command takes down what nobody uses. `None` if nothing is up.
    pub fn linger(&self) -> Option<Lingering> {
        if self.is_up() { linger::begin(self.file.parent()?) } else { None }
    }

    /// Whether somebody will take down what nobody uses.
    pub fn is_lingering(&self) -> bool {
        self.file.parent().is_some_and(linger::is_going_on)
    }

    /// Makes the rules those of the database; what nobody uses stays up.
    pub fn refresh(&self, database: &Database) -> Result<(), NetworkError> {
        if !self.is_up() || self.is_elsewhere() {
            return Ok(());
        }
        let _lock = lock()?;
        self.rules(database, &mut self.read(), None, true)
    }

    /// Takes down what nobody has addresses of, and makes the rules those of the database.
    pub fn settle(&self, database: &Database) -> Result<(), NetworkError> {
        if !self.is_up() || self.is_elsewhere() {
            return Ok(());
        }
        self.settle_locked(&lock()?, database)
    }

    fn settle_locked(&self, _lock: &Lock, database: &Database) -> Result<(), NetworkError> {
        let mut up = self.read();
        self.take_down(database, &mut up, &[])?;
        if !up.bridges.is_empty() {
            return Ok(());
        }
        match std::fs::remove_file(&self.file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(NetworkError::File { path: self.file.clone(), source: error })
            }
            _ => Ok(()),
        }
    }

    /// Takes down what nobody has addresses of, these aside.
    fn take_down(&self, database: &Database, up: &mut Up, aside: &[String]) -> Result<(), NetworkError> {
        let mut wanted: Vec<_> = database.active_networks()?.iter().map(bridge_name).collect();
        wanted.extend_from_slice(aside);
        let (wanted, unwanted): (Vec<_>, Vec<_>) =
            up.bridges.iter().cloned().partition(|name| wanted.contains(name));
        match self.rules(database, up, Some(&wanted), true) {
            // Where there is no firewall, nothing is in it.
            Err(NetworkError::NoKernelPart { .. }) if wanted.is_empty() => {}
            outcome => outcome?,
        }
        for name in &unwanted {
            net::remove_bridge(name).map_err(refused)?;
        }
        up.bridges = wanted;
        if unwanted.is_empty() { Ok(()) } else { self.write(up) }
    }
}

/// Whether anybody has an address on a network.
fn is_used(database: &Database, network: &Network) -> Result<bool, StateError> {
    Ok(database.endpoints_on(&network.id)?.iter().any(|endpoint| endpoint.lease.is_some()))
}

/// Whether the host reaches something else by a network's addresses; routes over this link aside.
fn clashes(network: &Network, aside: Option<&str>) -> Result<bool, NetworkError> {
    let routes = routes_beside(aside)?;
    Ok(network.pools.iter().any(|pool| routes.iter().any(|route| route.overlaps(pool.subnet))))
}

/// Ends what the kernel remembers of exchanges with ports that lead elsewhere by now: packets of a client that has not fallen silent
/// would go on to whoever had the port before.
fn redirected(up: &mut Up, rules: &Rules) {
    let udp = rules.ports.iter().filter(|rule| rule.protocol == Protocol::Udp.number());
    let now: BTreeSet<_> = udp.map(|rule| (SocketAddr::new(rule.address, rule.port), rule.target)).collect();
    let changed: Vec<_> = now.symmetric_difference(&up.packets).map(|(port, _)| *port).collect();
    // Nothing is wrong with the container for it: an old exchange goes on as it would without this.
    if let Err(error) = net::forget_exchanges(&changed) {
        tracing::warn!(error = chain(&error), "connection tracking");
    }
    up.packets = now;
}

/// The network with a subnet that the host has no route to: another one, where nobody chose it.
pub(super) fn without_clash(
    database: &Database,
    network: &Network,
    all: &[Network],
) -> Result<Network, NetworkError> {
    let routes = routes()?;
    let clash = |pool: &crate::model::Pool| {
        let route = routes.iter().find(|route| route.overlaps(pool.subnet))?;
        Some((pool.subnet, *route))
    };
    let Some((subnet, route)) = network.pools.iter().find_map(clash) else { return Ok(network.clone()) };
    if network.chosen_by_user || subnet.address.is_ipv6() {
        return Err(NetworkError::Route { subnet, route, network: network.name.clone() });
    }
    let others = all.iter().filter(|other| other.id != network.id);
    let taken: Vec<_> = others
        .flat_map(|other| other.pools.iter().map(|pool| pool.subnet))
        .chain(routes.iter().copied())
        .collect();
    let mut moved = network.clone();
    moved.pools.retain(|pool| pool.subnet.address.is_ipv6());
    moved.pools.insert(0, pool::pool(pool::free_subnet(&taken)?));
    database.set_network(&moved)?;
    Ok(moved)
}

/// What the kernel is told of one connection.
pub(super) fn port(one: &Connected, all: &[Connected]) -> Option<Port> {
    let (network, endpoint) = one;
    let lease = endpoint.lease?;
    let with_bits = |address: IpAddr| Some((address, network.pool(address.is_ipv6())?.subnet.bits));
    let addresses = [lease.ipv4.map(IpAddr::from), lease.ipv6.map(IpAddr::from)];
    let mut addresses: Vec<_> = addresses.into_iter().flatten().filter_map(with_bits).collect();
    addresses
        .extend(endpoint.settings.link_local.iter().map(|one| (*one, if one.is_ipv4() { 16 } else { 64 })));
    let leads = |ipv6: &bool| gateway(all, *ipv6).is_some_and(|(other, _)| other.id == network.id);
    let gateways = [false, true].into_iter().filter(leads);
    Some(Port {
        bridge: bridge_name(network),
        here: host_device(&endpoint.container, lease.interface),
        there: device(lease.interface),
        mac: lease.mac.0,
        addresses,
        gateways: gateways.filter_map(|ipv6| network.pool(ipv6)?.gateway).collect(),
        mtu: mtu(network),
        hairpin: true,
        // The firewall sees to that.
        isolated: false,
    })
}

/// Everything that the table is to say while these bridges are up.
fn rules(database: &Database, bridges: &[String]) -> Result<Rules, StateError> {
    let mut active = database.networks()?;
    active.retain(|one| one.driver == NetworkDriver::Bridge && bridges.contains(&bridge_name(one)));
    let rule = |network: &Network| BridgeRules {
        name: bridge_name(network),
        subnets: network.pools.iter().map(|pool| (pool.subnet.address, pool.subnet.bits)).collect(),
        internal: network.internal,
        icc: network.switch(make::ICC, true),
        masquerade: network.switch(make::MASQUERADE, true),
    };
    let bridges = active.iter().map(rule).collect();
    let published = database.ports()?;
    if published.is_empty() {
        return Ok(Rules { bridges, ports: Vec::new() });
    }
    let mut connected: std::collections::BTreeMap<String, Vec<Connected>> = std::collections::BTreeMap::new();
    for endpoint in database.endpoints()? {
        let network = active.iter().find(|network| network.id == endpoint.network);
        if let Some(network) = network.filter(|_| endpoint.lease.is_some()) {
            connected.entry(endpoint.container.clone()).or_default().push((network.clone(), endpoint));
        }
    }
    let rule = |(container, port): &(String, crate::model::PublishedPort)| {
        let ipv6 = port.address.is_ipv6();
        let lease = gateway(connected.get(container)?, ipv6)?.1.lease?;
        let target = if ipv6 { IpAddr::from(lease.ipv6?) } else { IpAddr::from(lease.ipv4?) };
        Some(PortRule {
            protocol: port.protocol.number(),
            address: port.address,
            port: port.host,
            target: SocketAddr::new(target, port.container),
        })
    };
    Ok(Rules { bridges, ports: published.iter().filter_map(rule).collect() })
}
