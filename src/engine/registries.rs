//! Registries as such: logging in and out, searching, listing tags.

use super::{Engine, EngineError};
use crate::reference::{DEFAULT_REGISTRY, Reference};
use crate::registry::credentials::{Credential, Kept, Keychain};
use crate::registry::{Client, Hit, Secret};

/// Why a registry cannot be spoken of.
#[derive(Debug, thiserror::Error)]
#[error(
    "invalid registry `{text}`: it is `host`, `host:port` or `[IPv6]:port`, with a dot, a port or `localhost`"
)]
pub struct RegistryNameError {
    /// What was given.
    pub text: String,
}

/// The registry that somebody means: an address, perhaps with a scheme and a path, or none for Docker Hub.
pub fn registry_name(text: &str) -> Result<String, RegistryNameError> {
    let bare = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or(text);
    let host = bare.split('/').next().unwrap_or_default().to_ascii_lowercase();
    if matches!(host.as_str(), "" | "index.docker.io" | "registry-1.docker.io")
        && (!host.is_empty() || text.is_empty())
    {
        return Ok(DEFAULT_REGISTRY.to_owned());
    }
    match format!("{host}/x").parse::<Reference>() {
        Ok(reference) if reference.registry() == host => Ok(host),
        _ => Err(RegistryNameError { text: text.to_owned() }),
    }
}

impl Engine {
    /// The name and password that are kept for a registry.
    pub fn known_user(&self, host: &str) -> Result<Option<(String, Secret)>, EngineError> {
        Ok(match Keychain::from_environment().find(host, "")? {
            Some(Credential::Password { username, password }) => Some((username, password)),
            _ => None,
        })
    }

    /// Asks a registry whether it knows somebody, and keeps the credentials if so.
    pub fn login(&self, host: &str, username: &str, password: Secret) -> Result<Kept, EngineError> {
        let credential = Credential::Password { username: username.to_owned(), password };
        let client = Client::new(&self.config);
        let accepted = super::event_loop()?.block_on(client.login(host, &credential))?;
        Ok(Keychain::from_environment().store(host, &accepted.credential)?)
    }

    /// Forgets the credentials for a registry; whether there were any.
    pub fn logout(&self, host: &str) -> Result<bool, EngineError> {
        Ok(Keychain::from_environment().erase(host)?)
    }

    /// Searches a registry.
    pub fn search(&self, host: &str, term: &str, limit: usize) -> Result<Vec<Hit>, EngineError> {
        let client = Client::new(&self.config);
        Ok(super::event_loop()?.block_on(client.search(host, term, limit))?)
    }

    /// The tags that a repository has at its registry.
    pub fn remote_tags(&self, reference: &Reference) -> Result<Vec<String>, EngineError> {
        let client = Client::new(&self.config);
        Ok(super::event_loop()?.block_on(client.tags(reference))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_are_named_in_many_ways() {
        for (text, expected) in [
            ("", Some("docker.io")),
            ("docker.io", Some("docker.io")),
            ("https://index.docker.io/v1/", Some("docker.io")),
            ("localhost", Some("localhost")),
            ("https://R.lan:5000/v2/", Some("r.lan:5000")),
            ("[::1]:5000", Some("[::1]:5000")),
            ("word", None),
            ("https://", None),
            ("a b.c", None),
        ] {
            assert_eq!(registry_name(text).ok().as_deref(), expected, "{text}");
        }
    }
}
