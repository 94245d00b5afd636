//! The demo image: its bytes, its records, and what its programs do.

use std::io::Read;

use super::*;
use crate::model::Platform;
use crate::registry::{self, Descriptor};

fn blob<'a>(layout: &'a Layout, digest: &Digest) -> &'a [u8] {
    &layout.blobs.iter().find(|(known, _)| known == digest).unwrap().1
}

fn variant(layout: &Layout, platform: &str) -> Variant {
    let wanted: Platform = platform.parse().unwrap();
    layout.variants.iter().find(|variant| variant.image.platform == wanted).unwrap().clone()
}

/// The one file of a Linux variant.
fn program(platform: &str) -> Vec<u8> {
    let archive = variant(&layout(), platform).layers.remove(0).1;
    let mut archive = tar::Archive::new(archive.as_slice());
    let mut files = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        assert_eq!(entry.path_bytes().as_ref(), b"hello");
        let header = entry.header();
        assert_eq!((header.mode().unwrap(), header.mtime().unwrap()), (0o755, 0));
        assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (0, 0));
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        files.push(bytes);
    }
    assert_eq!(files.len(), 1);
    files.remove(0)
}

/// Every descriptor in a document, at any depth.
fn descriptors(value: &Value, into: &mut Vec<Descriptor>) {
    match value {
        Value::Object(map) => {
            if map.contains_key("size") {
                into.push(serde_json::from_value(value.clone()).unwrap());
            }
            map.values().for_each(|inner| descriptors(inner, into));
        }
        Value::Array(items) => items.iter().for_each(|inner| descriptors(inner, into)),
        _ => {}
    }
}

fn sorted(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.keys().is_sorted() && map.values().all(sorted),
        Value::Array(items) => items.iter().all(sorted),
        _ => true,
    }
}

#[test]
fn every_blob_is_named_once_and_truly() {
    let layout = layout();
    assert_eq!(layout.blobs[0].0, layout.index);
    let mut named = Vec::new();
    for (digest, bytes) in &layout.blobs {
        assert_eq!(&Digest::of(bytes), digest);
        if let Ok(document) = serde_json::from_slice::<Value>(bytes) {
            descriptors(&document, &mut named);
        }
    }
    for entry in &named {
        assert_eq!(blob(&layout, &entry.digest).len() as u64, entry.size, "{entry:?}");
    }
    let mut known: Vec<_> = named.iter().map(|entry| &entry.digest).chain([&layout.index]).collect();
    let mut all: Vec<_> = layout.blobs.iter().map(|(digest, _)| digest).collect();
    known.sort();
    all.sort();
    assert_eq!(known, all);
    assert_eq!(all.len(), 1 + 3 * 3);
}

#[test]
fn it_is_a_few_kilobytes_and_always_the_same() {
    let (one, two) = (layout(), layout());
    assert_eq!(one.index, two.index);
    assert_eq!(one.blobs, two.blobs);
    let total: usize = one.blobs.iter().map(|(_, bytes)| bytes.len()).sum();
    assert!(total < 8 << 10, "{total} bytes");
}

#[test]
fn keys_are_written_in_sorted_order() {
    // Else the digests would hang on a feature of `serde_json`. Text is compared, as a map would sort while it is read.
    for (_, bytes) in layout().blobs.iter().filter(|(_, bytes)| bytes.starts_with(b"{")) {
        let value: Value = serde_json::from_slice(bytes).unwrap();
        assert!(sorted(&value));
        assert_eq!(value.to_string().as_bytes(), bytes.as_slice());
    }
}

#[test]
fn the_records_are_what_a_pull_would_make() {
    let layout = layout();
    for variant in &layout.variants {
        let (manifest, config) = (blob(&layout, &variant.image.manifest), blob(&layout, &variant.image.id));
        let mut pulled = registry::image_from(manifest, config, &layout.index).unwrap();
        // The one thing that neither document says.
        let (layer, bytes) = &variant.layers[0];
        pulled.unpacked_size = match layer.kind {
            LayerKind::Wasm => bytes.len() as u64,
            _ => program(&variant.image.platform.to_string()).len() as u64,
        };
        assert_eq!(pulled, variant.image);
        let layers: Vec<_> = variant.layers.iter().map(|(layer, _)| layer.clone()).collect();
        assert_eq!(layers, variant.image.layers);
        assert_eq!(layer.digest, layer.diff_id);
        assert_eq!(blob(&layout, &layer.digest), bytes);
    }
}

