//! Docker's document of a container.
//!
//! Every key that docker 28 was seen to show is here, with its shape where there is nothing to show (`null`, `[]`, `{}`, `""`):
//! a test holds the list. What is ours (`Executor`, `ImagePlatform`) is added.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::document::{list, moment, set};
use super::network;
use crate::cli::output::human;
use crate::engine::Connections;
use crate::executor::wasm;
use crate::model::{
    Container, HealthProbe, HealthStatus, Healthcheck, HostConfig, LogDriver, Mount, MountSource,
    NamespaceMode, NetworkMode, Propagation, RestartPolicy, UserNamespace,
};
use crate::network::wanted_ports;

/// What docker hides and protects of `/proc` and `/sys`.
const MASKED: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The document of a container; `volume`: where a volume's files are; `sizes`: bytes of its own changes, and of everything.
pub(super) fn container(
    container: &Container,
    alive: bool,
    log: &Path,
    volume: &dyn Fn(&str) -> PathBuf,
    connections: &Connections,
    sizes: Option<(u64, u64)>,
) -> Value {
    let args = container.config.args();
    let log = match container.host.log.driver {
        LogDriver::JsonFile if container.state.started.is_some() => log.display().to_string(),
        _ => String::new(),
    };
    let mut document = json!({
        "Id": container.id.as_str(),
        "Created": container.created.to_string(),
        "Path": args.first().cloned().unwrap_or_default(),
        "Args": args.get(1..).unwrap_or_default(),
        "State": state(container, alive),
        "Image": container.image.as_str(),
        "ResolvConfPath": "",
        "HostnamePath": "",
        "HostsPath": "",
        "LogPath": log,
        "Name": format!("/{}", container.name),
        "RestartCount": container.state.restart_count,
        "Driver": "overlay2",
        "Platform": container.platform.os,
        "ImagePlatform": container.platform.to_string(),
        "Executor": executor(container, alive),
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": container.host.security.apparmor.clone().unwrap_or_default(),
        "ExecIDs": null,
        "HostConfig": host(container),
        "GraphDriver": { "Data": null, "Name": "overlay2" },
        "Mounts": container.host.mounts.iter().filter_map(|one| mount(one, &container.host, volume)).collect::<Vec<_>>(),
        "Config": config(container),
        "NetworkSettings": network::settings(container, alive, connections),
    });
    if container.executor.name == wasm::NAME
        && let Some(fields) = document.as_object_mut()
    {
        fields.insert("Grants".to_owned(), grants(container));
    }
    if let (Some((own, all)), Some(fields)) = (sizes, document.as_object_mut()) {
        fields.insert("SizeRw".to_owned(), own.into());
        fields.insert("SizeRootFs".to_owned(), all.into());
    }
    document
}

/// Everything that a Wasm program was given; what is not here it has not.
fn grants(container: &Container) -> Value {
    let host = &container.host;
    // A directory of the host may be given in its place.
    let given = host.mounts.iter().any(|mount| mount.target == "/");
    let root = (!given).then(|| json!({ "Path": "/", "ReadOnly": host.read_only }));
    let mounts = host.mounts.iter().map(|one| json!({ "Path": one.target, "ReadOnly": one.read_only }));
    let everywhere = matches!(host.network, NetworkMode::Host | NetworkMode::Named(_));
    let connect =
        if everywhere && host.allow_net.is_empty() { vec!["*".to_owned()] } else { host.allow_net.clone() };
    let listen: Vec<_> = wanted_ports(container).iter().map(|port| json!(port.container)).collect();
    json!({
        "Directories": root.into_iter().chain(mounts).collect::<Vec<_>>(),
        "Environment": container.config.env.len(),
        "Connect": connect,
        "Listen": if everywhere { json!("*") } else { json!(listen) },
        "Memory": host.resources.memory,
        "Fuel": host.fuel,
    })
}

/// Which executor runs it and why; the installed program where it drives one; what stands around a Wasm program that runs.
fn executor(container: &Container, alive: bool) -> Value {
    let choice = &container.executor;
    let mut value = json!({ "Name": choice.name, "Reason": choice.reason });
    if let Some(runtime) = &choice.runtime {
        value["Runtime"] = json!({
            "Name": runtime.name, "Path": runtime.path, "Args": runtime.args, "Version": runtime.version,
        });
    }
    if choice.name == wasm::NAME {
        value["Walls"] = json!(if alive { container.state.walls.as_slice() } else { &[] });
    }
    value
}

