//! The suite's cases for what may be done with a container that runs: further processes, and pausing.
//!
//! An executor whose tasks lack the ability is left out here; that the lack is refused is said where it is asked for.

use std::io::Write;
use std::time::Duration;

use super::{
    Made, Outcome, Output, Program, Subject, converse, delete, end, expect, fresh_id, pipe, say, start,
};
use crate::executor::{ExecError, ExecRequest, Process, Stdio, Task, WindowSize};
use crate::model::{ErrorKind, Kind};

/// A container that runs, for what needs one; `None` leaves the case out.
async fn host(subject: &dyn Subject, able: impl Fn(&dyn Task) -> bool) -> Result<Option<Made>, String> {
    let mut made = start(subject, &Program::Loop).await?;
    if !able(made.task.as_ref()) {
        delete(made.task).await?;
        return Ok(None);
    }
    made.stdout.until("ready\n").await?;
    Ok(Some(made))
}

fn executes(task: &dyn Task) -> bool {
    task.exec().is_some()
}

/// What a request would run.
fn process(subject: &dyn Subject, program: &Program) -> Result<Process, String> {
    let ((stdin, _), (_, stdout), (_, stderr)) = (pipe()?, pipe()?, pipe()?);
    let request = subject.request(fresh_id()?, program, Stdio::Files { stdin, stdout, stderr });
    request.map(|request| request.process).ok_or_else(|| format!("the subject has no {program:?}"))
}

/// Makes a further process in the container.
async fn enter(
    subject: &dyn Subject,
    task: &dyn Task,
    program: &Program,
) -> Result<Result<Made, ExecError>, String> {
    let process = process(subject, program)?;
    let ((stdin, input), (out, stdout), (err, stderr)) = (pipe()?, pipe()?, pipe()?);
    let exec = task.exec().ok_or("the ability is gone")?;
    let request = ExecRequest { process, privileged: false, stdio: Stdio::Files { stdin, stdout, stderr } };
    let made = exec.exec(request).await;
    Ok(made.map(|task| Made { task, stdin: input, stdout: Output::of(out), stderr: Output::of(err) }))
}

async fn entered(subject: &dyn Subject, task: &dyn Task, program: &Program) -> Result<Made, String> {
    let made = enter(subject, task, program).await?.map_err(|error| say(&error))?;
    made.task.start().await.map_err(|error| say(&error))?;
    Ok(made)
}

/// Kills the container and frees it.
async fn kill(made: Made) -> Outcome {
    made.task.signal(9).await.map_err(|error| say(&error))?;
    expect("the container's status", &made.finish().await?.0, &137)
}

pub(super) async fn exec_streams(subject: &dyn Subject) -> Outcome {
    let Some(made) = host(subject, executes).await? else { return Ok(()) };
    let task = made.task.as_ref();
    for status in [0, 7] {
        let further = entered(subject, task, &Program::Exit(status)).await?;
        // Programs that one process hosts share its id.
        let hosted = made.task.pid() == std::process::id();
        if further.task.pid() == made.task.pid() && !hosted {
            return Err("it is the first process".to_owned());
        }
        expect("status", &further.finish().await?.0, &status.into())?;
    }
    let (_, stdout, stderr) = entered(subject, task, &Program::Echo("beside")).await?.finish().await?;
    expect("output", &String::from_utf8_lossy(&stdout).as_ref(), &"beside\n")?;
    expect("errors", &String::from_utf8_lossy(&stderr).as_ref(), &"")?;
    let mut further = entered(subject, task, &Program::CopyInput).await?;
    further.stdin.write_all(b"typed").map_err(|error| error.to_string())?;
    expect("copy", &further.finish().await?.1, &b"typed".to_vec())?;
    kill(made).await
}

pub(super) async fn exec_failures(subject: &dyn Subject) -> Outcome {
    let Some(made) = host(subject, executes).await? else { return Ok(()) };
    for (program, kind) in [
        (Program::Missing, ErrorKind::CommandNotFound),
        (Program::NotExecutable, ErrorKind::CommandNotExecutable),
    ] {
        let error = match enter(subject, made.task.as_ref(), &program).await? {
            Err(error) => error,
            Ok(further) => {
                let started = further.task.start().await;
                delete(further.task).await?;
                further.stdout.whole().await;
                started.err().ok_or("it started")?
            }
        };
        if error.kind() != kind {
            return Err(format!("expected {kind:?}, got {}", say(&error)));
        }
    }
    kill(made).await
}

