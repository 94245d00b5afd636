//! A terminal with `umiak` on it, and a hand that types.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::host::Host;

/// A running command and its terminal.
pub(crate) struct Typed {
    master: File,
    child: Child,
    seen: Arc<Mutex<String>>,
}

impl Typed {
    /// Runs `umiak` on a terminal of this size.
    pub(crate) fn run(host: &Host, size: (u16, u16), args: &[&str]) -> Self {
        Self::on(host.command(args), size)
    }

    /// Runs a command on a terminal of this size.
    pub(crate) fn on(mut command: Command, (rows, cols): (u16, u16)) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&master).and_then(|()| unlockpt(&master)).expect("a terminal");
        let name = ptsname(&master, Vec::new()).expect("its name");
        let size = Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&master, size).expect("its size");
        let open = || {
            let file = File::options()
                .read(true)
                .write(true)
                .open(name.to_str().expect("a path"))
                .expect("it opens");
            Stdio::from(OwnedFd::from(file))
        };
        let child = command.stdin(open()).stdout(open()).stderr(open()).spawn().expect("the command starts");
        // It holds the other end open, and the end would never be seen.
        drop(command);
        let master = File::from(master);
        let seen = Arc::new(Mutex::new(String::new()));
        let (mut from, to) = (master.try_clone().expect("a second handle"), Arc::clone(&seen));
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = from.read(&mut buffer) {
                to.lock().expect("no panic").push_str(&String::from_utf8_lossy(&buffer[..read]));
            }
        });
        Self { master, child, seen }
    }

    /// Types.
    pub(crate) fn type_in(&mut self, keys: &[u8]) {
        self.master.write_all(keys).expect("typed");
    }

    /// What the terminal showed so far.
    pub(crate) fn shown(&self) -> String {
        self.seen.lock().expect("no panic").clone()
    }

    /// Whether the terminal is in raw mode.
    pub(crate) fn is_raw(&self) -> bool {
        let modes = rustix::termios::tcgetattr(&self.master).expect("its modes").local_modes;
        !modes.contains(rustix::termios::LocalModes::ICANON)
    }

    /// Waits for the command's end; its exit status and everything that was shown.
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        super::super::cli::until("the command ends", || self.child.try_wait().expect("wait").is_some());
        let status = self.child.wait().expect("wait").code();
        // What was written last may still be on its way to the reader.
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert!(!self.is_raw(), "the terminal was left raw: {}", self.shown());
        (status, self.shown())
    }

    /// The command's process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}