fn state(container: &Container, alive: bool) -> Value {
    let run = &container.state;
    let word = human::state(container, alive);
    let mut state = json!({
        "Status": word,
        // A paused container runs; so does one between two runs, for docker.
        "Running": matches!(word, "running" | "paused" | "restarting"),
        "Paused": word == "paused",
        "Restarting": word == "restarting",
        "OOMKilled": run.oom_killed,
        "Dead": false,
        "Pid": if alive { run.pid } else { 0 },
        "ExitCode": run.exit_code,
        "Error": run.error,
        "StartedAt": moment(run.started),
        "FinishedAt": moment(run.finished),
    });
    if let (Some(health), Some(fields)) = (&run.health, state.as_object_mut()) {
        let probe = |probe: &HealthProbe| {
            json!({
                "Start": probe.start.to_string(),
                "End": probe.end.to_string(),
                "ExitCode": probe.exit_code,
                "Output": probe.output,
            })
        };
        let log: Vec<_> = health.log.iter().map(probe).collect();
        let status = match health.status {
            HealthStatus::Starting => "starting",
            HealthStatus::Healthy => "healthy",
            HealthStatus::Unhealthy => "unhealthy",
        };
        let shown = json!({ "Status": status, "FailingStreak": health.failing_streak, "Log": log });
        fields.insert("Health".to_owned(), shown);
    }
    state
}

fn mode(mode: &NamespaceMode) -> String {
    match mode {
        NamespaceMode::Private => String::new(),
        NamespaceMode::Shareable => "shareable".to_owned(),
        NamespaceMode::None => "none".to_owned(),
        NamespaceMode::Host => "host".to_owned(),
        NamespaceMode::Container(of) => format!("container:{of}"),
    }
}

/// Where private is a word and not nothing.
fn private(of: &NamespaceMode) -> String {
    if *of == NamespaceMode::Private { "private".to_owned() } else { mode(of) }
}

/// Capabilities as docker shows them.
fn capabilities(names: &[String]) -> Value {
    let shown = |name: &String| if name == "ALL" { name.clone() } else { format!("CAP_{name}") };
    if names.is_empty() { Value::Null } else { names.iter().map(shown).collect::<Vec<_>>().into() }
}

fn host(container: &Container) -> Value {
    let host = &container.host;
    let mut document = json!({
        "Binds": list(&host.binds),
        "ContainerIDFile": host.container_id_file,
        "LogConfig": {
            "Type": match host.log.driver { LogDriver::JsonFile => "json-file", LogDriver::None => "none" },
            "Config": host.log.options,
        },
        "NetworkMode": host.network.text(),
        "PortBindings": network::bindings(host),
        "RestartPolicy": restart(host.restart),
        "AutoRemove": host.auto_remove,
        "VolumeDriver": host.volume_driver,
        "VolumesFrom": list(&host.volumes_from),
        "ConsoleSize": [0, 0],
        "CapAdd": capabilities(&host.cap_add),
        "CapDrop": capabilities(&host.cap_drop),
        "CgroupnsMode": private(&host.cgroupns),
        "Dns": host.dns.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "DnsOptions": host.dns_options,
        "DnsSearch": host.dns_search,
        "ExtraHosts": list(&host.extra_hosts.iter().map(ToString::to_string).collect::<Vec<_>>()),
        "GroupAdd": list(&host.group_add),
        "IpcMode": private(&host.ipc),
        "Cgroup": "",
        "Links": list(&host.links.iter().map(|link| format!("{}:{}", link.container, link.alias)).collect::<Vec<_>>()),
        "OomScoreAdj": host.oom_score_adj,
        "PidMode": mode(&host.pid),
        "Privileged": host.privileged,
        "PublishAllPorts": host.publish_all,
        "ReadonlyRootfs": host.read_only,
        "UTSMode": mode(&host.uts),
        "UsernsMode": match host.userns {
            UserNamespace::Default => "",
            UserNamespace::Host => "host",
            UserNamespace::Auto => "auto",
        },
        "ShmSize": host.shm_size.unwrap_or(64 << 20),
        "Runtime": container.executor.runtime.as_ref().map_or(&container.executor.name, |runtime| &runtime.name),
        "Isolation": host.isolation,
        "CgroupParent": host.cgroup_parent,
        "Ulimits": host.ulimits.iter().map(|one| json!({ "Name": one.name, "Hard": one.hard, "Soft": one.soft })).collect::<Vec<_>>(),
    });
    if let Some(fields) = document.as_object_mut() {
        fields.append(&mut resources(host));
        fields.append(&mut confinement(host));
        optional(fields, host);
    }
    document
}

