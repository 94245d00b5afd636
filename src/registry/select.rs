//! Choosing the platform in an index. Pure.

use super::manifest::{DOCKER_INDEX, Descriptor, OCI_INDEX};
use crate::model::Platform;

/// The entries of an index that satisfy the wishes, best first: an earlier wish wins over a later one, then the nearest
/// variant. Attestations (`unknown/unknown`) never match; without any wish every image matches, in the index's order.
pub fn select<'a>(index: &'a [Descriptor], wanted: &[Platform]) -> Vec<&'a Descriptor> {
    let images = || index.iter().filter(|entry| !is_index(entry)).filter_map(|e| Some((e, e.platform()?)));
    if wanted.is_empty() {
        return images().filter(|(_, offered)| offered.os != "unknown").map(|(entry, _)| entry).collect();
    }
    let mut found: Vec<(usize, u32, &Descriptor)> = Vec::new();
    for (place, wish) in wanted.iter().enumerate() {
        found.extend(images().filter_map(|(e, offered)| Some((place, distance(wish, &offered)?, e))));
    }
    found.sort_by_key(|(place, distance, _)| (*place, *distance));
    found.into_iter().map(|(_, _, entry)| entry).collect()
}

pub(super) fn is_index(entry: &Descriptor) -> bool {
    matches!(entry.media_type.as_str(), OCI_INDEX | DOCKER_INDEX)
}

/// How far an offer is from a wish; `None` if it does not do. A newer processor runs what is for an older one, so a wish
/// with a variant takes lower ones too; a wish without one takes the plainest, except that arm's is v7, as docker has it.
pub(super) fn distance(wish: &Platform, offered: &Platform) -> Option<u32> {
    if wish.os != offered.os || wish.architecture != offered.architecture {
        return None;
    }
    let level = |variant: &Option<String>| -> Option<u32> {
        let Some(text) = variant else {
            return Some(match offered.architecture.as_str() {
                "arm" => 70,
                "arm64" => 80,
                _ => 10,
            });
        };
        let (major, minor) =
            text.strip_prefix('v')?.split_once('.').unwrap_or((text.strip_prefix('v')?, "0"));
        Some(u32::from(major.parse::<u8>().ok()?) * 10 + u32::from(minor.parse::<u8>().ok()?.min(9)))
    };
    match (level(&wish.variant), level(&offered.variant)) {
        (Some(most), Some(level)) if level <= most => Some(most - level),
        (Some(most), Some(level)) if wish.variant.is_none() => Some(1000 + level - most),
        (None, _) | (_, None) if wish.accepts(offered) => Some(5000),
        _ => None,
    }
}
