//! `--network`, `--add-host`, `--dns` and what else is asked of a container's networks: docker's rules and words.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::model::{EndpointSettings, ErrorKind, ExtraHost, Kind, Link, NetworkMode};

use super::refused::Refused;

/// A network that cannot be had, or flags that do not go together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct NetworkError {
    message: String,
}

impl Kind for NetworkError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidInput
    }
}

fn refuse<T>(message: impl Into<String>) -> Result<T, NetworkError> {
    Err(NetworkError { message: message.into() })
}

/// The flags that speak of the first network alone.
#[derive(Debug, Default)]
pub struct Plain<'a> {
    /// `--network-alias`.
    pub aliases: &'a [String],
    /// `--link`.
    pub links: &'a [String],
    /// `--ip`.
    pub ipv4: Option<&'a str>,
    /// `--ip6`.
    pub ipv6: Option<&'a str>,
    /// `--mac-address`.
    pub mac: Option<&'a str>,
    /// `--link-local-ip`.
    pub link_local: &'a [String],
}

/// What all flags together ask for: the mode, what is asked of each network, and the links of a container that is on none of
/// the user's.
pub type Asked = (NetworkMode, Vec<EndpointSettings>, Vec<Link>);

/// One `--network`: plain (`front`) or in docker's long form (`name=front,alias=web`).
pub fn parse(text: &str) -> Result<EndpointSettings, Refused> {
    let mut settings = EndpointSettings::default();
    if !text.contains('=') {
        text.clone_into(&mut settings.network);
        return Ok(settings);
    }
    for part in text.split(',') {
        let Some((key, value)) = part.split_once('=') else {
            return Err(Refused::text(format!("invalid field {part}")));
        };
        let (key, value) = (key.trim().to_ascii_lowercase(), value.trim());
        match key.as_str() {
            "name" => value.clone_into(&mut settings.network),
            "alias" => settings.aliases.push(value.to_owned()),
            "ip" => settings.ipv4 = Some(ipv4(value).map_err(|error| Refused::text(error.message))?),
            "ip6" => settings.ipv6 = Some(ipv6(value).map_err(|error| Refused::text(error.message))?),
            "link-local-ip" => {
                settings.link_local.push(address(value).map_err(|error| Refused::text(error.message))?);
            }
            "mac-address" => {
                settings.mac = Some(
                    value
                        .parse()
                        .map_err(|_| Refused::text(format!("{value} is not a valid mac address")))?,
                );
            }
            "driver-opt" => {
                let Some((key, value)) = value.split_once('=') else {
                    return Err(Refused::text("invalid key value pair format in driver options"));
                };
                settings.driver_options.insert(key.trim().to_ascii_lowercase(), value.trim().to_owned());
            }
            "gw-priority" => {
                settings.gateway_priority = value
                    .parse()
                    .map_err(|_| Refused::text(format!("invalid gw-priority ({value}): not a number")))?;
            }
            _ => return Err(Refused::text(format!("invalid field key {key}"))),
        }
    }
    Ok(settings)
}

fn address(text: &str) -> Result<IpAddr, NetworkError> {
    text.parse().or_else(|_| refuse(format!("{text} is not an ip address")))
}

fn ipv4(text: &str) -> Result<std::net::Ipv4Addr, NetworkError> {
    text.parse().or_else(|_| refuse(format!("invalid IPv4 address: {text}")))
}

fn ipv6(text: &str) -> Result<std::net::Ipv6Addr, NetworkError> {
    text.parse().or_else(|_| refuse(format!("invalid IPv6 address: {text}")))
}

fn mode(name: &str) -> Result<NetworkMode, NetworkError> {
    match name {
        "" => refuse("no name set for network"),
        "none" => Ok(NetworkMode::None),
        "host" => Ok(NetworkMode::Host),
        "default" => Ok(NetworkMode::Default),
        _ => match name.strip_prefix("container:") {
            Some("") => refuse("invalid network mode: invalid container format container:<name|id>"),
            Some(container) => Ok(NetworkMode::Container(container.to_owned())),
            None => Ok(NetworkMode::Named(name.to_owned())),
        },
    }
}

/// Whether the user made it: the others know neither aliases nor chosen addresses.
fn is_users(mode: &NetworkMode) -> bool {
    matches!(mode, NetworkMode::Named(name) if name != crate::model::DEFAULT_NETWORK)
}

/// Everything that was asked for, checked against itself.
pub fn asked(networks: &[EndpointSettings], plain: &Plain<'_>) -> Result<Asked, NetworkError> {
    let mut all = networks.to_vec();
    if all.is_empty() {
        all.push(EndpointSettings { network: "default".to_owned(), ..EndpointSettings::default() });
    }
    for (at, one) in all.iter().enumerate() {
        if all[..at].iter().any(|other| other.network == one.network) {
            return refuse(format!("network {:?} is specified multiple times", one.network));
        }
    }
    let modes: Vec<_> = all.iter().map(|one| mode(&one.network)).collect::<Result<_, _>>()?;
    let users = modes.iter().filter(|mode| is_users(mode)).count();
    if modes.len() > 1 && users < modes.len() && !modes.iter().all(NetworkMode::is_networked) {
        return refuse(
            "conflicting options: cannot attach both user-defined and non-user-defined network-modes",
        );
    }
    let links: Vec<Link> = plain.links.iter().map(|text| link(text)).collect::<Result<_, _>>()?;
    let (Some(first), Some(mode)) = (all.first_mut(), modes.into_iter().next()) else {
        return refuse("no name set for network");
    };
    take(first, plain, if is_users(&mode) { &links } else { &[] })?;
    if !mode.is_networked() && (first.ipv4.is_some() || first.ipv6.is_some()) {
        return refuse("user specified IP address is supported on user defined networks only");
    }
    if matches!(mode, NetworkMode::Host) && !links.is_empty() {
        return refuse(
            "conflicting options: host type networking can't be used with links. This would result in undefined behavior",
        );
    }
    if matches!(mode, NetworkMode::Container(_)) {
        if !links.is_empty() {
            return refuse(
                "conflicting options: container type network can't be used with links. This would result in undefined behavior",
            );
        }
        if first.mac.is_some() {
            return refuse("conflicting options: mac-address and the network mode");
        }
    }
    let left = if is_users(&mode) { Vec::new() } else { links };
    if !mode.is_networked() {
        if !first.aliases.is_empty() {
            return refuse("network-scoped aliases are only supported for user-defined networks");
        }
        all.clear();
    }
    Ok((mode, all, left))
}

