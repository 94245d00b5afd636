//! The threads that hear clients: each turns frames into commands for the main loop, and its answers into events.

use std::fs::File;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

use super::session::{Session, Wish};
use super::streams::{self, Input};
use super::{Command, failure};
use crate::executor::ExecError;
use crate::model::ErrorKind;
use crate::supervisor::endpoint::{Connection, Endpoint};
use crate::supervisor::hub::{Hub, Outlet, STACK};
use crate::supervisor::protocol::{Event, Failure, Frame, Request};

/// What every client's thread shares.
#[derive(Clone)]
pub(super) struct Desk {
    pub(super) hub: Arc<Hub>,
    pub(super) commands: UnboundedSender<Command>,
    /// The container's input; another one after each restart.
    pub(super) stdin: Arc<Mutex<Option<Input>>>,
    /// The end of a client's input is the end of the container's.
    pub(super) stdin_once: bool,
    /// The container has a terminal, which outlives the clients that type into it.
    pub(super) terminal: bool,
}

impl Desk {
    fn stdin(&self) -> Option<Input> {
        self.stdin.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A client that gave input has gone: as its end, where somebody else cannot take its place at the terminal.
    fn input_lost(&self, to: &Arc<Outlet>) {
        if !self.terminal {
            hear(Request::StdinEnd, to, self, |_| {});
        }
    }

    /// The input of the task that runs now.
    pub(super) fn set_stdin(&self, input: Option<Input>) {
        *self.stdin.lock().unwrap_or_else(PoisonError::into_inner) = input;
    }
}

fn thread(name: &str, run: impl FnOnce() + Send + 'static) {
    if let Err(error) = std::thread::Builder::new().name(name.to_owned()).stack_size(STACK).spawn(run) {
        tracing::error!(%error, "no thread for a client");
    }
}

/// Hears the client that launched: its events go another way, and it needs no answers.
pub(super) fn serve_launcher(mut from: File, to: Arc<Outlet>, attached: bool, desk: Desk) {
    thread("launcher", move || {
        while let Ok(Some(request)) = Request::receive(&mut from) {
            hear(request, &to, &desk, |_| {});
        }
        // It has gone.
        if attached {
            desk.input_lost(&to);
        }
        to.close();
    });
}

/// Hears everybody else.
pub(super) fn serve_endpoint(endpoint: Endpoint, desk: Desk) {
    thread("endpoint", move || {
        while let Ok(connection) = endpoint.accept() {
            let desk = desk.clone();
            thread("client", move || serve(connection, &desk));
        }
    });
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

fn serve(mut connection: Box<dyn Connection>, desk: &Desk) {
    let Ok(second) = connection.second() else { return };
    let to = Outlet::new(Second(second), false);
    let mut gives_input = false;
    // What is no frame ends the connection and nothing else.
    while let Ok(Some(request)) = Request::receive(&mut connection) {
        if let Request::Exec(order) = request {
            // Nothing was sent yet, and from now on the connection is the process's, which waits for its reader.
            let Ok(second) = connection.second() else { return };
            to.close();
            let to = Outlet::new(Second(second), true);
            desk.hub.remember(&to);
            exec(*order, &mut connection, &to, desk);
            to.flush();
            desk.hub.forget(&to);
            return;
        }
        if let Request::Attach(order) = &request {
            gives_input |= order.stdin;
        }
        let answer = |event: Event| {
            to.tell(&event);
            to.written();
        };
        hear(request, &to, desk, answer);
    }
    if gives_input {
        desk.input_lost(&to);
    }
    to.flush();
}

fn not_running() -> Failure {
    failure(&ExecError::NotRunning)
}

/// Has the main loop carry something out, and waits for its answer.
fn ask<T>(
    desk: &Desk,
    command: impl FnOnce(oneshot::Sender<Result<T, Failure>>) -> Command,
) -> Result<T, Failure> {
    let (reply, outcome) = oneshot::channel();
    if desk.commands.send(command(reply)).is_err() {
        return Err(not_running());
    }
    outcome.blocking_recv().unwrap_or_else(|_| Err(not_running()))
}

fn hear(request: Request, to: &Arc<Outlet>, desk: &Desk, answer: impl FnOnce(Event)) {
    match request {
        Request::Stdin(bytes) => match desk.stdin() {
            Some(stdin) => streams::feed(&stdin, bytes, to),
            None => drop(to.tell(&Event::StdinTaken)),
        },
        Request::StdinEnd if desk.stdin_once => {
            if let Some(stdin) = desk.stdin() {
                let _closed = stdin.try_send(None);
            }
        }
        Request::StdinEnd => {}
        Request::Resize(size) => drop(desk.commands.send(Command::Resize(size))),
        Request::Wait => desk.hub.add(to, false),
        Request::Attach(order) => {
            answer(Event::Done);
            desk.hub.add(to, order.output);
        }
        // What was asked may end the container, and the answer is still given.
        asked => {
            let _answering = desk.hub.answering();
            answer(carry_out(asked, desk));
        }
    }
}

/// Has the main loop carry out what a client asked for, and returns the answer.
fn carry_out(request: Request, desk: &Desk) -> Event {
    let done = |outcome: Result<(), Failure>| match outcome {
        Ok(()) => Event::Done,
        Err(failure) => Event::Failed(failure),
    };
    match request {
        Request::Signal(number) => done(ask(desk, |reply| Command::Signal(number, reply))),
        Request::Stop(order) => done(ask(desk, |reply| Command::Stop(order, reply))),
        Request::Pause => done(ask(desk, |reply| Command::Pause(true, reply))),
        Request::Unpause => done(ask(desk, |reply| Command::Pause(false, reply))),
        Request::Update(order) => done(ask(desk, |reply| Command::Update(order, reply))),
        Request::Network(order) => done(ask(desk, |reply| Command::Network(order, reply))),
        Request::Stats => match ask(desk, Command::Stats) {
            Ok(stats) => Event::Stats(Box::new(stats)),
            Err(failure) => Event::Failed(failure),
        },
        Request::Processes => match ask(desk, Command::Processes) {
            Ok(ids) => Event::Processes(ids),
            Err(failure) => Event::Failed(failure),
        },
        _ => Event::Failed(Failure {
            kind: ErrorKind::Internal,
            message: "a container is launched once, and a process is run on a connection of its own"
                .to_owned(),
            hints: Vec::new(),
        }),
    }
}

/// Makes the connection that of one further process, until the client goes.
fn exec(
    order: crate::supervisor::protocol::ExecOrder,
    connection: &mut Box<dyn Connection>,
    to: &Arc<Outlet>,
    desk: &Desk,
) {
    let (wishes, inbox) = unbounded_channel();
    let session = Session { order, to: Arc::clone(to), wishes: inbox };
    if desk.commands.send(Command::Exec(Box::new(session))).is_err() {
        to.tell(&Event::Failed(not_running()));
        return;
    }
    while let Ok(Some(request)) = Request::receive(connection) {
        let wish = match request {
            Request::Stdin(bytes) => Wish::Stdin(Some(bytes)),
            Request::StdinEnd => Wish::Stdin(None),
            Request::Signal(number) => Wish::Signal(number),
            Request::Resize(size) => Wish::Resize(size),
            _ => break,
        };
        if wishes.send(wish).is_err() {
            break;
        }
    }
}
