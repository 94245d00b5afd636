//! Who provides an interface of WASI 0.2 or 0.3: one table, by name without version.
//!
//! All of 0.2 is one compatible line, all of 0.3 another; one component may import both (a standard library of 0.2 beside code for
//! 0.3), and one state serves both. Interfaces that hold nothing but types need no provider.

use wasmtime::Engine;
use wasmtime::component::types::{ComponentInstance, ComponentItem};
use wasmtime::component::{HasData, Linker, ResourceTable};
use wasmtime_wasi::cli::{WasiCli, WasiCliView as _};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksView as _};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemView as _};
use wasmtime_wasi::random::{WasiRandom, WasiRandomView as _};
use wasmtime_wasi::sockets::{WasiSockets, WasiSocketsView as _};
use wasmtime_wasi::{WasiView as _, p2::bindings as two, p3::bindings as three};
use wasmtime_wasi_http::{WasiHttp, WasiHttpView as _, p2::bindings as http_two, p3::bindings as http_three};

#[cfg(target_os = "linux")]
use super::changed;
use super::{across, opened, pathless, slashes};
use crate::wasi::P2;

/// Adds one interface to a linker.
pub(crate) type Add = fn(&mut Linker<P2>) -> wasmtime::Result<()>;

/// File systems, by the versions that wasmtime-wasi provides: what is put in the place of its own functions has their very name.
const TWO_FILES: &str = "wasi:filesystem/types@0.2.12";
const THREE_FILES: &str = "wasi:filesystem/types@0.3.0";
/// Requests, likewise.
const THREE_REQUESTS: &str = "wasi:http/client@0.3.0";

/// Puts functions into an interface by its name.
type Replace = fn(&mut Linker<P2>, &str) -> wasmtime::Result<()>;

/// Puts functions in the place of those that were just added.
fn replaced(linker: &mut Linker<P2>, interface: &str, with: &[Replace]) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    let done = with.iter().try_for_each(|replace| replace(linker, interface));
    linker.allow_shadowing(false);
    done
}

/// Tells wasmtime-wasi-io's interfaces where their data is.
struct Io;

impl HasData for Io {
    type Data<'a> = &'a mut ResourceTable;
}

