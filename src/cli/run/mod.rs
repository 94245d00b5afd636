//! `umiak run`.

use clap::Args;

use super::Execute;
use super::create::{Flags, create};
use super::fault::Fault;
use super::flags::switch;
use super::foreground::keys::Keys;
use super::foreground::{self, Foreground, Manner, terminal};
use super::output::Printer;
use crate::engine::Engine;

/// Create and run a new container from an image
#[derive(Debug, Args)]
#[command(
    help_template = super::HELP,
    override_usage = "umiak run [OPTIONS] IMAGE [COMMAND] [ARG...]",
    args_override_self = true
)]
pub(super) struct Run {
    /// Run container in background and print container ID
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, value_parser = switch, value_name = "bool", action = clap::ArgAction::Set)]
    detach: bool,
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "string")]
    detach_keys: Option<String>,
    /// Proxy received signals to the process
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true", hide_default_value = true, value_parser = switch, value_name = "bool", action = clap::ArgAction::Set)]
    sig_proxy: bool,
    #[command(flatten)]
    flags: Flags,
}

impl Execute for Run {
    fn check(&self) -> Result<(), Fault> {
        self.flags.check()?;
        self.keys()?;
        if self.detach && !self.flags.attach.is_empty() {
            return Err(Fault::Conflict("conflicting options: cannot specify both --attach and --detach"));
        }
        if self.detach { Ok(()) } else { foreground::check_terminal(self.flags.interactive, self.flags.tty) }
    }

    fn starts(&self) -> bool {
        true
    }

    fn run(&self, engine: &Engine, printer: &Printer) -> Result<u8, Fault> {
        let made = create(&self.flags, engine, printer, !self.detach, engine.ahead());
        let container = made.inspect_err(|_| engine.never_mind())?;
        if self.detach {
            engine.start(&container, false, None)?;
            printer.line(&container.id)?;
            return Ok(0);
        }
        let config = &container.config;
        let flags = &self.flags;
        let foreground = Foreground::prepare(Manner {
            tty: config.tty,
            stdin: config.open_stdin && flags.attaches("stdin"),
            stdout: flags.attaches("stdout"),
            stderr: flags.attaches("stderr"),
            sig_proxy: self.sig_proxy,
            keys: self.keys()?,
        })?;
        let window = if config.tty { terminal::size() } else { None };
        let session = engine.start(&container, true, window)?;
        Ok(foreground.stay(session, printer)?.status())
    }
}

impl Run {
    fn keys(&self) -> Result<Keys, Fault> {
        Keys::parse(self.detach_keys.as_deref().unwrap_or_default()).map_err(Fault::value)
    }
}
