//! `umiak top`: what runs in a container, as the host's `ps` shows it.
//!
//! Docker runs `ps` on the host and keeps the lines of the container's processes; so do we. A host without `ps` is told so.

use std::process::Command;

use clap::Args;

use super::Execute;
use super::fault::Fault;
use super::output::Printer;
use crate::engine::Engine;

/// The least width of a column and the space after it, as docker lays them out.
const LEAST: usize = 20;
const PADDING: usize = 3;

/// Display the running processes of a container
#[derive(Debug, Args)]
#[command(help_template = super::HELP, override_usage = "umiak top CONTAINER [ps OPTIONS]")]
pub(super) struct Top {
    /// The container, then options of `ps`.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    words: Vec<String>,
}

impl Execute for Top {
    fn run(&self, engine: &Engine, printer: &Printer) -> Result<u8, Fault> {
        let Some((container, options)) = self.words.split_first() else { return Ok(1) };
        let processes = engine.processes(container)?;
        let default = ["-ef".to_owned()];
        let options = if options.is_empty() { &default[..] } else { options };
        let output = Command::new("ps")
            .args(options)
            .output()
            .map_err(|source| Fault::System { action: "running the host's ps", source })?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(Fault::Ps(said.lines().next().unwrap_or("it failed").to_owned()));
        }
        let lines = select(&String::from_utf8_lossy(&output.stdout), &processes)
            .ok_or_else(|| Fault::Ps("Couldn't find PID field in ps output".to_owned()))?;
        printer.write(layout(&lines).as_bytes())?;
        Ok(0)
    }
}

/// The titles, and the lines of these processes; the last column takes the rest of a line. `None` without a column of ids.
fn select(text: &str, processes: &[u32]) -> Option<Vec<Vec<String>>> {
    let mut lines = text.lines();
    let titles: Vec<String> = lines.next()?.split_whitespace().map(str::to_owned).collect();
    let column = titles.iter().position(|title| title == "PID")?;
    let mut all = vec![titles];
    for line in lines {
        let mut rest = line.trim_start();
        let mut fields = Vec::new();
        while fields.len() + 1 < all[0].len() {
            let (field, after) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
            fields.push(field.to_owned());
            rest = after.trim_start();
        }
        fields.push(rest.trim_end().to_owned());
        let id = fields.get(column).and_then(|id| id.parse().ok());
        if id.is_some_and(|id| processes.contains(&id)) {
            all.push(fields);
        }
    }
    Some(all)
}

fn layout(lines: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let widest = lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max();
        (widest.unwrap_or(0) + PADDING).max(LEAST)
    };
    let mut out = String::new();
    for line in lines {
        for (column, cell) in line.iter().enumerate() {
            let cell = super::output::human::inert(cell);
            out += &cell;
            if column + 1 < line.len() {
                out.extend(std::iter::repeat_n(' ', width(column).saturating_sub(cell.chars().count())));
            }
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_container_are_kept() {
        let text = "UID   PID  CMD\nroot    7  sleep 1 2\nroot   17  other\n";
        let lines = select(text, &[7]).unwrap();
        assert_eq!(lines, [vec!["UID", "PID", "CMD"], vec!["root", "7", "sleep 1 2"]]);
        assert_eq!(
            layout(&lines),
            "UID                 PID                 CMD\nroot                7                   sleep 1 2\n"
        );
        assert!(select("CMD\nx\n", &[7]).is_none());
    }
}
