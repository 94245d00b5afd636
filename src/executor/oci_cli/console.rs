//! The socket by which a runtime hands over a terminal.
//!
//! Invariant: its address is short however deep the bundle lies (an address has 108 bytes), because it goes through a
//! descriptor of this process. Only root can reach it: the bundle's directory is its owner's alone.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use super::file_error;
use crate::executor::{ExecError, WindowSize};

/// How long a runtime that has said that all is well may take to hand the terminal over.
const PATIENCE: Duration = Duration::from_secs(5);

/// The listening end.
#[derive(Debug)]
pub(super) struct Console {
    listener: UnixListener,
    dir: File,
    name: String,
    path: PathBuf,
}

impl Console {
    pub(super) fn listen(home: &Path, name: String) -> Result<Self, ExecError> {
        let path = home.join(&name);
        let make = || {
            let dir = File::open(home)?;
            let listener = UnixListener::bind(format!("/proc/self/fd/{}/{name}", dir.as_raw_fd()))?;
            listener.set_nonblocking(true)?;
            Ok((listener, dir))
        };
        let (listener, dir) = make().map_err(file_error("making the terminal's socket", &path))?;
        Ok(Self { listener, dir, name, path })
    }

    /// Its address for another process.
    pub(super) fn address(&self) -> String {
        format!("/proc/{}/fd/{}/{}", std::process::id(), self.dir.as_raw_fd(), self.name)
    }

    /// The terminal, which the runtime has sent by now, with this size.
    pub(super) fn take(self, size: WindowSize) -> Result<OwnedFd, ExecError> {
        let received = self.receive().and_then(|terminal| {
            let size =
                rustix::termios::Winsize { ws_row: size.rows, ws_col: size.cols, ws_xpixel: 0, ws_ypixel: 0 };
            rustix::termios::tcsetwinsize(&terminal, size)?;
            Ok(terminal)
        });
        received.map_err(file_error("receiving the terminal from the runtime", &self.path))
    }

    fn receive(&self) -> io::Result<OwnedFd> {
        let stream = self.accept()?;
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        // The message itself is the terminal's name, which says nothing here.
        let mut name = [0; 4096];
        recvmsg(&stream, &mut [IoSliceMut::new(&mut name)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
        let fds = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        });
        let terminal = fds.flatten().next().ok_or_else(|| io::Error::other("no terminal came"))?;
        if rustix::termios::isatty(&terminal) {
            Ok(terminal)
        } else {
            Err(io::Error::other("what came is no terminal"))
        }
    }

    fn accept(&self) -> io::Result<std::os::unix::net::UnixStream> {
        let end = std::time::Instant::now() + PATIENCE;
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => return Ok(stream),
                Err(error)
                    if error.kind() == io::ErrorKind::WouldBlock && std::time::Instant::now() < end =>
                {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(error) => return Err(error),
            }
        }
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        let _gone = std::fs::remove_file(&self.path);
    }
}
