//! The context of a guest, made from what it is granted.
//!
//! Invariant: nothing comes from the host's process but what [`Grants`] holds. Directories are capabilities (wasmtime-wasi resolves every
//! path beneath its preopen: `openat2` with `RESOLVE_BENEATH` on Linux, by hand elsewhere), so `..` and symbolic links do not lead out.
//!
//! **Limit, on purpose:** an absolute symbolic link inside a preopen (`/etc/alternatives/x -> /usr/bin/x`) is an escape to wasmtime-wasi
//! and is refused with "operation not permitted", even where the target lies in the same preopen. Re-rooting it would need path
//! resolution of our own in front of wasmtime's, which is where sandboxes of this kind have had their holes.
//!
//! **Working directory.** WASI has none. p2 has `initial-cwd`, p1 nothing; wasi-libc (which Rust's std uses in both) strips leading `/`
//! and `./` from paths and preopens alike, so that a preopen `.` cannot be told from `/`: whichever comes last in the list gets every path, absolute ones too (seen with Rust 1.95's p1 and p2). So no `.` is preopened
//! next to `/`: the working directory is given as `initial-cwd` and as `$PWD` (Go's runtime takes it from there), and a wasi-libc
//! guest resolves relative paths from `/`, as under every other WASI runtime. Without a preopen of `/`, `.` is free: grant it as a [`Preopen`].

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use wasmtime::component::ResourceTable;
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use crate::limits::{Limits, Meter};
use crate::module::Kind;
use crate::stdio::{Broken, Stdio};

/// A directory of the host, handed to the guest.
#[derive(Clone, Debug)]
pub struct Preopen {
    /// Directory on the host; may be `/proc/self/fd/N`. Symbolic links in it are followed, so it must be the caller's own.
    pub host: PathBuf,
    /// Its name in the guest, absolute, such as `/` or `/data`. Where several match a path, the longest wins.
    pub guest: String,
    /// Whether the guest may only read.
    pub read_only: bool,
}

/// Everything one run may touch.
#[derive(Debug)]
pub struct Grants {
    /// Arguments, the program's name first.
    pub args: Vec<String>,
    /// Environment; the host's own is never passed on.
    pub env: Vec<(String, String)>,
    /// Working directory in the guest, absolute; see the module's documentation for what reaches which guest.
    pub cwd: Option<String>,
    /// Directories.
    pub preopens: Vec<Preopen>,
    /// Standard input: a pipe, terminal, file or `/dev/null`.
    pub stdin: File,
    /// Standard output.
    pub stdout: File,
    /// Standard error; a trap is reported here as well.
    pub stderr: File,
    /// Whether the guest is told that a stream is a terminal when it is one.
    pub terminal: bool,
    /// The function of a core module to call, `_start` when absent. Components always run `wasi:cli/run`.
    pub entry: Option<String>,
    /// Upper bounds.
    pub limits: Limits,
}

impl Grants {
    /// Grants nothing but three streams.
    pub fn new(stdin: File, stdout: File, stderr: File) -> Self {
        Self {
            args: Vec::new(),
            env: Vec::new(),
            cwd: None,
            preopens: Vec::new(),
            stdin,
            stdout,
            stderr,
            terminal: false,
            entry: None,
            limits: Limits::default(),
        }
    }
}

/// Why something cannot be granted.
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    /// A directory does not open.
    #[error("cannot hand `{}` to the guest as `{guest}`", host.display())]
    Preopen {
        /// Directory on the host.
        host: PathBuf,
        /// Its name in the guest.
        guest: String,
        /// What wasmtime-wasi said.
        #[source]
        source: wasmtime::Error,
    },
    /// WASI passes strings that end with a NUL byte.
    #[error("an argument or variable contains a NUL byte: {value:?}")]
    Nul {
        /// The string.
        value: String,
    },
    /// Standard error could not be duplicated for the report of a trap.
    #[error("cannot duplicate standard error")]
    Stderr(#[source] std::io::Error),
}

/// State of a core module's store.
pub(crate) struct P1 {
    pub(crate) wasi: WasiP1Ctx,
    pub(crate) meter: Meter,
}

impl P1 {
    /// A state that grants nothing, for looking into a linker.
    pub(crate) fn empty() -> Self {
        Self { wasi: WasiCtxBuilder::new().build_p1(), meter: Meter::new(Limits::default()) }
    }
}

/// State of a component's store.
pub(crate) struct P2 {
    ctx: WasiCtx,
    table: ResourceTable,
    pub(crate) meter: Meter,
}

impl WasiView for P2 {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.ctx, table: &mut self.table }
    }
}

/// Makes the state of a core module.
pub(crate) fn p1(grants: &mut Grants, stdio: [Arc<File>; 3]) -> Result<P1, GrantError> {
    Ok(P1 { wasi: builder(grants, stdio, Kind::CoreP1)?.build_p1(), meter: Meter::new(grants.limits) })
}

/// Makes the state of a component.
pub(crate) fn p2(grants: &mut Grants, stdio: [Arc<File>; 3]) -> Result<P2, GrantError> {
    let ctx = builder(grants, stdio, Kind::ComponentP2)?.build();
    Ok(P2 { ctx, table: ResourceTable::new(), meter: Meter::new(grants.limits) })
}

fn builder(
    grants: &Grants,
    [stdin, stdout, stderr]: [Arc<File>; 3],
    kind: Kind,
) -> Result<WasiCtxBuilder, GrantError> {
    let strings = grants
        .args
        .iter()
        .chain(grants.env.iter().flat_map(|(name, value)| [name, value]))
        .chain(&grants.cwd);
    if let Some(value) = strings.into_iter().find(|value| value.contains('\0')) {
        return Err(GrantError::Nul { value: value.clone() });
    }
    let broken = match kind {
        Kind::CoreP1 => Broken::Errno,
        Kind::ComponentP2 => Broken::Closed,
    };
    let mut wasi = WasiCtxBuilder::new();
    // The guest has a thread of its own: file calls need no other one.
    wasi.allow_blocking_current_thread(true);
    wasi.args(&grants.args).envs(&grants.env);
    if let Some(cwd) = &grants.cwd {
        wasi.initial_cwd(cwd);
        if !grants.env.iter().any(|(name, _)| name == "PWD") {
            wasi.env("PWD", cwd);
        }
    }
    for (stream, file) in [stdin, stdout, stderr].into_iter().enumerate() {
        let shared = Stdio::new(file, grants.terminal, broken);
        match stream {
            0 => wasi.stdin(shared),
            1 => wasi.stdout(shared),
            _ => wasi.stderr(shared),
        };
    }
    for preopen in &grants.preopens {
        let perms = if preopen.read_only { FsPerms::ReadOnly } else { FsPerms::ReadWrite };
        wasi.preopened_dir(&preopen.host, &preopen.guest, perms).map_err(|source| GrantError::Preopen {
            host: preopen.host.clone(),
            guest: preopen.guest.clone(),
            source,
        })?;
    }
    Ok(wasi)
}
