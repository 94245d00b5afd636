//! The flags that `run` and `create` share, and what they mean.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;

use super::super::args::{
    device, env, hostname, label, limits, mode, mount, name, network, number, port, refused::Refused,
    security, signal, supervise,
};
use super::super::fault::Fault;
use super::super::flags::{self, switch};
use crate::engine::{CreateOptions, HealthWish, PullPolicy, Wishes, check_host};
use crate::model::{
    EndpointSettings, ExtraHost, HostConfig, Mount, NamespaceMode, NetworkMode, Platform, PortBinding,
    Resources, Ulimit,
};

/// Everything that says what a container is to be.
#[derive(Debug, Args)]
pub(in crate::cli) struct Flags {
    /// Add a custom host-to-IP mapping (host:ip)
    #[arg(long, value_name = "list", allow_hyphen_values = true, value_parser = network::extra_host)]
    pub(in crate::cli) add_host: Vec<ExtraHost>,
    /// Let a Wasm guest connect to a host (*|name|address|network) and port (host[:port[-port]])
    #[arg(long, value_name = "list", allow_hyphen_values = true, value_parser = network::destination)]
    pub(in crate::cli) allow_net: Vec<String>,
    /// Add an annotation to the container (passed through to the OCI runtime)
    #[arg(long, value_name = "map", allow_hyphen_values = true)]
    pub(in crate::cli) annotation: Vec<String>,
    /// Attach to STDIN, STDOUT or STDERR
    #[arg(short = 'a', long, value_name = "list", allow_hyphen_values = true, value_parser = stream)]
    pub(in crate::cli) attach: Vec<String>,
    /// Block IO (relative weight), between 10 and 1000, or 0 to disable (default 0)
    #[arg(long, value_name = "uint16", allow_hyphen_values = true, value_parser = number::uint16)]
    pub(in crate::cli) blkio_weight: Option<u16>,
    /// Add Linux capabilities
    #[arg(long, value_name = "list", allow_hyphen_values = true)]
    pub(in crate::cli) cap_add: Vec<String>,
    /// Drop Linux capabilities
    #[arg(long, value_name = "list", allow_hyphen_values = true)]
    pub(in crate::cli) cap_drop: Vec<String>,
    /// Optional parent cgroup for the container
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    pub(in crate::cli) cgroup_parent: Option<String>,
    /// Cgroup namespace to use (host|private)
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    pub(in crate::cli) cgroupns: Option<String>,
    /// Write the container ID to the file
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    pub(in crate::cli) cidfile: Option<PathBuf>,
    /// Limit CPU CFS (Completely Fair Scheduler) period
    #[arg(long, value_name = "int", allow_hyphen_values = true, value_parser = number::int)]
    pub(in crate::cli) cpu_period: Option<i64>,
    /// Limit CPU CFS (Completely Fair Scheduler) quota
    #[arg(long, value_name = "int", allow_hyphen_values = true, value_parser = number::int)]
    pub(in crate::cli) cpu_quota: Option<i64>,
    /// CPU shares (relative weight)
    #[arg(short = 'c', long, value_name = "int", allow_hyphen_values = true, value_parser = number::int)]
    pub(in crate::cli) cpu_shares: Option<i64>,
    /// Number of CPUs
    #[arg(long, value_name = "decimal", allow_hyphen_values = true, value_parser = number::cpus)]
    pub(in crate::cli) cpus: Option<i64>,
    /// CPUs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    pub(in crate::cli) cpuset_cpus: Option<String>,
    /// MEMs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    pub(in crate::cli) cpuset_mems: Option<String>,
    /// Add a host device to the container
    #[arg(long, value_name = "list", allow_hyphen_values = true)]
    pub(in crate::cli) device: Vec<String>,
    /// Add a rule to the cgroup allowed devices list
    #[arg(long, value_name = "list", allow_hyphen_values = true, value_parser = device::rule)]
    pub(in crate::cli) device_cgroup_rule: Vec<String>,
    /// Limit read rate (bytes per second) from a device
    #[arg(long, value_name = "list", allow_hyphen_values = true, value_parser = limits::bytes_per_second)]
    pub(in crate::cli) device_read_bps: Vec<(PathBuf, u64)>,
    /// Limit read rate (IO per second) from a device
    #[arg(long, value_name = "list", allow_hyphen_values = true, value_parser = limits::operations_per_second)]
    pub(in crate::cli) device_read_iops: Vec<(PathBuf, u64)>,
    /// Limit write rate (bytes per second) to a device
    #[arg(long, value_name = "list", allow_hyphen_values = true, value_parser = limits::bytes_per_second)]
    pub(in crate::cli) device_write_bps: Vec<(PathBuf, u64)>,
    /// Limit write rate (IO per second) to a device
    #[arg(long, value_name = "list", allow_hyphen_values = true, value_parser = limits::operations_per_second)]
    pub(in crate::cli) device_write_iops: Vec<(PathBuf, u64)>,
    /// Set custom DNS servers
    #[arg(long, value_name = "list", allow_hyphen_values = true, value_parser = network::server)]
    pub(in crate::cli) dns: Vec<std::net::IpAddr>,
    /// Set DNS options
    #[arg(long, alias = "dns-opt", value_name = "list", allow_hyphen_values = true)]
    pub(in crate::cli) dns_option: Vec<String>,
    /// Set custom DNS search domains
    #[arg(long, value_name = "list", allow_hyphen_values = true, value_parser = network::search)]
    pub(in crate::cli) dns_search: Vec<String>,
    /// Container NIS domain name
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    pub(in crate::cli) domainname: Option<String>,
    /// Overwrite the default ENTRYPOINT of the image
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    pub(in crate::cli) entrypoint: Option<String>,
    /// Set environment variables
    #[arg(short = 'e', long, value_name = "list", allow_hyphen_values = true)]
    pub(in crate::cli) env: Vec<String>,
    /// Read in a file of environment variables
    #[arg(long, value_name = "list", allow_hyphen_values = true)]
    pub(in crate::cli) env_file: Vec<PathBuf>,
    /// Expose a port or a range of ports
    #[arg(long, value_name = "list", allow_hyphen_values = true)]
    pub(in crate::cli) expose: Vec<String>,
    /// Let a Wasm guest carry out so many instructions, and trap it then (0 to disable)
    #[arg(long, value_name = "uint", value_parser = clap::value_parser!(u64))]
    pub(in crate::cli) fuel: Option<u64>,
    /// Add additional groups to join
    #[arg(long, value_name = "list", allow_hyphen_values = true)]
    pub(in crate::cli) group_add: Vec<String>,
    /// Command to run to check health
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    pub(in crate::cli) health_cmd: Option<String>,
    /// Time between running the check (ms|s|m|h) (default 0s)
    #[arg(long, value_name = "duration", allow_hyphen_values = true, value_parser = number::duration)]
    pub(in crate::cli) health_interval: Option<i64>,
    /// Consecutive failures needed to report unhealthy
    #[arg(long, value_name = "int", allow_hyphen_values = true, value_parser = number::int)]
    pub(in crate::cli) health_retries: Option<i64>,
    /// Time between running the check during the start period (ms|s|m|h) (default 0s)
    #[arg(long, value_name = "duration", allow_hyphen_values = true, value_parser = number::duration)]
    pub(in crate::cli) health_start_interval: Option<i64>,
    /// Start period for the container to initialize before starting health-retries countdown (ms|s|m|h) (default 0s)
    #[arg(long, value_name = "duration", allow_hyphen_values = true, value_parser = number::duration)]
    pub(in crate::cli) health_start_period: Option<i64>,
    /// Maximum time to allow one check to run (ms|s|m|h) (default 0s)
    #[arg(long, value_name = "duration", allow_hyphen_values = true, value_parser = number::duration)]
    pub(in crate::cli) health_timeout: Option<i64>,
    /// Container host name
    #[arg(short = 'h', long, value_name = "string", allow_hyphen_values = true)]
    pub(in crate::cli) hostname: Option<String>,
    /// Run an init inside the container that forwards signals and reaps processes
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, value_parser = switch, value_name = "bool", action = clap::ArgAction::Set)]
    pub(in crate::cli) init: bool,
    /// Keep STDIN open even if not attached
    #[arg(short = 'i', long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, value_parser = switch, value_name = "bool", action = clap::ArgAction::Set)]
    pub(in crate::cli) interactive: bool,
    /// IPv4 address (e.g., 172.30.100.104)
    #[arg(long, value_name = "ip", allow_hyphen_values = true)]
    pub(in crate::cli) ip: Option<String>,
    #[arg(long, help = "IPv6 address (e.g., 2001:db8::33)", value_name = "ip", allow_hyphen_values = true)]
    pub(in crate::cli) ip6: Option<String>,
    /// IPC mode to use
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    pub(in crate::cli) ipc: Option<String>,
    /// Container isolation technology
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    pub(in crate::cli) isolation: Option<String>,
    /// Set meta data on a container
    #[arg(short = 'l', long, value_name = "list", allow_hyphen_values = true)]
    pub(in crate::cli) label: Vec<String>,
    /// Read in a line delimited file of labels
    #[arg(long, value_name = "list", allow_hyphen_values = true)]
    pub(in crate::cli) label_file: Vec<PathBuf>,
    /// Add link to another container
    #[arg(long, value_name = "list", allow_hyphen_values = true)]
    pub(in crate::cli) link: Vec<String>,
    /// Container IPv4/IPv6 link-local addresses
    #[arg(long, value_name = "list", allow_hyphen_values = true)]
    pub(in crate::cli) link_local_ip: Vec<String>,
    /// Logging driver for the container
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    pub(in crate::cli) log_driver: Option<String>,
    /// Log driver options
    #[arg(long, value_name = "list", allow_hyphen_values = true)]
    pub(in crate::cli) log_opt: Vec<String>,
    /// Container MAC address (e.g., 92:d0:c6:0a:29:33)
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    pub(in crate::cli) mac_address: Option<String>,
    /// Memory limit
    #[arg(short = 'm', long, value_name = "bytes", allow_hyphen_values = true, value_parser = number::size)]
    pub(in crate::cli) memory: Option<u64>,
    /// Memory soft limit
    #[arg(long, value_name = "bytes", allow_hyphen_values = true, value_parser = number::size)]
    pub(in crate::cli) memory_reservation: Option<u64>,
    /// Swap limit equal to memory plus swap: '-1' to enable unlimited swap
    #[arg(long, value_name = "bytes", allow_hyphen_values = true, value_parser = number::swap)]
    pub(in crate::cli) memory_swap: Option<i64>,
    /// Tune container memory swappiness (0 to 100) (default -1)
    #[arg(long, value_name = "int", allow_hyphen_values = true, value_parser = number::int)]
    pub(in crate::cli) memory_swappiness: Option<i64>,
    /// Attach a filesystem mount to the container
    #[arg(long, value_name = "mount", allow_hyphen_values = true, value_parser = mount::mount)]
    pub(in crate::cli) mount: Vec<Mount>,
    /// Assign a name to the container
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    pub(in crate::cli) name: Option<String>,
    /// Connect a container to a network
    #[arg(long, visible_alias = "net", value_name = "network", allow_hyphen_values = true, value_parser = network::parse)]
    pub(in crate::cli) network: Vec<EndpointSettings>,
    /// Add network-scoped alias for the container
    #[arg(long, alias = "net-alias", value_name = "list", allow_hyphen_values = true)]
    pub(in crate::cli) network_alias: Vec<String>,
    /// Disable any container-specified HEALTHCHECK
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, value_parser = switch, value_name = "bool", action = clap::ArgAction::Set)]
    pub(in crate::cli) no_healthcheck: bool,
    /// Disable OOM Killer
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, value_parser = switch, value_name = "bool", action = clap::ArgAction::Set)]
    pub(in crate::cli) oom_kill_disable: bool,
    /// Tune host's OOM preferences (-1000 to 1000)
    #[arg(long, value_name = "int", allow_hyphen_values = true, value_parser = number::int)]
    pub(in crate::cli) oom_score_adj: Option<i64>,
    /// PID namespace to use
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    pub(in crate::cli) pid: Option<String>,
    /// Tune container pids limit (set -1 for unlimited)
    #[arg(long, value_name = "int", allow_hyphen_values = true, value_parser = number::int)]
    pub(in crate::cli) pids_limit: Option<i64>,
    /// Set platform if server is multi-platform capable
    #[arg(long, value_name = "string")]
    pub(in crate::cli) platform: Option<Platform>,
    /// Give extended privileges to this container
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, value_parser = switch, value_name = "bool", action = clap::ArgAction::Set)]
    pub(in crate::cli) privileged: bool,
    /// Publish a container's port(s) to the host
    #[arg(short = 'p', long, value_name = "list", allow_hyphen_values = true, value_parser = published)]
    pub(in crate::cli) publish: Vec<Published>,
    /// Publish all exposed ports to random ports
    #[arg(short = 'P', long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, value_parser = switch, value_name = "bool", action = clap::ArgAction::Set)]
    pub(in crate::cli) publish_all: bool,
    /// Pull image before running ("always", "missing", "never")
    #[arg(long, value_name = "string", value_enum, hide_possible_values = true)]
    pub(in crate::cli) pull: Option<flags::Pull>,
    /// Suppress the pull output
    #[arg(short = 'q', long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, value_parser = switch, value_name = "bool", action = clap::ArgAction::Set)]
    pub(in crate::cli) quiet: bool,
    /// Mount the container's root filesystem as read only
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, value_parser = switch, value_name = "bool", action = clap::ArgAction::Set)]
    pub(in crate::cli) read_only: bool,
    /// Restart policy to apply when a container exits (default "no")
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    pub(in crate::cli) restart: Option<String>,
    /// Automatically remove the container and its associated anonymous volumes when it exits
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, value_parser = switch, value_name = "bool", action = clap::ArgAction::Set)]
    pub(in crate::cli) rm: bool,
    /// Runtime to use for this container
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    pub(in crate::cli) runtime: Option<String>,
    /// Security Options
    #[arg(long, value_name = "list", allow_hyphen_values = true)]
    pub(in crate::cli) security_opt: Vec<String>,
    /// Size of /dev/shm
    #[arg(long, value_name = "bytes", allow_hyphen_values = true, value_parser = number::size)]
    pub(in crate::cli) shm_size: Option<u64>,
    /// Signal to stop the container
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    pub(in crate::cli) stop_signal: Option<String>,
    /// Timeout (in seconds) to stop a container
    #[arg(long, value_name = "int", allow_hyphen_values = true, value_parser = number::int)]
    pub(in crate::cli) stop_timeout: Option<i64>,
    /// Sysctl options
    #[arg(long, value_name = "map", allow_hyphen_values = true, value_parser = limits::sysctl)]
    pub(in crate::cli) sysctl: Vec<(String, String)>,
    /// Mount a tmpfs directory
    #[arg(long, value_name = "list", allow_hyphen_values = true)]
    pub(in crate::cli) tmpfs: Vec<String>,
    /// Allocate a pseudo-TTY
    #[arg(short = 't', long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, value_parser = switch, value_name = "bool", action = clap::ArgAction::Set)]
    pub(in crate::cli) tty: bool,
    /// Ulimit options
    #[arg(long, value_name = "ulimit", allow_hyphen_values = true, value_parser = limits::ulimit)]
    pub(in crate::cli) ulimit: Vec<Ulimit>,
    /// Username or UID (format: <name|uid>[:<group|gid>])
    #[arg(short = 'u', long, value_name = "string", allow_hyphen_values = true)]
    pub(in crate::cli) user: Option<String>,
    /// User namespace to use
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    pub(in crate::cli) userns: Option<String>,
    /// UTS namespace to use
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    pub(in crate::cli) uts: Option<String>,
    /// Bind mount a volume
    #[arg(short = 'v', long, value_name = "list", allow_hyphen_values = true)]
    pub(in crate::cli) volume: Vec<String>,
    /// Optional volume driver for the container
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    pub(in crate::cli) volume_driver: Option<String>,
    /// Mount volumes from the specified container(s)
    #[arg(long, value_name = "list", allow_hyphen_values = true)]
    pub(in crate::cli) volumes_from: Vec<String>,
    /// Working directory inside the container
    #[arg(short = 'w', long, value_name = "string", allow_hyphen_values = true)]
    pub(in crate::cli) workdir: Option<String>,
    /// The image, then what runs in it, untouched.
    #[arg(required = true, trailing_var_arg = true, hide = true)]
    pub(in crate::cli) words: Vec<String>,
}

