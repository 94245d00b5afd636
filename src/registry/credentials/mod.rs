//! Credentials for registries, kept where docker and podman keep them.
//!
//! `config.json` in `$DOCKER_CONFIG` or `~/.docker` is read first and is the only file written; podman's `auth.json`
//! (`$REGISTRY_AUTH_FILE`, `$XDG_RUNTIME_DIR/containers`, `~/.config/containers`) is read where that has nothing. A helper
//! (`credHelpers` for one registry, `credsStore` for all) is a program `docker-credential-NAME` that is spoken to over its
//! standard input and output.
//!
//! Invariants: a secret is never part of a command line, and never of an error; a file is replaced as a whole, with mode 0600,
//! and keeps every key that is not ours; two logins at once lose neither.
//!
//! Why not a crate (`docker_credential` and its like): they read only, know either files or helpers, and drop podman's keys.

mod file;
mod helper;

use std::path::PathBuf;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value, json};

use super::secret::Secret;
use crate::model::{ErrorKind, Kind};
use crate::reference::DEFAULT_REGISTRY;

/// Docker Hub's name in credential files.
const HUB_KEY: &str = "https://index.docker.io/v1/";
/// What a helper says instead of a user's name where the secret is an identity token.
const TOKEN_USER: &str = "<token>";

/// What a registry is told to let somebody in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// A user's name and password (or an access token in the password's place).
    Password {
        /// The name.
        username: String,
        /// The password.
        password: Secret,
    },
    /// An `OAuth2` refresh token, which the token service exchanges for access tokens.
    Identity(Secret),
    /// A bearer token for the registry itself.
    Bearer(Secret),
}

/// Where a credential went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// Into this file, readable for whoever reads the file.
    File(PathBuf),
    /// To this helper.
    Helper(String),
}

/// Credentials that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// A file.
    #[error("cannot {action} the credentials in `{}`", path.display())]
    File {
        /// What was being done.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// A file is no JSON object of the expected form. Its content is not repeated: it may be secret.
    #[error("the credentials in `{}` are malformed: {what}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// Nobody's home.
    #[error("cannot tell where credentials are kept: neither DOCKER_CONFIG nor HOME is set")]
    NoHome,
    /// The helper's name is no plain word.
    #[error("`{name}` is no name of a credential helper")]
    HelperName {
        /// The name.
        name: String,
    },
    /// The helper cannot be started or spoken to.
    #[error("cannot run the credential helper `docker-credential-{name}`")]
    Helper {
        /// The helper.
        name: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The helper says no.
    #[error("the credential helper `docker-credential-{name}` failed to {action}: {said}")]
    HelperRefused {
        /// The helper.
        name: String,
        /// What it was asked for.
        action: &'static str,
        /// Its first line, without control characters.
        said: String,
    },
}

impl Kind for CredentialError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::File { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
                ErrorKind::Forbidden
            }
            Self::File { .. } | Self::Helper { .. } | Self::HelperRefused { .. } => ErrorKind::Unavailable,
            Self::Malformed { .. } | Self::HelperName { .. } | Self::NoHome => ErrorKind::InvalidInput,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Helper { .. } => vec![
                "install the helper, or take `credsStore` and `credHelpers` out of docker's config.json"
                    .into(),
            ],
            _ => Vec::new(),
        }
    }
}

/// The files that hold credentials. Nothing is read before something is asked for.
#[derive(Debug, Clone)]
pub struct Keychain {
    docker: Option<PathBuf>,
    others: Vec<PathBuf>,
}

