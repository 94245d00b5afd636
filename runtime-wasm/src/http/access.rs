//! The access log: one line a request on the program's standard output, in the common log format with the time it took.
//!
//! A thread writes, so that a reader who lets the pipe fill holds up no request. It looks a few times a hundredth of a second and writes
//! what has gathered: being woken for each line would cost more than the line. When it falls too far behind, lines are counted instead
//! of kept, and the number is written when it goes on.

use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::{Method, Request, Uri, Version};
use wasmtime_wasi_http::Error;

use super::gather::Gathered;

/// Lines that wait to be written.
const QUEUE: usize = 4096;
/// For how long they gather.
const GATHER: Duration = Duration::from_millis(4);
/// Bytes of one write.
const FULL: usize = 32 << 10;

enum Line {
    Request(Box<(Entry, u64, u128)>),
    Error(String),
    End,
}

/// Where lines go; clones are the same log.
#[derive(Clone)]
pub(super) struct Access(Arc<Inner>);

struct Inner {
    lines: SyncSender<Line>,
    lost: Arc<AtomicU64>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Access {
    pub(super) fn new(stdout: &Arc<File>, stderr: &Arc<File>) -> io::Result<Self> {
        let (lines, queue) = sync_channel(QUEUE);
        let lost = Arc::new(AtomicU64::new(0));
        let (out, errors, missed) = (Arc::clone(stdout), Arc::clone(stderr), Arc::clone(&lost));
        let builder = std::thread::Builder::new().name("wasm-access".to_owned()).stack_size(128 << 10);
        let writer = builder.spawn(move || write(&queue, &out, &errors, &missed))?;
        Ok(Self(Arc::new(Inner { lines, lost, writer: Mutex::new(Some(writer)) })))
    }

    fn send(&self, line: Line) {
        if self.0.lines.try_send(line).is_err() {
            self.0.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Writes to the program's standard error.
    pub(super) fn error(&self, text: &str) {
        self.send(Line::Error(text.to_owned()));
    }

    /// Waits until everything is written.
    pub(super) fn finish(&self) {
        let writer = self.0.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer
            && self.0.lines.send(Line::End).is_ok()
        {
            // It does not panic; and if it did, nothing more can be written.
            let _ = writer.join();
        }
    }
}

fn write(queue: &Receiver<Line>, mut out: &File, mut errors: &File, lost: &AtomicU64) {
    let (mut text, mut clock) = (String::new(), Clock::default());
    while let Ok(first) = queue.recv() {
        if matches!(first, Line::Request(_)) {
            std::thread::sleep(GATHER);
        }
        let mut next = Some(first);
        let mut end = false;
        while let Some(line) = next {
            match line {
                Line::Request(request) => {
                    let (entry, bytes, micros) = *request;
                    entry.line(&mut text, &mut clock, bytes, micros);
                }
                Line::Error(error) => {
                    if let Err(error) = writeln!(errors, "{error}") {
                        tracing::debug!(%error, "standard error does not take a report");
                    }
                }
                Line::End => end = true,
            }
            next = if text.len() < FULL { queue.try_recv().ok() } else { None };
        }
        let missed = lost.swap(0, Ordering::Relaxed);
        if missed > 0 {
            let _ = writeln!(text, "{missed} lines were lost");
        }
        if !text.is_empty()
            && let Err(error) = out.write_all(text.as_bytes())
        {
            tracing::debug!(%error, "standard output does not take the access log");
        }
        text.clear();
        if end {
            return;
        }
    }
}

/// What is known of a request when it comes. It is written by the log's own thread, and here only kept: nothing of it is copied.
#[derive(Debug)]
pub(super) struct Entry {
    peer: SocketAddr,
    method: Method,
    uri: Uri,
    version: Version,
    at: SystemTime,
    pub(super) status: u16,
}

impl Entry {
    pub(super) fn new<B>(peer: SocketAddr, request: &Request<B>) -> Self {
        Self {
            peer,
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            at: SystemTime::now(),
            status: 0,
        }
    }

    fn line(&self, text: &mut String, clock: &mut Clock, bytes: u64, micros: u128) {
        let date = clock.show(self.at.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()));
        let (millis, rest) = (micros / 1000, micros % 1000);
        // Writing to a String cannot fail.
        let _ = write!(text, "{} - - [{date}] \"", self.peer.ip().to_canonical());
        let _ = write!(Plain(text), "{} {} {:?}", self.method, self.uri, self.version);
        let _ = writeln!(text, "\" {} {bytes} {millis}.{rest:03}ms", self.status);
    }
}

/// Takes what a client sent. Whoever reads the log reads no control characters of a client's.
struct Plain<'a>(&'a mut String);

impl fmt::Write for Plain<'_> {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        for c in part.chars() {
            match c {
                '"' | '\\' => self.0.extend(['\\', c]),
                ' '..='~' => self.0.push(c),
                _ => self.0.push('?'),
            }
        }
        Ok(())
    }
}

