//! What leads ordinary users' containers outside: `pasta` (of passt) passes packets between a device of the container's and sockets of
//! the user's on the host. It is a program of its own, one per container, in the user's own namespace, and ends with the supervisor.
//!
//! The container has copies of the host's addresses and routes; subnets of networks among containers overlap none of them. It cannot reach the host's loopback services: neither by the gateway
//! (`--no-map-gw`) nor by ports of its own loopback device (`-T none -U none`).

use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Access, access};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::ports::{self, Held};
use super::{Connected, Missing, NetworkError, wanted_ports};
use crate::model::{Container, NetworkMode, Protocol, PublishedPort};
use crate::state::Database;

const NAME: &str = "pasta";
const DEVICE: &str = "/dev/net/tun";

/// How long it may take to begin.
const PATIENCE: Duration = Duration::from_secs(20);

/// The largest number of bytes of its last words.
const WORDS: u64 = 4096;

/// Where the program is, if it can work for this user.
pub fn program() -> Result<PathBuf, Missing> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    let candidates = std::env::split_paths(&path).filter(|folder| folder.is_absolute());
    let mut candidates = candidates.map(|folder| folder.join(NAME));
    let found = candidates.find(|path| path.is_file() && access(path, Access::EXEC_OK).is_ok());
    let found = found.ok_or(Missing::Program)?;
    access(DEVICE, Access::READ_OK | Access::WRITE_OK).map_err(|_| Missing::Device)?;
    Ok(found)
}

/// Why nothing can lead containers outside, if that is so.
pub fn none() -> Option<Missing> {
    match program() {
        Err(missing) => Some(missing),
        Ok(_) => addresses().is_empty().then_some(Missing::Route),
    }
}

/// Holds the ports that a container wants, so that one that is taken is told of by its holder's name.
pub fn hold(
    database: &Database,
    container: &Container,
    connected: &[Connected],
) -> Result<Vec<Held>, NetworkError> {
    if container.host.network == NetworkMode::Pasta {
        return ports::all(database, container, &wanted_ports(container), None);
    }
    ports::hold(database, container, connected)
}

/// The host's addresses towards everywhere, which are the container's as well. Nothing is sent.
pub fn addresses() -> Vec<IpAddr> {
    let pairs: [(IpAddr, IpAddr); 2] = [
        (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(198, 51, 100, 1).into()),
        (Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()),
    ];
    let towards = |(from, to): (IpAddr, IpAddr)| -> io::Result<IpAddr> {
        let socket = UdpSocket::bind(SocketAddr::new(from, 0))?;
        socket.connect(SocketAddr::new(to, 9))?;
        Ok(socket.local_addr()?.ip())
    };
    pairs.into_iter().filter_map(|pair| towards(pair).ok()).collect()
}

/// What it is told of the ports of one protocol. A port on all addresses of both versions of IP is one.
fn specifications(published: &[PublishedPort], protocol: Protocol) -> Vec<String> {
    let of = |port: &&PublishedPort| port.protocol == protocol;
    let everywhere = |port: &PublishedPort| {
        let same = |other: &&PublishedPort| {
            other.address.is_unspecified() && (other.protocol, other.host) == (port.protocol, port.host)
        };
        port.address.is_unspecified() && published.iter().filter(same).count() > 1
    };
    let one = |port: &PublishedPort| {
        let ports = format!("{}:{}", port.host, port.container);
        if everywhere(port) { ports } else { format!("{}/{ports}", port.address) }
    };
    let mut all: Vec<_> = published.iter().filter(of).map(one).collect();
    all.dedup();
    if all.is_empty() {
        all.push("none".to_owned());
    }
    all
}

/// A program that passes one container's packets on; it ends when this is dropped, or with this process.
#[derive(Debug)]
pub struct Pasta(Child);

