//! Anonymous tokens (distribution, "Token Authentication"): reading the challenge.

/// What a `WWW-Authenticate: Bearer …` header asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Challenge {
    pub(super) realm: String,
    pub(super) service: Option<String>,
}

/// Reads a challenge (RFC 9110, 11.6.1); `None` if it is not a bearer challenge with a realm.
pub(super) fn challenge(header: &str) -> Option<Challenge> {
    let (scheme, mut rest) = header.trim().split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let (mut realm, mut service) = (None, None);
    while let Some((key, after)) = rest.trim_start_matches([' ', ',']).split_once('=') {
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_once(',').unwrap_or((after, "")),
        };
        match key.trim().to_ascii_lowercase().as_str() {
            "realm" => realm = Some(value.to_owned()),
            "service" => service = Some(value.to_owned()),
            _ => {}
        }
        rest = next;
    }
    Some(Challenge { realm: realm?, service })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges() {
        let found =
            challenge(r#"Bearer realm="https://a/t",service="r, x",scope="repository:a:pull,push""#).unwrap();
        assert_eq!((found.realm.as_str(), found.service.as_deref()), ("https://a/t", Some("r, x")));
        assert_eq!(challenge("bearer realm=http://x").unwrap().realm, "http://x");
        for bad in
            ["", "Basic realm=\"x\"", "Bearer", "Bearer realm=\"x", "Bearer service=\"x\"", "Bearer ,,,="]
        {
            assert_eq!(challenge(bad), None, "{bad}");
        }
    }
}
