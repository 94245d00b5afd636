//! A guest's terminal: a pair of pseudo-terminals, of which the guest gets the far end as its three streams.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::executor::{ExecError, Terminal, WindowSize};
use crate::model::ErrorKind;

/// The host's end of a terminal.
#[derive(Debug)]
pub(super) struct Pty(OwnedFd);

/// A terminal and the guest's three streams.
pub(super) fn open(size: WindowSize) -> Result<(Pty, [File; 3]), ExecError> {
    pair(size).map_err(|error| ExecError::failed(ErrorKind::Unavailable, "making the terminal", error))
}

fn pair(size: WindowSize) -> io::Result<(Pty, [File; 3])> {
    let host = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
    rustix::io::fcntl_setfd(&host, rustix::io::FdFlags::CLOEXEC)?;
    grantpt(&host)?;
    unlockpt(&host)?;
    let name = ptsname(&host, Vec::new())?;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let guest = File::from(rustix::fs::open(name.as_c_str(), flags, Mode::empty())?);
    tcsetwinsize(&host, winsize(size))?;
    let streams = [guest.try_clone()?, guest.try_clone()?, guest];
    Ok((Pty(host), streams))
}

fn winsize(size: WindowSize) -> Winsize {
    Winsize { ws_row: size.rows, ws_col: size.cols, ws_xpixel: 0, ws_ypixel: 0 }
}

impl Terminal for Pty {
    fn stream(&self) -> Result<File, ExecError> {
        self.0
            .try_clone()
            .map(File::from)
            .map_err(|error| ExecError::failed(ErrorKind::Unavailable, "opening the terminal", error))
    }

    fn resize(&self, size: WindowSize) -> Result<(), ExecError> {
        tcsetwinsize(&self.0, winsize(size)).map_err(|error| {
            ExecError::failed(ErrorKind::Internal, "resizing the terminal", io::Error::from(error))
        })
    }
}
