//! The supervisor's own process: makes the task, passes streams on, waits, starts it again, records the end.
//!
//! One thread decides ([`attend`]): it alone knows the task and the record. Threads hear clients and move bytes; what they
//! want comes to it as [`Command`]s, and nothing that it awaits holds another command up.

mod clients;
mod probe;
mod record;
mod session;
mod streams;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::oneshot;

use super::endpoint::Endpoint;
use super::files;
use super::health;
use super::hub::{Hub, Outlet};
use super::logs::Log;
use super::network::Networking;
use super::protocol::{
    Event, Failure, Frame, Launch, NetworkOrder, Outlook, Request, StopOrder, UpdateOrder,
};
use super::restart::{Decision, Restart};
use super::{Liveness, SupervisorError, log_path};
use crate::executor::{self, ExecError, Executor, Exit, Process, Refusal, Settings, Stats, Task, WindowSize};
use crate::model::{self, Container, ErrorKind, HealthProbe, Kind, chain};
use crate::state::Database;
use clients::Desk;
use record::Record;
use session::Session;

/// Seconds between the stop signal and the kill, unless the user or the container says otherwise.
const STOP_TIMEOUT: i64 = 10;

/// How long after the container's end the processes of `exec` have to end as well.
const LAST_WORDS: Duration = Duration::from_secs(2);

const SIGKILL: u8 = 9;
const SIGTERM: u8 = 15;

type Reply<T> = oneshot::Sender<Result<T, Failure>>;

/// What the client threads ask the main loop to do.
enum Command {
    Signal(u8, Reply<()>),
    Resize(WindowSize),
    Stop(StopOrder, Reply<()>),
    Pause(bool, Reply<()>),
    Exec(Box<Session>),
    Update(Box<UpdateOrder>, Reply<()>),
    Stats(Reply<Stats>),
    Processes(Reply<Vec<u32>>),
    Network(Box<NetworkOrder>, Reply<()>),
}

