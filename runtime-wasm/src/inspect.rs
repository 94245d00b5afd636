//! What a program imports, offers and would need to be granted: a pure function of its bytes, which compiles nothing.
//!
//! Reads sections, not code, so that it costs little and a program that does not compile is still described. What it says is what
//! starting would find: the same tables tell which imports nobody provides.

use wasmparser::{Parser, Payload};

use crate::link::{self, Role};
use crate::module::{self, Kind, ModuleError};

/// One import or export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// `module.name`, or for a component `wasi:http/types@0.2.3`.
    pub name: String,
    /// `func`, `memory`, `instance`, ….
    pub kind: &'static str,
}

/// Something a program does only when it is granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// A port to answer requests on.
    Serve,
    /// Where it may send requests to.
    Requests,
    /// What its sockets may reach, and ports to listen on.
    Sockets,
}

/// What is in a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// Core module or component.
    pub kind: Kind,
    /// How it is run.
    pub role: Role,
    /// The version of WASI that it was made for: `p1`, `0.2.6`, `0.3.0`; the newest, when several.
    pub wasi: Option<String>,
    /// What it imports.
    pub imports: Vec<Item>,
    /// What it exports.
    pub exports: Vec<Item>,
    /// Imports that nobody provides: it does not start.
    pub missing: Vec<String>,
    /// What it may ask for.
    pub needs: Vec<Need>,
}

/// Why bytes cannot be described.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The header.
    #[error(transparent)]
    Module(#[from] ModuleError),
    /// The sections.
    #[error("the program's sections are malformed")]
    Malformed(#[from] wasmparser::BinaryReaderError),
}

/// The most imports or exports that are listed; a program with more is described by the first.
const MOST: usize = 100_000;

/// Functions of WASI p1, as the specification lists them.
const PREVIEW1: [&str; 46] = [
    "args_get",
    "args_sizes_get",
    "clock_res_get",
    "clock_time_get",
    "environ_get",
    "environ_sizes_get",
    "fd_advise",
    "fd_allocate",
    "fd_close",
    "fd_datasync",
    "fd_fdstat_get",
    "fd_fdstat_set_flags",
    "fd_fdstat_set_rights",
    "fd_filestat_get",
    "fd_filestat_set_size",
    "fd_filestat_set_times",
    "fd_pread",
    "fd_prestat_dir_name",
    "fd_prestat_get",
    "fd_pwrite",
    "fd_read",
    "fd_readdir",
    "fd_renumber",
    "fd_seek",
    "fd_sync",
    "fd_tell",
    "fd_write",
    "path_create_directory",
    "path_filestat_get",
    "path_filestat_set_times",
    "path_link",
    "path_open",
    "path_readlink",
    "path_remove_directory",
    "path_rename",
    "path_symlink",
    "path_unlink_file",
    "poll_oneoff",
    "proc_exit",
    "proc_raise",
    "random_get",
    "sched_yield",
    "sock_accept",
    "sock_recv",
    "sock_send",
    "sock_shutdown",
];

/// Describes a program.
pub fn inspect(bytes: &[u8]) -> Result<Contents, InspectError> {
    let kind = module::kind(bytes)?;
    let (imports, exports) = sections(bytes)?;
    Ok(match kind {
        Kind::CoreP1 => module_contents(imports, exports),
        Kind::ComponentP2 => component_contents(imports, exports),
    })
}

fn module_contents(imports: Vec<Item>, exports: Vec<Item>) -> Contents {
    let preview1 = |item: &Item| item.name.strip_prefix("wasi_snapshot_preview1.").map(str::to_owned);
    let provided =
        |item: &Item| item.kind == "func" && preview1(item).is_some_and(|name| PREVIEW1.contains(&&*name));
    let missing = imports.iter().filter(|item| !provided(item));
    let starts = exports.iter().any(|item| item.name == "_start" && item.kind == "func");
    Contents {
        kind: Kind::CoreP1,
        role: if starts { Role::Command } else { Role::Library },
        wasi: imports.iter().any(|item| preview1(item).is_some()).then(|| "p1".to_owned()),
        missing: missing.map(|item| format!("{} ({})", item.name, item.kind)).collect(),
        needs: Vec::new(),
        imports,
        exports,
    }
}

fn component_contents(imports: Vec<Item>, exports: Vec<Item>) -> Contents {
    let provided = |item: &&Item| item.kind != "type" && link::provider(&item.name).is_none();
    // An interface of types alone needs no provider, and its name says that it is one.
    let types_only = |item: &&Item| !item.name.starts_with("wasi:cli/types@0.3.");
    let missing = imports.iter().filter(provided).filter(types_only);
    let missing = missing.map(|item| format!("{} ({})", item.name, item.kind)).collect();
    let role = link::role(&exports.iter().map(|item| item.name.as_str()));
    let imported = |prefixes: &[&str]| {
        imports.iter().any(|item| prefixes.iter().any(|prefix| item.name.starts_with(prefix)))
    };
    let needs = [
        (Need::Serve, role == Role::Server),
        (Need::Requests, imported(&["wasi:http/outgoing-handler@", "wasi:http/client@"])),
        (Need::Sockets, imported(&["wasi:sockets/"])),
    ];
    let versions = imports.iter().chain(&exports).filter_map(|item| {
        let (name, version) = item.name.split_once('@')?;
        name.starts_with("wasi:").then_some(version)
    });
    let newest = versions.max_by_key(|version| {
        version.split(['.', '-']).map(|part| part.parse::<u64>().unwrap_or(0)).collect::<Vec<_>>()
    });
    Contents {
        kind: Kind::ComponentP2,
        role,
        wasi: newest.map(str::to_owned),
        missing,
        needs: needs.into_iter().filter(|(_, needed)| *needed).map(|(need, _)| need).collect(),
        imports,
        exports,
    }
}

/// Imports and exports of the outermost module or component.
fn sections(bytes: &[u8]) -> Result<(Vec<Item>, Vec<Item>), InspectError> {
    let (mut imports, mut exports) = (Vec::new(), Vec::new());
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ImportSection(section) if depth == 0 => {
                for import in section.into_imports().take(MOST) {
                    let import = import?;
                    let name = format!("{}.{}", import.module, import.name);
                    imports.push(Item { name, kind: entity(import.ty) });
                }
            }
            Payload::ExportSection(section) if depth == 0 => {
                for export in section.into_iter().take(MOST) {
                    let export = export?;
                    exports.push(Item { name: export.name.to_owned(), kind: external(export.kind) });
                }
            }
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section.into_iter().take(MOST) {
                    let import = import?;
                    imports
                        .push(Item { name: import.name.name.to_owned(), kind: component(import.ty.kind()) });
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section.into_iter().take(MOST) {
                    let export = export?;
                    exports.push(Item { name: export.name.name.to_owned(), kind: component(export.kind) });
                }
            }
            _ => {}
        }
    }
    Ok((imports, exports))
}

