//! A container's names through one run: its files before it starts, its own addresses and name server once it is connected, and
//! what changes in both when it is connected with other networks while it runs.
//!
//! The files are the container's to write as well. So `/etc/hosts` is edited line by line, and `/etc/resolv.conf` is written anew only
//! while it still says what was written here.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::links::{self, Linked};
use super::{NameServer, Namespace, Setting};
use crate::executor::{ExecError, NameFiles};
use crate::model::{Container, DEFAULT_NETWORK, ErrorKind, HostConfig, Kind, NetworkMode};
use crate::network::Connected;
use crate::network::files::{self, HostLine, Resolver};
use crate::state::{Database, StateError};

/// More than this of a file is not read, in bytes.
const LARGEST: u64 = 1 << 20;

/// The host's servers behind a resolver of its own that listens on loopback alone, as `systemd-resolved` keeps them.
const UPLINK: &str = "/run/systemd/resolve/resolv.conf";
const STUB: [u8; 4] = [127, 0, 0, 53];

/// The container's names cannot be told.
#[derive(Debug, thiserror::Error)]
pub(super) enum NameError {
    /// A file.
    #[error("`{}`", path.display())]
    File {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// `host-gateway` where the host has no address.
    #[error("unable to derive the IP value for host-gateway: the container has no network with a gateway")]
    NoGateway,
    /// `--link` to what does not run.
    #[error("Cannot link to a non running container: /{container} AS /{own}/{alias}")]
    NotRunning {
        /// The other.
        container: String,
        /// Who links.
        own: String,
        /// Its name here.
        alias: String,
    },
    /// The records.
    #[error(transparent)]
    State(#[from] StateError),
    /// The socket.
    #[error("listening on 127.0.0.11 in the container's network")]
    Server(#[source] io::Error),
}

impl From<NameError> for ExecError {
    fn from(error: NameError) -> Self {
        let kind = match &error {
            NameError::File { .. } | NameError::Server(_) => ErrorKind::Unavailable,
            NameError::NoGateway => ErrorKind::InvalidInput,
            NameError::NotRunning { .. } => ErrorKind::Conflict,
            NameError::State(error) => error.kind(),
        };
        Self::failed(kind, "telling the container's names", error)
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> NameError {
    let path = path.to_owned();
    move |source| NameError::File { path, source }
}

/// What a container of one supervisor is told.
#[derive(Debug)]
pub(in crate::supervisor) struct Names {
    run: PathBuf,
    root: PathBuf,
    container: Container,
    /// Whether its networks' gateways are the host.
    gateways: bool,
    /// Its addresses that are not those of networks.
    outer: Vec<IpAddr>,
    /// The lines of its own addresses that are in `/etc/hosts`.
    own: Vec<HostLine>,
    /// What was written to `/etc/resolv.conf`.
    resolver: String,
    server: Option<NameServer>,
}

impl Names {
    pub(in crate::supervisor) fn new(root: &Path, run: &Path, container: &Container, gateways: bool) -> Self {
        Self {
            run: run.to_owned(),
            root: root.to_owned(),
            container: container.clone(),
            gateways,
            outer: Vec::new(),
            own: Vec::new(),
            resolver: String::new(),
            server: None,
        }
    }

    fn host(&self) -> &HostConfig {
        &self.container.host
    }

    fn hostname(&self) -> &str {
        let wanted = self.container.config.hostname.as_str();
        if wanted.is_empty() { self.container.id.short() } else { wanted }
    }

    /// The files before anything is connected; with the host's network they are whole.
    pub(in crate::supervisor) fn files(&mut self) -> Result<NameFiles, ExecError> {
        self.own.clear();
        self.server = None;
        let on_host = self.host().network == NetworkMode::Host;
        let hosts = if on_host && self.host().extra_hosts.is_empty() {
            host_file(Path::new("/etc/hosts"))?
        } else {
            Some(files::hosts(&self.added(&[])?))
        };
        self.resolver = self.resolver(false)?.text();
        let hosts = hosts.unwrap_or_else(|| files::hosts(&[]));
        Ok(NameFiles { hosts: hosts.into_bytes(), resolv_conf: self.resolver.clone().into_bytes() })
    }

    /// The container's process is there and its networks are connected: their addresses go into its files, and where one is the
    /// user's, a name server serves in its namespace.
    pub(in crate::supervisor) fn connected(
        &mut self,
        networks: &[Connected],
        pid: u32,
    ) -> Result<(), ExecError> {
        if networks.is_empty() && self.outer.is_empty() {
            return Ok(());
        }
        let mut lines = self.added(networks)?;
        lines.extend(self.links(networks)?.iter().map(Linked::line));
        self.own = self.own_lines(networks);
        lines.extend(self.own.iter().cloned());
        let path = self.run.join("hosts");
        rewrite(&path, files::hosts(&lines).as_bytes()).map_err(at(&path))?;
        self.serve(networks, pid)
    }

    /// Where its volatile files are.
    pub(in crate::supervisor) fn run(&self) -> &Path {
        &self.run
    }

    /// The container has these addresses of the host's as well.
    pub(in crate::supervisor) fn addressed(&mut self, addresses: Vec<IpAddr>) {
        self.outer = addresses;
    }

    /// The container has ended: nothing of ours holds its network.
    pub(in crate::supervisor) fn ended(&mut self) {
        self.server = None;
    }

    /// The container runs, and its networks have changed.
    pub(in crate::supervisor) fn changed(
        &mut self,
        networks: &[Connected],
        pid: u32,
    ) -> Result<(), ExecError> {
        let now = self.own_lines(networks);
        let gone: Vec<_> = self.own.iter().filter(|line| !now.contains(line)).cloned().collect();
        let new: Vec<_> = now.iter().filter(|line| !self.own.contains(line)).cloned().collect();
        let path = self.run.join("hosts");
        let text = host_file(&path)?.unwrap_or_default();
        rewrite(&path, files::change_hosts(&text, &gone, &new).as_bytes()).map_err(at(&path))?;
        self.own = now;
        self.serve(networks, pid)
    }

    /// Starts the name server when the first network of the user's is there.
    fn serve(&mut self, networks: &[Connected], pid: u32) -> Result<(), ExecError> {
        if self.server.is_some() || networks.iter().all(|(network, _)| network.name == DEFAULT_NETWORK) {
            return Ok(());
        }
        let resolver = self.resolver(true)?;
        let namespace = Namespace::of(pid).map_err(NameError::Server)?;
        let setting = Setting {
            root: self.root.clone(),
            container: self.container.id.clone(),
            servers: self.host().dns.clone(),
            expands: resolver.expands(),
        };
        self.server = Some(NameServer::start(setting, namespace).map_err(NameError::Server)?);
        let path = self.run.join("resolv.conf");
        if host_file(&path)?.is_none_or(|text| text == self.resolver) {
            self.resolver = resolver.text();
            rewrite(&path, self.resolver.as_bytes()).map_err(at(&path))?;
        }
        Ok(())
    }

    fn own_lines(&self, networks: &[Connected]) -> Vec<HostLine> {
        let leases = networks.iter().filter_map(|(_, endpoint)| endpoint.lease);
        let addresses = leases.flat_map(|lease| [lease.ipv4.map(IpAddr::from), lease.ipv6.map(IpAddr::from)]);
        let line = |address| HostLine::own(address, self.hostname(), &self.container.config.domainname);
        self.outer.iter().copied().chain(addresses.flatten()).map(line).collect()
    }

    /// `--add-host`. Before there are networks, lines that need one are left out.
    fn added(&self, networks: &[Connected]) -> Result<Vec<HostLine>, NameError> {
        let mode = &self.host().network;
        let pools = networks.iter().flat_map(|(network, _)| &network.pools);
        let gateway = pools.filter(|_| self.gateways).find_map(|pool| pool.gateway);
        let gateway = gateway.or((*mode == NetworkMode::Host).then(|| [127, 0, 0, 1].into()));
        let mut lines = Vec::new();
        for extra in &self.host().extra_hosts {
            let address = match (extra.address.or(gateway), mode.is_networked()) {
                (Some(address), _) => address,
                (None, true) if networks.is_empty() => continue,
                (None, _) => return Err(NameError::NoGateway),
            };
            lines.push(HostLine { address, names: vec![extra.name.clone()] });
        }
        Ok(lines)
    }

    /// `--link` on the network that all containers are on by default.
    fn links(&self, networks: &[Connected]) -> Result<Vec<Linked>, NameError> {
        let default = networks.iter().find(|(network, _)| network.name == DEFAULT_NETWORK);
        let (Some((network, _)), false) = (default, self.host().links.is_empty()) else {
            return Ok(Vec::new());
        };
        let database = Database::open(&self.root)?;
        self.host()
            .links
            .iter()
            .map(|link| links::find(&database, network, &self.container.name, link))
            .collect()
    }

    /// The container's variables: those of links, its own over them.
    pub(in crate::supervisor) fn environment(
        &self,
        networks: &[Connected],
    ) -> Result<Vec<String>, ExecError> {
        let name = &self.container.name;
        let linked = self.links(networks)?.iter().flat_map(|one| one.variables(name)).collect::<Vec<_>>();
        Ok(crate::model::variables_over(&linked, &self.container.config.env))
    }

    fn resolver(&self, internal: bool) -> Result<Resolver, NameError> {
        let host = self.host();
        let text = host_file(Path::new("/etc/resolv.conf"))?.unwrap_or_default();
        let mut resolver = Resolver::parse(&text);
        let on_host = host.network == NetworkMode::Host;
        if !internal
            && !on_host
            && resolver.servers == [IpAddr::from(STUB)]
            && let Some(uplink) = host_file(Path::new(UPLINK))?
        {
            resolver = Resolver::parse(&uplink);
        }
        let resolver = resolver.with(&host.dns, &host.dns_search, &host.dns_options);
        Ok(match (internal, on_host) {
            (true, _) => resolver.internal(),
            (false, true) => resolver,
            (false, false) => resolver.reachable(!host.dns.is_empty()),
        })
    }
}

/// A file, if there is one, as far as it is text.
fn host_file(path: &Path) -> Result<Option<String>, NameError> {
    let read = || -> io::Result<String> {
        let mut bytes = Vec::new();
        File::open(path)?.take(LARGEST).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    match read() {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(at(path)(error)),
    }
}

/// Writes into the very file that is mounted in the container.
fn rewrite(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
    // Nobody reads an empty one in between.
    file.write_all(bytes)?;
    let end = file.stream_position()?;
    file.set_len(end)
}
