//! `--device` and `--device-cgroup-rule`.

use super::refused::Refused;
use crate::model::DeviceMapping;

/// Letters of `rwm`, each at most once.
fn access(text: &str) -> bool {
    let once = |letter| text.matches(letter).count() <= 1;
    !text.is_empty() && text.chars().all(|c| "rwm".contains(c)) && ['r', 'w', 'm'].into_iter().all(once)
}

/// `host[:container][:access]`.
pub fn device(text: &str) -> Result<DeviceMapping, Refused> {
    let bad = || Refused::text(format!("bad format for path: {text}"));
    let parts: Vec<&str> = text.split(':').collect();
    let (host, container, letters) = match parts.as_slice() {
        [host] => (*host, *host, "rwm"),
        [host, letters] if access(letters) => (*host, *host, *letters),
        [host, container] => (*host, *container, "rwm"),
        [host, container, letters] => (*host, *container, *letters),
        _ => return Err(bad()),
    };
    if host.is_empty() {
        return Err(bad());
    }
    if !container.starts_with('/') {
        // A name in a device vendor's own scheme: docker asks CDI for it.
        if parts.len() == 1 && text.contains('=') {
            return Err(Refused::Unsupported(format!("device {text}: CDI devices are not supported")));
        }
        return Err(Refused::text(format!("{container} is not an absolute path")));
    }
    if !host.starts_with('/') {
        return Err(Refused::text(format!("{host} is not an absolute path")));
    }
    if !access(letters) {
        return Err(Refused::text(format!("bad mode specified: {letters}")));
    }
    Ok(DeviceMapping { host: host.into(), container: container.to_owned(), access: letters.to_owned() })
}

/// `c 1:3 rwm`, with `*` for any number and `a` for both kinds.
pub fn rule(text: &str) -> Result<String, Refused> {
    let number = |part: &str| part == "*" || (!part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()));
    let words: Vec<&str> = text.split(' ').collect();
    let good = match words.as_slice() {
        [kind, numbers, letters] => {
            matches!(*kind, "a" | "b" | "c")
                && numbers.split_once(':').is_some_and(|(major, minor)| number(major) && number(minor))
                && (1..=3).contains(&letters.len())
                && letters.chars().all(|c| "rwm".contains(c))
        }
        _ => false,
    };
    if good {
        Ok(text.to_owned())
    } else {
        Err(Refused::text(format!("invalid device cgroup format '{text}'")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices() {
        for (text, host, container, access) in [
            ("/dev/null", "/dev/null", "/dev/null", "rwm"),
            ("/dev/null:/dev/xx", "/dev/null", "/dev/xx", "rwm"),
            ("/dev/null:/dev/xx:r", "/dev/null", "/dev/xx", "r"),
            ("/dev/null:rw", "/dev/null", "/dev/null", "rw"),
        ] {
            let got = device(text).unwrap();
            assert_eq!(got.host.to_str(), Some(host));
            assert_eq!((got.container.as_str(), got.access.as_str()), (container, access), "{text}");
        }
        for (text, message) in [
            ("/dev/null:/dev/xx:x", "bad mode specified: x"),
            ("/dev/null:/dev/a:rr", "bad mode specified: rr"),
            ("", "bad format for path: "),
            ("/dev/null:/dev/x:rwm:z", "bad format for path: /dev/null:/dev/x:rwm:z"),
            (":/dev/null", "bad format for path: :/dev/null"),
            ("/dev/null:a", "a is not an absolute path"),
            ("/dev/null:", " is not an absolute path"),
            ("/dev/null::r", " is not an absolute path"),
        ] {
            assert_eq!(device(text).unwrap_err().to_string(), message);
        }
        assert!(matches!(device("vendor.com/class=name"), Err(Refused::Unsupported(_))));
    }

    #[test]
    fn rules() {
        for text in ["c 1:3 rwm", "a *:* rwm", "c *:3 m"] {
            assert_eq!(rule(text).unwrap(), text);
        }
        for text in ["x 1:3 r", "c 1:3", "c 1:3 x", "", "c 1:3 rwmr", "c a:3 r"] {
            assert_eq!(rule(text).unwrap_err().to_string(), format!("invalid device cgroup format '{text}'"));
        }
    }
}
