//! What a file is, told from its first eight bytes and nothing else.
//!
//! Manifests and file names lie or are missing; the header decides. Precompiled code (wasmtime's `.cwasm`, an ELF file) is native code:
//! loading it would run it outside the sandbox, so whatever looks like it is refused here by name, before anything else sees the bytes.
//! Validation proper is wasmtime's: compiling validates, and reports errors instead of panicking.

/// The two kinds of WASI program this crate runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A core module that imports `wasi_snapshot_preview1` and exports `_start`.
    CoreP1,
    /// A component that exports `wasi:cli/run@0.2`.
    ComponentP2,
}

/// Why bytes are not a program.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ModuleError {
    /// Fewer bytes than a header has.
    #[error("the file ends after {len} bytes, a WebAssembly header has 8")]
    Truncated {
        /// How many bytes there are.
        len: usize,
    },
    /// The magic number is another one.
    #[error("not a WebAssembly file: it starts with {}", hex::encode(.start))]
    NotWasm {
        /// The first four bytes.
        start: [u8; 4],
    },
    /// Native code in wasmtime's own format, or any ELF file.
    #[error("the file looks precompiled (native code), which is never run: only WebAssembly is")]
    Precompiled,
    /// WebAssembly of a version or layer this crate does not know.
    #[error("unknown WebAssembly version {version} of layer {layer}")]
    Version {
        /// Bytes 4 and 5, little endian.
        version: u16,
        /// Bytes 6 and 7, little endian: 0 for modules, 1 for components.
        layer: u16,
    },
}

/// Tells the kind from the header (core specification §5.5.16; component model `Binary.md`).
pub fn kind(bytes: &[u8]) -> Result<Kind, ModuleError> {
    if bytes.starts_with(b"\x7fELF") {
        return Err(ModuleError::Precompiled);
    }
    let Some(&[a, b, c, d, v0, v1, l0, l1]) = bytes.first_chunk::<8>() else {
        return Err(ModuleError::Truncated { len: bytes.len() });
    };
    if [a, b, c, d] != *b"\0asm" {
        return Err(ModuleError::NotWasm { start: [a, b, c, d] });
    }
    match (u16::from_le_bytes([v0, v1]), u16::from_le_bytes([l0, l1])) {
        (1, 0) => Ok(Kind::CoreP1),
        (13, 1) => Ok(Kind::ComponentP2),
        (version, layer) => Err(ModuleError::Version { version, layer }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers() {
        let table: &[(&[u8], Result<Kind, ModuleError>)] = &[
            (b"\0asm\x01\0\0\0", Ok(Kind::CoreP1)),
            (b"\0asm\x0d\0\x01\0rest", Ok(Kind::ComponentP2)),
            (b"", Err(ModuleError::Truncated { len: 0 })),
            (b"\0asm\x01", Err(ModuleError::Truncated { len: 5 })),
            (b"#!/bin/sh", Err(ModuleError::NotWasm { start: *b"#!/b" })),
            (b"\x7fELF\x02\x01\x01\0", Err(ModuleError::Precompiled)),
            (b"\x7fELF", Err(ModuleError::Precompiled)),
            (b"\0asm\x02\0\0\0", Err(ModuleError::Version { version: 2, layer: 0 })),
        ];
        for (bytes, expected) in table {
            assert_eq!(&kind(bytes), expected, "{bytes:?}");
        }
    }
}
