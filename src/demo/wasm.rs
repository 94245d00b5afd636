//! A WASI preview 1 module that writes one text and ends, encoded by hand. Pure.
//!
//! A module is a magic number, a version and sections in the order of their ids, each with its size in front; numbers are
//! LEB128 (WebAssembly core specification, §5). Ours, as text:
//!
//! ```wat
//! (module
//!   (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
//!   (import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))
//!   (func (export "_start")
//!     ;; standard output, one iovec at 0, the count to 8; anything but success and all of it ends with 1
//!     (call 0 (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))
//!     (i32.ne (i32.load (i32.const 8)) (i32.const SIZE))
//!     (if (i32.or) (then (call 1 (i32.const 1)))))
//!   (memory (export "memory") 1 1)
//!   (data (i32.const 0) "\10\00\00\00" SIZE "\00\00\00\00\00\00\00\00" TEXT))
//! ```

/// Where the text begins in memory: behind the iovec (address and size) and the count, with 4 bytes to spare.
const TEXT_AT: u32 = 16;
const COUNT_AT: i32 = 8;
const I32: u8 = 0x7f;

/// The module that writes `text`.
pub(super) fn module(text: &[u8]) -> Vec<u8> {
    let size = u32::try_from(text.len()).unwrap_or(u32::MAX);
    let mut wasm = b"\0asm\x01\0\0\0".to_vec();
    let types = [function_type(&[I32; 4], &[I32]), function_type(&[I32], &[]), function_type(&[], &[])];
    section(&mut wasm, 1, &vector(&types));
    section(&mut wasm, 2, &vector(&[import("fd_write", 0), import("proc_exit", 1)]));
    section(&mut wasm, 3, &vector(&[vec![2]])); //                one function, of the third type
    section(&mut wasm, 5, &vector(&[vec![1, 1, 1]])); //          one memory: at least and at most one page
    let exports = [[name("memory"), vec![2, 0]].concat(), [name("_start"), vec![0, 2]].concat()];
    section(&mut wasm, 7, &vector(&exports));
    section(&mut wasm, 10, &vector(&[sized(&start(size))]));
    let mut content = TEXT_AT.to_le_bytes().to_vec();
    content.extend(size.to_le_bytes());
    content.extend([0; 8]);
    content.extend_from_slice(text);
    // Mode 0: into memory 0, at a constant address.
    let data = [vec![0], constant(0), vec![0x0b], sized(&content)].concat();
    section(&mut wasm, 11, &vector(&[data]));
    wasm
}

/// The body of `_start`.
fn start(size: u32) -> Vec<u8> {
    let size = i32::try_from(size).unwrap_or(i32::MAX);
    [
        vec![0], //                                               no locals
        constant(1),
        constant(0),
        constant(1),
        constant(COUNT_AT),
        vec![0x10, 0], //                                         call 0
        constant(COUNT_AT),
        vec![0x28, 2, 0], //                                      i32.load, aligned to 2², offset 0
        constant(size),
        vec![0x47, 0x72], //                                      i32.ne, i32.or
        vec![0x04, 0x40], //                                      if, without a result
        constant(1),
        vec![0x10, 1, 0x0b, 0x0b], //                             call 1, end of `if`, end
    ]
    .concat()
}

/// `i32.const`.
fn constant(value: i32) -> Vec<u8> {
    let mut bytes = vec![0x41];
    signed(&mut bytes, value);
    bytes
}

fn function_type(parameters: &[u8], results: &[u8]) -> Vec<u8> {
    [vec![0x60], sized(parameters), sized(results)].concat()
}

fn import(function: &str, its_type: u8) -> Vec<u8> {
    [name("wasi_snapshot_preview1"), name(function), vec![0, its_type]].concat()
}

fn name(text: &str) -> Vec<u8> {
    sized(text.as_bytes())
}

fn section(wasm: &mut Vec<u8>, id: u8, content: &[u8]) {
    wasm.push(id);
    wasm.extend(sized(content));
}

/// A vector: how many, then each.
fn vector(items: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    unsigned(&mut bytes, items.len());
    bytes.extend(items.iter().flatten());
    bytes
}

/// Bytes with their number in front.
fn sized(content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    unsigned(&mut bytes, content.len());
    bytes.extend_from_slice(content);
    bytes
}

/// LEB128: seven bits a byte, lowest first, the eighth set on all but the last.
fn unsigned(into: &mut Vec<u8>, mut value: usize) {
    loop {
        let [low, ..] = value.to_le_bytes();
        value >>= 7;
        if value == 0 {
            into.push(low & 0x7f);
            return;
        }
        into.push(low | 0x80);
    }
}

/// The same for signed numbers: the last byte's bit 6 is the sign.
fn signed(into: &mut Vec<u8>, mut value: i32) {
    loop {
        let [low, ..] = value.to_le_bytes();
        value >>= 7;
        if (value == 0 && low & 0x40 == 0) || (value == -1 && low & 0x40 != 0) {
            into.push(low & 0x7f);
            return;
        }
        into.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_leb128() {
        for (value, bytes) in
            [(0, vec![0]), (127, vec![127]), (128, vec![0x80, 1]), (624_485, vec![0xe5, 0x8e, 0x26])]
        {
            let mut out = Vec::new();
            unsigned(&mut out, value);
            assert_eq!(out, bytes, "{value}");
        }
        for (value, bytes) in [
            (0, vec![0]),
            (63, vec![63]),
            (64, vec![0xc0, 0]),
            (-1, vec![0x7f]),
            (-64, vec![0x40]),
            (-123_456, vec![0xc0, 0xbb, 0x78]),
        ] {
            let mut out = Vec::new();
            signed(&mut out, value);
            assert_eq!(out, bytes, "{value}");
        }
    }
}
