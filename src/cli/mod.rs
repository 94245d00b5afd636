//! The command line: reading arguments, and showing results.
//!
//! One file a command: a clap struct and `run(&self, &Engine, &Printer)`, which returns the exit status. Invariant: nothing
//! here decides what the engine does. What an argument means is told here, what [`output`] shows comes from values of
//! `model`; the engine is opened after the arguments have been found good.

pub mod args;
mod completion;
mod fault;
mod filter;
mod flags;
mod images;
mod info;
mod inspect;
mod kill;
mod logs;
pub mod output;
mod progress;
mod ps;
mod pull;
mod rm;
mod rmi;
mod run;
mod usage;
mod version;
mod wait;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgAction, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::engine::{Engine, Options};
use crate::model::Kind;
use fault::Fault;
use output::error::{Statuses, exit_status, report};
use output::{OutputError, Printer};

/// How help is laid out: docker's order.
pub(crate) const HELP: &str = "Usage:  {usage}\n\n{about}\n\n{all-args}{after-help}";

/// A portable container engine
#[derive(Debug, Parser)]
#[command(
    name = "umiak",
    override_usage = "umiak [OPTIONS] COMMAND",
    after_help = "Run 'umiak COMMAND --help' for more information on a command.",
    disable_version_flag = true,
    disable_help_flag = true,
    disable_help_subcommand = true,
    subcommand_help_heading = "Commands",
    help_template = HELP
)]
struct Arguments {
    /// Directory of images and containers
    #[arg(long, value_name = "dir", env = "UMIAK_ROOT", hide_env = true)]
    root: Option<PathBuf>,
    /// Directory of what is gone after a reboot
    #[arg(long, value_name = "dir", env = "UMIAK_RUN_ROOT", hide_env = true)]
    run_root: Option<PathBuf>,
    /// Configuration file
    #[arg(long, value_name = "file", env = "UMIAK_CONFIG", hide_env = true)]
    config: Option<PathBuf>,
    /// Enable debug mode
    #[arg(short = 'D', long)]
    debug: bool,
    /// Set the logging level ("trace", "debug", "info", "warn", "error")
    #[arg(short, long, value_name = "string", value_parser = ["trace", "debug", "info", "warn", "error"], hide_possible_values = true)]
    log_level: Option<String>,
    /// Print version information and quit
    #[arg(short, long)]
    version: bool,
    /// Print usage
    #[arg(long, global = true, action = ArgAction::Help)]
    help: Option<bool>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(Box<run::Run>),
    Ps(ps::Ps),
    Pull(pull::Pull),
    Images(images::Images),
    Inspect(inspect::Inspect),
    Logs(logs::Logs),
    Kill(kill::Kill),
    Rm(rm::Rm),
    Rmi(rmi::Rmi),
    Wait(wait::Wait),
    Info(info::Info),
    Version(version::Version),
    Completion(completion::Completion),
    /// Manage containers
    #[command(subcommand, override_usage = "umiak container COMMAND", arg_required_else_help = true)]
    Container(ContainerCommand),
    /// Manage images
    #[command(subcommand, override_usage = "umiak image COMMAND", arg_required_else_help = true)]
    Image(ImageCommand),
}

/// Docker's longer forms.
#[derive(Debug, Subcommand)]
#[command(help_template = HELP, disable_help_subcommand = true, subcommand_help_heading = "Commands")]
enum ContainerCommand {
    Run(Box<run::Run>),
    #[command(visible_aliases = ["list", "ps"])]
    Ls(ps::Ps),
    Inspect(inspect::Inspect),
    Logs(logs::Logs),
    Kill(kill::Kill),
    #[command(alias = "remove")]
    Rm(rm::Rm),
    Wait(wait::Wait),
}

/// Docker's longer forms.
#[derive(Debug, Subcommand)]
#[command(help_template = HELP, disable_help_subcommand = true, subcommand_help_heading = "Commands")]
enum ImageCommand {
    #[command(visible_alias = "list")]
    Ls(images::Images),
    Inspect(inspect::Inspect),
    Pull(pull::Pull),
    #[command(alias = "remove")]
    Rm(rmi::Rmi),
}

impl Command {
    /// The short form of a longer one.
    fn short(self) -> Self {
        match self {
            Self::Container(ContainerCommand::Run(command)) => Self::Run(command),
            Self::Container(ContainerCommand::Ls(command)) => Self::Ps(command),
            Self::Container(ContainerCommand::Inspect(command)) => Self::Inspect(command.only("container")),
            Self::Container(ContainerCommand::Logs(command)) => Self::Logs(command),
            Self::Container(ContainerCommand::Kill(command)) => Self::Kill(command),
            Self::Container(ContainerCommand::Rm(command)) => Self::Rm(command),
            Self::Container(ContainerCommand::Wait(command)) => Self::Wait(command),
            Self::Image(ImageCommand::Ls(command)) => Self::Images(command),
            Self::Image(ImageCommand::Inspect(command)) => Self::Inspect(command.only("image")),
            Self::Image(ImageCommand::Pull(command)) => Self::Pull(command),
            Self::Image(ImageCommand::Rm(command)) => Self::Rmi(command),
            short => short,
        }
    }