/// The bindings of one `-p`.
#[derive(Debug, Clone)]
pub(in crate::cli) struct Published(Vec<PortBinding>);

fn published(text: &str) -> Result<Published, Refused> {
    port::publish(text).map(Published)
}

/// A standard stream, for `-a`.
fn stream(text: &str) -> Result<String, Refused> {
    let name = text.to_ascii_lowercase();
    if matches!(name.as_str(), "stdin" | "stdout" | "stderr") {
        return Ok(name);
    }
    Err(Refused::text("valid streams are STDIN, STDOUT and STDERR"))
}

fn refuse<T>(message: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::value(Refused::text(message)))
}

/// The limits that `run`, `create` and `update` take, as typed.
#[derive(Debug, Default)]
pub(in crate::cli) struct Limits<'a> {
    pub(in crate::cli) memory: Option<u64>,
    pub(in crate::cli) memory_swap: Option<i64>,
    pub(in crate::cli) memory_reservation: Option<u64>,
    pub(in crate::cli) cpus: Option<i64>,
    pub(in crate::cli) cpu_shares: Option<i64>,
    pub(in crate::cli) cpu_period: Option<i64>,
    pub(in crate::cli) cpu_quota: Option<i64>,
    pub(in crate::cli) cpuset_cpus: Option<&'a str>,
    pub(in crate::cli) cpuset_mems: Option<&'a str>,
    pub(in crate::cli) blkio_weight: Option<u16>,
}

