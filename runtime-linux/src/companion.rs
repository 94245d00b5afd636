//! Programs of the host's that work for a container and must not outlive its host process.

use std::io;
use std::process::{Child, Command};

/// Starts a program that the kernel kills when this process ends, however it ends. A program that gives up rights stays under
/// this sentence; one that gains rights (set-user-ID) would not.
pub fn start(mut command: Command) -> io::Result<Child> {
    crate::sys::die_with_parent(&mut command);
    // The sentence is tied to the thread that is the parent.
    crate::spawn::in_parent_thread(move || command.spawn())
}