    fn statuses(&self) -> Statuses {
        if matches!(self, Self::Run(_)) { Statuses::Runs } else { Statuses::Plain }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Run(_) => "run",
            Self::Ps(_) => "ps",
            Self::Pull(_) => "pull",
            Self::Images(_) => "images",
            Self::Inspect(_) => "inspect",
            Self::Logs(_) => "logs",
            Self::Kill(_) => "kill",
            Self::Rm(_) => "rm",
            Self::Rmi(_) => "rmi",
            Self::Wait(_) => "wait",
            Self::Info(_) => "info",
            Self::Version(_) => "version",
            Self::Completion(_) => "completion",
            Self::Container(_) => "container",
            Self::Image(_) => "image",
        }
    }

    fn run(&self, options: &Options, printer: &Printer) -> Result<u8, Fault> {
        let engine = match self {
            Self::Version(command) => return command.run(printer),
            Self::Completion(command) => return command.run(printer, Arguments::command()),
            Self::Run(command) => {
                command.check()?;
                Engine::open(options)?
            }
            _ => Engine::open(options)?,
        };
        match self {
            Self::Run(command) => command.run(&engine, printer),
            Self::Ps(command) => command.run(&engine, printer),
            Self::Pull(command) => command.run(&engine, printer),
            Self::Images(command) => command.run(&engine, printer),
            Self::Inspect(command) => command.run(&engine, printer),
            Self::Logs(command) => command.run(&engine, printer),
            Self::Kill(command) => command.run(&engine, printer),
            Self::Rm(command) => command.run(&engine, printer),
            Self::Rmi(command) => command.run(&engine, printer),
            Self::Wait(command) => command.run(&engine, printer),
            Self::Info(command) => command.run(&engine, printer),
            // Done above, or turned into the short form.
            Self::Version(_) | Self::Completion(_) | Self::Container(_) | Self::Image(_) => Ok(0),
        }
    }
}

/// The process in the role of a command.
pub fn main() -> ExitCode {
    let printer = Printer::standard();
    let arguments: Vec<_> = std::env::args_os().collect();
    let matches = Arguments::command().try_get_matches_from(&arguments);
    let parsed = match matches.and_then(|mut matches| Arguments::from_arg_matches_mut(&mut matches)) {
        Ok(parsed) => parsed,
        Err(error) => return usage::explain(&printer, &error, Arguments::command(), &arguments).into(),
    };
    trace(&parsed);
    dispatch(parsed, &printer).into()
}

fn dispatch(parsed: Arguments, printer: &Printer) -> u8 {
    let wrote = |outcome: Result<(), OutputError>| match outcome {
        Ok(()) => 0,
        Err(error) => failed(printer, &error.into(), Statuses::Plain, None),
    };
    if parsed.version {
        return wrote(printer.line(version::one_line()));
    }
    let Some(command) = parsed.command else {
        return wrote(printer.write(Arguments::command().render_help().to_string().as_bytes()));
    };
    let command = command.short();
    let options = Options { root: parsed.root, run_root: parsed.run_root, config: parsed.config };
    match command.run(&options, printer) {
        Ok(status) => status,
        Err(fault) => failed(printer, &fault, command.statuses(), Some(command.name())),
    }
}

/// Reports a failure; its exit status.
fn failed(printer: &Printer, fault: &Fault, statuses: Statuses, command: Option<&str>) -> u8 {
    if matches!(fault, Fault::Output(OutputError::Closed)) {
        return OutputError::CLOSED_STATUS;
    }
    report(printer, fault, command.filter(|_| fault.is_usage()));
    fault.status().unwrap_or_else(|| exit_status(fault.kind(), statuses))
}

/// Sends traces to standard error when they are asked for; setting the machinery up costs time otherwise wasted.
fn trace(parsed: &Arguments) {
    let level = match (&parsed.log_level, parsed.debug) {
        (Some(level), _) => level.as_str(),
        (None, true) => "debug",
        (None, false) => return,
    };
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(format!("umiak={level},runtime_linux={level},runtime_wasm={level}"))
        .with_writer(std::io::stderr);
    // A second set-up is impossible: nothing else in this process does it.
    let _ = subscriber.try_init();
}

/// Does something for each of several names; what fails is reported, and makes the status 1.
fn each(
    printer: &Printer,
    names: &[String],
    mut action: impl FnMut(&str) -> Result<(), Fault>,
) -> Result<u8, Fault> {
    let mut status = 0;
    for name in names {
        match action(name) {
            Ok(()) => {}
            Err(fault @ Fault::Output(_)) => return Err(fault),
            Err(fault) => {
                report(printer, &fault, None);
                status = 1;
            }
        }
    }
    Ok(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn longer_forms_are_the_short_ones() {
        for (typed, name) in [
            ("container ls -a", "ps"),
            ("container rm x", "rm"),
            ("image ls -q", "images"),
            ("image inspect x", "inspect"),
            ("image rm x", "rmi"),
            ("ps", "ps"),
        ] {
            let words = std::iter::once("umiak").chain(typed.split(' '));
            let parsed = Arguments::try_parse_from(words).unwrap();
            assert_eq!(parsed.command.unwrap().short().name(), name, "{typed}");
        }
    }
}
