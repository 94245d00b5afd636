//! Wishes that this host's kernel cannot fulfil and docker only warns of: they are said and let go, not refused, because files
//! that were written for another host carry them along.

use crate::model::Resources;
use runtime_linux::cgroups::Hierarchies;

/// What is said of each, in docker's words.
pub(super) fn discarded(resources: &Resources) -> Vec<&'static str> {
    // Nobody looks at the hierarchies for a container that wishes nothing of the kind.
    if resources.memory_swappiness.is_none() && !resources.oom_kill_disable {
        return Vec::new();
    }
    if Hierarchies::detect().is_ok_and(|found| found.unified()) { on_unified(resources) } else { Vec::new() }
}

fn on_unified(resources: &Resources) -> Vec<&'static str> {
    let mut said = Vec::new();
    if resources.memory_swappiness.is_some() {
        said.push(
            "Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory \
             swappiness discarded.",
        );
    }
    if resources.oom_kill_disable {
        said.push("Your kernel does not support OomKillDisable. OomKillDisable discarded.");
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_named() {
        assert!(on_unified(&Resources::default()).is_empty());
        let both = Resources { memory_swappiness: Some(1), oom_kill_disable: true, ..Resources::default() };
        assert_eq!(on_unified(&both).len(), 2);
    }
}