/// The role's entry point: the launch comes as the first frame on standard input, events go to standard output.
pub fn main() -> ExitCode {
    #[cfg(unix)]
    // A session of its own: the terminal's signals are for the client. It fails only for a group's leader.
    let _ = rustix::process::setsid();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "supervisor: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), SupervisorError> {
    // Its own complaints are in the run directory: nobody sees this process's streams otherwise.
    let complaints = tracing_subscriber::fmt().with_max_level(tracing::Level::WARN).with_ansi(false);
    // A second set-up is impossible: nothing else in this process does it.
    let _ = complaints.with_writer(std::io::stderr).try_init();
    let (mut from, to) = files::standard_streams().map_err(SupervisorError::system("opening the streams"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(SupervisorError::system("starting the event loop"))?;
    let mut early = Early::default();
    let launch = loop {
        match Request::receive(&mut from)? {
            Some(Request::Store(root)) => early.open_database(root),
            Some(Request::Outlook(outlook)) => early.open_executor(*outlook),
            Some(Request::Launch(launch)) => break launch,
            // Its client thought better of it, or is gone.
            None => return Ok(()),
            Some(_) => return Err(super::protocol::ProtocolError::Type(0).into()),
        }
    };
    let hub = Arc::new(Hub::new(log(&launch)));
    let launcher = Outlet::new(to, launch.attach);
    hub.add(&launcher, launch.attach);
    // The blocking threads of the runtime must not hold the end up.
    let outcome = runtime.block_on(supervise(*launch, early, from, &launcher, Arc::clone(&hub)));
    runtime.shutdown_background();
    if let Err(failure) = outcome {
        hub.announce(&Event::Failed(failure));
    }
    hub.flush();
    Ok(())
}

/// The container's log. Its options may name labels and variables that every record is to show.
fn log(launch: &Launch) -> Log {
    let (config, log) = (&launch.container.config, &launch.container.host.log);
    let named = |option: &str| {
        let names = log.options.get(option).map_or("", String::as_str).split(',');
        names.map(str::to_owned).collect::<Vec<_>>()
    };
    let labels = named("labels").into_iter().filter_map(|name| config.labels.get_key_value(&name));
    let mut attrs: std::collections::BTreeMap<_, _> =
        labels.map(|(name, value)| (name.clone(), value.clone())).collect();
    for name in named("env") {
        let pairs = config.env.iter().rev().filter_map(|pair| pair.split_once('='));
        if let Some((_, value)) = pairs.clone().find(|(known, _)| *known == name) {
            attrs.insert(name, value.to_owned());
        }
    }
    Log::new(log_path(&launch.dir), log).with_attributes(attrs)
}

fn failure(error: &(impl Kind + 'static)) -> Failure {
    Failure { kind: error.kind(), message: chain(error), hints: error.hints() }
}

/// The container's life, from the lock to the last record.
async fn supervise(
    launch: Launch,
    mut early: Early,
    from: std::fs::File,
    launcher: &Arc<Outlet>,
    hub: Arc<Hub>,
) -> Result<(), Failure> {
    let fail = |error: SupervisorError| failure(&error);
    let alive = Liveness::hold(&launch.run).map_err(fail)?;
    let endpoint = Endpoint::bind(&launch.run)
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => SupervisorError::Removed,
            _ => SupervisorError::file("listening in", &launch.run)(error),
        })
        .map_err(fail)?;
    let executor = match early.executor.take().filter(|ready| ready.fits(&launch)) {
        Some(ready) => ready.executor,
        None => open_executor(&launch.container.executor.name, &launch.settings)
            .map_err(|error| failure(&error))?,
    };
    // It lives as long as the process, whose memory the kernel frees more quickly.
    let executor: &dyn Executor = Box::leak(executor);
    let mut record = Record::open(launch, early.take_database())?;
    let mut networking = Networking::new(&record.launch);
    let (mut task, mut streams) = begin(&mut record, executor, &hub, &mut networking).await?;
    record.started(task.pid(), &task.walls());
    hub.announce(&Event::Started);
    let (commands, mut inbox) = unbounded_channel();
    let desk = Desk {
        hub: Arc::clone(&hub),
        commands,
        stdin: Arc::new(Mutex::new(Some(streams.stdin))),
        stdin_once: record.launch.container.config.stdin_once,
        terminal: record.launch.container.config.tty,
    };
    clients::serve_launcher(from, Arc::clone(launcher), record.launch.attach, desk.clone());
    clients::serve_endpoint(endpoint, desk.clone());
    let mut restart = Restart::new(record.launch.container.host.restart);
    loop {
        let begun = Instant::now();
        let exit = attend(task.as_ref(), &mut inbox, &mut record, &mut restart, &mut networking).await;
        desk.set_stdin(None);
        hub.release();
        streams::drain(streams.readers).await;
        hub.finish_log();
        let decision = restart.after(exit, begun.elapsed(), record.state.stopped_by_user || record.stopping);
        let Decision::Again(pause) = decision else {
            networking.ended().await;
            record.exited(exit);
            hub.announce(&Event::Exited(exit));
            networking.clear();
            free(task).await;
            break;
        };
        record.restarting(exit);
        hub.dismiss(&Event::Exited(exit));
        free(task).await;
        if stopped_meanwhile(pause, &mut inbox, &mut record, &mut restart).await {
            networking.ended().await;
            record.stopped_between();
            hub.announce(&Event::Exited(exit));
            networking.clear();
            break;
        }
        // Whose namespaces it shares may have other processes by now.
        if let Err(failure) = record.rejoin() {
            record.not_started(&failure);
            return Err(failure);
        }
        (task, streams) = begin(&mut record, executor, &hub, &mut networking).await?;
        desk.set_stdin(Some(streams.stdin));
        record.started(task.pid(), &task.walls());
    }
    // The container is gone, and whoever waits for this lock need not wait for a disk.
    drop(alive);
    // Nor is there anybody here who could be asked for something.
    drop(inbox);
    if let Ok(database) = record.database() {
        networking.retract(database);
    }
    record.settle();
    if let Ok(database) = record.database() {
        networking.leave(database).await;
    }
    Ok(())
}

/// Gives the container its addresses, makes its task and starts it. What fails is recorded, and leaves nothing.
async fn begin(
    record: &mut Record,
    executor: &dyn Executor,
    hub: &Arc<Hub>,
    networking: &mut Networking,
) -> Result<(Box<dyn Task>, streams::Streams), Failure> {
    let attached = record.database().map(|database| networking.attach(database));
    let begun = match attached?.and_then(|()| networking.environment()) {
        Ok(environment) => {
            record.launch.container.config.env = environment;
            let (launch, database) = record.for_launch()?;
            streams::begin(launch, executor, hub, networking, database).await
        }
        Err(error) => Err(error),
    };
    match begun {
        Ok(begun) => Ok(begun),
        Err(error) => {
            let failure = failure(&error);
            if let Ok(database) = record.database() {
                networking.abandon(database).await;
            }
            record.not_started(&failure);
            Err(failure)
        }
    }
}

/// Frees a task whose processes are dead. Removing control groups takes the kernel milliseconds for which nobody need wait;
/// whoever wants the container itself (`rm`, another start) waits for the lock.
async fn free(task: Box<dyn Task>) {
    if let Err(error) = task.delete().await {
        tracing::warn!(error = chain(&error), "freeing the container's task");
    }
}

/// What was got ready before the launch, while the client was at work. Whoever uses it says what is wrong with it.
#[derive(Default)]
struct Early {
    /// Opened on a thread of its own.
    database: Option<JoinHandle<Option<Database>>>,
    executor: Option<ReadyExecutor>,
}

struct ReadyExecutor {
    name: String,
    settings: Settings,
    executor: Box<dyn Executor>,
}

impl Early {
    fn open_database(&mut self, root: PathBuf) {
        let open = move || {
            let database = Database::open(&root).ok()?;
            database.warm_up();
            Some(database)
        };
        self.database = Builder::new().name("database".to_owned()).spawn(open).ok();
    }

    fn take_database(&mut self) -> Option<Database> {
        self.database.take()?.join().ok()?
    }

    fn open_executor(&mut self, outlook: Outlook) {
        let Outlook { executor: name, settings, prospect } = outlook;
        self.executor = open_executor(&name, &settings).ok().map(|executor| {
            executor.anticipate(&prospect);
            ReadyExecutor { name, settings, executor }
        });
    }
}

impl ReadyExecutor {
    fn fits(&self, launch: &Launch) -> bool {
        self.name == launch.container.executor.name && self.settings == launch.settings
    }
}

fn open_executor(name: &str, settings: &Settings) -> Result<Box<dyn Executor>, ExecError> {
    match executor::entries().into_iter().find(|entry| entry.name == name) {
        Some(entry) => (entry.open)(settings),
        None => Err(ExecError::failed(
            ErrorKind::Unsupported,
            "choosing the executor",
            executor::SelectError::Unknown {
                name: name.to_owned(),
                known: executor::entries().iter().map(|entry| entry.name.to_owned()).collect(),
            },
        )),
    }
}

/// What a piece of work changes of the record when it is done.
#[derive(Debug, Clone, Copy)]
enum Change {
    Nothing,
    Paused(bool),
    /// Time to kill what did not stop.
    Kill,
    /// That was done.
    Killed,
}

/// The container's name for messages.
fn refusal(record: &Record, why: &str) -> Failure {
    Failure {
        kind: ErrorKind::Conflict,
        message: format!("Container {} {why}", record.launch.container.id),
        hints: Vec::new(),
    }
}

/// Why there is nothing to freeze or to thaw.
fn frozen_already(record: &Record, wanted: bool) -> Option<Failure> {
    let why = if wanted { "is already paused" } else { "is not paused" };
    (record.state.paused == wanted).then(|| refusal(record, why))
}

/// Why no further process can be run.
fn no_exec(record: &Record) -> Option<Failure> {
    record.state.paused.then(|| refusal(record, "is paused, unpause the container before exec"))
}

/// What is under way beside the wait for the end.
struct Round<'a> {
    task: &'a dyn Task,
    executor: &'static str,
    container: Arc<Container>,
    /// Where sessions leave what they have to tell.
    news: session::News,
    work: FuturesUnordered<LocalBoxFuture<'a, Change>>,
    sessions: FuturesUnordered<LocalBoxFuture<'a, ()>>,
}

