//! From manifest and config to [`Image`]: one function for all packagings, pure.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::manifest::{self, Descriptor, Document, LIMITS, Manifest, ManifestError, WASM_CONFIG};
use crate::model::{Digest, Image, ImageConfig, Layer, LayerKind, Packaging, Platform, Timestamp};

/// The image that a manifest and its config describe; `unpacked_size` is 0 until the layers are. `target` is what the tag
/// pointed to. Config values that could not be passed on unharmed (NUL; line ends in names and paths) are refused.
pub fn image_from(manifest: &[u8], config: &[u8], target: &Digest) -> Result<Image, ManifestError> {
    let id = Digest::of(config);
    let Document::Manifest(parsed) = manifest::document(manifest, None)? else {
        return Err(ManifestError::MediaType { what: "manifest", media_type: manifest::OCI_INDEX.into() });
    };
    if parsed.config.digest != id {
        return Err(ManifestError::ConfigDigest { expected: parsed.config.digest, actual: id });
    }
    manifest::within("bytes of the config", config.len() as u64, LIMITS.config)?;
    let mut root = manifest::strict(config, "config")?;
    let mut types = std::iter::once(&parsed.config).chain(&parsed.layers).map(|one| one.media_type.as_str());
    types.try_for_each(own_host)?;
    let kinds: Vec<LayerKind> = parsed.layers.iter().map(layer_kind).collect::<Result<_, _>>()?;
    let packaging = packaging(&parsed, &kinds)?;
    let layers = layers(&parsed, &kinds, &root, packaging)?;
    let (os, architecture) = (string(&mut root, "os")?, string(&mut root, "architecture")?);
    let variant = string(&mut root, "variant")?;
    let platform = Platform::new(&os, &architecture, Some(&variant));
    if architecture.is_empty() || (platform.os.is_empty()) {
        return Err(ManifestError::Value { field: "architecture", rule: "an image names its platform" });
    }
    if packaging != Packaging::Image && !platform.is_wasi() {
        return Err(ManifestError::Value { field: "architecture", rule: "a wasm layer is for `wasm`" });
    }
    if packaging == Packaging::WasmArtifact
        && !matches!(os.to_ascii_lowercase().as_str(), "wasip1" | "wasip2")
    {
        return Err(ManifestError::Value {
            field: "os",
            rule: "a wasm artifact is for `wasip1` or `wasip2`",
        });
    }
    let author = Some(string(&mut root, "author")?).filter(|author| !author.is_empty());
    let created = match string(&mut root, "created")?.as_str() {
        "" => None,
        text => Some(text.parse::<Timestamp>().map_err(|_| bad("created", "a time as in RFC 3339"))?),
    };
    let history = match root.remove("history") {
        Some(Value::Array(items)) => items,
        None | Some(Value::Null) => Vec::new(),
        Some(_) => return Err(bad("history", "a list")),
    };
    let config = match root.remove("config") {
        Some(Value::Object(map)) => run_config(map)?,
        None | Some(Value::Null) => ImageConfig::default(),
        Some(_) => return Err(bad("config", "an object")),
    };
    Ok(Image {
        id,
        manifest: Digest::of(manifest),
        target: target.clone(),
        platform,
        platform_as_published: format!("{os}/{architecture}"),
        packaging,
        created,
        author,
        config,
        layers,
        unpacked_size: 0,
        history,
    })
}

/// Refuses by name what belongs to a host of its own: its triggers, bindings and stores are no part of WASI.
fn own_host(media_type: &str) -> Result<(), ManifestError> {
    let (what, host) = match media_type {
        "application/vnd.fermyon.spin.application.v1+config" => ("Spin application", "Spin"),
        "application/vnd.wasmcloud.provider.archive.config"
        | "application/vnd.wasmcloud.provider.archive.layer.v1+par" => ("wasmCloud provider", "wasmCloud"),
        "application/vnd.wasmcloud.actor.archive.config" => ("wasmCloud actor", "wasmCloud"),
        _ => return Ok(()),
    };
    Err(ManifestError::OwnHost { what, host, media_type: media_type.to_owned() })
}

fn packaging(manifest: &Manifest, kinds: &[LayerKind]) -> Result<Packaging, ManifestError> {
    let wasm = kinds.contains(&LayerKind::Wasm);
    let packaging = match manifest.config.media_type.as_str() {
        WASM_CONFIG => Packaging::WasmArtifact,
        "application/vnd.oci.image.config.v1+json" | "application/vnd.docker.container.image.v1+json" => {
            if wasm {
                Packaging::WasmLayer
            } else {
                Packaging::Image
            }
        }
        other => {
            let media_type = other.chars().take(200).collect();
            return Err(ManifestError::MediaType { what: "config", media_type });
        }
    };
    if packaging == Packaging::Image {
        return Ok(packaging);
    }
    match kinds {
        [LayerKind::Wasm] => Ok(packaging),
        [_] => {
            Err(ManifestError::MediaType { what: "layer", media_type: manifest.layers[0].media_type.clone() })
        }
        _ => Err(ManifestError::WasmLayers { layers: kinds.len() }),
    }
}

