//! The command line: reading arguments, and showing results.
//!
//! One file a command: a clap struct and `run(&self, &Engine, &Printer)`, which returns the exit status. Invariant: nothing
//! here decides what the engine does. What an argument means is told here, what [`output`] shows comes from values of
//! `model`; the engine is opened after the arguments have been found good.

pub mod args;
mod attach;
mod boot;
mod check;
mod commit;
mod completion;
mod confirm;
mod cp;
mod create;
mod deferred;
mod df;
mod diff;
mod events;
mod exec;
mod export;
mod fault;
mod filter;
mod flags;
mod foreground;
mod history;
mod images;
mod import;
mod info;
mod inspect;
mod kill;
mod load;
mod login;
mod logout;
mod logs;
mod manifest;
mod network;
pub mod output;
mod pause;
mod pin;
mod port;
mod progress;
mod prune;
mod ps;
mod pull;
mod push;
mod rename;
mod restart;
mod rm;
mod rmi;
mod run;
mod save;
mod search;
mod start;
mod stats;
mod stop;
mod tag;
mod top;
mod unpause;
mod update;
mod usage;
mod version;
mod volume;
mod wait;

use std::ffi::OsString;
use std::mem::ManuallyDrop;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgAction, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::engine::{Engine, Options, Ready};
use crate::model::Kind;
use deferred::Deferred;
use fault::Fault;
use output::error::{Statuses, exit_status, report};
use output::{OutputError, Printer};

/// How help is laid out: docker's order.
pub(crate) const HELP: &str = "Usage:  {usage}\n\n{about}\n\n{all-args}{after-help}";

/// Names of the variables that say where the engine's files are.
const ROOT: &str = "UMIAK_ROOT";
const RUN_ROOT: &str = "UMIAK_RUN_ROOT";

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
    #[arg(long, value_name = "dir", env = ROOT, hide_env = true)]
    root: Option<PathBuf>,
    /// Directory of what is gone after a reboot
    #[arg(long, value_name = "dir", env = RUN_ROOT, hide_env = true)]
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
    command: Option<Every>,
}

/// What a command does once its arguments are read.
trait Execute {
    /// What is wrong with the arguments, without a look at the store.
    fn check(&self) -> Result<(), Fault> {
        Ok(())
    }

    /// Whether a database that is damaged beyond use is made anew first.
    fn mends(&self) -> bool {
        false
    }

    /// Whether it will start a new container.
    fn starts(&self) -> bool {
        false
    }

    /// Carries it out; the exit status.
    fn run(&self, engine: &Engine, printer: &Printer) -> Result<u8, Fault>;
}

impl<T: Execute> Execute for Box<T> {
    fn check(&self) -> Result<(), Fault> {
        (**self).check()
    }

    fn mends(&self) -> bool {
        (**self).mends()
    }

    fn starts(&self) -> bool {
        (**self).starts()
    }

    fn run(&self, engine: &Engine, printer: &Printer) -> Result<u8, Fault> {
        (**self).run(engine, printer)
    }
}

/// Commands that only read records or talk to supervisors: they need no right of root's, and an ordinary user's do not pay
/// for a namespace.
const OUTSIDE: &[&str] = &[
    "attach",
    "events",
    "exec",
    "history",
    "images",
    "inspect",
    "kill",
    "login",
    "logout",
    "logs",
    "pause",
    "port",
    "ps",
    "rename",
    "search",
    "stats",
    "stop",
    "system stop",
    "system unit",
    "top",
    "unpause",
    "update",
    "wait",
];

/// Where the engine's files are, and what was begun with them before that was certain.
struct Begun {
    options: Options,
    ready: Option<Ready>,
}

