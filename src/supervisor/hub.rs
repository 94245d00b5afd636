//! The clients of one supervisor, and what is sent to them.
//!
//! Every client has a queue and a thread that writes it, so that one which does not read holds up nobody else. The client
//! that launched the container in the foreground is the exception that users expect, and so is that of an `exec`: its queue
//! is short and the process waits for it, as for a full pipe. Whoever attached later and lags too far is told so and let go.
//! The end waits for nobody to be recorded, and the supervisor's process then for whoever still reads.
//!
//! The log is written first, and never waits for a client.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::logs::{Log, Stream};
use super::protocol::{Event, Failure, Frame};
use crate::model::ErrorKind;

/// How far the client that launched may lag before the container waits for it, in bytes.
const PATIENT: usize = 256 << 10;

/// How far any other may lag before it is let go, in bytes.
const BACKLOG: usize = 16 << 20;

/// Enough for a thread that writes or reads frames, in bytes.
pub(super) const STACK: usize = 192 << 10;

/// How long the end waits for a client that takes nothing.
const FLUSH: Duration = Duration::from_secs(5);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The way to one client.
#[derive(Debug)]
pub(super) struct Outlet {
    state: Mutex<Backlog>,
    moved: Condvar,
    patient: bool,
}

#[derive(Debug, Default)]
struct Backlog {
    frames: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Nothing more is taken.
    closed: bool,
    /// Nobody reads any more.
    gone: bool,
    /// A frame is being written.
    writing: bool,
    /// The process has ended: nothing waits for this client any more, and what is left to say is little.
    released: bool,
}

impl Outlet {
    /// A way to a client; `patient`: senders of output wait while it lags.
    pub(super) fn new(to: impl Write + Send + 'static, patient: bool) -> Arc<Self> {
        let outlet = Arc::new(Self { state: Mutex::default(), moved: Condvar::new(), patient });
        let writer = Arc::clone(&outlet);
        let begun = std::thread::Builder::new().stack_size(STACK).spawn(move || writer.write(to));
        if let Err(error) = begun {
            tracing::warn!(%error, "no thread for a client");
            lock(&outlet.state).gone = true;
        }
        outlet
    }

    fn write(&self, mut to: impl Write) {
        loop {
            let mut state = lock(&self.state);
            let frame = loop {
                if let Some(frame) = state.frames.pop_front() {
                    break frame;
                }
                if state.closed {
                    return;
                }
                state = self.moved.wait(state).unwrap_or_else(PoisonError::into_inner);
            };
            state.writing = true;
            drop(state);
            let written = to.write_all(&frame).and_then(|()| to.flush());
            let mut state = lock(&self.state);
            state.writing = false;
            state.bytes -= frame.len();
            if written.is_err() {
                state.gone = true;
                state.frames.clear();
                state.bytes = 0;
            }
            let gone = state.gone;
            drop(state);
            self.moved.notify_all();
            if gone {
                return;
            }
        }
    }

    fn push(&self, event: &Event, state: &mut Backlog) {
        let mut frame = Vec::new();
        if event.send(&mut frame).is_ok() {
            state.bytes += frame.len();
            state.frames.push_back(frame);
            self.moved.notify_all();
        }
    }

    /// An event that is never waited for; false when the client has gone.
    pub(super) fn tell(&self, event: &Event) -> bool {
        let mut state = lock(&self.state);
        if state.gone || state.closed {
            return false;
        }
        self.push(event, &mut state);
        true
    }

