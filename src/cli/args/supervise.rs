//! `--restart`, `--log-driver`, `--log-opt`.

use std::collections::BTreeMap;

use super::number::size;
use super::refused::Refused;
use crate::model::{LogConfig, LogDriver, RestartPolicy};

/// `no`, `always`, `unless-stopped`, `on-failure[:times]`; empty is `no`.
pub fn restart(text: &str) -> Result<RestartPolicy, Refused> {
    let (name, times) = match text.split_once(':') {
        Some((name, times)) => {
            let times: i64 = times.parse().map_err(|_| {
                Refused::text("invalid restart policy format: maximum retry count must be an integer")
            })?;
            (name, times)
        }
        None => (text, 0),
    };
    let policy = match name {
        "" if text.is_empty() => RestartPolicy::No,
        "" => return Err(Refused::text("invalid restart policy format: no policy provided before colon")),
        "no" => RestartPolicy::No,
        "always" => RestartPolicy::Always,
        "unless-stopped" => RestartPolicy::UnlessStopped,
        "on-failure" if times < 0 => {
            return Err(Refused::text("invalid restart policy: maximum retry count cannot be negative"));
        }
        "on-failure" => RestartPolicy::OnFailure(u32::try_from(times).unwrap_or(u32::MAX)),
        _ => {
            return Err(Refused::text(format!(
                "invalid restart policy: unknown policy '{name}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
            )));
        }
    };
    if times != 0 && !matches!(policy, RestartPolicy::OnFailure(_)) {
        return Err(Refused::text(
            "invalid restart policy: maximum retry count can only be used with 'on-failure'",
        ));
    }
    Ok(policy)
}

/// Docker's drivers that send the output elsewhere, or keep it in another format.
const ELSEWHERE: [&str; 9] =
    ["awslogs", "etwlogs", "fluentd", "gcplogs", "gelf", "journald", "local", "splunk", "syslog"];

/// The driver and its options. Stricter than docker, which reads the values only when the container starts.
pub fn log(driver: &str, given: &[String]) -> Result<LogConfig, Refused> {
    let driver = match driver {
        "" | "json-file" => LogDriver::JsonFile,
        "none" if !given.is_empty() => return Err(Refused::text("invalid logging opts for driver none")),
        "none" => LogDriver::None,
        name if ELSEWHERE.contains(&name) => {
            return Err(Refused::Unsupported(format!(
                "log driver {name:?} is not supported: only json-file and none exist"
            )));
        }
        name => {
            return Err(Refused::text(format!(
                "error looking up logging plugin {name}: plugin {name:?} not found"
            )));
        }
    };
    let mut config = LogConfig { driver, ..LogConfig::default() };
    for text in given {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        let invalid = || Refused::text(format!("invalid value {value:?} of log opt '{key}'"));
        match key {
            "max-size" if value == "-1" => config.max_size = None,
            "max-size" => {
                config.max_size = Some(size(value).ok().filter(|size| *size > 0).ok_or_else(invalid)?);
            }
            "max-file" => {
                config.max_file = Some(value.parse().ok().filter(|files| *files > 0).ok_or_else(invalid)?);
            }
            "mode" if matches!(value, "blocking" | "") => {}
            "mode" if value != "non-blocking" => {
                return Err(Refused::text(format!("logger: logging mode not supported: {value}")));
            }
            "compress" if !super::super::flags::switch(value).map_err(|_| invalid())? => {}
            "labels" | "env" => {}
            "compress" | "labels-regex" | "env-regex" | "tag" | "mode" | "max-buffer-size" => {
                return Err(Refused::Unsupported(format!("log opt '{key}' is not supported")));
            }
            _ => return Err(Refused::text(format!("unknown log opt '{key}' for json-file log driver"))),
        }
        config.options.insert(key.to_owned(), value.to_owned());
    }
    if config.max_file.is_some_and(|files| files > 1) && config.max_size.is_none() {
        return Err(Refused::text("log opt 'max-file' without 'max-size': nothing would be rotated"));
    }
    Ok(config)
}

/// `key=value` or `key`, as docker's maps are given; the last one of a key wins.
pub fn map(given: &[String]) -> BTreeMap<String, String> {
    let pair = |text: &String| {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        (key.to_owned(), value.to_owned())
    };
    given.iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restart_policies() {
        for (text, policy) in [
            ("", RestartPolicy::No),
            ("no", RestartPolicy::No),
            ("always", RestartPolicy::Always),
            ("unless-stopped", RestartPolicy::UnlessStopped),
            ("on-failure", RestartPolicy::OnFailure(0)),
            ("on-failure:3", RestartPolicy::OnFailure(3)),
        ] {
            assert_eq!(restart(text).unwrap(), policy);
        }
        for (text, message) in [
            ("on-failure:-1", "invalid restart policy: maximum retry count cannot be negative"),
            ("on-failure:x", "invalid restart policy format: maximum retry count must be an integer"),
            ("on-failure:1:2", "invalid restart policy format: maximum retry count must be an integer"),
            ("always:1", "invalid restart policy: maximum retry count can only be used with 'on-failure'"),
            ("no:1", "invalid restart policy: maximum retry count can only be used with 'on-failure'"),
            (
                "bogus",
                "invalid restart policy: unknown policy 'bogus'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'",
            ),
        ] {
            assert_eq!(restart(text).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn logs() {
        let given = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        let got = log("", &given(&["max-size=10m", "max-file=2"])).unwrap();
        assert_eq!((got.driver, got.max_size, got.max_file), (LogDriver::JsonFile, Some(10 << 20), Some(2)));
        assert_eq!(got.options.len(), 2);
        assert_eq!(log("none", &[]).unwrap().driver, LogDriver::None);
        assert!(matches!(log("syslog", &[]), Err(Refused::Unsupported(_))));
        for (driver, option, message) in [
            ("none", "max-size=1m", "invalid logging opts for driver none"),
            ("json-file", "bogus=1", "unknown log opt 'bogus' for json-file log driver"),
            ("", "nokey", "unknown log opt 'nokey' for json-file log driver"),
            ("", "mode=x", "logger: logging mode not supported: x"),
            ("", "max-size=x", "invalid value \"x\" of log opt 'max-size'"),
            ("", "max-file=0", "invalid value \"0\" of log opt 'max-file'"),
            ("bogus", "a=b", "error looking up logging plugin bogus: plugin \"bogus\" not found"),
        ] {
            assert_eq!(log(driver, &given(&[option])).unwrap_err().to_string(), message);
        }
    }
}
