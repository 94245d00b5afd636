//! Runs WASI programs in a wasmtime sandbox: core modules of WASI p1, components of WASI 0.2 and 0.3, servers of `wasi:http`.
//!
//! A library that stands alone and knows no container engine; an edge program can embed it. A guest gets what [`Grants`] names and
//! nothing else: no environment of the host, no network, no directory that was not handed over.
//!
//! ```text
//! Runtime::new(&Settings) -> load(&Source) -> Program -> run(Grants) | serve(Grants, Serving) -> Running -> wait() -> Exit
//! ```
//! The map: [`engine`](Runtime) loads, `pool` configures wasmtime · `module` tells what bytes are, and refuses precompiled ones · [`inspect`]
//! tells what a program imports and offers, without compiling it · `cache` keeps compiled code, and holds the crate's only `unsafe` · `link`
//! gives a guest the interfaces it imports and names those nobody has · `wasi` makes a context from grants · `network` and `outgoing`
//! hold its connections to them · `stdio` connects files as standard streams, `poll` waits for them · `limits` and `control` meter memory and processor
//! time, freeze and thaw · `run` runs, stops and reports · `invoke` calls functions by name · `http` serves.
//!
//! Invariants: bytes from outside never reach wasmtime's `deserialize`; a guest that will not stop is stopped (epochs for code, a
//! dropped future for waits, and a bounded wait for a system call that hangs); hostile input gives errors, never a panic.
#![deny(unsafe_code)]

mod cache;
mod control;
mod engine;
mod http;
mod inspect;
mod invoke;
mod limits;
mod link;
mod module;
mod network;
mod outgoing;
mod poll;
mod pool;
mod run;
mod stdio;
mod wasi;

pub use cache::{CacheError, CodeUsage, CompiledCode, Refused};
pub use control::{Account, Usage};
pub use engine::{Input, LoadError, Machine, Origin, Program, Runtime, Settings, SetupError, Source};
pub use http::{ServeLimits, Serving};
pub use inspect::{Contents, InspectError, Item, Need, inspect};
pub use limits::Limits;
pub use link::{LinkError, Role};
pub use module::{Kind, ModuleError, kind};
pub use network::{Listen, Network, Target, TargetError};
pub use run::{Exit, Interrupter, RunError, Running};
pub use wasi::{Confine, GrantError, Grants, Preopen};