/// Carries out commands until the task ends.
async fn attend(
    task: &dyn Task,
    inbox: &mut UnboundedReceiver<Command>,
    record: &mut Record,
    restart: &mut Restart,
    networking: &mut Networking,
) -> Exit {
    let (news, mut told) = unbounded_channel::<Vec<model::Event>>();
    let mut round = Round {
        task,
        executor: name_of(record),
        container: Arc::new(record.launch.container.clone()),
        news,
        work: FuturesUnordered::new(),
        sessions: FuturesUnordered::new(),
    };
    let end = task.wait();
    tokio::pin!(end);
    let begun = Instant::now();
    let mut checks = FuturesUnordered::new();
    checks.extend(next_check(task, record, begun));
    loop {
        let rest = record.rests_at();
        tokio::select! {
            exit = &mut end => {
                // They end with the container; their clients are to hear how.
                let over = async { while round.sessions.next().await.is_some() {} };
                let _late = tokio::time::timeout(LAST_WORDS, over).await;
                while let Ok(news) = told.try_recv() {
                    record.note(&news);
                }
                return exit.unwrap_or_else(|error| {
                    tracing::error!(error = chain(&error), "waiting for the container");
                    Exit { code: 255, oom_killed: false }
                });
            }
            () = tokio::time::sleep_until(rest.unwrap_or(begun).into()), if rest.is_some() => record.rest(),
            Some(()) = round.sessions.next(), if !round.sessions.is_empty() => {}
            Some(news) = told.recv() => record.note(&news),
            () = networking.lost() => networking.mend(),
            Some(check) = checks.next(), if !checks.is_empty() => match check {
                // A frozen container is not asked.
                Check::Due if !record.state.paused => checks.extend(probe_now(task, record)),
                Check::Due => checks.extend(next_check(task, record, begun)),
                Check::Done(probe) => {
                    record.checked(probe, begun.elapsed());
                    checks.extend(next_check(task, record, begun));
                }
            },
            Some(change) = round.work.next(), if !round.work.is_empty() => round.done(change, record),
            Some(command) = inbox.recv() => round.carry_out(command, record, restart, networking).await,
        }
    }
}

