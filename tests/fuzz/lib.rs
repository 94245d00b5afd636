//! Fuzzing of what reads untrusted bytes: names, documents, archives, headers, files of credentials.
//!
//! A small fuzzer of our own and not `libFuzzer`: that one is C++ and needs a nightly compiler or another target than the tests',
//! for which everything below the engine, wasmtime first, would be built once more. What guides it is the same ([`coverage`]), inputs
//! are changed by what [`mutate`] knows of their formats, and [`targets`] says what each input must and must not do.

pub mod coverage;
pub mod mutate;
pub mod script;
pub mod targets;
