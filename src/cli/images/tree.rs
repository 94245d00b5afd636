//! `images --tree`: docker's view of images that are one name for several platforms.

use std::collections::BTreeSet;

use super::super::fault::Fault;
use super::super::output::table::layout;
use super::super::output::{Printer, human};
use super::{NONE, names};
use crate::engine::{Engine, ImageView};
use crate::model::Digest;

/// Shows images, each name or set of names once, and under it its platforms.
pub(super) fn show(engine: &Engine, printer: &Printer, views: &[ImageView]) -> Result<u8, Fault> {
    let used: BTreeSet<Digest> = engine.containers()?.into_iter().map(|view| view.container.image).collect();
    let mark = |view: &ImageView| if used.contains(&view.image.id) { "U" } else { "" };
    let mut lines = vec![["IMAGE", "ID", "DISK USAGE", "CONTENT SIZE", "EXTRA"].map(str::to_owned).to_vec()];
    let mut shown: BTreeSet<&Digest> = BTreeSet::new();
    for view in views {
        if shown.contains(&view.image.id) {
            continue;
        }
        let family: Vec<&ImageView> =
            views.iter().filter(|other| !view.names.is_empty() && other.names == view.names).collect();
        let family = if family.is_empty() { vec![view] } else { family };
        shown.extend(family.iter().map(|view| &view.image.id));
        let sum = |of: &dyn Fn(&ImageView) -> u64| human::size(family.iter().map(|view| of(view)).sum(), 3);
        let all: Vec<String> = names(view)
            .into_iter()
            .map(
                |(repository, tag)| {
                    if repository == NONE { "<untagged>".into() } else { format!("{repository}:{tag}") }
                },
            )
            .collect();
        let (last, above) =
            all.split_last().map_or((String::new(), &[][..]), |(last, above)| (last.clone(), above));
        lines.extend(above.iter().map(|name| vec![name.clone()]));
        let id = if family.len() > 1 { &view.image.target } else { &view.image.id };
        let extra = family.iter().map(|view| mark(view)).find(|mark| !mark.is_empty()).unwrap_or_default();
        lines.push(vec![
            last,
            id.short().to_owned(),
            sum(&|view| view.image.unpacked_size + view.image.distributed_size()),
            sum(&|view| view.image.distributed_size()),
            extra.to_owned(),
        ]);
        if family.len() < 2 {
            continue;
        }
        for (place, view) in family.iter().enumerate() {
            let branch = if place + 1 == family.len() { "└─" } else { "├─" };
            lines.push(vec![
                format!("{branch} {}", view.image.platform),
                view.image.manifest.short().to_owned(),
                human::size(view.image.unpacked_size + view.image.distributed_size(), 3),
                human::size(view.image.distributed_size(), 3),
                mark(view).to_owned(),
            ]);
        }
    }
    printer.write(layout(&lines).as_bytes())?;
    Ok(0)
}
