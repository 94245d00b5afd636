//! Gives a guest the interfaces it imports, and names those nobody provides.
//!
//! Only what a component imports is linked: wasmtime-wasi's whole p2 world is some 200 functions, a hello imports a dozen interfaces.
//! The same table answers "who provides this?", so that a missing interface is reported by name, all of them at once, before anything
//! runs (wasmtime's own error names the first one only). p1 is linked whole: it is one flat interface of 46 functions.
//!
//! `wasi_unstable` (p0, before 2020) is not provided and is refused by name. Sockets are linked, since every component built with a
//! standard library imports them, and deny every address (wasmtime-wasi's default).

use std::fmt;

use wasmtime::component::{Component, HasData, Linker, ResourceTable, types::ComponentItem};
use wasmtime::{Engine, Module};
use wasmtime_wasi::cli::{WasiCli, WasiCliView as _};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksView as _};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemView as _};
use wasmtime_wasi::p2::bindings::{CommandPre, cli, clocks, filesystem, io, random, sockets};
use wasmtime_wasi::random::WasiRandom;
use wasmtime_wasi::sockets::{WasiSockets, WasiSocketsView as _};
use wasmtime_wasi::{I32Exit, WasiView as _};

use crate::sleep;
use crate::wasi::{P1, P2};

/// The module name of WASI p1.
const PREVIEW1: &str = "wasi_snapshot_preview1";

/// Why a program cannot be linked.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Imports that this sandbox does not have.
    #[error("nobody provides {}", names.join(", "))]
    Missing {
        /// Each as `module.name (kind)`, or for a component `wasi:http/types@0.2.3 (instance)`.
        names: Vec<String>,
    },
    /// Every name is there, but a type or a function in an interface does not fit.
    #[error("the imports do not fit what the sandbox provides")]
    Mismatch(#[source] wasmtime::Error),
    /// The program has nothing to call.
    #[error("the program exports no {entry}; it exports {}", if exports.is_empty() { "nothing".to_owned() } else { exports.join(", ") })]
    NoEntry {
        /// What would have been called.
        entry: String,
        /// Names of what is exported, the first twenty.
        exports: Vec<String>,
    },
}

/// A program whose imports are bound.
#[derive(Clone)]
pub(crate) enum Linked {
    Core(wasmtime::InstancePre<P1>),
    Component(CommandPre<P2>),
}

impl fmt::Debug for Linked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Core(_) => "Linked::Core",
            Self::Component(_) => "Linked::Component",
        })
    }
}

/// Names of an export list, cut to what a person reads.
fn some<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    names.take(20).map(str::to_owned).collect()
}

/// Binds a core module to WASI p1.
pub(crate) fn core(engine: &Engine, module: &Module) -> Result<Linked, LinkError> {
    let mut linker = wasmtime::Linker::<P1>::new(engine);
    wasmtime_wasi::p1::add_to_linker_async(&mut linker, |state: &mut P1| &mut state.wasi)
        .map_err(LinkError::Mismatch)?;
    // wasmtime-wasi turns a status of 126 and more into a trap; a process may end with any byte.
    linker.allow_shadowing(true);
    linker
        .func_wrap(PREVIEW1, "proc_exit", |code: i32| -> wasmtime::Result<()> {
            Err(I32Exit(code & 0xff).into())
        })
        .map_err(LinkError::Mismatch)?;
    linker
        .func_wrap_async(
            PREVIEW1,
            "poll_oneoff",
            |caller: wasmtime::Caller<'_, P1>, args: sleep::Arguments| {
                Box::new(sleep::poll_oneoff(caller, args))
            },
        )
        .map_err(LinkError::Mismatch)?;
    match linker.instantiate_pre(module) {
        Ok(pre) => Ok(Linked::Core(pre)),
        Err(error) => {
            let mut store = wasmtime::Store::new(engine, P1::empty());
            let names: Vec<String> = module
                .imports()
                .filter(|import| linker.get(&mut store, import.module(), import.name()).is_err())
                .map(|import| format!("{}.{} ({})", import.module(), import.name(), kind_of(&import.ty())))
                .collect();
            Err(if names.is_empty() { LinkError::Mismatch(error) } else { LinkError::Missing { names } })
        }
    }
}