/// Limits as the engine takes them: 0 is none, as with docker.
pub(in crate::cli) fn resources(limits: &Limits<'_>) -> Result<Resources, Fault> {
    let shares = match limits.cpu_shares.map(u64::try_from) {
        None => None,
        Some(Ok(shares)) => Some(shares),
        Some(Err(_)) => {
            let shares = limits.cpu_shares.unwrap_or_default();
            return refuse(format!("invalid CPU shares ({shares}): value must be a positive integer"));
        }
    };
    let text = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
    // A negative number of processors is none that a host has, and refused with those that are too large; a negative
    // period is refused with those that are too short.
    let cpus = |nano: i64| u64::try_from(nano).unwrap_or(u64::MAX);
    let period = |period: i64| u64::try_from(period).unwrap_or(1);
    Ok(Resources {
        memory: limits.memory.filter(|bytes| *bytes > 0),
        memory_swap: limits.memory_swap.filter(|swap| *swap != 0),
        memory_reservation: limits.memory_reservation.filter(|bytes| *bytes > 0),
        nano_cpus: limits.cpus.filter(|nano| *nano != 0).map(cpus),
        cpu_shares: shares.filter(|shares| *shares > 0),
        cpu_period: limits.cpu_period.filter(|period| *period != 0).map(period),
        cpu_quota: limits.cpu_quota.filter(|quota| *quota != 0),
        cpuset_cpus: text(limits.cpuset_cpus),
        cpuset_mems: text(limits.cpuset_mems),
        blkio_weight: limits.blkio_weight.filter(|weight| *weight > 0),
        ..Resources::default()
    })
}

