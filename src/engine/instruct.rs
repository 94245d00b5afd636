//! `--change` of `commit` and `import`: the instructions of a Dockerfile that say how an image is run, applied to a config.

use serde_json::{Map, Value, json};

use crate::model::{ErrorKind, ImageConfig, Kind};

/// An instruction that cannot be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InstructError {
    /// Not one of those.
    #[error("{name} is not a valid change command")]
    Unknown {
        /// The instruction.
        name: String,
    },
    /// It needs something.
    #[error("{name} requires {what}")]
    Needs {
        /// The instruction.
        name: &'static str,
        /// What.
        what: &'static str,
    },
    /// It does not fit.
    #[error("{name} {value}: {rule}")]
    Value {
        /// The instruction.
        name: &'static str,
        /// What it says.
        value: String,
        /// What it should.
        rule: &'static str,
    },
}

impl Kind for InstructError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidInput
    }
}

/// Applies instructions, one a text, in order.
pub(super) fn apply(config: &mut ImageConfig, changes: &[String]) -> Result<(), InstructError> {
    let mut cmd_given = false;
    for line in changes {
        let line = line.trim();
        let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim();
        match name.to_ascii_uppercase().as_str() {
            "CMD" => {
                config.cmd = program(rest);
                cmd_given = true;
            }
            "ENTRYPOINT" => {
                config.entrypoint = program(rest);
                // As in a Dockerfile: the arguments of another program are not this one's.
                if !cmd_given {
                    config.cmd.clear();
                }
            }
            "ENV" => {
                for (key, value) in pairs("ENV", rest)? {
                    config.env.retain(|known| known.split('=').next() != Some(&key));
                    config.env.push(format!("{key}={value}"));
                }
            }
            "LABEL" => config.labels.extend(pairs("LABEL", rest)?),
            "EXPOSE" => {
                for word in some("EXPOSE", words(rest))? {
                    for port in ports(&word)? {
                        add(&mut config.exposed_ports, port);
                    }
                }
            }
            "VOLUME" => {
                for path in some("VOLUME", list(rest).unwrap_or_else(|| words(rest)))? {
                    if path.split('/').any(|part| part == "..") || path.is_empty() {
                        return Err(InstructError::Value {
                            name: "VOLUME",
                            value: path,
                            rule: "a path without `..`",
                        });
                    }
                    add(&mut config.volumes, path);
                }
            }
            "USER" => config.user = one("USER", rest)?,
            "WORKDIR" => {
                let path = one("WORKDIR", rest)?;
                let base = if path.starts_with('/') { "" } else { config.working_dir.trim_end_matches('/') };
                config.working_dir = if path.starts_with('/') { path } else { format!("{base}/{path}") };
            }
            "STOPSIGNAL" => {
                let signal = one("STOPSIGNAL", rest)?;
                if crate::model::signal::parse(&signal).is_err() {
                    return Err(InstructError::Value {
                        name: "STOPSIGNAL",
                        value: signal,
                        rule: "no such signal",
                    });
                }
                config.stop_signal = Some(signal);
            }
            "HEALTHCHECK" => {
                config.other.insert("Healthcheck".into(), health(rest)?);
            }
            "ONBUILD" => onbuild(config, rest)?,
            _ => return Err(InstructError::Unknown { name: name.to_owned() }),
        }
    }
    Ok(())
}

/// The config as an image has it; what is empty is left out.
pub(super) fn wire(config: &ImageConfig) -> Value {
    let mut out: Map<String, Value> = config.other.clone();
    let set = |items: &[String]| items.iter().map(|item| (item.clone(), json!({}))).collect::<Map<_, _>>();
    let fields = [
        ("User", json!(config.user)),
        ("ExposedPorts", set(&config.exposed_ports).into()),
        ("Env", json!(config.env)),
        ("Entrypoint", json!(config.entrypoint)),
        ("Cmd", json!(config.cmd)),
        ("Volumes", set(&config.volumes).into()),
        ("WorkingDir", json!(config.working_dir)),
        ("Labels", json!(config.labels)),
        ("StopSignal", json!(config.stop_signal.clone().unwrap_or_default())),
    ];
    let empty = |value: &Value| match value {
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.is_empty(),
        _ => false,
    };
    out.extend(
        fields.into_iter().filter(|(_, value)| !empty(value)).map(|(key, value)| (key.to_owned(), value)),
    );
    out.into()
}

fn add(to: &mut Vec<String>, item: String) {
    if !to.contains(&item) {
        to.push(item);
    }
}

fn some(name: &'static str, words: Vec<String>) -> Result<Vec<String>, InstructError> {
    if words.is_empty() {
        return Err(InstructError::Needs { name, what: "at least one argument" });
    }
    Ok(words)
}

