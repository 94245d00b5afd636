//! Making a task with its standard streams, and passing the streams on.

use std::fs::File;
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use crate::executor::{Create, ExecError, Executor, NameFiles, Process, Stdio, Task, WindowSize};
use crate::model::{ErrorKind, HostConfig};
use crate::state::Database;
use crate::supervisor::files;
use crate::supervisor::hub::{Hub, Outlet, STACK};
use crate::supervisor::logs::Stream;
use crate::supervisor::network::Networking;
use crate::supervisor::protocol::{Event, Launch, STDIN_WINDOW};

/// How long after the end of a process nothing may come of its output before it is given up.
const DRAIN: Duration = Duration::from_secs(2);

/// More than a process can have left in its pipes, in bytes: what comes after that is somebody else's.
const LEFT: u64 = 4 << 20;

/// How many clients may fill their windows of input at once.
const WRITERS: usize = 16;

/// What is kept of a process's streams.
pub(super) struct Streams {
    pub(super) stdin: Input,
    pub(super) readers: Readers,
}

/// The threads that read a process's output.
pub(super) struct Readers {
    /// Says `None` when the last of them has ended.
    ended: tokio::sync::mpsc::Receiver<std::convert::Infallible>,
    /// How many bytes they have read.
    read: Arc<AtomicU64>,
}

/// Held by a thread that reads output.
#[derive(Clone)]
pub(super) struct Reading {
    _running: tokio::sync::mpsc::Sender<std::convert::Infallible>,
    read: Arc<AtomicU64>,
}

/// What a process's readers share, and what waits for them.
pub(super) fn readers() -> (Reading, Readers) {
    let (running, ended) = tokio::sync::mpsc::channel(1);
    let read = Arc::new(AtomicU64::new(0));
    (Reading { _running: running, read: Arc::clone(&read) }, Readers { ended, read })
}

/// A piece of input, and who is told that it was taken; `None` is the end of the input.
pub(super) type Piece = Option<(Vec<u8>, Arc<Outlet>)>;

/// The queue to the thread that writes a process's standard input.
pub(super) type Input = SyncSender<Piece>;

/// Three streams for a process that has no terminal, and our ends of them.
pub(super) struct Pipes {
    pub(super) stdio: Stdio,
    pub(super) input: Option<File>,
    pub(super) outputs: Vec<(Stream, File)>,
}

/// Pipes; the input is the null device unless it is `open`.
pub(super) fn pipes(open: bool) -> Result<Pipes, ExecError> {
    let failed = |error| ExecError::failed(ErrorKind::Unavailable, "making the process's pipes", error);
    let (stdin, input) = if open {
        let (reader, writer) = files::pipe().map_err(failed)?;
        (reader, Some(writer))
    } else {
        (files::null().map_err(failed)?, None)
    };
    let (out_reader, stdout) = files::pipe().map_err(failed)?;
    let (err_reader, stderr) = files::pipe().map_err(failed)?;
    Ok(Pipes {
        stdio: Stdio::Files { stdin, stdout, stderr },
        input,
        outputs: vec![(Stream::Stdout, out_reader), (Stream::Stderr, err_reader)],
    })
}

/// A process's streams as they are asked for: a terminal, or pipes.
pub(super) fn wanted(terminal: Option<WindowSize>, open: bool) -> Result<Pipes, ExecError> {
    match terminal {
        Some(size) => Ok(Pipes { stdio: Stdio::Terminal(size), input: None, outputs: Vec::new() }),
        None => pipes(open),
    }
}

/// Where a process's input is written, and where what it writes is read.
pub(super) type Ends = (Option<File>, Vec<(Stream, File)>);

/// Our ends of a task's streams: its terminal's where it has one.
pub(super) fn ends(
    task: &dyn Task,
    open: bool,
    input: Option<File>,
    outputs: Vec<(Stream, File)>,
) -> Result<Ends, ExecError> {
    let Some(terminal) = task.terminal() else { return Ok((input, outputs)) };
    let input = if open { Some(terminal.stream()?) } else { None };
    Ok((input, vec![(Stream::Stdout, terminal.stream()?)]))
}

