//! All output of the program.
//!
//! Invariants: every byte goes through one [`Printer`]; one row type feeds table, JSON and template, so the three can
//! never disagree; text that came from an image or a container has its control characters replaced before it reaches a
//! table on a terminal.
//!
//! The Go templates are our own small interpreter ([`template`]) and not the `gtmpl` crate: docker's rows have methods with
//! arguments (`.Label "x"`), which need the row at hand, and `gtmpl` takes plain function pointers only; its maps also lose
//! their order, and its messages are not the ones that scripts look for.

mod documents;
pub mod error;
pub mod human;
pub mod ports;
mod printer;
pub mod table;
pub mod template;

pub(in crate::cli) use documents::Documents;
pub use printer::{OutputError, Printer};