impl Flags {
    /// What is wrong with them, without a look at the store.
    pub(in crate::cli) fn check(&self) -> Result<(), Fault> {
        if let Some(text) = &self.stop_signal {
            signal::parse(text).map_err(Fault::value)?;
        }
        if let Some(path) = self.cidfile.as_ref().filter(|path| path.exists()) {
            return Err(Fault::CidFile(path.clone()));
        }
        let host = self.host()?;
        if host.uts == NamespaceMode::Host && self.hostname.as_ref().is_some_and(|name| !name.is_empty()) {
            return refuse("conflicting options: hostname and the UTS mode");
        }
        // What docker's daemon would say, with its exit status.
        check_host(&host).map_err(|error| Fault::Engine(error.into()))
    }

    /// What the engine is asked for; `attached`: a client stays with the container from its start.
    pub(in crate::cli) fn options(&self, attached: bool) -> Result<CreateOptions, Fault> {
        let (image, command) = match self.words.split_first() {
            Some((image, command)) => (image.clone(), command.to_vec()),
            None => (String::new(), Vec::new()),
        };
        let variable = |key: &str| std::env::var_os(key);
        let hostname = self.hostname.as_deref().map_or(Ok(None), hostname::parse).map_err(Fault::value)?;
        let name = self.name.as_deref().map_or(Ok(None), name::wanted).map_err(Fault::value)?;
        let mut exposed_ports = Vec::new();
        for text in &self.expose {
            exposed_ports.extend(port::expose(text).map_err(Fault::value)?);
        }
        let bare = self.volume.iter().filter(|text| !text.contains(':')).cloned();
        let wishes = Wishes {
            // An empty one takes the image's away.
            entrypoint: self
                .entrypoint
                .clone()
                .map(|one| if one.is_empty() { Vec::new() } else { vec![one] }),
            command,
            env: env::variables(&self.env_file, &self.env, &variable).map_err(Fault::value)?,
            working_dir: self.workdir.clone(),
            user: self.user.clone().filter(|user| !user.is_empty()),
            hostname,
            domainname: self.domainname.clone().unwrap_or_default(),
            labels: label::labels(&self.label_file, &self.label).map_err(Fault::value)?,
            stop_signal: self.stop_signal.clone(),
            tty: self.tty,
            open_stdin: self.interactive,
            attach_stdin: self.interactive && attached && self.attaches("stdin"),
            attach: self.attach.clone(),
            exposed_ports,
            volumes: bare.collect(),
            health: self.health()?,
        };
        Ok(CreateOptions {
            id: None,
            image,
            wishes,
            name,
            platform: self.platform.clone(),
            runtime: self.runtime.clone().filter(|name| !name.is_empty()),
            pull: self.pull.map_or(PullPolicy::Missing, |pull| pull.0),
            host: self.host()?,
        })
    }