impl Keychain {
    /// The places that the environment names.
    pub fn from_environment() -> Self {
        Self::from_variables(|name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from))
    }

    fn from_variables(variable: impl Fn(&str) -> Option<PathBuf>) -> Self {
        let home = variable(if cfg!(windows) { "USERPROFILE" } else { "HOME" });
        let folder = variable("DOCKER_CONFIG").or_else(|| home.as_ref().map(|home| home.join(".docker")));
        let config = variable("XDG_CONFIG_HOME").or_else(|| home.map(|home| home.join(".config")));
        let podman = [
            variable("REGISTRY_AUTH_FILE"),
            variable("XDG_RUNTIME_DIR").map(|run| run.join("containers/auth.json")),
            config.map(|config| config.join("containers/auth.json")),
        ];
        Self {
            docker: folder.map(|folder| folder.join("config.json")),
            others: podman.into_iter().flatten().collect(),
        }
    }

    /// Only this file, of docker's form.
    pub fn of_file(path: PathBuf) -> Self {
        Self { docker: Some(path), others: Vec::new() }
    }

    /// No credentials at all.
    pub fn empty() -> Self {
        Self { docker: None, others: Vec::new() }
    }

    /// What is known for a repository of a registry; the most specific entry of the first file that has one.
    pub fn find(&self, host: &str, repository: &str) -> Result<Option<Credential>, CredentialError> {
        for path in self.docker.iter().chain(&self.others) {
            let Some(root) = file::read(path)? else { continue };
            if let Some(name) = helper_for(&root, host)
                && let Some(found) = helper::get(&name, key(host))?
            {
                return Ok(Some(found));
            }
            if let Some(found) = listed(&root, host, repository, path)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Keeps a credential, in place of the one there was for the registry.
    pub fn store(&self, host: &str, credential: &Credential) -> Result<Kept, CredentialError> {
        let path = self.docker.as_ref().ok_or(CredentialError::NoHome)?;
        let key = key(host);
        let edit = file::Edit::begin(path)?;
        let mut root = edit.root()?;
        let helper = helper_for(&root, host);
        if let Some(name) = &helper {
            helper::store(name, key, credential)?;
        }
        let entry = if helper.is_some() { json!({}) } else { entry(credential) };
        let auths = auths(&mut root, path)?;
        auths.retain(|other, _| other == key || !names(other, host));
        auths.insert(key.to_owned(), entry);
        edit.finish(root)?;
        Ok(helper.map_or_else(|| Kept::File(path.clone()), Kept::Helper))
    }

    /// Forgets a registry; whether there was anything in the file.
    pub fn erase(&self, host: &str) -> Result<bool, CredentialError> {
        let path = self.docker.as_ref().ok_or(CredentialError::NoHome)?;
        if file::read(path)?.is_none() {
            return Ok(false);
        }
        let edit = file::Edit::begin(path)?;
        let mut root = edit.root()?;
        if let Some(name) = helper_for(&root, host) {
            helper::erase(&name, key(host))?;
        }
        let auths = auths(&mut root, path)?;
        let before = auths.len();
        auths.retain(|other, _| !names(other, host));
        let changed = auths.len() != before;
        if changed {
            edit.finish(root)?;
        }
        Ok(changed)
    }
}

/// The key under which docker keeps a registry.
fn key(host: &str) -> &str {
    if host == DEFAULT_REGISTRY { HUB_KEY } else { host }
}

fn is_hub(host: &str) -> bool {
    matches!(host, "docker.io" | "index.docker.io" | "registry-1.docker.io")
}

/// The host of a key, and the repositories it is for (podman's keys may say).
fn parts(key: &str) -> (String, &str) {
    let address = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
    let (host, path) = address.unwrap_or(key).split_once('/').unwrap_or((address.unwrap_or(key), ""));
    // With a scheme it is an URL, whose path is an API version.
    (host.to_ascii_lowercase(), if address.is_some() { "" } else { path.trim_end_matches('/') })
}

fn same_host(one: &str, other: &str) -> bool {
    one == other || is_hub(one) && is_hub(other)
}

/// Whether a key is a registry's own.
fn names(key: &str, host: &str) -> bool {
    let (found, path) = parts(key);
    path.is_empty() && same_host(&found, host)
}

/// The helper that a file names for a registry.
fn helper_for(root: &Map<String, Value>, host: &str) -> Option<String> {
    let own = root.get("credHelpers").and_then(Value::as_object);
    let own = own.and_then(|all| all.iter().find(|(key, _)| names(key, host)).map(|(_, name)| name));
    let name = own.or_else(|| root.get("credsStore")).and_then(Value::as_str)?;
    Some(name.to_owned()).filter(|name| !name.is_empty())
}

fn auths<'a>(
    root: &'a mut Map<String, Value>,
    path: &std::path::Path,
) -> Result<&'a mut Map<String, Value>, CredentialError> {
    let auths = root.entry("auths").or_insert_with(|| json!({}));
    let malformed = CredentialError::Malformed { path: path.to_owned(), what: "`auths` is no object" };
    auths.as_object_mut().ok_or(malformed)
}

/// The entry of `auths` that fits best.
fn listed(
    root: &Map<String, Value>,
    host: &str,
    repository: &str,
    path: &std::path::Path,
) -> Result<Option<Credential>, CredentialError> {
    let within = |inner: &str| {
        inner.is_empty()
            || repository.strip_prefix(inner).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let mut best: Option<(usize, &Value)> = None;
    for (key, value) in root.get("auths").and_then(Value::as_object).into_iter().flatten() {
        let (found, inner) = parts(key);
        let length = inner.len() + 1;
        if same_host(&found, host) && within(inner) && best.is_none_or(|(known, _)| known < length) {
            best = Some((length, value));
        }
    }
    let Some((_, value)) = best else { return Ok(None) };
    credential(value).map_err(|()| CredentialError::Malformed {
        path: path.to_owned(),
        what: "`auth` is no base64 of user:password",
    })
}

/// Reads an entry of `auths`; an empty one is none.
fn credential(value: &Value) -> Result<Option<Credential>, ()> {
    let text = |key: &str| value.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    if let Some(token) = text("registrytoken") {
        return Ok(Some(Credential::Bearer(Secret::new(token))));
    }
    if let Some(token) = text("identitytoken") {
        return Ok(Some(Credential::Identity(Secret::new(token))));
    }
    if let Some(packed) = text("auth") {
        let bytes = BASE64_STANDARD.decode(packed).map_err(drop)?;
        let pair = String::from_utf8(bytes).map_err(drop)?;
        let (username, password) = pair.trim_end_matches('\0').split_once(':').ok_or(())?;
        let password = Secret::new(password);
        return Ok(Some(Credential::Password { username: username.to_owned(), password }));
    }
    Ok(text("username").zip(text("password")).map(|(username, password)| Credential::Password {
        username: username.to_owned(),
        password: Secret::new(password),
    }))
}

fn entry(credential: &Credential) -> Value {
    match credential {
        Credential::Password { username, password } => {
            json!({ "auth": BASE64_STANDARD.encode(format!("{username}:{}", password.reveal())) })
        }
        Credential::Identity(token) => json!({ "identitytoken": token.reveal() }),
        Credential::Bearer(token) => json!({ "registrytoken": token.reveal() }),
    }
}

#[cfg(test)]
mod tests;
