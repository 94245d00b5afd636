//! Signals where there are none but Ctrl-C: it is passed on as SIGINT.

use std::io;
use std::sync::mpsc::{Sender, channel};

use crate::engine::Control;

/// Takes Ctrl-C over; it is passed on once the container's control arrives by the returned channel.
pub(super) fn take_over(
    proxy: bool,
    _tty: bool,
    _on_fatal: Option<impl Fn(u8) -> bool + Send + 'static>,
) -> io::Result<Option<Sender<Control>>> {
    if !proxy {
        return Ok(None);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (to, from) = channel::<Control>();
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        let Ok(control) = from.recv() else { return };
        runtime.block_on(async { while tokio::signal::ctrl_c().await.is_ok() && control.signal(2) {} });
    })?;
    Ok(Some(to))
}