/// Makes the container's task, begins to read its output, and starts it.
pub(super) async fn begin(
    launch: &Launch,
    executor: &dyn Executor,
    hub: &Arc<Hub>,
    networking: &mut Networking,
    database: &Database,
) -> Result<(Box<dyn Task>, Streams), ExecError> {
    let config = &launch.container.config;
    let size = launch.window.unwrap_or(WindowSize { rows: 24, cols: 80 });
    let Pipes { stdio, input, outputs } = wanted(config.tty.then_some(size), config.open_stdin)?;
    let task = executor.create(create_request(launch, networking.name_files()?, stdio)).await?;
    let (input, outputs) = match ends(task.as_ref(), config.open_stdin, input, outputs) {
        Ok(ends) => ends,
        Err(error) => {
            task.delete().await?;
            return Err(error);
        }
    };
    let connected =
        networking.connect(task.network_pid()).and_then(|()| networking.listens(database, task.published()));
    let started = match connected {
        Ok(()) => task.start().await,
        Err(error) => Err(error),
    };
    if let Err(error) = started {
        task.delete().await?;
        return Err(error);
    }
    // It runs while the threads for its streams are made.
    let (reading, readers) = readers();
    for (stream, from) in outputs {
        let hub = Arc::clone(hub);
        read_output(from, reading.clone(), move |bytes| hub.output(stream, bytes));
    }
    drop(reading);
    Ok((task, Streams { stdin: write_input(input), readers }))
}

fn create_request(launch: &Launch, name_files: NameFiles, stdio: Stdio) -> Create {
    let container = &launch.container;
    let config = &container.config;
    Create {
        id: container.id.clone(),
        root: launch.rootfs.clone(),
        scratch: launch.run.clone(),
        process: Process {
            args: config.args(),
            env: config.env.clone(),
            cwd: config.cwd().to_owned(),
            user: config.user.clone(),
        },
        hostname: if config.hostname.is_empty() {
            container.id.short().to_owned()
        } else {
            config.hostname.clone()
        },
        domainname: config.domainname.clone(),
        name_files,
        // With what `-P` adds: an executor may listen on the host itself.
        host: HostConfig { ports: crate::network::wanted_ports(container), ..container.host.clone() },
        mounts: launch.mounts.clone(),
        joins: launch.joins.clone(),
        stdio,
    }
}

/// Starts a thread that reads output to its end.
pub(super) fn read_output(mut from: File, reading: Reading, pass_on: impl Fn(&[u8]) + Send + 'static) {
    let begun = std::thread::Builder::new().stack_size(STACK).spawn(move || {
        // The whole of it: a closure takes only the fields that it names, and the other one tells of the end.
        let reading = reading;
        let mut buffer = vec![0; 32 * 1024];
        loop {
            match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => {
                    reading.read.fetch_add(n as u64, Ordering::Relaxed);
                    pass_on(&buffer[..n]);
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                // A terminal whose other end is closed reads as EIO.
                Err(_) => break,
            }
        }
    });
    if let Err(error) = begun {
        tracing::error!(%error, "no thread for the output of a process: it is lost");
    }
}

/// Starts the thread that alone may wait for the process to read its input.
pub(super) fn write_input(to: Option<File>) -> Input {
    // One place more than clients may fill, for the end of the input: if that were lost, the process would wait for ever.
    let (queue, pieces): (Input, Receiver<Piece>) = sync_channel(STDIN_WINDOW * WRITERS + 1);
    let Some(mut to) = to else { return queue };
    let begun = std::thread::Builder::new().stack_size(STACK).spawn(move || {
        for piece in pieces {
            let Some((bytes, from)) = piece else { break };
            let written = to.write_all(&bytes);
            from.tell(&Event::StdinTaken);
            if written.is_err() {
                break;
            }
        }
    });
    if let Err(error) = begun {
        tracing::error!(%error, "no thread for the input of a process: it gets none");
    }
    queue
}

/// Sends a piece of input on. One that finds the input closed, or no place, is dropped and counts as taken.
pub(super) fn feed(stdin: &Input, bytes: Vec<u8>, from: &Arc<Outlet>) {
    if stdin.try_send(Some((bytes, Arc::clone(from)))).is_err() {
        from.tell(&Event::StdinTaken);
    }
}

/// Waits for the readers' end, once nothing that they pass output to waits for a client. Nearly always they have ended by now;
/// a stream that something outside the process holds open is given up.
pub(super) async fn drain(mut readers: Readers) {
    let begun = readers.read.load(Ordering::Relaxed);
    let mut before = begun;
    while tokio::time::timeout(DRAIN, readers.ended.recv()).await.is_err() {
        let now = readers.read.load(Ordering::Relaxed);
        if now == before || now - begun > LEFT {
            return;
        }
        before = now;
    }
}
