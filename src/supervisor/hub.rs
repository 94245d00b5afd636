//! The clients of one supervisor, and what is sent to them.

use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::logs::{Log, Stream};
use super::protocol::{Event, Frame};

/// A client that gets events.
pub(super) struct Client {
    /// Where to write.
    pub(super) to: Box<dyn Write + Send>,
    /// Whether it gets the output too.
    pub(super) output: bool,
}

/// All clients and the log.
pub(super) struct Hub {
    clients: Mutex<Vec<Client>>,
    log: Mutex<Log>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hub {
    pub(super) fn new(log: Log) -> Self {
        Self { clients: Mutex::default(), log: Mutex::new(log) }
    }

    pub(super) fn add(&self, client: Client) {
        lock(&self.clients).push(client);
    }

    /// Output of the container: to the log, then to whoever is attached.
    pub(super) fn output(&self, stream: Stream, bytes: &[u8]) {
        lock(&self.log).append(stream, bytes);
        let event = match stream {
            Stream::Stdout => Event::Stdout(bytes.to_vec()),
            Stream::Stderr => Event::Stderr(bytes.to_vec()),
        };
        self.send(&event, |client| client.output);
    }

    pub(super) fn finish_log(&self) {
        lock(&self.log).finish();
    }

    /// An event for every client. One that cannot be written to has gone, and is forgotten.
    pub(super) fn announce(&self, event: &Event) {
        self.send(event, |_| true);
    }

    /// Tells the attached client that a frame of its input was passed on.
    pub(super) fn acknowledge(&self) {
        self.send(&Event::StdinTaken, |client| client.output);
    }

    fn send(&self, event: &Event, wanted: impl Fn(&Client) -> bool) {
        lock(&self.clients).retain_mut(|client| !wanted(client) || event.send(&mut client.to).is_ok());
    }
}
