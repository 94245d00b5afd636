//! `umiak commit`.

use clap::Args;

use super::Execute;
use super::fault::Fault;
use super::flags::switch;
use super::output::Printer;
use crate::engine::{CommitOptions, Engine};

/// Create a new image from a container's changes
#[derive(Debug, Args)]
#[command(help_template = super::HELP, override_usage = "umiak commit [OPTIONS] CONTAINER [REPOSITORY[:TAG]]", args_override_self = true)]
pub(super) struct Commit {
    /// Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")
    #[arg(short, long, value_name = "string", default_value = "", hide_default_value = true)]
    author: String,
    /// Apply Dockerfile instruction to the created image
    #[arg(short, long, value_name = "list")]
    change: Vec<String>,
    /// Commit message
    #[arg(short, long, value_name = "string", default_value = "", hide_default_value = true)]
    message: String,
    /// Pause container during commit
    #[arg(short, long, value_name = "bool", num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true", value_parser = switch, hide_default_value = true, hide_possible_values = true)]
    pause: bool,
    #[arg(required = true, hide = true)]
    container: String,
    #[arg(hide = true)]
    name: Option<String>,
}

impl Execute for Commit {
    fn run(&self, engine: &Engine, printer: &Printer) -> Result<u8, Fault> {
        let options = CommitOptions {
            name: self.name.as_deref().map(|name| engine.parse_reference(name)).transpose()?,
            author: self.author.clone(),
            message: self.message.clone(),
            pause: self.pause,
            changes: self.change.clone(),
        };
        printer.line(engine.commit(&self.container, &options)?)?;
        Ok(0)
    }
}
