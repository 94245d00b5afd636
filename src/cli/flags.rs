//! Value parsers that several commands share.

use clap::builder::PossibleValue;

/// A switch's value as Go reads it: `--rm`, `--rm=false`, `--rm=1`.
pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err("expected true or false".to_owned()),
    }
}

/// A signal's number on Linux, from its name (with or without `SIG`, in any case) or number.
pub(super) fn signal(text: &str) -> Result<u8, String> {
    if let Ok(number) = text.parse::<u8>() {
        return if (1..=64).contains(&number) { Ok(number) } else { Err(format!("invalid signal: {text}")) };
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(number) = SIGNALS.iter().find(|(known, _)| *known == name).map(|(_, number)| *number) {
        return Ok(number);
    }
    let offset = |prefix: &str| match name.strip_prefix(prefix)? {
        "" => Some(0),
        rest => rest[1..].parse::<u8>().ok().filter(|n| *n <= 15),
    };
    if name.starts_with("RTMIN+") || name == "RTMIN" {
        if let Some(n) = offset("RTMIN") {
            return Ok(34 + n);
        }
    }
    if name.starts_with("RTMAX-") || name == "RTMAX" {
        if let Some(n) = offset("RTMAX") {
            return Ok(64 - n);
        }
    }
    Err(format!("invalid signal: {text}"))
}

/// Names and numbers of signals on Linux, x86 and ARM (signal(7)).
const SIGNALS: &[(&str, u8)] = &[
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("POLL", 29),
    ("PWR", 30),
    ("SYS", 31),
];

/// When to pull.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pull(pub(super) crate::engine::PullPolicy);

impl clap::ValueEnum for Pull {
    fn value_variants<'a>() -> &'a [Self] {
        use crate::engine::PullPolicy::{Always, Missing, Never};
        &[Self(Always), Self(Missing), Self(Never)]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        use crate::engine::PullPolicy::{Always, Missing, Never};
        Some(PossibleValue::new(match self.0 {
            Always => "always",
            Missing => "missing",
            Never => "never",
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_by_name_and_number() {
        for (text, number) in
            [("9", 9), ("KILL", 9), ("sigterm", 15), ("SIGRTMIN+3", 37), ("RTMAX-1", 63), ("RTMIN", 34)]
        {
            assert_eq!(signal(text), Ok(number), "{text}");
        }
        for bad in ["", "0", "65", "SIG", "RTMIN+99", "RTMIN+é", "NOPE", "-9"] {
            assert!(signal(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn switches_are_read_as_go_reads_them() {
        assert!(switch("T").unwrap() && !switch("0").unwrap());
        assert!(switch("yes").is_err() && switch("").is_err());
    }
}
