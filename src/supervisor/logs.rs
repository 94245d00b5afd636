//! A container's log in docker's `json-file` format: one JSON object a line, `{"log":…,"stream":…,"time":…}`.
//!
//! A record is one line of output, or a part of it where a line is longer than [`MAX_RECORD`]. The file is made at the
//! first output, so that a silent container costs nothing. A log that cannot be written never stops a container: the loss is
//! counted and said in the log when there is room again.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::model::Timestamp;

/// The longest text of one record, in bytes, as docker's.
const MAX_RECORD: usize = 16 * 1024;

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
    /// When it was read.
    pub time: Timestamp,
}

/// The writing end, kept by the supervisor.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    file: Option<File>,
    partial: [Vec<u8>; 2],
    lost: u64,
}

impl Log {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, file: None, partial: [Vec::new(), Vec::new()], lost: 0 }
    }

    /// Takes some output; whole lines are written at once.
    pub(super) fn append(&mut self, stream: Stream, bytes: &[u8]) {
        let mut pending = std::mem::take(&mut self.partial[stream as usize]);
        pending.extend_from_slice(bytes);
        let mut records = Vec::new();
        let mut rest = pending.as_slice();
        loop {
            let line = rest.iter().take(MAX_RECORD).position(|b| *b == b'\n').map(|at| at + 1);
            let end = match line {
                Some(end) => end,
                None if rest.len() >= MAX_RECORD => part_end(rest),
                None => break,
            };
            encode(&mut records, stream, &rest[..end]);
            rest = &rest[end..];
        }
        self.partial[stream as usize] = rest.to_vec();
        self.write(&records);
    }

    /// Writes what is left of lines without an end.
    pub(super) fn finish(&mut self) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let rest = std::mem::take(&mut self.partial[stream as usize]);
            if !rest.is_empty() {
                let mut record = Vec::new();
                encode(&mut record, stream, &rest);
                self.write(&record);
            }
        }
    }

    fn write(&mut self, records: &[u8]) {
        if records.is_empty() {
            return;
        }
        if self.file.is_none() {
            self.file = create(&self.path).ok();
        }
        let written = self.file.as_mut().is_some_and(|file| {
            if self.lost > 0 {
                let mut note = Vec::new();
                let text = format!("[umiak: {} bytes of log could not be written here]\n", self.lost);
                encode(&mut note, Stream::Stderr, text.as_bytes());
                if file.write_all(&note).is_err() {
                    return false;
                }
                self.lost = 0;
            }
            file.write_all(records).is_ok()
        });
        if !written {
            self.lost += records.len() as u64;
        }
    }
}

/// Where to end a part of an over-long line, so that no character is cut when it is text.
fn part_end(line: &[u8]) -> usize {
    (MAX_RECORD - 3..=MAX_RECORD)
        .rev()
        .find(|at| line.get(*at).is_none_or(|b| b & 0xc0 != 0x80))
        .unwrap_or(MAX_RECORD)
}

fn encode(to: &mut Vec<u8>, stream: Stream, text: &[u8]) {
    let entry = LogEntry { log: String::from_utf8_lossy(text).into_owned(), stream, time: Timestamp::now() };
    let before = to.len();
    if serde_json::to_writer(&mut *to, &entry).is_ok() {
        to.push(b'\n');
    } else {
        to.truncate(before);
    }
}

fn create(path: &Path) -> std::io::Result<File> {
    let mut options = File::options();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// The records of a log, oldest first; none where the container wrote nothing. A damaged line (the host lost power while
/// it was written) is skipped.
pub fn read_log(path: &Path) -> std::io::Result<Vec<LogEntry>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut entries = Vec::new();
    for line in BufReader::new(file).split(b'\n') {
        if let Ok(entry) = serde_json::from_slice(&line?) {
            entries.push(entry);
        }
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logged(chunks: &[(Stream, &[u8])]) -> Vec<(Stream, String)> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.json");
        let mut log = Log::new(path.clone());
        for (stream, bytes) in chunks {
            log.append(*stream, bytes);
        }
        log.finish();
        read_log(&path).unwrap().into_iter().map(|entry| (entry.stream, entry.log)).collect()
    }

    #[test]
    fn lines_are_records_whatever_the_chunks() {
        use Stream::{Stderr, Stdout};
        let log = logged(&[(Stdout, b"a\nb"), (Stderr, b"E\n"), (Stdout, b"c\n\nd")]);
        let expected = [(Stdout, "a\n"), (Stderr, "E\n"), (Stdout, "bc\n"), (Stdout, "\n"), (Stdout, "d")];
        assert_eq!(log, expected.map(|(s, t)| (s, t.to_owned())));
    }

    #[test]
    fn an_endless_line_is_cut_between_characters() {
        let text = "é".repeat(20_000);
        let log = logged(&[(Stream::Stdout, text.as_bytes())]);
        assert!(log.len() > 2 && log.iter().all(|(_, part)| part.len() <= MAX_RECORD));
        assert_eq!(log.into_iter().map(|(_, part)| part).collect::<String>(), text);
    }

    #[test]
    fn a_silent_container_has_no_log_file_and_a_full_disk_stops_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read_log(&dir.path().join("none")).unwrap(), []);
        let mut log = Log::new(dir.path().join("no/such/dir/log"));
        log.append(Stream::Stdout, b"x\n");
        assert!(log.lost > 0);
    }
}
