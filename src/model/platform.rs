//! Platforms: what an image is built for (OCI image index, `platform`).
//!
//! WASI images are published under many spellings (`wasi/wasm`, `wasip1/wasm`, `Wasip1/wasm`, `wasi/wasm32`, `linux/wasm`):
//! all of them are one platform for matching, [`Platform::wasi`]; whether the program is a module or a component is told
//! from its bytes, never from here.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An operating system and architecture in Go's spelling (`GOOS`/`GOARCH`), normalised.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// `linux`, `windows`, `wasi`, …
    pub os: String,
    /// `amd64`, `arm64`, `wasm`, …
    pub architecture: String,
    /// `v7`, `v8`, …; never the default variant of the architecture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// A text that is no platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a platform: expected `os/architecture[/variant]`, such as `linux/amd64` or `wasi/wasm`"
)]
pub struct PlatformError {
    /// The rejected text.
    pub text: String,
}

impl Platform {
    /// A platform from the fields of a manifest or image config, normalised.
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let os = os.to_ascii_lowercase();
        let architecture = architecture.to_ascii_lowercase();
        let wasm_os = matches!(os.as_str(), "wasi" | "wasip1" | "wasip2" | "wasip3" | "linux" | "js" | "");
        if matches!(architecture.as_str(), "wasm" | "wasm32") && wasm_os {
            return Self::wasi();
        }
        let (architecture, implied) = match architecture.as_str() {
            "x86_64" | "x86-64" => ("amd64".to_owned(), None),
            "aarch64" => ("arm64".to_owned(), None),
            "i386" | "x86" => ("386".to_owned(), None),
            "armhf" => ("arm".to_owned(), Some("v7")),
            "armel" => ("arm".to_owned(), Some("v6")),
            _ => (architecture, None),
        };
        let variant =
            variant.filter(|v| !v.is_empty()).map(str::to_ascii_lowercase).or(implied.map(str::to_owned));
        let variant = variant.filter(|v| !(architecture == "arm64" && (v == "v8" || v == "8")));
        Self { os, architecture, variant }
    }

    /// The one platform of all WASI images.
    pub fn wasi() -> Self {
        Self { os: "wasi".into(), architecture: "wasm".into(), variant: None }
    }

    /// The platform of Linux images that this host's processor runs, whatever the host's system is.
    pub fn linux_native() -> Self {
        Self::new("linux", std::env::consts::ARCH, None)
    }

    /// Whether this is the WASI platform.
    pub fn is_wasi(&self) -> bool {
        self.architecture == "wasm"
    }

    /// Whether an image for `offered` satisfies a wish for `self`; a wish without a variant takes any.
    pub fn accepts(&self, offered: &Self) -> bool {
        self.os == offered.os
            && self.architecture == offered.architecture
            && (self.variant.is_none() || self.variant == offered.variant)
    }
}

impl FromStr for Platform {
    type Err = PlatformError;
    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let error = || PlatformError { text: text.chars().take(100).collect() };
        let parts: Vec<&str> = text.split('/').collect();
        let plain = |p: &str| {
            !p.is_empty()
                && p.len() <= 32
                && p.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        };
        if !parts.iter().copied().all(plain) {
            return Err(error());
        }
        match parts.as_slice() {
            ["wasm" | "wasi" | "wasm32"] => Ok(Self::wasi()),
            [os @ ("linux" | "windows" | "darwin")] => Ok(Self::new(os, std::env::consts::ARCH, None)),
            [os, architecture] => Ok(Self::new(os, architecture, None)),
            [os, architecture, variant] => Ok(Self::new(os, architecture, Some(variant))),
            _ => Err(error()),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_wasi_is_one_platform() {
        for text in
            ["wasi/wasm", "wasip1/wasm", "Wasip1/wasm", "wasip2/wasm32", "wasi/wasm32", "linux/wasm", "wasm"]
        {
            assert_eq!(text.parse::<Platform>().unwrap(), Platform::wasi(), "{text}");
        }
    }

    #[test]
    fn spellings_and_default_variants_are_normalised() {
        for (text, shown) in [
            ("linux/x86_64", "linux/amd64"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("Linux/ARM/v7", "linux/arm/v7"),
            ("linux/armhf", "linux/arm/v7"),
        ] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), shown);
        }
        for bad in ["", "/", "linux/", "a/b/c/d", "li nux/amd64", "linux/amd64/\n"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_wish_without_a_variant_takes_any() {
        let arm: Platform = "linux/arm".parse().unwrap();
        let arm7: Platform = "linux/arm/v7".parse().unwrap();
        assert!(arm.accepts(&arm7) && !arm7.accepts(&arm) && !arm.accepts(&Platform::wasi()));
    }
}
