//! Networks of containers: pure data. Kernel work is in `runtime_linux::net`.

pub mod dns;
pub mod files;