/// Takes the plain flags over into what is asked of the first network.
pub fn take(first: &mut EndpointSettings, plain: &Plain<'_>, links: &[Link]) -> Result<(), NetworkError> {
    let conflict = |flag: &str, what: &str| {
        refuse(format!("conflicting options: cannot specify both --{flag} and per-network {what}"))
    };
    if !plain.aliases.is_empty() {
        if !first.aliases.is_empty() {
            return conflict("network-alias", "alias");
        }
        first.aliases = plain.aliases.to_vec();
    }
    if !plain.links.is_empty() && !first.links.is_empty() {
        return conflict("link", "links");
    }
    first.links.extend_from_slice(links);
    let given = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
    if let Some(text) = given(plain.ipv4) {
        if first.ipv4.is_some() {
            return conflict("ip", "IPv4 address");
        }
        first.ipv4 = Some(ipv4(&text)?);
    }
    if let Some(text) = given(plain.ipv6) {
        if first.ipv6.is_some() {
            return conflict("ip6", "IPv6 address");
        }
        first.ipv6 = Some(ipv6(&text)?);
    }
    if let Some(text) = given(plain.mac) {
        if first.mac.is_some() {
            return conflict("mac-address", "MAC address");
        }
        let wrong = |_| NetworkError { message: format!("{text} is not a valid mac address") };
        first.mac = Some(text.trim().parse().map_err(wrong)?);
    }
    if !plain.link_local.is_empty() {
        if !first.link_local.is_empty() {
            return conflict("link-local-ip", "link-local IP addresses");
        }
        first.link_local = plain.link_local.iter().map(|text| address(text)).collect::<Result<_, _>>()?;
    }
    Ok(())
}

/// `--link container:alias`; without an alias it is the container's name.
pub fn link(text: &str) -> Result<Link, NetworkError> {
    let mut parts = text.split(':');
    let (container, alias, more) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
    if text.is_empty() {
        return refuse("empty string specified for links");
    }
    if more.is_some() || container.is_empty() || alias == Some("") {
        return refuse(format!("bad format for links: {text}"));
    }
    let container = container.trim_start_matches('/');
    Ok(Link { container: container.to_owned(), alias: alias.unwrap_or(container).to_owned() })
}

/// `--add-host name:address` or `name=address`; the address may be `host-gateway`, and one of IPv6 may be in brackets.
pub fn extra_host(text: &str) -> Result<ExtraHost, Refused> {
    let bad = || Refused::text(format!("bad format for add-host: {text:?}"));
    let (name, address) = text.split_once('=').or_else(|| text.split_once(':')).ok_or_else(bad)?;
    if name.is_empty() || address.is_empty() {
        return Err(bad());
    }
    if address == "host-gateway" {
        return Ok(ExtraHost { name: name.to_owned(), address: None });
    }
    let inner = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    let address =
        inner.parse().map_err(|_| Refused::text(format!("invalid IP address in add-host: {address:?}")))?;
    Ok(ExtraHost { name: name.to_owned(), address: Some(address) })
}

/// `--dns`.
pub fn server(text: &str) -> Result<IpAddr, Refused> {
    text.trim().parse().map_err(|_| Refused::text(format!("{text} is not an ip address")))
}

/// `--dns-search`: a domain, or `.` for none.
pub fn search(text: &str) -> Result<String, Refused> {
    let trimmed = text.trim();
    if trimmed == "." {
        return Ok(trimmed.to_owned());
    }
    let label = |label: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        !label.is_empty() && label.len() <= 63 && label.bytes().all(plain) && !label.starts_with('-')
    };
    let name = trimmed.strip_suffix('.').unwrap_or(trimmed);
    if name.len() <= 255 && name.split('.').all(label) {
        return Ok(trimmed.to_owned());
    }
    Err(Refused::text(format!("{text} is not a valid domain")))
}

/// `-o key=value`; a key alone has an empty value.
pub fn options(given: &[String]) -> BTreeMap<String, String> {
    let pair = |text: &String| match text.split_once('=') {
        Some((key, value)) => (key.to_owned(), value.to_owned()),
        None => (text.clone(), String::new()),
    };
    given.iter().map(pair).collect()
}

#[cfg(test)]
#[path = "network_tests.rs"]
mod tests;

/// `--allow-net`: a rule of the sandbox's, kept as given.
pub(in crate::cli) fn destination(text: &str) -> Result<String, Refused> {
    match text.parse::<crate::executor::wasm::Target>() {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(Refused::text(format!("invalid destination: {error}"))),
    }
}
