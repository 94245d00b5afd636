//! Runs a WASI program with the current directory as its root: `run FILE.wasm [ARGUMENT…]`.

use std::fs::File;
use std::io;
use std::path::Path;

use runtime_wasm::{Exit, Grants, Input, Preopen, Runtime, Settings, Source};

fn main() -> Result<std::process::ExitCode, Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let path = args.first().ok_or("usage: run FILE.wasm [ARGUMENT…]")?.clone();
    let cache_dir = std::env::var_os("RUNTIME_WASM_CACHE").map(Into::into);
    let runtime = Runtime::new(&Settings { cache_dir, ..Settings::default() })?;
    let source = Source { input: Input::Path(Path::new(&path)), digest: None };
    let program = runtime.load(&source, &mut |_size| {})?;

    let mut grants = Grants::new(own(&io::stdin())?, own(&io::stdout())?, own(&io::stderr())?);
    grants.args = args;
    grants.preopens = vec![Preopen { host: ".".into(), guest: "/".into(), read_only: false }];
    let exit = program.run(grants)?.wait();
    Ok(match exit {
        Exit::Code(code) => u8::try_from(code).unwrap_or(1).into(),
        other => u8::try_from(other.status()).unwrap_or(1).into(),
    })
}

#[cfg(unix)]
fn own(stream: &impl std::os::fd::AsFd) -> io::Result<File> {
    stream.as_fd().try_clone_to_owned().map(File::from)
}

#[cfg(windows)]
fn own(stream: &impl std::os::windows::io::AsHandle) -> io::Result<File> {
    stream.as_handle().try_clone_to_owned().map(File::from)
}
