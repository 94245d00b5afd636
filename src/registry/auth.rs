//! Letting ourselves in: challenges, tokens, and what a registry is told (distribution, "Token Authentication"; RFC 7617, RFC 6750).
//!
//! A registry is asked without credentials first; its challenge tells what it wants. Whatever it accepted is kept for the life
//! of the client by registry and scope, and asked for anew when it has expired or is refused.
//!
//! Where a password may go: to the registry itself where it asks for `Basic`, and to the token service that it names where
//! it asks for `Bearer`. A token service on another host is what the protocol has (Docker Hub's is), and the registry would
//! see the password anyway; but never in plain HTTP to a host that is neither the registry's own nor this machine.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Method, Response, StatusCode, Url};

use super::RegistryError;
use super::client::{Client, locked};
use super::credentials::{Credential, Keychain};
use super::exchange::{Call, Payload, checked, is_loopback, is_private, limited};
use super::secret::Secret;

const TOKEN_MAX: u64 = 1 << 20;
/// How long a token is good that does not say.
const LIFETIME: Duration = Duration::from_mins(1);
/// A token this near its end is not used any more.
const MARGIN: Duration = Duration::from_secs(10);
const CLIENT_ID: &str = "umiak";

/// What a `WWW-Authenticate` header asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Challenge {
    /// Name and password.
    Basic,
    /// A token of a token service.
    Bearer {
        /// Where it is.
        realm: String,
        /// Whom it hands tokens out for.
        service: Option<String>,
    },
}

/// Reads a challenge (RFC 9110, 11.6.1); `None` if it is of another kind, or has no realm to fetch a token from.
pub fn challenge(header: &str) -> Option<Challenge> {
    let (scheme, mut rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
    if scheme.eq_ignore_ascii_case("basic") {
        return Some(Challenge::Basic);
    }
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let (mut realm, mut service) = (None, None);
    while let Some((key, after)) = rest.trim_start_matches([' ', ',']).split_once('=') {
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_once(',').unwrap_or((after, "")),
        };
        match key.trim().to_ascii_lowercase().as_str() {
            "realm" => realm = Some(value.to_owned()),
            "service" => service = Some(value.to_owned()),
            _ => {}
        }
        rest = next;
    }
    Some(Challenge::Bearer { realm: realm?, service })
}

/// What an answer asks for: a token rather than a password where it leaves the choice.
pub(super) fn challenged(headers: &HeaderMap) -> Option<Challenge> {
    let all = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| challenge(value.to_str().ok()?));
    let mut all: Vec<Challenge> = all.collect();
    let bearer = all.iter().position(|one| matches!(one, Challenge::Bearer { .. }));
    if all.is_empty() { None } else { Some(all.swap_remove(bearer.unwrap_or(0))) }
}

/// Whether an answer says that the token was a good one, and what it allows too little.
pub(super) fn denies_for_good(headers: &HeaderMap) -> bool {
    let mut all = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    all.any(|text| text.contains("insufficient_scope"))
}

/// What is sent as `Authorization`, and until when.
#[derive(Debug, Clone)]
pub(super) struct Pass {
    header: Secret,
    until: Option<Instant>,
}

impl Pass {
    pub(super) fn value(&self) -> Option<HeaderValue> {
        let mut value = HeaderValue::from_str(self.header.reveal()).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    fn is_good(&self) -> bool {
        self.until.is_none_or(|until| Instant::now() < until)
    }

    fn bearer(token: &Secret, lifetime: Option<Duration>) -> Self {
        let header = Secret::new(format!("Bearer {}", token.reveal()));
        Self { header, until: lifetime.map(|time| Instant::now() + time.saturating_sub(MARGIN)) }
    }

    fn basic(username: &str, password: &Secret) -> Self {
        let pair = BASE64_STANDARD.encode(format!("{username}:{}", password.reveal()));
        Self { header: Secret::new(format!("Basic {pair}")), until: None }
    }
}

/// What a token service handed out.
#[derive(Debug)]
struct Tokens {
    access: Secret,
    refresh: Option<Secret>,
    lifetime: Duration,
}

/// What came of a login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedIn {
    /// What is to be kept: the password, or the identity token that it was exchanged for.
    pub credential: Credential,
}

impl Client {
    /// What to send to a registry for a scope, as far as it is known: for this scope, else for all.
    pub(super) fn pass(&self, host: &str, scope: &str) -> Option<Pass> {
        let passes = locked(&self.passes);
        let found = [scope, ""].iter().find_map(|scope| passes.get(&(host.to_owned(), (*scope).to_owned())));
        found.filter(|pass| pass.is_good()).cloned()
    }

