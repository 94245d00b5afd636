//! Networks of an ordinary user's containers. Each is a bridge in a network namespace of its own, its hub, which belongs to the user
//! namespace that all containers of one store share.
//!
//! Nothing keeps a hub but open descriptors: the supervisor of each container on the network holds one, and a file in its run directory
//! says which. A newcomer goes through the containers that have addresses on the network, and takes the first descriptor that
//! is there; where there is none it makes the hub. All that happens under one lock of the store, so that there are never two. Nothing
//! outlives the last container of a network, however it ends, and after a crash there are only records to take back.
//!
//! Networks are apart because their bridges are in different namespaces, where nothing has an address and nothing is forwarded: no
//! firewall is needed. What leads outside is not the hub's but each container's own ([`super::pasta`]), and so are published ports.
//!
//! Why not one namespace for all bridges: those of networks that nobody is on any more would stay in it while others live. Why no
//! process that holds them: it would be one more thing to be up. Why a descriptor is taken and not sent: a supervisor that waits
//! for the lock itself could not answer.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use runtime_linux::net::{Bridge, Handle, Namespace, Port};

use super::kernel::{mtu, port, refused, without_clash};
use super::{Connected, NetworkError, bridge_name, device, host_device, make, pool};
use crate::model::{Container, Network, NetworkDriver};
use crate::state::{Database, StateError};

/// The lock, in the store's root.
const LOCK: &str = "network.lock";

/// Which descriptors a supervisor holds, in its run directory.
const TOLD: &str = "hubs.json";

/// The process that supervises the container of a run directory.
pub type Supervisor = fn(&Path) -> Option<u32>;

/// The hubs of one container's networks.
#[derive(Debug)]
pub struct Hubs {
    lock: PathBuf,
    run: PathBuf,
    supervisor: Supervisor,
    /// The number that its first device has in the container.
    first: u8,
    /// By the networks' ids.
    held: BTreeMap<String, Namespace>,
}

/// What the file says: descriptor and inode by the networks' ids.
type Told = BTreeMap<String, (i32, u64)>;

fn told(run: &Path, network: &str) -> Option<Handle> {
    let told: Told = serde_json::from_slice(&std::fs::read(run.join(TOLD)).ok()?).ok()?;
    told.get(network).map(|(descriptor, inode)| Handle { descriptor: *descriptor, inode: *inode })
}

impl Hubs {
    /// For a container of the store in `root`, whose run directory is `run`, beside those of all others. Its devices are numbered from
    /// `first` on.
    pub fn new(root: &Path, run: &Path, supervisor: Supervisor, first: u8) -> Self {
        Self { lock: root.join(LOCK), run: run.to_owned(), supervisor, first, held: BTreeMap::new() }
    }

    fn lock(&self) -> Result<File, NetworkError> {
        let lock = || {
            let file = File::options().create(true).truncate(false).write(true).open(&self.lock)?;
            file.lock()?;
            Ok(file)
        };
        lock().map_err(|source| NetworkError::File { path: self.lock.clone(), source })
    }

    /// Gives a container addresses on its networks, and brings those up that are not. What fails leaves nothing.
    pub fn attach(
        &mut self,
        database: &Database,
        container: &Container,
    ) -> Result<Vec<Connected>, NetworkError> {
        let outcome = self.extend(database, container);
        if outcome.is_err() {
            database.release_addresses(&container.id)?;
            self.release();
        }
        outcome
    }

    /// The same for one that runs and was just connected with one more network: it keeps what it has.
    pub fn extend(
        &mut self,
        database: &Database,
        container: &Container,
    ) -> Result<Vec<Connected>, NetworkError> {
        let _lock = self.lock()?;
        let networks = database.networks()?;
        for endpoint in database.endpoints_of(&container.id)? {
            let network = networks.iter().find(|network| network.id == endpoint.network);
            let Some(network) = network else {
                return Err(StateError::NoNetwork { name: endpoint.settings.network }.into());
            };
            self.raise(database, network, &networks)?;
        }
        let connected = database.lease_addresses(&container.id, pool::lease)??;
        self.tell()?;
        Ok(connected)
    }

    /// Takes a network's hub, or makes it.
    fn raise(&mut self, database: &Database, network: &Network, all: &[Network]) -> Result<(), NetworkError> {
        if network.driver != NetworkDriver::Bridge || self.held.contains_key(&network.id) {
            return Ok(());
        }
        let hub = if let Some(hub) = self.find(database, network)? {
            hub
        } else {
            let network = without_clash(database, network, all)?;
            let hub = Namespace::make().map_err(refused)?;
            let bridge = Bridge { name: bridge_name(&network), addresses: Vec::new(), mtu: mtu(&network) };
            hub.bridge(&bridge).map_err(refused)?;
            hub
        };
        self.held.insert(network.id.clone(), hub);
        Ok(())
    }

