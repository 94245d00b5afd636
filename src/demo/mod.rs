//! The demo image that the binary carries, `umiak.internal/hello:latest`: a few KB for `linux/amd64`, `linux/arm64` and
//! `wasi/wasm`, made by code whenever it is asked for.
//!
//! Invariants: every call makes the same bytes, in every build (keys of JSON are written in sorted order, so that
//! `serde_json`'s `preserve_order`, which any dependency could switch on, changes nothing; no time is recorded). Layers are
//! not compressed: a layer's digest is its diff id, so a lease on the blobs covers the unpacked layers too. What is built
//! here is what [`crate::registry::image_from`] reads out of the same manifest and config; a test holds us to it. It is
//! not called here, because it can fail and this cannot.
//!
//! The Wasm variant is an OCI image with one raw layer and not a CNCF Wasm artifact: an artifact's config has no place for
//! an entrypoint, and with one `umiak run hello ARGUMENTS` means the same for all variants; the index also stays a plain
//! index of images, which every tool can read.
//!
//! Why not files included at compile time: nobody could review them, and the toolchains for three platforms would be needed
//! to make them again.

mod elf;
mod wasm;

use serde_json::{Value, json};

use crate::model::{Digest, Image, ImageConfig, Layer, LayerKind, Packaging, Platform};

/// The registry that exists inside this program only.
pub const REGISTRY: &str = "umiak.internal";
/// The one repository in it.
pub const REPOSITORY: &str = "hello";

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const TAR: &str = "application/vnd.oci.image.layer.v1.tar";
const WASM: &str = "application/wasm";

/// The demo image as content: what a registry would serve, and what the store records.
#[derive(Debug, Clone)]
pub struct Layout {
    /// What the tag points to.
    pub index: Digest,
    /// The index, then manifest, config and layer of each variant.
    pub blobs: Vec<(Digest, Vec<u8>)>,
    /// One for each platform.
    pub variants: Vec<Variant>,
}

/// The demo image for one platform.
#[derive(Debug, Clone)]
pub struct Variant {
    /// The record, whole: `unpacked_size` is right already.
    pub image: Image,
    /// The layers with their bytes as distributed.
    pub layers: Vec<(Layer, Vec<u8>)>,
}

/// Makes the demo image.
pub fn layout() -> Layout {
    let amd64 = linux_text("linux/amd64");
    let arm64 = linux_text("linux/arm64");
    let programs = [
        ("linux", "amd64", elf::amd64(amd64.as_bytes())),
        ("linux", "arm64", elf::arm64(arm64.as_bytes())),
        ("wasi", "wasm", wasm::module(WASM_TEXT.as_bytes())),
    ];
    let mut parts: Vec<Part> =
        programs.into_iter().map(|(os, architecture, bytes)| part(os, architecture, bytes)).collect();
    let entries: Vec<Value> = parts
        .iter()
        .map(|part| {
            json!({
                "digest": part.image.manifest,
                "mediaType": MANIFEST,
                "platform": {"architecture": part.image.platform.architecture, "os": part.image.platform.os},
                "size": part.manifest.len(),
            })
        })
        .collect();
    let index =
        json!({"manifests": entries, "mediaType": INDEX, "schemaVersion": 2}).to_string().into_bytes();
    let digest = Digest::of(&index);
    let mut blobs = vec![(digest.clone(), index)];
    let mut variants = Vec::new();
    for part in &mut parts {
        part.image.target = digest.clone();
        blobs.push((part.image.manifest.clone(), std::mem::take(&mut part.manifest)));
        blobs.push((part.image.id.clone(), std::mem::take(&mut part.config)));
        blobs.push((part.layer.0.digest.clone(), part.layer.1.clone()));
    }
    variants.extend(parts.into_iter().map(|part| Variant { image: part.image, layers: vec![part.layer] }));
    Layout { index: digest, blobs, variants }
}

