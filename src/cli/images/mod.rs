//! `umiak images`.

mod tree;

use clap::Args;
use serde_json::json;

use super::Execute;
use super::fault::Fault;
use super::filter::{Filters, glob};
use super::output::table::{Columns, render};
use super::output::template::Row;
use super::output::{Printer, human};
use crate::engine::{Engine, ImageView};
use crate::model::Timestamp;
use crate::reference::Reference;

const COLUMNS: Columns = Columns {
    titles: &[
        ("Repository", "REPOSITORY"),
        ("Tag", "TAG"),
        ("Digest", "DIGEST"),
        ("ID", "IMAGE ID"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("Size", "SIZE"),
        ("VirtualSize", "SIZE"),
        ("Containers", "CONTAINERS"),
        ("Platform", "PLATFORM"),
    ],
    shown: &["Repository", "Tag", "ID", "CreatedSince", "Size"],
    quiet: "ID",
};

/// The same with `--digests`.
const DIGESTS: Columns = Columns {
    titles: COLUMNS.titles,
    shown: &["Repository", "Tag", "Digest", "ID", "CreatedSince", "Size"],
    quiet: "ID",
};

const NONE: &str = "<none>";

/// List images
#[derive(Debug, Args)]
#[command(help_template = super::HELP, override_usage = "umiak images [OPTIONS] [REPOSITORY[:TAG]]", args_override_self = true)]
pub(super) struct Images {
    /// Show all images (there are no hidden ones: for compatibility)
    #[arg(short, long)]
    all: bool,
    /// Show digests
    #[arg(long)]
    digests: bool,
    /// Filter output: before, dangling, label, reference, since, until
    #[arg(short, long, value_name = "filter")]
    filter: Vec<String>,
    /// Format output: 'table', 'table TEMPLATE', 'json' or a Go template
    #[arg(long, value_name = "string", default_value = "", hide_default_value = true)]
    format: String,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Only show image IDs
    #[arg(short, long)]
    quiet: bool,
    /// List multi-platform images as a tree
    #[arg(long)]
    tree: bool,
    #[arg(hide = true)]
    repository: Option<String>,
}

impl Images {
    fn wants(&self, filters: &Filters, dangling: Option<bool>, repository: &str, tag: &str) -> bool {
        dangling.is_none_or(|wish| wish == (repository == NONE))
            && self.repository.as_ref().is_none_or(|wish| matches(wish, repository, tag))
            && filters.pass("reference", |wish| matches(wish, repository, tag))
    }
}

/// By time: before and after other images, and before a moment.
fn narrow(views: &mut Vec<ImageView>, filters: &Filters, engine: &Engine) -> Result<(), Fault> {
    for value in filters.values("before") {
        let other = Engine::created(&engine.find_image(value, &[])?);
        views.retain(|view| Engine::created(view) < other);
    }
    for value in filters.values("since") {
        let other = Engine::created(&engine.find_image(value, &[])?);
        views.retain(|view| Engine::created(view) > other);
    }
    for value in filters.values("until") {
        let wrong =
            |error: super::args::refused::Refused| Fault::Bound { flag: "until", error: error.to_string() };
        let until = super::args::moment::moment(value).map_err(wrong)?;
        views.retain(|view| Engine::created(view) < until);
    }
    Ok(())
}

impl Execute for Images {
    fn check(&self) -> Result<(), Fault> {
        let other = self.quiet || self.digests || self.no_trunc || !self.format.is_empty();
        if self.tree && other {
            return Err(Fault::Conflict(
                "--tree does not go with --digests, --format, --no-trunc or --quiet",
            ));
        }
        Ok(())
    }

    fn run(&self, engine: &Engine, printer: &Printer) -> Result<u8, Fault> {
        let known = ["before", "dangling", "label", "reference", "since", "until"];
        let filters = Filters::parse(&self.filter, &known)?;
        let mut dangling = None;
        for value in filters.values("dangling") {
            let wrong = |rule| Fault::Flag { flag: "--filter", value: value.to_owned(), rule };
            dangling = Some(super::flags::switch(value).map_err(wrong)?);
        }
        let mut views = engine.images()?;
        views.retain(|view| filters.pass_labels(&view.image.config.labels));
        narrow(&mut views, &filters, engine)?;
        views.sort_by_key(|view| std::cmp::Reverse(Engine::created(view)));
        if self.tree {
            let shown = |view: &ImageView| {
                names(view).iter().any(|(repository, tag)| self.wants(&filters, dangling, repository, tag))
            };
            views.retain(shown);
            return tree::show(engine, printer, &views);
        }
        let now = Timestamp::now();
        let mut rows = Vec::new();
        for view in views.into_iter().flat_map(ImageView::versions) {
            for (repository, tag) in names(&view) {
                if self.wants(&filters, dangling, &repository, &tag) {
                    rows.push(row(&view, &repository, &tag, now, self.no_trunc));
                }
            }
        }
        if self.quiet && self.format.is_empty() {
            rows.dedup_by(|a, b| a.fields.get("ID") == b.fields.get("ID"));
        }
        let columns = if self.digests { DIGESTS } else { COLUMNS };
        printer.write(render(&rows, columns, &self.format, self.quiet)?.as_bytes())?;
        Ok(0)
    }
}

/// Repository and tag of each of an image's names.
fn names(view: &ImageView) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for reference in view.names.iter().filter_map(|name| name.parse::<Reference>().ok()) {
        all.push((reference.familiar_name(), reference.tag().unwrap_or(NONE).to_owned()));
    }
    if all.is_empty() {
        all.push((NONE.to_owned(), NONE.to_owned()));
    }
    all
}