    /// Answers a challenge; what to send from now on, `None` where there is nothing that the registry could want.
    pub(super) async fn admit(
        &self,
        host: &str,
        scope: &str,
        repository: &str,
        challenge: Challenge,
        home: &Url,
        refused: Option<&Pass>,
    ) -> Result<Option<Pass>, RegistryError> {
        // One at a time: of several requests that are refused at once, the others find what the first one got.
        let _turn = self.admitting.lock().await;
        let known = self.pass(host, scope);
        if known.as_ref().map(|pass| &pass.header) != refused.map(|pass| &pass.header) && known.is_some() {
            return Ok(known);
        }
        let credential = self.credential(host, repository);
        let (key, pass) = match (challenge, credential) {
            (_, Some(Credential::Bearer(token))) => ("", Pass::bearer(&token, None)),
            (Challenge::Basic, Some(Credential::Password { username, password })) => {
                ("", Pass::basic(&username, &password))
            }
            (Challenge::Basic, _) => return Ok(None),
            (Challenge::Bearer { realm, service }, credential) => {
                let service = service.as_deref();
                let tokens = self.token(host, &realm, service, scope, credential.as_ref(), home).await?;
                (scope, Pass::bearer(&tokens.access, Some(tokens.lifetime)))
            }
        };
        if refused.is_some_and(|old| old.header == pass.header) {
            return Ok(None);
        }
        locked(&self.passes).insert((host.to_owned(), key.to_owned()), pass.clone());
        Ok(Some(pass))
    }