/// One word for the kind of an import.
fn kind_of(ty: &wasmtime::ExternType) -> &'static str {
    match ty {
        wasmtime::ExternType::Func(_) => "func",
        wasmtime::ExternType::Global(_) => "global",
        wasmtime::ExternType::Table(_) => "table",
        wasmtime::ExternType::Memory(_) => "memory",
        wasmtime::ExternType::Tag(_) => "tag",
    }
}

/// Adds one interface to a linker.
type Add = fn(&mut Linker<P2>) -> wasmtime::Result<()>;

/// Tells wasmtime-wasi-io's interfaces where their data is.
struct Io;

impl HasData for Io {
    type Data<'a> = &'a mut ResourceTable;
}

/// Every interface of WASI 0.2 provided here, without its version.
static INTERFACES: &[(&str, Add)] = &[
    ("wasi:cli/environment", |l| cli::environment::add_to_linker::<P2, WasiCli>(l, P2::cli)),
    ("wasi:cli/exit", |l| cli::exit::add_to_linker::<P2, WasiCli>(l, P2::cli)),
    ("wasi:cli/stdin", |l| cli::stdin::add_to_linker::<P2, WasiCli>(l, P2::cli)),
    ("wasi:cli/stdout", |l| cli::stdout::add_to_linker::<P2, WasiCli>(l, P2::cli)),
    ("wasi:cli/stderr", |l| cli::stderr::add_to_linker::<P2, WasiCli>(l, P2::cli)),
    ("wasi:cli/terminal-input", |l| cli::terminal_input::add_to_linker::<P2, WasiCli>(l, P2::cli)),
    ("wasi:cli/terminal-output", |l| cli::terminal_output::add_to_linker::<P2, WasiCli>(l, P2::cli)),
    ("wasi:cli/terminal-stdin", |l| cli::terminal_stdin::add_to_linker::<P2, WasiCli>(l, P2::cli)),
    ("wasi:cli/terminal-stdout", |l| cli::terminal_stdout::add_to_linker::<P2, WasiCli>(l, P2::cli)),
    ("wasi:cli/terminal-stderr", |l| cli::terminal_stderr::add_to_linker::<P2, WasiCli>(l, P2::cli)),
    ("wasi:clocks/wall-clock", |l| clocks::wall_clock::add_to_linker::<P2, WasiClocks>(l, P2::clocks)),
    ("wasi:clocks/monotonic-clock", |l| {
        clocks::monotonic_clock::add_to_linker::<P2, WasiClocks>(l, P2::clocks)
    }),
    ("wasi:filesystem/types", |l| filesystem::types::add_to_linker::<P2, WasiFilesystem>(l, P2::filesystem)),
    ("wasi:filesystem/preopens", |l| {
        filesystem::preopens::add_to_linker::<P2, WasiFilesystem>(l, P2::filesystem)
    }),
    ("wasi:io/error", |l| io::error::add_to_linker::<P2, Io>(l, |t| t.ctx().table)),
    ("wasi:io/poll", |l| io::poll::add_to_linker::<P2, Io>(l, |t| t.ctx().table)),
    ("wasi:io/streams", |l| io::streams::add_to_linker::<P2, Io>(l, |t| t.ctx().table)),
    ("wasi:random/random", |l| random::random::add_to_linker::<P2, WasiRandom>(l, |t| t.ctx().ctx.random())),
    ("wasi:random/insecure", |l| {
        random::insecure::add_to_linker::<P2, WasiRandom>(l, |t| t.ctx().ctx.random())
    }),
    ("wasi:random/insecure-seed", |l| {
        random::insecure_seed::add_to_linker::<P2, WasiRandom>(l, |t| t.ctx().ctx.random())
    }),
    ("wasi:sockets/network", |l| {
        sockets::network::add_to_linker::<P2, WasiSockets>(
            l,
            &sockets::network::LinkOptions::default(),
            P2::sockets,
        )
    }),
    ("wasi:sockets/instance-network", |l| {
        sockets::instance_network::add_to_linker::<P2, WasiSockets>(l, P2::sockets)
    }),
    ("wasi:sockets/tcp", |l| sockets::tcp::add_to_linker::<P2, WasiSockets>(l, P2::sockets)),
    ("wasi:sockets/tcp-create-socket", |l| {
        sockets::tcp_create_socket::add_to_linker::<P2, WasiSockets>(l, P2::sockets)
    }),
    ("wasi:sockets/udp", |l| sockets::udp::add_to_linker::<P2, WasiSockets>(l, P2::sockets)),
    ("wasi:sockets/udp-create-socket", |l| {
        sockets::udp_create_socket::add_to_linker::<P2, WasiSockets>(l, P2::sockets)
    }),
    ("wasi:sockets/ip-name-lookup", |l| {
        sockets::ip_name_lookup::add_to_linker::<P2, WasiSockets>(l, P2::sockets)
    }),
];

