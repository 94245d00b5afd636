//! `--cgroup-parent`: below which control group a container's own is made.

use super::{ErrorKind, Kind};

/// Longer names of one group no kernel makes, in bytes.
const LONGEST: usize = 255;

/// Longer paths are not followed, in bytes.
const DEEPEST: usize = 2048;

/// A text that names no parent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GroupParentError {
    /// A slice of systemd's, by its name alone.
    #[error(
        "invalid cgroup parent {text:?}: not a valid slice, which is named as \"a.slice\", or \"a-b.slice\" inside of it"
    )]
    Slice {
        /// As given.
        text: String,
    },
    /// A path.
    #[error("invalid cgroup parent {text:?}: {why}")]
    Path {
        /// As given.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

impl Kind for GroupParentError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidInput
    }

    fn hints(&self) -> Vec<String> {
        Vec::new()
    }
}

/// The parent that a text names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum GroupParent {
    /// The engine's own.
    #[default]
    Own,
    /// A path from the top of the hierarchy, without slashes around it; empty: the top.
    Absolute(String),
    /// A path from where this user may make groups.
    Relative(String),
}

impl GroupParent {
    /// Reads `/a/b`, `a/b`, or a slice by its name as systemd nests them: `a-b.slice` is in `a.slice`.
    pub fn parse(text: &str) -> Result<Self, GroupParentError> {
        if text.is_empty() {
            return Ok(Self::Own);
        }
        let failed = |why| GroupParentError::Path { text: text.chars().take(100).collect(), why };
        if text.len() > DEEPEST {
            return Err(failed("the path is too long"));
        }
        if !text.contains('/') && text.strip_suffix(".slice").is_some() {
            return slice(text).map(Self::Relative);
        }
        let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty()).collect();
        for part in &parts {
            if matches!(*part, "." | "..") {
                return Err(failed("a path may not hold `.` or `..`"));
            }
            if part.len() > LONGEST {
                return Err(failed("a name in the path is too long"));
            }
            if part.chars().any(char::is_control) {
                return Err(failed("a name may not hold control characters"));
            }
        }
        let path = parts.join("/");
        Ok(if text.starts_with('/') { Self::Absolute(path) } else { Self::Relative(path) })
    }
}

/// `a-b.slice` is `a.slice/a-b.slice`; `-.slice` is the top.
fn slice(text: &str) -> Result<String, GroupParentError> {
    let failed = || GroupParentError::Slice { text: text.chars().take(100).collect() };
    let name = text.strip_suffix(".slice").ok_or_else(failed)?;
    if name == "-" {
        return Ok(String::new());
    }
    if text.len() > LONGEST || text.chars().any(char::is_control) || name.split('-').any(str::is_empty) {
        return Err(failed());
    }
    let ends = name.match_indices('-').map(|(at, _)| at).chain([name.len()]);
    Ok(ends.map(|end| format!("{}.slice", &name[..end])).collect::<Vec<_>>().join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_are_paths_or_slices() {
        use GroupParent::{Absolute, Own, Relative};
        for (text, wanted) in [
            ("", Own),
            ("/", Absolute(String::new())),
            ("/a/b", Absolute("a/b".into())),
            ("//a//b/", Absolute("a/b".into())),
            ("a/b", Relative("a/b".into())),
            ("a", Relative("a".into())),
            ("-.slice", Relative(String::new())),
            ("a.slice", Relative("a.slice".into())),
            ("a-b-c.slice", Relative("a.slice/a-b.slice/a-b-c.slice".into())),
            ("/x/a-b.slice", Absolute("x/a-b.slice".into())),
            ("...", Relative("...".into())),
        ] {
            assert_eq!(GroupParent::parse(text), Ok(wanted), "{text}");
        }
    }

    #[test]
    fn what_leads_elsewhere_is_refused() {
        let long = "x".repeat(256);
        let deep = "x/".repeat(1100);
        for text in ["..", "/..", "a/../b", "./a", "a/..", "a\nb", "/a\0", &long, &deep] {
            assert!(matches!(GroupParent::parse(text), Err(GroupParentError::Path { .. })), "{text:?}");
        }
        for text in [".slice", "a-.slice", "-a.slice", "a--b.slice", "a\n.slice"] {
            assert!(matches!(GroupParent::parse(text), Err(GroupParentError::Slice { .. })), "{text:?}");
        }
    }
}
