//! Asking before something is lost.

use std::io::{self, BufRead};

use super::fault::Fault;
use super::output::Printer;

/// Warns and asks, as docker does; only `y` goes on.
pub(super) fn confirm(printer: &Printer, warning: &str) -> Result<bool, Fault> {
    printer.write(format!("{warning}\nAre you sure you want to continue? [y/N] ").as_bytes())?;
    let mut answer = String::new();
    io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(|source| Fault::System { action: "reading the answer", source })?;
    Ok(matches!(answer.trim(), "y" | "Y"))
}
