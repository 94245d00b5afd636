//! A plan as the `config.json` of the runtime specification. Pure.
//!
//! Written with `json!` and not with the crate `oci-spec`: what is used of the specification fits on a few screens, and is
//! only ever written, never read.

use std::path::Path;

use runtime_linux::foreign::Identity;
use runtime_linux::seccomp::Resolved;
use runtime_linux::{Device, DeviceRule, Limits, Mount, Network, Plan, Propagation, Shm, ThrottleKind, caps};
use serde_json::{Map, Value, json};

/// What of a plan was looked up on the host.
pub(super) struct Found<'a> {
    /// The root directory, as the runtime sees it.
    pub(super) root: &'a Path,
    /// Who the process is.
    pub(super) identity: &'a Identity,
    /// The filter.
    pub(super) seccomp: Option<&'a Resolved>,
    /// Paths of the namespaces that are joined, by the specification's kinds.
    pub(super) joined: &'a [(&'static str, String)],
    /// Where another container's `/dev/shm` is attached.
    pub(super) shm: Option<&'a Path>,
    /// The control group, from the mount points of the hierarchies.
    pub(super) group: &'a str,
}

/// The whole configuration.
pub(super) fn config(plan: &Plan, found: &Found<'_>) -> Value {
    let own_names = plan.namespaces.uts.is_new();
    let mut sysctls: Map<String, Value> =
        plan.sysctls.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    if own_names && !plan.domainname.is_empty() {
        // As docker does: `domainname` is younger than most installed runtimes, which pass it over in silence.
        sysctls.insert("kernel.domainname".to_owned(), json!(plan.domainname));
    }
    // What a mount below receives comes through the root's mount.
    let receives = |mount: &Mount| {
        let Mount::Bind { propagation, .. } = mount else { return false };
        matches!(propagation, Propagation::Slave | Propagation::Rslave | Propagation::Private)
    };
    let mut config = json!({
        "ociVersion": "1.0.2",
        "process": process(plan, found.identity),
        "root": { "path": found.root, "readonly": plan.read_only },
        "mounts": mounts(plan, found),
        "linux": {
            "namespaces": namespaces(plan, found),
            "devices": plan.devices.iter().map(device).collect::<Vec<_>>(),
            "cgroupsPath": format!("/{}", found.group),
            "resources": all_resources(plan),
            "sysctl": sysctls,
            "maskedPaths": plan.masked_paths,
            "readonlyPaths": plan.readonly_paths,
            "rootfsPropagation": if plan.mounts.iter().any(receives) { "rslave" } else { "rprivate" },
        },
    });
    if own_names && !plan.hostname.is_empty() {
        config["hostname"] = json!(plan.hostname);
    }
    if let Some(seccomp) = found.seccomp {
        config["linux"]["seccomp"] = json!(seccomp);
    }
    config
}

/// `process`, of the container or of a further one.
pub(super) fn process(plan: &Plan, identity: &Identity) -> Value {
    let mut env = plan.env.clone();
    if !env.iter().any(|pair| pair.starts_with("HOME=")) {
        env.push(format!("HOME={}", identity.home.as_deref().unwrap_or("/")));
    }
    // What the engine itself does not have it cannot give, and a runtime that is asked for it fails.
    let caps: Vec<_> = plan.capabilities.iter().filter(|name| caps::available(name)).collect();
    let rlimit = |limit: &runtime_linux::Rlimit| {
        let name = format!("RLIMIT_{}", limit.name.to_uppercase());
        json!({ "type": name, "soft": limit.soft, "hard": limit.hard })
    };
    let limits: Vec<_> = plan.rlimits.iter().map(rlimit).collect();
    let mut process = json!({
        "terminal": plan.terminal.is_some(),
        "user": { "uid": identity.uid, "gid": identity.gid, "umask": plan.umask, "additionalGids": identity.groups },
        "args": plan.args,
        "env": env,
        "cwd": plan.cwd,
        "capabilities": { "bounding": caps, "effective": caps, "permitted": caps },
        "rlimits": limits,
        "noNewPrivileges": plan.no_new_privs,
    });
    if let Some(size) = plan.terminal {
        process["consoleSize"] = json!({ "height": size.rows, "width": size.cols });
    }
    if let Some(profile) = &plan.apparmor {
        process["apparmorProfile"] = json!(profile);
    }
    if let Some(score) = plan.oom_score_adj {
        process["oomScoreAdj"] = json!(score);
    }
    process
}