fn layer_kind(layer: &Descriptor) -> Result<LayerKind, ManifestError> {
    let foreign = layer.media_type.contains("nondistributable") || layer.media_type.contains(".foreign.");
    if foreign || layer.urls.as_ref().is_some_and(|urls| !urls.is_empty()) {
        return Err(ManifestError::ForeignLayer { digest: layer.digest.clone() });
    }
    Ok(match layer.media_type.as_str() {
        "application/vnd.oci.image.layer.v1.tar" | "application/vnd.docker.image.rootfs.diff.tar" => {
            LayerKind::Tar
        }
        "application/vnd.oci.image.layer.v1.tar+gzip"
        | "application/vnd.docker.image.rootfs.diff.tar.gzip" => LayerKind::TarGzip,
        "application/vnd.oci.image.layer.v1.tar+zstd"
        | "application/vnd.docker.image.rootfs.diff.tar.zstd" => LayerKind::TarZstd,
        "application/wasm"
        | "application/vnd.wasm.content.layer.v1+wasm"
        | "application/vnd.module.wasm.content.layer.v1+wasm"
        | "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm" => LayerKind::Wasm,
        other => {
            let media_type = other.chars().take(200).collect();
            return Err(ManifestError::MediaType { what: "layer", media_type });
        }
    })
}

fn layers(
    manifest: &Manifest,
    kinds: &[LayerKind],
    root: &Map<String, Value>,
    packaging: Packaging,
) -> Result<Vec<Layer>, ManifestError> {
    let listed = root.get("rootfs").and_then(|rootfs| rootfs.get("diff_ids"));
    let mut diff_ids = Vec::new();
    for item in listed.and_then(Value::as_array).into_iter().flatten() {
        let text = item.as_str().ok_or_else(|| bad("rootfs.diff_ids", "a list of digests"))?;
        diff_ids.push(text.parse::<Digest>().map_err(ManifestError::DiffId)?);
    }
    // Raw layers are their own diff ids, and those who publish them often leave the list out.
    if packaging != Packaging::Image && diff_ids.is_empty() {
        diff_ids = manifest.layers.iter().map(|layer| layer.digest.clone()).collect();
    }
    if diff_ids.len() != kinds.len() {
        return Err(ManifestError::LayerCount { layers: kinds.len(), diff_ids: diff_ids.len() });
    }
    let all = manifest.layers.iter().zip(kinds).zip(diff_ids);
    all.map(|((layer, kind), diff_id)| {
        if *kind == LayerKind::Wasm && diff_id != layer.digest {
            return Err(ManifestError::WasmDiffId { digest: layer.digest.clone(), diff_id });
        }
        Ok(Layer { digest: layer.digest.clone(), diff_id, size: layer.size, kind: *kind })
    })
    .collect()
}

fn run_config(mut map: Map<String, Value>) -> Result<ImageConfig, ManifestError> {
    let line = |field: &'static str, text: &str| {
        if text.contains(['\n', '\r', '\0']) { Err(bad(field, "one line without NUL")) } else { Ok(()) }
    };
    let env = strings(&mut map, "Env")?;
    for entry in &env {
        // A value may well have lines; a name may not.
        line("Env", entry.split('=').next().unwrap_or_default())?;
        if entry.starts_with('=') {
            return Err(bad("Env", "`name=value`"));
        }
    }
    let volumes = keys(&mut map, "Volumes")?;
    for path in &volumes {
        line("Volumes", path)?;
        if path.split('/').any(|part| part == "..") {
            return Err(bad("Volumes", "a path without `..`"));
        }
    }
    let exposed_ports = keys(&mut map, "ExposedPorts")?;
    exposed_ports.iter().try_for_each(|port| line("ExposedPorts", port))?;
    let mut labels = BTreeMap::new();
    if let Some(Value::Object(entries)) = map.remove("Labels") {
        for (key, value) in entries {
            let Value::String(value) = value else { return Err(bad("Labels", "texts")) };
            labels.insert(key, value);
        }
    }
    let (user, working_dir) = (string(&mut map, "User")?, string(&mut map, "WorkingDir")?);
    let stop_signal = string(&mut map, "StopSignal")?;
    line("User", &user)?;
    line("WorkingDir", &working_dir)?;
    line("StopSignal", &stop_signal)?;
    Ok(ImageConfig {
        user,
        env,
        entrypoint: strings(&mut map, "Entrypoint")?,
        cmd: strings(&mut map, "Cmd")?,
        working_dir,
        exposed_ports,
        volumes,
        labels,
        stop_signal: Some(stop_signal).filter(|signal| !signal.is_empty()),
        other: map,
    })
}

fn bad(field: &'static str, rule: &'static str) -> ManifestError {
    ManifestError::Value { field, rule }
}

/// A text, empty if there is none.
fn string(map: &mut Map<String, Value>, key: &'static str) -> Result<String, ManifestError> {
    match map.remove(key) {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) if !text.contains('\0') => Ok(text),
        Some(_) => Err(bad(key, "a text without NUL")),
    }
}

/// A list of texts; a lone text is a list of one, as old docker wrote it.
fn strings(map: &mut Map<String, Value>, key: &'static str) -> Result<Vec<String>, ManifestError> {
    let items = match map.remove(key) {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(items)) => items,
        Some(lone) => vec![lone],
    };
    let text = |item| match item {
        Value::String(text) if !text.contains('\0') => Ok(text),
        _ => Err(bad(key, "a list of texts without NUL")),
    };
    items.into_iter().map(text).collect()
}

/// The keys of a set, which Go writes as an object of empty objects.
fn keys(map: &mut Map<String, Value>, key: &'static str) -> Result<Vec<String>, ManifestError> {
    match map.remove(key) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Object(entries)) => Ok(entries.into_iter().map(|(name, _)| name).collect()),
        Some(_) => Err(bad(key, "an object")),
    }
}