impl Round<'_> {
    /// Records what a piece of work changed.
    fn done(&self, change: Change, record: &mut Record) {
        match change {
            Change::Nothing => {}
            Change::Paused(paused) => {
                record.state.paused = paused;
                let news = record.news(if paused { "pause" } else { "unpause" });
                record.write(&[news]);
            }
            Change::Kill => self.work.push(Box::pin(kill(self.task))),
            Change::Killed => tell_of_signal(record, SIGKILL),
        }
    }

    /// Carries a command out, or begins to.
    async fn carry_out(
        &self,
        command: Command,
        record: &mut Record,
        restart: &mut Restart,
        networking: &mut Networking,
    ) {
        let (task, executor) = (self.task, self.executor);
        match command {
            Command::Signal(number, reply) => {
                let outcome = signal(task, number, record).await;
                let sent = outcome.is_ok();
                let _ = reply.send(outcome);
                if sent {
                    tell_of_signal(record, number);
                }
            }
            Command::Resize(size) => resize(task, size, record),
            Command::Stop(order, reply) => {
                if let Some(seconds) = stop(task, order, record, reply).await {
                    self.work.push(Box::pin(async move {
                        tokio::time::sleep(Duration::from_secs(seconds)).await;
                        Change::Kill
                    }));
                }
            }
            Command::Pause(wanted, reply) => match frozen_already(record, wanted) {
                Some(refusal) => drop(reply.send(Err(refusal))),
                None => self.work.push(Box::pin(pause(task, executor, wanted, reply))),
            },
            Command::Exec(session) => match no_exec(record) {
                Some(refusal) => drop(session.to.tell(&Event::Failed(refusal))),
                None => self.sessions.push(Box::pin(session::run(
                    task,
                    executor,
                    Arc::clone(&self.container),
                    self.news.clone(),
                    *session,
                ))),
            },
            Command::Update(order, reply) => {
                restart.set_policy(order.restart);
                record.update(&order);
                self.work.push(Box::pin(update(task, executor, order, reply)));
            }
            Command::Network(order, reply) => match task.network_pid() {
                Some(pid) => change_network(record, networking, &order, pid, reply),
                None => {
                    drop(reply.send(Err(cannot(executor, "connect a container that runs without networks"))));
                }
            },
            Command::Stats(reply) => drop(reply.send(usage(task, executor, |usage| usage.stats()))),
            Command::Processes(reply) => drop(reply.send(usage(task, executor, |usage| usage.processes()))),
        }
    }
}

