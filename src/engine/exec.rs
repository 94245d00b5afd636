//! Further processes in a container that runs.

use std::collections::VecDeque;

use crate::executor::{Process, WindowSize};
use crate::supervisor::protocol::{Event, ExecOrder};
use crate::supervisor::{self, SupervisorError};

use super::{Engine, EngineError, Session};

/// What the user wishes for a further process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecOptions {
    /// Program and arguments.
    pub args: Vec<String>,
    /// `KEY=value`, over the container's.
    pub env: Vec<String>,
    /// Working directory; empty: the container's.
    pub cwd: String,
    /// User; empty: the container's.
    pub user: String,
    /// A terminal of this size.
    pub terminal: Option<WindowSize>,
    /// Keep its input open.
    pub stdin: bool,
    /// Do not stay with it.
    pub detach: bool,
    /// `--privileged`.
    pub privileged: bool,
}

impl Engine {
    /// Runs a further process in a container. Returns once it runs, or with the reason why it does not.
    pub fn exec(&self, query: &str, options: &ExecOptions) -> Result<Session, EngineError> {
        let view = self.container(query)?;
        let container = view.container;
        let remote = if view.alive { supervisor::connect(&self.run_dir(&container.id)) } else { None };
        let Some(remote) = remote else {
            return Err(EngineError::NotRunning { name: container.name, action: "exec in" });
        };
        let or = |wish: &String, default: &String| if wish.is_empty() { default } else { wish }.clone();
        let cwd = or(&options.cwd, &container.config.working_dir);
        let order = ExecOrder {
            process: Process {
                args: options.args.clone(),
                env: options.env.clone(),
                cwd: if cwd.is_empty() { "/".to_owned() } else { cwd },
                user: or(&options.user, &container.config.user),
            },
            terminal: options.terminal,
            stdin: options.stdin,
            detach: options.detach,
            privileged: options.privileged,
        };
        let mut client = Self::heard(remote.exec(order), &container.name, "exec in")?;
        let mut early = VecDeque::new();
        loop {
            match Self::heard(client.receive(), &container.name, "exec in")? {
                Event::Started => return Ok(Session::new(client, early)),
                Event::Failed(failure) => return Err(SupervisorError::Reported(failure).into()),
                Event::Exited(_) => return Err(SupervisorError::Lost { log: String::new() }.into()),
                event => early.push_back(event),
            }
        }
    }
}
