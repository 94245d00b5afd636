//! Docker's documents of a container and of an image.
//!
//! Field names, shapes and the values of what is absent (`[]`, `null`, `""`, the year 1) are docker's, so that templates and
//! programs written for it find what they look for; what is ours (`Executor`, `Packaging`) is added.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::cli::output::human;
use crate::engine::ImageView;
use crate::model::{Container, Timestamp};
use crate::reference::Reference;

/// Go's zero time: never.
const NEVER: &str = "0001-01-01T00:00:00Z";

fn moment(at: Option<Timestamp>) -> String {
    at.map_or_else(|| NEVER.to_owned(), |at| at.to_string())
}

/// A list as docker shows it: `null` where there is none.
fn list(items: &[String]) -> Value {
    if items.is_empty() { Value::Null } else { json!(items) }
}

/// `{"80/tcp": {}}`; `null` where there is none.
fn set(items: &[String]) -> Value {
    if items.is_empty() {
        return Value::Null;
    }
    items.iter().map(|item| (item.clone(), json!({}))).collect::<Map<_, _>>().into()
}

/// The document of a container.
pub(super) fn container(container: &Container, alive: bool, log: &Path) -> Value {
    let args = container.config.args();
    let state = human::state(container, alive);
    let network = container.host.network.text();
    json!({
        "Id": container.id.as_str(),
        "Created": container.created.to_string(),
        "Path": args.first().cloned().unwrap_or_default(),
        "Args": args.get(1..).unwrap_or_default(),
        "State": {
            "Status": state,
            "Running": state == "running",
            "Paused": false,
            "Restarting": false,
            "OOMKilled": container.state.oom_killed,
            "Dead": false,
            "Pid": if alive { container.state.pid } else { 0 },
            "ExitCode": container.state.exit_code,
            "Error": container.state.error,
            "StartedAt": moment(container.state.started),
            "FinishedAt": moment(container.state.finished),
        },
        "Image": container.image.as_str(),
        "LogPath": log.display().to_string(),
        "Name": format!("/{}", container.name),
        "RestartCount": 0,
        "Platform": container.platform.os,
        "ImagePlatform": container.platform.to_string(),
        "Executor": { "Name": container.executor.name, "Reason": container.executor.reason },
        "MountLabel": "",
        "ProcessLabel": "",
        "ExecIDs": null,
        "HostConfig": {
            "NetworkMode": network,
            "AutoRemove": container.host.auto_remove,
            "Runtime": container.executor.name,
            "Privileged": false,
            "ReadonlyRootfs": false,
            "Binds": null,
            "PortBindings": {},
            "RestartPolicy": { "Name": "no", "MaximumRetryCount": 0 },
            "LogConfig": { "Type": "json-file", "Config": {} },
        },
        "Mounts": [],
        "Config": config(container),
        "NetworkSettings": { "Ports": {}, "Networks": { network: {} } },
    })
}

fn config(container: &Container) -> Value {
    let config = &container.config;
    let hostname = if config.hostname.is_empty() { container.id.short() } else { &config.hostname };
    json!({
        "Hostname": hostname,
        "Domainname": "",
        "User": config.user,
        "AttachStdin": config.stdin_once,
        "AttachStdout": true,
        "AttachStderr": true,
        "ExposedPorts": set(&config.exposed_ports),
        "Tty": config.tty,
        "OpenStdin": config.open_stdin,
        "StdinOnce": config.stdin_once,
        "Env": config.env,
        "Cmd": list(&config.cmd),
        "Image": container.image_name,
        "Volumes": set(&config.volumes),
        "WorkingDir": config.working_dir,
        "Entrypoint": list(&config.entrypoint),
        "Labels": config.labels,
        "StopSignal": config.stop_signal,
    })
}

/// The document of an image.
pub(super) fn image(view: &ImageView) -> Value {
    let image = &view.image;
    let config = &image.config;
    let names: Vec<Reference> = view.names.iter().filter_map(|name| name.parse().ok()).collect();
    let tags: Vec<_> = names.iter().filter(|name| name.tag().is_some()).map(ToString::to_string).collect();
    let repositories: BTreeSet<String> = names.iter().map(Reference::familiar_name).collect();
    let digests: Vec<_> = repositories.iter().map(|name| format!("{name}@{}", image.target)).collect();
    let layers: Vec<_> = image.layers.iter().map(|layer| layer.diff_id.as_str()).collect();
    json!({
        "Id": image.id.as_str(),
        "RepoTags": tags,
        "RepoDigests": digests,
        "Comment": "",
        "Created": moment(image.created),
        "Author": image.author.clone().unwrap_or_default(),
        "Config": {
            "User": config.user,
            "ExposedPorts": set(&config.exposed_ports),
            "Env": config.env,
            "Entrypoint": list(&config.entrypoint),
            "Cmd": list(&config.cmd),
            "Volumes": set(&config.volumes),
            "WorkingDir": config.working_dir,
            "Labels": config.labels,
            "StopSignal": config.stop_signal,
        },
        "Architecture": image.platform.architecture,
        "Variant": image.platform.variant,
        "Os": image.platform.os,
        "PublishedPlatform": image.platform_as_published,
        "Packaging": image.packaging,
        "Size": image.unpacked_size,
        "DistributedSize": image.distributed_size(),
        "RootFS": { "Type": "layers", "Layers": layers },
        "Metadata": { "LastTagTime": view.pulled.to_string() },
        "Descriptor": { "digest": image.target.as_str() },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        ContainerConfig, ContainerId, Digest, ExecutorChoice, HostConfig, Platform, RunState,
    };

    #[test]
    fn a_container_has_dockers_fields() {
        let made = Container {
            id: ContainerId::from_bytes([0xab; 32]),
            name: "web".into(),
            created: Timestamp::UNIX_EPOCH,
            image: Digest::of(b""),
            image_name: "busybox".into(),
            layers: Vec::new(),
            platform: Platform::wasi(),
            executor: ExecutorChoice { name: "wasm".into(), reason: "it is for wasi/wasm".into() },
            config: ContainerConfig {
                entrypoint: vec!["/bin/sh".into()],
                cmd: vec!["-c".into(), "x".into()],
                exposed_ports: vec!["80/tcp".into()],
                ..Default::default()
            },
            host: HostConfig::default(),
            state: RunState::default(),
        };
        let shown = container(&made, false, Path::new("/log"));
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
}
