//! One `exec`: a further process in the container, on a connection of its own.

use std::sync::Arc;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use super::failure;
use super::streams::{self, Input, Pipes};
use crate::executor::{ExecError, ExecRequest, Exit, Refusal, Task, WindowSize};
use crate::model::{self, Container, Timestamp};
use crate::supervisor::hub::Outlet;
use crate::supervisor::logs::Stream;
use crate::supervisor::protocol::{Event, ExecOrder, Failure};

/// What the client of a session asks for while its process runs.
pub(super) enum Wish {
    /// A signal for the process.
    Signal(u8),
    /// The client's terminal changed.
    Resize(WindowSize),
    /// Input, or its end.
    Stdin(Option<Vec<u8>>),
}

/// The client's side of a session.
pub(super) struct Session {
    pub(super) order: ExecOrder,
    pub(super) to: Arc<Outlet>,
    pub(super) wishes: UnboundedReceiver<Wish>,
}

/// An id for events: nothing else knows the process by it.
pub(super) fn random_id() -> String {
    let mut bytes = [0; 32];
    // Without random numbers the id is all zeros, and the process runs all the same.
    let _drawn = getrandom::fill(&mut bytes);
    hex::encode(bytes)
}

/// What is told of a further process that began.
pub(super) fn begun(container: &Container, args: &[String], id: &str, at: Timestamp) -> [model::Event; 2] {
    let (program, rest) = args.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
    // As docker has it: a blank after the program even when nothing follows.
    let line = format!("{program} {}", rest.join(" "));
    ["exec_create", "exec_start"].map(|action| {
        model::Event::container(container, format!("{action}: {line}")).with("execID", id).at(at)
    })
}

/// What is told of its end.
pub(super) fn died(container: &Container, id: &str, code: i32) -> model::Event {
    model::Event::container(container, "exec_die").with("execID", id).with("exitCode", code.to_string())
}

/// What sessions tell the main loop, which alone writes.
pub(super) type News = UnboundedSender<Vec<model::Event>>;

/// Runs the process to its end and tells the client everything.
pub(super) async fn run(
    task: &dyn Task,
    executor: &'static str,
    container: Arc<Container>,
    news: News,
    mut session: Session,
) {
    let (id, at) = (random_id(), Timestamp::now());
    let outcome = begin(task, executor, &container.config.env, &session).await;
    // Whoever waits for the process hears first.
    if outcome.is_ok() {
        session.to.tell(&Event::Started);
    }
    let _ = news.send(begun(&container, &session.order.process.args, &id, at).to_vec());
    match outcome {
        Ok((process, input, readers)) => {
            let exit = attend(process.as_ref(), &mut session, &input).await;
            session.to.release();
            streams::drain(readers).await;
            session.to.tell(&match &exit {
                Ok(exit) => Event::Exited(*exit),
                Err(failed) => Event::Failed(failed.clone()),
            });
            if let Ok(exit) = exit {
                let _ = news.send(vec![died(&container, &id, exit.code)]);
            }
            if let Err(error) = process.delete().await {
                tracing::warn!(error = crate::model::chain(&error), "freeing a process of the container");
            }
        }
        Err(error) => {
            // Whatever stood in the way: when the container has ended, that is the reason.
            let ended = matches!(task.signal(0).await, Err(ExecError::NotRunning));
            let error = if ended { ExecError::NotRunning } else { error };
            session.to.tell(&Event::Failed(failure(&error)));
        }
    }
}

async fn begin(
    task: &dyn Task,
    executor: &'static str,
    env: &[String],
    session: &Session,
) -> Result<(Box<dyn Task>, Input, streams::Readers), ExecError> {
    let order = &session.order;
    let Some(exec) = task.exec() else {
        return Err(Refusal::Cannot { executor, what: "run a further process (`exec`)" }.into());
    };
    let Pipes { stdio, input, outputs } = streams::wanted(order.terminal, order.stdin)?;
    let mut process = order.process.clone();
    process.env = model::variables_over(env, &order.process.env);
    let process = exec.exec(ExecRequest { process, privileged: order.privileged, stdio }).await?;
    // Its terminal may be there only now. What it writes waits in the pipes, or in the terminal.
    if let Err(error) = process.start().await {
        process.delete().await?;
        return Err(error);
    }
    let (input, outputs) = match streams::ends(process.as_ref(), order.stdin, input, outputs) {
        Ok(ends) => ends,
        Err(error) => {
            process.delete().await?;
            return Err(error);
        }
    };
    let (reading, readers) = streams::readers();
    for (stream, from) in outputs {
        let to = Arc::clone(&session.to);
        streams::read_output(from, reading.clone(), move |bytes| {
            // When the client has gone, what the process writes is read and forgotten: it must not stand still for it.
            to.output(&match stream {
                Stream::Stdout => Event::Stdout(bytes.to_vec()),
                Stream::Stderr => Event::Stderr(bytes.to_vec()),
            });
        });
    }
    drop(reading);
    let input = streams::write_input(input);
    Ok((process, input, readers))
}

async fn attend(process: &dyn Task, session: &mut Session, input: &Input) -> Result<Exit, Failure> {
    let end = process.wait();
    tokio::pin!(end);
    let mut there = true;
    loop {
        tokio::select! {
            exit = &mut end => return exit.map_err(|error| failure(&error)),
            wish = session.wishes.recv(), if there => match wish {
                // A process that has ended takes no signal; its end is told anyway.
                Some(Wish::Signal(number)) => drop(process.signal(number).await),
                Some(Wish::Resize(size)) => drop(process.terminal().map(|terminal| terminal.resize(size))),
                Some(Wish::Stdin(Some(bytes))) => streams::feed(input, bytes, &session.to),
                Some(Wish::Stdin(None)) => drop(input.try_send(None)),
                // The client has gone, and nobody can type any more; the process runs on, as with docker.
                None => {
                    drop(input.try_send(None));
                    there = false;
                }
            },
        }
    }
}