fn restart(policy: RestartPolicy) -> Value {
    let (name, times) = match policy {
        RestartPolicy::No => ("no", 0),
        RestartPolicy::OnFailure(times) => ("on-failure", times),
        RestartPolicy::Always => ("always", 0),
        RestartPolicy::UnlessStopped => ("unless-stopped", 0),
    };
    json!({ "Name": name, "MaximumRetryCount": times })
}

fn resources(host: &HostConfig) -> Map<String, Value> {
    let r = &host.resources;
    let rates = |list: &[(std::path::PathBuf, u64)]| {
        list.iter()
            .map(|(path, rate)| json!({ "Path": path.display().to_string(), "Rate": rate }))
            .collect::<Vec<_>>()
    };
    let devices: Vec<_> = host
        .devices
        .iter()
        .map(|one| {
            json!({
                "PathOnHost": one.host.display().to_string(),
                "PathInContainer": one.container,
                "CgroupPermissions": one.access,
            })
        })
        .collect();
    let document = json!({
        "CpuShares": r.cpu_shares.unwrap_or(0),
        "Memory": r.memory.unwrap_or(0),
        "NanoCpus": r.nano_cpus.unwrap_or(0),
        "BlkioWeight": r.blkio_weight.unwrap_or(0),
        "BlkioWeightDevice": [],
        "BlkioDeviceReadBps": rates(&r.device_read_bps),
        "BlkioDeviceWriteBps": rates(&r.device_write_bps),
        "BlkioDeviceReadIOps": rates(&r.device_read_iops),
        "BlkioDeviceWriteIOps": rates(&r.device_write_iops),
        "CpuPeriod": r.cpu_period.unwrap_or(0),
        "CpuQuota": r.cpu_quota.unwrap_or(0),
        "CpuRealtimePeriod": 0,
        "CpuRealtimeRuntime": 0,
        "CpusetCpus": r.cpuset_cpus.clone().unwrap_or_default(),
        "CpusetMems": r.cpuset_mems.clone().unwrap_or_default(),
        "Devices": devices,
        "DeviceCgroupRules": list(&host.device_cgroup_rules),
        "DeviceRequests": null,
        "MemoryReservation": r.memory_reservation.unwrap_or(0),
        "MemorySwap": r.memory_swap.unwrap_or(0),
        "MemorySwappiness": r.memory_swappiness,
        "OomKillDisable": r.oom_kill_disable,
        "PidsLimit": r.pids_limit,
        "CpuCount": 0,
        "CpuPercent": 0,
        "IOMaximumIOps": 0,
        "IOMaximumBandwidth": 0,
    });
    document.as_object().cloned().unwrap_or_default()
}

fn confinement(host: &HostConfig) -> Map<String, Value> {
    let (masked, read_only) = if host.privileged {
        (Value::Null, Value::Null)
    } else if host.security.system_paths_unconfined {
        (json!([]), json!([]))
    } else {
        (json!(MASKED), json!(READ_ONLY))
    };
    let options = if host.privileged && host.security_opt.is_empty() {
        json!(["label=disable"])
    } else if host.security.system_paths_unconfined {
        json!(host.security_opt)
    } else {
        list(&host.security_opt)
    };
    let document = json!({ "SecurityOpt": options, "MaskedPaths": masked, "ReadonlyPaths": read_only });
    document.as_object().cloned().unwrap_or_default()
}

/// Keys that docker leaves out when there is nothing to say.
fn optional(fields: &mut Map<String, Value>, host: &HostConfig) {
    let mut put = |key: &str, there: bool, value: Value| {
        if there {
            fields.insert(key.to_owned(), value);
        }
    };
    put("Init", host.init, true.into());
    put("Tmpfs", !host.tmpfs.is_empty(), json!(host.tmpfs));
    put("Sysctls", !host.sysctls.is_empty(), json!(host.sysctls));
    put("Annotations", !host.annotations.is_empty(), json!(host.annotations));
    let specs: Vec<_> = host.mount_specs.iter().map(spec).collect();
    put("Mounts", !specs.is_empty(), specs.into());
}

