//! Where other commands find a container's supervisor.
//!
//! On Unix a socket in the container's run directory, which is its owner's alone (0700). On Windows, where the standard
//! library has no such socket, a loopback port and a random token, both in a file of that directory.

use std::io::{self, Read, Write};
use std::path::Path;

/// A connection that two threads can use.
pub(super) trait Connection: Read + Write + Send {
    /// A second handle of it.
    fn second(&self) -> io::Result<Box<dyn Connection>>;
    /// How long a read waits for bytes; `None`: for ever.
    fn set_patience(&self, limit: Option<std::time::Duration>) -> io::Result<()>;
}

#[cfg(unix)]
mod system {
    use std::fs::File;
    use std::os::unix::net::{UnixListener, UnixStream};

    use std::path::PathBuf;

    use super::{Connection, Path, io};

    const NAME: &str = "socket";

    impl Connection for UnixStream {
        fn second(&self) -> io::Result<Box<dyn Connection>> {
            Ok(Box::new(self.try_clone()?))
        }

        fn set_patience(&self, limit: Option<std::time::Duration>) -> io::Result<()> {
            self.set_read_timeout(limit)
        }
    }

    /// The listening end.
    #[derive(Debug)]
    pub(in super::super) struct Endpoint(UnixListener);

    /// A path for the socket's address that is short however deep the directory lies (an address has 108 bytes); valid
    /// while the directory stays open.
    fn address(run: &Path) -> io::Result<(Option<File>, PathBuf)> {
        let plain = run.join(NAME);
        if plain.as_os_str().len() < 100 || !cfg!(target_os = "linux") {
            return Ok((None, plain));
        }
        let dir = File::open(run)?;
        let path = format!("/proc/self/fd/{}/{NAME}", std::os::fd::AsRawFd::as_raw_fd(&dir));
        Ok((Some(dir), path.into()))
    }

    impl Endpoint {
        pub(in super::super) fn bind(run: &Path) -> io::Result<Self> {
            let (_dir, path) = address(run)?;
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            UnixListener::bind(&path).map(Self)
        }

        pub(in super::super) fn accept(&self) -> io::Result<Box<dyn Connection>> {
            Ok(Box::new(self.0.accept()?.0))
        }
    }

    pub(in super::super) fn connect(run: &Path) -> io::Result<Box<dyn Connection>> {
        let (_dir, path) = address(run)?;
        Ok(Box::new(UnixStream::connect(path)?))
    }
}

#[cfg(windows)]
mod system {
    use std::net::{Ipv4Addr, TcpListener, TcpStream};

    use super::{Connection, Path, Read, Write, io};

    const NAME: &str = "endpoint";

    impl Connection for TcpStream {
        fn second(&self) -> io::Result<Box<dyn Connection>> {
            Ok(Box::new(self.try_clone()?))
        }

        fn set_patience(&self, limit: Option<std::time::Duration>) -> io::Result<()> {
            self.set_read_timeout(limit)
        }
    }

    /// The listening end.
    #[derive(Debug)]
    pub(in super::super) struct Endpoint {
        listener: TcpListener,
        token: String,
    }

    impl Endpoint {
        pub(in super::super) fn bind(run: &Path) -> io::Result<Self> {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            let mut random = [0; 32];
            getrandom::fill(&mut random).map_err(io::Error::other)?;
            let token = hex::encode(random);
            std::fs::write(run.join(NAME), format!("{} {token}", listener.local_addr()?.port()))?;
            Ok(Self { listener, token })
        }

        pub(in super::super) fn accept(&self) -> io::Result<Box<dyn Connection>> {
            loop {
                let (mut stream, _) = self.listener.accept()?;
                stream.set_read_timeout(Some(std::time::Duration::from_secs(1)))?;
                let mut token = [0; 64];
                if stream.read_exact(&mut token).is_ok() && token == *self.token.as_bytes() {
                    stream.set_read_timeout(None)?;
                    return Ok(Box::new(stream));
                }
            }
        }
    }

    pub(in super::super) fn connect(run: &Path) -> io::Result<Box<dyn Connection>> {
        let text = std::fs::read_to_string(run.join(NAME))?;
        let (port, token) = text.split_once(' ').ok_or(io::ErrorKind::InvalidData)?;
        let port: u16 = port.parse().map_err(io::Error::other)?;
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.write_all(token.as_bytes())?;
        Ok(Box::new(stream))
    }
}

pub(super) use system::{Endpoint, connect};
