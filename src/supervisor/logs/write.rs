//! The writing end of a log.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::read::LINE_END;
use super::{LogEntry, Stream, rotated};
use crate::model::{LogConfig, LogDriver, Timestamp};

/// The longest text of one record, in bytes, as docker's.
const MAX_RECORD: usize = 16 * 1024;

/// The writing end, kept by the supervisor.
#[derive(Debug)]
pub(in crate::supervisor) struct Log {
    /// `None`: nothing is kept.
    path: Option<PathBuf>,
    max_size: Option<u64>,
    max_file: u32,
    file: Option<File>,
    size: u64,
    partial: [Vec<u8>; 2],
    lost: u64,
    attrs: BTreeMap<String, String>,
}

impl Log {
    /// A log as the container's settings want it.
    pub(in crate::supervisor) fn new(path: PathBuf, config: &LogConfig) -> Self {
        Self {
            path: (config.driver == LogDriver::JsonFile).then_some(path),
            max_size: config.max_size,
            max_file: config.max_file.unwrap_or(1).max(1),
            file: None,
            size: 0,
            partial: [Vec::new(), Vec::new()],
            lost: 0,
            attrs: BTreeMap::new(),
        }
    }

    /// The same with what every record is to say of the container.
    #[must_use]
    pub(in crate::supervisor) fn with_attributes(mut self, attrs: BTreeMap<String, String>) -> Self {
        self.attrs = attrs;
        self
    }

    /// Takes some output; whole lines are written at once.
    pub(in crate::supervisor) fn append(&mut self, stream: Stream, bytes: &[u8]) {
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
            encode(&mut records, stream, &rest[..end], &self.attrs);
            rest = &rest[end..];
        }
        self.partial[stream as usize] = rest.to_vec();
        self.write(&records);
    }

    /// Writes what is left of lines without an end.
    pub(in crate::supervisor) fn finish(&mut self) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let rest = std::mem::take(&mut self.partial[stream as usize]);
            if !rest.is_empty() {
                let mut record = Vec::new();
                encode(&mut record, stream, &rest, &self.attrs);
                self.write(&record);
            }
        }
    }

    /// Writes whole records. A file is full as soon as it has its size: only one line may be beyond it, however many come at once.
    fn write(&mut self, mut records: &[u8]) {
        let Some(path) = self.path.clone() else { return };
        while !records.is_empty() {
            if self.max_size.is_some_and(|most| self.size >= most) {
                self.rotate(&path);
            }
            self.open(&path);
            let room = self.max_size.map(|most| most.saturating_sub(self.size));
            let (now, later) = records.split_at(fitting(records, room));
            self.put(now);
            records = later;
        }
    }

    fn open(&mut self, path: &Path) {
        if self.file.is_none() {
            self.file = create(path).and_then(mend).ok();
            // It may go on with what an earlier run wrote.
            let length =
                self.file.as_ref().and_then(|file| file.metadata().ok()).map_or(0, |found| found.len());
            self.size = length;
        }
    }

    fn put(&mut self, records: &[u8]) {
        let mut note = Vec::new();
        if self.lost > 0 {
            let text = format!("[umiak: {} bytes of log could not be written here]\n", self.lost);
            encode(&mut note, Stream::Stderr, text.as_bytes(), &self.attrs);
        }
        let written = self.file.as_mut().is_some_and(|file| {
            (note.is_empty() || file.write_all(&note).is_ok()) && file.write_all(records).is_ok()
        });
        if written {
            self.size += (note.len() + records.len()) as u64;
            self.lost = 0;
        } else {
            self.lost += records.len() as u64;
            // Half a record would spoil the next one as well.
            if let Some(file) = &self.file {
                let _ = file.set_len(self.size);
            }
        }
    }

    /// Makes room: every file gets one older, the oldest goes. What cannot be renamed stays where it is, and grows.
    fn rotate(&mut self, path: &Path) {
        let oldest = self.max_file - 1;
        let moved = if oldest == 0 {
            std::fs::remove_file(path)
        } else {
            (0..oldest).rev().try_for_each(|age| {
                match std::fs::rename(rotated(path, age), rotated(path, age + 1)) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
                    _ => Ok(()),
                }
            })
        };
        match moved {
            Ok(()) => (self.file, self.size) = (None, 0),
            Err(error) => tracing::warn!(%error, "rotating the container's log"),
        }
    }
}

/// How many bytes of records to write before the size is looked at again: up to the end of the line that uses up the room. The
/// records of one line stay together, as whoever looks for the last lines expects.
fn fitting(records: &[u8], room: Option<u64>) -> usize {
    let Some(room) = room.and_then(|room| usize::try_from(room).ok()).filter(|room| *room < records.len())
    else {
        return records.len();
    };
    let ends_line = |record: &[u8]| record.windows(LINE_END.len()).any(|part| part == LINE_END);
    let mut end = 0;
    for record in records.split_inclusive(|byte| *byte == b'\n') {
        end += record.len();
        if end >= room && ends_line(record) {
            return end;
        }
    }
    records.len()
}