fn one(name: &'static str, rest: &str) -> Result<String, InstructError> {
    let mut words = words(rest);
    match (words.pop(), words.is_empty()) {
        (Some(word), true) if !word.is_empty() => Ok(word),
        _ => Err(InstructError::Needs { name, what: "exactly one argument" }),
    }
}

/// The list form, `["a", "b"]`.
fn list(rest: &str) -> Option<Vec<String>> {
    if rest.starts_with('[') { serde_json::from_str(rest).ok() } else { None }
}

fn program(rest: &str) -> Vec<String> {
    match list(rest) {
        Some(words) => words,
        None if rest.is_empty() => Vec::new(),
        None => ["/bin/sh", "-c", rest].map(str::to_owned).to_vec(),
    }
}

/// `a=b "c=d e"`, or for one of them `a b c`.
fn pairs(name: &'static str, rest: &str) -> Result<Vec<(String, String)>, InstructError> {
    let all = words(rest);
    let first = some(name, all.clone())?.swap_remove(0);
    if !first.contains('=') {
        let (key, value) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        if value.is_empty() {
            return Err(InstructError::Needs { name, what: "a name and a value" });
        }
        return Ok(vec![(key.to_owned(), value.trim().to_owned())]);
    }
    all.into_iter()
        .map(|word| match word.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
            _ => Err(InstructError::Value { name, value: word, rule: "expected name=value" }),
        })
        .collect()
}

/// Words as a Dockerfile has them: quotes of both kinds, backslashes.
fn words(text: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', None | Some('"')) => {
                let next = chars.next().unwrap_or('\\');
                word.get_or_insert_default().push(next);
            }
            (c, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, None) if c.is_whitespace() => all.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    all.extend(word);
    all
}

