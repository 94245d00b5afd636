//! Frames between a supervisor and its clients: one byte of type, four bytes of length (big endian), the payload.
//!
//! Output and input travel as they are, everything else as JSON. Both ends are the same binary, or two versions of it after
//! an upgrade: an unknown type is an error, never skipped.

use std::fmt;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::executor::{Exit, Joins, Mount, Process, Prospect, Root, Settings, Stats, WindowSize};
use crate::model::{Container, EndpointSettings, ErrorKind, Resources, RestartPolicy};

/// The largest payload, in bytes.
///
/// More than Linux takes as arguments and environment of one process (a quarter of the stack's limit, at most 6 MiB).
pub const MAX_PAYLOAD: usize = 16 << 20;

/// How many frames of input a client may send that were not acknowledged.
pub const STDIN_WINDOW: usize = 8;

/// What a supervisor that waits for its launch can get ready for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outlook {
    /// The executor's name.
    pub executor: String,
    /// Its settings.
    pub settings: Settings,
    /// What will be run.
    pub prospect: Prospect,
}

/// Everything a supervisor is told at birth.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// The store's root.
    pub root: PathBuf,
    /// The container's run directory.
    pub run: PathBuf,
    /// The container's directory in the store (its log is there).
    pub dir: PathBuf,
    /// The container's record.
    pub container: Container,
    /// What its executor needs to know.
    pub settings: Settings,
    /// Whether the user who started it is an ordinary one.
    pub rootless: bool,
    /// Its root file system.
    pub rootfs: Root,
    /// What to mount into it.
    pub mounts: Vec<Mount>,
    /// The containers whose namespaces it shares.
    pub joins: Joins,
    /// The size of the client's terminal.
    pub window: Option<WindowSize>,
    /// Whether the client that launches wants the output.
    pub attach: bool,
}

/// A wish to be attached to a container that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachOrder {
    /// What this client sends is input, and its end may close the container's input.
    pub stdin: bool,
    /// This client gets the output from now on.
    pub output: bool,
}

/// A wish that a container stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopOrder {
    /// The signal, by its Linux number; `None`: the container's own stop signal.
    pub signal: Option<u8>,
    /// Seconds until it is killed; negative: never; `None`: the container's own, else 10.
    pub timeout: Option<i64>,
    /// It is to be started again: `--rm` does not remove it now.
    #[serde(default)]
    pub keep: bool,
    /// The host goes down: it is no wish of the user's that the container stays stopped.
    #[serde(default)]
    pub shutdown: bool,
}

/// A wish that a further process runs in the container. The connection is that process's from then on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecOrder {
    /// What to run, its environment over the container's.
    pub process: Process,
    /// A terminal of this size; `None`: pipes.
    pub terminal: Option<WindowSize>,
    /// Keep its input open for this client.
    pub stdin: bool,
    /// Nobody listens: answer when it has started, and let go.
    pub detach: bool,
    /// `--privileged`.
    pub privileged: bool,
}

/// A wish that limits or the restart policy change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateOrder {
    /// What is set changes.
    pub resources: Resources,
    /// The new policy, if it changes.
    pub restart: Option<RestartPolicy>,
}

/// A wish that a container's networks change while it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkOrder {
    /// One more.
    Connect {
        /// Its id.
        network: String,
        /// What is asked of it.
        settings: EndpointSettings,
    },
    /// One less.
    Disconnect {
        /// Its id.
        network: String,
    },
}

/// A failure that crossed the process boundary: its class, its chain as text, and what to try.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The class.
    pub kind: ErrorKind,
    /// What was being done, to what, and why it failed.
    pub message: String,
    /// What to try.
    pub hints: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// What a client says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// The first frame of the client that made the supervisor, but for what it can get ready for.
    Launch(Box<Launch>),
    /// Bytes for the container's standard input.
    Stdin(Vec<u8>),
    /// The end of the container's standard input.
    StdinEnd,
    /// A signal for the container's first process, by its Linux number.
    Signal(u8),
    /// The client's terminal changed.
    Resize(WindowSize),
    /// Tell me about the end.
    Wait,
    /// Attach this connection.
    Attach(AttachOrder),
    /// End it gently, then not. Answered at once; whoever wants to know of the end asks with [`Request::Wait`] first.
    Stop(StopOrder),
    /// Freeze it.
    Pause,
    /// Thaw it.
    Unpause,
    /// Run a further process, on this connection.
    Exec(Box<ExecOrder>),
    /// Change limits.
    Update(Box<UpdateOrder>),
    /// Tell what it uses.
    Stats,
    /// Tell what runs in it.
    Processes,
    /// Connect it with a network, or disconnect it.
    Network(Box<NetworkOrder>),
    /// The launch will follow; the container will be in the store with this root.
    Store(PathBuf),
    /// The launch will follow; this is what it will probably be.
    Outlook(Box<Outlook>),
}

