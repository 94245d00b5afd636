//! `umiak exec`.

use std::path::PathBuf;

use clap::Args;

use super::Execute;
use super::args::env;
use super::fault::Fault;
use super::flags::switch;
use super::foreground::keys::Keys;
use super::foreground::{self, Foreground, Manner, terminal};
use super::output::Printer;
use crate::engine::{Engine, ExecOptions};
use crate::executor::WindowSize;

/// The terminal's size where the user's own has none.
const SIZE: WindowSize = WindowSize { rows: 24, cols: 80 };

/// Execute a command in a running container
#[derive(Debug, Args)]
#[command(help_template = super::HELP, override_usage = "umiak exec [OPTIONS] CONTAINER COMMAND [ARG...]", args_override_self = true)]
pub(super) struct Exec {
    /// Detached mode: run command in the background
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, value_parser = switch, value_name = "bool", action = clap::ArgAction::Set)]
    detach: bool,
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "string")]
    detach_keys: Option<String>,
    /// Set environment variables
    #[arg(short, long, value_name = "list", allow_hyphen_values = true)]
    env: Vec<String>,
    /// Read in a file of environment variables
    #[arg(long, value_name = "list")]
    env_file: Vec<PathBuf>,
    /// Keep STDIN open even if not attached
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, value_parser = switch, value_name = "bool", action = clap::ArgAction::Set)]
    interactive: bool,
    /// Give extended privileges to the command
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, value_parser = switch, value_name = "bool", action = clap::ArgAction::Set)]
    privileged: bool,
    /// Allocate a pseudo-TTY
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, value_parser = switch, value_name = "bool", action = clap::ArgAction::Set)]
    tty: bool,
    /// Username or UID (format: "<name|uid>[:<group|gid>]")
    #[arg(short, long, value_name = "string")]
    user: Option<String>,
    /// Working directory inside the container
    #[arg(short, long, value_name = "string")]
    workdir: Option<String>,
    #[arg(required = true, hide = true)]
    container: String,
    /// What to run, untouched.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    command: Vec<String>,
}

impl Exec {
    fn keys(&self) -> Result<Keys, Fault> {
        Keys::parse(self.detach_keys.as_deref().unwrap_or_default()).map_err(Fault::value)
    }

    fn options(&self) -> Result<ExecOptions, Fault> {
        let host = |key: &str| std::env::var_os(key);
        let variables = env::variables(&self.env_file, &self.env, &host).map_err(Fault::value)?;
        Ok(ExecOptions {
            args: self.command.clone(),
            // A name alone takes a variable away from an image; here there is nothing to take it from.
            env: variables.into_iter().filter(|pair| pair.contains('=')).collect(),
            cwd: self.workdir.clone().unwrap_or_default(),
            user: self.user.clone().unwrap_or_default(),
            terminal: self.tty.then(|| terminal::size().unwrap_or(SIZE)),
            stdin: self.interactive && !self.detach,
            detach: self.detach,
            privileged: self.privileged,
        })
    }
}

impl Execute for Exec {
    fn check(&self) -> Result<(), Fault> {
        self.keys()?;
        if self.detach { Ok(()) } else { foreground::check_terminal(self.interactive, self.tty) }
    }

    fn run(&self, engine: &Engine, printer: &Printer) -> Result<u8, Fault> {
        let options = self.options()?;
        if self.detach {
            engine.exec(&self.container, &options)?;
            return Ok(0);
        }
        let foreground = Foreground::prepare(Manner {
            tty: self.tty,
            stdin: self.interactive,
            stdout: true,
            stderr: true,
            // Docker passes none on to a process of `exec`: Ctrl-C ends the command, and its process runs on.
            sig_proxy: false,
            keys: self.keys()?,
        })?;
        let session = engine.exec(&self.container, &options)?;
        Ok(foreground.stay(session, printer)?.status())
    }
}