impl Drop for Pasta {
    fn drop(&mut self) {
        // One that has ended by itself is only waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Pasta {
    /// Connects the network namespace of a container's first process by a device of this name. Its log, which it keeps short, is in
    /// `folder`.
    pub fn start(
        pid: u32,
        published: &[PublishedPort],
        folder: &Path,
        device: &str,
    ) -> Result<Self, NetworkError> {
        let what = "connecting the container";
        let program = program().map_err(|missing| NetworkError::NoPasta { what, missing })?;
        let namespace = PathBuf::from(format!("/proc/{pid}/ns/net"));
        // It gives up the right to look at the process, so it gets the namespace itself.
        let namespace = File::open(&namespace).map_err(at("opening", &namespace))?;
        let log = folder.join("pasta.log");
        let mut command = Command::new(&program);
        command
            .args(["--config-net", "--netns", "/proc/self/fd/0", "--no-map-gw", "--ns-ifname", device])
            .args(["--foreground", "--quiet", "--tcp-ns", "none", "--udp-ns", "none"])
            .args(["--pid", "/proc/self/fd/1", "--log-file"])
            .arg(&log);
        for (flag, protocol) in [("--tcp-ports", Protocol::Tcp), ("--udp-ports", Protocol::Udp)] {
            for specification in specifications(published, protocol) {
                command.args([flag, &specification]);
            }
        }
        command.env_clear().current_dir("/");
        command.stdin(namespace).stdout(Stdio::piped()).stderr(Stdio::null());
        let child = runtime_linux::companion::start(command).map_err(at("starting", &program))?;
        let mut pasta = Self(child);
        match pasta.ready() {
            Ok(()) => Ok(pasta),
            Err(error) => {
                let said = last_words(&log).unwrap_or_else(|| error.to_string());
                Err(NetworkError::Pasta { program, said })
            }
        }
    }

    /// Waits until it has ended by itself. Nothing is lost when the wait is given up.
    pub async fn ended(&self) -> io::Result<()> {
        let pid = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::NotFound)?;
        #[expect(
            deprecated,
            reason = "sound for an OwnedFd; its successor is unsafe for every type, and this crate has no unsafe code"
        )]
        let process = AsyncFd::with_interest(pidfd_open(pid, PidfdFlags::empty())?, Interest::READABLE)?;
        process.readable().await.map(drop)
    }

    /// Waits until it has said its number, which is when packets pass.
    fn ready(&mut self) -> io::Result<()> {
        let mut output = self.0.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let time = rustix::event::Timespec::try_from(left).map_err(io::Error::other)?;
            match poll(&mut [PollFd::new(&output, PollFlags::IN)], Some(&time)) {
                Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
                Ok(_) => return output.read_exact(&mut [0]),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> NetworkError {
    let subject = path.display().to_string();
    move |source| NetworkError::Kernel { action, subject, source }
}

/// The last complaint in its log, without the time.
fn last_words(log: &Path) -> Option<String> {
    let mut text = String::new();
    File::open(log).ok()?.take(WORDS).read_to_string(&mut text).ok()?;
    let line = text.lines().rfind(|line| line.contains("ERROR:"))?;
    line.split_once("ERROR:").map(|(_, words)| words.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_told_as_pasta_reads_them() {
        let port = |address: &str, host, protocol| PublishedPort {
            container: 80,
            protocol,
            address: address.parse().unwrap(),
            host,
        };
        let (tcp, udp) = (Protocol::Tcp, Protocol::Udp);
        let both = [port("0.0.0.0", 8080, tcp), port("::", 8080, tcp)];
        assert_eq!(specifications(&both, tcp), ["8080:80"]);
        assert_eq!(specifications(&both, udp), ["none"]);
        let some = [port("0.0.0.0", 8080, tcp), port("127.0.0.1", 53, udp), port("::1", 54, udp)];
        assert_eq!(specifications(&some, tcp), ["0.0.0.0/8080:80"]);
        assert_eq!(specifications(&some, udp), ["127.0.0.1/53:80", "::1/54:80"]);
    }
}
