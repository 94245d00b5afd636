//! Chooses the role of this process, before any thread exists.

use std::process::ExitCode;

/// musl's own has one lock for all threads.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // A container's first process: does not return.
    #[cfg(target_os = "linux")]
    runtime_linux::init::main_if_init();
    if std::env::args_os().nth(1).is_some_and(|role| role == umiak::supervisor::ROLE) {
        return umiak::supervisor::main();
    }
    umiak::cli::main()
}
