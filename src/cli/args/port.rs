//! `-p`, `--expose`, and ports as filters name them: docker's rules and words.

use std::net::IpAddr;
use std::num::IntErrorKind;

use crate::model::{PortBinding, Protocol};

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

/// One `-p`: a binding for each port of the container.
pub fn publish(text: &str) -> Result<Vec<PortBinding>, Refused> {
    let words = |message: String| Refused::text(message);
    let text = if text.contains('=') { plain(text)? } else { text.to_owned() };
    let (address, host, container) = split(&text);
    if container.is_empty() || container.starts_with('/') {
        return Err(words(format!("no port specified: {text}<empty>")));
    }
    let (ports, protocol) = container.split_once('/').unwrap_or((container, "tcp"));
    let protocol = match Protocol::parse(protocol) {
        Some(Protocol::Sctp) => {
            return Err(Refused::Unsupported("SCTP ports cannot be published: tcp and udp can".to_owned()));
        }
        Some(protocol) => protocol,
        None => return Err(words(format!("invalid proto: {protocol}"))),
    };
    let address = match address.trim_start_matches('[').trim_end_matches(']') {
        "" => None,
        inner => Some(inner.parse::<IpAddr>().map_err(|_| words(format!("invalid IP address: {inner}")))?),
    };
    let (first, last, _) = range(ports).map_err(|_| words(format!("invalid containerPort: {ports}")))?;
    let bad_host = || words(format!("invalid hostPort: {host}"));
    let host_range = match host {
        "" => None,
        host if host.contains('/') => return Err(bad_host()),
        host => range(host).map(|(first, last, _)| Some((first, last))).map_err(|_| bad_host())?,
    };
    let bind = |container, host| PortBinding { container, protocol, address, host };
    let host_range = host_range.filter(|range| *range != (0, 0));
    match host_range {
        None => Ok((first..=last).map(|port| bind(port, None)).collect()),
        // One port of the container on any of a range.
        Some(range) if first == last => Ok(vec![bind(first, Some(range))]),
        Some((low, high)) if u32::from(high) - u32::from(low) == u32::from(last) - u32::from(first) => {
            Ok((first..=last).zip(low..=high).map(|(port, host)| bind(port, Some((host, host)))).collect())
        }
        Some(_) => {
            Err(words(format!("invalid ranges specified for container and host Ports: {ports} and {host}")))
        }
    }
}

/// `target=80,published=8080,protocol=tcp` as `8080:80/tcp`.
fn plain(text: &str) -> Result<String, Refused> {
    let (mut target, mut published, mut protocol) = ("", "", "tcp");
    for part in text.split(',') {
        match part.split_once('=') {
            Some(("target", value)) => target = value,
            Some(("published", value)) => published = value,
            Some(("protocol", value)) => protocol = value,
            Some(("mode" | "name", _)) => {}
            Some((key, _)) => return Err(Refused::text(format!("invalid field key {key}"))),
            None => {
                return Err(Refused::text(format!(
                    "invalid publish opts format (should be name=value but got '{part}')"
                )));
            }
        }
    }
    Ok(format!("{published}:{target}/{protocol}"))
}

/// Address, host's port and container's port, each possibly empty.
fn split(text: &str) -> (&str, &str, &str) {
    let Some((rest, container)) = text.rsplit_once(':') else { return ("", "", text) };
    match rest.rsplit_once(':') {
        // The last colon of an address in brackets is not a separator.
        Some(_) if rest.ends_with(']') => (rest, "", container),
        Some((address, host)) => (address, host, container),
        None => ("", rest, container),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A binding as text: `address:host->container/protocol`.
    fn shown(binding: &PortBinding) -> String {
        let address = binding.address.map_or("*".to_owned(), |address| address.to_string());
        let host = match binding.host {
            None => "any".to_owned(),
            Some((first, last)) if first == last => first.to_string(),
            Some((first, last)) => format!("{first}-{last}"),
        };
        format!("{address}:{host}->{}/{}", binding.container, binding.protocol.name())
    }

    #[test]
    fn published() {
        for (text, bindings) in [
            ("80", &["*:any->80/tcp"][..]),
            ("8080:80", &["*:8080->80/tcp"]),
            ("0:80", &["*:any->80/tcp"]),
            ("127.0.0.1:8080:80/udp", &["127.0.0.1:8080->80/udp"]),
            ("127.0.0.1::80", &["127.0.0.1:any->80/tcp"]),
            ("[::1]:8080:80", &["::1:8080->80/tcp"]),
            ("[::1]::80", &["::1:any->80/tcp"]),
            ("::1:8080:80", &["::1:8080->80/tcp"]),
            ("8000-8001:80-81/TCP", &["*:8000->80/tcp", "*:8001->81/tcp"]),
            ("8000-8010:80", &["*:8000-8010->80/tcp"]),
            ("80-81", &["*:any->80/tcp", "*:any->81/tcp"]),
            ("target=80,published=8080,protocol=udp", &["*:8080->80/udp"]),
        ] {
            let found: Vec<_> = publish(text).unwrap().iter().map(shown).collect();
            assert_eq!(found, bindings, "{text}");
        }
        for (text, message) in [
            ("", "no port specified: <empty>"),
            ("8080:", "no port specified: 8080:<empty>"),
            ("x", "invalid containerPort: x"),
            ("8080:70000", "invalid containerPort: 70000"),
            ("70000:80", "invalid hostPort: 70000"),
            ("moon:8080:80", "invalid IP address: moon"),
            ("8080:80/foo", "invalid proto: foo"),
            ("8080:80/sctp", "SCTP ports cannot be published: tcp and udp can"),
            ("1-3:80-81", "invalid ranges specified for container and host Ports: 80-81 and 1-3"),
            ("82-80:80", "invalid hostPort: 82-80"),
            ("target=80,x", "invalid publish opts format (should be name=value but got 'x')"),
        ] {
            assert_eq!(publish(text).unwrap_err().to_string(), message, "{text}");
        }
    }

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
