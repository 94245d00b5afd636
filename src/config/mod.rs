//! The configuration: one TOML file, read once at the start of a command.
//!
//! ```toml
//! userns-remap = true                   # containers of root's have users of their own on the host
//! default-network = "none"              # of containers that name none; `bridge`, where nothing is said
//! [aliases]
//! hello = "umiak.internal/hello"        # short names; this one is built in
//! [registries."docker.io"]
//! mirrors = ["127.0.0.1:5000"]          # asked first, in order
//! [registries."registry.lan:5000"]
//! insecure = true                       # plain HTTP
//! [registries."registry.lan"]
//! skip-verify = true                    # HTTPS, whoever answers
//! client-cert = "/etc/umiak/me.pem"     # shown to it, with its key
//! client-key = "/etc/umiak/me-key.pem"
//! search = "search.lan:5000"            # who answers `search` for it
//! [registries."localhost:5001"]
//! tls = true                            # HTTPS although it is loopback
//! ca-file = "/etc/umiak/ca.pem"         # trusted for this registry besides the system's
//! [pull]
//! parallel = 3                          # layers downloaded at once
//! bandwidth = "2MB"                     # bytes a second that pulls may take, together
//! [push]
//! parallel = 5                          # layers uploaded at once
//! bandwidth = 500000
//! [store]
//! budget = "50GB"                       # most that blobs and layers take: images used longest ago go first
//! [wasm]
//! memory-mib = 4096                     # most linear memory of a module
//! cache = "10GB"                        # most that compiled modules take: those used longest ago go first
//! target = "native"                     # what they are compiled for; "pulley64" is an interpreter, where there is no compiler
//! [runtimes.crun-debug]                 # for `--runtime crun-debug`
//! path = "/usr/bin/crun"
//! args = ["--debug"]                    # in front of every command
//! ```
//! The file is `--config`, else `$UMIAK_CONFIG`, else `$XDG_CONFIG_HOME/umiak/config.toml` (`~/.config` if unset), else
//! `/etc/umiak/config.toml`: the first that there is, never a merge of two, so that one file explains everything. A file that
//! is named but missing is an error. Unknown keys are refused: a misspelt `mirors` must not silently pull from elsewhere.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::model::{ErrorKind, Kind};
use crate::reference::{Reference, ReferenceError};

/// Where the system's configuration is.
const SYSTEM_FILE: &str = "/etc/umiak/config.toml";
/// The environment variable that names another file.
const VARIABLE: &str = "UMIAK_CONFIG";

/// The whole configuration, checked.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// Short names and what they stand for.
    pub aliases: BTreeMap<String, Reference>,
    /// What is special about a registry, by its host and port.
    pub registries: BTreeMap<String, RegistryConfig>,
    /// How images are pulled.
    pub pull: PullConfig,
    /// How images are pushed.
    pub push: PushConfig,
    /// What the store may take.
    pub store: StoreConfig,
    /// What Wasm containers may use.
    pub wasm: WasmConfig,
    /// Installed OCI runtimes, by the name that `--runtime` takes.
    pub runtimes: BTreeMap<String, RuntimeConfig>,
    /// Every container of root's has users of its own on the host, unless `--userns host` says otherwise.
    pub userns_remap: bool,
    /// The network of Linux containers of root's that name none.
    pub default_network: DefaultNetwork,
}

/// The network of containers that name none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DefaultNetwork {
    /// The one that is always there, as with docker.
    #[default]
    Bridge,
    /// Only the loopback device.
    None,
}

/// What is special about one registry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct RegistryConfig {
    /// `host[:port]` of registries that are asked before it, in order.
    pub mirrors: Vec<String>,
    /// It is spoken to in plain HTTP.
    pub insecure: bool,
    /// It is spoken to in HTTPS even if it is a loopback address.
    pub tls: bool,
    /// It is spoken to in HTTPS without a look at its certificate.
    pub skip_verify: bool,
    /// A PEM file with certificates to trust for it, besides the system's.
    pub ca_file: Option<PathBuf>,
    /// A PEM file with the certificate to show it.
    pub client_cert: Option<PathBuf>,
    /// A PEM file with the key of that certificate.
    pub client_key: Option<PathBuf>,
    /// `host[:port]` that answers searches for it.
    pub search: Option<String>,
}

