//! Credential helpers: programs that keep secrets in the desktop's keyring, a cloud's, or elsewhere.
//!
//! The protocol is docker's: one word says what is wanted, standard input has the server's address (or JSON to store), JSON
//! comes back. A failure is told on standard output.

use std::io::{self, Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Credential, CredentialError, TOKEN_USER};
use crate::registry::secret::Secret;

/// A helper may ask its user for a passphrase; this long.
const PATIENCE: Duration = Duration::from_mins(2);
/// More than any answer.
const LONGEST: u64 = 1 << 20;

/// What the helper has for a server.
pub(super) fn get(name: &str, server: &str) -> Result<Option<Credential>, CredentialError> {
    let (whole, said) = ask(name, "get", server.as_bytes())?;
    if !whole {
        return if said.contains("credentials not found") || said.contains("credentials server URL") {
            Ok(None)
        } else {
            Err(refused(name, "get credentials", &said))
        };
    }
    let value: Value = serde_json::from_str(&said).unwrap_or_default();
    let text = |key: &str| value.get(key).and_then(Value::as_str);
    let (Some(username), Some(secret)) = (text("Username"), text("Secret")) else {
        // Not what it said: that may be half of a secret.
        return Err(refused(name, "get credentials", "its answer is not the JSON expected"));
    };
    if secret.is_empty() {
        return Ok(None);
    }
    let secret = Secret::new(secret);
    Ok(Some(if username == TOKEN_USER {
        Credential::Identity(secret)
    } else {
        Credential::Password { username: username.to_owned(), password: secret }
    }))
}

/// Gives the helper a credential to keep.
pub(super) fn store(name: &str, server: &str, credential: &Credential) -> Result<(), CredentialError> {
    let (username, secret) = match credential {
        Credential::Password { username, password } => (username.as_str(), password),
        Credential::Identity(token) | Credential::Bearer(token) => (TOKEN_USER, token),
    };
    let text = json!({ "ServerURL": server, "Username": username, "Secret": secret.reveal() }).to_string();
    let (whole, said) = ask(name, "store", text.as_bytes())?;
    let said = if said.contains(secret.reveal()) { "it repeats the secret" } else { said.as_str() };
    if whole { Ok(()) } else { Err(refused(name, "store credentials", said)) }
}

/// Makes the helper forget a server; that it never knew it is no failure.
pub(super) fn erase(name: &str, server: &str) -> Result<(), CredentialError> {
    let (whole, said) = ask(name, "erase", server.as_bytes())?;
    if whole || said.contains("credentials not found") {
        Ok(())
    } else {
        Err(refused(name, "erase credentials", &said))
    }
}

fn refused(name: &str, action: &'static str, said: &str) -> CredentialError {
    let line = said.lines().next().unwrap_or_default();
    let said = line.chars().filter(|c| !c.is_control()).take(200).collect();
    CredentialError::HelperRefused { name: name.to_owned(), action, said }
}

/// Runs the helper; whether it succeeded, and its standard output.
fn ask(name: &str, word: &str, input: &[u8]) -> Result<(bool, String), CredentialError> {
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
        return Err(CredentialError::HelperName { name: name.to_owned() });
    }
    let failed = |source| CredentialError::Helper { name: name.to_owned(), source };
    let mut child = Command::new(format!("docker-credential-{name}"))
        .arg(word)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        let read = stdout.map(|out| out.take(LONGEST).read_to_string(&mut text));
        read.unwrap_or(Ok(0)).map(|_| text)
    });
    if let Some(mut stdin) = stdin {
        match stdin.write_all(input) {
            // It ended without reading: its status tells why.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            outcome => outcome.map_err(failed)?,
        }
    }
    let whole = wait(&mut child).map_err(failed)?;
    let said = reader.join().unwrap_or_else(|_| Ok(String::new())).map_err(failed)?;
    Ok((whole, said.trim().to_owned()))
}

fn wait(child: &mut Child) -> io::Result<bool> {
    let end = Instant::now() + PATIENCE;
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status.success());
        }
        if Instant::now() > end {
            child.kill()?;
            child.wait()?;
            return Err(io::ErrorKind::TimedOut.into());
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}
