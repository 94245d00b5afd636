//! `--expose`, and ports as filters name them.

use std::num::IntErrorKind;

use super::refused::Refused;

/// A port, with Go's words for what is none.
pub fn number(text: &str) -> Result<u16, String> {
    text.parse::<u16>().ok().filter(|_| !text.starts_with('+')).ok_or_else(|| {
        let range = text.parse::<u16>().is_err_and(|error| *error.kind() == IntErrorKind::PosOverflow);
        let what = if range { "value out of range" } else { "invalid syntax" };
        format!("strconv.ParseUint: parsing {text:?}: {what}")
    })
}

/// First port, last port, protocol of `80`, `80-82/udp`.
pub fn range(text: &str) -> Result<(u16, u16, &str), String> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    if ports.is_empty() {
        return Err("Empty string specified for ports.".to_owned());
    }
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let (first, last) = (number(first)?, number(last)?);
    if last < first {
        return Err(format!("Invalid range specified for the Port: {ports}"));
    }
    Ok((first, last, protocol))
}

/// The ports of one `--expose`, as `80/tcp`.
pub fn expose(text: &str) -> Result<Vec<String>, Refused> {
    if text.contains(':') {
        return Err(Refused::text(format!("invalid port format for --expose: {text}")));
    }
    let (first, last, protocol) = range(text).map_err(|error| {
        Refused::text(format!("invalid range format for --expose: {text}, error: {error}"))
    })?;
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exposed() {
        for (text, ports) in [
            ("80", &["80/tcp"][..]),
            ("80/udp", &["80/udp"]),
            ("80-82/sctp", &["80/sctp", "81/sctp", "82/sctp"]),
            ("0", &["0/tcp"]),
            ("65535", &["65535/tcp"]),
        ] {
            assert_eq!(expose(text).unwrap(), ports);
        }
        for (text, message) in [
            (
                "82-80",
                "invalid range format for --expose: 82-80, error: Invalid range specified for the Port: 82-80",
            ),
            (
                "65536",
                "invalid range format for --expose: 65536, error: strconv.ParseUint: parsing \"65536\": value out of range",
            ),
            (
                "x",
                "invalid range format for --expose: x, error: strconv.ParseUint: parsing \"x\": invalid syntax",
            ),
            ("", "invalid range format for --expose: , error: Empty string specified for ports."),
            ("80:80", "invalid port format for --expose: 80:80"),
        ] {
            assert_eq!(expose(text).unwrap_err().to_string(), message);
        }
    }
}
