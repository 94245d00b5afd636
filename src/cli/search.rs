//! `umiak search`.

use clap::Args;
use serde_json::json;

use super::Execute;
use super::fault::Fault;
use super::filter::Filters;
use super::output::Printer;
use super::output::table::{Columns, render};
use super::output::template::Row;
use crate::engine::Engine;
use crate::reference::{DEFAULT_REGISTRY, Reference};
use crate::registry::Hit;

const COLUMNS: Columns = Columns {
    titles: &[
        ("Name", "NAME"),
        ("Description", "DESCRIPTION"),
        ("StarCount", "STARS"),
        ("IsOfficial", "OFFICIAL"),
        ("IsAutomated", "AUTOMATED"),
    ],
    shown: &["Name", "Description", "StarCount", "IsOfficial"],
    quiet: "Name",
};

const TAGS: Columns =
    Columns { titles: &[("Name", "NAME"), ("Tag", "TAG")], shown: &["Name", "Tag"], quiet: "Name" };

/// Characters of a description that is not wanted in full.
const BRIEF: usize = 45;

/// Search Docker Hub, or the registry that the term begins with, for images
#[derive(Debug, Args)]
#[command(help_template = super::HELP, override_usage = "umiak search [OPTIONS] [REGISTRY/]TERM", args_override_self = true)]
pub(super) struct Search {
    /// Filter output: stars=N, is-official, is-automated
    #[arg(short, long, value_name = "filter")]
    filter: Vec<String>,
    /// Pretty-print search using a Go template
    #[arg(long, value_name = "string", default_value = "", hide_default_value = true)]
    format: String,
    /// Max number of search results
    #[arg(long, value_name = "int")]
    limit: Option<usize>,
    /// List the tags of a repository instead
    #[arg(long)]
    list_tags: bool,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    #[arg(required = true, hide = true)]
    term: String,
}

impl Execute for Search {
    fn run(&self, engine: &Engine, printer: &Printer) -> Result<u8, Fault> {
        let wrong = |flag, value: &str, rule: &str| Fault::Flag {
            flag,
            value: value.to_owned(),
            rule: rule.to_owned(),
        };
        let filters = Filters::parse(&self.filter, &["stars", "is-official", "is-automated"])?;
        let mut stars = 0;
        for value in filters.values("stars") {
            let least = value
                .parse::<u64>()
                .map_err(|_| wrong("--filter", value, "a number of stars is expected"))?;
            stars = stars.max(least);
        }
        let switch = |key| -> Result<Option<bool>, Fault> {
            let values = filters.values(key).into_iter().map(super::flags::switch);
            let last =
                values.collect::<Result<Vec<_>, _>>().map_err(|rule| wrong("--filter", key, &rule))?.pop();
            Ok(last)
        };
        let (official, automated) = (switch("is-official")?, switch("is-automated")?);
        let limit = self.limit.unwrap_or(if self.list_tags { usize::MAX } else { 25 });
        if !self.list_tags && !(1..=100).contains(&limit) {
            return Err(wrong(
                "--limit",
                &limit.to_string(),
                &format!("limit {limit} is outside the range of [1, 100]"),
            ));
        }
        if self.list_tags {
            return self.tags(engine, printer, limit);
        }
        let (host, term) = target(&self.term);
        let mut hits = engine.search(&host, term, limit)?;
        hits.retain(|hit| {
            hit.stars >= stars
                && official.is_none_or(|wish| wish == hit.official)
                && automated.is_none_or(|wish| wish == hit.automated)
        });
        hits.truncate(limit);
        let rows: Vec<Row> = hits.iter().map(|hit| self.row(&host, hit)).collect();
        printer.write(render(&rows, COLUMNS, &self.format, false)?.as_bytes())?;
        Ok(0)
    }
}

/// The registry that a term begins with, and the rest.
fn target(term: &str) -> (String, &str) {
    if let Some((first, rest)) = term.split_once('/')
        && format!("{first}/x").parse::<Reference>().is_ok_and(|name| name.registry() == first)
    {
        return (first.to_owned(), rest);
    }
    (DEFAULT_REGISTRY.to_owned(), term)
}

impl Search {
    fn row(&self, host: &str, hit: &Hit) -> Row {
        let name = if host == DEFAULT_REGISTRY { hit.name.clone() } else { format!("{host}/{}", hit.name) };
        let mut description = hit.description.split_whitespace().collect::<Vec<_>>().join(" ");
        if !self.no_trunc && description.chars().count() > BRIEF {
            description = description.chars().take(BRIEF - 1).chain(['…']).collect();
        }
        let mark = |set| if set { "[OK]" } else { "" };
        let fields = json!({ "Name": name, "Description": description, "StarCount": hit.stars.to_string(),
            "IsOfficial": mark(hit.official), "IsAutomated": mark(hit.automated) });
        Row {
            fields: fields.as_object().cloned().unwrap_or_default(),
            labels: std::collections::BTreeMap::new(),
        }
    }

    fn tags(&self, engine: &Engine, printer: &Printer, limit: usize) -> Result<u8, Fault> {
        let reference = engine.parse_reference(&self.term)?;
        let name = format!("{}/{}", reference.registry(), reference.repository());
        let tags = engine.remote_tags(&reference)?;
        let rows: Vec<Row> = tags
            .iter()
            .take(limit)
            .map(|tag| Row {
                fields: json!({ "Name": name, "Tag": tag }).as_object().cloned().unwrap_or_default(),
                labels: std::collections::BTreeMap::new(),
            })
            .collect();
        printer.write(render(&rows, TAGS, &self.format, false)?.as_bytes())?;
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_may_begin_with_a_registry() {
        for (term, host, rest) in [
            ("busybox", "docker.io", "busybox"),
            ("library/busybox", "docker.io", "library/busybox"),
            ("localhost:5000/a/b", "localhost:5000", "a/b"),
            ("r.lan/", "r.lan", ""),
            ("docker.io/x", "docker.io", "x"),
        ] {
            assert_eq!(target(term), (host.to_owned(), rest), "{term}");
        }
    }
}
