//! Listings: rows as a table, as JSON lines or through a template.
//!
//! The layout is docker's (a Go tabwriter with minimum width 10 and padding 3): a column is as wide as its widest cell and
//! three, at least ten; the last cell of a line is not padded.

use serde_json::{Map, Value};

use super::human::inert;
use super::template::{Row, Template, TemplateError};

const LEAST: usize = 10;
const PADDING: usize = 3;

/// What a listing shows when nobody asks for anything else.
#[derive(Debug, Clone, Copy)]
pub struct Columns {
    /// Titles by field.
    pub titles: &'static [(&'static str, &'static str)],
    /// Fields of the ordinary table, in order.
    pub shown: &'static [&'static str],
    /// The field that `--quiet` shows.
    pub quiet: &'static str,
}

/// Lays lines of cells out; control characters in cells are replaced.
pub fn layout(lines: &[Vec<String>]) -> String {
    let lines: Vec<Vec<String>> = lines.iter().map(|l| l.iter().map(|c| inert(c)).collect()).collect();
    let mut widths: Vec<usize> = Vec::new();
    for line in &lines {
        for (n, cell) in line.iter().enumerate().take(line.len().saturating_sub(1)) {
            let width = (cell.chars().count() + PADDING).max(LEAST);
            match widths.get_mut(n) {
                Some(known) => *known = width.max(*known),
                None => widths.push(width),
            }
        }
    }
    let mut out = String::new();
    for line in &lines {
        for (n, cell) in line.iter().enumerate() {
            out.push_str(cell);
            if n + 1 < line.len() {
                out.extend(std::iter::repeat_n(' ', widths[n] - cell.chars().count()));
            }
        }
        out.push('\n');
    }
    out
}

/// Shows rows as `--format` and `--quiet` want: an empty format or `table` is the ordinary table, `table TEMPLATE` a table of
/// its own, `json` one object a line, anything else a template for each row.
pub fn render(rows: &[Row], columns: Columns, format: &str, quiet: bool) -> Result<String, TemplateError> {
    let format = format.trim();
    let template = match format {
        "" | "table" if quiet => format!("{{{{.{}}}}}", columns.quiet),
        "" | "table" => {
            let fields: Vec<String> = columns.shown.iter().map(|field| format!("{{{{.{field}}}}}")).collect();
            format!("table {}", fields.join("\t"))
        }
        "json" => "{{json .}}".to_owned(),
        other => other.to_owned(),
    };
    let Some(cells) = template.strip_prefix("table ") else {
        let template = Template::parse(&template)?;
        let mut out = String::new();
        for row in rows {
            out += &template.row(row)?;
            out.push('\n');
        }
        return Ok(out);
    };
    let template = Template::parse(cells)?;
    let titles: Map<String, Value> =
        columns.titles.iter().map(|(field, title)| ((*field).to_owned(), Value::from(*title))).collect();
    let split = |line: String| line.split('\t').map(str::to_owned).collect::<Vec<_>>();
    let mut lines = vec![split(template.header(&titles)?)];
    for row in rows {
        lines.push(split(template.row(row)?));
    }
    Ok(layout(&lines))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const COLUMNS: Columns =
        Columns { titles: &[("ID", "IMAGE ID"), ("Tag", "TAG")], shown: &["Tag", "ID"], quiet: "ID" };

    fn rows() -> Vec<Row> {
        let fields = json!({"ID": "abc", "Tag": "a tag that is long"}).as_object().unwrap().clone();
        vec![Row { fields, labels: [("x".to_owned(), "é\u{1b}".to_owned())].into() }]
    }

    #[test]
    fn every_format_comes_from_the_same_rows() {
        for (format, quiet, expected) in [
            ("", false, "TAG                  IMAGE ID\na tag that is long   abc\n"),
            ("", true, "abc\n"),
            ("json", false, "{\"ID\":\"abc\",\"Tag\":\"a tag that is long\"}\n"),
            ("{{.ID}}", false, "abc\n"),
            ("table {{.ID}}\\t{{.Label \"x\"}}", false, "IMAGE ID   x\nabc        é\u{fffd}\n"),
        ] {
            assert_eq!(render(&rows(), COLUMNS, format, quiet).unwrap(), expected, "{format}");
        }
        assert_eq!(render(&[], COLUMNS, "", false).unwrap(), "TAG       IMAGE ID\n");
        assert!(render(&[], COLUMNS, "{{", false).is_err());
        assert!(render(&rows(), COLUMNS, "table {{.Nope}}", false).is_err());
    }
}
