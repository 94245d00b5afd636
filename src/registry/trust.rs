//! Whom a registry is taken for: TLS roots, client certificates, proxies; one HTTP client for each combination.
//!
//! Roots are the system's own (through rustls's platform verifier; `SSL_CERT_FILE` and `SSL_CERT_DIR` work), not a list
//! compiled in: whom a machine trusts is its administrator's decision, company roots are there, and a binary that runs on a
//! device for years does not carry a list that ages. A machine without certificates is told to get some, or to name a file.
//!
//! For one registry: `ca-file`, `client-cert`, `client-key`, `skip-verify` of the configuration, and docker's layout
//! `certs.d/HOST[:PORT]/` with `*.crt` (roots) and pairs of `*.cert` and `*.key`, in `/etc/docker` and `~/.config/umiak`.
//! Own roots are trusted on hosts that the registry leads to as well (its storage is often behind the same authority); a
//! client certificate and `skip-verify` are for the registry's own address alone.
//!
//! Proxies are those of the environment (`HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`, in either case); never for loopback.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::{Url, redirect};

use super::RegistryError;
use super::client::{Client, locked};
use super::exchange::is_loopback;
use crate::config::RegistryConfig;
use crate::reference::DEFAULT_REGISTRY;

const CONNECT: Duration = Duration::from_secs(10);

/// What makes one HTTP client different from another.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// Empty for plain HTTP.
    registry: String,
    /// Another host that it leads to.
    other: Option<String>,
    loopback: bool,
    streams: bool,
}

/// What the files say about one host.
#[derive(Debug, Default)]
struct Material {
    roots: Vec<reqwest::Certificate>,
    identity: Option<reqwest::Identity>,
}

impl Client {
    /// The HTTP client for one hop of an exchange with registry `host`; `streams` is for bodies that take their time.
    pub(super) fn transport(
        &self,
        host: &str,
        url: &Url,
        at_home: bool,
        streams: bool,
    ) -> Result<reqwest::Client, RegistryError> {
        let loopback = url.host_str().is_some_and(is_loopback);
        let plain = url.scheme() == "http";
        let other = if at_home || plain { None } else { Some(authority(url)) };
        let registry = if plain { String::new() } else { host.to_owned() };
        let key = Key { registry, other, loopback, streams };
        if let Some(found) = locked(&self.transports).get(&key) {
            return Ok(found.clone());
        }
        let setup = |source| RegistryError::Setup { host: host.to_owned(), source };
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("umiak/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT);
        if !streams {
            builder = builder.read_timeout(self.idle);
        }
        if loopback {
            builder = builder.no_proxy();
        }
        if plain {
            // Without this the system's certificates would be loaded, which costs milliseconds and fails where there are none.
            builder = builder.tls_certs_only([]);
        } else {
            builder = self.secured(builder, host, key.other.as_deref())?;
        }
        let client = builder.build().map_err(setup)?;
        locked(&self.transports).insert(key, client.clone());
        Ok(client)
    }

    fn secured(
        &self,
        mut builder: reqwest::ClientBuilder,
        host: &str,
        other: Option<&str>,
    ) -> Result<reqwest::ClientBuilder, RegistryError> {
        let settings = |name: &str| self.registries.get(name).cloned().unwrap_or_default();
        let mut material = material(host, &settings(host), &self.certificate_folders)?;
        let mut skip = settings(host).skip_verify;
        if let Some(other) = other {
            let own = self::material(other, &settings(other), &self.certificate_folders)?;
            material.roots.extend(own.roots);
            material.identity = own.identity;
            skip = settings(other).skip_verify;
        }
        if !material.roots.is_empty() {
            builder = builder.tls_certs_merge(material.roots);
        }
        if let Some(identity) = material.identity {
            builder = builder.identity(identity);
        }
        if skip {
            builder = builder.tls_danger_accept_invalid_certs(true);
        }
        Ok(builder)
    }
}

/// `host[:port]`, as the configuration and `certs.d` name it.
fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    if host == "registry-1.docker.io" {
        return DEFAULT_REGISTRY.to_owned();
    }
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Where `certs.d` may be, the user's own last.
pub(super) fn folders() -> Vec<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let user = variable("XDG_CONFIG_HOME").or_else(|| variable("HOME").map(|home| home.join(".config")));
    let user = user.map(|folder| folder.join("umiak/certs.d"));
    [PathBuf::from("/etc/docker/certs.d")].into_iter().chain(user).collect()
}

fn material(host: &str, settings: &RegistryConfig, folders: &[PathBuf]) -> Result<Material, RegistryError> {
    let setup = |source| RegistryError::Setup { host: host.to_owned(), source };
    let mut found = Material::default();
    let mut pair = settings.client_cert.clone().zip(settings.client_key.clone());
    let mut roots: Vec<PathBuf> = settings.ca_file.iter().cloned().collect();
    for folder in folders {
        let folder = folder.join(host);
        let mut names: Vec<PathBuf> = match std::fs::read_dir(&folder) {
            Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                return Err(RegistryError::CaFile { path: folder, source: error });
            }
            Err(_) => continue,
        };
        names.sort();
        let ends = |path: &Path, end: &str| path.extension().is_some_and(|found| found == end);
        roots.extend(names.iter().filter(|path| ends(path, "crt")).cloned());
        for certificate in names.iter().filter(|path| ends(path, "cert")) {
            let key = certificate.with_extension("key");
            if !key.exists() {
                return Err(RegistryError::KeyMissing { certificate: certificate.clone(), key });
            }
            pair = pair.or(Some((certificate.clone(), key)));
        }
    }
    for path in roots {
        let pem = read(&path)?;
        found.roots.extend(reqwest::Certificate::from_pem_bundle(&pem).map_err(setup)?);
    }
    if let Some((certificate, key)) = pair {
        let mut pem = read(&certificate)?;
        pem.push(b'\n');
        pem.extend(read(&key)?);
        found.identity = Some(reqwest::Identity::from_pem(&pem).map_err(setup)?);
    }
    Ok(found)
}

fn read(path: &Path) -> Result<Vec<u8>, RegistryError> {
    std::fs::read(path).map_err(|source| RegistryError::CaFile { path: path.to_owned(), source })
}
