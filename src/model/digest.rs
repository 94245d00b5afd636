//! Content digests (OCI image spec, "Descriptors": digests).
//!
//! Only `sha256` is accepted: it is the algorithm every registry serves, and one algorithm keeps the file names of the
//! content store trivially safe (64 lower-case hex digits and nothing else).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// A verified-syntax digest, `sha256:` and 64 lower-case hex digits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

/// Why a text is no digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// There is no `algorithm:` prefix.
    #[error("`{text}` is not a digest: expected `sha256:` and 64 hexadecimal digits")]
    Malformed {
        /// The rejected text.
        text: String,
    },
    /// The algorithm is not one we verify.
    #[error("digest algorithm `{algorithm}` is not supported: only sha256 is")]
    Algorithm {
        /// The algorithm's name.
        algorithm: String,
    },
}

const PREFIX: &str = "sha256:";
const HEX_LEN: usize = 64;

impl Digest {
    /// The digest of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_hash(Sha256::digest(bytes).into())
    }

    /// The digest with these 32 bytes of hash.
    pub fn from_hash(hash: [u8; 32]) -> Self {
        Self(format!("{PREFIX}{}", hex::encode(hash)))
    }

    /// The 64 hex digits, without the algorithm.
    pub fn hex(&self) -> &str {
        &self.0[PREFIX.len()..]
    }

    /// The first 12 hex digits: the form that people are shown.
    pub fn short(&self) -> &str {
        &self.hex()[..12]
    }

    /// The whole text, `sha256:…`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let malformed = || DigestError::Malformed { text: text.chars().take(100).collect() };
        let (algorithm, hex) = text.split_once(':').ok_or_else(malformed)?;
        if algorithm != "sha256" {
            let plain = !algorithm.is_empty() && algorithm.bytes().all(|b| b.is_ascii_alphanumeric());
            return Err(if plain {
                DigestError::Algorithm { algorithm: algorithm.chars().take(32).collect() }
            } else {
                malformed()
            });
        }
        let lower_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if hex.len() != HEX_LEN || !hex.bytes().all(lower_hex) {
            return Err(malformed());
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;
    fn try_from(text: String) -> Result<Self, DigestError> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lower_case_sha256_is_a_digest() {
        let good = format!("sha256:{}", "0f".repeat(32));
        assert_eq!(good.parse::<Digest>().unwrap().short(), "0f0f0f0f0f0f");
        for bad in [
            String::new(),
            "sha256".into(),
            "sha256:".into(),
            good.to_uppercase(),
            format!("sha256:{}", "0F".repeat(32)),
            format!("sha256:{}", "0f".repeat(31)),
            "sha256:../../x".into(),
            format!("sha512:{}", "0f".repeat(64)),
            format!("{good} "),
        ] {
            assert!(bad.parse::<Digest>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_digest_of_nothing_is_the_well_known_one() {
        assert_eq!(Digest::of(b"").hex(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}
