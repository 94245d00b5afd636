//! Docker's document of an image, and what the two documents share.
//!
//! Field names, shapes and the values of what is absent (`[]`, `null`, `""`, the year 1) are docker's, so that templates and
//! programs written for it find what they look for; what is ours (`Executor`, `Packaging`) is added.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::engine::ImageView;
use crate::executor::wasm::{self, Contents, Need, Role};
use crate::model::Timestamp;
use crate::reference::Reference;

/// Go's zero time: never.
pub(super) const NEVER: &str = "0001-01-01T00:00:00Z";

pub(super) fn moment(at: Option<Timestamp>) -> String {
    at.map_or_else(|| NEVER.to_owned(), |at| at.to_string())
}

/// A list as docker shows it: `null` where there is none.
pub(super) fn list(items: &[String]) -> Value {
    if items.is_empty() { Value::Null } else { json!(items) }
}

/// `{"80/tcp": {}}`; `null` where there is none.
pub(super) fn set(items: &[String]) -> Value {
    if items.is_empty() {
        return Value::Null;
    }
    items.iter().map(|item| (item.clone(), json!({}))).collect::<Map<_, _>>().into()
}

/// What a Wasm program is; `Grants` are the flags without which it cannot do what it may ask for.
fn wasm(program: &Contents) -> Value {
    let names = |items: &[wasm::Item]| items.iter().map(|item| item.name.clone()).collect::<Vec<_>>();
    let flag = |need: &Need| match need {
        Need::Serve => "--publish HOST_PORT:PORT",
        Need::Requests => "--allow-net HOST:PORT (outgoing requests)",
        Need::Sockets => "--allow-net HOST:PORT (sockets)",
    };
    json!({
        "Kind": match program.kind {
            wasm::Kind::CoreP1 => "module",
            wasm::Kind::ComponentP2 => "component",
        },
        "Role": match program.role {
            Role::Command => "command",
            Role::Server => "server",
            Role::Library => "library",
        },
        "Wasi": program.wasi,
        "Imports": names(&program.imports),
        "Exports": names(&program.exports),
        "Missing": program.missing,
        "Grants": program.needs.iter().map(flag).collect::<Vec<_>>(),
    })
}

/// The document of an image.
pub(super) fn image(view: &ImageView, program: Option<&Contents>) -> Value {
    let image = &view.image;
    let config = &image.config;
    let parsed =
        |names: &[String]| names.iter().filter_map(|name| name.parse().ok()).collect::<Vec<Reference>>();
    let tagged = parsed(&view.names).into_iter().filter(|name| name.tag().is_some());
    let tags: Vec<_> = tagged.map(|name| name.to_string()).collect();
    let mut digests = BTreeSet::new();
    for version in view.clone().versions() {
        let target = &version.image.target;
        digests
            .extend(parsed(&version.names).iter().map(|name| format!("{}@{target}", name.familiar_name())));
    }
    let layers: Vec<_> = image.layers.iter().map(|layer| layer.diff_id.as_str()).collect();
    let comment =
        image.history.last().and_then(|step| step.get("comment")).and_then(Value::as_str).unwrap_or_default();
    // Health check, triggers, shell and whatever else there is: as it came.
    let mut run = config.other.clone();
    let known = json!({
        "User": config.user,
        "ExposedPorts": set(&config.exposed_ports),
        "Env": config.env,
        "Entrypoint": list(&config.entrypoint),
        "Cmd": list(&config.cmd),
        "Volumes": set(&config.volumes),
        "WorkingDir": config.working_dir,
        "Labels": config.labels,
        "StopSignal": config.stop_signal,
    });
    run.extend(known.as_object().cloned().unwrap_or_default());
    json!({
        "Id": image.id.as_str(),
        "RepoTags": tags,
        "RepoDigests": digests,
        "Comment": comment,
        "Created": moment(image.created),
        "Author": image.author.clone().unwrap_or_default(),
        "Config": run,
        "Architecture": image.platform.architecture,
        "Variant": image.platform.variant,
        "Os": image.platform.os,
        "PublishedPlatform": image.platform_as_published,
        "Packaging": image.packaging,
        "Wasm": program.map_or(Value::Null, wasm),
        "Size": image.unpacked_size,
        "DistributedSize": image.distributed_size(),
        "RootFS": { "Type": "layers", "Layers": layers },
        "Metadata": { "LastTagTime": view.pulled.to_string() },
        "Descriptor": { "digest": image.target.as_str() },
    })
}
