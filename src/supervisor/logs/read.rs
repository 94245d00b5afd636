//! The reading end of a log: record by record, from the beginning or for the last lines, and on when more is written.
//!
//! Memory does not grow with the log. A damaged record (the host lost power while it was written) is skipped.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::{LogEntry, rotated};

/// More than the longest record takes with every byte escaped.
const LONGEST: u64 = 1 << 20;

/// How much is read at a time when looking backwards, in bytes.
const BLOCK: u64 = 64 << 10;

/// No log has more files.
const MOST_FILES: u32 = 10_000;

/// What ends a record whose text is a whole line.
pub(super) const LINE_END: &[u8] = br#"\n","stream":"#;

/// A log being read.
#[derive(Debug)]
pub struct LogReader {
    path: PathBuf,
    /// How many rotations old the file is that is being read.
    age: u32,
    file: Option<BufReader<File>>,
    /// The beginning of a record whose end is not written yet.
    partial: Vec<u8>,
    /// The file is not written to any more, and was seen to its end since that is known.
    left: bool,
}

impl LogReader {
    /// Opens the log at `path`; `tail`: from so many lines before its end. A container that wrote nothing has no file.
    pub fn open(path: &Path, tail: Option<usize>) -> io::Result<Self> {
        let mut reader = Self { path: path.to_owned(), age: 0, file: None, partial: Vec::new(), left: false };
        let oldest = reader.oldest();
        reader.age = oldest;
        let Some(mut lines) = tail else {
            reader.file = open(path, oldest)?;
            return Ok(reader);
        };
        // The newest file first, until there are lines enough.
        for age in 0..=oldest {
            let Some(mut file) = open(path, age)? else { continue };
            let (start, found) = last_lines(file.get_mut(), lines)?;
            file.seek(SeekFrom::Start(start))?;
            (reader.age, reader.file) = (age, Some(file));
            lines -= found;
            if lines == 0 {
                break;
            }
        }
        Ok(reader)
    }

    /// How many older files there are.
    fn oldest(&self) -> u32 {
        // While files are being renamed one of them is missing.
        let there = |age: &u32| rotated(&self.path, *age).exists();
        let there_or_next = |age: &u32| there(age) || rotated(&self.path, age + 1).exists();
        (1..MOST_FILES).take_while(there_or_next).filter(there).last().unwrap_or(0)
    }

    /// The next record of this file; `None` at its end.
    fn read(&mut self) -> io::Result<Option<LogEntry>> {
        let Some(file) = &mut self.file else { return Ok(None) };
        loop {
            let room = LONGEST.saturating_sub(self.partial.len() as u64);
            file.by_ref().take(room.max(1)).read_until(b'\n', &mut self.partial)?;
            if self.partial.last() != Some(&b'\n') {
                if (self.partial.len() as u64) < LONGEST {
                    return Ok(None);
                }
                // No record is that long: what is left of it is skipped as well.
                self.partial.clear();
                continue;
            }
            let record = serde_json::from_slice(&self.partial);
            self.partial.clear();
            if let Ok(entry) = record {
                return Ok(Some(entry));
            }
        }
    }

    /// Goes on with the file that was begun after this one; false when there is none.
    fn advance(&mut self) -> io::Result<bool> {
        let oldest = self.oldest();
        let Some(file) = &self.file else {
            // There was none: whatever there is now is new.
            (self.file, self.age) = (open(&self.path, oldest)?, oldest);
            return Ok(self.file.is_some());
        };
        // Meanwhile it may have become older: its own identity tells where it is now.
        let own = identity(&file.get_ref().metadata()?);
        let is_own =
            |age: u32| std::fs::metadata(rotated(&self.path, age)).is_ok_and(|found| identity(&found) == own);
        loop {
            let at = (0..=self.oldest()).find(|age| is_own(*age));
            if at == Some(0) {
                return Ok(false);
            }
            if !self.left {
                // It was written to until it was renamed: what came last is still to be read.
                self.left = true;
                return Ok(true);
            }
            // The next younger one that there is. Not found: it went with the last rotation, and the oldest follows it.
            let there = |age: &u32| rotated(&self.path, *age).exists();
            let Some(age) = at.map_or_else(|| Some(self.oldest()), |at| (0..at).rev().find(there)) else {
                return Ok(false);
            };
            let Some(next) = open(&self.path, age)? else { continue };
            // Renamed again between the two looks: look again.
            let between = |at| !is_own(at) || (age + 1..at).any(|age| there(&age));
            if at.is_some_and(between) {
                continue;
            }
            (self.file, self.age, self.left) = (Some(next), age, false);
            self.partial.clear();
            return Ok(true);
        }
    }

