//! `-e` and `--env-file`.
//!
//! Result: `KEY=value`, or a bare `KEY`, which takes the image's value away. Files come first and options after them, as
//! docker orders them, so that an option wins over a file. Stricter than docker: a host variable that is not UTF-8 is refused
//! by name, where docker hands on a mangled one.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::model::{ErrorKind, Kind};

use super::file::{self, FileError};

/// The host's variables: `std::env::var_os`, or a table of a test.
pub type Host<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// What is wrong with a variable.
#[derive(Debug, thiserror::Error)]
pub enum EnvError {
    /// Without a name.
    #[error("invalid environment variable: {text}")]
    NoName {
        /// As given.
        text: String,
    },
    /// To be taken from the host, where it is not text.
    #[error("the host's environment variable '{name}' is not UTF-8")]
    HostNotUtf8 {
        /// Its name.
        name: String,
    },
    /// In a file.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Kind for EnvError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NoName { .. } | Self::HostNotUtf8 { .. } => ErrorKind::InvalidInput,
            Self::File(error) => error.kind(),
        }
    }
}

/// All variables of a command line, in the order in which later ones win. Of a file, a bare `KEY` that the host does not
/// have counts for nothing; of an option, it stays bare.
pub fn variables(files: &[PathBuf], options: &[String], host: Host<'_>) -> Result<Vec<String>, EnvError> {
    let mut all = Vec::new();
    for path in files {
        for pair in file::read(path)? {
            match pair.value {
                Some(value) => all.push(format!("{}={value}", pair.key)),
                None => {
                    all.extend(inherited(&pair.key, host)?.map(|value| format!("{}={value}", pair.key)));
                }
            }
        }
    }
    for text in options {
        all.push(variable(text, host)?);
    }
    Ok(all)
}

/// One `-e`: `KEY=value`, or `KEY` for the host's value.
pub fn variable(text: &str, host: Host<'_>) -> Result<String, EnvError> {
    if text.is_empty() || text.starts_with('=') {
        return Err(EnvError::NoName { text: text.to_owned() });
    }
    if text.contains('=') {
        return Ok(text.to_owned());
    }
    Ok(inherited(text, host)?.map_or_else(|| text.to_owned(), |value| format!("{text}={value}")))
}

fn inherited(name: &str, host: Host<'_>) -> Result<Option<String>, EnvError> {
    host(name)
        .map(OsString::into_string)
        .transpose()
        .map_err(|_| EnvError::HostNotUtf8 { name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str) -> Option<OsString> {
        match name {
            "HOME" => Some("/hh".into()),
            "EMPTY" => Some("".into()),
            #[cfg(unix)]
            "BAD" => Some(std::os::unix::ffi::OsStringExt::from_vec(vec![0xff])),
            _ => None,
        }
    }

    #[test]
    fn options() {
        let cases = [
            ("A=1", "A=1"),
            ("A=", "A="),
            ("A=a=b", "A=a=b"),
            ("A=\"q\"", "A=\"q\""),
            ("HOME", "HOME=/hh"),
            ("EMPTY", "EMPTY="),
            ("ABSENT", "ABSENT"),
            ("HOME=x", "HOME=x"),
            // Docker looks at the keys of files more closely than at these.
            ("a b=c", "a b=c"),
            (" A=c", " A=c"),
            ("a b", "a b"),
        ];
        for (text, wanted) in cases {
            assert_eq!(variable(text, &host).unwrap(), wanted);
        }
        for text in ["", "=", "=v"] {
            let error = variable(text, &host).unwrap_err();
            assert_eq!(error.to_string(), format!("invalid environment variable: {text}"));
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
        }
    }

    #[cfg(unix)]
    #[test]
    fn host_values_must_be_text() {
        let error = variable("BAD", &host).unwrap_err();
        assert_eq!(error.to_string(), "the host's environment variable 'BAD' is not UTF-8");
        assert_eq!(variable("BAD=1", &host).unwrap(), "BAD=1");
    }

    #[test]
    fn files_come_first() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("1"), dir.path().join("2"));
        std::fs::write(&one, "A=1\nHOME\nABSENT\nEMPTY\n").unwrap();
        std::fs::write(&two, "B=2\nA=3\n").unwrap();
        let options = ["A=0", "ABSENT", "C=1"].map(String::from);
        assert_eq!(
            variables(&[one, two], &options, &host).unwrap(),
            ["A=1", "HOME=/hh", "EMPTY=", "B=2", "A=3", "A=0", "ABSENT", "C=1"]
        );
        let error = variables(&[dir.path().join("none")], &options, &host).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(variables(&[], &["=".into()], &host).is_err());
    }
}
