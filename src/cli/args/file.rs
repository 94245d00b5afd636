//! The files of `--env-file` and `--label-file`: one `KEY=value` or `KEY` a line.
//!
//! Docker's rules: white space before the key is dropped; empty lines and those that begin with `#` are skipped; the rest of
//! the line after the first `=` is the value as it stands, quotes, `#` and trailing blanks included; a byte order mark at the
//! start of the file is dropped. A line has at most [`MAX_LINE`] bytes. Beyond docker, a NUL byte is refused here, where the
//! line is known, and not at the container's start.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use crate::model::{ErrorKind, Kind};

/// The longest line, in bytes without its line feed; docker's limit.
pub const MAX_LINE: usize = 65_535;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// Before the first `=`; never empty, without blanks and tabs.
    pub key: String,
    /// After it; `None` where there is no `=`.
    pub value: Option<String>,
}

/// A file that cannot be read or does not keep to the rules.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be opened.
    #[error("open {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It cannot be read.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// One of its lines is wrong.
    #[error("invalid env file ({}), line {line}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        #[source]
        fault: LineFault,
    },
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineFault {
    /// Nothing before the `=`.
    #[error("no variable name on line '{text}'")]
    NoName {
        /// The line.
        text: String,
    },
    /// A blank or tab in the key.
    #[error("variable '{key}' contains whitespaces")]
    Whitespace {
        /// The key.
        key: String,
    },
    /// Not UTF-8.
    #[error("invalid UTF-8 at byte {at} of the line")]
    NotUtf8 {
        /// The first wrong byte, from 1.
        at: usize,
    },
    /// A NUL byte.
    #[error("a NUL byte")]
    Nul,
    /// Too long.
    #[error("it is longer than {MAX_LINE} bytes")]
    TooLong,
}

impl Kind for FileError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Open { source, .. } if source.kind() == io::ErrorKind::NotFound => ErrorKind::NotFound,
            Self::Open { source, .. } | Self::Read { source, .. }
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                ErrorKind::Forbidden
            }
            Self::Open { .. } | Self::Read { .. } | Self::Line { .. } => ErrorKind::InvalidInput,
        }
    }
}

/// Reads a file, line by line, in order.
pub fn read(path: &Path) -> Result<Vec<Pair>, FileError> {
    let file = File::open(path).map_err(|source| FileError::Open { path: path.to_owned(), source })?;
    parse(BufReader::new(file), path)
}

/// Parses what `reader` yields; `path` is for the messages.
fn parse(mut reader: impl BufRead, path: &Path) -> Result<Vec<Pair>, FileError> {
    let mut pairs = Vec::new();
    let mut bytes = Vec::new();
    for line in 1.. {
        bytes.clear();
        // One more for the line feed: a device without lines is not read until memory ends.
        let count = (&mut reader)
            .take(MAX_LINE as u64 + 1)
            .read_until(b'\n', &mut bytes)
            .map_err(|source| FileError::Read { path: path.to_owned(), source })?;
        if count == 0 {
            break;
        }
        match pair(&bytes, line == 1) {
            Ok(found) => pairs.extend(found),
            Err(fault) => return Err(FileError::Line { path: path.to_owned(), line, fault }),
        }
    }
    Ok(pairs)
}

