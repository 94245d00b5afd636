//! `-l` and `--label-file`.
//!
//! Files come first, options win. `-l KEY` is a label with an empty value; a bare `KEY` in a file is no label at all: docker's
//! rules both. The white space in question is blanks and tabs.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::model::{ErrorKind, Kind};

use super::file::{self, FileError};

/// What is wrong with a label.
#[derive(Debug, thiserror::Error)]
pub enum LabelError {
    /// Without a name.
    #[error("invalid label '{text}': empty name")]
    NoName {
        /// As given.
        text: String,
    },
    /// A name with white space in it.
    #[error("label '{key}' contains whitespaces")]
    Whitespace {
        /// The name.
        key: String,
    },
    /// In a file.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Kind for LabelError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NoName { .. } | Self::Whitespace { .. } => ErrorKind::InvalidInput,
            Self::File(error) => error.kind(),
        }
    }
}

/// All labels of a command line.
pub fn labels(files: &[PathBuf], options: &[String]) -> Result<BTreeMap<String, String>, LabelError> {
    let mut all = BTreeMap::new();
    for path in files {
        all.extend(file::read(path)?.into_iter().filter_map(|pair| Some((pair.key, pair.value?))));
    }
    for text in options {
        let (key, value) = label(text)?;
        all.insert(key, value);
    }
    Ok(all)
}

/// One `-l`. White space before the name is allowed, and part of it.
pub fn label(text: &str) -> Result<(String, String), LabelError> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    let name = key.trim_start_matches([' ', '\t']);
    if name.is_empty() {
        return Err(LabelError::NoName { text: text.to_owned() });
    }
    if name.contains([' ', '\t']) {
        return Err(LabelError::Whitespace { key: name.to_owned() });
    }
    Ok((key.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options() {
        let cases = [
            ("l=u", "l", "u"),
            ("n", "n", ""),
            ("a=", "a", ""),
            ("a=b=c", "a", "b=c"),
            ("a=c d", "a", "c d"),
            (" a=c", " a", "c"),
            ("\ta=c", "\ta", "c"),
            ("a\nb=c", "a\nb", "c"),
        ];
        for (text, key, value) in cases {
            assert_eq!(label(text).unwrap(), (key.into(), value.into()), "{text:?}");
        }
        let refused = [
            ("", "invalid label '': empty name"),
            ("=x", "invalid label '=x': empty name"),
            ("  ", "invalid label '  ': empty name"),
            (" =x", "invalid label ' =x': empty name"),
            ("a b=c d", "label 'a b' contains whitespaces"),
            (" a =c", "label 'a ' contains whitespaces"),
        ];
        for (text, message) in refused {
            let error = label(text).unwrap_err();
            assert_eq!(error.to_string(), message);
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
        }
    }

    #[test]
    fn files_come_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("l");
        std::fs::write(&path, "l=a\nm\n#x\nn= q \nHOME\n o=1\n").unwrap();
        let got = labels(std::slice::from_ref(&path), &["l=z".into(), "p".into()]).unwrap();
        let got: Vec<_> = got.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(got, [("l", "z"), ("n", " q "), ("o", "1"), ("p", "")]);
        std::fs::write(&path, "x y=1\n").unwrap();
        assert!(matches!(labels(&[path], &[]), Err(LabelError::File(FileError::Line { line: 1, .. }))));
        assert_eq!(labels(&[dir.path().join("none")], &[]).unwrap_err().kind(), ErrorKind::NotFound);
    }
}
