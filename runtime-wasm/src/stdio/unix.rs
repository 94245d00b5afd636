//! Standard streams on Unix: level-triggered `poll` for the answer, tokio's poller for the wait.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::FileType;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use wasmtime_wasi::cli::{IsTerminal, StdinStream, StdoutStream};
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

use super::{Broken, shown_as_terminal};

/// What a pipe that polls writable takes without blocking on every Unix (`_POSIX_PIPE_BUF`); Linux has a page.
const PIPE_ROOM: usize = if cfg!(target_os = "linux") { 4096 } else { 512 };
/// The most one read or write of a regular file moves.
const CHUNK: usize = 64 << 10;

/// How many bytes a read would give now; `None` for devices that do not tell.
pub(crate) fn readable(file: &File) -> Option<u64> {
    rustix::io::ioctl_fionread(file).ok()
}

impl Broken {
    fn error(self, error: io::Error) -> StreamError {
        if self == Self::Closed && error.kind() == io::ErrorKind::BrokenPipe {
            return StreamError::Closed;
        }
        StreamError::LastOperationFailed(error.into())
    }
}

/// One stream; clones share the file and its registration.
#[derive(Clone)]
pub(crate) struct Stdio(Arc<Inner>);

struct Inner {
    file: Arc<File>,
    /// Absent where waiting makes no sense (regular files) or is impossible.
    waits: bool,
    terminal: bool,
    broken: Broken,
    /// Made at the first wait: most programs never wait.
    poller: OnceLock<Option<AsyncFd<Arc<File>>>>,
}

impl Stdio {
    pub(crate) fn new(file: Arc<File>, terminal: bool, broken: Broken) -> Self {
        let waits = rustix::fs::fstat(&*file).is_ok_and(|stat| {
            matches!(
                FileType::from_raw_mode(stat.st_mode),
                FileType::Fifo | FileType::Socket | FileType::CharacterDevice
            )
        });
        let terminal = shown_as_terminal(&file, terminal);
        Self(Arc::new(Inner { file, waits, terminal, broken, poller: OnceLock::new() }))
    }

    /// Whether a read (or write) would return at once.
    fn prompt(&self, flags: PollFlags) -> bool {
        if !self.0.waits {
            return true;
        }
        let mut fds = [PollFd::from_borrowed_fd(self.0.file.as_fd(), flags)];
        // A failing poll is answered by the read or write itself.
        poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|count| count > 0)
    }

    fn poller(&self) -> Option<&AsyncFd<Arc<File>>> {
        #[expect(
            deprecated,
            reason = "its successor is unsafe for types that may change their descriptor; a File keeps its own for life"
        )]
        let make =
            || AsyncFd::with_interest(Arc::clone(&self.0.file), Interest::READABLE | Interest::WRITABLE).ok();
        self.0.poller.get_or_init(make).as_ref()
    }

    fn poll_prompt(&self, cx: &mut Context<'_>, flags: PollFlags) -> Poll<()> {
        loop {
            if self.prompt(flags) {
                return Poll::Ready(());
            }
            // A device the poller does not take (kqueue and some terminals): the call itself blocks then.
            let Some(poller) = self.poller() else { return Poll::Ready(()) };
            let reads = flags.contains(PollFlags::IN);
            let Ok(mut guard) =
                ready!(if reads { poller.poll_read_ready(cx) } else { poller.poll_write_ready(cx) })
            else {
                return Poll::Ready(());
            };
            // The poller reports edges, `poll` the state: forget an edge whose data is gone, keep waiting for the next.
            if self.prompt(flags) {
                return Poll::Ready(());
            }
            guard.clear_ready();
        }
    }

    /// Whether the same call may do what it is to do a moment later: a signal came, or somebody else who has the file was faster.
    fn passes(&self, error: &io::Error) -> bool {
        error.kind() == io::ErrorKind::Interrupted
            || error.kind() == io::ErrorKind::WouldBlock && self.0.waits && !self.blocks()
    }

    fn blocks(&self) -> bool {
        self.0.poller().is_none()
    }
}

impl Inner {
    fn poller(&self) -> Option<&AsyncFd<Arc<File>>> {
        self.poller.get().and_then(Option::as_ref)
    }
}

/// A stream with the direction the guest uses it in.
struct Direction<const READS: bool>(Stdio);

impl<const READS: bool> Direction<READS> {
    const FLAGS: PollFlags = if READS { PollFlags::IN } else { PollFlags::OUT };

    /// Whether the next call returns at once, or has to block because the file cannot be waited for.
    fn may_call(&self) -> bool {
        self.0.prompt(Self::FLAGS) || (self.0.0.poller.get().is_some() && self.0.blocks())
    }
}

#[async_trait::async_trait]
impl<const READS: bool> Pollable for Direction<READS> {
    async fn ready(&mut self) {
        std::future::poll_fn(|cx| self.0.poll_prompt(cx, Self::FLAGS)).await;
    }
}

#[async_trait::async_trait]
impl InputStream for Direction<true> {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        if size == 0 || !self.may_call() {
            return Ok(Bytes::new());
        }
        let mut buffer = BytesMut::zeroed(size.min(CHUNK));
        loop {
            match (&*self.0.0.file).read(&mut buffer) {
                Ok(0) => return Err(StreamError::Closed),
                Ok(count) => {
                    buffer.truncate(count);
                    return Ok(buffer.freeze());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Bytes::new()),
                Err(error) => return Err(StreamError::LastOperationFailed(error.into())),
            }
        }
    }
}

#[async_trait::async_trait]
impl OutputStream for Direction<false> {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        (&*self.0.0.file).write_all(&bytes).map_err(|error| self.0.0.broken.error(error))
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(if !self.may_call() {
            0
        } else if self.0.0.waits {
            PIPE_ROOM
        } else {
            CHUNK
        })
    }
}

impl AsyncRead for Direction<true> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.poll_prompt(cx, PollFlags::IN));
            match (&*self.0.0.file).read(buf.initialize_unfilled()) {
                Ok(count) => {
                    buf.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if self.0.passes(&error) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Direction<false> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_prompt(cx, PollFlags::OUT));
            match (&*self.0.0.file).write(&buf[..buf.len().min(PIPE_ROOM)]) {
                Err(error) if self.0.passes(&error) => {}
                outcome => return Poll::Ready(outcome),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl IsTerminal for Stdio {
    fn is_terminal(&self) -> bool {
        self.0.terminal
    }
}

impl StdinStream for Stdio {
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        Box::new(Direction::<true>(self.clone()))
    }

    fn p2_stream(&self) -> Box<dyn InputStream> {
        Box::new(Direction::<true>(self.clone()))
    }
}

impl StdoutStream for Stdio {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(Direction::<false>(self.clone()))
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(Direction::<false>(self.clone()))
    }
}