/// A `--mount` as it was asked for.
fn spec(mount: &Mount) -> Value {
    let mut fields = Map::new();
    let mut put = |key: &str, value: Value| fields.insert(key.to_owned(), value);
    let kind = match &mount.source {
        MountSource::Bind { path, .. } => {
            put("Source", path.display().to_string().into());
            "bind"
        }
        MountSource::Volume { name, .. } => {
            if !name.is_empty() {
                put("Source", name.clone().into());
            }
            "volume"
        }
        MountSource::Tmpfs { .. } => "tmpfs",
    };
    put("Type", kind.into());
    put("Target", mount.target.clone().into());
    if mount.read_only {
        put("ReadOnly", true.into());
    }
    let mut options = Map::new();
    let mut option = |key: &str, there: bool, value: Value| {
        if there {
            options.insert(key.to_owned(), value);
        }
    };
    let group = match &mount.source {
        MountSource::Bind { propagation, non_recursive, .. } => {
            let unlike = *propagation != Propagation::Rprivate;
            option("Propagation", unlike, word(*propagation).into());
            option("NonRecursive", *non_recursive, true.into());
            "BindOptions"
        }
        MountSource::Volume { no_copy, subpath, .. } => {
            option("NoCopy", *no_copy, true.into());
            option("Subpath", !subpath.is_empty(), subpath.clone().into());
            "VolumeOptions"
        }
        MountSource::Tmpfs { size, mode, .. } => {
            option("SizeBytes", size.is_some(), json!(size));
            option("Mode", mode.is_some(), json!(mode));
            "TmpfsOptions"
        }
    };
    if !options.is_empty() {
        put(group, options.into());
    }
    fields.into()
}

fn word(propagation: Propagation) -> &'static str {
    match propagation {
        Propagation::Rprivate => "rprivate",
        Propagation::Private => "private",
        Propagation::Rshared => "rshared",
        Propagation::Shared => "shared",
        Propagation::Rslave => "rslave",
        Propagation::Slave => "slave",
    }
}

/// A mount as it is. Docker does not show what `--tmpfs` made.
fn mount(mount: &Mount, host: &HostConfig, volume: &dyn Fn(&str) -> PathBuf) -> Option<Value> {
    // The words after the second colon of a `-v`.
    let given = host.binds.iter().find_map(|bind| {
        let mut parts = bind.split(':').skip(1);
        let target = parts.next()?.trim_end_matches('/');
        (target == mount.target).then(|| parts.next().unwrap_or_default().to_owned())
    });
    let mut shown = json!({ "Source": "", "Destination": mount.target, "Mode": given.clone().unwrap_or_default(), "RW": !mount.read_only, "Propagation": "" });
    let fields = shown.as_object_mut()?;
    let mut put = |key: &str, value: Value| fields.insert(key.to_owned(), value);
    match &mount.source {
        MountSource::Bind { path, propagation, .. } => {
            put("Type", "bind".into());
            put("Source", path.display().to_string().into());
            put("Propagation", word(*propagation).into());
        }
        MountSource::Volume { name, anonymous, .. } => {
            put("Type", "volume".into());
            put("Source", volume(name).display().to_string().into());
            put("Name", name.clone().into());
            put("Driver", "local".into());
            let asked = host.mount_specs.iter().any(|spec| spec.target == mount.target);
            if given.as_deref() == Some("") || asked || (!anonymous && given.is_none()) {
                put("Mode", "z".into());
            }
        }
        MountSource::Tmpfs { .. } => {
            if host.mount_specs.iter().all(|spec| spec.target != mount.target) {
                return None;
            }
            put("Type", "tmpfs".into());
        }
    }
    Some(shown)
}

fn config(container: &Container) -> Value {
    let config = &container.config;
    let hostname = if config.hostname.is_empty() { container.id.short() } else { &config.hostname };
    let attached = |name: &str| config.attach.iter().any(|stream| stream == name);
    let all = config.attach.is_empty();
    let mut document = json!({
        "Hostname": hostname,
        "Domainname": config.domainname,
        "User": config.user,
        "AttachStdin": config.stdin_once || attached("stdin"),
        "AttachStdout": all || attached("stdout"),
        "AttachStderr": all || attached("stderr"),
        "Tty": config.tty,
        "OpenStdin": config.open_stdin,
        "StdinOnce": config.stdin_once,
        "Env": list(&config.env),
        "Cmd": list(&config.cmd),
        "Image": container.image_name,
        "Volumes": set(&config.volumes),
        "WorkingDir": config.working_dir,
        "Entrypoint": list(&config.entrypoint),
        "OnBuild": null,
        "Labels": config.labels,
        // Docker leaves these three out where there is nothing; a template that asks for them is none the worse for `null`.
        "ExposedPorts": set(&config.exposed_ports),
        "StopSignal": config.stop_signal,
        "StopTimeout": container.host.stop_timeout,
    });
    if let (Some(check), Some(fields)) = (&config.healthcheck, document.as_object_mut()) {
        fields.insert("Healthcheck".to_owned(), healthcheck(check));
    }
    document
}

