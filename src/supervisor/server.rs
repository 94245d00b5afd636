//! The supervisor's own process: makes the task, passes streams on, waits, records the end.

use std::error::Error;
use std::fs::File;
use std::io::{Read, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

use super::endpoint::{Connection, Endpoint};
use super::files;
use super::hub::{Client, Hub};
use super::logs::{Log, Stream};
use super::protocol::{Event, Failure, Frame, Launch, Request, STDIN_WINDOW};
use super::{Liveness, SupervisorError, log_path};
use crate::executor::{self, Create, ExecError, Executor, Exit, Process, Settings, Stdio, Task, WindowSize};
use crate::model::{ErrorKind, Kind, RunState, RuntimeStatus, Timestamp};
use crate::state::Database;
use crate::store::Store;

/// How long after the container's end its output may still be on its way.
const DRAIN: Duration = Duration::from_secs(2);

/// What the client threads ask the main loop to do.
enum Command {
    Signal(u8, oneshot::Sender<Result<(), Failure>>),
    Resize(WindowSize),
}

/// The role's entry point: the launch comes as the first frame on standard input, events go to standard output.
pub fn main() -> ExitCode {
    #[cfg(unix)]
    // A session of its own: the terminal's signals are for the client. It fails only for a group's leader.
    let _ = rustix::process::setsid();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "supervisor: {}", describe(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error and its causes on one line.
fn describe(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

fn run() -> Result<(), SupervisorError> {
    let (mut from, to) = files::standard_streams().map_err(SupervisorError::system("opening the streams"))?;
    let Some(Request::Launch(launch)) = Request::receive(&mut from)? else {
        return Err(super::protocol::ProtocolError::Type(0).into());
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(SupervisorError::system("starting the event loop"))?;
    let hub = Arc::new(Hub::new(Log::new(log_path(&launch.dir))));
    hub.add(Client { to: Box::new(to), output: launch.attach });
    // The blocking threads of the runtime must not hold the end up.
    let outcome = runtime.block_on(supervise(*launch, from, Arc::clone(&hub)));
    runtime.shutdown_background();
    if let Err(failure) = outcome {
        hub.announce(&Event::Failed(failure));
    }
    Ok(())
}

fn failure(error: &(impl Kind + 'static)) -> Failure {
    Failure { kind: error.kind(), message: describe(error), hints: error.hints() }
}

/// The container's life, from the lock to the last record.
async fn supervise(launch: Launch, client: File, hub: Arc<Hub>) -> Result<(), Failure> {
    let fail = |error: SupervisorError| failure(&error);
    let alive = Liveness::hold(&launch.run).map_err(fail)?;
    let endpoint = Endpoint::bind(&launch.run)
        .map_err(SupervisorError::file("listening in", &launch.run))
        .map_err(fail)?;
    let executor = open_executor(&launch).map_err(|error| failure(&error))?;
    let mut record = Record::open(launch)?;
    let (task, streams) = match begin(&record.launch, executor.as_ref(), &hub).await {
        Ok(begun) => begun,
        Err(error) => {
            let failure = failure(&error);
            record.not_started(&failure);
            return Err(failure);
        }
    };
    record.started(task.pid());
    hub.announce(&Event::Started);
    let (commands, inbox) = unbounded_channel();
    serve_client(Box::new(ClientPipe(client)), Arc::clone(&hub), commands.clone(), streams.stdin.clone());
    serve_endpoint(endpoint, Arc::clone(&hub), commands, streams.stdin);
    let exit = attend(task.as_ref(), inbox).await;
    drain(streams.readers).await;
    hub.finish_log();
    record.exited(exit);
    hub.announce(&Event::Exited(exit));
    // Its processes are dead. Removing control groups takes the kernel milliseconds for which nobody need wait; whoever
    // wants the container itself (`rm`, another start) waits for the lock.
    if let Err(error) = task.delete().await {
        tracing::warn!(error = describe(&error), "freeing the container's task");
    }
    // The container is gone, and whoever waits for this lock need not wait for a disk.
    drop(alive);
    record.settle();
    Ok(())
}

fn open_executor(launch: &Launch) -> Result<Box<dyn Executor>, ExecError> {
    let settings = Settings {
        exe: launch.exe.clone(),
        cache: launch.root.join("cache"),
        guest_memory: launch.guest_memory,
    };
    let name = launch.container.executor.name.as_str();
    match executor::entries().into_iter().find(|entry| entry.name == name) {
        Some(entry) => (entry.open)(&settings),
        None => Err(ExecError::failed(
            ErrorKind::Unsupported,
            "choosing the executor",
            executor::SelectError::Unknown {
                name: name.to_owned(),
                known: executor::entries().iter().map(|entry| entry.name).collect(),
            },
        )),
    }
}

/// What the supervisor keeps of the container's streams.
struct Streams {
    stdin: Input,
    readers: Readers,
}

/// Says `None` when the last thread that reads output has ended.
type Readers = tokio::sync::mpsc::Receiver<std::convert::Infallible>;

/// Held by a thread that reads output.
type Reading = tokio::sync::mpsc::Sender<std::convert::Infallible>;

/// The queue to the thread that writes the container's standard input; `None` is its end.
type Input = SyncSender<Option<Vec<u8>>>;

/// Makes the task, begins to read its output, and starts it.
async fn begin(
    launch: &Launch,
    executor: &dyn Executor,
    hub: &Arc<Hub>,
) -> Result<(Box<dyn Task>, Streams), ExecError> {
    let pipes = |error| ExecError::failed(ErrorKind::Unavailable, "making the container's pipes", error);
    let config = &launch.container.config;
    let (stdio, input, outputs) = if config.tty {
        (Stdio::Terminal(launch.window.unwrap_or(WindowSize { rows: 24, cols: 80 })), None, Vec::new())
    } else {
        let (stdin, input) = if config.open_stdin {
            let (reader, writer) = files::pipe().map_err(pipes)?;
            (reader, Some(writer))
        } else {
            (files::null().map_err(pipes)?, None)
        };
        let (out_reader, stdout) = files::pipe().map_err(pipes)?;
        let (err_reader, stderr) = files::pipe().map_err(pipes)?;
        (
            Stdio::Files { stdin, stdout, stderr },
            input,
            vec![(Stream::Stdout, out_reader), (Stream::Stderr, err_reader)],
        )
    };
    let task = executor.create(create_request(launch, stdio)).await?;
    let (input, outputs) = match terminal_streams(task.as_ref(), config.open_stdin) {
        None => (input, outputs),
        Some(Ok((input, output))) => (input, vec![(Stream::Stdout, output)]),
        Some(Err(error)) => {
            task.delete().await?;
            return Err(error);
        }
    };
    let (reading, readers) = tokio::sync::mpsc::channel(1);
    for (stream, from) in outputs {
        read_output(stream, from, hub, reading.clone());
    }
    drop(reading);
    let queue = write_input(input, hub);
    if let Err(error) = task.start().await {
        task.delete().await?;
        return Err(error);
    }
    Ok((task, Streams { stdin: queue, readers }))
}

type TerminalFiles = Result<(Option<File>, File), ExecError>;

fn terminal_streams(task: &dyn Task, interactive: bool) -> Option<TerminalFiles> {
    let terminal = task.terminal()?;
    Some((|| {
        let input = if interactive { Some(terminal.stream()?) } else { None };
        Ok((input, terminal.stream()?))
    })())
}

fn create_request(launch: &Launch, stdio: Stdio) -> Create {
    let container = &launch.container;
    let config = &container.config;
    Create {
        id: container.id.clone(),
        root: launch.rootfs.clone(),
        scratch: launch.run.clone(),
        process: Process {
            args: config.args(),
            env: config.env.clone(),
            cwd: if config.working_dir.is_empty() { "/".into() } else { config.working_dir.clone() },
            user: config.user.clone(),
        },
        hostname: if config.hostname.is_empty() {
            container.id.short().to_owned()
        } else {
            config.hostname.clone()
        },
        domainname: config.domainname.clone(),
        host: container.host.clone(),
        mounts: launch.mounts.clone(),
        joins: launch.joins.clone(),
        stdio,
    }
}

fn read_output(stream: Stream, mut from: File, hub: &Arc<Hub>, reading: Reading) {
    let hub = Arc::clone(hub);
    std::thread::spawn(move || {
        let mut buffer = vec![0; 32 * 1024];
        let _until_the_end = reading;
        loop {
            match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => hub.output(stream, &buffer[..n]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                // A terminal whose other end is closed reads as EIO.
                Err(_) => break,
            }
        }
    });
}

/// Starts the thread that alone may wait for the container to read its input.
fn write_input(to: Option<File>, hub: &Arc<Hub>) -> Input {
    // One place more than clients may fill, for the end of the input: if that were lost, the container would wait for ever.
    let (queue, chunks): (Input, Receiver<_>) = sync_channel(STDIN_WINDOW + 1);
    let Some(mut to) = to else { return queue };
    let hub = Arc::clone(hub);
    std::thread::spawn(move || {
        for chunk in chunks {
            let Some(bytes) = chunk else { break };
            let written = to.write_all(&bytes);
            hub.acknowledge();
            if written.is_err() {
                break;
            }
        }
    });
    queue
}

/// Carries out commands until the task ends.
async fn attend(task: &dyn Task, mut inbox: UnboundedReceiver<Command>) -> Exit {
    let end = task.wait();
    tokio::pin!(end);
    loop {
        tokio::select! {
            exit = &mut end => return exit.unwrap_or_else(|error| {
                tracing::error!(error = describe(&error), "waiting for the container");
                Exit { code: 255, oom_killed: false }
            }),
            Some(command) = inbox.recv() => match command {
                Command::Signal(number, reply) => {
                    let outcome = task.signal(number).await.map_err(|error| failure(&error));
                    let _ = reply.send(outcome);
                }
                Command::Resize(size) => {
                    if let Some(Err(error)) = task.terminal().map(|terminal| terminal.resize(size)) {
                        tracing::warn!(error = describe(&error), "resizing the terminal");
                    }
                }
            },
        }
    }
}

/// Waits for the readers' end. Nearly always they have ended by now; a stream that something outside the container holds open
/// is given up.
async fn drain(mut readers: Readers) {
    let _late = tokio::time::timeout(DRAIN, readers.recv()).await;
}

/// The record that this supervisor keeps true.
struct Record {
    launch: Launch,
    database: Database,
    state: RunState,
}

impl Record {
    fn open(launch: Launch) -> Result<Self, Failure> {
        let database = Database::open(&launch.root).map_err(|error| failure(&error))?;
        let state = launch.container.state.clone();
        Ok(Self { launch, database, state })
    }

    /// One supervisor in four, by the chance of its id, spares the commands that follow a long journal.
    fn settle(&self) {
        if self.launch.container.id.as_str().starts_with(['0', '4', '8', 'c'])
            && let Err(error) = self.database.settle()
        {
            tracing::warn!(error = describe(&error), "settling the database's journal");
        }
    }

    fn write(&self) {
        if let Err(error) = self.database.set_run_state(&self.launch.container.id, &self.state) {
            tracing::error!(error = describe(&error), "recording the container's state");
        }
    }

    fn started(&mut self, pid: u32) {
        self.state = RunState {
            status: RuntimeStatus::Running,
            pid,
            started: Some(Timestamp::now()),
            ..RunState::default()
        };
        self.write();
    }

    fn not_started(&mut self, failure: &Failure) {
        self.state.error.clone_from(&failure.message);
        self.state.exit_code = failure.kind.run_status().into();
        self.end();
    }

    fn exited(&mut self, exit: Exit) {
        self.state = RunState {
            status: RuntimeStatus::Exited,
            pid: 0,
            exit_code: exit.code,
            oom_killed: exit.oom_killed,
            finished: Some(Timestamp::now()),
            error: String::new(),
            ..self.state.clone()
        };
        self.end();
    }

    /// Records the end, or with `--rm` removes the container.
    fn end(&self) {
        let id = &self.launch.container.id;
        if !self.launch.container.host.auto_remove {
            self.write();
            return;
        }
        let files = Store::open(&self.launch.root).and_then(|store| store.snapshots().remove(id));
        if let Err(error) = files {
            tracing::error!(error = describe(&error), "removing the container's files");
        }
        if let Err(error) = self.database.remove_container(id) {
            tracing::error!(error = describe(&error), "removing the container's record");
        }
        let _ = std::fs::remove_dir_all(&self.launch.run);
    }
}

/// The pipe from the client that launched: it is only read; what it hears goes another way.
struct ClientPipe(File);

fn serve_endpoint(endpoint: Endpoint, hub: Arc<Hub>, commands: UnboundedSender<Command>, stdin: Input) {
    std::thread::spawn(move || {
        while let Ok(connection) = endpoint.accept() {
            serve_client(Box::new(connection), Arc::clone(&hub), commands.clone(), stdin.clone());
        }
    });
}

/// One side of a client: where requests come from, and where their answers go.
trait Requests: Send {
    fn next(&mut self) -> Option<Request>;
    fn answer(&mut self, event: &Event);
    /// A handle for events that come later.
    fn listener(&mut self) -> Option<Box<dyn Write + Send>>;
}

impl Requests for ClientPipe {
    fn next(&mut self) -> Option<Request> {
        Request::receive(&mut self.0).ok().flatten()
    }
    fn answer(&mut self, _: &Event) {}
    fn listener(&mut self) -> Option<Box<dyn Write + Send>> {
        None
    }
}

impl Requests for Box<dyn Connection> {
    fn next(&mut self) -> Option<Request> {
        Request::receive(self).ok().flatten()
    }
    fn answer(&mut self, event: &Event) {
        let _ = event.send(self);
    }
    fn listener(&mut self) -> Option<Box<dyn Write + Send>> {
        Some(Box::new(Second(self.second().ok()?)))
    }
}

struct Second(Box<dyn Connection>);

impl Write for Second {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

fn serve_client(
    mut client: Box<dyn Requests>,
    hub: Arc<Hub>,
    commands: UnboundedSender<Command>,
    stdin: Input,
) {
    std::thread::spawn(move || {
        while let Some(request) = client.next() {
            match request {
                Request::Launch(_) => break,
                Request::Stdin(bytes) => {
                    if stdin.try_send(Some(bytes)).is_err() {
                        // The container's input is closed, or the client sends more than its window: it is dropped.
                        hub.acknowledge();
                    }
                }
                Request::StdinEnd => drop(stdin.try_send(None)),
                Request::Resize(size) => drop(commands.send(Command::Resize(size))),
                Request::Wait => {
                    if let Some(to) = client.listener() {
                        hub.add(Client { to, output: false });
                    }
                }
                Request::Signal(number) => {
                    let (reply, outcome) = oneshot::channel();
                    let sent = commands.send(Command::Signal(number, reply)).is_ok();
                    let outcome = if sent { outcome.blocking_recv().ok() } else { None };
                    client.answer(&match outcome {
                        Some(Ok(())) => Event::Done,
                        Some(Err(failure)) => Event::Failed(failure),
                        None => Event::Failed(failure(&ExecError::NotRunning)),
                    });
                }
            }
        }
    });
}
