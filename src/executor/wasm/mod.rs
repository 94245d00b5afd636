//! WASI containers: translates [`Create`] into grants of `runtime_wasm` and its answers into this boundary's.
//!
//! A guest gets the container's root as `/`, what was mounted under its own name, the container's arguments, environment and streams,
//! the network it was granted, and nothing else. Where this process may mount (Linux), mounts are a part of the root as well, read-only
//! ones by the kernel; elsewhere a mount is a directory of its own beside the root, which a program reaches by the same paths.
//! A directory of the host that is mounted at `/` is the guest's root instead, alone or with what is mounted below it given beside it;
//! the program still comes from the container's own.
//!
//! Invariants:
//! - The program is looked up inside the root by the kernel (or a capability), never by joining host paths.
//! - Nothing stays mounted: a tree lives as long as the task's descriptor of it.
//! - The guest runs in this process, on threads: ending the process ends it, whatever it does.
//!
//! **Signals.** A guest has no handlers, so a signal does what it does by default: SIGCHLD, SIGCONT, SIGURG, SIGWINCH (and 0)
//! nothing; those that would stop it for a while are refused; every other one ends it, with status 128+n. A server of HTTP is asked
//! first: all but SIGKILL let it answer what it has begun, and it then ends with status 0.
//!
//! **Walls.** On Linux a container's programs are started on a thread of the supervisor that is apart from the host (`place`): mount, IPC
//! and UTS namespaces, an empty root, no system calls that lead out, few capabilities, no sockets where it is granted no
//! network, and no files but its own where the kernel has Landlock. What a kernel refuses of namespaces and Landlock is done without;
//! `info` tells what stands.
//!
//! **Networks.** Such a thread can have a network of its own, connected like any container's. An HTTP server then listens there, on the
//! published ports' numbers or on 80.
//!
//! **Users.** A sandbox has none: `--user` is refused, and an image's own `USER` has no effect. The terminal of a guest has no
//! session, so its interrupt key is only a key.

mod compiled;
#[cfg(unix)]
#[path = "descriptors_unix.rs"]
mod descriptors;
#[cfg(not(unix))]
#[path = "descriptors_other.rs"]
mod descriptors;
mod grants;
mod memo;
#[cfg(target_os = "linux")]
#[path = "place_linux.rs"]
mod place;
#[cfg(not(target_os = "linux"))]
#[path = "place_other.rs"]
mod place;
mod ports;
mod program;
#[cfg(target_os = "linux")]
#[path = "root_linux.rs"]
mod root;
#[cfg(not(target_os = "linux"))]
#[path = "root_other.rs"]
mod root;
mod task;
#[cfg(unix)]
#[path = "terminal_unix.rs"]
mod terminal;
#[cfg(not(unix))]
#[path = "terminal_refused.rs"]
mod terminal;
mod usage;

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use runtime_wasm::{Preopen, Runtime, SetupError};

use super::{Create, Entry, ExecError, Executor, Prospect, Refusal, Settings, Task, Want, Workload};
use crate::model::{ContainerId, ErrorKind, Packaging};
pub use runtime_wasm::{Contents, Item, Kind, Need, Role, Target, inspect};

pub use compiled::{Caches, Programs, keep_only, prepare, trim, usage};
pub use runtime_wasm::CodeUsage;

use place::Place;
use program::Loader;
use root::RootDir;
use task::{Container, WasmTask};

/// The executor's name.
pub const NAME: &str = "wasm";

/// The host side's view. The aliases are names that others have for running WASI images with wasmtime.
pub const ENTRY: Entry = Entry {
    name: NAME,
    aliases: &["wasmtime", "io.containerd.wasmtime.v1", "io.containerd.wasmtime.v2"],
    admit,
    open,
};

/// Which wishes have a meaning in a sandbox.
const CAN: [Want; 13] = [
    Want::HostNetwork,
    Want::Publish,
    Want::PublishAll,
    Want::Destinations,
    Want::Fuel,
    Want::Memory,
    Want::Cpu,
    Want::Pids,
    Want::OpenFiles,
    Want::Mounts,
    Want::Tmpfs,
    Want::ReadOnlyRoot,
    Want::Healthcheck,
];

fn admit(workload: &Workload) -> Result<(), Refusal> {
    if !workload.platform.is_wasi() && !workload.names_wasm_file() && workload.packaging == Packaging::Image {
        return Err(Refusal::Platform { executor: NAME, platform: workload.platform.clone() });
    }
    let can = |want: &Want| CAN.contains(want) || *want == Want::Networks && place::JOINS;
    match workload.wants.iter().find(|want| !can(want)) {
        Some(want) => Err(Refusal::Cannot { executor: NAME, what: want.describe() }),
        None => Ok(()),
    }
}

