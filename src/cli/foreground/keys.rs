//! The keys that leave a container running: Ctrl-P Ctrl-Q, or what `--detach-keys` names.

use crate::model::{ErrorKind, Kind};

/// A sequence of keys, as the bytes that a terminal sends for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct Keys(Vec<u8>);

impl Default for Keys {
    fn default() -> Self {
        Self(vec![16, 17])
    }
}

/// No key sequence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid detach keys ({text}): `{key}` is neither a character nor `ctrl-` with one of a-z, @, [, \\, ], ^ and _"
)]
pub(in crate::cli) struct KeysError {
    text: String,
    key: String,
}

impl Kind for KeysError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidInput
    }
}

impl Keys {
    /// Reads `ctrl-a,x`; the empty text is the default.
    pub(in crate::cli) fn parse(text: &str) -> Result<Self, KeysError> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let key = |key: &str| {
            let error = || KeysError { text: text.to_owned(), key: key.to_owned() };
            match (key.as_bytes(), key.strip_prefix("ctrl-").map(str::as_bytes)) {
                ([byte], _) => Ok(*byte),
                (_, Some([letter @ (b'a'..=b'z')])) => Ok(letter - b'a' + 1),
                (_, Some([b'@'])) => Ok(0),
                (_, Some([sign @ (b'[' | b'\\' | b']' | b'^' | b'_')])) => Ok(sign - b'[' + 27),
                _ => Err(error()),
            }
        };
        text.split(',').map(key).collect::<Result<_, _>>().map(Self)
    }
}

/// Looks for the keys in what is typed.
#[derive(Debug)]
pub(in crate::cli) struct Escape {
    keys: Vec<u8>,
    seen: usize,
}

impl Escape {
    /// Looks for these.
    pub(in crate::cli) fn new(keys: &Keys) -> Self {
        Self { keys: keys.0.clone(), seen: 0 }
    }

    /// Looks for nothing.
    pub(in crate::cli) fn never() -> Self {
        Self { keys: Vec::new(), seen: 0 }
    }

    /// What of the typed bytes goes on, and whether the keys were complete. Keys that may yet become the sequence are held
    /// back until they do not.
    pub(in crate::cli) fn pass(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let mut on = Vec::with_capacity(typed.len() + self.seen);
        for &byte in typed {
            if self.keys.get(self.seen) == Some(&byte) {
                self.seen += 1;
                if self.seen == self.keys.len() {
                    self.seen = 0;
                    return (on, true);
                }
                continue;
            }
            on.extend_from_slice(&self.keys[..self.seen]);
            self.seen = usize::from(self.keys.first() == Some(&byte) && self.keys.len() > 1);
            if self.seen == 0 {
                on.push(byte);
            }
        }
        (on, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_docker_reads_them() {
        for (text, bytes) in [
            ("", &[16, 17][..]),
            ("ctrl-p,ctrl-q", &[16, 17]),
            ("a,b", b"ab"),
            ("ctrl-@,ctrl-[,ctrl-_", &[0, 27, 31]),
        ] {
            assert_eq!(Keys::parse(text).unwrap().0, bytes, "{text}");
        }
        for bad in ["ctrl-", "ctrl-1", "ab", "a,,b", "ctrl-aa", "é"] {
            assert!(Keys::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_sequence_is_found_across_reads_and_what_only_began_goes_on() {
        for (reads, passed, found) in [
            (&[&b"ab"[..], b"c"][..], &b"abc"[..], false),
            (&[b"a\x10\x11"], b"a", true),
            (&[b"a\x10", b"\x11b"], b"a", true),
            (&[b"\x10x\x10\x10", b"\x11"], b"\x10x\x10", true),
            (&[b"\x11\x10", b"y"], b"\x11\x10y", false),
        ] {
            let mut escape = Escape::new(&Keys::default());
            let mut seen = Vec::new();
            let mut left = false;
            for read in reads {
                let (bytes, detached) = escape.pass(read);
                seen.extend(bytes);
                left |= detached;
            }
            assert_eq!((seen.as_slice(), left), (passed, found), "{reads:?}");
        }
        assert_eq!(Escape::never().pass(b"\x10\x11"), (b"\x10\x11".to_vec(), false));
    }
}
