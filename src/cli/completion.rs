//! `umiak completion`.

use clap::Args;
use clap_complete::Shell;

use super::fault::Fault;
use super::output::Printer;

/// Generate the autocompletion script for the specified shell
#[derive(Debug, Args)]
#[command(help_template = super::HELP, override_usage = "umiak completion SHELL")]
pub(super) struct Completion {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

impl Completion {
    pub(super) fn run(&self, printer: &Printer, mut root: clap::Command) -> Result<u8, Fault> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut root, "umiak", &mut script);
        printer.write(&script)?;
        Ok(0)
    }
}
