//! Chooses the role of this process, before any thread exists.

use std::process::ExitCode;

/// Each process of a start is short and allocates little: what counts is to ask the kernel for memory seldom, and to touch few pages.
#[cfg(all(target_os = "linux", target_env = "musl"))]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    // A container's first process: does not return.
    #[cfg(target_os = "linux")]
    runtime_linux::init::main_if_init();
    if std::env::args_os().nth(1).is_some_and(|role| role == umiak::supervisor::ROLE) {
        return umiak::supervisor::main();
    }
    umiak::cli::main()
}
