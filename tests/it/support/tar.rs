//! Tar archives byte by byte: what a well-behaved library refuses to write is what these tests need.

/// An entry of a ustar archive.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry<'a> {
    pub(crate) name: &'a str,
    pub(crate) kind: u8,
    pub(crate) link: &'a str,
    pub(crate) mode: u32,
    pub(crate) data: &'a [u8],
    /// Device numbers.
    pub(crate) device: (u32, u32),
    /// PAX records that precede it.
    pub(crate) pax: &'a [(&'a str, &'a str)],
}

pub(crate) fn file<'a>(name: &'a str, mode: u32, data: &'a [u8]) -> Entry<'a> {
    Entry { name, kind: b'0', link: "", mode, data, device: (0, 0), pax: &[] }
}

pub(crate) fn dir(name: &str) -> Entry<'_> {
    Entry { kind: b'5', ..file(name, 0o755, b"") }
}

pub(crate) fn symlink<'a>(name: &'a str, link: &'a str) -> Entry<'a> {
    Entry { kind: b'2', link, ..file(name, 0o777, b"") }
}

pub(crate) fn hard_link<'a>(name: &'a str, link: &'a str) -> Entry<'a> {
    Entry { kind: b'1', link, ..file(name, 0o644, b"") }
}

pub(crate) fn device(name: &str, kind: u8, major: u32, minor: u32) -> Entry<'_> {
    Entry { kind, device: (major, minor), ..file(name, 0o666, b"") }
}

/// The archive of some entries, with its two closing blocks.
pub(crate) fn archive(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    for entry in entries {
        if !entry.pax.is_empty() {
            let records: Vec<u8> = entry.pax.iter().flat_map(|(key, value)| record(key, value)).collect();
            append(&mut out, &Entry { kind: b'x', ..file("pax", 0o644, &records) });
        }
        append(&mut out, entry);
    }
    out.resize(out.len() + 1024, 0);
    out
}

/// `LENGTH KEY=VALUE\n`, where the length counts its own digits.
fn record(key: &str, value: &str) -> Vec<u8> {
    let rest = format!(" {key}={value}\n");
    let mut length = rest.len() + 1;
    while length.to_string().len() + rest.len() != length {
        length += 1;
    }
    format!("{length}{rest}").into_bytes()
}

fn append(out: &mut Vec<u8>, entry: &Entry<'_>) {
    let mut header = [0_u8; 512];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, entry.name.as_bytes());
    put(100, format!("{:07o}", entry.mode).as_bytes());
    put(108, b"0000000");
    put(116, b"0000000");
    put(124, format!("{:011o}", entry.data.len()).as_bytes());
    put(136, b"14500000000");
    put(148, b"        ");
    put(156, &[entry.kind]);
    put(157, entry.link.as_bytes());
    put(257, b"ustar\x0000");
    put(329, format!("{:07o}", entry.device.0).as_bytes());
    put(337, format!("{:07o}", entry.device.1).as_bytes());
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    out.extend_from_slice(&header);
    out.extend_from_slice(entry.data);
    out.resize(out.len().next_multiple_of(512), 0);
}
