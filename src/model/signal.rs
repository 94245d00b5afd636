//! Signals by name or number: `SIGKILL`, `kill`, `9`, `RTMIN+1`.
//!
//! The numbers are Linux's on every host, since containers are Linux's or know no signals of a host at all: `kill -s USR1`
//! from a Mac must not send what is 30 there. They are those of all architectures that images are built for (x86, ARM, POWER,
//! RISC-V, s390x; MIPS and SPARC differ). Docker takes any number for `--stop-signal` and fails when it is to be sent; a number
//! that no signal has is refused here.

use super::{ErrorKind, Kind};

/// Linux's signals by name, without `SIG`; synonyms after what `kill -l` shows. The real-time ones are counted, not listed.
pub const NAMES: &[(&str, u8)] = &[
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

/// First real-time signal that programs may use; the C library keeps the two below.
const RTMIN: u8 = 34;
/// Last signal.
const RTMAX: u8 = 64;

/// Not a signal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid signal: {text}")]
pub struct SignalError {
    /// As given.
    pub text: String,
}

impl Kind for SignalError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidInput
    }
}

/// The Linux number of a signal, 1 to 64. Names in either case, with or without `SIG`.
pub fn parse(text: &str) -> Result<u8, SignalError> {
    let invalid = || SignalError { text: text.to_owned() };
    if let Ok(number) = text.parse::<u8>() {
        return if (1..=RTMAX).contains(&number) { Ok(number) } else { Err(invalid()) };
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let listed = NAMES.iter().find(|(known, _)| *known == name).map(|&(_, number)| number);
    listed.or_else(|| real_time(name)).ok_or_else(invalid)
}

/// `RTMIN`, `RTMIN+1` to `+15`, `RTMAX-14` to `-1`, `RTMAX`: the two halves as docker and `kill -l` name them.
fn real_time(name: &str) -> Option<u8> {
    let offset = |text: &str, most: u8| {
        let number = text.parse::<u8>().ok()?;
        // One spelling for each: no `+01`, no `++1`, no `+0`.
        (number.to_string() == text && (1..=most).contains(&number)).then_some(number)
    };
    if let Some(rest) = name.strip_prefix("RTMIN") {
        return if rest.is_empty() {
            Some(RTMIN)
        } else {
            Some(RTMIN + offset(rest.strip_prefix('+')?, 15)?)
        };
    }
    let rest = name.strip_prefix("RTMAX")?;
    if rest.is_empty() { Some(RTMAX) } else { Some(RTMAX - offset(rest.strip_prefix('-')?, 14)?) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals() {
        let cases = [
            ("KILL", 9),
            ("kill", 9),
            ("SIGKILL", 9),
            ("sigkill", 9),
            ("SigTerm", 15),
            ("9", 9),
            ("09", 9),
            ("+9", 9),
            ("1", 1),
            ("32", 32),
            ("33", 33),
            ("64", 64),
            ("IOT", 6),
            ("POLL", 29),
            ("CLD", 17),
            ("RTMIN", 34),
            ("SIGRTMIN", 34),
            ("RTMIN+1", 35),
            ("sigrtmin+15", 49),
            ("RTMAX-14", 50),
            ("RTMAX-1", 63),
            ("rtmax", 64),
        ];
        for (text, number) in cases {
            assert_eq!(parse(text), Ok(number), "{text}");
        }
        for text in [
            "",
            "0",
            "00",
            "-1",
            "65",
            "255",
            "256",
            "999",
            "XX",
            "K",
            "SIG",
            "SIGSIGKILL",
            " KILL",
            "KILL ",
            " 9",
            "UNUSED",
            "EMT",
            "INFO",
            "LOST",
            "RTMIN+0",
            "RTMIN+01",
            "RTMIN+16",
            "RTMIN-1",
            "RTMIN++1",
            "RTMAX-0",
            "RTMAX-15",
            "RTMAX+1",
            "RTMIN+",
            "RTMAX-",
            "9\0",
            "９",
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.to_string(), format!("invalid signal: {text}"));
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
        }
    }

    #[test]
    fn every_number_below_the_real_time_ones_has_a_name() {
        for number in 1..=31 {
            assert!(NAMES.iter().any(|&(_, known)| known == number), "{number}");
        }
        for (name, number) in NAMES {
            assert_eq!(parse(name), Ok(*number));
        }
    }

    /// The table is Linux's: on Linux the system agrees.
    #[cfg(target_os = "linux")]
    #[test]
    fn the_table_agrees_with_the_system() {
        use rustix::process::Signal;
        for (name, signal) in [
            ("STKFLT", Signal::STKFLT),
            ("BUS", Signal::BUS),
            ("USR1", Signal::USR1),
            ("USR2", Signal::USR2),
            ("CHLD", Signal::CHILD),
            ("CONT", Signal::CONT),
            ("STOP", Signal::STOP),
            ("TSTP", Signal::TSTP),
            ("URG", Signal::URG),
            ("WINCH", Signal::WINCH),
            ("IO", Signal::IO),
            ("PWR", Signal::POWER),
            ("SYS", Signal::SYS),
            ("VTALRM", Signal::VTALARM),
            ("XFSZ", Signal::XFSZ),
        ] {
            assert_eq!(i32::from(parse(name).unwrap()), signal.as_raw(), "{name}");
        }
    }
}