fn open(settings: &Settings) -> Result<Box<dyn Executor>, ExecError> {
    let loader = Arc::new(loader(&Caches::of(settings), false)?);
    Ok(Box::new(Wasm {
        loader,
        settings: settings.clone(),
        mounted: Mutex::default(),
        place: Mutex::default(),
        early: Mutex::default(),
    }))
}

/// What compiles; `fuel`: code that counts its instructions.
fn loader(caches: &Caches, fuel: bool) -> Result<Loader, ExecError> {
    let runtime = Runtime::new(&caches.settings(fuel)).map_err(|error| {
        let kind = match &error {
            SetupError::Cache(_) => ErrorKind::Unavailable,
            SetupError::Engine(_) | SetupError::NoInterpreter => ErrorKind::Unsupported,
        };
        ExecError::failed(kind, "setting up the sandbox", error)
    })?;
    Ok(Loader { runtime, memo: caches.memo(), ready: Mutex::default() })
}

/// A root with what is mounted into it.
type Mounted = (Arc<RootDir>, Vec<Preopen>);

/// The executor.
#[derive(Debug)]
struct Wasm {
    loader: Arc<Loader>,
    settings: Settings,
    /// The container's root: a process behind its second wall mounts nothing again, so a restart takes the same.
    mounted: Mutex<Option<Mounted>>,
    /// Where its programs run: nor does it make another.
    place: Mutex<Option<Arc<Place>>>,
    /// A place without networks and names that was made ahead.
    early: Mutex<Option<Place>>,
}

impl Wasm {
    /// The root, mounted once in a process that is the container's own, which is then confined for good.
    fn root(&self, request: &Create, place: Option<&Place>) -> Result<Mounted, ExecError> {
        let mut mounted = self.mounted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = &*mounted {
            return Ok(made.clone());
        }
        let mut root = root::open(&request.root)?;
        let preopens = root.mount(&request.mounts, request.host.read_only)?;
        let made = (Arc::new(root), preopens);
        if self.settings.own_process {
            *mounted = Some(made.clone());
            // One that is to be connected is confined when it is.
            if let Some(place) = place.filter(|place| place.network().is_none()) {
                place.confine()?;
            }
        }
        Ok(made)
    }

    /// Where programs run: apart from the host in a process that is the container's own, and wherever its network is.
    fn place(&self, request: &Create, names: bool) -> Result<Option<Arc<Place>>, ExecError> {
        let networked = request.host.network.is_networked();
        if !networked && (!self.settings.own_process || !place::APART) {
            return Ok(None);
        }
        let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = &*place {
            made.renew(&request.scratch, &request.name_files)?;
            return Ok(Some(Arc::clone(made)));
        }
        let early = self.early.lock().unwrap_or_else(PoisonError::into_inner).take();
        let made = match early {
            Some(early) if !networked && !names => early,
            _ if networked => Place::networked(&request.scratch, &request.name_files)?,
            _ => Place::without_network(names)?,
        };
        Ok(Some(Arc::clone(place.insert(Arc::new(made)))))
    }
}

/// What stands around a sandbox on this host, for `info`.
pub fn walls() -> Vec<&'static str> {
    place::walls()
}

#[async_trait]
impl Executor for Wasm {
    /// Blocks while a program is compiled for the first time: a supervisor has nothing else to do then.
    async fn create(&self, request: Create) -> Result<Box<dyn Task>, ExecError> {
        let loader = if request.host.fuel.is_some() {
            Arc::new(loader(&Caches::of(&self.settings), true)?)
        } else {
            Arc::clone(&self.loader)
        };
        let network = grants::network(&request.host)?;
        let serving = grants::serving(&request.host)?;
        let files = grants::files(&request.host);
        let room = descriptors::room(files)?;
        let place = self.place(&request, network.any())?;
        let (tree, preopens) = self.root(&request, place.as_deref())?;
        let limits = grants::limits(&request.host, self.settings.guest_memory, files, room);
        let container = Arc::new(Container {
            account: loader.runtime.account(limits),
            program: request.process.args.first().cloned().unwrap_or_default(),
            env: request.process.env.clone(),
            cwd: request.process.cwd.clone(),
            loader,
            preopens,
            network,
            serving,
            confined: self.settings.own_process,
            place,
            root: Some(tree),
            id: request.id,
            life: std::sync::Mutex::default(),
        });
        let listeners = ports::Listeners::Wanted(request.host.ports.clone());
        Ok(Box::new(WasmTask::create(&container, request.process, request.stdio, listeners)?))
    }

    fn anticipate(&self, prospect: &Prospect) {
        if !prospect.fuel {
            self.loader.anticipate(prospect);
        }
        if prospect.offline && self.settings.own_process && place::APART {
            let early = Place::ahead().ok();
            *self.early.lock().unwrap_or_else(PoisonError::into_inner) = early;
        }
    }

    /// Nothing outlives the process that made it.
    async fn sweep(&self, _: &ContainerId) -> Result<(), ExecError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