    /// Whether a client stays with this stream: with those that `-a` names, or with all.
    pub(in crate::cli) fn attaches(&self, stream: &str) -> bool {
        self.attach.is_empty() || self.attach.iter().any(|wish| wish == stream)
    }

    /// What is asked of networks and ports.
    fn network(&self, host: &mut HostConfig) -> Result<(), Fault> {
        let plain = network::Plain {
            aliases: &self.network_alias,
            links: &self.link,
            ipv4: self.ip.as_deref(),
            ipv6: self.ip6.as_deref(),
            mac: self.mac_address.as_deref(),
            link_local: &self.link_local_ip,
        };
        (host.network, host.networks, host.links) =
            network::asked(&self.network, &plain).map_err(Fault::value)?;
        host.ports = self.publish.iter().flat_map(|one| one.0.iter().cloned()).collect();
        host.publish_all = self.publish_all;
        host.allow_net.clone_from(&self.allow_net);
        host.dns.clone_from(&self.dns);
        host.dns_options.clone_from(&self.dns_option);
        host.dns_search.clone_from(&self.dns_search);
        host.extra_hosts.clone_from(&self.add_host);
        if matches!(host.network, NetworkMode::Container(_)) {
            for (given, what) in [
                (
                    !host.ports.is_empty() || host.publish_all,
                    "port publishing and the container type network mode",
                ),
                (!self.expose.is_empty(), "port exposing and the container type network mode"),
                (!host.extra_hosts.is_empty(), "custom host-to-IP mapping and the network mode"),
                (!host.dns.is_empty(), "dns and the network mode"),
            ] {
                if given {
                    return refuse(format!("conflicting options: {what}"));
                }
            }
        }
        Ok(())
    }

