//! `--filter`: docker's rules. Several values of one key: any of them; several keys: all of them (labels: all as well).

use std::collections::BTreeMap;

use super::fault::Fault;

/// The parsed filters of one command.
#[derive(Debug)]
pub(super) struct Filters(Vec<(String, String)>);

impl Filters {
    /// Parses `key=value`; a key that is not known to the command is an error.
    pub(super) fn parse(given: &[String], known: &[&str]) -> Result<Self, Fault> {
        let wrong =
            |value: &str, rule: String| Fault::Flag { flag: "--filter", value: value.to_owned(), rule };
        let mut all = Vec::new();
        for text in given {
            let Some((key, value)) = text
                .split_once("!=")
                .map(|(key, value)| (format!("{key}!"), value))
                .or_else(|| text.split_once('=').map(|(key, value)| (key.to_owned(), value)))
            else {
                return Err(wrong(text, "expected name=value".to_owned()));
            };
            let key = key.trim().to_ascii_lowercase();
            if !known.contains(&key.as_str()) {
                return Err(wrong(text, format!("the filters here are {}", known.join(", "))));
            }
            all.push((key, value.trim().to_owned()));
        }
        Ok(Self(all))
    }

    /// Keys and values, as given.
    pub(super) fn all(&self) -> Vec<(String, String)> {
        self.0.clone()
    }

    /// Values given for a key.
    pub(super) fn values(&self, key: &str) -> Vec<&str> {
        self.0.iter().filter(|(known, _)| known == key).map(|(_, value)| value.as_str()).collect()
    }

    /// Whether something passes the filters of a key.
    pub(super) fn pass(&self, key: &str, test: impl Fn(&str) -> bool) -> bool {
        let values = self.values(key);
        values.is_empty() || values.into_iter().any(test)
    }

    /// Whether labels pass: each filter names one, perhaps with its value, that is there (`label!`: that is not).
    pub(super) fn pass_labels(&self, labels: &BTreeMap<String, String>) -> bool {
        let there = |wish: &str| match wish.split_once('=') {
            Some((key, value)) => labels.get(key).is_some_and(|found| found == value),
            None => labels.contains_key(wish),
        };
        self.values("label").into_iter().all(there) && !self.values("label!").into_iter().any(there)
    }
}

/// Whether a text matches a pattern of the shell with `*` and `?`, neither of which takes a slash.
pub(super) fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&'*') {
            star = Some((p, t));
            p += 1;
        } else if pattern.get(p).is_some_and(|c| *c == text[t] || (*c == '?' && text[t] != '/')) {
            p += 1;
            t += 1;
        } else if let Some((at, from)) = star.filter(|(_, from)| text[*from] != '/') {
            star = Some((at, from + 1));
            (p, t) = (at + 1, from + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_any_of_a_key_and_all_of_the_keys() {
        let given = ["label=a", "label=b=1", "name=x", "name=y"].map(str::to_owned);
        let filters = Filters::parse(&given, &["label", "name"]).unwrap();
        assert!(filters.pass("name", |v| v == "y") && !filters.pass("name", |v| v == "z"));
        assert!(filters.pass("status", |_| false));
        let labels = |list: &[(&str, &str)]| list.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        assert!(filters.pass_labels(&labels(&[("a", ""), ("b", "1")])));
        assert!(!filters.pass_labels(&labels(&[("a", ""), ("b", "2")])));
        let without = Filters::parse(&["label!=a=1".to_owned()], &["label", "label!"]).unwrap();
        assert!(without.pass_labels(&labels(&[("a", "2")])) && !without.pass_labels(&labels(&[("a", "1")])));
        assert!(Filters::parse(&["label!=a".to_owned()], &["label"]).is_err());
        assert!(Filters::parse(&["name".to_owned()], &["name"]).is_err());
        assert!(Filters::parse(&["nope=1".to_owned()], &["name"]).is_err());
    }

    #[test]
    fn patterns_are_the_shells() {
        for (pattern, text, expected) in [
            ("busybox", "busybox", true),
            ("busy*", "busybox", true),
            ("*:lat?st", "busybox:latest", true),
            ("*", "a/b", false),
            ("*/*", "a/b", true),
            ("b*x*", "bxxa", true),
            ("", "", true),
            ("?", "/", false),
            ("**********b", "aaaaaaaaaaaa", false),
        ] {
            assert_eq!(glob(pattern, text), expected, "{pattern} {text}");
        }
    }
}
