//! What `inspect` shows: whole documents, as JSON or through a template.

use serde_json::Value;

use super::template::Template;
use super::{OutputError, Printer};
use crate::cli::fault::Fault;

/// A `--format` of `inspect`, read before anything is looked up.
#[derive(Debug)]
pub(in crate::cli) enum Documents {
    /// A list with indentation.
    Pretty,
    /// One document a line.
    Lines,
    /// A template for each.
    Template(Template),
}

impl Documents {
    /// Reads the flag.
    pub(in crate::cli) fn parse(format: Option<&str>) -> Result<Self, Fault> {
        Ok(match format {
            None | Some("") => Self::Pretty,
            Some("json") => Self::Lines,
            Some(template) => Self::Template(Template::parse(template)?),
        })
    }

    /// Shows what was found.
    pub(in crate::cli) fn show(&self, printer: &Printer, found: &[Value]) -> Result<(), Fault> {
        match self {
            Self::Template(template) => {
                for value in found {
                    printer.line(template.value(value)?)?;
                }
            }
            Self::Lines => {
                found.iter().try_for_each(|value| -> Result<(), OutputError> { printer.line(value) })?;
            }
            Self::Pretty => {
                let mut text = Vec::new();
                let layout = serde_json::ser::PrettyFormatter::with_indent(b"    ");
                let mut to = serde_json::Serializer::with_formatter(&mut text, layout);
                serde::Serialize::serialize(found, &mut to)?;
                text.push(b'\n');
                printer.write(&text)?;
            }
        }
        Ok(())
    }
}