    /// How the container is confined, limited and supervised.
    fn host(&self) -> Result<HostConfig, Fault> {
        let modes = |text: &Option<String>, parse: fn(&str) -> Result<NamespaceMode, Refused>| {
            parse(text.as_deref().unwrap_or_default()).map_err(Fault::value)
        };
        let (security_opt, security) = security::security(&self.security_opt).map_err(Fault::value)?;
        let devices: Result<_, _> = self.device.iter().map(|text| device::device(text)).collect();
        let ulimits: BTreeMap<_, _> = self.ulimit.iter().map(|one| (one.name.clone(), one.clone())).collect();
        let mut host = HostConfig {
            auto_remove: self.rm,
            restart: supervise::restart(self.restart.as_deref().unwrap_or_default()).map_err(Fault::value)?,
            log: supervise::log(self.log_driver.as_deref().unwrap_or_default(), &self.log_opt)
                .map_err(Fault::value)?,
            volumes_from: self.volumes_from.clone(),
            resources: self.resources()?,
            ulimits: ulimits.into_values().collect(),
            init: self.init,
            privileged: self.privileged,
            cap_add: security::capabilities(&self.cap_add, "CapAdd").map_err(Fault::value)?,
            cap_drop: security::capabilities(&self.cap_drop, "CapDrop").map_err(Fault::value)?,
            security_opt,
            security,
            read_only: self.read_only,
            shm_size: self.shm_size.filter(|size| *size > 0),
            devices: devices.map_err(Fault::value)?,
            device_cgroup_rules: self.device_cgroup_rule.clone(),
            group_add: self.group_add.clone(),
            sysctls: self.sysctl.iter().cloned().collect(),
            oom_score_adj: i32::try_from(self.oom_score_adj.unwrap_or(0)).unwrap_or(i32::MAX),
            pid: modes(&self.pid, mode::pid)?,
            ipc: modes(&self.ipc, mode::ipc)?,
            uts: modes(&self.uts, mode::uts)?,
            cgroupns: modes(&self.cgroupns, mode::cgroup)?,
            userns: mode::user(self.userns.as_deref().unwrap_or_default()).map_err(Fault::value)?,
            cgroup_parent: mode::cgroup_parent(self.cgroup_parent.as_deref().unwrap_or_default())
                .map_err(Fault::value)?,
            stop_timeout: self.stop_timeout,
            fuel: self.fuel.filter(|fuel| *fuel > 0),
            annotations: supervise::map(&self.annotation),
            container_id_file: self
                .cidfile
                .as_ref()
                .map(|path| path.display().to_string())
                .unwrap_or_default(),
            isolation: self.isolation.clone().unwrap_or_default(),
            volume_driver: self.volume_driver.clone().unwrap_or_default(),
            ..HostConfig::default()
        };
        if !matches!(host.isolation.as_str(), "" | "default") {
            return refuse(format!("invalid isolation ({}): linux only supports 'default'", host.isolation));
        }
        if !matches!(host.volume_driver.as_str(), "" | "local") {
            let message =
                format!("volume driver {:?} is not supported: only local exists", host.volume_driver);
            return Err(Fault::value(Refused::Unsupported(message)));
        }
        self.network(&mut host)?;
        self.mounts(&mut host)?;
        Ok(host)
    }