    /// The next record; `None` when there is none yet.
    pub fn next_entry(&mut self) -> io::Result<Option<LogEntry>> {
        loop {
            if let Some(entry) = self.read()? {
                return Ok(Some(entry));
            }
            if !self.advance()? {
                return Ok(None);
            }
        }
    }
}

impl Iterator for LogReader {
    type Item = LogEntry;

    /// Ends with what is written now; a log that cannot be read any more has ended.
    fn next(&mut self) -> Option<LogEntry> {
        self.next_entry().ok().flatten()
    }
}

fn open(path: &Path, age: u32) -> io::Result<Option<BufReader<File>>> {
    let mut options = File::options();
    options.read(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(
        &mut options,
        i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0),
    );
    match options.open(rotated(path, age)) {
        Ok(file) => Ok(Some(BufReader::new(file))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(unix)]
fn identity(metadata: &std::fs::Metadata) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    (metadata.dev(), metadata.ino())
}

/// Without inode numbers the time of its making tells one file from another.
#[cfg(not(unix))]
fn identity(metadata: &std::fs::Metadata) -> (u64, u64) {
    let made = metadata.created().ok().and_then(|made| made.duration_since(std::time::UNIX_EPOCH).ok());
    (0, made.map_or(0, |made| u64::try_from(made.as_nanos()).unwrap_or(u64::MAX)))
}

/// Where the last `wanted` lines of a file begin, and how many of them there are. A line may have several records.
fn last_lines(file: &mut File, wanted: usize) -> io::Result<(u64, usize)> {
    let end = file.seek(SeekFrom::End(0))?;
    let mut at = end;
    if wanted == 0 {
        return Ok((at, 0));
    }
    // Bytes from `at` up to the end of the record that is being looked at.
    let mut held: Vec<u8> = Vec::new();
    // The beginning of the earliest record that belongs to a counted line.
    let mut lines = 0;
    let mut start = at;
    while at > 0 {
        let size = BLOCK.min(at);
        at -= size;
        let mut block = vec![0; usize::try_from(size).unwrap_or(0)];
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut block)?;
        block.extend_from_slice(&held);
        if block.len() as u64 > LONGEST {
            // No record is that long: the file is damaged here, and what is before is not looked at.
            return Ok((start, lines));
        }
        held = block;
        // Records end with a line feed; the last piece begins after the one before.
        while let Some(before) = held[..held.len().saturating_sub(1)].iter().rposition(|byte| *byte == b'\n')
        {
            let record = &held[before + 1..];
            // The very last one ends a line, or the log.
            let last = at + held.len() as u64 == end;
            if last || whole_line(record) {
                if lines == wanted {
                    return Ok((start, lines));
                }
                lines += 1;
            }
            start = at + before as u64 + 1;
            held.truncate(before + 1);
        }
    }
    // What is left is the first record of the file.
    if !held.is_empty() && (held.len() as u64 == end || whole_line(&held)) {
        if lines == wanted {
            return Ok((start, lines));
        }
        lines += 1;
    }
    Ok((0, lines))
}