impl Begun {
    /// What `run` gets ready while its arguments are read, if all that is before its name says where.
    fn ready(arguments: &[OsString]) -> Option<Ready> {
        let directory = |variable| std::env::var_os(variable).map(PathBuf::from);
        let (root, run_root) = (directory(ROOT), directory(RUN_ROOT));
        let mut options = Options { root, run_root, ..Options::default() };
        let mut words = arguments.iter().skip(1);
        loop {
            match words.next()?.to_str()? {
                "--root" => options.root = Some(words.next()?.into()),
                "--run-root" => options.run_root = Some(words.next()?.into()),
                "run" => break,
                _ => return None,
            }
        }
        if words.any(|word| word == "--help") { None } else { Ready::begin(&options) }
    }
}

/// The engine is never dropped: closing its files is the kernel's, which is quicker.
fn open(begun: Begun, name: &str, command: &impl Execute) -> Result<ManuallyDrop<Engine>, Fault> {
    let Begun { options, ready } = begun;
    let engine = match (command.mends(), command.starts()) {
        (true, _) => Engine::open_mending(&options),
        (false, true) => Engine::open_to_run(&options, ready),
        (false, false) => Engine::open(&options),
    }?;
    if !OUTSIDE.contains(&name) {
        engine.enter_namespace()?;
    }
    Ok(ManuallyDrop::new(engine))
}

