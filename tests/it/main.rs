//! The engine through its real binary: every test has a root and a run folder of its own and leaves nothing on the host.

mod cli;
mod differential;
mod executor;
mod image;
mod names;
mod network;
mod registry;
mod rootless;
mod security;
mod store;
mod support;
mod tidy;
