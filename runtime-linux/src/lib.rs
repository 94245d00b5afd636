//! Runs a process in Linux namespaces: root filesystem, cgroup, capabilities, seccomp, terminal. A library that stands
//! alone: it knows of no image, no store and no daemon, and a program can embed it directly (`examples/container.rs`).
//!
//! A caller builds a [`Plan`] (plain values) and calls [`spawn`]; its `main` begins with [`init::main_if_init`], since
//! the crate re-executes the caller's own binary to have a fresh process with one thread. Rust code never runs after
//! `clone` in a process with threads.
//!
//! ```text
//! host process ── posix_spawn ─▶ init (stage one: cgroup, clone3) ── exits
//!      └───────── child ◀──────── pid 1 (root, mounts, users) ─ ready ─ start ─ execve
//! ```
//!
//! Further processes of a container ([`exec`]) come about the same way; their init goes into the container's namespaces.
//!
//! Invariants:
//! - Every mount is made in the container's own mount namespace, so nothing is left mounted after `kill -9`.
//! - Paths from an image are resolved only after the host's tree is gone (`pivot_root` comes first) and through openat2.
//! - Nothing fails silently: a step that cannot be done is an [`InitFailure`] naming step and subject.
//! - What a crash of the host process may leave behind (cgroups) is removed by [`cgroups::sweep`], which is idempotent.
//!
//! Needs Linux 5.12 (`mount_setattr`). On other systems the crate is empty.
#![cfg(target_os = "linux")]
#![deny(unsafe_code)]

pub mod apparmor;
pub mod aside;
pub mod caps;
pub mod cgroups;
pub mod companion;
pub mod detached;
mod exec;
mod failure;
pub mod foreign;
pub mod init;
mod join;
pub mod landlock;
mod mounts;
mod nested;
pub mod net;
mod plan;
pub mod processors;
mod reaper;
mod remap;
mod rootfs;
pub mod seccomp;
mod spawn;
mod sys;
pub mod userns;
mod users;
pub mod wall;
mod wire;

pub use exec::{ExecPlan, exec};
pub use failure::{Cause, InitFailure, Step};
pub use plan::{
    CgroupPlan, Device, DeviceRule, Limits, MASKED_PATHS, Mount, Namespace, Namespaces, Network, Peer, Plan,
    Propagation, READONLY_PATHS, Rlimit, Root, Seccomp, Shm, Throttle, ThrottleKind, WindowSize,
};
pub use spawn::{Created, Exit, SpawnError, StartError, Stdio, resize, spawn};
pub use sys::heap::Allocator;
pub use userns::{IdMappings, IdRange};
