//! Gives a guest the interfaces it imports, names those nobody provides, and tells what a program is to its host.
//!
//! Only what a component imports is linked: the whole of WASI is some 200 functions, a hello imports a dozen interfaces.
//! The same table answers "who provides this?", so that a missing interface is reported by name, all of them at once, before anything
//! runs (wasmtime's own error names the first one only). p1 is linked whole: it is one flat interface of 46 functions.
//!
//! A few functions are this crate's own: `poll` waits, `opened` counts what is open, `slashes` reads names of directories, `across` and
//! `changed` say what wasmtime-wasi has no word for, `pathless` asks for `/`.
//!
//! `wasi_unstable` (p0, before 2020) is not provided and is refused by name. Sockets and outgoing requests are linked, since every component
//! built with a standard library imports them, and reach what the grants name: by default nothing.

mod across;
#[cfg(target_os = "linux")]
mod changed;
mod interfaces;
mod opened;
mod pathless;
mod slashes;

use std::fmt;

use wasmtime::component::{Component, InstancePre, Linker, types::ComponentItem};
use wasmtime::{Engine, Module};
use wasmtime_wasi::I32Exit;
use wasmtime_wasi::{p2, p3};
use wasmtime_wasi_http::{p2 as http2, p3 as http3};

use crate::poll;
use crate::pool::Engines;
use crate::wasi::{P1, P2};
pub(crate) use interfaces::provider;

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
    Component(InstancePre<P2>, Export),
}

/// What a component offers its host.
#[derive(Clone)]
pub(crate) enum Export {
    /// `wasi:cli/run` of 0.2.
    Run2(p2::bindings::CommandPre<P2>),
    /// `wasi:cli/run` of 0.3.
    Run3(p3::bindings::CommandPre<P2>),
    /// `wasi:http/incoming-handler` of 0.2.
    Serve2(http2::bindings::ProxyPre<P2>),
    /// `wasi:http/handler` of 0.3.
    Serve3(http3::bindings::ServicePre<P2>),
    /// Functions only.
    Functions,
}

/// How a program is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It begins, and ends: `_start`, or `wasi:cli/run`.
    Command,
    /// It answers HTTP requests: `wasi:http/incoming-handler`, or `wasi:http/handler`.
    Server,
    /// It has functions to call by name, and nothing to begin with.
    Library,
}

/// Tells the role of a component from the names of its exports. One that can do both is a server.
pub(crate) fn role<'a>(exports: &(impl Iterator<Item = &'a str> + Clone)) -> Role {
    let has = |wanted: &str| {
        exports.clone().any(|name| {
            name.strip_prefix(wanted)
                .is_some_and(|rest| rest.starts_with("@0.2.") || rest.starts_with("@0.3."))
        })
    };
    if has("wasi:http/incoming-handler") || has("wasi:http/handler") {
        Role::Server
    } else if has("wasi:cli/run") {
        Role::Command
    } else {
        Role::Library
    }
}

impl fmt::Debug for Linked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Core(_) => "Linked::Core",
            Self::Component(..) => "Linked::Component",
        })
    }
}

/// Names of an export list, cut to what a person reads.
fn some<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    names.take(20).map(str::to_owned).collect()
}