/// The date of the last line, which is that of the next most of the time.
#[derive(Default)]
struct Clock {
    second: u64,
    shown: String,
}

impl Clock {
    fn show(&mut self, second: u64) -> &str {
        if self.second != second || self.shown.is_empty() {
            (self.second, self.shown) = (second, date(second));
        }
        &self.shown
    }
}

/// As `26/Nov/2026:16:30:00 +0000`.
fn date(seconds: u64) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (mut days, second) = (seconds / 86_400, seconds % 86_400);
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 0;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let name = MONTHS.get(month).unwrap_or(&"Dec");
    format!(
        "{:02}/{name}/{year}:{:02}:{:02}:{:02} +0000",
        days + 1,
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

/// A body that logs its request when it is over, however that happens.
pub(super) struct Logged {
    body: Gathered,
    bytes: u64,
    begun: Instant,
    entry: Option<Entry>,
    access: Access,
}

impl Logged {
    pub(super) fn new(body: Gathered, entry: Entry, begun: Instant, access: Access) -> Self {
        Self { body, bytes: 0, begun, entry: Some(entry), access }
    }
}

impl Drop for Logged {
    fn drop(&mut self) {
        if let Some(entry) = self.entry.take() {
            self.access.send(Line::Request(Box::new((entry, self.bytes, self.begun.elapsed().as_micros()))));
        }
    }
}

impl Body for Logged {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(data) = frame.data_ref()
        {
            self.bytes += data.len() as u64;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "01/Jan/1970:00:00:00 +0000"),
            (951_827_696, "29/Feb/2000:12:34:56 +0000"),
            (1_795_710_600, "26/Nov/2026:16:30:00 +0000"),
            (4_107_542_399, "28/Feb/2100:23:59:59 +0000"),
        ] {
            assert_eq!(date(seconds), text);
        }
    }

    #[test]
    fn a_line_holds_nothing_that_moves_the_readers_cursor() {
        let request = Request::builder().uri("/a%20\"b").method("GET").body(()).unwrap();
        let mut entry = Entry::new("[::ffff:10.0.0.1]:5".parse().unwrap(), &request);
        entry.status = 200;
        let (mut text, mut clock) = (String::new(), Clock::default());
        entry.line(&mut text, &mut clock, 12, 1_002);
        assert!(text.starts_with("10.0.0.1 - - ["), "{text}");
        assert!(text.ends_with("] \"GET /a%20\\\"b HTTP/1.1\" 200 12 1.002ms\n"), "{text}");
        let mut text = String::new();
        write!(Plain(&mut text), "a\u{1b}[2J\r\n\u{e9}").unwrap();
        assert_eq!(text, "a?[2J???");
    }

    #[test]
    fn a_date_is_made_anew_when_the_second_is_another() {
        let mut clock = Clock::default();
        for (second, text) in [
            (0, "01/Jan/1970:00:00:00 +0000"),
            (0, "01/Jan/1970:00:00:00 +0000"),
            (1, "01/Jan/1970:00:00:01 +0000"),
        ] {
            assert_eq!(clock.show(second), text);
        }
    }
}
