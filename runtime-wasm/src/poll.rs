//! `poll_oneoff` of WASI p1: a sleep that an interrupt ends, and the number of bytes that are there to be read.
//!
//! wasmtime-wasi sleeps with the thread when file calls may block it, which this crate allows (a guest has its own thread, and every file
//! call would otherwise cross to another one). Such a sleep cannot be interrupted, so the commonest case, one relative timer, is done here;
//! all other polls go to wasmtime-wasi's own function, which waits in the runtime. It tells 1 for every file that is ready:
//! what the specification asks for (`event_fd_readwrite.nbytes`) is put in afterwards.

use std::fs::File;
use std::time::Duration;

use wasmtime::Caller;
use wasmtime_wasi::p1::wasi_snapshot_preview1;
use wiggle::GuestMemory;

use crate::stdio;
use crate::wasi::P1;

/// Sleeps up to this long hold the thread, which is exact to microseconds; the runtime's timer counts milliseconds.
const EXACT: Duration = Duration::from_millis(10);
/// Bytes of a subscription and of an event, and what both are aligned to.
const SUBSCRIPTION: usize = 48;
const EVENT: usize = 32;
const ALIGNED: usize = 8;
/// How many clocks there are.
const CLOCKS: u32 = 4;
/// `eventtype`: something can be read.
const READS: u8 = 1;
/// `filetype`: a regular file.
const REGULAR: u8 = 4;

/// Arguments as the function has them: subscriptions, events, how many, and where the number of events goes.
pub(crate) type Arguments = (i32, i32, i32, i32);

/// Waits for one of several events (`witx/preview1`, `poll_oneoff`).
pub(crate) async fn poll_oneoff(mut caller: Caller<'_, P1>, args: Arguments) -> wasmtime::Result<i32> {
    let (subscriptions, events, count, written) = args;
    let (data, state) = P1::parts(&mut caller)?;
    if count == 1
        && let Some((userdata, duration)) = relative(data, subscriptions)
    {
        if duration <= EXACT {
            std::thread::sleep(duration);
        } else {
            tokio::time::sleep(duration).await;
        }
        // One event: the caller's word, errno 0, type 0 (clock), and zeroes for what files would report.
        let mut event = [0; EVENT];
        event[..8].copy_from_slice(&userdata);
        let done =
            put(data, events, ALIGNED, &event).and_then(|()| put(data, written, 4, &1_u32.to_le_bytes()));
        // Of the specification's rules for pointers: the function shall trap.
        return done.map(|()| 0).ok_or_else(|| wasmtime::Error::msg("poll_oneoff: no pointer to an event"));
    }
    // Events may be written over what was asked.
    let asked = reading(data, subscriptions, count);
    let mut memory = GuestMemory::Unshared(&mut *data);
    let (wasi, stdin) = (&mut state.wasi, state.stdin.as_deref());
    let errno =
        wasi_snapshot_preview1::poll_oneoff(wasi, &mut memory, subscriptions, events, count, written).await?;
    if errno == 0 && !asked.is_empty() {
        let happened = at::<4>(data, written, 4).and_then(|bytes| number_of(bytes)).unwrap_or(0);
        for index in 0..usize::try_from(happened)? {
            let Some(event) = data.get_mut(index_of(events, index * EVENT)..) else { break };
            tell(event, &asked, wasi, stdin).await?;
        }
    }
    Ok(errno)
}

/// One descriptor that is waited for, by the word that its event will bear.
type Asked = ([u8; 8], u32);

/// The descriptors from which somebody wants to read.
fn reading(data: &[u8], subscriptions: i32, count: i32) -> Vec<Asked> {
    let start = index_of(subscriptions, 0);
    let all = data.get(start..).unwrap_or_default().chunks_exact(SUBSCRIPTION);
    all.take(index_of(count, 0))
        .filter(|subscription| subscription[8] == READS)
        .filter_map(|subscription| Some((*subscription.first_chunk()?, number_of(&subscription[16..])?)))
        .collect()
}

/// Puts the number of bytes into an event of one that can be read.
async fn tell(
    event: &mut [u8],
    asked: &[Asked],
    wasi: &mut wasmtime_wasi::p1::WasiP1Ctx,
    stdin: Option<&File>,
) -> wasmtime::Result<()> {
    let Some(event) = event.first_chunk_mut::<EVENT>() else { return Ok(()) };
    if event[10] != READS || event[8..10] != [0, 0] {
        return Ok(());
    }
    let Some((_, fd)) = asked.iter().find(|(userdata, _)| *userdata == event[..8]) else { return Ok(()) };
    if let Some(bytes) = available(*fd, wasi, stdin).await? {
        event[16..24].copy_from_slice(&bytes.to_le_bytes());
    }
    Ok(())
}

