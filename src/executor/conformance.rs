//! What every executor must do, as one suite over the boundary's traits.
//!
//! A [`Subject`] lends an executor and turns each abstract [`Program`] into something that it can run; [`run`] does the rest
//! and says of each [`Case`] how it went. It is part of the library so that the tests of an executor outside this crate, and
//! those that need the real binary, run the very same suite.
//!
//! Invariant: nothing here knows an executor. What an executor does not have is told by its subject as `None`, and then the
//! suite checks that it is refused, or leaves the case out; it is never a special case in here.

mod further;

use std::error::Error;
use std::fs::File;
use std::io::{Read, Write};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::{Create, Entry, ExecError, Executor, Exit, Stdio, Task, WindowSize, Workload};
use crate::model::{ContainerId, ErrorKind, Kind};
use further::{
    exec_ends, exec_failures, exec_forgotten, exec_late, exec_signals, exec_streams, exec_terminal,
    pause_deleted, pause_holds, pause_killed, pause_refuses_exec,
};

/// A case that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// More than a pipe holds, in bytes.
const MUCH: usize = 300_000;

/// What the suite asks a subject to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    /// Ends with status 0.
    Succeed,
    /// Ends with this status.
    Exit(u8),
    /// Writes the text and a line feed to standard output.
    Echo(&'static str),
    /// Copies standard input to standard output until its end.
    CopyInput,
    /// Writes `ready` and a line feed, then runs until a signal: SIGTERM ends it with status 143.
    Loop,
    /// Is not there.
    Missing,
    /// Is there, but is no program.
    NotExecutable,
    /// Starts processes that would run on with its standard output, and ends with status 0.
    LeaveProcesses,
}

/// An executor under test.
pub trait Subject: Sync {
    /// The host side.
    fn entry(&self) -> Entry;
    /// The executor.
    fn open(&self) -> Result<Box<dyn Executor>, ExecError>;
    /// A request that runs `program` in a fresh root; `None` when the executor has no such thing.
    fn request(&self, id: ContainerId, program: &Program, stdio: Stdio) -> Option<Create>;
    /// Whether containers can have a terminal here.
    fn has_terminals(&self) -> bool;
    /// A workload that the executor takes.
    fn taken(&self) -> Workload;
    /// Workloads that it refuses.
    fn refused(&self) -> Vec<Workload>;
}

/// How one case went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// What was expected, as a sentence.
    pub name: &'static str,
    /// What was seen instead.
    pub outcome: Result<(), String>,
}

type Outcome = Result<(), String>;

/// Runs the suite. Needs a tokio runtime with I/O and time.
pub async fn run(subject: &dyn Subject) -> Vec<Case> {
    let mut cases = Vec::new();
    macro_rules! case {
        ($name:literal, $case:ident) => {
            let outcome = match tokio::time::timeout(PATIENCE, $case(subject)).await {
                Ok(outcome) => outcome,
                Err(_) => Err(format!("no end within {} s", PATIENCE.as_secs())),
            };
            cases.push(Case { name: $name, outcome });
        };
    }
    case!("workloads that do not fit are refused, one that fits is taken", admission);
    case!("the program's exit status is kept", exit_statuses);
    case!("the output arrives whole, in front of its end", output);
    case!("input is passed on, and its end is seen", input);
    case!("every waiter hears of the end, early or late", waiters);
    case!("SIGTERM ends a program with 143", terminated);
    case!("SIGKILL ends a program with 137", killed);
    case!("a signal after the end finds nothing running", late_signal);
    case!("a program that is not there is not found, and leaves nothing", missing);
    case!("a program that is none is not executable, and leaves nothing", not_executable);
    case!("a task can be deleted before it starts", deleted_unstarted);
    case!("deleting a running task kills it", deleted_running);
    case!("no process of a container outlives its first", left_processes);
    case!("a task does not start twice", started_twice);
    case!("two containers run at once", two_at_once);
    case!("a container runs again after its end", again);
    case!("sweeping is idempotent, also for an unknown id", sweeping);
    case!("a terminal carries input and output, or is refused", terminal);
    case!("a further process has its own status, output and input", exec_streams);
    case!("a further process that cannot run says why, and the container goes on", exec_failures);
    case!("a further process ends with the container", exec_ends);
    case!("a forgotten further process holds nothing up", exec_forgotten);
    case!("a further process has a terminal of its own", exec_terminal);
    case!("a further process is signalled and deleted by itself", exec_signals);
    case!("nothing joins a container that has ended", exec_late);
    case!("a paused container makes no progress until it is unpaused", pause_holds);
    case!("a paused container takes no further process", pause_refuses_exec);
    case!("a paused container can be killed", pause_killed);
    case!("a paused container can be deleted", pause_deleted);
    cases
}

