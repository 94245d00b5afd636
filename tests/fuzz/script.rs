//! Inputs that hold together: archives whose checksums are right and whose documents name each other by digest, so that what is
//! fuzzed is not the check of a sum.

use umiak::model::Digest;

/// What separates the parts of an input for `load`.
pub const BETWEEN: &[u8] = b"\n%%\n";

/// Sets the checksum of everything in a tar archive that is where a header would be.
pub fn mend_tar(bytes: &mut [u8]) {
    let mut at = 0;
    while at + 512 <= bytes.len() {
        let header = &mut bytes[at..at + 512];
        at += 512;
        if header.iter().all(|byte| *byte == 0) {
            continue;
        }
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let size = std::str::from_utf8(&header[124..135]).ok();
        let size = size.and_then(|text| usize::from_str_radix(text.trim_matches([' ', '\0']), 8).ok());
        at = at.saturating_add(size.unwrap_or(0).next_multiple_of(512));
    }
}

/// A plain entry of a tar archive.
fn member(out: &mut Vec<u8>, name: &str, data: &[u8]) {
    let mut header = [0; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[100..107].copy_from_slice(b"0000644");
    header[124..135].copy_from_slice(format!("{:011o}", data.len()).as_bytes());
    header[156] = b'0';
    header[257..265].copy_from_slice(b"ustar\x0000");
    let start = out.len();
    out.extend(header);
    out.extend(data);
    out.resize(out.len().next_multiple_of(512), 0);
    mend_tar(&mut out[start..start + 512]);
}

fn replaced(text: &[u8], holes: &[(&str, String)]) -> Vec<u8> {
    let mut text = String::from_utf8_lossy(text).into_owned();
    for (hole, value) in holes {
        text = text.replace(hole, value);
    }
    text.into_bytes()
}

/// The archive that an input describes: `docker`, manifest.json, config, layer; `oci`, index, manifest, config, layer; anything else is
/// the archive itself. `@…@` stands for digests and sizes, which are put in.
pub fn archive(input: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    let mut rest = input;
    while let Some(at) =
        rest.windows(BETWEEN.len()).position(|window| window == BETWEEN).filter(|_| parts.len() < 4)
    {
        parts.push(&rest[..at]);
        rest = &rest[at + BETWEEN.len()..];
    }
    let mut layer = rest.to_vec();
    mend_tar(&mut layer);
    let about = |name: &str, bytes: &[u8]| {
        [
            (format!("@{name}@"), Digest::of(bytes).to_string()),
            (format!("@{name}-size@"), bytes.len().to_string()),
        ]
    };
    let mut holes = about("layer", &layer).to_vec();
    let mut fill = |name: &str, text: &[u8]| {
        let known: Vec<_> = holes.iter().map(|(hole, value)| (hole.as_str(), value.clone())).collect();
        let bytes = replaced(text, &known);
        holes.extend(about(name, &bytes));
        bytes
    };
    let mut out = Vec::new();
    match parts.as_slice() {
        [b"docker", manifest, config, ..] => {
            let config = fill("config", config);
            member(&mut out, "l.tar", &layer);
            member(&mut out, "c.json", &config);
            member(&mut out, "manifest.json", &fill("manifest", manifest));
        }
        [b"oci", index, manifest, config] => {
            let config = fill("config", config);
            let manifest = fill("manifest", manifest);
            let index = fill("index", index);
            member(&mut out, "oci-layout", b"{\"imageLayoutVersion\":\"1.0.0\"}");
            for blob in [&layer, &config, &manifest] {
                member(&mut out, &format!("blobs/sha256/{}", Digest::of(blob).hex()), blob);
            }
            member(&mut out, "index.json", &index);
        }
        _ => {
            let mut whole = input.to_vec();
            mend_tar(&mut whole);
            return whole;
        }
    }
    out.resize(out.len() + 1024, 0);
    out
}
