//! Chooses the role of this process, before any thread exists.

#[cfg(all(target_os = "linux", target_env = "musl"))]
mod heap;

use std::process::ExitCode;

fn main() -> ExitCode {
    // A container's first process: does not return.
    #[cfg(target_os = "linux")]
    runtime_linux::init::main_if_init();
    if std::env::args_os().nth(1).is_some_and(|role| role == umiak::supervisor::ROLE) {
        return umiak::supervisor::main();
    }
    umiak::cli::main()
}