/// How images are pulled.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct PullConfig {
    /// Layers downloaded at once, 1 to 64.
    pub parallel: usize,
    /// Bytes a second of one process's downloads.
    #[serde(deserialize_with = "size")]
    pub bandwidth: Option<u64>,
}

/// How images are pushed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct PushConfig {
    /// Layers uploaded at once, 1 to 64.
    pub parallel: usize,
    /// Bytes a second of one process's uploads.
    #[serde(deserialize_with = "size")]
    pub bandwidth: Option<u64>,
}

/// What the store may take.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct StoreConfig {
    /// Bytes of blobs and unpacked layers; as many as there is room for otherwise.
    #[serde(deserialize_with = "size")]
    pub budget: Option<u64>,
}

/// A number of bytes, or a text such as `50GB` (units of 1000) or `40GiB` (of 1024).
fn size<'d, D: serde::Deserializer<'d>>(from: D) -> Result<Option<u64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Number(u64),
        Text(String),
    }
    let wrong = |text: &str| {
        serde::de::Error::custom(format!("`{text}` is not a size such as `50GB`, `40GiB` or `1000000`"))
    };
    let text = match Written::deserialize(from)? {
        Written::Number(number) => return Ok(Some(number)),
        Written::Text(text) => text,
    };
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let unit: u64 = match text[end..].trim() {
        "" | "B" => 1,
        "kB" | "KB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return Err(wrong(&text)),
    };
    let number: u64 = text[..end].parse().map_err(|_| wrong(&text))?;
    number.checked_mul(unit).map(Some).ok_or_else(|| wrong(&text))
}

/// What Wasm containers may use.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct WasmConfig {
    /// Most linear memory of a module, in MiB; 1 to 65536.
    pub memory_mib: u64,
    /// Most bytes that compiled modules take.
    #[serde(deserialize_with = "size")]
    pub cache: Option<u64>,
    /// What modules are compiled for.
    pub target: WasmTarget,
}

/// What Wasm modules are compiled for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WasmTarget {
    /// The host's processor.
    #[default]
    Native,
    /// wasmtime's interpreter.
    Pulley64,
}

/// An installed OCI runtime.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RuntimeConfig {
    /// The program, absolute.
    pub path: PathBuf,
    /// Arguments in front of every command.
    #[serde(default)]
    pub args: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            aliases: built_in_aliases(),
            registries: BTreeMap::new(),
            pull: PullConfig::default(),
            push: PushConfig::default(),
            store: StoreConfig::default(),
            wasm: WasmConfig::default(),
            runtimes: BTreeMap::new(),
            userns_remap: false,
            default_network: DefaultNetwork::Bridge,
        }
    }
}

impl Default for PullConfig {
    fn default() -> Self {
        Self { parallel: 3, bandwidth: None }
    }
}

impl Default for PushConfig {
    fn default() -> Self {
        Self { parallel: 5, bandwidth: None }
    }
}

impl Default for WasmConfig {
    fn default() -> Self {
        Self { memory_mib: 4096, cache: Some(10_000_000_000), target: WasmTarget::Native }
    }
}

fn built_in_aliases() -> BTreeMap<String, Reference> {
    "umiak.internal/hello".parse().map(|hello| ("hello".to_owned(), hello)).into_iter().collect()
}

/// A configuration file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("cannot read the configuration `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// It is not the TOML that is expected.
    #[error("configuration `{}`, line {line}: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where, from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// A value is out of its range.
    #[error("configuration `{}`: `{key}` is `{value}`, which is not {rule}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The key, dotted.
        key: String,
        /// Its value.
        value: String,
        /// What it has to be.
        rule: &'static str,
    },
}

impl Kind for ConfigError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Read { source, .. } if source.kind() == std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            _ => ErrorKind::InvalidInput,
        }
    }
}