    /// `-v`, `--mount`, `--tmpfs`.
    fn mounts(&self, host: &mut HostConfig) -> Result<(), Fault> {
        if self.volume.is_empty() && self.mount.is_empty() && self.tmpfs.is_empty() {
            return Ok(());
        }
        let here = std::env::current_dir()
            .map_err(|source| Fault::System { action: "finding the working directory", source })?;
        let (mut bare, mut sourced) = (Vec::new(), Vec::new());
        for text in &self.volume {
            let volume = mount::volume(text, &here).map_err(Fault::value)?;
            match volume.bind {
                Some(bind) => {
                    host.binds.push(bind);
                    sourced.push(volume.mount);
                }
                None => bare.push(volume.mount),
            }
        }
        host.mount_specs.clone_from(&self.mount);
        // Of several `--tmpfs` for one path the last counts.
        let mut memory = BTreeMap::new();
        for text in &self.tmpfs {
            let (mount, path, options) = mount::tmpfs(text).map_err(Fault::value)?;
            host.tmpfs.insert(path, options);
            memory.insert(mount.target.clone(), mount);
        }
        host.mounts = sourced;
        host.mounts.extend(self.mount.iter().cloned());
        host.mounts.extend(memory.into_values());
        // A volume without a source gives way to whatever has one.
        for mount in bare {
            if host.mounts.iter().all(|other| other.target != mount.target) {
                host.mounts.push(mount);
            }
        }
        Ok(())
    }