/// How many bytes can be read; `None` where nobody knows.
async fn available(
    fd: u32,
    wasi: &mut wasmtime_wasi::p1::WasiP1Ctx,
    stdin: Option<&File>,
) -> wasmtime::Result<Option<u64>> {
    // The descriptor's own functions write into a memory, here one of ours: a `filestat`, and a position.
    let mut room = [0_u8; 64 + 8 + ALIGNED];
    let start = room.as_ptr().align_offset(ALIGNED);
    let Some(room) = room.get_mut(start..start + 72) else { return Ok(None) };
    let fd = fd.cast_signed();
    let mut memory = GuestMemory::Unshared(&mut *room);
    if wasi_snapshot_preview1::fd_filestat_get(wasi, &mut memory, fd, 0).await? != 0 {
        return Ok(None);
    }
    if room[16] != REGULAR {
        // Zero is standard input, unless the guest renumbered something onto it; then it is a file.
        return Ok(stdin.filter(|_| fd == 0).and_then(stdio::readable));
    }
    let mut memory = GuestMemory::Unshared(&mut *room);
    if wasi_snapshot_preview1::fd_tell(wasi, &mut memory, fd, 64)? != 0 {
        return Ok(None);
    }
    let number = |at: usize| room[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    Ok(Some(number(32).saturating_sub(number(64))))
}

/// Reads a subscription when it is a clock's and its time a distance from now. What else is wrong with one, wasmtime-wasi says.
fn relative(data: &[u8], subscription: i32) -> Option<([u8; 8], Duration)> {
    let subscription: &[u8; SUBSCRIPTION] = at(data, subscription, ALIGNED)?;
    let number = |at: usize| subscription[at..].first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
    let is_clock = subscription[8] == 0 && number_of(&subscription[16..])? < CLOCKS;
    let is_relative = subscription[40..42] == [0; 2];
    let userdata = *subscription.first_chunk()?;
    (is_clock && is_relative).then_some((userdata, Duration::from_nanos(number(24)?)))
}

fn number_of(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

fn index_of(pointer: i32, more: usize) -> usize {
    (pointer.cast_unsigned() as usize).saturating_add(more)
}

/// What a pointer points to.
fn at<const N: usize>(data: &[u8], pointer: i32, aligned: usize) -> Option<&[u8; N]> {
    let start = index_of(pointer, 0);
    if !start.is_multiple_of(aligned) {
        return None;
    }
    data.get(start..)?.first_chunk()
}

fn put(data: &mut [u8], pointer: i32, aligned: usize, bytes: &[u8]) -> Option<()> {
    let start = index_of(pointer, 0);
    if !start.is_multiple_of(aligned) {
        return None;
    }
    data.get_mut(start..start.checked_add(bytes.len())?)?.copy_from_slice(bytes);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_relative_clock_is_a_sleep() {
        let mut clock = [0_u8; SUBSCRIPTION];
        clock[0] = 9;
        clock[24] = 5;
        assert_eq!(relative(&clock, 0), Some(([9, 0, 0, 0, 0, 0, 0, 0], Duration::from_nanos(5))));
        for (at, value) in [(8, 1), (8, 2), (16, 4), (17, 1), (40, 1), (40, 2), (41, 1)] {
            let mut other = clock;
            other[at] = value;
            assert_eq!(relative(&other, 0), None, "{at}");
        }
        for at in [1, 48, -1] {
            assert_eq!(relative(&clock, at), None, "{at}");
        }
        // Not aligned.
        assert_eq!(relative(&[[0; 4].as_slice(), &clock].concat(), 4), None);
        assert_eq!(put(&mut [0; 4], -4, 4, &[1]), None);
        assert_eq!(put(&mut [0; 4], 1, 2, &[1]), None);
    }

    #[test]
    fn only_what_is_to_be_read_is_counted() {
        let mut asked = [0_u8; 2 * SUBSCRIPTION];
        asked[SUBSCRIPTION] = 7;
        asked[SUBSCRIPTION + 8] = READS;
        asked[SUBSCRIPTION + 16] = 5;
        assert_eq!(reading(&asked, 0, 2), [([7, 0, 0, 0, 0, 0, 0, 0], 5)]);
        assert_eq!(reading(&asked, 0, 1), []);
        assert_eq!(reading(&asked, -1, 1), []);
    }
}