/// Whether the text of a record ends with a line feed: an escape that is not itself escaped.
fn whole_line(record: &[u8]) -> bool {
    record.windows(LINE_END.len()).enumerate().any(|(at, part)| {
        part == LINE_END && record[..at].iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::LogConfig;
    use crate::supervisor::logs::{Log, Stream};

    fn texts(reader: &mut LogReader) -> Vec<String> {
        reader.by_ref().map(|entry| entry.log).collect()
    }

    #[test]
    fn the_tail_counts_lines_not_records_and_crosses_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.json");
        let config = LogConfig { max_size: Some(150), max_file: Some(9), ..LogConfig::default() };
        let mut log = Log::new(path.clone(), &config);
        for text in ["a\n", "b\n", "c\n", "d\n", "e\n"] {
            log.append(Stream::Stdout, text.as_bytes());
        }
        let wide = "x".repeat(20_000);
        log.append(Stream::Stdout, format!("{wide}\n").as_bytes());
        let tail = |lines| texts(&mut LogReader::open(&path, Some(lines)).unwrap()).concat();
        assert_eq!(tail(0), "");
        assert_eq!(tail(1), format!("{wide}\n"));
        assert_eq!(tail(2), format!("e\n{wide}\n"));
        assert_eq!(tail(4), format!("c\nd\ne\n{wide}\n"));
        assert_eq!(tail(99), format!("a\nb\nc\nd\ne\n{wide}\n"));
    }

    #[test]
    fn a_reader_goes_on_across_rotations() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.json");
        let config = LogConfig { max_size: Some(300), max_file: Some(4), ..LogConfig::default() };
        let mut reader = LogReader::open(&path, None).unwrap();
        assert!(reader.next_entry().unwrap().is_none());
        let mut log = Log::new(path, &config);
        let mut seen = Vec::new();
        for number in 0..100 {
            log.append(Stream::Stderr, format!("{number}\n").as_bytes());
            if number % 5 == 0 {
                seen.extend(texts(&mut reader));
            }
        }
        seen.extend(texts(&mut reader));
        let all: Vec<_> = (0..100).map(|number| format!("{number}\n")).collect();
        assert_eq!(seen, all);
    }

    #[test]
    fn a_damaged_record_is_skipped_and_half_a_record_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.json");
        let record = r#"{"log":"good\n","stream":"stdout","time":"1970-01-01T00:00:00Z"}"#;
        std::fs::write(&path, format!("{{broken\n\0\0\n{record}\n{}", &record[..20])).unwrap();
        let mut reader = LogReader::open(&path, None).unwrap();
        assert_eq!(texts(&mut reader), ["good\n"]);
        let rest = format!("{}\n", &record[20..]);
        io::Write::write_all(&mut File::options().append(true).open(&path).unwrap(), rest.as_bytes())
            .unwrap();
        assert_eq!(texts(&mut reader), ["good\n"]);
    }

    #[test]
    fn an_escaped_backslash_is_no_line_end_and_the_last_record_is_a_line() {
        let record = |text: &str| serde_json::json!({"log": text, "stream": "stdout"}).to_string();
        assert!(whole_line(record("a\n").as_bytes()) && whole_line(record("a\\\n").as_bytes()));
        assert!(!whole_line(record("a\\n").as_bytes()) && !whole_line(record("a").as_bytes()));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.json");
        let mut log = Log::new(path.clone(), &LogConfig::default());
        log.append(Stream::Stdout, b"a\nb");
        log.finish();
        assert_eq!(texts(&mut LogReader::open(&path, Some(1)).unwrap()), ["b"]);
    }

    #[test]
    fn what_was_written_just_before_a_rotation_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.json");
        let mut log = Log::new(path.clone(), &LogConfig::default());
        log.append(Stream::Stdout, b"1\n");
        let mut reader = LogReader::open(&path, None).unwrap();
        assert_eq!(texts(&mut reader), ["1\n"]);
        log.append(Stream::Stdout, b"2\n");
        std::fs::rename(&path, rotated(&path, 1)).unwrap();
        let mut log = Log::new(path.clone(), &LogConfig::default());
        log.append(Stream::Stdout, b"3\n");
        std::fs::rename(rotated(&path, 1), rotated(&path, 2)).unwrap();
        // In the middle of the next rotation: the file of age 1 is missing for a moment.
        assert_eq!(texts(&mut reader), ["2\n", "3\n"]);
    }
}