fn healthcheck(check: &Healthcheck) -> Value {
    let numbers = [
        ("Interval", check.interval),
        ("Timeout", check.timeout),
        ("StartPeriod", check.start_period),
        ("StartInterval", check.start_interval),
        ("Retries", u64::from(check.retries)),
    ];
    let mut fields: Map<String, Value> = numbers
        .into_iter()
        .filter(|(_, number)| *number > 0)
        .map(|(key, number)| (key.to_owned(), number.into()))
        .collect();
    if !check.test.is_empty() {
        fields.insert("Test".to_owned(), json!(check.test));
    }
    fields.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::inspect::document::NEVER;
    use crate::model::{
        ContainerConfig, ContainerId, Digest, ExecutorChoice, HostConfig, Platform, RunState, Timestamp,
    };

    fn sample() -> Container {
        Container {
            id: ContainerId::from_bytes([0xab; 32]),
            name: "web".into(),
            created: Timestamp::UNIX_EPOCH,
            image: Digest::of(b""),
            image_name: "busybox".into(),
            layers: Vec::new(),
            platform: Platform::wasi(),
            executor: ExecutorChoice {
                name: "wasm".into(),
                reason: "it is for wasi/wasm".into(),
                runtime: None,
            },
            config: ContainerConfig {
                entrypoint: vec!["/bin/sh".into()],
                cmd: vec!["-c".into(), "x".into()],
                exposed_ports: vec!["80/tcp".into()],
                ..Default::default()
            },
            host: HostConfig::default(),
            state: RunState::default(),
        }
    }

    fn volume(name: &str) -> PathBuf {
        Path::new("/volumes").join(name)
    }

    #[test]
    fn a_container_has_dockers_fields() {
        let made = sample();
        let shown = container(&made, false, Path::new("/log"), &volume, &Connections::default(), None);
        for (pointer, expected) in [
            ("/Name", json!("/web")),
            ("/Path", json!("/bin/sh")),
            ("/Args", json!(["-c", "x"])),
            ("/State/Status", json!("created")),
            ("/State/StartedAt", json!(NEVER)),
            ("/Config/Hostname", json!("abababababab")),
            ("/Config/ExposedPorts", json!({"80/tcp": {}})),
            ("/Config/Volumes", Value::Null),
            ("/HostConfig/NetworkMode", json!("none")),
            ("/Executor/Reason", json!("it is for wasi/wasm")),
        ] {
            assert_eq!(shown.pointer(pointer), Some(&expected), "{pointer}");
        }
    }

    /// What docker 28 shows of a container without wishes, key by key.
    #[test]
    fn no_key_of_dockers_is_missing() {
        let docker: Value = serde_json::from_str(include_str!("docker28.json")).unwrap();
        let made = sample();
        let shown =
            container(&made, false, Path::new("/log"), &volume, &Connections::default(), Some((0, 0)));
        let kind = |value: &Value| std::mem::discriminant(value);
        for part in ["", "/State", "/HostConfig", "/HostConfig/RestartPolicy", "/Config", "/NetworkSettings"]
        {
            let fields = |of: &Value| of.pointer(part).and_then(Value::as_object).cloned().unwrap();
            let ours = fields(&shown);
            for (key, value) in fields(&docker) {
                let own = ours.get(&key).unwrap_or_else(|| panic!("{part}/{key} is missing"));
                // What differs by what the container is, and not by how it is shown.
                if !matches!(
                    key.as_str(),
                    "GraphDriver" | "Env" | "Entrypoint" | "Cmd" | "SizeRw" | "SizeRootFs"
                ) {
                    assert_eq!(kind(own), kind(&value), "{part}/{key}: {own} for {value}");
                }
            }
        }
    }
}
