//! Names of containers: `[a-zA-Z0-9][a-zA-Z0-9_.-]+`.
//!
//! The slash that docker's API puts before a name may be typed, and is dropped. There is no upper limit, as with docker: a
//! name is a column of the database, never a file.

use crate::model::{ErrorKind, Kind};

/// Not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Invalid container name ({text}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")]
pub struct NameError {
    /// As given.
    pub text: String,
}

impl Kind for NameError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidInput
    }

    fn hints(&self) -> Vec<String> {
        if self.text.trim_start_matches('/').chars().count() == 1 {
            return vec!["a name has at least two characters".into()];
        }
        Vec::new()
    }
}

/// The name of a new container: `--name ""` is the same as none.
pub fn wanted(text: &str) -> Result<Option<String>, NameError> {
    if text.is_empty() { Ok(None) } else { parse(text).map(Some) }
}

/// A name, without its slash.
pub fn parse(text: &str) -> Result<String, NameError> {
    let name = text.strip_prefix('/').unwrap_or(text);
    let rest = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    match name.as_bytes() {
        [first, others @ ..]
            if first.is_ascii_alphanumeric() && !others.is_empty() && others.iter().copied().all(rest) =>
        {
            Ok(name.to_owned())
        }
        _ => Err(NameError { text: text.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let long = "a".repeat(300);
        for (text, name) in [
            ("ab", "ab"),
            ("/ab", "ab"),
            ("9a", "9a"),
            ("a.b-c_d", "a.b-c_d"),
            ("a-", "a-"),
            ("A..", "A.."),
            (&long, &long),
        ] {
            assert_eq!(parse(text).as_deref(), Ok(name));
            assert_eq!(wanted(text), Ok(Some(name.to_owned())));
        }
        for text in
            ["a", "_ab", "//ab", "a b", "a/b", "é", "aé", "/", "/a", "ab\n", "-a", ".ab", "a:b", "ab\0"]
        {
            let error = parse(text).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("Invalid container name ({text}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")
            );
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert_eq!(wanted(text), Err(error));
        }
        assert_eq!(wanted(""), Ok(None));
        assert!(parse("").is_err());
        assert_eq!(parse("a").unwrap_err().hints().len(), 1);
        assert!(parse("a b").unwrap_err().hints().is_empty());
    }
}
