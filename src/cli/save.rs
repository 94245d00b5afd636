//! `umiak save`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::Execute;
use super::fault::Fault;
use super::output::{Printer, Stream, whole};
use crate::engine::Engine;
use crate::engine::archive::{Destination, Format};
use crate::model::Platform;

/// The layouts by podman's names.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Layout {
    /// Docker's and the OCI's in one archive
    DockerArchive,
    /// The OCI's alone
    OciArchive,
    /// The OCI's as a directory
    OciDir,
}

/// Save one or more images to a tar archive (streamed to STDOUT by default)
#[derive(Debug, Args)]
#[command(help_template = super::HELP, override_usage = "umiak save [OPTIONS] IMAGE [IMAGE...]", args_override_self = true)]
pub(super) struct Save {
    /// Save image to archive in the specified layout
    #[arg(
        long,
        value_name = "format",
        value_enum,
        default_value = "docker-archive",
        hide_possible_values = true
    )]
    format: Layout,
    /// Write to a file, instead of STDOUT
    #[arg(short, long, value_name = "string")]
    output: Option<PathBuf>,
    /// Save only the given platform(s)
    #[arg(long, value_name = "string", value_delimiter = ',')]
    platform: Vec<Platform>,
    #[arg(required = true, hide = true)]
    images: Vec<String>,
}

impl Execute for Save {
    fn check(&self) -> Result<(), Fault> {
        match (self.format, &self.output) {
            (Layout::OciDir, None) => {
                Err(Fault::Conflict("--format oci-dir needs a directory: use the -o flag"))
            }
            _ => Ok(()),
        }
    }

    fn run(&self, engine: &Engine, printer: &Printer) -> Result<u8, Fault> {
        let format = match self.format {
            Layout::DockerArchive => Format::Both,
            Layout::OciArchive | Layout::OciDir => Format::Oci,
        };
        let save = |to: Destination<'_>| -> Result<(), Fault> {
            Ok(engine.save(&self.images, &self.platform, format, to)?)
        };
        match (&self.output, self.format) {
            (Some(path), Layout::OciDir) => save(Destination::Directory(path))?,
            (Some(path), _) => whole::file(path, |to| save(Destination::Stream(to)))?,
            (None, _) => {
                let refusal = "cowardly refusing to save to a terminal. Use the -o flag or redirect";
                Stream::new(printer, refusal)?.run(|to| save(Destination::Stream(to)))?;
            }
        }
        Ok(0)
    }
}
