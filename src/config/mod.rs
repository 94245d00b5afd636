//! The configuration: one TOML file, read once at the start of a command.
//!
//! ```toml
//! userns-remap = true                   # containers of root's have users of their own on the host
//! [aliases]
//! hello = "umiak.internal/hello"        # short names; this one is built in
//! [registries."docker.io"]
//! mirrors = ["127.0.0.1:5000"]          # asked first, in order
//! [registries."registry.lan:5000"]
//! insecure = true                       # plain HTTP
//! [registries."localhost:5001"]
//! tls = true                            # HTTPS although it is loopback
//! ca-file = "/etc/umiak/ca.pem"         # trusted for this registry besides the system's
//! [pull]
//! parallel = 3                          # layers downloaded at once
//! [wasm]
//! memory-mib = 4096                     # most linear memory of a module
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
    /// What Wasm containers may use.
    pub wasm: WasmConfig,
    /// Installed OCI runtimes, by the name that `--runtime` takes.
    pub runtimes: BTreeMap<String, RuntimeConfig>,
    /// Every container of root's has users of its own on the host, unless `--userns host` says otherwise.
    pub userns_remap: bool,
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
    /// A PEM file with certificates to trust for it, besides the system's.
    pub ca_file: Option<PathBuf>,
}

/// How images are pulled.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct PullConfig {
    /// Layers downloaded at once, 1 to 64.
    pub parallel: usize,
}

/// What Wasm containers may use.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct WasmConfig {
    /// Most linear memory of a module, in MiB; 1 to 65536.
    pub memory_mib: u64,
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
            wasm: WasmConfig::default(),
            runtimes: BTreeMap::new(),
            userns_remap: false,
        }
    }
}

impl Default for PullConfig {
    fn default() -> Self {
        Self { parallel: 3 }
    }
}

impl Default for WasmConfig {
    fn default() -> Self {
        Self { memory_mib: 4096 }
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
            for name in std::iter::once(host).chain(&registry.mirrors) {
                let spelled = format!("{name}/x").parse::<Reference>();
                if !spelled.is_ok_and(|reference| reference.registry() == name) {
                    return fail(
                        format!("registries.\"{host}\""),
                        name,
                        "`host`, `host:port` or `[IPv6]:port` in lower case, with a dot, a port or `localhost`",
                    );
                }
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
             [registries.\"r.lan\"]\ninsecure = true\nca-file = \"/ca\"\n[pull]\nparallel = 8\n[wasm]\nmemory-mib = 64\n",
        )
        .unwrap();
        assert_eq!(config.registries["docker.io"].mirrors.len(), 2);
        assert_eq!((config.pull.parallel, config.wasm.memory_mib), (8, 64));
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
    fn bad_files_name_the_place() {
        for (text, message) in [
            ("\n\n[pull]\nparalel = 3\n", "line 4: unknown field `paralel`"),
            ("[pull\n", "line 1"),
            ("[aliases]\nx = \"UPPER\"\n", "line 2: invalid reference format"),
            ("[pull]\nparallel = 0\n", "`pull.parallel` is `0`"),
            ("[aliases]\n\"a/b\" = \"x\"\n", "`a/b`"),
            ("[registries.\"docker.io\"]\nmirrors = [\"http://x\"]\n", "`http://x`"),
            ("[runtimes.x]\npath = \"crun\"\n", "`runtimes.x.path` is `crun`"),
            ("[runtimes.x]\nargs = []\n", "missing field `path`"),
            ("[registries.\"a.b\"]\ninsecure = true\ntls = true\n", "insecure = true"),
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
