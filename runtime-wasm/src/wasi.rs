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
//! next to `/`: a working directory other than `/` is given as `initial-cwd` and as `$PWD` (Go's runtime takes it from there), and a wasi-libc
//! guest resolves relative paths from `/`, as under every other WASI runtime. Without a preopen of `/`, `.` is free: grant it as a [`Preopen`].
//! Where it is `/` nothing is said: that is what guests assume, and their environment is what was granted, to the letter.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use wasmtime::component::ResourceTable;
use wasmtime::{AsContextMut as _, Caller, Extern};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p1::wasi_snapshot_preview1::WasiSnapshotPreview1 as _;
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::control::Account;
use crate::limits::{Limits, Meter};
use crate::module::Kind;
use crate::network::Network;
use crate::outgoing::Requests;
use crate::pool::Engines;
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

/// What a caller does to the thread of a guest before any of the guest's code runs there: threads that it starts inherit it.
#[derive(Clone)]
pub struct Confine(Arc<dyn Fn() -> std::io::Result<()> + Send + Sync>);

impl Confine {
    /// Does this.
    pub fn new(confine: impl Fn() -> std::io::Result<()> + Send + Sync + 'static) -> Self {
        Self(Arc::new(confine))
    }

    pub(crate) fn confine(&self) -> std::io::Result<()> {
        (self.0)()
    }
}

impl std::fmt::Debug for Confine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Confine")
    }
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
    /// The function to call instead of the program's own beginning, with the arguments after the first as its parameters.
    pub entry: Option<String>,
    /// What may be reached; by default nothing.
    pub network: Network,
    /// Upper bounds; without effect where there is an account.
    pub limits: Limits,
    /// What this run shares with others; one of its own when absent.
    pub account: Option<Account>,
    /// A second wall, of the caller's.
    pub confine: Option<Confine>,
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
            network: Network::default(),
            limits: Limits::default(),
            account: None,
            confine: None,
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
    /// A limit that this runtime was not set up for.
    #[error("cannot limit the guest")]
    Limit(#[source] wasmtime::Error),
}

/// State of a core module's store.
pub(crate) struct P1 {
    pub(crate) wasi: WasiP1Ctx,
    /// What its standard input is.
    pub(crate) stdin: Option<Arc<File>>,
    pub(crate) meter: Meter,
}

impl P1 {
    /// The guest's memory and its state, for a call of one of wasmtime-wasi's own functions: what it may make the host hold
    /// (`Limits::hostcall_bytes`) is set anew for each call, as their linker does it.
    pub(crate) fn parts<'a>(
        caller: &'a mut Caller<'_, Self>,
    ) -> wasmtime::Result<(&'a mut [u8], &'a mut Self)> {
        let Some(Extern::Memory(memory)) = caller.get_export("memory") else {
            return Err(wasmtime::Error::msg("missing required memory export"));
        };
        let most = caller.as_context_mut().hostcall_fuel();
        let (data, state) = memory.data_and_store_mut(caller);
        state.wasi.set_hostcall_fuel(most);
        Ok((data, state))
    }

    /// A state that grants nothing, for looking into a linker.
    pub(crate) fn empty(engines: &Engines) -> Self {
        let meter = Account::new(engines, Limits::default()).meter();
        Self { wasi: WasiCtxBuilder::new().build_p1(), stdin: None, meter }
    }
}

/// State of a component's store, of 0.2 and of 0.3.
pub(crate) struct P2 {
    ctx: WasiCtx,
    table: ResourceTable,
    http: WasiHttpCtx,
    requests: Requests,
    pub(crate) meter: Meter,
}

impl WasiView for P2 {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.ctx, table: &mut self.table }
    }
}

impl WasiHttpView for P2 {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.requests, table: &mut self.table, ctx: &mut self.http }
    }
}

