//! `umiak attach`.

use clap::Args;

use super::Execute;
use super::fault::Fault;
use super::flags::switch;
use super::foreground::keys::Keys;
use super::foreground::{self, Foreground, Manner, terminal};
use super::output::Printer;
use crate::engine::Engine;
use crate::executor::WindowSize;

/// Attach local standard input, output, and error streams to a running container
#[derive(Debug, Args)]
#[command(help_template = super::HELP, override_usage = "umiak attach [OPTIONS] CONTAINER", args_override_self = true)]
pub(super) struct Attach {
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "string")]
    detach_keys: Option<String>,
    /// Do not attach STDIN
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, value_parser = switch, value_name = "bool", action = clap::ArgAction::Set)]
    no_stdin: bool,
    /// Proxy all received signals to the process
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true", hide_default_value = true, value_parser = switch, value_name = "bool", action = clap::ArgAction::Set)]
    sig_proxy: bool,
    #[arg(required = true, hide = true)]
    container: String,
}

impl Attach {
    fn keys(&self) -> Result<Keys, Fault> {
        Keys::parse(self.detach_keys.as_deref().unwrap_or_default()).map_err(Fault::value)
    }
}

impl Execute for Attach {
    fn check(&self) -> Result<(), Fault> {
        self.keys().map(drop)
    }

    fn run(&self, engine: &Engine, printer: &Printer) -> Result<u8, Fault> {
        let config = engine.container(&self.container)?.container.config;
        let stdin = !self.no_stdin && config.open_stdin;
        foreground::check_terminal(stdin, config.tty)?;
        let foreground = Foreground::prepare(Manner {
            tty: config.tty,
            stdin,
            stdout: true,
            stderr: true,
            sig_proxy: self.sig_proxy,
            keys: self.keys()?,
        })?;
        let (_, session) = engine.attach(&self.container, stdin)?;
        if config.tty
            && let Some(size) = terminal::size()
        {
            // Another size first: a program draws anew only when its terminal changes.
            let control = session.control();
            let other = WindowSize { rows: size.rows.saturating_add(1), cols: size.cols.saturating_add(1) };
            let _gone = control.resize(other) && control.resize(size);
        }
        Ok(foreground.stay(session, printer)?.status())
    }
}
