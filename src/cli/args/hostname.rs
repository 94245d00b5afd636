//! `--hostname`.
//!
//! Docker takes any text and fails at the container's start when the kernel refuses it, for over 64 bytes (`sethostname(2)`);
//! it writes the name into `/etc/hosts` as it is. We take underscores, dots and letters of any script as docker does, and
//! refuse at once what cannot work: too long a name, and white space, control characters and `#`, with which a line of
//! `/etc/hosts` would say something else.

use crate::model::{ErrorKind, Kind};

/// Longest host name in bytes (`__NEW_UTS_LEN` of Linux).
pub const MAX: usize = 64;

/// Not a host name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostnameError {
    /// Longer than the kernel takes.
    #[error("invalid hostname '{text}': {} bytes, and {MAX} is the most", text.len())]
    TooLong {
        /// As given.
        text: String,
    },
    /// With a character that it must not have.
    #[error("invalid hostname {text:?}: it contains {character:?}")]
    Character {
        /// As given.
        text: String,
        /// The first such character.
        character: char,
    },
}

impl Kind for HostnameError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidInput
    }
}

/// A host name; `--hostname ""` is the same as none.
pub fn parse(text: &str) -> Result<Option<String>, HostnameError> {
    if let Some(character) = text.chars().find(|c| c.is_whitespace() || c.is_control() || *c == '#') {
        return Err(HostnameError::Character { text: text.to_owned(), character });
    }
    if text.len() > MAX {
        return Err(HostnameError::TooLong { text: text.to_owned() });
    }
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names() {
        let (longest, over) = ("a".repeat(MAX), "a".repeat(MAX + 1));
        for text in
            ["abc", "a.b.c", "a_b", "-a", "a-", ".a", "a..b", "a.", "ABC", "123", "é", "a/b", &longest]
        {
            assert_eq!(parse(text), Ok(Some(text.to_owned())));
        }
        assert_eq!(parse(""), Ok(None));
        let error = parse(&over).unwrap_err();
        assert!(error.to_string().ends_with("65 bytes, and 64 is the most"), "{error}");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(matches!(parse(&"é".repeat(33)), Err(HostnameError::TooLong { .. })));
        for (text, character) in
            [("a b", ' '), ("a\n1.2.3.4 bank", '\n'), ("a\0", '\0'), ("a#b", '#'), ("a\u{a0}b", '\u{a0}')]
        {
            assert_eq!(
                parse(text),
                Err(HostnameError::Character { text: text.into(), character }),
                "{text:?}"
            );
        }
    }
}
