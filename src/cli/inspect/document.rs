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
        "Wasm": program.map_or(Value::Null, wasm),
        "Size": image.unpacked_size,
        "DistributedSize": image.distributed_size(),
        "RootFS": { "Type": "layers", "Layers": layers },
        "Metadata": { "LastTagTime": view.pulled.to_string() },
        "Descriptor": { "digest": image.target.as_str() },
    })
}