/// Declares commands, one line each: what clap reads, and the name in messages. Groups are enums made by this as well.
macro_rules! commands {
    (
        $(#[$outer:meta])* enum $commands:ident {
            $($(#[$meta:meta])* $variant:ident($command:ty) = $name:literal,)*
        }
        $(groups { $($(#[$group_meta:meta])* $group:ident($commands_of_group:ty),)* })?
    ) => {
        $(#[$outer])*
        #[derive(Debug, Subcommand)]
        #[command(help_template = HELP, disable_help_subcommand = true, subcommand_help_heading = "Commands")]
        enum $commands {
            $($(#[$meta])* $variant(Deferred<$command>),)*
            $($($(#[$group_meta])* #[command(subcommand, arg_required_else_help = true)] $group($commands_of_group),)*)?
        }

        impl $commands {
            fn name(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => $name,)*
                    $($(Self::$group(commands) => commands.name(),)*)?
                }
            }

            fn run(&self, begun: Begun, printer: &Printer) -> Result<u8, Fault> {
                match self {
                    $(Self::$variant(command) => {
                        command.check()?;
                        command.run(&*open(begun, $name, &**command)?, printer)
                    })*
                    $($(Self::$group(commands) => commands.run(begun, printer),)*)?
                }
            }
        }
    };
}

commands! {
    enum Command {
        Run(Box<run::Run>) = "run",
        Create(Box<create::Create>) = "create",
        Rename(rename::Rename) = "rename",
        Port(port::Port) = "port",
        Update(Box<update::Update>) = "update",
        Top(top::Top) = "top",
        Stats(stats::Stats) = "stats",
        Exec(exec::Exec) = "exec",
        Cp(cp::Cp) = "cp",
        Ps(ps::Ps) = "ps",
        Pull(pull::Pull) = "pull",
        Push(push::Push) = "push",
        Login(login::Login) = "login",
        Logout(logout::Logout) = "logout",
        Search(search::Search) = "search",
        Images(images::Images) = "images",
        Inspect(inspect::Inspect) = "inspect",
        Logs(logs::Logs) = "logs",
        Start(start::Start) = "start",
        Stop(stop::Stop) = "stop",
        Restart(restart::Restart) = "restart",
        Kill(kill::Kill) = "kill",
        Pause(pause::Pause) = "pause",
        Unpause(unpause::Unpause) = "unpause",
        Attach(attach::Attach) = "attach",
        Rm(rm::Rm) = "rm",
        Rmi(rmi::Rmi) = "rmi",
        Save(save::Save) = "save",
        Load(load::Load) = "load",
        Import(import::Import) = "import",
        Export(export::Export) = "export",
        Commit(commit::Commit) = "commit",
        Diff(diff::Diff) = "diff",
        History(history::History) = "history",
        Tag(tag::Tag) = "tag",
        Wait(wait::Wait) = "wait",
        Info(info::Info) = "info",
        Events(events::Events) = "events",
    }
    groups {
        /// Manage containers
        #[command(override_usage = "umiak container COMMAND")]
        Container(ContainerCommand),
        /// Manage images
        #[command(override_usage = "umiak image COMMAND")]
        Image(ImageCommand),
        /// Manage manifest lists: tags for several platforms
        #[command(override_usage = "umiak manifest COMMAND")]
        Manifest(ManifestCommand),
        /// Manage networks
        #[command(override_usage = "umiak network COMMAND")]
        Network(NetworkCommand),
        /// Manage the engine
        #[command(override_usage = "umiak system COMMAND")]
        System(SystemCommand),
        /// Manage volumes
        #[command(override_usage = "umiak volume COMMAND")]
        Volume(VolumeCommand),
    }
}

commands! {
    /// Docker's longer forms.
    enum ContainerCommand {
        Cp(cp::Cp) = "cp",
        Commit(commit::Commit) = "commit",
        Diff(diff::Diff) = "diff",
        Export(export::Export) = "export",
        Prune(prune::Containers) = "container prune",
        Create(Box<create::Create>) = "create",
        Rename(rename::Rename) = "rename",
        Port(port::Port) = "port",
        Update(Box<update::Update>) = "update",
        Top(top::Top) = "top",
        Stats(stats::Stats) = "stats",
        Attach(attach::Attach) = "attach",
        Exec(exec::Exec) = "exec",
        Pause(pause::Pause) = "pause",
        Restart(restart::Restart) = "restart",
        Start(start::Start) = "start",
        Stop(stop::Stop) = "stop",
        Unpause(unpause::Unpause) = "unpause",
        Inspect(inspect::Containers) = "inspect",
        Kill(kill::Kill) = "kill",
        Logs(logs::Logs) = "logs",
        #[command(visible_aliases = ["list", "ps"])]
        Ls(ps::Ps) = "ps",
        #[command(alias = "remove")]
        Rm(rm::Rm) = "rm",
        Run(Box<run::Run>) = "run",
        Wait(wait::Wait) = "wait",
    }
}

commands! {
    /// Docker's longer forms.
    enum ImageCommand {
        Prune(prune::Images) = "image prune",
        Save(save::Save) = "save",
        Load(load::Load) = "load",
        Import(import::Import) = "import",
        History(history::History) = "history",
        Tag(tag::Tag) = "tag",
        Inspect(inspect::Images) = "inspect",
        #[command(visible_alias = "list")]
        Ls(images::Images) = "images",
        Pin(pin::Pin) = "image pin",
        Pull(pull::Pull) = "pull",
        Push(push::Push) = "push",
        #[command(alias = "remove")]
        Rm(rmi::Rmi) = "rmi",
        Unpin(pin::Unpin) = "image unpin",
    }
}

commands! {
    /// Of manifest lists.
    enum ManifestCommand {
        Annotate(manifest::Annotate) = "manifest annotate",
        Create(manifest::Create) = "manifest create",
        Inspect(manifest::Inspect) = "manifest inspect",
        Push(manifest::Push) = "manifest push",
        Rm(manifest::Rm) = "manifest rm",
    }
}

commands! {
    /// Of the engine as a whole.
    enum SystemCommand {
        Check(check::Check) = "system check",
        Events(events::Events) = "events",
        Info(info::Info) = "info",
        Prune(prune::System) = "system prune",
        Df(df::Df) = "system df",
        Start(boot::Start) = "system start",
        Stop(boot::Stop) = "system stop",
        Unit(boot::Unit) = "system unit",
    }
}

commands! {
    /// Of networks.
    enum NetworkCommand {
        Connect(network::Connect) = "network connect",
        Create(Box<network::Create>) = "network create",
        Disconnect(network::Disconnect) = "network disconnect",
        Inspect(network::Inspect) = "network inspect",
        #[command(visible_alias = "list")]
        Ls(network::List) = "network ls",
        Prune(network::Prune) = "network prune",
        #[command(visible_alias = "remove")]
        Rm(network::Remove) = "network rm",
    }
}

commands! {
    /// Of volumes.
    enum VolumeCommand {
        Create(volume::Create) = "volume create",
        Inspect(volume::Inspect) = "volume inspect",
        #[command(visible_alias = "list")]
        Ls(volume::List) = "volume ls",
        Prune(volume::Prune) = "volume prune",
        #[command(visible_alias = "remove")]
        Rm(volume::Remove) = "volume rm",
    }
}

/// All commands: those that work on a store, and those that need none.
#[derive(Debug, Subcommand)]
enum Every {
    #[command(flatten)]
    Store(Command),
    Version(Deferred<version::Version>),
    Completion(Deferred<completion::Completion>),
}

impl Every {
    fn statuses(&self) -> Statuses {
        match self.name() {
            "run" | "create" => Statuses::Runs,
            "exec" => Statuses::Program,
            _ => Statuses::Plain,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Store(command) => command.name(),
            Self::Version(_) => "version",
            Self::Completion(_) => "completion",
        }
    }

    fn run(&self, begun: Begun, printer: &Printer) -> Result<u8, Fault> {
        match self {
            Self::Store(command) => command.run(begun, printer),
            Self::Version(command) => command.run(printer),
            Self::Completion(command) => command.run(printer, whole()),
        }
    }
}

/// The parser with the flags of every command (see [`deferred`]).
fn whole() -> clap::Command {
    let mut command = Arguments::command();
    command.build();
    command
}

/// The process in the role of a command.
pub fn main() -> ExitCode {
    let printer = Printer::standard();
    let arguments: Vec<_> = std::env::args_os().collect();
    let ready = Begun::ready(&arguments);
    let parse = |mut command: clap::Command| {
        let mut matches = command.try_get_matches_from_mut(&arguments)?;
        Arguments::from_arg_matches_mut(&mut matches)
    };
    // A help text, or words on what is wrong, come from a parser that knows everything.
    let parsed = match parse(Arguments::command()).or_else(|_| parse(whole())) {
        Ok(parsed) => parsed,
        Err(error) => return usage::explain(&printer, &error, whole(), &arguments).into(),
    };
    trace(&parsed);
    dispatch(parsed, ready, &printer).into()
}

fn dispatch(parsed: Arguments, ready: Option<Ready>, printer: &Printer) -> u8 {
    let wrote = |outcome: Result<(), OutputError>| match outcome {
        Ok(()) => 0,
        Err(error) => failed(printer, &error.into(), Statuses::Plain, None),
    };
    if parsed.version {
        return wrote(printer.line(version::one_line()));
    }
    let Some(command) = parsed.command else {
        return wrote(printer.write(whole().render_help().to_string().as_bytes()));
    };
    let options = Options { root: parsed.root, run_root: parsed.run_root, config: parsed.config };
    match command.run(Begun { options, ready }, printer) {
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
    // Docker's client tells what is wrong with flags; the rest is its daemon's word, of which `create` makes 1.
    let statuses = if command == Some("create") && !fault.is_usage() { Statuses::Plain } else { statuses };
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
        whole().debug_assert();
    }

    #[test]
    fn longer_forms_are_the_short_ones() {
        for (typed, name) in [
            ("container ls -a", "ps"),
            ("container rm x", "rm"),
            ("image ls -q", "images"),
            ("image inspect x", "inspect"),
            ("version", "version"),
            ("image rm x", "rmi"),
            ("ps", "ps"),
        ] {
            let words = std::iter::once("umiak").chain(typed.split(' '));
            let parsed = Arguments::try_parse_from(words).unwrap();
            assert_eq!(parsed.command.unwrap().name(), name, "{typed}");
        }
    }
}