    /// Output: waits for a patient client, lets another go that lags. False when nothing more can be sent.
    pub(super) fn output(&self, event: &Event) -> bool {
        let mut state = lock(&self.state);
        while self.patient && state.bytes > PATIENT && !state.gone && !state.released {
            state = self.moved.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.gone || state.closed {
            return false;
        }
        if !self.patient && state.bytes > BACKLOG {
            let slow = Failure {
                kind: ErrorKind::Unavailable,
                message: "this client reads too slowly and was detached; the container runs on".to_owned(),
                hints: vec!["what was missed is in `umiak logs`".to_owned()],
            };
            self.push(&Event::Failed(slow), &mut state);
            state.closed = true;
            return false;
        }
        self.push(event, &mut state);
        true
    }

    /// The process has ended: what it left in its pipes is taken at once, however slowly the client reads.
    pub(super) fn release(&self) {
        lock(&self.state).released = true;
        self.moved.notify_all();
    }

    /// Takes nothing more; what is there is still written.
    pub(super) fn close(&self) {
        lock(&self.state).closed = true;
        self.moved.notify_all();
    }

    /// Waits until everything so far is written, as long as the client reads.
    pub(super) fn written(&self) {
        self.drain(false);
    }

    /// Takes nothing more, and waits until everything is written: a patient client as long as it takes, another as long as it
    /// reads.
    pub(super) fn flush(&self) {
        self.close();
        self.drain(self.patient);
    }

    fn drain(&self, as_long_as_it_takes: bool) {
        let mut end = Instant::now() + FLUSH;
        let mut state = lock(&self.state);
        let mut before = state.bytes;
        while !state.gone && (state.writing || !state.frames.is_empty()) {
            if state.bytes < before {
                (before, end) = (state.bytes, Instant::now() + FLUSH);
            }
            if as_long_as_it_takes {
                state = self.moved.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self.moved.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// A client that hears of the container.
#[derive(Debug)]
struct Client {
    to: Arc<Outlet>,
    output: bool,
}

/// All clients and the log.
pub(super) struct Hub {
    clients: Mutex<Vec<Client>>,
    /// The ways to clients of `exec`, which hear of their own process alone.
    sessions: Mutex<Vec<Arc<Outlet>>>,
    log: Mutex<Log>,
    /// How many requests are being carried out and answered.
    asked: Mutex<usize>,
    answered: Condvar,
}

/// Somebody waits for an answer until this is dropped.
pub(super) struct Answering<'a>(&'a Hub);

impl Drop for Answering<'_> {
    fn drop(&mut self) {
        *lock(&self.0.asked) -= 1;
        self.0.answered.notify_all();
    }
}

impl Hub {
    pub(super) fn new(log: Log) -> Self {
        Self {
            clients: Mutex::default(),
            sessions: Mutex::default(),
            log: Mutex::new(log),
            asked: Mutex::default(),
            answered: Condvar::new(),
        }
    }

    /// A request is being carried out: the end of the supervisor waits until its answer is given.
    pub(super) fn answering(&self) -> Answering<'_> {
        *lock(&self.asked) += 1;
        Answering(self)
    }

    /// Waits until every request has its answer, as long as somebody reads it.
    fn settle(&self) {
        let asked = lock(&self.asked);
        let _outcome = self.answered.wait_timeout_while(asked, FLUSH, |asked| *asked > 0);
    }

    /// The end of the supervisor waits for this client of an `exec` as well, until [`Self::forget`].
    pub(super) fn remember(&self, to: &Arc<Outlet>) {
        lock(&self.sessions).push(Arc::clone(to));
    }

    /// The client of an `exec` has everything, or has gone.
    pub(super) fn forget(&self, to: &Arc<Outlet>) {
        lock(&self.sessions).retain(|known| !Arc::ptr_eq(known, to));
    }

    /// From now on the client hears of start and end, and with `output` what the container writes.
    pub(super) fn add(&self, to: &Arc<Outlet>, output: bool) {
        let mut clients = lock(&self.clients);
        match clients.iter_mut().find(|client| Arc::ptr_eq(&client.to, to)) {
            Some(known) => known.output |= output,
            None => clients.push(Client { to: Arc::clone(to), output }),
        }
    }

    /// Output of the container: to the log, then to whoever is attached.
    pub(super) fn output(&self, stream: Stream, bytes: &[u8]) {
        lock(&self.log).append(stream, bytes);
        let listeners: Vec<_> =
            lock(&self.clients).iter().filter(|client| client.output).map(|c| Arc::clone(&c.to)).collect();
        if listeners.is_empty() {
            return;
        }
        let event = match stream {
            Stream::Stdout => Event::Stdout(bytes.to_vec()),
            Stream::Stderr => Event::Stderr(bytes.to_vec()),
        };
        // Those that wait for nobody first, so that none of them waits for one that makes the container wait.
        for patient in [false, true] {
            for to in listeners.iter().filter(|to| to.patient == patient) {
                if !to.output(&event) {
                    lock(&self.clients).retain(|client| !Arc::ptr_eq(&client.to, to));
                }
            }
        }
    }

    pub(super) fn finish_log(&self) {
        lock(&self.log).finish();
    }

    /// An event for every client. One that cannot be written to has gone, and is forgotten.
    pub(super) fn announce(&self, event: &Event) {
        lock(&self.clients).retain(|client| client.to.tell(event));
    }

    /// The container has ended: nothing waits for a client any more.
    pub(super) fn release(&self) {
        for client in lock(&self.clients).iter() {
            client.to.release();
        }
    }

    /// Tells every client of an end after which the container begins anew, and lets go of them: whoever waited for an end has
    /// one, and whoever was attached was attached to what ended.
    pub(super) fn dismiss(&self, event: &Event) {
        for client in std::mem::take(&mut *lock(&self.clients)) {
            client.to.tell(event);
            client.to.close();
        }
    }

    /// Waits until every client has what was sent to it.
    pub(super) fn flush(&self) {
        self.settle();
        for client in std::mem::take(&mut *lock(&self.clients)) {
            client.to.flush();
        }
        for session in std::mem::take(&mut *lock(&self.sessions)) {
            session.flush();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, Sender, channel};

    /// Writes block until the receiver is dropped or takes them.
    struct Gate(Sender<Vec<u8>>, Receiver<()>);

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.1.recv().map_err(|_| std::io::ErrorKind::BrokenPipe)?;
            self.0.send(bytes.to_vec()).map_err(|_| std::io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn hub() -> Hub {
        Hub::new(Log::new("/nowhere/log".into(), &crate::model::LogConfig::default()))
    }

    #[test]
    fn a_client_that_lags_is_told_and_let_go_and_others_get_everything() {
        let hub = hub();
        let (seen, got) = channel();
        let (open, gate) = channel();
        let slow = Outlet::new(Gate(seen, gate), false);
        hub.add(&slow, true);
        let chunk = vec![b'x'; 1 << 20];
        for _ in 0..20 {
            hub.output(Stream::Stdout, &chunk);
        }
        assert!(lock(&hub.clients).is_empty());
        for _ in 0..40 {
            let _ = open.send(());
        }
        let frames: Vec<_> = got.iter().collect();
        let last = Event::receive(&mut frames.last().unwrap().as_slice()).unwrap().unwrap();
        assert!(matches!(last, Event::Failed(failure) if failure.message.contains("too slowly")));
    }

    #[test]
    fn the_end_reaches_a_patient_client_however_late_it_reads() {
        let hub = hub();
        let (seen, got) = channel();
        let (open, gate) = channel();
        hub.add(&Outlet::new(Gate(seen, gate), true), true);
        hub.output(Stream::Stdout, b"first");
        hub.announce(&Event::Started);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..2 {
                    open.send(()).unwrap();
                }
            });
            hub.flush();
        });
        assert_eq!(got.iter().count(), 2);
    }

