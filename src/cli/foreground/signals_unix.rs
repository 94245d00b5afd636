//! Signals that the command passes on to its process, or that end the command itself.
//!
//! A thread of its own with a small event loop: handlers may not block, and the main thread is busy with the container's
//! output. Signals are taken over before the container starts, so that none falls between.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::terminal;
use crate::engine::Control;

/// Signals that are passed on, with their numbers on Linux: the protocol speaks Linux on every host.
fn proxied() -> [(SignalKind, u8); 9] {
    [
        (SignalKind::hangup(), 1),
        (SignalKind::interrupt(), 2),
        (SignalKind::quit(), 3),
        (SignalKind::user_defined1(), 10),
        (SignalKind::user_defined2(), 12),
        (SignalKind::alarm(), 14),
        (SignalKind::terminate(), 15),
        (SignalKind::io(), 29),
        (SignalKind::from_raw(rustix::process::Signal::CONT.as_raw()), 18),
    ]
}

/// The signals that would end the command, were they not taken over.
const FATAL: [u8; 4] = [1, 2, 3, 15];

/// Takes signals over; they are passed on once the process's control arrives by the returned channel. Without a proxy
/// `on_fatal` is told of those that are meant to end the command.
pub(super) fn take_over(
    proxy: bool,
    tty: bool,
    on_fatal: Option<impl Fn(u8) -> bool + Send + 'static>,
) -> io::Result<Option<Sender<Control>>> {
    if !proxy && !tty {
        return Ok(None);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let entered = runtime.enter();
    let mut streams = Vec::new();
    if proxy {
        for (kind, number) in proxied() {
            streams.push((signal(kind)?, Some(number)));
        }
    }
    if on_fatal.is_some() {
        for (kind, number) in proxied().into_iter().filter(|(_, number)| FATAL.contains(number)) {
            streams.push((signal(kind)?, Some(number)));
        }
    }
    if tty {
        streams.push((signal(SignalKind::window_change())?, None));
    }
    drop(entered);
    let (to, from) = channel();
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || pass_on(&runtime, streams, &from, on_fatal.as_ref()))?;
    Ok(Some(to))
}

fn pass_on(
    runtime: &tokio::runtime::Runtime,
    mut streams: Vec<(Signal, Option<u8>)>,
    from: &Receiver<Control>,
    on_fatal: Option<&impl Fn(u8) -> bool>,
) {
    let Ok(control) = from.recv() else { return };
    runtime.block_on(async {
        loop {
            let (number, open) = std::future::poll_fn(|context| {
                for (stream, number) in &mut streams {
                    if let std::task::Poll::Ready(arrived) = stream.poll_recv(context) {
                        return std::task::Poll::Ready((*number, arrived.is_some()));
                    }
                }
                std::task::Poll::Pending
            })
            .await;
            let heard = match (number, on_fatal) {
                (Some(number), Some(tell)) => tell(number),
                (Some(number), None) => control.signal(number),
                (None, _) => terminal::size().is_none_or(|size| control.resize(size)),
            };
            if !open || !heard {
                return;
            }
        }
    });
}