fn namespaces(plan: &Plan, found: &Found<'_>) -> Vec<Value> {
    let names = &plan.namespaces;
    let new = [
        ("mount", true),
        ("pid", names.pid.is_new()),
        ("ipc", names.ipc.is_new()),
        ("uts", names.uts.is_new()),
        ("cgroup", names.cgroup.is_new()),
        ("network", plan.network == Network::None),
    ];
    let new = new.into_iter().filter(|(_, wanted)| *wanted).map(|(kind, _)| json!({ "type": kind }));
    new.chain(found.joined.iter().map(|(kind, path)| json!({ "type": kind, "path": path }))).collect()
}

fn mounts(plan: &Plan, found: &Found<'_>) -> Vec<Value> {
    let strict = ["nosuid", "noexec", "nodev"];
    let sys: Vec<_> = strict.into_iter().chain((!plan.privileged).then_some("ro")).collect();
    let fs = |target: &str, kind: &str, options: Vec<&str>| json!({ "destination": target, "type": kind, "source": kind, "options": options });
    let shm_size = format!("size={}", plan.shm_size);
    let mut all = vec![
        fs("/proc", "proc", strict.to_vec()),
        fs("/dev", "tmpfs", vec!["nosuid", "strictatime", "mode=755", "size=65536k"]),
        fs(
            "/dev/pts",
            "devpts",
            vec!["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        fs("/sys", "sysfs", sys.clone()),
        fs("/sys/fs/cgroup", "cgroup", sys),
        fs("/dev/mqueue", "mqueue", strict.to_vec()),
    ];
    let shared = |source: &Path| json!({ "destination": "/dev/shm", "type": "bind", "source": source, "options": ["bind", "rprivate"] });
    match (&plan.shm, found.shm) {
        (Shm::Own, _) => {
            let options = strict.into_iter().chain(["mode=1777", &shm_size]).collect();
            all.push(fs("/dev/shm", "tmpfs", options));
        }
        (Shm::Host, _) => all.push(shared(Path::new("/dev/shm"))),
        (Shm::Of(_), Some(place)) => all.push(shared(place)),
        (Shm::None, _) | (Shm::Of(_), None) => {}
    }
    all.extend(plan.mounts.iter().map(user_mount));
    all
}

fn user_mount(mount: &Mount) -> Value {
    match mount {
        Mount::Bind { source, target, read_only, recursive, propagation, .. } => {
            let mut options = vec![if *recursive { "rbind" } else { "bind" }];
            options.push(match propagation {
                Propagation::Rprivate => "rprivate",
                Propagation::Private => "private",
                Propagation::Rslave => "rslave",
                Propagation::Slave => "slave",
                Propagation::Rshared => "rshared",
                Propagation::Shared => "shared",
            });
            match (read_only, recursive) {
                (true, true) => options.extend(["ro", "rro"]),
                (true, false) => options.push("ro"),
                (false, _) => {}
            }
            json!({ "destination": target, "type": "bind", "source": source, "options": options })
        }
        Mount::Tmpfs { target, options, size } => {
            let has = |name: &str| options.iter().any(|option| option == name);
            let mut all = options.clone();
            all.extend((!has("suid")).then(|| "nosuid".to_owned()));
            all.extend((!has("dev")).then(|| "nodev".to_owned()));
            all.extend(size.map(|bytes| format!("size={bytes}")));
            json!({ "destination": target, "type": "tmpfs", "source": "tmpfs", "options": all })
        }
    }
}

fn device(device: &Device) -> Value {
    json!({
        "path": device.path,
        "type": if device.block { "b" } else { "c" },
        "major": device.major,
        "minor": device.minor,
        "fileMode": device.mode,
        "uid": 0,
        "gid": 0,
    })
}

/// `linux.resources` of a new container. The standard devices are every runtime's own.
fn all_resources(plan: &Plan) -> Value {
    let made = |device: &Device| {
        let kind = if device.block { "b" } else { "c" };
        json!({ "allow": true, "type": kind, "major": device.major, "minor": device.minor, "access": device.access })
    };
    let rule = |rule: &DeviceRule| {
        let mut value = json!({ "allow": true, "type": rule.kind.to_string(), "access": rule.access });
        for (key, number) in [("major", rule.major), ("minor", rule.minor)] {
            if let Some(number) = number {
                value[key] = json!(number);
            }
        }
        value
    };
    // Making a node is no use of it: docker allows it, and so do we.
    let nodes = ["c", "b"].map(|kind| json!({ "allow": true, "type": kind, "access": "m" }));
    let all = json!({ "allow": plan.privileged, "access": "rwm" });
    let devices = std::iter::once(all).chain(nodes).chain(plan.devices.iter().map(made));
    let devices: Vec<_> = devices.chain(plan.device_rules.iter().map(rule)).collect();
    let limits = plan.cgroup.as_ref().map(|group| group.limits.clone()).unwrap_or_default();
    let mut value = resources(&limits);
    value["devices"] = json!(devices);
    value
}

/// `linux.resources`, without devices: what is not limited is left out, and stays as it is in an update.
pub(super) fn resources(limits: &Limits) -> Value {
    let set = |pairs: Vec<(&str, Option<Value>)>| {
        let set = pairs.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
        Value::Object(set.collect())
    };
    let throttles = |kind: ThrottleKind| {
        let of = limits.throttles.iter().filter(|throttle| throttle.kind == kind);
        let of: Vec<_> = of.map(|t| json!({ "major": t.major, "minor": t.minor, "rate": t.rate })).collect();
        (!of.is_empty()).then_some(json!(of))
    };
    let parts = [
        (
            "memory",
            set(vec![
                ("limit", limits.memory.map(|n| json!(n))),
                ("swap", limits.memory_swap.map(|n| json!(n))),
                ("reservation", limits.memory_reservation.map(|n| json!(n))),
                ("swappiness", limits.memory_swappiness.map(|n| json!(n))),
                ("disableOOMKiller", limits.oom_kill_disable.then_some(json!(true))),
            ]),
        ),
        (
            "cpu",
            set(vec![
                ("shares", limits.cpu_shares.map(|n| json!(n))),
                ("quota", limits.cpu_quota.map(|n| json!(n))),
                ("period", limits.cpu_period.map(|n| json!(n))),
                ("cpus", limits.cpuset_cpus.as_ref().map(|list| json!(list))),
                ("mems", limits.cpuset_mems.as_ref().map(|list| json!(list))),
            ]),
        ),
        ("pids", set(vec![("limit", limits.pids.map(|n| json!(n)))])),
        (
            "blockIO",
            set(vec![
                ("weight", limits.blkio_weight.map(|n| json!(n))),
                ("throttleReadBpsDevice", throttles(ThrottleKind::ReadBps)),
                ("throttleWriteBpsDevice", throttles(ThrottleKind::WriteBps)),
                ("throttleReadIOPSDevice", throttles(ThrottleKind::ReadIops)),
                ("throttleWriteIOPSDevice", throttles(ThrottleKind::WriteIops)),
            ]),
        ),
    ];
    let said = parts.into_iter().filter(|(_, part)| part.as_object().is_some_and(|part| !part.is_empty()));
    Value::Object(said.map(|(key, part)| (key.to_owned(), part)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime_linux::{CgroupPlan, Namespace, Root};

    fn written(change: impl FnOnce(&mut Plan)) -> Value {
        let mut plan = Plan::new(Root::Directory("/r".into()), vec!["true".into()]);
        change(&mut plan);
        let identity = Identity { uid: 5, gid: 6, groups: vec![6], home: None };
        let joined = [("ipc", "/proc/9/fd/4".to_owned())];
        let joined = if plan.namespaces.ipc.is_new() { &[][..] } else { &joined[..] };
        let found = Found {
            root: Path::new("/b/rootfs"),
            identity: &identity,
            seccomp: None,
            joined,
            shm: None,
            group: "umiak/x",
        };
        config(&plan, &found)
    }

    fn kinds(config: &Value) -> Vec<&str> {
        let list = config["linux"]["namespaces"].as_array().unwrap();
        list.iter().map(|entry| entry["type"].as_str().unwrap()).collect()
    }

    #[test]
    fn a_plain_plan_has_everything_of_its_own() {
        let config = written(|plan| plan.hostname = "boat".into());
        assert_eq!(kinds(&config), ["mount", "pid", "ipc", "uts", "cgroup", "network"]);
        assert_eq!(
            (config["hostname"].as_str(), config["root"]["readonly"].as_bool()),
            (Some("boat"), Some(false))
        );
        assert_eq!(config["linux"]["cgroupsPath"], "/umiak/x");
        assert_eq!(config["linux"]["resources"]["devices"][0], json!({ "allow": false, "access": "rwm" }));
        assert_eq!(config["process"]["user"]["uid"], 5);
        assert!(config["process"]["env"].as_array().unwrap().contains(&json!("HOME=/")));
        assert!(config["linux"]["resources"].get("memory").is_none() && config.get("hooks").is_none());
    }

    #[test]
    fn shared_namespaces_are_left_out_or_joined() {
        let config = written(|plan| {
            plan.namespaces.uts = Namespace::Inherit;
            plan.namespaces.ipc = Namespace::Join(runtime_linux::Peer { pid: 1, cgroup: "c".into() });
            plan.network = Network::Host;
            plan.hostname = "boat".into();
        });
        assert_eq!(kinds(&config), ["mount", "pid", "cgroup", "ipc"]);
        assert_eq!(config["linux"]["namespaces"][3]["path"], "/proc/9/fd/4");
        assert!(config.get("hostname").is_none(), "the host's name is not changed");
    }

    #[test]
    fn limits_and_mounts_are_written_as_asked() {
        let config = written(|plan| {
            let limits = Limits { memory: Some(1 << 20), pids: Some(7), ..Limits::default() };
            plan.cgroup = Some(CgroupPlan { path: "umiak/x".into(), limits });
            plan.mounts = vec![
                Mount::Bind {
                    source: "/s".into(),
                    subpath: String::new(),
                    target: "/t".into(),
                    read_only: true,
                    recursive: true,
                    propagation: Propagation::Rslave,
                },
                Mount::Tmpfs { target: "/m".into(), options: vec!["noexec".into()], size: Some(9) },
            ];
        });
        let resources = &config["linux"]["resources"];
        assert_eq!(
            (&resources["memory"], &resources["pids"]),
            (&json!({ "limit": 1 << 20 }), &json!({ "limit": 7 }))
        );
        let mounts = config["mounts"].as_array().unwrap();
        assert_eq!(mounts[mounts.len() - 2]["options"], json!(["rbind", "rslave", "ro", "rro"]));
        assert_eq!(mounts[mounts.len() - 1]["options"], json!(["noexec", "nosuid", "nodev", "size=9"]));
        assert_eq!(config["linux"]["rootfsPropagation"], "rslave");
    }
}
