//! A container's networks and ports through its life: addresses before it is made, devices between its making and its start, all of
//! it given back at its end.
//!
//! Through the restarts of a policy the addresses and the ports stay the container's: nobody takes them in the pause.

use std::path::Path;

use crate::executor::{ExecError, NameFiles};
use crate::model::{Container, EndpointSettings, Kind as _, NetworkMode, PublishedPort, chain};
use crate::network::kernel::{Attached, Kernel};
use crate::network::linger::{self, Lingering};
use crate::network::pasta::{self, Pasta};
use crate::network::ports::Held;
use crate::network::{Connected, NetworkError, bridge_name};
use crate::state::{Database, StateError};
use crate::supervisor::protocol::NetworkOrder;

use super::names::Names;
use super::proxy::{Proxy, Targets};

/// What one container has.
#[derive(Debug)]
pub(super) struct Networking {
    kernel: Kernel,
    container: Container,
    connected: Vec<Connected>,
    targets: Targets,
    names: Names,
    /// What passes on what arrives at the ports; each holds its socket.
    proxies: Vec<Proxy>,
    /// An ordinary user's container: what passes the host's network on, and what holds its ports until it does.
    pasta: Option<Pasta>,
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
    ExecError::failed(error.kind(), "connecting the container with its networks", error)
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
    pub(super) fn new(root: &Path, run: &Path, container: &Container) -> Self {
        let run_root = run.parent().unwrap_or(run);
        Self {
            kernel: Kernel::new(root, run_root),
            container: container.clone(),
            connected: Vec::new(),
            targets: Targets::default(),
            names: Names::new(root, run, container),
            proxies: Vec::new(),
            pasta: None,
            published: Vec::new(),
            held: Vec::new(),
            attached: false,
            led: false,
            lingering: None,
            plugged: false,
        }
    }

    /// Gets addresses and ports, or sees to it that those of the last run are still good.
    pub(super) fn attach(&mut self, database: &Database) -> Result<(), ExecError> {
        if self.container.host.network == NetworkMode::Pasta && !self.attached {
            let held = pasta::hold(database, &self.container).map_err(failed)?;
            let published: Vec<_> = held.iter().map(|one| one.port).collect();
            database.publish(&self.container.id, &published).map_err(|error| failed(error.into()))?;
            (self.published, self.held, self.attached) = (published, held, true);
        }
        if !self.container.host.network.is_networked() {
            return Ok(());
        }
        let Attached { connected, ports } =
            self.kernel.attach(database, &self.container, self.attached).map_err(failed)?;
        self.connected = connected;
        self.targets.set(&self.connected);
        for held in ports {
            self.proxies.push(serve(held, &self.targets).map_err(failed)?);
        }
        self.attached = true;
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
        let passed_on = self.container.host.network == NetworkMode::Pasta;
        if self.connected.is_empty() && !passed_on {
            return Ok(());
        }
        let pid = pid.ok_or(ExecError::NotRunning)?;
        if passed_on {
            self.held.clear();
            self.pasta = Some(Pasta::start(pid, &self.published, self.names.run()).map_err(failed)?);
            return self.names.addressed(&pasta::addresses());
        }
        // A namespace that outlived the last run is connected still.
        if std::mem::replace(&mut self.plugged, true) {
            self.kernel.disconnect(&self.connected).map_err(failed)?;
        }
        self.kernel.connect(pid, &self.connected).map_err(failed)?;
        self.names.connected(&self.connected, pid)
    }

    /// It listens on ports of the host itself.
    pub(super) fn listens(
        &mut self,
        database: &Database,
        ports: Vec<PublishedPort>,
    ) -> Result<(), ExecError> {
        if ports != self.published && self.container.host.network != NetworkMode::Pasta {
            database.publish(&self.container.id, &ports).map_err(|error| failed(error.into()))?;
            self.published = ports;
        }
        Ok(())
    }

    /// Tells it of its names and addresses after a change.
    pub(super) fn renamed(&mut self, pid: u32) -> Result<(), ExecError> {
        self.names.changed(&self.connected, pid)
    }

    /// It has ended: its devices are cut off and its ports go before its addresses do, which is with the record of its end.
    pub(super) async fn ended(&mut self) {
        self.lingering = if self.attached { self.kernel.linger() } else { None };
        self.led |= !self.proxies.is_empty();
        for proxy in self.proxies.drain(..) {
            proxy.end().await;
        }
        self.pasta = None;
        self.held.clear();
        self.names.ended();
        if let Err(error) = self.kernel.cut_off(&self.connected) {
            tracing::warn!(error = chain(&error), "cutting the container off");
        }
    }

    /// Nobody waits for its end any more: its devices go.
    pub(super) fn clear(&mut self) {
        if let Err(error) = self.kernel.disconnect(&self.connected) {
            tracing::warn!(error = chain(&error), "disconnecting the container");
        }
    }

    /// Its ports lead nowhere. Where others are on its networks it need not stay.
    pub(super) fn retract(&mut self, database: &Database) {
        if !self.attached {
            return;
        }
        if std::mem::take(&mut self.led)
            && let Err(error) = self.kernel.refresh(database)
        {
            tracing::warn!(error = chain(&error), "taking back the container's ports");
        }
        let wanted = database.active_networks().map(|all| all.iter().map(bridge_name).collect::<Vec<_>>());
        if wanted.is_ok_and(|wanted| !self.kernel.is_stale(&wanted)) {
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
        if std::mem::take(&mut self.attached)
            && let Err(error) = self.kernel.settle(database)
        {
            tracing::warn!(error = chain(&error), "taking networks down");
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
        let plugged = self.kernel.extend(database, &self.container).and_then(|connected| {
            self.kernel.plug(pid, &connected)?;
            Ok(connected)
        });
        match plugged {
            Ok(connected) => {
                self.connected = connected;
                self.attached = true;
                self.refresh(database)
            }
            Err(error) => {
                database.remove_endpoint(&self.container, &network)?;
                self.kernel.settle(database)?;
                Err(error)
            }
        }
    }

    fn unplug(&mut self, database: &Database, network: &str, pid: u32) -> Result<(), NetworkError> {
        let at = self.connected.iter().position(|(one, _)| one.id == network);
        let Some(at) = at else {
            let network = Self::find(database, network)?;
            return Ok(database.remove_endpoint(&self.container, &network).map(drop)?);
        };
        let gone = self.connected.remove(at);
        self.kernel.unplug(pid, &gone, &self.connected)?;
        database.remove_endpoint(&self.container, &gone.0)?;
        self.refresh(database)
    }

    /// What follows from other connections: where ports lead, and which bridges are needed.
    fn refresh(&mut self, database: &Database) -> Result<(), NetworkError> {
        self.targets.set(&self.connected);
        self.kernel.settle(database)
    }
}