/// Connects the container with a network, or disconnects it.
fn change_network(
    record: &mut Record,
    networking: &mut Networking,
    order: &NetworkOrder,
    pid: u32,
    reply: Reply<()>,
) {
    let changed = |database: &crate::state::Database| {
        networking.change(database, order, pid).map_err(|error| failure(&error))?;
        networking.renamed(pid).map_err(|error| failure(&error))
    };
    let _ = reply.send(record.database().and_then(changed));
    record.rest();
}

/// A step of the health check.
enum Check {
    /// It is time for one.
    Due,
    /// One has ended.
    Done(HealthProbe),
}

/// Waits for the time of the next check; `None` for a container without one.
fn next_check<'a>(task: &'a dyn Task, record: &Record, begun: Instant) -> Option<LocalBoxFuture<'a, Check>> {
    let check = record.launch.container.config.healthcheck.as_ref()?;
    health::command(&record.launch.container.config)?;
    task.exec()?;
    let health = record.state.health.clone().unwrap_or_default();
    let pause = health::pause(check, &health, begun.elapsed());
    Some(Box::pin(async move {
        tokio::time::sleep(pause).await;
        Check::Due
    }))
}

/// Checks now.
fn probe_now<'a>(task: &'a dyn Task, record: &Record) -> Option<LocalBoxFuture<'a, Check>> {
    let config = &record.launch.container.config;
    let check = config.healthcheck.clone()?;
    let (args, exec) = (health::command(config)?, task.exec()?);
    let process = Process { args, env: config.env.clone(), cwd: String::new(), user: String::new() };
    Some(Box::pin(async move { Check::Done(probe::run(exec, process, &check).await) }))
}

/// Begins to stop the container; in how many seconds it is to be killed.
async fn stop(task: &dyn Task, order: StopOrder, record: &mut Record, reply: Reply<()>) -> Option<u64> {
    record.keep |= order.keep;
    let number = order.signal.unwrap_or_else(|| stop_signal(record));
    let before = record.state.stopped_by_user;
    let outcome = signal(task, number, record).await;
    record.state.stopped_by_user = before || !order.shutdown;
    let sent = outcome.is_ok();
    let _ = reply.send(outcome);
    if sent {
        record.stopping = true;
        tell_of_signal(record, number);
    }
    let wait = order.timeout.or(record.launch.container.host.stop_timeout).unwrap_or(STOP_TIMEOUT);
    u64::try_from(wait).ok().filter(|_| sent)
}

fn resize(task: &dyn Task, size: WindowSize, record: &mut Record) {
    match task.terminal().map(|terminal| terminal.resize(size)) {
        Some(Err(error)) => tracing::warn!(error = chain(&error), "resizing the terminal"),
        Some(Ok(())) => {
            let news = record.news("resize").with("height", size.rows.to_string());
            record.note(&[news.with("width", size.cols.to_string())]);
        }
        None => {}
    }
}

fn tell_of_signal(record: &mut Record, number: u8) {
    let news = record.news("kill").with("signal", number.to_string());
    record.note(&[news]);
}

/// Asks for what the container uses, where the executor can tell.
fn usage<T>(
    task: &dyn Task,
    executor: &'static str,
    ask: impl FnOnce(&dyn executor::Usage) -> Result<T, ExecError>,
) -> Result<T, Failure> {
    match task.usage() {
        Some(usage) => ask(usage).map_err(|error| failure(&error)),
        None => Err(cannot(executor, "tell what a container uses (`stats`, `top`)")),
    }
}