fn entity(ty: wasmparser::TypeRef) -> &'static str {
    use wasmparser::TypeRef;
    match ty {
        TypeRef::Func(_) | TypeRef::FuncExact(_) => "func",
        TypeRef::Table(_) => "table",
        TypeRef::Memory(_) => "memory",
        TypeRef::Global(_) => "global",
        TypeRef::Tag(_) => "tag",
    }
}

fn external(kind: wasmparser::ExternalKind) -> &'static str {
    use wasmparser::ExternalKind;
    match kind {
        ExternalKind::Func | ExternalKind::FuncExact => "func",
        ExternalKind::Table => "table",
        ExternalKind::Memory => "memory",
        ExternalKind::Global => "global",
        ExternalKind::Tag => "tag",
    }
}

fn component(kind: wasmparser::ComponentExternalKind) -> &'static str {
    use wasmparser::ComponentExternalKind;
    match kind {
        ComponentExternalKind::Module => "module",
        ComponentExternalKind::Func => "func",
        ComponentExternalKind::Value => "value",
        ComponentExternalKind::Type => "type",
        ComponentExternalKind::Instance => "instance",
        ComponentExternalKind::Component => "component",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(text: &str) -> Contents {
        inspect(&wat::parse_str(text).unwrap()).unwrap()
    }

    #[test]
    fn a_module_is_described() {
        let found = contents(
            r#"(module (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
                 (import "wasi_snapshot_preview1" "fd_gone" (func)) (import "rb-js-abi-host" "eval" (func))
                 (memory (export "memory") 1) (func (export "_start")))"#,
        );
        assert_eq!(
            (found.kind, found.role, found.wasi.as_deref()),
            (Kind::CoreP1, Role::Command, Some("p1"))
        );
        assert_eq!(found.missing, ["wasi_snapshot_preview1.fd_gone (func)", "rb-js-abi-host.eval (func)"]);
        assert_eq!(found.exports[0], Item { name: "memory".to_owned(), kind: "memory" });
        assert_eq!(contents("(module)").role, Role::Library);
    }

    #[test]
    fn a_component_is_described() {
        let found = contents(
            r#"(component
                 (import "wasi:sockets/tcp@0.2.1" (instance))
                 (import "wasi:http/outgoing-handler@0.2.6" (instance))
                 (import "acme:db/x@1.0.0" (instance))
                 (core module (import "inner" "gone" (func)))
                 (instance $i)
                 (export "wasi:http/incoming-handler@0.2.6" (instance $i)))"#,
        );
        assert_eq!(
            (found.kind, found.role, found.wasi.as_deref()),
            (Kind::ComponentP2, Role::Server, Some("0.2.6"))
        );
        assert_eq!(found.missing, ["acme:db/x@1.0.0 (instance)"]);
        assert_eq!(found.needs, [Need::Serve, Need::Requests, Need::Sockets]);
        assert_eq!(found.imports.len(), 3);
    }

    #[test]
    fn malformed_bytes_are_an_error() {
        assert!(matches!(inspect(b"\x7fELF0000"), Err(InspectError::Module(ModuleError::Precompiled))));
        assert!(matches!(
            inspect(b"\0asm\x01\0\0\0\x02\xff\xff\xff\xff\xff\xff"),
            Err(InspectError::Malformed(_))
        ));
    }
}