    /// A network's hub, by whoever has an address there and lives.
    fn find(&self, database: &Database, network: &Network) -> Result<Option<Namespace>, NetworkError> {
        // Run directories have the first letters of ids as their names.
        let letters = self.run.file_name().map_or(0, std::ffi::OsStr::len);
        for endpoint in database.endpoints_on(&network.id)? {
            let Some(name) = endpoint.container.get(..letters).filter(|_| endpoint.lease.is_some()) else {
                continue;
            };
            let run = self.run.with_file_name(name);
            let (Some(pid), Some(handle)) = ((self.supervisor)(&run), told(&run, &network.id)) else {
                continue;
            };
            // One that cannot be had is an error: another hub would split the network.
            if let Some(hub) = Namespace::held(pid, handle).map_err(refused)? {
                return Ok(Some(hub));
            }
        }
        Ok(None)
    }

    /// Says what is held, whole or not at all.
    fn tell(&self) -> Result<(), NetworkError> {
        let path = self.run.join(TOLD);
        let tell = || -> io::Result<()> {
            let mut told = Told::new();
            for (network, hub) in &self.held {
                let handle = hub.handle()?;
                told.insert(network.clone(), (handle.descriptor, handle.inode));
            }
            let new = path.with_extension("new");
            std::fs::write(&new, serde_json::to_vec(&told)?)?;
            std::fs::rename(&new, &path)
        };
        tell().map_err(|source| NetworkError::File { path: path.clone(), source })
    }

    fn hub(&self, network: &Network) -> Result<&Namespace, NetworkError> {
        let missing = || io::Error::from(io::ErrorKind::NotFound);
        self.held
            .get(&network.id)
            .ok_or_else(|| NetworkError::kernel("joining the network", &network.name)(missing()))
    }

    /// What the kernel is told of a connection. Nothing leads outside over it.
    fn port(&self, one: &Connected) -> Option<Port> {
        let port = port(one, std::slice::from_ref(one))?;
        let interface = one.1.lease?.interface.saturating_add(self.first);
        Some(Port {
            there: device(interface),
            gateways: Vec::new(),
            hairpin: false,
            isolated: !one.0.switch(make::ICC, true),
            ..port
        })
    }

    /// Connects the namespace of a container's first process with these networks, of which it holds the hubs. Unless it is to be a
    /// router (`--sysctl`), it passes nothing on between them: a neighbour on an internal network would have its way outside.
    pub fn connect(&self, pid: u32, router: bool, connected: &[Connected]) -> Result<(), NetworkError> {
        let container = Namespace::of(pid).map_err(refused)?;
        if !router && !connected.is_empty() {
            container.forward_nothing().map_err(refused)?;
        }
        let connect = || -> Result<(), NetworkError> {
            for one in connected {
                if let Some(port) = self.port(one) {
                    self.hub(&one.0)?.connect_here(&container, &[port]).map_err(refused)?;
                }
            }
            Ok(())
        };
        connect().inspect_err(|_| {
            // They may not have been made.
            let _ = self.disconnect(connected);
        })
    }

    /// Removes a container's devices, wherever their other ends are.
    pub fn disconnect(&self, connected: &[Connected]) -> Result<(), NetworkError> {
        for (network, endpoint) in connected {
            if let (Some(lease), Some(hub)) = (endpoint.lease, self.held.get(&network.id)) {
                hub.disconnect(&host_device(&endpoint.container, lease.interface)).map_err(refused)?;
            }
        }
        Ok(())
    }

    /// Ends a container's connection with a network.
    pub fn unplug(&mut self, gone: &Connected) -> Result<(), NetworkError> {
        self.disconnect(std::slice::from_ref(gone))?;
        self.let_go(&gone.0.id)
    }

    /// Holds a network's hub no more.
    pub fn let_go(&mut self, network: &str) -> Result<(), NetworkError> {
        // It is closed when nobody is told of it any more.
        let _hub = self.held.remove(network);
        self.tell()
    }

    /// Holds nothing any more.
    pub fn release(&mut self) {
        // Whoever looks for a descriptor that the file still names sees that it leads elsewhere.
        self.held.clear();
    }
}