/// The executor's name for refusals, from the list that was compiled in.
fn name_of(record: &Record) -> &'static str {
    let name = record.launch.container.executor.name.as_str();
    executor::entries().iter().find(|entry| entry.name == name).map_or("unknown", |entry| entry.name)
}

fn cannot(executor: &'static str, what: &'static str) -> Failure {
    failure(&ExecError::from(Refusal::Cannot { executor, what }))
}

fn stop_signal(record: &Record) -> u8 {
    let named = record.launch.container.config.stop_signal.as_deref();
    named.and_then(|name| crate::model::signal::parse(name).ok()).unwrap_or(SIGTERM)
}

/// Sends a signal. The user's word for the end is remembered, and thaws what is frozen, since nothing dies in ice.
async fn signal(task: &dyn Task, number: u8, record: &mut Record) -> Result<(), Failure> {
    let ends = number == SIGKILL || number == stop_signal(record);
    task.signal(number).await.map_err(|error| failure(&error))?;
    if ends {
        record.state.stopped_by_user = true;
        if record.state.paused
            && let Some(ice) = task.pause()
        {
            ice.unpause().await.map_err(|error| failure(&error))?;
            record.state.paused = false;
        }
    }
    Ok(())
}

async fn kill(task: &dyn Task) -> Change {
    match task.signal(SIGKILL).await {
        Ok(()) => return Change::Killed,
        Err(ExecError::NotRunning) => {}
        Err(error) => tracing::error!(error = chain(&error), "killing a container that did not stop"),
    }
    Change::Nothing
}

async fn pause(task: &dyn Task, executor: &'static str, wanted: bool, reply: Reply<()>) -> Change {
    let Some(ice) = task.pause() else {
        let _ = reply.send(Err(cannot(executor, "pause containers")));
        return Change::Nothing;
    };
    let outcome = if wanted { ice.pause().await } else { ice.unpause().await };
    let change = if outcome.is_ok() { Change::Paused(wanted) } else { Change::Nothing };
    let _ = reply.send(outcome.map_err(|error| failure(&error)));
    change
}

async fn update(
    task: &dyn Task,
    executor: &'static str,
    order: Box<UpdateOrder>,
    reply: Reply<()>,
) -> Change {
    let outcome = if order.resources == crate::model::Resources::default() {
        Ok(())
    } else {
        match task.limits() {
            Some(limits) => limits.update(&order.resources).await.map_err(|error| failure(&error)),
            None => Err(cannot(executor, "change limits while a container runs (`update`)")),
        }
    };
    let _ = reply.send(outcome);
    Change::Nothing
}

/// The pause before a restart; true when the user stopped the container in it.
async fn stopped_meanwhile(
    pause: Duration,
    inbox: &mut UnboundedReceiver<Command>,
    record: &mut Record,
    restart: &mut Restart,
) -> bool {
    let over = tokio::time::sleep(pause);
    tokio::pin!(over);
    loop {
        let why = "is restarting, wait until the container is running";
        tokio::select! {
            () = &mut over => return false,
            Some(command) = inbox.recv() => match command {
                Command::Stop(order, reply) => {
                    record.state.stopped_by_user |= !order.shutdown;
                    record.stopping = true;
                    record.keep |= order.keep;
                    let _ = reply.send(Ok(()));
                    return true;
                }
                Command::Signal(number, reply) if number == SIGKILL || number == stop_signal(record) => {
                    record.state.stopped_by_user = true;
                    let _ = reply.send(Ok(()));
                    return true;
                }
                Command::Update(order, reply) => {
                    restart.set_policy(order.restart);
                    record.update(&order);
                    let _ = reply.send(Ok(()));
                }
                Command::Signal(_, reply) | Command::Pause(_, reply) | Command::Network(_, reply) => {
                    drop(reply.send(Err(refusal(record, why))));
                }
                Command::Stats(reply) => drop(reply.send(Err(refusal(record, why)))),
                Command::Processes(reply) => drop(reply.send(Err(refusal(record, why)))),
                Command::Exec(session) => drop(session.to.tell(&Event::Failed(refusal(record, why)))),
                Command::Resize(_) => {}
            },
        }
    }
}