    fn resources(&self) -> Result<Resources, Fault> {
        let swappiness = match self.memory_swappiness {
            None | Some(-1) => None,
            Some(percent) => match u8::try_from(percent) {
                Ok(percent @ 0..=100) => Some(percent),
                _ => {
                    return refuse(format!(
                        "invalid value: {percent}. Valid memory swappiness range is 0-100"
                    ));
                }
            },
        };
        let limits = resources(&Limits {
            memory: self.memory,
            memory_swap: self.memory_swap,
            memory_reservation: self.memory_reservation,
            cpus: self.cpus,
            cpu_shares: self.cpu_shares,
            cpu_period: self.cpu_period,
            cpu_quota: self.cpu_quota,
            cpuset_cpus: self.cpuset_cpus.as_deref(),
            cpuset_mems: self.cpuset_mems.as_deref(),
            blkio_weight: self.blkio_weight,
        })?;
        // Docker's rule: without a word about it, as much swap as memory.
        let twice = || limits.memory.and_then(|bytes| i64::try_from(bytes.saturating_mul(2)).ok());
        Ok(Resources {
            memory_swap: limits.memory_swap.or_else(twice),
            memory_swappiness: swappiness,
            oom_kill_disable: self.oom_kill_disable,
            pids_limit: self.pids_limit.filter(|limit| *limit > 0),
            device_read_bps: self.device_read_bps.clone(),
            device_write_bps: self.device_write_bps.clone(),
            device_read_iops: self.device_read_iops.clone(),
            device_write_iops: self.device_write_iops.clone(),
            ..limits
        })
    }

    fn health(&self) -> Result<HealthWish, Fault> {
        let time = |given: Option<i64>, flag: &str, what: &str| match given.map(u64::try_from) {
            None | Some(Ok(0)) => Ok(None),
            Some(Err(_)) => refuse(format!("--health-{flag} cannot be negative")),
            Some(Ok(short @ 1..1_000_000)) if short > 0 => {
                refuse(format!("{what} in Healthcheck cannot be less than 1ms"))
            }
            Some(Ok(time)) => Ok(Some(time)),
        };
        let wish = HealthWish {
            cmd: self.health_cmd.clone().filter(|line| !line.is_empty()),
            interval: time(self.health_interval, "interval", "Interval")?,
            timeout: time(self.health_timeout, "timeout", "Timeout")?,
            start_period: time(self.health_start_period, "start-period", "StartPeriod")?,
            start_interval: time(self.health_start_interval, "start-interval", "StartInterval")?,
            retries: match self.health_retries.map(u32::try_from) {
                None | Some(Ok(0)) => None,
                Some(Ok(times)) => Some(times),
                Some(Err(_)) => return refuse("--health-retries cannot be negative"),
            },
            disable: false,
        };
        if !self.no_healthcheck {
            return Ok(wish);
        }
        if wish != HealthWish::default() {
            return refuse("--no-healthcheck conflicts with --health-* options");
        }
        Ok(HealthWish { disable: true, ..wish })
    }
}

#[cfg(test)]
#[path = "flags_tests.rs"]
mod tests;
