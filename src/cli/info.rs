//! `umiak info`.

use clap::Args;
use serde_json::json;

use super::Execute;
use super::fault::Fault;
use super::output::Printer;
use super::output::template::Template;
use crate::engine::Engine;
use crate::executor;

/// Display system-wide information
#[derive(Debug, Args)]
#[command(help_template = super::HELP, override_usage = "umiak info [OPTIONS]", args_override_self = true)]
pub(super) struct Info {
    /// Format output using a custom template: 'json' or a Go template
    #[arg(short, long, value_name = "string")]
    format: Option<String>,
}

impl Execute for Info {
    fn run(&self, engine: &Engine, printer: &Printer) -> Result<u8, Fault> {
        let summary = engine.summary()?;
        let executors: Vec<_> = executor::entries().iter().map(|entry| entry.name).collect();
        let runtimes = runtimes(engine);
        let platforms: Vec<_> = executor::default_platforms().iter().map(ToString::to_string).collect();
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let root = engine.root().display().to_string();
        let version = env!("CARGO_PKG_VERSION");
        let warnings = engine.network_warnings();
        let walls = executor::wasm::walls();
        let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
        let all = json!({
            "Containers": summary.containers,
            "ContainersRunning": summary.running,
            "ContainersPaused": 0,
            "ContainersStopped": summary.stopped,
            "Images": summary.images,
            "Driver": summary.snapshotter,
            "Executors": executors,
            "Runtimes": runtimes,
            "DefaultRuntime": executor::linux::NAME,
            "DefaultPlatforms": platforms,
            "OSType": os,
            "Architecture": arch,
            "NCPU": cpus,
            "DockerRootDir": root,
            "Rootless": summary.confinement.rootless,
            "IdMapping": summary.confinement.ids,
            "Networks": summary.confinement.networks,
            "ControlGroups": summary.confinement.control_groups,
            "WasmWalls": walls,
            "RunRoot": engine.run_root().display().to_string(),
            "ServerVersion": version,
            "Warnings": warnings,
        });
        match self.format.as_deref() {
            Some("json") => printer.line(all)?,
            Some(template) => printer.line(Template::parse(template)?.value(&all)?)?,
            None => printer.write(
                format!(
                    "Containers: {}\n Running: {}\n Stopped: {}\nImages: {}\nServer Version: {version}\n\
                     Storage Driver: {}\nExecutors: {}\nRuntimes: {}\nDefault Platforms: {}\nOSType: {os}\n\
                     Architecture: {arch}\nCPUs: {cpus}\nRoot Dir: {root}\nRun Dir: {}\nRootless: {}\nId Mapping: {}\nNetworks: {}\nControl Groups: {}\nWasm Walls: {}\n",
                    summary.containers,
                    summary.running,
                    summary.stopped,
                    summary.images,
                    summary.snapshotter,
                    executors.join(" "),
                    runtimes.keys().map(String::as_str).collect::<Vec<_>>().join(" "),
                    platforms.join(" "),
                    engine.run_root().display(),
                    summary.confinement.rootless,
                    summary.confinement.ids,
                    summary.confinement.networks,
                    summary.confinement.control_groups,
                    if walls.is_empty() { "none".to_owned() } else { walls.join(" ") },
                )
                .as_bytes(),
            )?,
        }
        if self.format.is_none() {
            for warning in warnings {
                printer.line_err(format!("WARNING: {warning}"))?;
            }
        }
        Ok(0)
    }
}

/// What `--runtime` may name: ours, and the programs that are installed or configured; as docker shows them.
fn runtimes(engine: &Engine) -> serde_json::Map<String, serde_json::Value> {
    let ours = executor::entries()
        .into_iter()
        .map(|entry| entry.name)
        .filter(|name| *name != executor::oci_cli::NAME);
    let ours = ours.map(|name| (name.to_owned(), json!({ "path": "" })));
    let installed = executor::runtimes::known(&engine.config().runtimes).into_iter();
    ours.chain(installed.map(|(name, path)| (name, json!({ "path": path })))).collect()
}