pub(super) async fn exec_ends(subject: &dyn Subject) -> Outcome {
    let Some(made) = host(subject, executes).await? else { return Ok(()) };
    let mut further = entered(subject, made.task.as_ref(), &Program::Loop).await?;
    further.stdout.until("ready\n").await?;
    kill(made).await?;
    expect("status", &further.finish().await?.0, &137)
}

pub(super) async fn exec_forgotten(subject: &dyn Subject) -> Outcome {
    let Some(made) = host(subject, executes).await? else { return Ok(()) };
    let mut running = entered(subject, made.task.as_ref(), &Program::Loop).await?;
    running.stdout.until("ready\n").await?;
    let unstarted =
        enter(subject, made.task.as_ref(), &Program::Succeed).await?.map_err(|error| say(&error))?;
    // Nobody waits for them; deleting a running container must not either.
    delete(made.task).await?;
    drop((running, unstarted));
    Ok(())
}

pub(super) async fn exec_terminal(subject: &dyn Subject) -> Outcome {
    let Some(made) = host(subject, executes).await? else { return Ok(()) };
    if subject.has_terminals() {
        let process = process(subject, &Program::CopyInput)?;
        let stdio = Stdio::Terminal(WindowSize { rows: 24, cols: 80 });
        let exec = made.task.exec().ok_or("the ability is gone")?;
        let further = exec.exec(ExecRequest { process, privileged: false, stdio }).await;
        let further = further.map_err(|error| say(&error))?;
        let outcome = converse(further.as_ref()).await;
        delete(further).await?;
        outcome?;
    }
    kill(made).await
}

pub(super) async fn exec_signals(subject: &dyn Subject) -> Outcome {
    let Some(made) = host(subject, executes).await? else { return Ok(()) };
    let mut further = entered(subject, made.task.as_ref(), &Program::Loop).await?;
    further.stdout.until("ready\n").await?;
    further.task.signal(15).await.map_err(|error| say(&error))?;
    expect("status", &further.finish().await?.0, &143)?;
    let mut further = entered(subject, made.task.as_ref(), &Program::Loop).await?;
    further.stdout.until("ready\n").await?;
    delete(further.task).await?;
    further.stdout.whole().await;
    kill(made).await
}

pub(super) async fn exec_late(subject: &dyn Subject) -> Outcome {
    let Some(made) = host(subject, executes).await? else { return Ok(()) };
    made.task.signal(9).await.map_err(|error| say(&error))?;
    end(made.task.as_ref()).await?;
    let late = enter(subject, made.task.as_ref(), &Program::Succeed).await?;
    made.finish().await?;
    match late {
        Err(ExecError::NotRunning) => Ok(()),
        Err(error) => Err(say(&error)),
        Ok(_) => Err("it was made".to_owned()),
    }
}

/// A container that copies its input, paused.
async fn paused(subject: &dyn Subject, program: &Program) -> Result<Option<Made>, String> {
    let made = start(subject, program).await?;
    if let Some(pause) = made.task.pause() {
        pause.pause().await.map_err(|error| say(&error))?;
        return Ok(Some(made));
    }
    delete(made.task).await?;
    Ok(None)
}

pub(super) async fn pause_holds(subject: &dyn Subject) -> Outcome {
    let Some(mut made) = paused(subject, &Program::CopyInput).await? else { return Ok(()) };
    made.stdin.write_all(b"hello\n").map_err(|error| error.to_string())?;
    let early = tokio::time::timeout(Duration::from_millis(100), made.stdout.until("hello\n")).await;
    if early.is_ok() {
        return Err("it went on".to_owned());
    }
    let pause = made.task.pause().ok_or("the ability is gone")?;
    pause.unpause().await.map_err(|error| say(&error))?;
    made.stdout.until("hello\n").await?;
    expect("status", &made.finish().await?.0, &0)
}

pub(super) async fn pause_refuses_exec(subject: &dyn Subject) -> Outcome {
    let Some(made) = paused(subject, &Program::Loop).await? else { return Ok(()) };
    if executes(made.task.as_ref()) {
        match enter(subject, made.task.as_ref(), &Program::Succeed).await? {
            Err(ExecError::Paused { .. }) => {}
            Err(error) => return Err(say(&error)),
            Ok(_) => return Err("it was made".to_owned()),
        }
    }
    delete(made.task).await
}

pub(super) async fn pause_killed(subject: &dyn Subject) -> Outcome {
    let Some(made) = paused(subject, &Program::Loop).await? else { return Ok(()) };
    kill(made).await
}

pub(super) async fn pause_deleted(subject: &dyn Subject) -> Outcome {
    let Some(made) = paused(subject, &Program::Loop).await? else { return Ok(()) };
    delete(made.task).await?;
    made.stdout.whole().await;
    Ok(())
}