impl Config {
    /// Reads the file that applies: `explicit` (`--config`), or the first of the usual places; the defaults if there is none.
    pub fn load(explicit: Option<&Path>) -> Result<Self, ConfigError> {
        let (named, usual) = places(explicit, |name| std::env::var_os(name));
        if let Some(path) = named {
            return Self::read(&path);
        }
        for path in usual {
            match Self::read(&path) {
                Err(ConfigError::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
                result => return result,
            }
        }
        Ok(Self::default())
    }

    /// Reads one file.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, path)
    }

    /// The configuration that a text holds; `path` is for messages.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let mut config: Self = toml::from_str(text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            ConfigError::Syntax {
                path: path.to_owned(),
                line: before.matches('\n').count() + 1,
                message: error.message().to_owned(),
            }
        })?;
        for (name, reference) in built_in_aliases() {
            config.aliases.entry(name).or_insert(reference);
        }
        config.check(path)?;
        Ok(config)
    }

    fn check(&self, path: &Path) -> Result<(), ConfigError> {
        let fail = |key: String, value: &dyn std::fmt::Display, rule| {
            Err(ConfigError::Value { path: path.to_owned(), key, value: value.to_string(), rule })
        };
        for name in self.aliases.keys() {
            let short = name.parse::<Reference>().is_ok() && !name.contains(['/', ':', '@']);
            if !short {
                return fail("aliases".into(), name, "a short name, without slash and tag");
            }
        }
        for (host, registry) in &self.registries {
            for name in std::iter::once(host).chain(&registry.mirrors).chain(&registry.search) {
                let spelled = format!("{name}/x").parse::<Reference>();
                if !spelled.is_ok_and(|reference| reference.registry() == name) {
                    return fail(
                        format!("registries.\"{host}\""),
                        name,
                        "`host`, `host:port` or `[IPv6]:port` in lower case, with a dot, a port or `localhost`",
                    );
                }
            }
            if registry.insecure && registry.skip_verify {
                return fail(
                    format!("registries.\"{host}\".skip-verify"),
                    &true,
                    "possible with `insecure = true`",
                );
            }
            if registry.client_cert.is_some() != registry.client_key.is_some() {
                let (key, rule) = (
                    format!("registries.\"{host}\".client-cert"),
                    "complete without `client-key`, nor the other way round",
                );
                return fail(key, &registry.client_cert.is_some(), rule);
            }
            if registry.insecure && registry.tls {
                return fail(format!("registries.\"{host}\".tls"), &true, "possible with `insecure = true`");
            }
        }
        for (name, runtime) in &self.runtimes {
            if !runtime.path.is_absolute() {
                return fail(format!("runtimes.{name}.path"), &runtime.path.display(), "an absolute path");
            }
        }
        if !(1..=64).contains(&self.pull.parallel) {
            return fail("pull.parallel".into(), &self.pull.parallel, "from 1 to 64");
        }
        if !(1..=64).contains(&self.push.parallel) {
            return fail("push.parallel".into(), &self.push.parallel, "from 1 to 64");
        }
        if !(1..=65_536).contains(&self.wasm.memory_mib) {
            return fail("wasm.memory-mib".into(), &self.wasm.memory_mib, "from 1 to 65536");
        }
        Ok(())
    }

    /// The image that a user's text names, short names resolved; a tag or digest in the text wins over the alias's tag.
    pub fn reference(&self, text: &str) -> Result<Reference, ReferenceError> {
        let end = text.find([':', '@']).unwrap_or(text.len());
        let Some(target) = self.aliases.get(&text[..end]) else { return text.parse() };
        if end == text.len() { Ok(target.clone()) } else { (target.familiar_name() + &text[end..]).parse() }
    }
}

