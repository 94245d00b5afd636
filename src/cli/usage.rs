//! Arguments that make no sense, told in docker's words and with its exit statuses.
//!
//! Docker's flag library exits with 125 whatever the command, its own checks of names and counts with 1.

use std::ffi::OsString;

use clap::Command;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::output::Printer;
use super::output::human::inert;

/// Shows help, or says what is wrong with the arguments; the exit status. `root` is built: each command knows what it has from
/// those above.
pub(super) fn explain(printer: &Printer, error: &clap::Error, root: Command, words: &[OsString]) -> u8 {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let shown = printer.write(error.render().to_string().as_bytes());
            u8::from(shown.is_err())
        }
        _ => {
            let (text, status) = complaint(error, root, words);
            // There is nowhere left to say that this could not be said.
            let _ = printer.write_err(text.as_bytes());
            status
        }
    }
}

/// The command that the words lead to, and its name in full.
fn command(root: Command, words: &[OsString]) -> (Command, String) {
    let mut command = root;
    let mut name = "umiak".to_owned();
    let mut words = words.iter().skip(1);
    while let Some(word) = words.next() {
        let Some(word) = word.to_str() else { break };
        if matches!(word, "--root" | "--run-root" | "--config" | "--log-level" | "-l") {
            words.next();
        } else if let Some(sub) = command.find_subcommand(word) {
            name = format!("{name} {}", sub.get_name());
            // The parent's words on its help are not passed on to a command taken out of it, and `-h` is a flag of `run`.
            command = sub.clone().disable_help_flag(true);
        } else if !word.starts_with('-') {
            break;
        }
    }
    (command, name)
}

fn complaint(error: &clap::Error, root: Command, words: &[OsString]) -> (String, u8) {
    let (mut command, name) = command(root, words);
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => inert(text),
        Some(ContextValue::Strings(list)) => list.first().map(|text| inert(text)).unwrap_or_default(),
        _ => String::new(),
    };
    let argument = text(ContextKind::InvalidArg);
    let flag = argument.split([' ', '=', '[']).next().unwrap_or_default().to_owned();
    let value = text(ContextKind::InvalidValue);
    let (what, status) = match error.kind() {
        ErrorKind::InvalidSubcommand => {
            let unknown = text(ContextKind::InvalidSubcommand);
            let mut what = format!("umiak: unknown command: {name} {unknown}");
            let close = text(ContextKind::SuggestedSubcommand);
            if !close.is_empty() {
                what = format!("{what}\n\nDid you mean this?\n\t{name} {close}");
            }
            (what, 1)
        }
        ErrorKind::UnknownArgument if argument.starts_with("--") => (format!("unknown flag: {flag}"), 125),
        ErrorKind::UnknownArgument if argument.starts_with('-') => {
            let letter = argument.chars().nth(1).unwrap_or('-');
            (format!("unknown shorthand flag: '{letter}' in {argument}"), 125)
        }
        ErrorKind::MissingRequiredArgument | ErrorKind::UnknownArgument | ErrorKind::TooManyValues => {
            (format!("umiak: '{name}' {}", wanted(&command)), 1)
        }
        ErrorKind::InvalidValue if value.is_empty() => (format!("flag needs an argument: {flag}"), 125),
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            let reason = match std::error::Error::source(error) {
                Some(source) => inert(&source.to_string()),
                None => match error.get(ContextKind::ValidValue) {
                    Some(ContextValue::Strings(valid)) => format!("must be one of {}", valid.join(", ")),
                    _ => "not a valid value".to_owned(),
                },
            };
            (format!("invalid argument \"{value}\" for \"{flag}\" flag: {reason}"), 125)
        }
        _ => {
            let all = error.render().to_string();
            (inert(all.lines().next().unwrap_or_default().trim_start_matches("error: ")), 125)
        }
    };
    let usage = command.render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").trim();
    let usage = if error.kind() == ErrorKind::InvalidSubcommand {
        String::new()
    } else {
        format!("Usage:  {usage}\n\n")
    };
    (format!("{what}\n\n{usage}Run '{name} --help' for more information\n"), status)
}

/// How many words the command wants.
fn wanted(command: &Command) -> &'static str {
    let words: Vec<_> = command.get_positionals().collect();
    match words.as_slice() {
        [] => "accepts no arguments",
        [one] if !one.is_required_set() => "accepts at most 1 argument",
        [one] if one.get_num_args().is_some_and(|range| range.max_values() > 1) => {
            "requires at least 1 argument"
        }
        [_] => "requires 1 argument",
        _ => "requires at least 1 argument",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_are_dockers() {
        for (typed, expected, status) in [
            (
                "run --bogus x",
                "unknown flag: --bogus\n\nUsage:  umiak run [OPTIONS] IMAGE [COMMAND] [ARG...]",
                125,
            ),
            (
                "run",
                "umiak: 'umiak run' requires at least 1 argument\n\nUsage:  umiak run [OPTIONS] IMAGE",
                1,
            ),
            ("runn", "umiak: unknown command: umiak runn\n\nDid you mean this?\n\tumiak run\n", 1),
            ("ps x", "umiak: 'umiak ps' accepts no arguments\n", 1),
            ("pull a b", "umiak: 'umiak pull' requires 1 argument\n", 1),
            ("run --name", "flag needs an argument: --name\n", 125),
            (
                "run --rm=maybe x",
                "invalid argument \"maybe\" for \"--rm\" flag: expected true or false\n",
                125,
            ),
            ("run -Z x", "unknown shorthand flag: 'Z' in -Z\n", 125),
            ("run --pull=bogus x", "invalid argument \"bogus\" for \"--pull\" flag: must be one of", 125),
            ("image bogus", "umiak: unknown command: umiak image bogus\n", 1),
            ("--root /x rm", "umiak: 'umiak rm' requires at least 1 argument\n", 1),
            (
                "--bogus",
                "unknown flag: --bogus\n\nUsage:  umiak [OPTIONS] COMMAND\n\nRun 'umiak --help'",
                125,
            ),
        ] {
            let words: Vec<OsString> =
                std::iter::once("umiak").chain(typed.split(' ')).map(Into::into).collect();
            let root = super::super::whole();
            let error = root.clone().try_get_matches_from(&words).unwrap_err();
            let (text, code) = complaint(&error, root, &words);
            assert!(text.starts_with(expected), "{typed}: {text}");
            assert_eq!(code, status, "{typed}");
        }
    }
}
