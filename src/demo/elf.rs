//! Static Linux programs that write one text and end, straight from machine code. Pure.
//!
//! A program is an ELF header, two program headers, the code and the text; the whole file is mapped once, read and execute.
//! No libc, no sections, no symbols: the kernel reads nothing else (elf(5); `fs/binfmt_elf.c`). The exit status is 0 if the
//! whole text was taken by one write, else 1: texts are far below `PIPE_BUF` (4096), so pipes, files and terminals take
//! them whole or not at all (pipe(7)).

/// Where the file is mapped: a multiple of every page size in use (arm64 has pages of up to 64 KiB).
const BASE: u64 = 0x40_0000;
const ALIGN: u64 = 0x1_0000;
const HEADER: u16 = 64;
const PROGRAM_HEADER: u16 = 56;
const HEADERS: u16 = 2;

/// For x86-64; system calls as in syscall(2): number in `rax`, arguments in `rdi`, `rsi`, `rdx`. `edx` outlives `syscall`,
/// which overwrites `rcx`, `r11` and `rax` alone.
pub(super) fn amd64(text: &[u8]) -> Vec<u8> {
    let size = u32_of(text.len()).to_le_bytes();
    let mut code = Vec::new();
    code.extend([0xbf, 1, 0, 0, 0]); //            mov  edi, 1            standard output
    // The operand counts from the end of its own instruction (12) to the text, which follows the code.
    code.extend([0x48, 0x8d, 0x35, 29, 0, 0, 0]); // lea  rsi, [rip + 29]   the text
    code.push(0xba);
    code.extend(size); //                          mov  edx, size
    code.extend([0xb8, 1, 0, 0, 0]); //            mov  eax, 1            write
    code.extend([0x0f, 0x05]); //                  syscall
    code.extend([0x31, 0xff]); //                  xor  edi, edi
    code.extend([0x39, 0xd0]); //                  cmp  eax, edx
    code.extend([0x40, 0x0f, 0x95, 0xc7]); //      setne dil              1 unless all was written
    code.extend([0xb8, 231, 0, 0, 0]); //          mov  eax, 231          exit_group
    code.extend([0x0f, 0x05]); //                  syscall
    code.extend([0x0f, 0x0b]); //                  ud2                    never reached
    file(62, &code, text)
}

/// For arm64; system calls as in syscall(2): number in `x8`, arguments in `x0` to `x2`, result in `x0`.
pub(super) fn arm64(text: &[u8]) -> Vec<u8> {
    // Encodings: Arm Architecture Reference Manual, C6.2.
    let movz = |register: u32, value: u32| 0xd280_0000 | (value & 0xffff) << 5 | register;
    // `adr` counts from itself; multiples of 4 leave its two low bits (29 and 30) 0.
    let adr = |register: u32, words: u32| 0x1000_0000 | words << 5 | register;
    let code = [
        movz(0, 1),                  // mov  x0, #1             standard output
        adr(1, 9),                   // adr  x1, .+36           the text, which follows the code
        movz(2, u32_of(text.len())), // mov  x2, #size
        movz(8, 64),                 // mov  x8, #64            write
        0xd400_0001,                 // svc  #0
        0xeb02_001f,                 // cmp  x0, x2
        0x9a9f_07e0,                 // cset x0, ne             1 unless all was written
        movz(8, 94),                 // mov  x8, #94            exit_group
        0xd400_0001,                 // svc  #0
        0xd420_0000,                 // brk  #0                 never reached
    ];
    let code: Vec<u8> = code.iter().flat_map(|word| word.to_le_bytes()).collect();
    file(183, &code, text)
}

/// The executable: 64 bit, little endian, version 1, System V; `machine` as in elf(5).
fn file(machine: u16, code: &[u8], text: &[u8]) -> Vec<u8> {
    let start = u64::from(HEADER + HEADERS * PROGRAM_HEADER);
    let size = start + (code.len() + text.len()) as u64;
    let mut elf = Vec::new();
    elf.extend(*b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    half(&mut elf, &[2, machine]); // ET_EXEC
    word(&mut elf, &[1]);
    long(&mut elf, &[BASE + start, u64::from(HEADER), 0]); // entry, program headers, no section headers
    word(&mut elf, &[0]); // no flags
    half(&mut elf, &[HEADER, PROGRAM_HEADER, HEADERS, 0, 0, 0]);
    // PT_LOAD, read and execute: offset, two addresses, size in the file and in memory.
    word(&mut elf, &[1, 5]);
    long(&mut elf, &[0, BASE, BASE, size, size, ALIGN]);
    // PT_GNU_STACK, read and write: without it some kernels make the stack executable.
    word(&mut elf, &[0x6474_e551, 6]);
    long(&mut elf, &[0, 0, 0, 0, 0, 16]);
    elf.extend_from_slice(code);
    elf.extend_from_slice(text);
    elf
}

fn half(into: &mut Vec<u8>, values: &[u16]) {
    into.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}

fn word(into: &mut Vec<u8>, values: &[u32]) {
    into.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}

fn long(into: &mut Vec<u8>, values: &[u64]) {
    into.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}

/// Our texts are a few hundred bytes.
fn u32_of(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}