/// The file that was named, and the usual ones in order.
fn places(
    explicit: Option<&Path>,
    variable: impl Fn(&str) -> Option<OsString>,
) -> (Option<PathBuf>, Vec<PathBuf>) {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let named = explicit.map(Path::to_owned).or_else(|| set(VARIABLE));
    let user = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")));
    let user = user.map(|folder| folder.join("umiak").join("config.toml"));
    (named, user.into_iter().chain([PathBuf::from(SYSTEM_FILE)]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(text, Path::new("c.toml"))
    }

    #[test]
    fn a_full_file_and_an_empty_one() {
        assert_eq!(parse("").unwrap(), Config::default());
        let config = parse(
            "[aliases]\nx = \"quay.io/a/x:1\"\n[registries.\"docker.io\"]\nmirrors = [\"127.0.0.1:5000\", \"[::1]:5000\"]\n\
             [registries.\"r.lan\"]\ninsecure = true\nca-file = \"/ca\"\n[pull]\nparallel = 8\nbandwidth = \"2MiB\"\n[push]\nbandwidth = 1000\n[wasm]\nmemory-mib = 64\ncache = \"1GB\"\ntarget = \"pulley64\"\n",
        )
        .unwrap();
        assert_eq!(config.registries["docker.io"].mirrors.len(), 2);
        assert_eq!((config.pull.bandwidth, config.push.bandwidth), (Some(2 << 20), Some(1000)));
        assert_eq!((config.pull.parallel, config.wasm.memory_mib), (8, 64));
        assert_eq!((config.wasm.cache, config.wasm.target), (Some(1_000_000_000), WasmTarget::Pulley64));
        for (text, full) in [
            ("x", "quay.io/a/x:1"),
            ("x:2", "quay.io/a/x:2"),
            ("hello", "umiak.internal/hello:latest"),
            ("y", "docker.io/library/y:latest"),
            ("org/x", "docker.io/org/x:latest"),
        ] {
            assert_eq!(config.reference(text).unwrap().canonical(), full);
        }
    }

    #[test]
    fn budgets() {
        for (text, bytes) in [("1000", 1000), ("\"2kB\"", 2000), ("\"3 GiB\"", 3 << 30), ("\"7\"", 7)] {
            let config = parse(&format!("[store]\nbudget = {text}\n")).unwrap();
            assert_eq!(config.store.budget, Some(bytes), "{text}");
        }
        assert_eq!(parse("[store]\n").unwrap().store.budget, None);
    }

    #[test]
    fn bad_files_name_the_place() {
        for (text, message) in [
            ("\n\n[pull]\nparalel = 3\n", "line 4: unknown field `paralel`"),
            ("[pull\n", "line 1"),
            ("[aliases]\nx = \"UPPER\"\n", "line 2: invalid reference format"),
            ("[store]\nbudget = \"5 apples\"\n", "`5 apples` is not a size"),
            ("[pull]\nparallel = 0\n", "`pull.parallel` is `0`"),
            ("[aliases]\n\"a/b\" = \"x\"\n", "`a/b`"),
            ("[registries.\"docker.io\"]\nmirrors = [\"http://x\"]\n", "`http://x`"),
            ("[runtimes.x]\npath = \"crun\"\n", "`runtimes.x.path` is `crun`"),
            ("[runtimes.x]\nargs = []\n", "missing field `path`"),
            ("[registries.\"a.b\"]\ninsecure = true\ntls = true\n", "insecure = true"),
            ("[registries.\"a.b\"]\nclient-cert = \"x\"\n", "client-key"),
            ("[registries.\"a.b\"]\nsearch = \"http://x\"\n", "`http://x`"),
            ("[push]\nparallel = 65\n", "`push.parallel` is `65`"),
            ("[pull]\nbandwidth = \"2x\"\n", "line 2"),
            ("[pull]\nbandwidth = -1\n", "line 2"),
        ] {
            let error = parse(text).expect_err(text).to_string();
            assert!(error.contains(message), "{error}");
        }
        let error = Config::load(Some(Path::new("/nonexistent/umiak.toml"))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }

    #[test]
    fn places_in_order() {
        let env = |name: &str| match name {
            "HOME" => Some("/h".into()),
            _ => None,
        };
        let (named, usual) = places(None, env);
        assert_eq!(named, None);
        assert_eq!(usual, [Path::new("/h/.config/umiak/config.toml"), Path::new(SYSTEM_FILE)]);
        assert_eq!(places(Some(Path::new("/x")), |_| Some("/y".into())).0.unwrap(), Path::new("/x"));
        assert_eq!(places(None, |name| (name == VARIABLE).then(|| "/y".into())).0.unwrap(), Path::new("/y"));
    }
}