#[test]
fn the_index_offers_each_platform() {
    let layout = layout();
    let index: Value = serde_json::from_slice(blob(&layout, &layout.index)).unwrap();
    let entries: Vec<Descriptor> = serde_json::from_value(index["manifests"].clone()).unwrap();
    for platform in ["linux/amd64", "linux/arm64", "wasi/wasm"] {
        let chosen = registry::select(&entries, &[platform.parse().unwrap()]);
        assert_eq!(chosen.len(), 1, "{platform}");
        assert_eq!(chosen[0].digest, variant(&layout, platform).image.manifest);
    }
    assert!(registry::select(&entries, &["linux/riscv64".parse().unwrap()]).is_empty());
}

#[test]
fn texts_fit_a_terminal() {
    for text in [linux_text("linux/amd64"), linux_text("linux/arm64"), WASM_TEXT.to_owned()] {
        assert!(text.ends_with('\n') && text.len() < 4096 && text.is_ascii());
        for line in text.lines() {
            assert!(line.len() <= 80 && line.trim_end() == line, "{line:?}");
        }
    }
}

#[test]
fn linux_programs_are_elf_files_mapped_whole() {
    for (platform, machine) in [("linux/amd64", 62), ("linux/arm64", 183)] {
        let elf = program(platform);
        let long = |at: usize| u64::from_le_bytes(elf[at..at + 8].try_into().unwrap());
        assert_eq!(&elf[..8], b"\x7fELF\x02\x01\x01\0");
        assert_eq!(u16::from_le_bytes([elf[18], elf[19]]), machine);
        assert_eq!((long(32), elf[52], elf[54], elf[56]), (64, 64, 56, 2));
        assert_eq!((long(24), elf[64]), (long(64 + 16) + 176, 1));
        assert_eq!((long(64 + 32), long(64 + 40)), (elf.len() as u64, elf.len() as u64));
        let text = linux_text(platform);
        assert!(elf.ends_with(text.as_bytes()));
        // What the code takes for the text is the text.
        let start = elf.len() - text.len();
        let word = |at: usize| u32::from_le_bytes(elf[at..at + 4].try_into().unwrap());
        let (at, size) = if machine == 62 {
            (176 + 12 + word(176 + 8) as usize, word(176 + 13))
        } else {
            (176 + 4 + ((word(176 + 4) >> 5) as usize & 0x7_ffff) * 4, word(176 + 8) >> 5 & 0xffff)
        };
        assert_eq!((at, size as usize), (start, text.len()), "{platform}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn the_native_program_runs() {
    use std::os::unix::fs::PermissionsExt;
    use std::process::{Command, Stdio};

    let platform = Platform::linux_native().to_string();
    if !matches!(platform.as_str(), "linux/amd64" | "linux/arm64") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hello");
    std::fs::write(&path, program(&platform)).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    // Another test of this process may fork while the file is open for writing; until that child's exec, ours is "busy".
    let run = |stdout: Option<std::fs::File>| {
        for _ in 0..100 {
            let mut command = Command::new(&path);
            let file = stdout.as_ref().map(|file| file.try_clone().unwrap());
            command.stdout(file.map_or_else(Stdio::piped, Stdio::from));
            match command.spawn() {
                Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {
                    std::thread::sleep(std::time::Duration::from_millis(10));
                }
                child => return child.unwrap().wait_with_output().unwrap(),
            }
        }
        panic!("the program stays busy");
    };
    let out = run(None);
    assert_eq!((out.status.code(), String::from_utf8(out.stdout).unwrap()), (Some(0), linux_text(&platform)));
    // Nothing can be written there: the program says so.
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    assert_eq!(run(Some(full)).status.code(), Some(1));
}

#[test]
fn the_module_has_its_sections() {
    let wasm = variant(&layout(), "wasi/wasm").layers.remove(0).1;
    assert_eq!(&wasm[..8], b"\0asm\x01\0\0\0");
    let (mut at, mut ids) = (8, Vec::new());
    while at < wasm.len() {
        ids.push(wasm[at]);
        at += 1;
        let (mut size, mut shift) = (0, 0);
        loop {
            size |= usize::from(wasm[at] & 0x7f) << shift;
            shift += 7;
            at += 1;
            if wasm[at - 1] < 0x80 {
                break;
            }
        }
        at += size;
    }
    assert_eq!((at, ids), (wasm.len(), vec![1, 2, 3, 5, 7, 10, 11]));
    assert!(wasm.ends_with(WASM_TEXT.as_bytes()));
}