/// WASI 0.2.
static TWO: &[(&str, Add)] = &[
    ("wasi:cli/environment", |l| two::cli::environment::add_to_linker::<_, WasiCli>(l, P2::cli)),
    ("wasi:cli/exit", |l| two::cli::exit::add_to_linker::<_, WasiCli>(l, P2::cli)),
    ("wasi:cli/stdin", |l| two::cli::stdin::add_to_linker::<_, WasiCli>(l, P2::cli)),
    ("wasi:cli/stdout", |l| two::cli::stdout::add_to_linker::<_, WasiCli>(l, P2::cli)),
    ("wasi:cli/stderr", |l| two::cli::stderr::add_to_linker::<_, WasiCli>(l, P2::cli)),
    ("wasi:cli/terminal-input", |l| two::cli::terminal_input::add_to_linker::<_, WasiCli>(l, P2::cli)),
    ("wasi:cli/terminal-output", |l| two::cli::terminal_output::add_to_linker::<_, WasiCli>(l, P2::cli)),
    ("wasi:cli/terminal-stdin", |l| two::cli::terminal_stdin::add_to_linker::<_, WasiCli>(l, P2::cli)),
    ("wasi:cli/terminal-stdout", |l| two::cli::terminal_stdout::add_to_linker::<_, WasiCli>(l, P2::cli)),
    ("wasi:cli/terminal-stderr", |l| two::cli::terminal_stderr::add_to_linker::<_, WasiCli>(l, P2::cli)),
    ("wasi:clocks/wall-clock", |l| two::clocks::wall_clock::add_to_linker::<_, WasiClocks>(l, P2::clocks)),
    ("wasi:clocks/monotonic-clock", |l| {
        two::clocks::monotonic_clock::add_to_linker::<_, WasiClocks>(l, P2::clocks)
    }),
    ("wasi:filesystem/types", |l| {
        two::filesystem::types::add_to_linker::<_, WasiFilesystem>(l, P2::filesystem)?;
        replaced(
            l,
            TWO_FILES,
            &[
                slashes::two,
                opened::two,
                across::two,
                #[cfg(target_os = "linux")]
                changed::two,
            ],
        )
    }),
    ("wasi:filesystem/preopens", |l| {
        two::filesystem::preopens::add_to_linker::<_, WasiFilesystem>(l, P2::filesystem)
    }),
    ("wasi:io/error", |l| two::io::error::add_to_linker::<_, Io>(l, |t| t.ctx().table)),
    ("wasi:io/poll", |l| two::io::poll::add_to_linker::<_, Io>(l, |t| t.ctx().table)),
    ("wasi:io/streams", |l| two::io::streams::add_to_linker::<_, Io>(l, |t| t.ctx().table)),
    ("wasi:random/random", |l| two::random::random::add_to_linker::<_, WasiRandom>(l, P2::random)),
    ("wasi:random/insecure", |l| two::random::insecure::add_to_linker::<_, WasiRandom>(l, P2::random)),
    ("wasi:random/insecure-seed", |l| {
        two::random::insecure_seed::add_to_linker::<_, WasiRandom>(l, P2::random)
    }),
    ("wasi:sockets/network", |l| {
        let options = two::sockets::network::LinkOptions::default();
        two::sockets::network::add_to_linker::<_, WasiSockets>(l, &options, P2::sockets)
    }),
    ("wasi:sockets/instance-network", |l| {
        two::sockets::instance_network::add_to_linker::<_, WasiSockets>(l, P2::sockets)
    }),
    ("wasi:sockets/tcp", |l| two::sockets::tcp::add_to_linker::<_, WasiSockets>(l, P2::sockets)),
    ("wasi:sockets/tcp-create-socket", |l| {
        two::sockets::tcp_create_socket::add_to_linker::<_, WasiSockets>(l, P2::sockets)
    }),
    ("wasi:sockets/udp", |l| two::sockets::udp::add_to_linker::<_, WasiSockets>(l, P2::sockets)),
    ("wasi:sockets/udp-create-socket", |l| {
        two::sockets::udp_create_socket::add_to_linker::<_, WasiSockets>(l, P2::sockets)
    }),
    ("wasi:sockets/ip-name-lookup", |l| {
        two::sockets::ip_name_lookup::add_to_linker::<_, WasiSockets>(l, P2::sockets)
    }),
    ("wasi:http/types", |l| {
        let options = http_two::http::types::LinkOptions::default();
        http_two::http::types::add_to_linker::<_, WasiHttp>(l, &options, P2::http)
    }),
    ("wasi:http/outgoing-handler", |l| {
        http_two::http::outgoing_handler::add_to_linker::<_, WasiHttp>(l, P2::http)
    }),
];

