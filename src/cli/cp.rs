//! `umiak cp`.

use clap::Args;

use super::Execute;
use super::fault::Fault;
use super::output::{Printer, Stream, human};
use crate::engine::{CopyOptions, Engine, copy};

/// Copy files/folders between a container and the local filesystem
#[derive(Debug, Args)]
#[command(
    help_template = super::HELP,
    override_usage = "umiak cp [OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n\tumiak cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
    args_override_self = true
)]
pub(super) struct Cp {
    /// Archive mode (copy all uid/gid information)
    #[arg(short, long)]
    archive: bool,
    /// Always follow symbol link in `SRC_PATH`
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// Suppress progress output during copy (it is suppressed where standard output is no terminal)
    #[arg(short, long)]
    quiet: bool,
    #[arg(required = true, num_args = 2, hide = true)]
    paths: Vec<String>,
}

/// `CONTAINER:PATH`, or a path; one that begins with `/` or `.` is the host's whatever it holds.
fn end(text: &str) -> copy::End {
    match text.split_once(':') {
        Some((container, path)) if !text.starts_with(['/', '.']) && !container.is_empty() => {
            let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
            copy::End::Container { container: container.to_owned(), path }
        }
        _ => copy::End::Host(text.to_owned()),
    }
}

fn is_container(text: &str) -> bool {
    matches!(end(text), copy::End::Container { .. })
}

impl Cp {
    fn ends(&self) -> Option<(copy::End, copy::End)> {
        let [from, to] = self.paths.as_slice() else { return None };
        Some((end(from), end(to)))
    }
}

impl Execute for Cp {
    fn check(&self) -> Result<(), Fault> {
        use copy::End::{Container, Host};
        match self.ends() {
            Some((Host(_), Host(_))) | None => {
                Err(Fault::Conflict("must specify at least one container source"))
            }
            Some((Container { .. }, Container { .. })) => {
                Err(Fault::Conflict("copying between containers is not supported"))
            }
            // A variable of a script that is empty must not mean the whole root.
            Some(_) if self.paths.iter().any(|text| text.ends_with(':') && is_container(text)) => {
                Err(Fault::Conflict("bad parameter: path cannot be empty"))
            }
            Some(_) => Ok(()),
        }
    }

    fn run(&self, engine: &Engine, printer: &Printer) -> Result<u8, Fault> {
        let Some((from, to)) = self.ends() else { return Ok(1) };
        match (&from, &to) {
            (copy::End::Container { .. }, copy::End::Host(path)) if path == "-" => {
                let refusal = "cowardly refusing to copy to a terminal. Redirect the output";
                Stream::new(printer, refusal)?.run(|to| engine.copy_out(&from, self.follow_link, to))?;
                return Ok(0);
            }
            (copy::End::Host(path), copy::End::Container { .. }) if path == "-" => {
                engine.copy_in(std::io::stdin(), &to)?;
                return Ok(0);
            }
            _ => {}
        }
        let options = CopyOptions { archive: self.archive, follow: self.follow_link };
        let bytes = engine.copy(&from, &to, options)?;
        // As with docker, scripts hear of failures alone.
        if !self.quiet && printer.out_is_terminal() {
            let [_, shown] = self.paths.as_slice() else { return Ok(0) };
            printer.line_err(format!("Successfully copied {} to {shown}", human::size(bytes, 3)))?;
        }
        Ok(0)
    }
}