/// An id of this process and case; the suite may run in several processes at once.
fn fresh_id() -> Result<ContainerId, String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| error.to_string())?;
    Ok(ContainerId::from_bytes(bytes))
}

fn say(error: &ExecError) -> String {
    let mut text = format!("{:?}: {error}", error.kind());
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

fn expect<T: PartialEq + std::fmt::Debug>(what: &str, seen: &T, wanted: &T) -> Outcome {
    if seen == wanted { Ok(()) } else { Err(format!("{what}: expected {wanted:?}, got {seen:?}")) }
}

fn pipe() -> Result<(File, File), String> {
    #[cfg(unix)]
    use std::os::fd::OwnedFd as Owned;
    #[cfg(windows)]
    use std::os::windows::io::OwnedHandle as Owned;
    let (reader, writer) = std::io::pipe().map_err(|error| format!("making a pipe: {error}"))?;
    Ok((Owned::from(reader).into(), Owned::from(writer).into()))
}

/// What a program writes, as it comes.
struct Output {
    chunks: UnboundedReceiver<Vec<u8>>,
    seen: Vec<u8>,
}

impl Output {
    /// Reads on a thread of its own: a blocking read is the same on every system.
    fn of(mut from: File) -> Self {
        let (sender, chunks) = unbounded_channel();
        std::thread::spawn(move || {
            let mut buffer = vec![0; 32 * 1024];
            // A terminal ends with an error.
            while let Ok(n @ 1..) = from.read(&mut buffer) {
                if sender.send(buffer[..n].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self { chunks, seen: Vec::new() }
    }

    /// Waits until the text was written.
    async fn until(&mut self, text: &str) -> Outcome {
        while !self.seen.windows(text.len()).any(|part| part == text.as_bytes()) {
            let Some(chunk) = self.chunks.recv().await else {
                return Err(format!("the output ended without `{text}`: {:?}", self.text()));
            };
            self.seen.extend(chunk);
        }
        Ok(())
    }

    /// Everything, when nobody can write any more.
    async fn whole(mut self) -> Vec<u8> {
        while let Some(chunk) = self.chunks.recv().await {
            self.seen.extend(chunk);
        }
        self.seen
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.seen).into_owned()
    }
}

/// A created task and the host's ends of its pipes.
struct Made {
    task: Box<dyn Task>,
    stdin: File,
    stdout: Output,
    stderr: Output,
}

/// `None`: the executor has no such program.
async fn make_as(
    subject: &dyn Subject,
    id: ContainerId,
    program: &Program,
) -> Result<Option<Result<Made, ExecError>>, String> {
    let ((stdin, input), (out, stdout), (err, stderr)) = (pipe()?, pipe()?, pipe()?);
    let Some(request) = subject.request(id, program, Stdio::Files { stdin, stdout, stderr }) else {
        return Ok(None);
    };
    let executor = subject.open().map_err(|error| say(&error))?;
    let task = executor.create(request).await;
    Ok(Some(task.map(|task| Made { task, stdin: input, stdout: Output::of(out), stderr: Output::of(err) })))
}

async fn make(subject: &dyn Subject, program: &Program) -> Result<Made, String> {
    let made = make_as(subject, fresh_id()?, program).await?;
    made.ok_or_else(|| format!("the subject has no {program:?}"))?.map_err(|error| say(&error))
}

async fn start(subject: &dyn Subject, program: &Program) -> Result<Made, String> {
    let made = make(subject, program).await?;
    match made.task.start().await {
        Ok(()) => Ok(made),
        Err(error) => {
            let said = say(&error);
            delete(made.task).await?;
            Err(said)
        }
    }
}

async fn delete(task: Box<dyn Task>) -> Outcome {
    task.delete().await.map_err(|error| format!("deleting: {}", say(&error)))
}

async fn end(task: &dyn Task) -> Result<Exit, String> {
    task.wait().await.map_err(|error| format!("waiting: {}", say(&error)))
}

impl Made {
    /// Waits for the end and frees it; the status and both outputs.
    async fn finish(self) -> Result<(i32, Vec<u8>, Vec<u8>), String> {
        let Self { task, stdin, stdout, stderr } = self;
        drop(stdin);
        let exit = end(task.as_ref()).await;
        delete(task).await?;
        Ok((exit?.code, stdout.whole().await, stderr.whole().await))
    }
}

fn admission(subject: &dyn Subject) -> std::future::Ready<Outcome> {
    std::future::ready(admits(subject))
}

fn admits(subject: &dyn Subject) -> Outcome {
    let entry = subject.entry();
    (entry.admit)(&subject.taken()).map_err(|refusal| format!("refused what it takes: {refusal}"))?;
    match subject.refused().into_iter().find(|workload| (entry.admit)(workload).is_ok()) {
        Some(workload) => Err(format!("took {workload:?}")),
        None => Ok(()),
    }
}

async fn exit_statuses(subject: &dyn Subject) -> Outcome {
    for (program, status) in
        [(Program::Succeed, 0), (Program::Exit(1), 1), (Program::Exit(7), 7), (Program::Exit(125), 125)]
    {
        let made = start(subject, &program).await?;
        if made.task.pid() == 0 {
            return Err("the process id is 0".to_owned());
        }
        expect("status", &made.finish().await?.0, &status)?;
    }
    Ok(())
}

async fn output(subject: &dyn Subject) -> Outcome {
    let (status, stdout, stderr) = start(subject, &Program::Echo("one two")).await?.finish().await?;
    expect("status", &status, &0)?;
    expect("output", &String::from_utf8_lossy(&stdout).as_ref(), &"one two\n")?;
    expect("errors", &String::from_utf8_lossy(&stderr).as_ref(), &"")
}

async fn input(subject: &dyn Subject) -> Outcome {
    for length in [0, 1, MUCH] {
        let mut made = start(subject, &Program::CopyInput).await?;
        let sent: Vec<u8> = (0..length).map(|n| u8::try_from(n % 251).unwrap_or_default()).collect();
        let (bytes, mut to) = (sent.clone(), made.stdin);
        let (closed, end_of_input) = pipe()?;
        drop(closed);
        let writer = std::thread::spawn(move || to.write_all(&bytes));
        made.stdin = end_of_input;
        let (status, stdout, _) = made.finish().await?;
        let written = writer.join().map_err(|_| "the writer panicked".to_owned())?;
        written.map_err(|error| format!("writing the input: {error}"))?;
        expect("status", &status, &0)?;
        if stdout != sent {
            return Err(format!("sent {} bytes, got {} or others", sent.len(), stdout.len()));
        }
    }
    Ok(())
}

async fn waiters(subject: &dyn Subject) -> Outcome {
    let mut made = start(subject, &Program::Loop).await?;
    made.stdout.until("ready\n").await?;
    let task = made.task.as_ref();
    let signal = async { task.signal(15).await.map_err(|error| say(&error)) };
    let (first, second, sent) = tokio::join!(end(task), end(task), signal);
    sent?;
    let late = end(task).await?;
    expect("the early waiters", &first?, &second?)?;
    expect("the late waiter", &late, &Exit { code: 143, oom_killed: false })?;
    made.finish().await.map(drop)
}

async fn signalled(subject: &dyn Subject, signal: u8) -> Outcome {
    let mut made = start(subject, &Program::Loop).await?;
    made.stdout.until("ready\n").await?;
    made.task.signal(signal).await.map_err(|error| say(&error))?;
    expect("status", &made.finish().await?.0, &(128 + i32::from(signal)))
}

async fn terminated(subject: &dyn Subject) -> Outcome {
    signalled(subject, 15).await
}

async fn killed(subject: &dyn Subject) -> Outcome {
    signalled(subject, 9).await
}

async fn late_signal(subject: &dyn Subject) -> Outcome {
    let made = start(subject, &Program::Succeed).await?;
    end(made.task.as_ref()).await?;
    let answer = made.task.signal(15).await;
    made.finish().await?;
    match answer {
        Err(ExecError::NotRunning) => Ok(()),
        Err(error) => Err(say(&error)),
        Ok(()) => Err("the signal was taken".to_owned()),
    }
}

/// The program must fail in `create` or in `start` with this class, and nothing may hold its pipes open afterwards.
async fn fails_as(subject: &dyn Subject, program: &Program, kind: ErrorKind) -> Outcome {
    let id = fresh_id()?;
    let made = make_as(subject, id.clone(), program).await?;
    let error = match made.ok_or_else(|| format!("the subject has no {program:?}"))? {
        Err(error) => error,
        Ok(made) => {
            let started = made.task.start().await;
            delete(made.task).await?;
            made.stdout.whole().await;
            made.stderr.whole().await;
            started.err().ok_or("it started")?
        }
    };
    if error.kind() != kind {
        return Err(format!("expected {kind:?}, got {}", say(&error)));
    }
    // Its id is free again.
    run_as(subject, id).await
}

/// Runs something under this id.
async fn run_as(subject: &dyn Subject, id: ContainerId) -> Outcome {
    let made = make_as(subject, id, &Program::Exit(7)).await?;
    let made = made.ok_or("the subject cannot exit")?.map_err(|error| say(&error))?;
    made.task.start().await.map_err(|error| say(&error))?;
    expect("status", &made.finish().await?.0, &7)
}

async fn missing(subject: &dyn Subject) -> Outcome {
    fails_as(subject, &Program::Missing, ErrorKind::CommandNotFound).await
}

async fn not_executable(subject: &dyn Subject) -> Outcome {
    fails_as(subject, &Program::NotExecutable, ErrorKind::CommandNotExecutable).await
}

async fn deleted_unstarted(subject: &dyn Subject) -> Outcome {
    let made = make(subject, &Program::Echo("never")).await?;
    delete(made.task).await?;
    expect("output", &made.stdout.whole().await, &Vec::new())
}

async fn deleted_running(subject: &dyn Subject) -> Outcome {
    let mut made = start(subject, &Program::Loop).await?;
    made.stdout.until("ready\n").await?;
    delete(made.task).await?;
    // The output ends when the last who could write has gone.
    made.stdout.whole().await;
    Ok(())
}

async fn left_processes(subject: &dyn Subject) -> Outcome {
    let id = fresh_id()?;
    let Some(made) = make_as(subject, id, &Program::LeaveProcesses).await? else { return Ok(()) };
    let made = made.map_err(|error| say(&error))?;
    made.task.start().await.map_err(|error| say(&error))?;
    expect("status", &made.finish().await?.0, &0)
}

async fn started_twice(subject: &dyn Subject) -> Outcome {
    let made = start(subject, &Program::Succeed).await?;
    let again = made.task.start().await;
    made.finish().await?;
    again.err().map(drop).ok_or_else(|| "it started again".to_owned())
}

async fn two_at_once(subject: &dyn Subject) -> Outcome {
    let mut first = start(subject, &Program::Loop).await?;
    first.stdout.until("ready\n").await?;
    let second = start(subject, &Program::Echo("second")).await?;
    expect("the second's output", &second.finish().await?.1, &b"second\n".to_vec())?;
    first.task.signal(9).await.map_err(|error| format!("the first has ended: {}", say(&error)))?;
    expect("the first's status", &first.finish().await?.0, &137)
}

async fn again(subject: &dyn Subject) -> Outcome {
    let id = fresh_id()?;
    run_as(subject, id.clone()).await?;
    run_as(subject, id).await
}

async fn sweeping(subject: &dyn Subject) -> Outcome {
    let executor = subject.open().map_err(|error| say(&error))?;
    let id = fresh_id()?;
    for _ in 0..2 {
        executor.sweep(&id).await.map_err(|error| say(&error))?;
    }
    run_as(subject, id.clone()).await?;
    executor.sweep(&id).await.map_err(|error| say(&error))
}

async fn terminal(subject: &dyn Subject) -> Outcome {
    let stdio = Stdio::Terminal(WindowSize { rows: 24, cols: 80 });
    let request =
        subject.request(fresh_id()?, &Program::CopyInput, stdio).ok_or("the subject cannot copy")?;
    let executor = subject.open().map_err(|error| say(&error))?;
    let task = match (executor.create(request).await, subject.has_terminals()) {
        (Ok(task), true) => task,
        (Err(ExecError::Refused(_)), false) => return Ok(()),
        (Ok(task), false) => {
            delete(task).await?;
            return Err("a terminal was made all the same".to_owned());
        }
        (Err(error), _) => return Err(say(&error)),
    };
    let outcome = converse(task.as_ref()).await;
    delete(task).await?;
    outcome
}

async fn converse(task: &dyn Task) -> Outcome {
    task.start().await.map_err(|error| say(&error))?;
    let terminal = task.terminal().ok_or("the task has no terminal")?;
    let mut keys = terminal.stream().map_err(|error| say(&error))?;
    let mut screen = Output::of(terminal.stream().map_err(|error| say(&error))?);
    terminal.resize(WindowSize { rows: 50, cols: 132 }).map_err(|error| say(&error))?;
    let mut key = |bytes: &[u8]| keys.write_all(bytes).map_err(|error| format!("typing: {error}"));
    key(b"hello\n")?;
    // Once as the echo, once as the copy.
    screen.until("hello\r\nhello\r\n").await?;
    key(b"\x04")?;
    expect("status", &end(task).await?.code, &0)?;
    screen.whole().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executor::{Joins, NameFiles};
    use crate::executor::{Process, Root, Settings, fake};
    use crate::model::{HostConfig, Packaging, Platform};

    struct Fake;

    impl Subject for Fake {
        fn entry(&self) -> Entry {
            fake::ENTRY
        }

        fn open(&self) -> Result<Box<dyn Executor>, ExecError> {
            (fake::ENTRY.open)(&Settings {
                exe: "umiak".into(),
                cache: "cache".into(),
                guest_memory: None,
                interpreted: false,
                own_process: false,
                scratch: "scratch".into(),
                group_parent: String::new(),
                runtime: None,
            })
        }

        fn request(&self, id: ContainerId, program: &Program, stdio: Stdio) -> Option<Create> {
            let args = match program {
                Program::Succeed => vec!["true".to_owned()],
                Program::Exit(status) => vec!["exit".to_owned(), status.to_string()],
                Program::Echo(text) => vec!["echo".to_owned(), (*text).to_owned()],
                Program::CopyInput => vec!["cat".to_owned()],
                Program::Loop => vec!["loop".to_owned()],
                Program::Missing => vec!["missing".to_owned()],
                Program::NotExecutable => vec!["denied".to_owned()],
                Program::LeaveProcesses => return None,
            };
            let process = Process { args, env: Vec::new(), cwd: "/".into(), user: String::new() };
            Some(Create {
                id,
                root: Root::Directory("/".into()),
                scratch: "/".into(),
                process,
                hostname: "fake".into(),
                domainname: String::new(),
                name_files: NameFiles::default(),
                host: HostConfig::default(),
                mounts: Vec::new(),
                joins: Joins::default(),
                stdio,
            })
        }

        fn has_terminals(&self) -> bool {
            false
        }

        fn taken(&self) -> Workload {
            Workload {
                platform: Platform::wasi(),
                packaging: Packaging::Image,
                program: None,
                wants: Vec::new(),
            }
        }

        fn refused(&self) -> Vec<Workload> {
            Vec::new()
        }
    }

    #[tokio::test]
    async fn the_fake_conforms() {
        let failed: Vec<Case> = run(&Fake).await.into_iter().filter(|case| case.outcome.is_err()).collect();
        assert!(failed.is_empty(), "{failed:#?}");
    }
}
