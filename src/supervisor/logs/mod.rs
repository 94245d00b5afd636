//! A container's log in docker's `json-file` format: one JSON object a line, `{"log":…,"stream":…,"time":…}`.
//!
//! A record is one line of output, or a part of it where a line is longer than 16 KiB. The file is made at the
//! first output, so that a silent container costs nothing. A log that cannot be written never stops a container: the loss is
//! counted and said in the log when there is room again. With `max-size` the file becomes `FILE.1` and so on, as docker's
//! does; a reader that follows keeps the file that it has open to its end, and then takes the next.

mod read;
mod write;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::model::Timestamp;

pub use read::LogReader;
pub(super) use write::Log;

/// Which stream a record came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output, or the terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEntry {
    /// The text, with its line end unless it is a part of a longer line.
    pub log: String,
    /// Where it came from.
    pub stream: Stream,
    /// What the log's options add of the container (`labels`, `env`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attrs: BTreeMap<String, String>,
    /// When it was read.
    pub time: Timestamp,
}

/// The file that a log became `age` rotations ago; 0 is the one that is written to.
fn rotated(path: &Path, age: u32) -> PathBuf {
    if age == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{age}"));
    name.into()
}
