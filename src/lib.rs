//! `umiak`: a portable container engine. Linux images run in namespaces on Linux hosts, WASI images in a wasmtime sandbox
//! everywhere, out of one image store, with one naming resolver and one metadata model.
//!
//! # The house
//! Imports go one way, downwards in this list never upwards (a test holds us to it):
//!
//! | module | what it is |
//! |---|---|
//! | [`model`] | pure data and the state machine: ids, digests, platforms, images, containers |
//! | [`mod@reference`] | names of images: parse, normalise, show, resolve |
//! | [`config`] | the one configuration file |
//! | [`watch`] | sleeping until a file is written to |
//! | [`names`], [`demo`] | random names; the demo image that the binary carries |
//! | [`failpoint`] | where tests make a process die or fail |
//! | [`registry`] | the distribution protocol: find, choose a platform, download |
//! | [`store`] | blobs, unpacked layers, containers' roots: nothing visible before it is whole |
//! | [`state`] | the metadata database |
//! | [`network`] | networks of containers: subnets, addresses, published ports, and the host made to match |
//! | [`executor`] | the boundary to what runs containers, and its adapters |
//! | [`supervisor`] | one process per container: streams, log, end |
//! | [`engine`] | the use cases; the only thing that a front end may call |
//! | [`cli`] | the command line |
//!
//! The crates `runtime-linux` and `runtime-wasm` know nothing of the engine: another program can embed either.
//!
//! # Invariants
//! 1. The executor boundary knows no executor: unlike implementations pass one conformance suite, refusals included.
//! 2. A runtime crate knows nothing of the engine; the engine holds a thin adapter to each.
//! 3. Nothing is visible before it is whole: temporary in the same directory, verified, fsynced, renamed, directory fsynced,
//!    then one database transaction.
//! 4. Readers never block, and a dead process is detected, not believed: whether a container lives is a kernel lock.
//! 5. No image-supplied trust: image bytes never reach a deserialiser of native code, never choose privileges, and every
//!    path of theirs is followed through open directories.
//!
//! # Processes
//! `cli → supervisor (same binary, own session) → init → container`. The role is chosen in `main`, before any thread exists.
//! `run` makes the supervisor's process before it reads its own arguments, and tells it what to get ready for while the container is
//! made (`engine::ready`).
#![forbid(unsafe_code)]

pub mod cli;
pub mod config;
pub mod demo;
pub mod engine;
pub mod executor;
pub mod failpoint;
pub mod model;
pub mod names;
pub mod network;
pub mod reference;
pub mod registry;
pub mod state;
pub mod store;
pub mod supervisor;
pub mod watch;