    #[test]
    fn the_end_waits_until_what_was_asked_is_answered() {
        let hub = hub();
        let (seen, got) = channel();
        let (open, gate) = channel();
        let client = Outlet::new(Gate(seen, gate), false);
        let answering = hub.answering();
        std::thread::scope(|scope| {
            let end = scope.spawn(|| hub.flush());
            client.tell(&Event::Done);
            open.send(()).unwrap();
            client.written();
            assert_eq!(got.try_iter().count(), 1);
            assert!(!end.is_finished());
            drop(answering);
        });
        assert_eq!(*lock(&hub.asked), 0);
    }

    #[test]
    fn what_a_process_left_is_taken_from_it_at_its_end_however_slowly_the_client_reads() {
        let hub = hub();
        let (seen, got) = channel();
        let (open, gate) = channel();
        let slow = Outlet::new(Gate(seen, gate), true);
        hub.add(&slow, true);
        let chunk = vec![b'x'; PATIENT];
        std::thread::scope(|scope| {
            let writes = scope.spawn(|| (0..8).for_each(|_| hub.output(Stream::Stdout, &chunk)));
            hub.release();
            // Without a single read of the client.
            writes.join().unwrap();
            for _ in 0..8 {
                open.send(()).unwrap();
            }
            hub.flush();
        });
        drop(hub);
        drop(slow);
        assert_eq!(got.iter().map(|frame| frame.len() - 5).sum::<usize>(), 8 * PATIENT);
    }
}