/// Makes the state of a core module.
pub(crate) fn p1(grants: &Grants, streams: &Streams, account: &Account) -> Result<P1, GrantError> {
    let mut wasi = builder(grants, streams)?;
    // The guest has a thread of its own: file calls need no other one.
    wasi.allow_blocking_current_thread(true);
    preopen(&mut wasi, grants)?;
    let stdin = Some(Arc::clone(&streams.files[0]));
    Ok(P1 { wasi: wasi.build_p1(), stdin, meter: meter(grants, account, true) })
}

/// Makes the state of a component. `alone`: it has its thread to itself.
pub(crate) fn p2(
    grants: &Grants,
    streams: &Streams,
    account: &Account,
    alone: bool,
) -> Result<P2, GrantError> {
    let mut wasi = builder(grants, streams)?;
    wasi.allow_blocking_current_thread(alone);
    preopen(&mut wasi, grants)?;
    let mut table = ResourceTable::new();
    table.set_max_capacity(account.limits().handles);
    Ok(P2 {
        ctx: wasi.build(),
        table,
        http: WasiHttpCtx::new(),
        requests: Requests::new(grants.network.clone()),
        meter: meter(grants, account, alone),
    })
}

/// What a store holds, with the files that it begins with. The instances of a server have them in common: there they do not count.
fn meter(grants: &Grants, account: &Account, alone: bool) -> Meter {
    let mut meter = account.meter();
    if alone {
        meter.given(3 + grants.preopens.len());
    }
    meter
}

/// The guest's three streams, shared by all instances that write to them.
pub(crate) struct Streams {
    pub(crate) files: [Arc<File>; 3],
    stdio: [Stdio; 3],
}

impl Streams {
    pub(crate) fn new(grants: &Grants, kind: Kind) -> Result<Self, GrantError> {
        let shared = |file: &File| file.try_clone().map(Arc::new).map_err(GrantError::Stderr);
        let files = [shared(&grants.stdin)?, shared(&grants.stdout)?, shared(&grants.stderr)?];
        let broken = match kind {
            Kind::CoreP1 => Broken::Errno,
            Kind::ComponentP2 => Broken::Closed,
        };
        let stdio = files.each_ref().map(|file| Stdio::new(Arc::clone(file), grants.terminal, broken));
        Ok(Self { files, stdio })
    }
}

fn builder(grants: &Grants, streams: &Streams) -> Result<WasiCtxBuilder, GrantError> {
    let strings = grants
        .args
        .iter()
        .chain(grants.env.iter().flat_map(|(name, value)| [name, value]))
        .chain(&grants.cwd);
    if let Some(value) = strings.into_iter().find(|value| value.contains('\0')) {
        return Err(GrantError::Nul { value: value.clone() });
    }
    let mut wasi = WasiCtxBuilder::new();
    wasi.args(&grants.args).envs(&grants.env);
    if let Some(cwd) = grants.cwd.as_ref().filter(|cwd| *cwd != "/") {
        wasi.initial_cwd(cwd);
        if !grants.env.iter().any(|(name, _)| name == "PWD") {
            wasi.env("PWD", cwd);
        }
    }
    let [stdin, stdout, stderr] = streams.stdio.clone();
    wasi.stdin(stdin).stdout(stdout).stderr(stderr);
    if grants.network.any() {
        let network = Arc::new(grants.network.clone());
        wasi.allow_tcp(true).allow_udp(true).allow_ip_name_lookup(network.names());
        wasi.socket_addr_check(move |address, action| {
            let network = Arc::clone(&network);
            Box::pin(async move { network.permits(address, action).await })
        });
    }
    Ok(wasi)
}

fn preopen(wasi: &mut WasiCtxBuilder, grants: &Grants) -> Result<(), GrantError> {
    for preopen in &grants.preopens {
        let perms = if preopen.read_only { FsPerms::ReadOnly } else { FsPerms::ReadWrite };
        wasi.preopened_dir(&preopen.host, &preopen.guest, perms).map_err(|source| GrantError::Preopen {
            host: preopen.host.clone(),
            guest: preopen.guest.clone(),
            source,
        })?;
    }
    Ok(())
}
