//! One `exec`: a further process in the container, on a connection of its own.

use std::sync::Arc;

use tokio::sync::mpsc::UnboundedReceiver;

use super::failure;
use super::streams::{self, Input, Pipes};
use crate::executor::{ExecError, ExecRequest, Exit, Refusal, Task, WindowSize};
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

/// Runs the process to its end and tells the client everything.
pub(super) async fn run(task: &dyn Task, executor: &'static str, env: Vec<String>, mut session: Session) {
    match begin(task, executor, &env, &session).await {
        Ok((process, input, readers)) => {
            session.to.tell(&Event::Started);
            let exit = attend(process.as_ref(), &mut session, &input).await;
            session.to.release();
            streams::drain(readers).await;
            session.to.tell(&match exit {
                Ok(exit) => Event::Exited(exit),
                Err(failed) => Event::Failed(failed),
            });
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
    process.env = over(env, &order.process.env);
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

/// The container's variables, those of the order over them.
fn over(container: &[String], order: &[String]) -> Vec<String> {
    let key = |pair: &str| pair.split('=').next().unwrap_or_default().to_owned();
    let kept = container.iter().filter(|pair| order.iter().all(|new| key(new) != key(pair)));
    kept.chain(order).cloned().collect()
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
