//! `umiak version`.

use clap::Args;
use serde_json::json;

use super::fault::Fault;
use super::output::Printer;
use super::output::template::Template;

/// Show the umiak version information
#[derive(Debug, Args)]
#[command(help_template = super::HELP, override_usage = "umiak version [OPTIONS]")]
pub(super) struct Version {
    /// Format output using a custom template: 'json' or a Go template
    #[arg(short, long, value_name = "string")]
    format: Option<String>,
}

/// What `-v` says.
pub(super) fn one_line() -> String {
    format!("umiak version {}", env!("CARGO_PKG_VERSION"))
}

impl Version {
    pub(super) fn run(&self, printer: &Printer) -> Result<u8, Fault> {
        let version = env!("CARGO_PKG_VERSION");
        let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
        // One program is docker's client and server: a script that asks for either finds it.
        let part = json!({ "Version": version, "Os": os, "Arch": arch });
        let all = json!({ "Client": part.clone(), "Server": part });
        match self.format.as_deref() {
            None => printer.write(
                format!("umiak:\n Version:           {version}\n OS/Arch:           {os}/{arch}\n")
                    .as_bytes(),
            )?,
            Some("json") => printer.line(all)?,
            Some(template) => printer.line(Template::parse(template)?.value(&all)?)?,
        }
        Ok(0)
    }
}
