//! `umiak system start`, `system stop` and `system unit`: containers and the host's own start and end.

use std::path::Path;

use clap::Args;

use super::Execute;
use super::fault::Fault;
use super::output::Printer;
use super::output::error::report;
use crate::engine::Engine;

/// Start the containers that should run since the host has started
#[derive(Debug, Args)]
#[command(help_template = super::HELP, override_usage = "umiak system start")]
pub(super) struct Start {}

impl Execute for Start {
    fn run(&self, engine: &Engine, printer: &Printer) -> Result<u8, Fault> {
        let boot = engine.boot()?;
        for name in &boot.started {
            printer.line(name)?;
        }
        let status = u8::from(!boot.failed.is_empty());
        for (_, error) in boot.failed {
            report(printer, &Fault::Engine(error), None);
        }
        Ok(status)
    }
}

/// Stop all containers, as the host's going down does
#[derive(Debug, Args)]
#[command(help_template = super::HELP, override_usage = "umiak system stop [OPTIONS]", args_override_self = true)]
pub(super) struct Stop {
    /// Seconds to wait before killing the containers
    #[arg(short, long, value_name = "int", allow_negative_numbers = true)]
    timeout: Option<i64>,
}

impl Execute for Stop {
    fn run(&self, engine: &Engine, printer: &Printer) -> Result<u8, Fault> {
        for name in engine.shut_down(self.timeout)? {
            printer.line(name)?;
        }
        Ok(0)
    }
}

/// Print a systemd unit that starts containers with the host
#[derive(Debug, Args)]
#[command(help_template = super::HELP, override_usage = "umiak system unit [OPTIONS]", args_override_self = true)]
pub(super) struct Unit {
    /// A unit of the user's own manager (systemctl --user)
    #[arg(long)]
    user: bool,
}

impl Execute for Unit {
    fn run(&self, engine: &Engine, printer: &Printer) -> Result<u8, Fault> {
        let exe = std::env::current_exe()
            .map_err(|source| Fault::System { action: "finding the engine's own binary", source })?;
        let mut command = vec![word(&exe)];
        for (flag, path) in [("--root", Some(engine.root())), ("--run-root", Some(engine.run_root()))]
            .into_iter()
            .chain([("--config", engine.config_path())])
        {
            command.extend(path.map(|path| format!("{flag} {}", word(path))));
        }
        printer.write(unit(&command.join(" "), engine.root(), self.user).as_bytes())?;
        Ok(0)
    }
}

/// A word of a command line in a unit file.
fn word(path: &Path) -> String {
    let mut text = String::from("\"");
    for c in path.to_string_lossy().chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            // Specifiers and variables of systemd's.
            '%' | '$' => text.extend([c, c]),
            '\n' => text.push_str("\\n"),
            c => text.push(c),
        }
    }
    text.push('"');
    text
}

fn unit(command: &str, root: &Path, user: bool) -> String {
    let (file, enable, after, target) = if user {
        (
            "~/.config/systemd/user/umiak.service",
            "systemctl --user enable umiak.service; loginctl enable-linger",
            "",
            "default.target",
        )
    } else {
        (
            "/etc/systemd/system/umiak.service",
            "systemctl enable umiak.service",
            "Wants=network-online.target\nAfter=network-online.target local-fs.target\n",
            "multi-user.target",
        )
    };
    let root = word(root);
    // A supervisor belongs to its container and not to the unit: systemd ends none by itself.
    format!(
        "# Containers with a restart policy, started with the host.\n# {file}; then: {enable}\n\
         [Unit]\nDescription=Containers of umiak\n{after}RequiresMountsFor={root}\n\n\
         [Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart={command} system start\n\
         ExecStop={command} system stop\nKillMode=none\nSendSIGKILL=no\nTimeoutStartSec=infinity\n\
         TimeoutStopSec=120\nDelegate=yes\n\n[Install]\nWantedBy={target}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_words_of_systemds() {
        assert_eq!(word(Path::new("/a b/%c/\"$d\"")), "\"/a b/%%c/\\\"$$d\\\"\"");
        let text = unit("\"/x\"", Path::new("/r"), false);
        assert!(text.contains("\nExecStart=\"/x\" system start\n") && text.contains("=multi-user.target"));
        assert!(unit("x", Path::new("/r"), true).contains("WantedBy=default.target"));
    }
}
