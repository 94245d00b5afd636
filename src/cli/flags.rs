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
    fn switches_are_read_as_go_reads_them() {
        assert!(switch("T").unwrap() && !switch("0").unwrap());
        assert!(switch("yes").is_err() && switch("").is_err());
    }
}
