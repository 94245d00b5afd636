//! `umiak manifest`: tags for several platforms, by hand.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use clap::Args;
use serde_json::{Map, Value, json};

use super::Execute;
use super::fault::Fault;
use super::output::Printer;
use crate::engine::{Annotation, Engine};
use crate::model::ListEntry;

/// Create a local manifest list for annotating and pushing to a registry
#[derive(Debug, Args)]
#[command(help_template = super::HELP, override_usage = "umiak manifest create MANIFEST_LIST MANIFEST [MANIFEST...]", args_override_self = true)]
pub(super) struct Create {
    /// Amend an existing manifest list
    #[arg(short, long)]
    amend: bool,
    /// Allow communication with an insecure registry
    #[arg(long)]
    insecure: bool,
    #[arg(required = true, hide = true)]
    list: String,
    #[arg(required = true, hide = true)]
    manifests: Vec<String>,
}

impl Execute for Create {
    fn run(&self, engine: &Engine, printer: &Printer) -> Result<u8, Fault> {
        let list = engine.parse_reference(&self.list)?;
        let members: Result<Vec<_>, _> =
            self.manifests.iter().map(|name| engine.parse_reference(name)).collect();
        engine.create_list(&list, &members?, self.amend, self.insecure)?;
        printer.line(format!("Created manifest list {}", list.canonical()))?;
        Ok(0)
    }
}

/// Add additional information to a local image manifest
#[derive(Debug, Args)]
#[command(help_template = super::HELP, override_usage = "umiak manifest annotate [OPTIONS] MANIFEST_LIST MANIFEST", args_override_self = true)]
pub(super) struct Annotate {
    /// Set architecture
    #[arg(long, value_name = "string")]
    arch: Option<String>,
    /// Set operating system
    #[arg(long, value_name = "string")]
    os: Option<String>,
    /// Set operating system feature
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    os_features: Vec<String>,
    /// Set operating system version
    #[arg(long, value_name = "string")]
    os_version: Option<String>,
    /// Set architecture variant
    #[arg(long, value_name = "string")]
    variant: Option<String>,
    #[arg(required = true, hide = true)]
    list: String,
    #[arg(required = true, hide = true)]
    manifest: String,
}

impl Execute for Annotate {
    fn run(&self, engine: &Engine, _: &Printer) -> Result<u8, Fault> {
        let said = Annotation {
            architecture: self.arch.clone(),
            os: self.os.clone(),
            os_features: self.os_features.clone(),
            os_version: self.os_version.clone(),
            variant: self.variant.clone(),
        };
        engine.annotate(
            &engine.parse_reference(&self.list)?,
            &engine.parse_reference(&self.manifest)?,
            said,
        )?;
        Ok(0)
    }
}

/// Display an image manifest, or manifest list
#[derive(Debug, Args)]
#[command(help_template = super::HELP, override_usage = "umiak manifest inspect [OPTIONS] [MANIFEST_LIST] MANIFEST", args_override_self = true)]
pub(super) struct Inspect {
    /// Allow communication with an insecure registry
    #[arg(long)]
    insecure: bool,
    /// Output additional info including layers and platform
    #[arg(short, long)]
    verbose: bool,
    #[arg(required = true, num_args = 1..=2, hide = true)]
    names: Vec<String>,
}

impl Execute for Inspect {
    fn run(&self, engine: &Engine, printer: &Printer) -> Result<u8, Fault> {
        let names: Result<Vec<_>, _> = self.names.iter().map(|name| engine.parse_reference(name)).collect();
        let names = names?;
        let (list, name) = match names.as_slice() {
            [list, name] => (Some(list), name),
            [name] => (None, name),
            _ => return Err(Fault::Conflict("one name or two are expected")),
        };
        let found = engine.inspect_manifest(list, name, self.insecure)?;
        if !self.verbose {
            // As it is, byte by byte: its digest can be checked.
            printer.write(&found.bytes)?;
            printer.line("")?;
            return Ok(0);
        }
        let mut shown: Vec<Value> = found.entries.iter().map(described).collect();
        let value = if found.list { Value::Array(shown) } else { shown.pop().unwrap_or_default() };
        printer.line(serde_json::to_string_pretty(&value)?)?;
        Ok(0)
    }
}

fn described(entry: &ListEntry) -> Value {
    let mut platform = Map::new();
    let texts = [
        ("architecture", Some(&entry.architecture)),
        ("os", Some(&entry.os)),
        ("os.version", entry.os_version.as_ref()),
        ("variant", entry.variant.as_ref()),
    ];
    for (key, text) in texts {
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            platform.insert(key.to_owned(), text.as_str().into());
        }
    }
    if !entry.os_features.is_empty() {
        platform.insert("os.features".to_owned(), entry.os_features.clone().into());
    }
    let mut descriptor =
        json!({ "mediaType": entry.media_type, "digest": entry.digest, "size": entry.raw.len() });
    if !platform.is_empty() {
        descriptor["platform"] = platform.into();
    }
    let manifest: Value = serde_json::from_str(&entry.raw).unwrap_or_default();
    let kind = if entry.media_type.contains("docker") { "SchemaV2Manifest" } else { "OCIManifest" };
    json!({ "Ref": entry.reference, "Descriptor": descriptor, "Raw": BASE64_STANDARD.encode(&entry.raw), kind: manifest })
}

/// Push a manifest list to a repository
#[derive(Debug, Args)]
#[command(help_template = super::HELP, override_usage = "umiak manifest push [OPTIONS] MANIFEST_LIST", args_override_self = true)]
pub(super) struct Push {
    /// Allow push to an insecure registry
    #[arg(long)]
    insecure: bool,
    /// Remove the local manifest list after push
    #[arg(short, long)]
    purge: bool,
    #[arg(required = true, hide = true)]
    list: String,
}

impl Execute for Push {
    fn run(&self, engine: &Engine, printer: &Printer) -> Result<u8, Fault> {
        let list = engine.parse_reference(&self.list)?;
        let mut wrote = Ok(());
        let digest = engine.push_list(&list, self.purge, self.insecure, &mut |name, digest| {
            if wrote.is_ok() {
                wrote = printer.line(format!("Pushed ref {} with digest: {digest}", name.canonical()));
            }
        })?;
        wrote?;
        printer.line(digest)?;
        Ok(0)
    }
}

/// Delete one or more manifest lists from local storage
#[derive(Debug, Args)]
#[command(help_template = super::HELP, override_usage = "umiak manifest rm MANIFEST_LIST [MANIFEST_LIST...]")]
pub(super) struct Rm {
    #[arg(required = true, hide = true)]
    lists: Vec<String>,
}

impl Execute for Rm {
    fn run(&self, engine: &Engine, printer: &Printer) -> Result<u8, Fault> {
        super::each(printer, &self.lists, |name| {
            engine.remove_list(&engine.parse_reference(name)?)?;
            Ok(())
        })
    }
}