fn pair(line: &[u8], first: bool) -> Result<Option<Pair>, LineFault> {
    let line = match line.strip_suffix(b"\n") {
        Some(line) => line.strip_suffix(b"\r").unwrap_or(line),
        None if line.len() > MAX_LINE => return Err(LineFault::TooLong),
        None => line.strip_suffix(b"\r").unwrap_or(line),
    };
    let text = std::str::from_utf8(line).map_err(|e| LineFault::NotUtf8 { at: e.valid_up_to() + 1 })?;
    let text = if first { text.strip_prefix('\u{feff}').unwrap_or(text) } else { text };
    let text = text.trim_start();
    if text.is_empty() || text.starts_with('#') {
        return Ok(None);
    }
    if text.contains('\0') {
        return Err(LineFault::Nul);
    }
    let (key, value) = text.split_once('=').map_or((text, None), |(key, value)| (key, Some(value)));
    if key.is_empty() {
        return Err(LineFault::NoName { text: text.to_owned() });
    }
    if key.contains([' ', '\t']) {
        return Err(LineFault::Whitespace { key: key.to_owned() });
    }
    Ok(Some(Pair { key: key.to_owned(), value: value.map(str::to_owned) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(bytes: &[u8]) -> Result<Vec<String>, (usize, LineFault)> {
        match parse(bytes, Path::new("e")) {
            Ok(pairs) => Ok(pairs
                .into_iter()
                .map(|Pair { key, value }| value.map_or(key.clone(), |value| format!("{key}={value}")))
                .collect()),
            Err(FileError::Line { line, fault, .. }) => Err((line, fault)),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn lines_as_docker_reads_them() {
        let cases: &[(&[u8], &[&str])] = &[
            (b"", &[]),
            (b"A=1", &["A=1"]),
            (b"\xef\xbb\xbfA=1\n#c\n  #d=1\n\n   \nB=2 # x\n", &["A=1", "B=2 # x"]),
            (b"  C=3\nD=\"q\"\nE\nF=\n", &["C=3", "D=\"q\"", "E", "F="]),
            (b"G=a=b \r\nH=x  \nA=2\n", &["G=a=b ", "H=x  ", "A=2"]),
            (b"\tT=1\n\t#x\n", &["T=1"]),
            (b"A=1\n\nB\r\n#x\r\n\r\n", &["A=1", "B"]),
            (b"A=1\r", &["A=1"]),
            (b"A=1\rB=2\n", &["A=1\rB=2"]),
            (b"a\r=1\n", &["a\r=1"]),
            (b"A=1\nA=2\n", &["A=1", "A=2"]),
            // Only blanks and tabs count within a key; any white space is dropped before it.
            ("a\u{a0}b=1\n\u{a0}c=1\n".as_bytes(), &["a\u{a0}b=1", "c=1"]),
            // A byte order mark is one at the start of the file alone.
            ("\u{feff}#c\n\u{feff}B=1\n".as_bytes(), &["\u{feff}B=1"]),
        ];
        for (bytes, wanted) in cases {
            let wanted = wanted.iter().map(|&line| line.to_owned()).collect();
            assert_eq!(parsed(bytes), Ok(wanted), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn wrong_lines_are_named() {
        let whitespace = |key: &str| LineFault::Whitespace { key: key.into() };
        let no_name = |text: &str| LineFault::NoName { text: text.into() };
        let cases: &[(&[u8], usize, LineFault)] = &[
            (b"A=1\nx y=1\n", 2, whitespace("x y")),
            (b"A=1\nx y\n", 2, whitespace("x y")),
            (b"A =1\n", 1, whitespace("A ")),
            (b"export A=1\n", 1, whitespace("export A")),
            (b"a\tb=1\n", 1, whitespace("a\tb")),
            (b"A=1\n=1\n", 2, no_name("=1")),
            (b"  #x\n=", 2, no_name("=")),
            (b"A=1\nB=\xff\n", 2, LineFault::NotUtf8 { at: 3 }),
            (b"A=1\n#\xff\n", 2, LineFault::NotUtf8 { at: 2 }),
            (b"\xff\xfeA\0=\0", 1, LineFault::NotUtf8 { at: 1 }),
            (b"N=a\0b\n", 1, LineFault::Nul),
        ];
        for (bytes, line, fault) in cases {
            assert_eq!(parsed(bytes), Err((*line, fault.clone())), "{}", bytes.escape_ascii());
        }
        assert_eq!(whitespace("x y").to_string(), "variable 'x y' contains whitespaces");
        assert_eq!(no_name("=1").to_string(), "no variable name on line '=1'");
    }

    #[test]
    fn lines_have_a_limit() {
        let line = |length: usize| [b"L=".as_slice(), &vec![b'a'; length - 2]].concat();
        for end in ["", "\n"] {
            let at_limit = [line(MAX_LINE).as_slice(), end.as_bytes(), b""].concat();
            assert_eq!(parsed(&at_limit).unwrap().len(), 1, "{end:?}");
            let over = [line(MAX_LINE + 1).as_slice(), end.as_bytes()].concat();
            assert_eq!(parsed(&over), Err((1, LineFault::TooLong)), "{end:?}");
        }
        let second = [line(MAX_LINE).as_slice(), b"\nB=1\n"].concat();
        assert_eq!(parsed(&second).unwrap().len(), 2);
    }

    #[test]
    fn files_out_of_reach() {
        let dir = tempfile::tempdir().unwrap();
        let error = read(&dir.path().join("none")).unwrap_err();
        assert!(matches!(error, FileError::Open { .. }), "{error}");
        assert_eq!(error.kind(), ErrorKind::NotFound);
        // A directory opens on some systems and not on others; it reads on none.
        assert!(read(dir.path()).is_err());
        let path = dir.path().join("e");
        std::fs::write(&path, "A=1\nx y=1\n").unwrap();
        let error = read(&path).unwrap_err();
        assert_eq!(error.to_string(), format!("invalid env file ({}), line 2", path.display()));
        assert_eq!(
            std::error::Error::source(&error).unwrap().to_string(),
            "variable 'x y' contains whitespaces"
        );
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        std::fs::write(&path, "A=1\nB\n").unwrap();
        assert_eq!(read(&path).unwrap().len(), 2);
    }
}