/// WASI 0.3.
static THREE: &[(&str, Add)] = &[
    ("wasi:cli/environment", |l| three::cli::environment::add_to_linker::<_, WasiCli>(l, P2::cli)),
    ("wasi:cli/exit", |l| three::cli::exit::add_to_linker::<_, WasiCli>(l, P2::cli)),
    ("wasi:cli/stdin", |l| three::cli::stdin::add_to_linker::<_, WasiCli>(l, P2::cli)),
    ("wasi:cli/stdout", |l| three::cli::stdout::add_to_linker::<_, WasiCli>(l, P2::cli)),
    ("wasi:cli/stderr", |l| three::cli::stderr::add_to_linker::<_, WasiCli>(l, P2::cli)),
    ("wasi:cli/terminal-input", |l| three::cli::terminal_input::add_to_linker::<_, WasiCli>(l, P2::cli)),
    ("wasi:cli/terminal-output", |l| three::cli::terminal_output::add_to_linker::<_, WasiCli>(l, P2::cli)),
    ("wasi:cli/terminal-stdin", |l| three::cli::terminal_stdin::add_to_linker::<_, WasiCli>(l, P2::cli)),
    ("wasi:cli/terminal-stdout", |l| three::cli::terminal_stdout::add_to_linker::<_, WasiCli>(l, P2::cli)),
    ("wasi:cli/terminal-stderr", |l| three::cli::terminal_stderr::add_to_linker::<_, WasiCli>(l, P2::cli)),
    ("wasi:clocks/types", |l| three::clocks::types::add_to_linker::<_, WasiClocks>(l, P2::clocks)),
    ("wasi:clocks/monotonic-clock", |l| {
        three::clocks::monotonic_clock::add_to_linker::<_, WasiClocks>(l, P2::clocks)
    }),
    ("wasi:clocks/system-clock", |l| {
        three::clocks::system_clock::add_to_linker::<_, WasiClocks>(l, P2::clocks)
    }),
    ("wasi:filesystem/types", |l| {
        three::filesystem::types::add_to_linker::<_, WasiFilesystem>(l, P2::filesystem)?;
        replaced(
            l,
            THREE_FILES,
            &[
                slashes::three,
                opened::three,
                across::three,
                #[cfg(target_os = "linux")]
                changed::three,
            ],
        )
    }),
    ("wasi:filesystem/preopens", |l| {
        three::filesystem::preopens::add_to_linker::<_, WasiFilesystem>(l, P2::filesystem)
    }),
    ("wasi:random/random", |l| three::random::random::add_to_linker::<_, WasiRandom>(l, P2::random)),
    ("wasi:random/insecure", |l| three::random::insecure::add_to_linker::<_, WasiRandom>(l, P2::random)),
    ("wasi:random/insecure-seed", |l| {
        three::random::insecure_seed::add_to_linker::<_, WasiRandom>(l, P2::random)
    }),
    ("wasi:sockets/types", |l| three::sockets::types::add_to_linker::<_, WasiSockets>(l, P2::sockets)),
    ("wasi:sockets/ip-name-lookup", |l| {
        three::sockets::ip_name_lookup::add_to_linker::<_, WasiSockets>(l, P2::sockets)
    }),
    ("wasi:http/types", |l| http_three::http::types::add_to_linker::<_, WasiHttp>(l, P2::http)),
    ("wasi:http/client", |l| {
        http_three::http::client::add_to_linker::<_, WasiHttp>(l, P2::http)?;
        replaced(l, THREE_REQUESTS, &[pathless::three])
    }),
];

/// Finds who provides an import such as `wasi:cli/exit@0.2.3`.
pub(crate) fn provider(import: &str) -> Option<Add> {
    let (name, version) = import.split_once('@')?;
    let table = match version {
        _ if version.starts_with("0.2.") => TWO,
        "0.3" => THREE,
        _ if version.starts_with("0.3.") => THREE,
        _ => return None,
    };
    table.iter().find(|(known, _)| *known == name).map(|(_, add)| *add)
}

/// The key under which two versions of one interface share a provider.
pub(super) fn line(import: &str) -> (&str, bool) {
    match import.split_once('@') {
        Some((name, version)) => (name, version.starts_with("0.3")),
        None => (import, false),
    }
}

/// Whether an instance holds nothing that must be provided.
pub(super) fn types_only(engine: &Engine, instance: &ComponentInstance) -> bool {
    instance.exports(engine).all(|(_, item)| matches!(item.ty, ComponentItem::Type(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_choose_the_table() {
        for (import, provided) in [
            ("wasi:cli/exit@0.2.0", true),
            ("wasi:cli/exit@0.2.99", true),
            ("wasi:cli/exit@0.3.0", true),
            ("wasi:cli/exit@0.1.0", false),
            ("wasi:cli/exit", false),
            ("wasi:http/client@0.2.0", false),
            ("wasi:http/client@0.3.0", true),
            ("wasi:http/outgoing-handler@0.2.1", true),
            ("rb-js-abi-host", false),
        ] {
            assert_eq!(provider(import).is_some(), provided, "{import}");
        }
    }
}
