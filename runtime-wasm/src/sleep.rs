//! `poll_oneoff` of WASI p1 for the commonest case, one relative timer: a sleep that an interrupt ends.
//!
//! wasmtime-wasi sleeps with the thread when file calls may block it, which this crate allows (a guest has its own thread, and every file
//! call would otherwise cross to another one). Such a sleep cannot be interrupted, so this one replaces it; all other polls
//! go to wasmtime-wasi's own function, which waits in the runtime.

use std::time::Duration;

use wasmtime::{Caller, Extern};
use wasmtime_wasi::p1::wasi_snapshot_preview1;
use wiggle::GuestMemory;

use crate::wasi::P1;

/// `errno::fault`.
const FAULT: i32 = 21;
/// Sleeps up to this long hold the thread, which is exact to microseconds; the runtime's timer counts milliseconds.
const EXACT: Duration = Duration::from_millis(10);

/// Arguments as the function has them: subscriptions, events, how many, and where the number of events goes.
pub(crate) type Arguments = (i32, i32, i32, i32);

/// Waits for one of several events (`witx/preview1`, `poll_oneoff`).
pub(crate) async fn poll_oneoff(mut caller: Caller<'_, P1>, args: Arguments) -> wasmtime::Result<i32> {
    let (subscriptions, events, count, written) = args;
    let Some(Extern::Memory(memory)) = caller.get_export("memory") else {
        return Err(wasmtime::Error::msg("missing required memory export"));
    };
    if count == 1
        && let Some((userdata, duration)) = relative(memory.data(&caller), subscriptions)
    {
        if duration <= EXACT {
            std::thread::sleep(duration);
        } else {
            tokio::time::sleep(duration).await;
        }
        // One event: the caller's word, errno 0, type 0 (clock), and zeroes for what files would report.
        let mut event = [0; 32];
        event[..8].copy_from_slice(&userdata);
        let data = memory.data_mut(&mut caller);
        let done = put(data, events, &event).and_then(|()| put(data, written, &1_u32.to_le_bytes()));
        return Ok(if done.is_some() { 0 } else { FAULT });
    }
    let (data, state) = memory.data_and_store_mut(&mut caller);
    let mut memory = GuestMemory::Unshared(data);
    wasi_snapshot_preview1::poll_oneoff(&mut state.wasi, &mut memory, subscriptions, events, count, written)
        .await
}

/// Reads a subscription when it is a clock's and its time a distance from now.
fn relative(data: &[u8], at: i32) -> Option<([u8; 8], Duration)> {
    let at = at.cast_unsigned() as usize;
    let subscription: &[u8; 48] = data.get(at..at.checked_add(48)?)?.try_into().ok()?;
    let is_clock = subscription[8] == 0;
    let is_absolute = subscription[40] & 1 == 1;
    let userdata = *subscription.first_chunk()?;
    let nanoseconds = u64::from_le_bytes(*subscription[24..].first_chunk()?);
    (is_clock && !is_absolute).then_some((userdata, Duration::from_nanos(nanoseconds)))
}

fn put(data: &mut [u8], at: i32, bytes: &[u8]) -> Option<()> {
    let at = at.cast_unsigned() as usize;
    data.get_mut(at..at.checked_add(bytes.len())?)?.copy_from_slice(bytes);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_relative_clock_is_a_sleep() {
        let mut clock = [0_u8; 48];
        clock[0] = 9;
        clock[24] = 5;
        assert_eq!(relative(&clock, 0), Some(([9, 0, 0, 0, 0, 0, 0, 0], Duration::from_nanos(5))));
        for (at, value) in [(8, 1), (8, 2), (40, 1)] {
            let mut other = clock;
            other[at] = value;
            assert_eq!(relative(&other, 0), None, "{at}");
        }
        for at in [1, 48, -1] {
            assert_eq!(relative(&clock, at), None, "{at}");
        }
        assert_eq!(put(&mut [0; 4], -4, &[1]), None);
    }
}
