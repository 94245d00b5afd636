//! A container's networks and ports through its life: addresses before it is made, devices between its making and its start, all of
//! it given back at its end.
//!
//! Root's containers are on bridges of the host, and their ports are led to them by its firewall. An ordinary user's are on bridges
//! apart ([`Hubs`]), and have a way outside of their own ([`Outside`]), which their ports lead in by, unless all their networks are
//! internal.
//!
//! Through the restarts of a policy the addresses and the ports stay the container's: nobody takes them in the pause.

use crate::executor::{ExecError, NameFiles};
use crate::model::{Container, EndpointSettings, Kind as _, NetworkMode, PublishedPort, chain};
use crate::network::hubs::Hubs;
use crate::network::kernel::{Attached, Kernel};
use crate::network::linger::{self, Lingering};
use crate::network::pasta;
use crate::network::ports::Held;
use crate::network::{Connected, NetworkError, bridge_name};
use crate::state::{Database, StateError};
use crate::supervisor::protocol::NetworkOrder;

use super::names::Names;
use super::outside::Outside;
use super::protocol::Launch;
use super::proxy::{Proxy, Targets};

/// The device that leads outside, where the others are those of networks.
const OUTER_DEVICE: &str = "pasta0";

/// Where the bridges are.
#[derive(Debug)]
enum Ground {
    /// On the host.
    Host(Kernel),
    /// An ordinary user's: each apart.
    Apart(Hubs),
}

/// What one container has.
#[derive(Debug)]
pub(super) struct Networking {
    ground: Ground,
    container: Container,
    connected: Vec<Connected>,
    targets: Targets,
    names: Names,
    /// What passes on what arrives at the ports; each holds its socket.
    proxies: Vec<Proxy>,
    /// An ordinary user's container: what leads it outside, and what holds its ports until it is there.
    outside: Option<Outside>,
    /// The ports of the host that lead to it otherwise than by a bridge: through that, or because it listens itself.
    published: Vec<PublishedPort>,
    held: Vec<Held>,
    attached: bool,
    /// Ports of the host lead to it.
    led: bool,
    /// Its networks stay for a moment.
    lingering: Option<Lingering>,
    /// It was connected, in this run or one before.
    plugged: bool,
}

fn failed(error: NetworkError) -> ExecError {
    let (kind, hints) = (error.kind(), error.hints());
    ExecError::failed(kind, "connecting the container with its networks", error).hinting(hints)
}

/// Whether a container passes packets on as it likes.
fn routes(container: &Container) -> bool {
    let forwarding = |name: &String| name.starts_with("net.ipv4.") && name.contains("forward");
    container.host.privileged || container.host.sysctls.keys().any(forwarding)
}

/// Begins to pass on what arrives at a port.
fn serve(held: Held, targets: &Targets) -> Result<Proxy, NetworkError> {
    let port = held.port;
    start(held, targets.clone()).map_err(|source| NetworkError::Port { port, source })
}

#[cfg(target_os = "linux")]
fn start(held: Held, targets: Targets) -> std::io::Result<Proxy> {
    use crate::network::ports::Socket;
    match held.socket {
        Socket::Tcp(listener) => super::proxy::tcp(listener, held.port, targets),
        Socket::Udp(socket) => super::proxy::udp(socket, held.port, targets),
    }
}

#[cfg(not(target_os = "linux"))]
fn start(held: Held, _targets: Targets) -> std::io::Result<Proxy> {
    match held.socket {}
}

impl Networking {
    pub(super) fn new(launch: &Launch) -> Self {
        let Launch { root, run, container, rootless, .. } = launch;
        let ground = if *rootless {
            // The first is what leads outside.
            let first = u8::from(container.host.network == NetworkMode::Pasta);
            Ground::Apart(Hubs::new(root, run, super::holder, first))
        } else {
            Ground::Host(Kernel::new(root, run.parent().unwrap_or(run)))
        };
        Self {
            ground,
            container: container.clone(),
            connected: Vec::new(),
            targets: Targets::default(),
            names: Names::new(root, run, container, !rootless),
            proxies: Vec::new(),
            outside: None,
            published: Vec::new(),
            held: Vec::new(),
            attached: false,
            led: false,
            lingering: None,
            plugged: false,
        }
    }

    /// Whether what leads outside is the container's whole network, or a part of it.
    fn passed_on(&self) -> bool {
        self.container.host.network == NetworkMode::Pasta
    }

    /// Whether anything leads outside.
    fn leads_out(&self) -> bool {
        self.passed_on() || self.connected.iter().any(|(network, _)| !network.internal)
    }

    /// Gets addresses and ports, or sees to it that those of the last run are still good.
    pub(super) fn attach(&mut self, database: &Database) -> Result<(), ExecError> {
        if !self.container.host.network.is_networked() && !self.passed_on() {
            return Ok(());
        }
        let again = std::mem::replace(&mut self.attached, true);
        match &mut self.ground {
            Ground::Host(kernel) => {
                let Attached { connected, ports } =
                    kernel.attach(database, &self.container, again).map_err(failed)?;
                self.connected = connected;
                self.targets.set(&self.connected);
                for held in ports {
                    self.proxies.push(serve(held, &self.targets).map_err(failed)?);
                }
            }
            Ground::Apart(hubs) => {
                self.connected = hubs.attach(database, &self.container).map_err(failed)?;
                if !again {
                    self.publish(database).map_err(failed)?;
                }
            }
        }
        Ok(())
    }