/// A variant with its documents.
struct Part {
    image: Image,
    manifest: Vec<u8>,
    config: Vec<u8>,
    layer: (Layer, Vec<u8>),
}

fn part(os: &str, architecture: &str, program: Vec<u8>) -> Part {
    let platform = Platform::new(os, architecture, None);
    let unpacked_size = program.len() as u64;
    let (packaging, kind, media_type, entrypoint, bytes) = if platform.is_wasi() {
        let entrypoint = format!("/{}", Image::WASM_FILE);
        (Packaging::WasmLayer, LayerKind::Wasm, WASM, entrypoint, program)
    } else {
        let archive = tar_of("hello", &program);
        (Packaging::Image, LayerKind::Tar, TAR, "/hello".to_owned(), archive)
    };
    let digest = Digest::of(&bytes);
    let size = bytes.len() as u64;
    let config = json!({
        "architecture": architecture,
        "config": {"Entrypoint": [entrypoint]},
        "os": os,
        "rootfs": {"diff_ids": [digest], "type": "layers"},
    });
    let config = config.to_string().into_bytes();
    let id = Digest::of(&config);
    let manifest = json!({
        "config": {"digest": id, "mediaType": CONFIG, "size": config.len()},
        "layers": [{"digest": digest, "mediaType": media_type, "size": size}],
        "mediaType": MANIFEST,
        "schemaVersion": 2,
    });
    let manifest = manifest.to_string().into_bytes();
    let layer = Layer { digest: digest.clone(), diff_id: digest, size, kind };
    let image = Image {
        id,
        manifest: Digest::of(&manifest),
        // The index's, as soon as there is one.
        target: Digest::of(&manifest),
        platform,
        platform_as_published: format!("{os}/{architecture}"),
        packaging,
        // It is made when it is pulled, and the store knows that time.
        created: None,
        author: None,
        config: ImageConfig { entrypoint: vec![entrypoint], ..ImageConfig::default() },
        layers: vec![layer.clone()],
        unpacked_size,
        history: Vec::new(),
    };
    Part { image, manifest, config, layer: (layer, bytes) }
}

/// A tar archive (POSIX ustar) of one program of root's, made at the epoch. Put together from the header on, since
/// `tar::Builder` can fail and takes the file's name from the host's idea of paths.
fn tar_of(name: &str, program: &[u8]) -> Vec<u8> {
    const BLOCK: usize = 512;
    let mut header = tar::Header::new_ustar();
    for (place, byte) in header.as_old_mut().name.iter_mut().zip(name.bytes()) {
        *place = byte;
    }
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(program.len() as u64);
    header.set_cksum();
    let mut archive = header.as_bytes().to_vec();
    archive.extend_from_slice(program);
    // The file is filled up to a block, and two blocks of zeros end the archive.
    archive.resize(archive.len().next_multiple_of(BLOCK) + 2 * BLOCK, 0);
    archive
}

/// What the Linux variants say.
fn linux_text(platform: &str) -> String {
    format!(
        "Hello from a Linux container!

The image, {REGISTRY}/{REPOSITORY}, came out of umiak itself, not a registry.
Its {platform} variant runs as a process in namespaces of its own: the host's
processes, mounts and name are out of sight. What it changes goes to a layer of
its own (an overlay, where the host allows one); the image stays as it is.

Try next:
  umiak run --platform wasi/wasm hello   the same image as WebAssembly
  umiak run -it debian bash              a shell in another distribution
  umiak ps -a                            all containers, ended ones too
"
    )
}

/// What the Wasm variant says.
const WASM_TEXT: &str = "Hello from a WebAssembly sandbox!

The image came out of umiak itself, not a registry.
Its wasi/wasm variant runs in wasmtime's sandbox, the same on every system:
this container's streams, arguments, environment and files are all it has.

Try next:
  umiak run --platform linux hello   the same in namespaces (on Linux)
  umiak run -it debian bash          a shell in another
  umiak ps -a                        all containers
";

#[cfg(test)]
mod tests;
