//! Runs WASI programs in a wasmtime sandbox: core modules of WASI p1 and components of WASI p2.
//!
//! A library that stands alone and knows no container engine; an edge program can embed it. A guest gets what [`Grants`] names and
//! nothing else: no environment of the host, no network, no directory that was not handed over.
//!
//! ```text
//! Runtime::new(&Settings) -> load(&Source) -> Program -> run(Grants) -> Running -> wait() -> Exit
//! ```
//! The map: [`engine`](Runtime) configures wasmtime · `module` tells what bytes are, and refuses precompiled ones · `cache` keeps compiled
//! code, and holds the crate's only `unsafe` · `link` gives a guest the interfaces it imports and names those nobody has · `wasi` makes a
//! context from grants · `stdio` connects files as standard streams · `limits` meters memory · `run` runs, stops and reports.
//!
//! Invariants: bytes from outside never reach wasmtime's `deserialize`; a guest that will not stop is stopped (epochs for code, a
//! dropped future for waits, and a bounded wait for a system call that hangs); hostile input gives errors, never a panic.
#![deny(unsafe_code)]

mod cache;
mod engine;
mod limits;
mod link;
mod module;
mod run;
mod sleep;
mod stdio;
mod wasi;

pub use cache::{CacheError, Refused};
pub use engine::{Input, LoadError, Origin, Program, Runtime, Settings, SetupError, Source};
pub use limits::Limits;
pub use link::LinkError;
pub use module::{Kind, ModuleError, kind};
pub use run::{Exit, Interrupter, RunError, Running};
pub use wasi::{GrantError, Grants, Preopen};
