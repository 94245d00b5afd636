//! `umiak run`.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use super::Execute;
use super::args::{env, hostname, label, name, network, signal};
use super::fault::Fault;
use super::flags::{self, switch};
use super::foreground::keys::Keys;
use super::foreground::{self, Foreground, Manner, terminal};
use super::output::Printer;
use super::progress::{Shown, Target};
use crate::engine::progress::{Progress, Silent};
use crate::engine::{CreateOptions, Engine, PullPolicy, Wishes};
use crate::model::{HostConfig, NetworkMode, Platform};

/// Create and run a new container from an image
#[derive(Debug, Args)]
#[command(
    help_template = super::HELP,
    override_usage = "umiak run [OPTIONS] IMAGE [COMMAND] [ARG...]",
    args_override_self = true
)]
pub(super) struct Run {
    /// Attach to STDIN, STDOUT or STDERR
    #[arg(short, long, value_name = "list", value_parser = ["stdin", "stdout", "stderr", "STDIN", "STDOUT", "STDERR"], hide_possible_values = true)]
    attach: Vec<String>,
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "string")]
    detach_keys: Option<String>,
    /// Write the container ID to the file
    #[arg(long, value_name = "string")]
    cidfile: Option<PathBuf>,
    /// Run container in background and print container ID
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, value_parser = switch, value_name = "bool", action = clap::ArgAction::Set)]
    detach: bool,
    /// Overwrite the default ENTRYPOINT of the image
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    entrypoint: Option<String>,
    /// Set environment variables
    #[arg(short, long, value_name = "list", allow_hyphen_values = true)]
    env: Vec<String>,
    /// Read in a file of environment variables
    #[arg(long, value_name = "list")]
    env_file: Vec<PathBuf>,
    /// Container host name
    #[arg(short = 'h', long, value_name = "string")]
    hostname: Option<String>,
    /// Keep STDIN open even if not attached
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, value_parser = switch, value_name = "bool", action = clap::ArgAction::Set)]
    interactive: bool,
    /// Set meta data on a container
    #[arg(short, long, value_name = "list")]
    label: Vec<String>,
    /// Read in a line delimited file of labels
    #[arg(long, value_name = "list")]
    label_file: Vec<PathBuf>,
    /// Assign a name to the container
    #[arg(long, value_name = "string")]
    name: Option<String>,
    /// Connect a container to a network: none or host
    #[arg(long, visible_alias = "net", value_name = "network")]
    network: Option<String>,
    /// Set platform if server is multi-platform capable
    #[arg(long, value_name = "string")]
    platform: Option<Platform>,
    /// Pull image before running ("always", "missing", "never")
    #[arg(long, value_enum, value_name = "string", hide_possible_values = true)]
    pull: Option<flags::Pull>,
    /// Suppress the pull output
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, value_parser = switch, value_name = "bool", action = clap::ArgAction::Set)]
    quiet: bool,
    /// Automatically remove the container when it exits
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, value_parser = switch, value_name = "bool", action = clap::ArgAction::Set)]
    rm: bool,
    /// Runtime to use for this container
    #[arg(long, value_name = "string")]
    runtime: Option<String>,
    /// Proxy received signals to the process
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true", hide_default_value = true, value_parser = switch, value_name = "bool", action = clap::ArgAction::Set)]
    sig_proxy: bool,
    /// Signal to stop the container
    #[arg(long, value_name = "string")]
    stop_signal: Option<String>,
    /// Allocate a pseudo-TTY
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, value_parser = switch, value_name = "bool", action = clap::ArgAction::Set)]
    tty: bool,
    /// Username or UID (format: <name|uid>[:<group|gid>])
    #[arg(short, long, value_name = "string")]
    user: Option<String>,
    /// Working directory inside the container
    #[arg(short, long, value_name = "string")]
    workdir: Option<String>,
    /// The image, then what runs in it, untouched.
    #[arg(required = true, trailing_var_arg = true, hide = true)]
    words: Vec<String>,
}

impl Execute for Run {
    fn check(&self) -> Result<(), Fault> {
        self.network()?;
        self.keys()?;
        if self.detach && !self.attach.is_empty() {
            return Err(Fault::Conflict("conflicting options: cannot specify both --attach and --detach"));
        }
        if let Some(text) = &self.stop_signal {
            signal::parse(text).map_err(Fault::value)?;
        }
        if let Some(path) = self.cidfile.as_ref().filter(|path| path.exists()) {
            return Err(Fault::CidFile(path.clone()));
        }
        if self.detach { Ok(()) } else { foreground::check_terminal(self.interactive, self.tty) }
    }