    /// What the files and helpers have. What is in their way does not stop what anybody may do; it is told where that fails.
    fn credential(&self, host: &str, repository: &str) -> Option<Credential> {
        match self.keychain.find(host, repository) {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%error, "going on without credentials");
                *locked(&self.trouble) = Some(error.to_string());
                None
            }
        }
    }

    /// Asks a token service.
    async fn token(
        &self,
        host: &str,
        realm: &str,
        service: Option<&str>,
        scope: &str,
        credential: Option<&Credential>,
        home: &Url,
    ) -> Result<Tokens, RegistryError> {
        let protocol = |why| RegistryError::Protocol { host: host.to_owned(), why };
        let mut url = Url::parse(realm).map_err(|_| protocol("its token service is no URL"))?;
        let plain = url.scheme() == "http" && home.scheme() == "http";
        if url.scheme() != "https" && !plain {
            return Err(protocol("its token service is not spoken to in HTTPS"));
        }
        if is_private(&url) && !home.host_str().is_some_and(is_loopback) {
            return Err(protocol("its token service is said to be on this machine"));
        }
        let near = url.host() == home.host() || url.host_str().is_some_and(is_loopback);
        if credential.is_some() && plain && !near {
            return Err(protocol("its token service wants the password in plain HTTP on another host"));
        }
        let scopes = scope.split(' ').filter(|one| !one.is_empty());
        let mut call = if let Some(Credential::Identity(token)) = credential {
            let mut form = url::form_urlencoded::Serializer::new(String::new());
            form.append_pair("grant_type", "refresh_token").append_pair("client_id", CLIENT_ID);
            form.append_pair("service", service.unwrap_or_default()).append_pair("scope", scope);
            form.append_pair("refresh_token", token.reveal());
            let mut call = Call::new(Method::POST, url);
            call.headers.push((CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded")));
            call.payload = Payload::Bytes(form.finish().into());
            call
        } else {
            if let Some(service) = service {
                url.query_pairs_mut().append_pair("service", service);
            }
            for one in scopes {
                url.query_pairs_mut().append_pair("scope", one);
            }
            if let Some(Credential::Password { username, .. }) = credential {
                url.query_pairs_mut().append_pair("account", username).append_pair("client_id", CLIENT_ID);
                if scope.is_empty() {
                    url.query_pairs_mut().append_pair("offline_token", "true");
                }
            }
            Call::new(Method::GET, url)
        };
        if let Some(Credential::Password { username, password }) = credential {
            call.headers.extend(Pass::basic(username, password).value().map(|value| (AUTHORIZATION, value)));
        }
        let response = checked(host, self.follow(host, &call).await?).await?;
        let bytes = limited(host, response, TOKEN_MAX, "a token").await?;
        read_tokens(&bytes).map_err(protocol)
    }

    /// Whether a registry lets somebody in; what is to be kept if so.
    pub async fn login(&self, host: &str, credential: &Credential) -> Result<LoggedIn, RegistryError> {
        let url = self.api(host, "")?;
        let mut call = Call::new(Method::GET, url.clone());
        let response = self.follow(host, &call).await?;
        let mut kept = credential.clone();
        if response.status() != StatusCode::UNAUTHORIZED {
            checked(host, response).await?;
            return Ok(LoggedIn { credential: kept });
        }
        let pass = match (challenged(response.headers()), credential) {
            (Some(Challenge::Basic), Credential::Password { username, password }) => {
                Pass::basic(username, password)
            }
            (Some(Challenge::Bearer { realm, service }), _) => {
                let tokens = self
                    .token(host, &realm, service.as_deref(), "", Some(credential), &url)
                    .await
                    .map_err(|error| unauthorized(error, host))?;
                if let Some(refresh) = tokens.refresh {
                    kept = Credential::Identity(refresh);
                }
                Pass::bearer(&tokens.access, None)
            }
            _ => {
                return Err(RegistryError::Protocol {
                    host: host.to_owned(),
                    why: "it wants credentials of a kind that is not known",
                });
            }
        };
        call.headers.extend(pass.value().map(|value| (AUTHORIZATION, value)));
        let again: Response = self.follow(host, &call).await?;
        checked(host, again).await.map_err(|error| unauthorized(error, host))?;
        Ok(LoggedIn { credential: kept })
    }

    /// The same client with credentials from elsewhere.
    #[must_use]
    pub fn with_keychain(mut self, keychain: Keychain) -> Self {
        self.keychain = keychain;
        self
    }
}

fn unauthorized(error: RegistryError, host: &str) -> RegistryError {
    match error {
        RegistryError::Status { status: 400 | 401 | 403, .. } => {
            RegistryError::LoginRefused { host: host.to_owned() }
        }
        other => other,
    }
}

fn read_tokens(bytes: &[u8]) -> Result<Tokens, &'static str> {
    let value: serde_json::Value = serde_json::from_slice(bytes).map_err(|_| "its token is no JSON")?;
    let text = |key: &str| value.get(key).and_then(serde_json::Value::as_str).filter(|text| !text.is_empty());
    let access = text("token").or_else(|| text("access_token"));
    let fits = |token: &&str| token.bytes().all(|b| b.is_ascii_graphic());
    let access = access.filter(fits).ok_or("its token service gives no token")?;
    let seconds = value.get("expires_in").and_then(serde_json::Value::as_u64);
    Ok(Tokens {
        access: Secret::new(access),
        refresh: text("refresh_token").map(Secret::new),
        // A year at most, lest a sum overflow.
        lifetime: seconds.map_or(LIFETIME, |s| Duration::from_secs(s.min(31_536_000))).max(LIFETIME),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges() {
        let bearer = |realm: &str, service: Option<&str>| Challenge::Bearer {
            realm: realm.into(),
            service: service.map(str::to_owned),
        };
        for (header, expected) in [
            (
                r#"Bearer realm="https://a/t",service="r, x",scope="repository:a:pull,push""#,
                Some(bearer("https://a/t", Some("r, x"))),
            ),
            ("bearer realm=http://x", Some(bearer("http://x", None))),
            ("Basic realm=\"x\"", Some(Challenge::Basic)),
            ("basic", Some(Challenge::Basic)),
            ("", None),
            ("Digest realm=\"x\"", None),
            ("Bearer", None),
            ("Bearer realm=\"x", None),
            ("Bearer service=\"x\"", None),
            ("Bearer ,,,=", None),
        ] {
            assert_eq!(challenge(header), expected, "{header}");
        }
        let mut headers = HeaderMap::new();
        assert_eq!(challenged(&headers), None);
        for header in ["Basic realm=\"x\"", "Negotiate", "Bearer realm=\"http://x\""] {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_static(header));
        }
        assert_eq!(challenged(&headers), Some(bearer("http://x", None)));
    }

    #[test]
    fn tokens() {
        let read = |text: &str| read_tokens(text.as_bytes());
        let whole = read(r#"{"access_token":"a","refresh_token":"r","expires_in":300}"#).unwrap();
        assert_eq!((whole.access.reveal(), whole.lifetime), ("a", Duration::from_mins(5)));
        assert_eq!(whole.refresh, Some(Secret::new("r")));
        assert_eq!(read(r#"{"token":"a","expires_in":1}"#).unwrap().lifetime, LIFETIME);
        for bad in ["", "[]", "{}", r#"{"token":""}"#, r#"{"token":"a b"}"#, r#"{"token":"a\nb"}"#] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