/// What a supervisor says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The program runs.
    Started,
    /// Bytes of standard output (or of the terminal).
    Stdout(Vec<u8>),
    /// Bytes of standard error.
    Stderr(Vec<u8>),
    /// One frame of input was passed on.
    StdinTaken,
    /// The request was carried out.
    Done,
    /// The request, or the start, failed.
    Failed(Failure),
    /// The container ended, and everything about it is recorded (or, with `--rm`, gone).
    Exited(Exit),
    /// What the container uses.
    Stats(Box<Stats>),
    /// What runs in it: process ids on the host, the first process first.
    Processes(Vec<u32>),
}

/// Something that is no frame.
#[derive(Debug, thiserror::Error)]
pub enum ProtocolError {
    /// Reading or writing failed.
    #[error("the connection failed")]
    Io(#[from] io::Error),
    /// A type that this version does not know.
    #[error("frame of unknown type {0}")]
    Type(u8),
    /// A length over the limit.
    #[error("frame of {0} bytes, over the limit of {MAX_PAYLOAD}")]
    Size(usize),
    /// A payload that does not parse.
    #[error("malformed frame")]
    Json(#[from] serde_json::Error),
}

/// A message that travels as one frame.
pub trait Frame: Sized {
    /// Its type and payload.
    fn encode(&self) -> Result<(u8, Vec<u8>), ProtocolError>;
    /// The message of a frame.
    fn decode(kind: u8, payload: Vec<u8>) -> Result<Self, ProtocolError>;

    /// Writes it in one call.
    fn send(&self, to: &mut impl Write) -> Result<(), ProtocolError> {
        let (kind, payload) = self.encode()?;
        let length = u32::try_from(payload.len()).ok().filter(|_| payload.len() <= MAX_PAYLOAD);
        let length = length.ok_or(ProtocolError::Size(payload.len()))?;
        let mut frame = Vec::with_capacity(payload.len() + 5);
        frame.push(kind);
        frame.extend_from_slice(&length.to_be_bytes());
        frame.extend_from_slice(&payload);
        to.write_all(&frame)?;
        Ok(to.flush()?)
    }

    /// Reads one; `None` at the end of the connection.
    fn receive(from: &mut impl Read) -> Result<Option<Self>, ProtocolError> {
        let mut head = [0; 5];
        let mut filled = 0;
        while filled < head.len() {
            match from.read(&mut head[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        let [kind, length @ ..] = head;
        let length = u32::from_be_bytes(length) as usize;
        if length > MAX_PAYLOAD {
            return Err(ProtocolError::Size(length));
        }
        let mut payload = vec![0; length];
        from.read_exact(&mut payload)?;
        Self::decode(kind, payload).map(Some)
    }
}

impl Frame for Request {
    fn encode(&self) -> Result<(u8, Vec<u8>), ProtocolError> {
        Ok(match self {
            Self::Launch(launch) => (1, serde_json::to_vec(launch)?),
            Self::Stdin(bytes) => (2, bytes.clone()),
            Self::StdinEnd => (3, Vec::new()),
            Self::Signal(number) => (4, vec![*number]),
            Self::Resize(size) => (5, serde_json::to_vec(size)?),
            Self::Wait => (6, Vec::new()),
            Self::Attach(order) => (7, serde_json::to_vec(order)?),
            Self::Stop(order) => (8, serde_json::to_vec(order)?),
            Self::Pause => (9, Vec::new()),
            Self::Unpause => (10, Vec::new()),
            Self::Exec(order) => (11, serde_json::to_vec(order)?),
            Self::Update(order) => (12, serde_json::to_vec(order)?),
            Self::Stats => (13, Vec::new()),
            Self::Processes => (14, Vec::new()),
            Self::Network(order) => (15, serde_json::to_vec(order)?),
            Self::Store(root) => (17, serde_json::to_vec(root)?),
            Self::Outlook(outlook) => (16, serde_json::to_vec(outlook)?),
        })
    }

    fn decode(kind: u8, payload: Vec<u8>) -> Result<Self, ProtocolError> {
        Ok(match kind {
            1 => Self::Launch(serde_json::from_slice(&payload)?),
            2 => Self::Stdin(payload),
            3 => Self::StdinEnd,
            4 => Self::Signal(*payload.first().ok_or(ProtocolError::Size(0))?),
            5 => Self::Resize(serde_json::from_slice(&payload)?),
            6 => Self::Wait,
            7 => Self::Attach(serde_json::from_slice(&payload)?),
            8 => Self::Stop(serde_json::from_slice(&payload)?),
            9 => Self::Pause,
            10 => Self::Unpause,
            11 => Self::Exec(serde_json::from_slice(&payload)?),
            12 => Self::Update(serde_json::from_slice(&payload)?),
            13 => Self::Stats,
            14 => Self::Processes,
            15 => Self::Network(serde_json::from_slice(&payload)?),
            17 => Self::Store(serde_json::from_slice(&payload)?),
            16 => Self::Outlook(serde_json::from_slice(&payload)?),
            other => return Err(ProtocolError::Type(other)),
        })
    }
}

impl Frame for Event {
    fn encode(&self) -> Result<(u8, Vec<u8>), ProtocolError> {
        Ok(match self {
            Self::Started => (65, Vec::new()),
            Self::Stdout(bytes) => (66, bytes.clone()),
            Self::Stderr(bytes) => (67, bytes.clone()),
            Self::StdinTaken => (68, Vec::new()),
            Self::Done => (69, Vec::new()),
            Self::Failed(failure) => (70, serde_json::to_vec(failure)?),
            Self::Exited(exit) => (71, serde_json::to_vec(exit)?),
            Self::Stats(stats) => (72, serde_json::to_vec(stats)?),
            Self::Processes(ids) => (73, serde_json::to_vec(ids)?),
        })
    }

    fn decode(kind: u8, payload: Vec<u8>) -> Result<Self, ProtocolError> {
        Ok(match kind {
            65 => Self::Started,
            66 => Self::Stdout(payload),
            67 => Self::Stderr(payload),
            68 => Self::StdinTaken,
            69 => Self::Done,
            70 => Self::Failed(serde_json::from_slice(&payload)?),
            71 => Self::Exited(serde_json::from_slice(&payload)?),
            72 => Self::Stats(serde_json::from_slice(&payload)?),
            73 => Self::Processes(serde_json::from_slice(&payload)?),
            other => return Err(ProtocolError::Type(other)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings {
            exe: "/umiak".into(),
            cache: "/cache".into(),
            guest_memory: Some(1),
            interpreted: true,
            own_process: true,
            scratch: "/run/x".into(),
            group_parent: "parent".into(),
            runtime: None,
        }
    }

    #[test]
    fn frames_survive_the_wire() {
        let mut wire = Vec::new();
        let sent = [
            Request::Stdin(b"\0\xff\n".to_vec()),
            Request::StdinEnd,
            Request::Signal(15),
            Request::Resize(WindowSize { rows: 3, cols: 4 }),
            Request::Wait,
            Request::Attach(AttachOrder { stdin: true, output: false }),
            Request::Stop(StopOrder { signal: None, timeout: Some(-1), keep: false, shutdown: false }),
            Request::Pause,
            Request::Unpause,
            Request::Update(Box::new(UpdateOrder { resources: Resources::default(), restart: None })),
            Request::Stats,
            Request::Processes,
            Request::Network(Box::new(NetworkOrder::Disconnect { network: "x".into() })),
            Request::Store("/root".into()),
            Request::Outlook(Box::new(Outlook {
                executor: "wasm".into(),
                settings: settings(),
                prospect: Prospect {
                    layers: vec!["/layer".into()],
                    args: vec!["/a".into(), "b".into()],
                    cwd: "/".into(),
                    fuel: true,
                    offline: true,
                },
            })),
        ];
        for frame in &sent {
            frame.send(&mut wire).unwrap();
        }
        let mut from = wire.as_slice();
        for frame in sent {
            assert_eq!(Request::receive(&mut from).unwrap(), Some(frame));
        }
        assert_eq!(Request::receive(&mut from).unwrap(), None);
    }

    #[test]
    fn what_is_no_frame_is_an_error() {
        for (bytes, what) in [
            (&[99, 0, 0, 0, 0][..], "type"),
            (&[2, 0xff, 0, 0, 0], "size"),
            (&[2, 0, 0, 0, 9, 1], "short payload"),
            (&[2, 0], "short head"),
            (&[4, 0, 0, 0, 0], "no signal"),
            (&[5, 0, 0, 0, 1, b'x'], "json"),
        ] {
            assert!(Request::receive(&mut &bytes[..]).is_err(), "{what}");
        }
    }
}