    /// Holds the ports that are to lead in from outside.
    fn publish(&mut self, database: &Database) -> Result<(), NetworkError> {
        let held = pasta::hold(database, &self.container, &self.connected)?;
        if let (false, Err(missing)) = (held.is_empty(), pasta::program()) {
            return Err(NetworkError::NoPasta { what: "publishing ports", missing });
        }
        let published: Vec<_> = held.iter().map(|one| one.port).collect();
        database.publish(&self.container.id, &published)?;
        (self.published, self.held) = (published, held);
        Ok(())
    }

    /// The files that tell its names, before it is made.
    pub(super) fn name_files(&mut self) -> Result<NameFiles, ExecError> {
        self.names.files()
    }

    /// The container's variables, with those that tell of linked containers.
    pub(super) fn environment(&self) -> Result<Vec<String>, ExecError> {
        self.names.environment(&self.connected)
    }

    /// Connects the namespace of the first process, which does not run yet.
    pub(super) fn connect(&mut self, pid: Option<u32>) -> Result<(), ExecError> {
        if self.connected.is_empty() && !self.passed_on() {
            return Ok(());
        }
        let pid = pid.ok_or(ExecError::NotRunning)?;
        let plugged = std::mem::replace(&mut self.plugged, true);
        match &mut self.ground {
            Ground::Host(kernel) => {
                // A namespace that outlived the last run is connected still.
                if plugged {
                    kernel.disconnect(&self.connected).map_err(failed)?;
                }
                kernel.connect(pid, &self.connected).map_err(failed)?;
            }
            Ground::Apart(hubs) => {
                hubs.connect(pid, routes(&self.container), &self.connected).map_err(failed)?;
                self.open(pid).map_err(failed)?;
            }
        }
        if self.passed_on() {
            self.names.addressed(pasta::addresses());
        }
        self.names.connected(&self.connected, pid)
    }

    /// It listens on ports of the host itself.
    pub(super) fn listens(
        &mut self,
        database: &Database,
        ports: Vec<PublishedPort>,
    ) -> Result<(), ExecError> {
        if ports != self.published && self.outside.is_none() {
            database.publish(&self.container.id, &ports).map_err(|error| failed(error.into()))?;
            self.published = ports;
        }
        Ok(())
    }

    /// Opens the way outside, or closes it, as the networks are now.
    fn open(&mut self, pid: u32) -> Result<(), NetworkError> {
        if !self.leads_out() {
            self.outside = None;
            return Ok(());
        }
        // Nothing depends on it where it is a part of a network that was asked for, and nothing is published.
        let needed = self.passed_on() || !self.published.is_empty();
        if !needed && let Some(why) = pasta::none() {
            tracing::warn!(%why, "nothing leads the container outside");
            return Ok(());
        }
        // That of a run before has the ports yet.
        self.outside = None;
        self.held.clear();
        let device = if self.passed_on() { "eth0" } else { OUTER_DEVICE };
        self.outside = Some(Outside::open(pid, &self.published, self.names.run(), device)?);
        Ok(())
    }

    /// Waits until the way outside is lost and is to be opened again; for ever where there is none.
    pub(super) async fn lost(&mut self) {
        match &mut self.outside {
            Some(outside) => outside.lost().await,
            None => std::future::pending().await,
        }
    }

    /// Opens the way outside again.
    pub(super) fn mend(&mut self) {
        if let Some(outside) = &mut self.outside {
            outside.mend();
        }
    }

    /// Tells it of its names and addresses after a change.
    pub(super) fn renamed(&mut self, pid: u32) -> Result<(), ExecError> {
        self.names.changed(&self.connected, pid)
    }

    /// It has ended: its devices are cut off and its ports go before its addresses do, which is with the record of its end.
    pub(super) async fn ended(&mut self) {
        self.led |= !self.proxies.is_empty();
        for proxy in self.proxies.drain(..) {
            proxy.end().await;
        }
        self.outside = None;
        self.held.clear();
        self.names.ended();
        let cut_off = match &self.ground {
            Ground::Host(kernel) => {
                self.lingering = if self.attached { kernel.linger() } else { None };
                kernel.cut_off(&self.connected)
            }
            Ground::Apart(hubs) => hubs.disconnect(&self.connected),
        };
        if let Err(error) = cut_off {
            tracing::warn!(error = chain(&error), "cutting the container off");
        }
    }

    /// Nobody waits for its end any more: its devices go.
    pub(super) fn clear(&mut self) {
        if let Ground::Host(kernel) = &self.ground
            && let Err(error) = kernel.disconnect(&self.connected)
        {
            tracing::warn!(error = chain(&error), "disconnecting the container");
        }
    }

