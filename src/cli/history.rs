//! `umiak history`: the steps that made an image, the last first.

use clap::Args;
use serde_json::{Value, json};

use super::Execute;
use super::fault::Fault;
use super::flags::switch;
use super::output::table::{Columns, render};
use super::output::template::Row;
use super::output::{Printer, human};
use crate::engine::Engine;
use crate::model::Timestamp;

const COLUMNS: Columns = Columns {
    titles: &[
        ("ID", "IMAGE"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("CreatedBy", "CREATED BY"),
        ("Size", "SIZE"),
        ("Comment", "COMMENT"),
    ],
    shown: &["ID", "CreatedSince", "CreatedBy", "Size", "Comment"],
    quiet: "ID",
};

/// As docker shows the command of a step.
const WIDTH: usize = 45;

/// Show the history of an image
#[derive(Debug, Args)]
#[command(help_template = super::HELP, override_usage = "umiak history [OPTIONS] IMAGE", args_override_self = true)]
pub(super) struct History {
    /// Format output: 'table', 'table TEMPLATE', 'json' or a Go template
    #[arg(long, value_name = "string", default_value = "", hide_default_value = true)]
    format: String,
    /// Print sizes and dates in human readable format
    #[arg(short = 'H', long, num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true", value_parser = switch, hide_default_value = true, hide_possible_values = true)]
    human: bool,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Show history for the given platform
    #[arg(long, value_name = "string")]
    platform: Option<crate::model::Platform>,
    /// Only show image IDs
    #[arg(short, long)]
    quiet: bool,
    #[arg(required = true, hide = true)]
    image: String,
}

impl Execute for History {
    fn run(&self, engine: &Engine, printer: &Printer) -> Result<u8, Fault> {
        let now = Timestamp::now();
        let mut rows: Vec<Row> = Vec::new();
        for step in engine.history(&self.image, self.platform.as_ref())? {
            let since = match step.created {
                Some(at) if self.human => human::ago(at, now),
                Some(at) => at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
                None => "N/A".to_owned(),
            };
            let command = human::inert(&step.created_by.replace('\t', " "));
            let id = match &step.image {
                None => "<missing>",
                Some(id) if self.no_trunc => id.as_str(),
                Some(id) => id.short(),
            };
            let fields = json!({
                "ID": id,
                "CreatedSince": since,
                "CreatedAt": step.created.map_or_else(String::new, |at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
                "CreatedBy": if self.no_trunc { command } else { human::ellipsis(&command, WIDTH) },
                "Size": if self.human { human::size(step.size, 3) } else { step.size.to_string() },
                "Comment": step.comment,
            });
            let Value::Object(fields) = fields else { continue };
            rows.push(Row { fields, labels: std::collections::BTreeMap::new() });
        }
        printer.write(render(&rows, COLUMNS, &self.format, self.quiet)?.as_bytes())?;
        Ok(0)
    }
}