/// Whether a name is the one asked for: a pattern of the shell, with or without a tag.
fn matches(wish: &str, repository: &str, tag: &str) -> bool {
    let wish = match wish.parse::<Reference>() {
        // `docker.io/library/x` is shown, and found, as `x`.
        Ok(reference) if wish.rsplit('/').next().is_some_and(|last| last.contains(':')) => {
            format!("{}:{}", reference.familiar_name(), reference.tag().unwrap_or_default())
        }
        Ok(reference) => reference.familiar_name(),
        Err(_) => wish.to_owned(),
    };
    glob(&wish, repository) || glob(&wish, &format!("{repository}:{tag}"))
}

fn row(view: &ImageView, repository: &str, tag: &str, now: Timestamp, whole: bool) -> Row {
    let image = &view.image;
    let created = Engine::created(view);
    let size = human::size(image.unpacked_size, 3);
    let fields = json!({
        "Repository": repository,
        "Tag": tag,
        "Digest": image.target.as_str(),
        "ID": if whole { image.id.as_str() } else { image.id.short() },
        "CreatedSince": human::ago(created, now),
        "CreatedAt": created.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string(),
        "Size": size,
        "VirtualSize": size,
        "SharedSize": "N/A",
        "UniqueSize": "N/A",
        "Containers": "N/A",
        "Platform": image.platform.to_string(),
    });
    Row { fields: fields.as_object().cloned().unwrap_or_default(), labels: image.config.labels.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_matched_in_familiar_form() {
        for (wish, repository, tag, expected) in [
            ("busybox", "busybox", "1.36", true),
            ("busybox:1.36", "busybox", "1.36", true),
            ("busybox:latest", "busybox", "1.36", false),
            ("docker.io/library/busybox", "busybox", "1.36", true),
            ("busy*", "busybox", "1", true),
            ("*:1", "busybox", "1", true),
            ("localhost:5000/x", "localhost:5000/x", "1", true),
            ("x", NONE, NONE, false),
        ] {
            assert_eq!(matches(wish, repository, tag), expected, "{wish}");
        }
    }
}