    fn run(&self, engine: &Engine, printer: &Printer) -> Result<u8, Fault> {
        let options = self.options()?;
        let shown = Shown::new(printer, Target::Err);
        let progress: &dyn Progress = if self.quiet { &Silent } else { &shown };
        let (container, _) = engine.create(&options, progress)?;
        if let Some(path) = &self.cidfile {
            let written =
                File::create_new(path).and_then(|mut file| file.write_all(container.id.as_str().as_bytes()));
            written.map_err(|source| Fault::File { action: "writing", path: path.clone(), source })?;
        }
        if self.detach {
            engine.start(&container, false, None)?;
            printer.line(&container.id)?;
            return Ok(0);
        }
        let config = &container.config;
        let foreground = Foreground::prepare(Manner {
            tty: config.tty,
            stdin: config.open_stdin && self.attaches("stdin"),
            stdout: self.attaches("stdout"),
            stderr: self.attaches("stderr"),
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

    /// Whether the command stays with this stream: with those that `-a` names, or with all.
    fn attaches(&self, stream: &str) -> bool {
        self.attach.is_empty() || self.attach.iter().any(|wish| wish.eq_ignore_ascii_case(stream))
    }

    fn network(&self) -> Result<NetworkMode, Fault> {
        self.network
            .as_deref()
            .map_or(Ok(NetworkMode::None), |text| network::parse(text).map_err(Fault::value))
    }

    fn options(&self) -> Result<CreateOptions, Fault> {
        let (image, command) = match self.words.split_first() {
            Some((image, command)) => (image.clone(), command.to_vec()),
            None => (String::new(), Vec::new()),
        };
        let host = |key: &str| std::env::var_os(key);
        let hostname = self.hostname.as_deref().map_or(Ok(None), hostname::parse).map_err(Fault::value)?;
        let name = self.name.as_deref().map_or(Ok(None), name::wanted).map_err(Fault::value)?;
        let wishes = Wishes {
            // An empty one takes the image's away.
            entrypoint: self
                .entrypoint
                .clone()
                .map(|one| if one.is_empty() { Vec::new() } else { vec![one] }),
            command,
            env: env::variables(&self.env_file, &self.env, &host).map_err(Fault::value)?,
            working_dir: self.workdir.clone(),
            user: self.user.clone().filter(|user| !user.is_empty()),
            hostname,
            labels: label::labels(&self.label_file, &self.label).map_err(Fault::value)?,
            stop_signal: self.stop_signal.clone(),
            tty: self.tty,
            open_stdin: self.interactive,
            attach_stdin: self.interactive && !self.detach && self.attaches("stdin"),
        };
        Ok(CreateOptions {
            image,
            wishes,
            name,
            platform: self.platform.clone(),
            runtime: self.runtime.clone(),
            pull: self.pull.map_or(PullPolicy::Missing, |pull| pull.0),
            host: HostConfig { network: self.network()?, auto_remove: self.rm, ..HostConfig::default() },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    #[command(disable_help_flag = true)]
    struct Alone {
        #[command(flatten)]
        run: Run,
    }

    fn parse(typed: &[&str]) -> Run {
        Alone::try_parse_from(std::iter::once(&"run").chain(typed)).unwrap().run
    }

    #[test]
    fn what_follows_the_image_is_the_containers() {
        for (typed, words) in [
            (&["x"][..], &["x"][..]),
            (&["-it", "x", "-it", "--rm"], &["x", "-it", "--rm"]),
            (&["--rm", "x", "sh", "-c", "echo"], &["x", "sh", "-c", "echo"]),
            (&["x", "--", "-v"], &["x", "--", "-v"]),
            (&["--", "x", "--help"], &["x", "--help"]),
            (&["x", "--help"], &["x", "--help"]),
            (&["x", "-h", ""], &["x", "-h", ""]),
        ] {
            assert_eq!(parse(typed).words, words, "{typed:?}");
        }
    }

    #[test]
    fn flags_are_combined_repeated_and_negated_as_docker_has_them() {
        let run =
            parse(&["-it", "-i", "--rm=false", "-hweb", "-e", "A=1", "-e=B=2", "-eC", "--sig-proxy=0", "x"]);
        assert!(run.interactive && run.tty && !run.rm && !run.sig_proxy && !run.detach);
        assert_eq!(run.hostname.as_deref(), Some("web"));
        assert_eq!(run.env, ["A=1", "B=2", "C"]);
        let run = parse(&["-dit", "--name", "a", "--name=b", "--net", "host", "--entrypoint", "", "x"]);
        assert!(run.detach && run.interactive && run.tty && run.sig_proxy);
        assert_eq!((run.name.as_deref(), run.entrypoint.as_deref()), (Some("b"), Some("")));
        assert_eq!(run.network().unwrap(), NetworkMode::Host);
    }

    #[test]
    fn what_is_not_there_is_refused_before_the_store_is_opened() {
        assert!(matches!(parse(&["--network", "bridge", "x"]).check(), Err(Fault::Value(_))));
        assert!(matches!(parse(&["--stop-signal", "NOPE", "x"]).check(), Err(Fault::Value(_))));
        assert!(matches!(parse(&["--cidfile", "/dev/null", "x"]).check(), Err(Fault::CidFile(_))));
        parse(&["-d", "-it", "--stop-signal", "SIGINT", "x"]).check().unwrap();
    }

    #[test]
    fn labels_and_variables_become_wishes() {
        let options = parse(&["-l", "a=b=c", "-l", "d", "-e", "X=1", "img", "cmd"]).options().unwrap();
        assert_eq!(options.image, "img");
        assert_eq!(options.wishes.labels, [("a".into(), "b=c".into()), ("d".into(), String::new())].into());
        assert_eq!((options.wishes.env, options.wishes.command), (vec!["X=1".into()], vec!["cmd".into()]));
    }
}
