//! `umiak login`.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _};

use clap::Args;

use super::Execute;
use super::fault::Fault;
use super::foreground::terminal::NoEcho;
use super::output::Printer;
use crate::engine::{Engine, registry_name};
use crate::registry::Secret;
use crate::registry::credentials::Kept;

/// More than any password.
const LONGEST: u64 = 1 << 20;

/// Authenticate to a registry.
/// Defaults to Docker Hub if no server is specified.
#[derive(Debug, Args)]
#[command(help_template = super::HELP, override_usage = "umiak login [OPTIONS] [SERVER]", args_override_self = true)]
pub(super) struct Login {
    /// Password or Personal Access Token (PAT)
    #[arg(short, long, value_name = "string", value_parser = secret)]
    password: Option<Secret>,
    /// Take the Password or Personal Access Token (PAT) from stdin
    #[arg(long)]
    password_stdin: bool,
    /// Username
    #[arg(short, long, value_name = "string", default_value = "", hide_default_value = true)]
    username: String,
    #[arg(hide = true, default_value = "", hide_default_value = true)]
    server: String,
}

#[expect(clippy::unnecessary_wraps, reason = "the signature that clap wants")]
fn secret(text: &str) -> Result<Secret, std::convert::Infallible> {
    Ok(Secret::new(text))
}

impl Execute for Login {
    fn check(&self) -> Result<(), Fault> {
        if self.password.is_some() && self.password_stdin {
            return Err(Fault::Conflict(
                "conflicting options: cannot specify both --password and --password-stdin",
            ));
        }
        if self.password_stdin && self.username.is_empty() {
            return Err(Fault::Conflict("the --password-stdin option requires --username to be set"));
        }
        Ok(())
    }

    fn run(&self, engine: &Engine, printer: &Printer) -> Result<u8, Fault> {
        let host = registry_name(&self.server).map_err(|error| Fault::Registry(error.to_string()))?;
        if self.password.is_some() {
            printer.line_err("WARNING! Using --password via the CLI is insecure. Use --password-stdin.")?;
        }
        if self.username.is_empty()
            && self.password.is_none()
            && let Some((username, password)) = engine.known_user(&host)?
        {
            printer.line(format!("Authenticating with existing credentials... [Username: {username}]"))?;
            match engine.login(&host, &username, password) {
                Ok(kept) => return succeeded(printer, &kept),
                Err(error) if io::stdin().is_terminal() => {
                    printer.line_err(format!("Login did not succeed, error: {error}"))?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        let (username, password) = self.who(printer)?;
        let kept = engine.login(&host, &username, password)?;
        succeeded(printer, &kept)
    }
}

impl Login {
    /// The name and the password: given, on standard input, or asked for.
    fn who(&self, printer: &Printer) -> Result<(String, Secret), Fault> {
        let mut username = self.username.clone();
        let given = match (&self.password, self.password_stdin) {
            (Some(password), _) => password.clone(),
            (None, true) => from_stdin()?,
            (None, false) => Secret::new(""),
        };
        if !username.is_empty() && !given.is_empty() {
            return Ok((username, given));
        }
        if self.password_stdin || !io::stdin().is_terminal() {
            return Err(Fault::NotInteractive);
        }
        if username.is_empty() {
            printer.write(b"Username: ")?;
            username = line()?;
        }
        let mut password = given;
        if password.is_empty() {
            printer.write(b"Password: ")?;
            let hidden = NoEcho::enter().map_err(asking)?;
            password = Secret::new(line()?);
            drop(hidden);
            printer.write(b"\n")?;
        }
        if username.is_empty() || password.is_empty() {
            return Err(Fault::Conflict("a username and a password are needed"));
        }
        Ok((username, password))
    }
}

fn asking(source: io::Error) -> Fault {
    Fault::System { action: "asking for the credentials", source }
}

fn line() -> Result<String, Fault> {
    let mut text = String::new();
    io::stdin().lock().take(LONGEST).read_line(&mut text).map_err(asking)?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// All of standard input, without the line's end.
fn from_stdin() -> Result<Secret, Fault> {
    let mut text = String::new();
    let read = io::stdin().lock().take(LONGEST).read_to_string(&mut text);
    read.map_err(|source| Fault::System { action: "reading the password", source })?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(Secret::new(text.strip_suffix('\r').unwrap_or(text)))
}

fn succeeded(printer: &Printer, kept: &Kept) -> Result<u8, Fault> {
    if let Kept::File(path) = kept {
        printer.line_err(format!(
            "\nWARNING! Your credentials are stored unencrypted in '{}'.\nConfigure a credential helper to remove this \
             warning: `credsStore` in that file names one.\n",
            path.display()
        ))?;
    }
    printer.line("Login Succeeded")?;
    Ok(0)
}