    /// Its ports lead nowhere. Where others are on its networks it need not stay.
    pub(super) fn retract(&mut self, database: &Database) {
        let Ground::Host(kernel) = &self.ground else { return };
        if !self.attached {
            return;
        }
        if std::mem::take(&mut self.led)
            && let Err(error) = kernel.refresh(database)
        {
            tracing::warn!(error = chain(&error), "taking back the container's ports");
        }
        let wanted = database.active_networks().map(|all| all.iter().map(bridge_name).collect::<Vec<_>>());
        if wanted.is_ok_and(|wanted| !kernel.is_stale(&wanted)) {
            self.lingering = None;
            self.attached = false;
        }
    }

    /// Stays for a moment. Then what nobody uses is taken down, unless somebody else stays.
    pub(super) async fn leave(&mut self, database: &Database) {
        let last = match self.lingering.take() {
            Some(lingering) => {
                tokio::time::sleep(linger::MOMENT).await;
                let Some(last) = lingering.end() else { return };
                Some(last)
            }
            None => None,
        };
        self.settle(database);
        drop(last);
    }

    /// What nobody uses is taken down.
    fn settle(&mut self, database: &Database) {
        if !std::mem::take(&mut self.attached) {
            return;
        }
        match &mut self.ground {
            Ground::Host(kernel) => {
                if let Err(error) = kernel.settle(database) {
                    tracing::warn!(error = chain(&error), "taking networks down");
                }
            }
            Ground::Apart(hubs) => hubs.release(),
        }
    }

    /// It could not be started: everything is given back.
    pub(super) async fn abandon(&mut self, database: &Database) {
        self.ended().await;
        self.lingering = None;
        self.clear();
        if (self.attached || !self.published.is_empty())
            && let Err(error) = database.release_addresses(&self.container.id)
        {
            tracing::error!(error = chain(&error), "giving the container's addresses back");
        }
        self.settle(database);
    }

    /// Connects it with one more network while it runs, or disconnects it.
    pub(super) fn change(
        &mut self,
        database: &Database,
        order: &NetworkOrder,
        pid: u32,
    ) -> Result<(), NetworkError> {
        match order {
            NetworkOrder::Connect { network, settings } => self.plug(database, network, settings, pid),
            NetworkOrder::Disconnect { network } => self.unplug(database, network, pid),
        }
    }

    fn find(database: &Database, id: &str) -> Result<crate::model::Network, NetworkError> {
        let found = database.networks_matching(id)?.into_iter().find(|network| network.id == id);
        found.ok_or_else(|| StateError::NoNetwork { name: id.to_owned() }.into())
    }

    fn plug(
        &mut self,
        database: &Database,
        network: &str,
        settings: &EndpointSettings,
        pid: u32,
    ) -> Result<(), NetworkError> {
        let network = Self::find(database, network)?;
        database.add_endpoint(&self.container, &network, settings)?;
        match self.extend(database, pid) {
            Ok(()) => {
                self.attached = true;
                self.refresh(database, pid)
            }
            Err(error) => {
                database.remove_endpoint(&self.container, &network)?;
                match &mut self.ground {
                    Ground::Host(kernel) => kernel.settle(database)?,
                    Ground::Apart(hubs) => hubs.let_go(&network.id)?,
                }
                Err(error)
            }
        }
    }

    /// Connects it with the last of its networks.
    fn extend(&mut self, database: &Database, pid: u32) -> Result<(), NetworkError> {
        self.connected = match &mut self.ground {
            Ground::Host(kernel) => {
                let connected = kernel.extend(database, &self.container)?;
                kernel.plug(pid, &connected)?;
                connected
            }
            Ground::Apart(hubs) => {
                let connected = hubs.extend(database, &self.container)?;
                let new = connected.last().map(std::slice::from_ref).unwrap_or_default();
                hubs.connect(pid, routes(&self.container), new)?;
                connected
            }
        };
        Ok(())
    }

    fn unplug(&mut self, database: &Database, network: &str, pid: u32) -> Result<(), NetworkError> {
        let at = self.connected.iter().position(|(one, _)| one.id == network);
        let Some(at) = at else {
            let network = Self::find(database, network)?;
            return Ok(database.remove_endpoint(&self.container, &network).map(drop)?);
        };
        let gone = self.connected.remove(at);
        match &mut self.ground {
            Ground::Host(kernel) => kernel.unplug(pid, &gone, &self.connected)?,
            Ground::Apart(hubs) => hubs.unplug(&gone)?,
        }
        database.remove_endpoint(&self.container, &gone.0)?;
        self.refresh(database, pid)
    }

    /// What follows from other connections: where ports lead, which bridges are needed, whether there is a way outside.
    fn refresh(&mut self, database: &Database, pid: u32) -> Result<(), NetworkError> {
        match &self.ground {
            Ground::Host(kernel) => {
                self.targets.set(&self.connected);
                kernel.settle(database)
            }
            // One that is open stays as it is.
            Ground::Apart(_) if self.outside.is_some() && self.leads_out() => Ok(()),
            Ground::Apart(_) => self.open(pid),
        }
    }
}
