//! `umiak start`.

use clap::Args;

use super::Execute;
use super::fault::Fault;
use super::flags::switch;
use super::foreground::keys::Keys;
use super::foreground::{self, Foreground, Manner, terminal};
use super::output::Printer;
use crate::engine::Engine;

/// Start one or more stopped containers
#[derive(Debug, Args)]
#[command(help_template = super::HELP, override_usage = "umiak start [OPTIONS] CONTAINER [CONTAINER...]", args_override_self = true)]
pub(super) struct Start {
    /// Attach STDOUT/STDERR and forward signals
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, value_parser = switch, value_name = "bool", action = clap::ArgAction::Set)]
    attach: bool,
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "string")]
    detach_keys: Option<String>,
    /// Attach container's STDIN
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, value_parser = switch, value_name = "bool", action = clap::ArgAction::Set)]
    interactive: bool,
    #[arg(required = true, hide = true)]
    containers: Vec<String>,
}

impl Start {
    fn keys(&self) -> Result<Keys, Fault> {
        Keys::parse(self.detach_keys.as_deref().unwrap_or_default()).map_err(Fault::value)
    }

    fn attached(&self, name: &str, engine: &Engine, printer: &Printer) -> Result<u8, Fault> {
        let view = engine.container(name)?;
        let config = &view.container.config;
        let stdin = self.interactive && config.open_stdin;
        foreground::check_terminal(stdin, config.tty)?;
        let foreground = Foreground::prepare(Manner {
            tty: config.tty,
            stdin,
            stdout: true,
            stderr: true,
            sig_proxy: true,
            keys: self.keys()?,
        })?;
        let window = if config.tty { terminal::size() } else { None };
        let session = match engine.start_again(view.container.id.as_str(), true, window)? {
            Some(session) => session,
            None => engine.attach(view.container.id.as_str(), stdin)?.1,
        };
        Ok(foreground.stay(session, printer)?.status())
    }
}

impl Execute for Start {
    fn check(&self) -> Result<(), Fault> {
        self.keys()?;
        if (self.attach || self.interactive) && self.containers.len() > 1 {
            return Err(Fault::Conflict("you cannot start and attach multiple containers at once"));
        }
        Ok(())
    }

    fn run(&self, engine: &Engine, printer: &Printer) -> Result<u8, Fault> {
        match self.containers.as_slice() {
            [one] if self.attach || self.interactive => self.attached(one, engine, printer),
            all => super::each(printer, all, |name| {
                engine.start_again(name, false, None)?;
                Ok(printer.line(name)?)
            }),
        }
    }
}