/// Where to end a part of an over-long line, so that no character is cut when it is text.
fn part_end(line: &[u8]) -> usize {
    (MAX_RECORD - 3..=MAX_RECORD)
        .rev()
        .find(|at| line.get(*at).is_none_or(|b| b & 0xc0 != 0x80))
        .unwrap_or(MAX_RECORD)
}

fn encode(to: &mut Vec<u8>, stream: Stream, text: &[u8], attrs: &BTreeMap<String, String>) {
    let log = String::from_utf8_lossy(text).into_owned();
    let entry = LogEntry { log, stream, attrs: attrs.clone(), time: Timestamp::now() };
    let before = to.len();
    if serde_json::to_writer(&mut *to, &entry).is_ok() {
        to.push(b'\n');
    } else {
        to.truncate(before);
    }
}

/// Ends a record that a power cut left half written: what comes next is a record of its own.
fn mend(mut file: File) -> std::io::Result<File> {
    let mut last = [b'\n'];
    if file.metadata()?.len() > 0 {
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
    }
    if last != [b'\n'] {
        file.write_all(b"\n")?;
    }
    Ok(file)
}

fn create(path: &Path) -> std::io::Result<File> {
    let mut options = File::options();
    options.create(true).read(true).append(true);
    #[cfg(unix)]
    {
        // Not through a link, whoever may have put one there.
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        std::os::unix::fs::OpenOptionsExt::custom_flags(
            &mut options,
            i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0),
        );
    }
    options.open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::logs::LogReader;

    fn logged(chunks: &[(Stream, &[u8])]) -> Vec<(Stream, String)> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.json");
        let mut log = Log::new(path.clone(), &LogConfig::default());
        for (stream, bytes) in chunks {
            log.append(*stream, bytes);
        }
        log.finish();
        LogReader::open(&path, None).unwrap().map(|entry| (entry.stream, entry.log)).collect()
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
        assert!(LogReader::open(&dir.path().join("none"), None).unwrap().next().is_none());
        let mut log = Log::new(dir.path().join("no/such/dir/log"), &LogConfig::default());
        log.append(Stream::Stdout, b"x\n");
        assert!(log.lost > 0);
    }

    #[test]
    fn a_full_log_becomes_an_older_one_and_the_oldest_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.json");
        let config = LogConfig { max_size: Some(200), max_file: Some(3), ..LogConfig::default() };
        let mut log = Log::new(path.clone(), &config);
        for number in 0..20 {
            log.append(Stream::Stdout, format!("line {number}\n").as_bytes());
        }
        let mut names: Vec<_> =
            std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["log.json", "log.json.1", "log.json.2"]);
        let all: Vec<_> = LogReader::open(&path, None).unwrap().map(|entry| entry.log).collect();
        assert!(all.len() < 20 && all.last().unwrap() == "line 19\n", "{all:?}");
        assert!(all.windows(2).all(|pair| pair[0] != pair[1]));
        let mut none =
            Log::new(dir.path().join("none"), &LogConfig { driver: LogDriver::None, ..LogConfig::default() });
        none.append(Stream::Stdout, b"x\n");
        assert!(!dir.path().join("none").exists());
    }

    #[test]
    fn one_batch_fills_as_many_files_as_it_needs() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.json");
        let config = LogConfig { max_size: Some(1000), max_file: Some(1000), ..LogConfig::default() };
        let mut log = Log::new(path.clone(), &config);
        let lines: Vec<String> = (0..200).map(|number| format!("line {number}\n")).collect();
        log.append(Stream::Stdout, lines.concat().as_bytes());
        let sizes: Vec<u64> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().len())
            .collect();
        assert!(sizes.len() > 10 && sizes.iter().all(|size| *size < 1200), "{sizes:?}");
        let all: Vec<_> = LogReader::open(&path, None).unwrap().map(|entry| entry.log).collect();
        assert_eq!(all, lines);
    }

    #[test]
    fn records_are_not_cut_and_lines_stay_together() {
        let mut records = Vec::new();
        let mut ends = Vec::new();
        for text in ["a\n", "part", "of it\n", "b\n"] {
            encode(&mut records, Stream::Stdout, text.as_bytes(), &BTreeMap::new());
            ends.push(records.len());
        }
        let first = ends[0] as u64;
        for (room, wanted) in [
            (None, ends[3]),
            (Some(0), ends[0]),
            (Some(first), ends[0]),
            (Some(first + 1), ends[2]),
            (Some(ends[2] as u64), ends[2]),
            (Some(ends[2] as u64 + 1), ends[3]),
            (Some(1 << 20), ends[3]),
        ] {
            assert_eq!(fitting(&records, room), wanted, "{room:?} {ends:?}");
        }
    }

    #[test]
    fn a_torn_record_spoils_only_itself() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.json");
        let write = |text: &str| {
            let mut log = Log::new(path.clone(), &LogConfig::default());
            log.append(Stream::Stdout, text.as_bytes());
        };
        write("first\n");
        let length = std::fs::metadata(&path).unwrap().len();
        File::options().write(true).open(&path).unwrap().set_len(length - 20).unwrap();
        write("second\n");
        let all: Vec<_> = LogReader::open(&path, None).unwrap().map(|entry| entry.log).collect();
        assert_eq!(all, ["second\n"]);
    }
}