/// Finds who provides an import such as `wasi:cli/exit@0.2.3`. All of 0.2 is one compatible line (semver).
fn provider(import: &str) -> Option<Add> {
    let (name, version) = import.split_once('@')?;
    version.strip_prefix("0.2.")?;
    INTERFACES.iter().find(|(known, _)| *known == name).map(|(_, add)| *add)
}

/// Binds a component to the interfaces of WASI p2 it imports.
pub(crate) fn component(engine: &Engine, component: &Component) -> Result<Linked, LinkError> {
    let ty = component.component_type();
    let mut linker = Linker::<P2>::new(engine);
    let mut missing = Vec::new();
    let mut added: Vec<&str> = Vec::new();
    for (name, item) in ty.imports(engine) {
        match (provider(name), &item.ty) {
            (Some(add), ComponentItem::ComponentInstance(_)) => {
                // Two versions of one interface in one component share the provider.
                let short = name.split('@').next().unwrap_or(name);
                if !added.contains(&short) {
                    added.push(short);
                    add(&mut linker).map_err(LinkError::Mismatch)?;
                }
            }
            (_, item) => missing.push(format!("{name} ({})", item_kind(item))),
        }
    }
    if !missing.is_empty() {
        return Err(LinkError::Missing { names: missing });
    }
    let pre = linker.instantiate_pre(component).map_err(LinkError::Mismatch)?;
    CommandPre::new(pre).map(Linked::Component).map_err(|_| LinkError::NoEntry {
        entry: "wasi:cli/run@0.2".to_owned(),
        exports: some(ty.exports(engine).map(|(name, _)| name)),
    })
}

/// One word for the kind of a component's import.
fn item_kind(item: &ComponentItem) -> &'static str {
    match item {
        ComponentItem::ComponentFunc(_) | ComponentItem::CoreFunc(_) => "func",
        ComponentItem::Module(_) => "module",
        ComponentItem::Component(_) => "component",
        ComponentItem::ComponentInstance(_) => "instance",
        ComponentItem::Type(_) => "type",
        ComponentItem::Resource(_) => "resource",
    }
}

/// Checks that a core module has something to call.
pub(crate) fn entry(module: &Module, name: &str) -> Result<(), LinkError> {
    let callable = module
        .get_export(name)
        .and_then(|ty| ty.func().cloned())
        .is_some_and(|ty| ty.params().len() == 0 && ty.results().len() == 0);
    if callable {
        return Ok(());
    }
    Err(LinkError::NoEntry {
        entry: format!("function `{name}` without parameters and results"),
        exports: some(module.exports().map(|e| e.name())),
    })
}