/// `80`, `80/udp`, `80-82`.
fn ports(word: &str) -> Result<Vec<String>, InstructError> {
    let wrong = || InstructError::Value {
        name: "EXPOSE",
        value: word.to_owned(),
        rule: "expected PORT[-PORT][/tcp|/udp|/sctp]",
    };
    let (range, protocol) = word.split_once('/').unwrap_or((word, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(wrong());
    }
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>().ok().filter(|port| digits && *port > 0).ok_or_else(wrong)
    };
    let (first, last) = (number(first)?, number(last)?);
    if first > last {
        return Err(wrong());
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

fn onbuild(config: &mut ImageConfig, rest: &str) -> Result<(), InstructError> {
    let trigger = rest.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
    match trigger.as_str() {
        "" => return Err(InstructError::Needs { name: "ONBUILD", what: "an instruction" }),
        "ONBUILD" | "FROM" | "MAINTAINER" => {
            let rule = "not allowed as an ONBUILD trigger";
            return Err(InstructError::Value { name: "ONBUILD", value: trigger, rule });
        }
        _ => {}
    }
    let triggers = config.other.entry("OnBuild").or_insert_with(|| json!([]));
    match triggers {
        Value::Array(all) => all.push(rest.into()),
        other => *other = json!([rest]),
    }
    Ok(())
}

/// `NONE`, or options and `CMD …`.
fn health(rest: &str) -> Result<Value, InstructError> {
    let wrong =
        |value: &str, rule| InstructError::Value { name: "HEALTHCHECK", value: value.to_owned(), rule };
    let mut check = Map::new();
    let mut left = rest.trim();
    while left.starts_with("--") {
        let (option, after) = left.split_once(char::is_whitespace).unwrap_or((left, ""));
        left = after.trim_start();
        let (key, value) = option.split_once('=').ok_or_else(|| wrong(option, "expected --option=value"))?;
        let (field, value) = match key {
            "--retries" => ("Retries", value.parse::<u64>().map_err(|_| wrong(option, "expected a number"))?),
            "--interval" => {
                ("Interval", duration(value).ok_or_else(|| wrong(option, "expected a duration"))?)
            }
            "--timeout" => ("Timeout", duration(value).ok_or_else(|| wrong(option, "expected a duration"))?),
            "--start-period" => {
                ("StartPeriod", duration(value).ok_or_else(|| wrong(option, "expected a duration"))?)
            }
            "--start-interval" => {
                ("StartInterval", duration(value).ok_or_else(|| wrong(option, "expected a duration"))?)
            }
            _ => return Err(wrong(option, "unknown option")),
        };
        check.insert(field.into(), value.into());
    }
    let (kind, command) = left.split_once(char::is_whitespace).unwrap_or((left, ""));
    match kind.to_ascii_uppercase().as_str() {
        "NONE" if command.is_empty() => Ok(json!({ "Test": ["NONE"] })),
        "CMD" if !command.trim().is_empty() => {
            let command = command.trim();
            let test = match list(command) {
                Some(words) => std::iter::once("CMD".to_owned()).chain(words).collect(),
                None => vec!["CMD-SHELL".to_owned(), command.to_owned()],
            };
            check.insert("Test".into(), json!(test));
            Ok(check.into())
        }
        _ => Err(wrong(rest, "expected NONE or [OPTIONS] CMD command")),
    }
}

/// A duration as Go writes it, in nanoseconds: `1m30s`, `500ms`.
fn duration(text: &str) -> Option<u64> {
    let mut total: u64 = 0;
    let mut left = text;
    if left.is_empty() {
        return None;
    }
    while !left.is_empty() {
        let digits = left.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = left[..digits].parse().ok()?;
        left = &left[digits..];
        let end = left.find(|c: char| c.is_ascii_digit()).unwrap_or(left.len());
        let unit = match &left[..end] {
            "ns" => 1,
            "us" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        total = total.checked_add(number.checked_mul(unit)?)?;
        left = &left[end..];
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(changes: &[&str]) -> Result<Value, InstructError> {
        let mut config =
            ImageConfig { cmd: vec!["old".into()], working_dir: "/d".into(), ..ImageConfig::default() };
        let changes: Vec<String> = changes.iter().map(|&change| change.to_owned()).collect();
        apply(&mut config, &changes).map(|()| wire(&config))
    }

    #[test]
    fn instructions_are_a_dockerfiles() {
        for (changes, key, expected) in [
            (&["CMD [\"sh\",\"-c\",\"x\"]"][..], "Cmd", json!(["sh", "-c", "x"])),
            (&["cmd echo $A"], "Cmd", json!(["/bin/sh", "-c", "echo $A"])),
            (&["ENTRYPOINT [\"/e\"]"], "Cmd", Value::Null),
            (&["CMD x", "ENTRYPOINT [\"/e\"]"], "Cmd", json!(["/bin/sh", "-c", "x"])),
            (&["ENV A=b C=\"d e\"", "ENV A f g"], "Env", json!(["C=d e", "A=f g"])),
            (&["LABEL x=y 'a b'=c"], "Labels", json!({"x": "y", "a b": "c"})),
            (
                &["EXPOSE 80 53/udp 90-91"],
                "ExposedPorts",
                json!({"80/tcp": {}, "53/udp": {}, "90/tcp": {}, "91/tcp": {}}),
            ),
            (&["VOLUME /v /w"], "Volumes", json!({"/v": {}, "/w": {}})),
            (&["VOLUME [\"/v v\"]"], "Volumes", json!({"/v v": {}})),
            (&["USER 5"], "User", json!("5")),
            (&["WORKDIR e"], "WorkingDir", json!("/d/e")),
            (&["STOPSIGNAL SIGUSR1"], "StopSignal", json!("SIGUSR1")),
            (&["ONBUILD RUN x", "ONBUILD RUN y"], "OnBuild", json!(["RUN x", "RUN y"])),
            (&["HEALTHCHECK NONE"], "Healthcheck", json!({"Test": ["NONE"]})),
            (
                &["HEALTHCHECK --interval=1m30s --retries=2 CMD x y"],
                "Healthcheck",
                json!({"Test": ["CMD-SHELL", "x y"], "Interval": 90_000_000_000_u64, "Retries": 2}),
            ),
        ] {
            let config = changed(changes).unwrap();
            assert_eq!(config.get(key).cloned().unwrap_or_default(), expected, "{changes:?}");
        }
    }

    #[test]
    fn what_is_none_is_refused_by_name() {
        for (change, words) in [
            ("RUN x", "RUN is not a valid change command"),
            ("", " is not a valid change command"),
            ("ENV A", "ENV requires"),
            ("ENV =b", "name=value"),
            ("EXPOSE x", "EXPOSE x"),
            ("EXPOSE 0", "EXPOSE 0"),
            ("EXPOSE 90-80", "EXPOSE"),
            ("VOLUME /a/../b", "VOLUME"),
            ("USER", "USER requires"),
            ("USER a b", "USER requires"),
            ("STOPSIGNAL 999", "STOPSIGNAL"),
            ("ONBUILD FROM x", "not allowed"),
            ("HEALTHCHECK x", "HEALTHCHECK"),
            ("HEALTHCHECK --interval=x CMD y", "duration"),
        ] {
            let error = changed(&[change]).unwrap_err().to_string();
            assert!(error.contains(words), "{change}: {error}");
        }
    }
}