/// Binds a core module to WASI p1.
pub(crate) fn core(engines: &Engines, module: &Module) -> Result<Linked, LinkError> {
    let engine = engines.single();
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
            |caller: wasmtime::Caller<'_, P1>, args: poll::Arguments| {
                Box::new(poll::poll_oneoff(caller, args))
            },
        )
        .map_err(LinkError::Mismatch)?;
    linker
        .func_wrap_async(
            PREVIEW1,
            "path_remove_directory",
            |caller: wasmtime::Caller<'_, P1>, args: (i32, i32, i32)| Box::new(slashes::one(caller, args)),
        )
        .map_err(LinkError::Mismatch)?;
    opened::core(&mut linker)?;
    across::core(&mut linker)?;
    match linker.instantiate_pre(module) {
        Ok(pre) => Ok(Linked::Core(pre)),
        Err(error) => {
            let mut store = wasmtime::Store::new(engine, P1::empty(engines));
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

/// Binds a component to the interfaces of WASI that it imports.
pub(crate) fn component(engine: &Engine, component: &Component) -> Result<Linked, LinkError> {
    let ty = component.component_type();
    let mut linker = Linker::<P2>::new(engine);
    let mut missing = Vec::new();
    let mut added: Vec<(&str, bool)> = Vec::new();
    for (name, item) in ty.imports(engine) {
        match (provider(name), &item.ty) {
            (Some(add), ComponentItem::ComponentInstance(_)) => {
                // Two versions of one interface in one component share the provider.
                let line = interfaces::line(name);
                if !added.contains(&line) {
                    added.push(line);
                    add(&mut linker).map_err(LinkError::Mismatch)?;
                }
            }
            (None, ComponentItem::ComponentInstance(instance))
                if interfaces::types_only(engine, instance) => {}
            (None, ComponentItem::Type(_)) => {}
            (_, item) => missing.push(format!("{name} ({})", item_kind(item))),
        }
    }
    if !missing.is_empty() {
        return Err(LinkError::Missing { names: missing });
    }
    let pre = linker.instantiate_pre(component).map_err(LinkError::Mismatch)?;
    let names: Vec<&str> = ty.exports(engine).map(|(name, _)| name).collect();
    let three = |interface: &str| names.iter().any(|name| name.starts_with(interface));
    let export = match role(&names.iter().copied()) {
        Role::Server if three("wasi:http/handler@0.3.") => {
            http3::bindings::ServicePre::new(pre.clone()).map(Export::Serve3)
        }
        Role::Server => http2::bindings::ProxyPre::new(pre.clone()).map(Export::Serve2),
        Role::Command if three("wasi:cli/run@0.3.") => {
            p3::bindings::CommandPre::new(pre.clone()).map(Export::Run3)
        }
        Role::Command => p2::bindings::CommandPre::new(pre.clone()).map(Export::Run2),
        Role::Library => Ok(Export::Functions),
    };
    Ok(Linked::Component(pre, export.map_err(LinkError::Mismatch)?))
}

/// What there is to call when nothing was named.
pub(crate) fn nothing_to_run(engine: &Engine, component: &Component) -> LinkError {
    LinkError::NoEntry {
        entry: "wasi:cli/run or wasi:http handler of 0.2 or 0.3".to_owned(),
        exports: some(component.component_type().exports(engine).map(|(name, _)| name)),
    }
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

/// Checks that a core module has something to call. `_start` takes and gives nothing; what is called by name may take numbers.
pub(crate) fn entry(module: &Module, name: Option<&str>) -> Result<(), LinkError> {
    let function = module.get_export(name.unwrap_or("_start")).and_then(|ty| ty.func().cloned());
    let numbers = |ty: &wasmtime::FuncType| {
        let mut types = ty.params().chain(ty.results());
        types.all(|ty| {
            matches!(
                ty,
                wasmtime::ValType::I32
                    | wasmtime::ValType::I64
                    | wasmtime::ValType::F32
                    | wasmtime::ValType::F64
            )
        })
    };
    let callable = function.is_some_and(|ty| match name {
        None => ty.params().len() == 0 && ty.results().len() == 0,
        Some(_) => numbers(&ty),
    });
    if callable {
        return Ok(());
    }
    Err(LinkError::NoEntry {
        entry: match name {
            None => "function `_start` without parameters and results".to_owned(),
            Some(name) => format!("function `{name}` of numbers"),
        },
        exports: some(module.exports().map(|e| e.name())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exports_tell_the_role() {
        for (exports, expected) in [
            (&["wasi:cli/run@0.2.3"][..], Role::Command),
            (&["wasi:cli/run@0.3.0"], Role::Command),
            (&["wasi:http/incoming-handler@0.2.0"], Role::Server),
            (&["wasi:http/handler@0.3.0", "wasi:cli/run@0.3.0"], Role::Server),
            (&["wasi:cli/run@0.1.0", "add"], Role::Library),
            (&[], Role::Library),
        ] {
            assert_eq!(role(&exports.iter().copied()), expected, "{exports:?}");
        }
    }
}
