//! What runs in a container: the image's defaults and the user's wishes, merged by docker's rules.
//!
//! Pure: no file, no host variable, no clock. The rules are those that docker 28 was seen to follow (`docker create`, then
//! `inspect`), kept as table tests below.
//!
//! Invariants of a merged configuration: no string holds a NUL byte; each variable occurs once, has a name and a value; the
//! working directory is absolute and clean, or empty.
//!
//! `PATH`, `HOSTNAME`, `TERM` and `HOME` are not added here, as docker's `inspect` does not show them either: they are known
//! only at start (the id names the host, the container's `passwd` the home), and a Wasm program gets none of them.

use std::collections::BTreeMap;

use crate::model::{ContainerConfig, ErrorKind, Healthcheck, ImageConfig, Kind};

/// What the user wishes to run, over what the image says. Of an `Option` the `None` is "as the image says", and so is an
/// empty string, as with docker; of [`Wishes::entrypoint`] alone empty means something else.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Command and its arguments; empty: the image's, if the entry point is the image's as well.
    pub command: Vec<String>,
    /// Entry point; it drops the image's command too. `Some` of nothing, or of one empty string (what docker sends for
    /// `--entrypoint ""`), resets it.
    pub entrypoint: Option<Vec<String>>,
    /// `KEY=value`, later ones win; a bare `KEY` takes the image's value away (`-e KEY` where the host has no `KEY`).
    pub env: Vec<String>,
    /// Working directory, absolute.
    pub working_dir: Option<String>,
    /// `user[:group]`.
    pub user: Option<String>,
    /// Host name; `None` or empty: from the id.
    pub hostname: Option<String>,
    /// A terminal.
    pub tty: bool,
    /// Keep standard input open.
    pub open_stdin: bool,
    /// A client will be attached to standard input from the start; its end then ends the container's.
    pub attach_stdin: bool,
    /// Labels over the image's.
    pub labels: BTreeMap<String, String>,
    /// The signal that `stop` sends, as typed; whoever fills this in has checked it.
    pub stop_signal: Option<String>,
    /// Domain name.
    pub domainname: String,
    /// Streams to attach, by name; empty: all that there are.
    pub attach: Vec<String>,
    /// Ports exposed beside the image's, `80/tcp`.
    pub exposed_ports: Vec<String>,
    /// Volumes without a source beside the image's.
    pub volumes: Vec<String>,
    /// The health check.
    pub health: HealthWish,
}

/// What the user wishes of the health check, over what the image says. Times are nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HealthWish {
    /// A line for the container's shell.
    pub cmd: Option<String>,
    /// Between two checks.
    pub interval: Option<u64>,
    /// Of one check.
    pub timeout: Option<u64>,
    /// After the start, in which failures do not count.
    pub start_period: Option<u64>,
    /// Between two checks in the start period.
    pub start_interval: Option<u64>,
    /// Failures in a row that make it unhealthy.
    pub retries: Option<u32>,
    /// No check at all, whatever the image says.
    pub disable: bool,
}

/// A configuration that cannot be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// Not absolute, be it the user's or the image's.
    #[error("the working directory '{path}' is invalid, it needs to be an absolute path")]
    WorkingDir {
        /// As given.
        path: String,
    },
    /// A variable without a name.
    #[error("invalid environment variable: {entry}")]
    Env {
        /// As given.
        entry: String,
    },
    /// The kernel ends strings at a NUL: what is after one would be lost in silence.
    #[error("{what} contains a NUL byte: {value:?}")]
    Nul {
        /// Which part of the configuration.
        what: &'static str,
        /// As given.
        value: String,
    },
}

impl Kind for MergeError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidInput
    }
}

/// Merges an image's defaults and the user's wishes. Whether anything is left to run is for the caller to see
/// ([`ContainerConfig::args`]): an image of one Wasm module needs no command.
pub fn merge(image: &ImageConfig, wishes: &Wishes) -> Result<ContainerConfig, MergeError> {
    let (entrypoint, cmd) = program(image, wishes);
    let mut labels = image.labels.clone();
    labels.extend(wishes.labels.iter().map(|(key, value)| (key.clone(), value.clone())));
    let config = ContainerConfig {
        hostname: wishes.hostname.clone().unwrap_or_default(),
        domainname: wishes.domainname.clone(),
        user: wish(wishes.user.as_ref()).unwrap_or(&image.user).clone(),
        env: environment(&image.env, &wishes.env)?,
        entrypoint,
        cmd,
        working_dir: working_dir(wish(wishes.working_dir.as_ref()).unwrap_or(&image.working_dir))?,
        tty: wishes.tty,
        open_stdin: wishes.open_stdin,
        stdin_once: wishes.open_stdin && wishes.attach_stdin,
        attach: wishes.attach.clone(),
        labels,
        exposed_ports: both(&image.exposed_ports, &wishes.exposed_ports),
        volumes: both(&image.volumes, &wishes.volumes),
        stop_signal: wish(wishes.stop_signal.as_ref()).or_else(|| wish(image.stop_signal.as_ref())).cloned(),
        shell: shell(image),
        healthcheck: healthcheck(image, &wishes.health),
    };
    without_nul(&config)?;
    Ok(config)
}

/// The image's, then what the user has beside them.
fn both(image: &[String], user: &[String]) -> Vec<String> {
    let mut all = image.to_vec();
    for one in user {
        if !all.contains(one) {
            all.push(one.clone());
        }
    }
    all
}

/// The image's `SHELL`.
fn shell(image: &ImageConfig) -> Vec<String> {
    let words = image.other.get("Shell").and_then(serde_json::Value::as_array);
    words.into_iter().flatten().filter_map(|word| word.as_str().map(str::to_owned)).collect()
}

/// The image's health check (`HEALTHCHECK`), and over it what the user wishes.
fn healthcheck(image: &ImageConfig, wish: &HealthWish) -> Option<Healthcheck> {
    if wish.disable {
        return Some(Healthcheck { test: vec!["NONE".to_owned()], ..Healthcheck::default() });
    }
    let own = image.other.get("Healthcheck");
    let number = |field: &str| own.and_then(|own| own.get(field)).and_then(serde_json::Value::as_u64);
    let test = || {
        let words = own?.get("Test")?.as_array()?;
        words.iter().map(|word| word.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()
    };
    let line = wish.cmd.as_ref().map(|line| vec!["CMD-SHELL".to_owned(), line.clone()]);
    let check = Healthcheck {
        test: line.or_else(test).unwrap_or_default(),
        interval: wish.interval.or_else(|| number("Interval")).unwrap_or(0),
        timeout: wish.timeout.or_else(|| number("Timeout")).unwrap_or(0),
        start_period: wish.start_period.or_else(|| number("StartPeriod")).unwrap_or(0),
        start_interval: wish.start_interval.or_else(|| number("StartInterval")).unwrap_or(0),
        retries: wish
            .retries
            .or_else(|| number("Retries").and_then(|retries| u32::try_from(retries).ok()))
            .unwrap_or(0),
    };
    (check != Healthcheck::default()).then_some(check)
}

fn wish(given: Option<&String>) -> Option<&String> {
    given.filter(|text| !text.is_empty())
}

/// Entry point and command.
fn program(image: &ImageConfig, wishes: &Wishes) -> (Vec<String>, Vec<String>) {
    match &wishes.entrypoint {
        // The image's command is arguments to the image's entry point: to another it would be nonsense.
        Some(words) if words.iter().all(String::is_empty) && words.len() < 2 => {
            (Vec::new(), wishes.command.clone())
        }
        Some(words) => (words.clone(), wishes.command.clone()),
        None if wishes.command.is_empty() => (image.entrypoint.clone(), image.cmd.clone()),
        None => (image.entrypoint.clone(), wishes.command.clone()),
    }
}

/// The user's variables in their order, then those of the image that the user does not name. A variable named twice keeps
/// its first place and takes its last value, so that nobody further down has to know which one of two wins.
fn environment(image: &[String], user: &[String]) -> Result<Vec<String>, MergeError> {
    let mut merged: Vec<(&str, Option<&str>)> = Vec::with_capacity(image.len() + user.len());
    let mut places = std::collections::HashMap::new();
    for (entries, wins) in [(user, true), (image, false)] {
        let own = merged.len();
        for entry in entries {
            let (key, value) =
                entry.split_once('=').map_or((entry.as_str(), None), |(key, value)| (key, Some(value)));
            if key.is_empty() {
                return Err(MergeError::Env { entry: entry.clone() });
            }
            match places.get(key) {
                // The image's are over its own earlier ones, never over the user's.
                Some(&place) if wins || place >= own => merged[place] = (key, value),
                Some(_) => {}
                None => {
                    places.insert(key, merged.len());
                    merged.push((key, value));
                }
            }
        }
    }
    Ok(merged.iter().filter_map(|(key, value)| value.map(|value| format!("{key}={value}"))).collect())
}

/// Absolute and clean: no `.`, no `..`, no doubled or trailing slash. By text alone, as docker does it; that the result is
/// inside the container's root whatever its links say is the runtime's business.
fn working_dir(path: &str) -> Result<String, MergeError> {
    if path.is_empty() {
        return Ok(String::new());
    }
    if !path.starts_with('/') {
        return Err(MergeError::WorkingDir { path: path.to_owned() });
    }
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    Ok(format!("/{}", parts.join("/")))
}

fn without_nul(config: &ContainerConfig) -> Result<(), MergeError> {
    fn all<'a>(
        what: &'static str,
        values: impl IntoIterator<Item = &'a String>,
    ) -> impl Iterator<Item = (&'static str, &'a String)> {
        values.into_iter().map(move |value| (what, value))
    }
    let found = all("the entry point", &config.entrypoint)
        .chain(all("the command", &config.cmd))
        .chain(all("the environment", &config.env))
        .chain(all("the working directory", [&config.working_dir]))
        .chain(all("the user", [&config.user]))
        .chain(all("the host name", [&config.hostname, &config.domainname]))
        .chain(all("a label", config.labels.iter().flat_map(|(key, value)| [key, value])))
        .chain(all("a volume", &config.volumes))
        .chain(all("an exposed port", &config.exposed_ports))
        .chain(all("the shell", &config.shell))
        .chain(all("the stop signal", &config.stop_signal))
        .chain(all("the health check", config.healthcheck.iter().flat_map(|check| &check.test)))
        .find(|(_, value)| value.contains('\0'));
    found.map_or(Ok(()), |(what, value)| Err(MergeError::Nul { what, value: value.clone() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    /// The image that docker was asked about.
    fn full() -> ImageConfig {
        ImageConfig {
            user: "7:8".into(),
            env: strings(&["A=3", "B=2"]),
            entrypoint: strings(&["/bin/ep", "x"]),
            cmd: strings(&["c1", "c2"]),
            working_dir: "/v".into(),
            exposed_ports: strings(&["80/tcp"]),
            volumes: strings(&["/data"]),
            labels: [("l", "i"), ("m", "i")].map(|(k, v)| (k.into(), v.into())).into(),
            stop_signal: Some("SIGQUIT".into()),
            ..ImageConfig::default()
        }
    }

    fn image(entrypoint: &[&str], cmd: &[&str]) -> ImageConfig {
        ImageConfig { entrypoint: strings(entrypoint), cmd: strings(cmd), ..ImageConfig::default() }
    }

    /// Image; entry point and command wished for; entry point and command to come.
    type Case<'a> = (&'a ImageConfig, Option<&'a [&'a str]>, &'a [&'a str], &'a [&'a str], &'a [&'a str]);

    #[test]
    fn entry_points_and_commands() {
        let plain = image(&[], &[]);
        let path = image(&[], &["c1", "c2"]);
        let only = image(&["/bin/ep"], &[]);
        let full = full();
        let cases: &[Case<'_>] = &[
            (&full, None, &[], &["/bin/ep", "x"], &["c1", "c2"]),
            (&full, None, &["a", "b"], &["/bin/ep", "x"], &["a", "b"]),
            (&path, None, &["a"], &[], &["a"]),
            (&path, None, &[], &[], &["c1", "c2"]),
            (&plain, None, &[], &[], &[]),
            (&plain, None, &["x"], &[], &["x"]),
            (&plain, None, &[""], &[], &[""]),
            (&full, Some(&["/e"]), &[], &["/e"], &[]),
            (&full, Some(&["/e"]), &["a"], &["/e"], &["a"]),
            (&full, Some(&["/e z"]), &[], &["/e z"], &[]),
            (&full, Some(&["/e", "z"]), &["a"], &["/e", "z"], &["a"]),
            (&full, Some(&[""]), &[], &[], &[]),
            (&full, Some(&[]), &[], &[], &[]),
            (&full, Some(&[""]), &["a"], &[], &["a"]),
            (&full, Some(&[]), &["a"], &[], &["a"]),
            (&only, Some(&[]), &[], &[], &[]),
            (&path, Some(&[]), &[], &[], &[]),
            (&path, Some(&["/e"]), &[], &["/e"], &[]),
            (&only, None, &[], &["/bin/ep"], &[]),
            (&only, None, &["a"], &["/bin/ep"], &["a"]),
            (&full, Some(&["", "y"]), &[], &["", "y"], &[]),
        ];
        for (number, (image, entrypoint, command, wanted_entrypoint, wanted_cmd)) in cases.iter().enumerate()
        {
            let wishes = Wishes {
                command: strings(command),
                entrypoint: entrypoint.map(strings),
                ..Wishes::default()
            };
            let got = merge(image, &wishes).unwrap();
            assert_eq!(got.entrypoint, strings(wanted_entrypoint), "case {number}: entry point");
            assert_eq!(got.cmd, strings(wanted_cmd), "case {number}: command");
        }
    }

    #[test]
    fn environments() {
        let cases: &[(&[&str], &[&str], &[&str])] = &[
            (&["A=3", "B=2"], &[], &["A=3", "B=2"]),
            (&["A=3", "B=2"], &["A=9", "C=1"], &["A=9", "C=1", "B=2"]),
            (&["A=3", "B=2"], &["C=1", "A=9", "C=2"], &["C=2", "A=9", "B=2"]),
            (&["A=3", "B=2"], &["A="], &["A=", "B=2"]),
            (&["PATH=/bin"], &["Z=1"], &["Z=1", "PATH=/bin"]),
            (&[], &["Z=1"], &["Z=1"]),
            (&["PATH=/bin"], &["PATH=/q"], &["PATH=/q"]),
            (&[], &["A=a=b", "a b=c", " A=c", "Q=\"q\""], &["A=a=b", "a b=c", " A=c", "Q=\"q\""]),
            // A bare name takes away, and a later value gives again.
            (&["A=3", "B=2"], &["A"], &["B=2"]),
            (&["A=3"], &["A=1", "A"], &[]),
            (&["A=3"], &["A", "A=1"], &["A=1"]),
            (&[], &["NEVER"], &[]),
            // An image may name one twice, or none.
            (&["A=1", "B=1", "A=2"], &[], &["A=2", "B=1"]),
            (&["A=1", "A=2"], &["A=3"], &["A=3"]),
            (&["BARE", "A=1"], &[], &["A=1"]),
            (&["a=1"], &["A=2"], &["A=2", "a=1"]),
        ];
        for (image, user, wanted) in cases {
            let image = ImageConfig { env: strings(image), ..ImageConfig::default() };
            let got = merge(&image, &Wishes { env: strings(user), ..Wishes::default() }).unwrap();
            assert_eq!(got.env, strings(wanted), "{:?} + {user:?}", image.env);
        }
        for entry in ["", "=", "=v"] {
            let wanted = Err(MergeError::Env { entry: entry.into() });
            assert_eq!(merge(&full(), &Wishes { env: strings(&[entry]), ..Wishes::default() }), wanted);
            let image = ImageConfig { env: strings(&[entry]), ..ImageConfig::default() };
            assert_eq!(merge(&image, &Wishes::default()), wanted);
        }
        assert_eq!(MergeError::Env { entry: "=v".into() }.to_string(), "invalid environment variable: =v");
    }

    #[test]
    fn working_directories() {
        let cases = [
            ("/v", "", "/v"),
            ("", "", ""),
            ("/v", "/x/../y//z/", "/y/z"),
            ("/v", "/", "/"),
            ("/v", "/../..", "/"),
            ("/v", "/ a", "/ a"),
            ("", "/a/./b/..", "/a"),
            ("", "//a", "/a"),
            ("", "/a/..b", "/a/..b"),
            ("/w/../v/", "", "/v"),
        ];
        for (image, user, wanted) in cases {
            let image = ImageConfig { working_dir: image.into(), ..ImageConfig::default() };
            let got = merge(&image, &Wishes { working_dir: Some(user.into()), ..Wishes::default() }).unwrap();
            assert_eq!(got.working_dir, wanted, "{user}");
        }
        for path in ["rel", ".", "..", "C:\\x", " /a", "~"] {
            let error = merge(&full(), &Wishes { working_dir: Some(path.into()), ..Wishes::default() });
            let error = error.unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("the working directory '{path}' is invalid, it needs to be an absolute path")
            );
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            let image = ImageConfig { working_dir: path.into(), ..ImageConfig::default() };
            assert_eq!(merge(&image, &Wishes::default()), Err(error));
        }
    }

    #[test]
    fn the_rest_is_the_images_unless_wished_otherwise() {
        let kept = merge(&full(), &Wishes::default()).unwrap();
        assert_eq!((kept.user.as_str(), kept.hostname.as_str()), ("7:8", ""));
        assert_eq!(kept.stop_signal.as_deref(), Some("SIGQUIT"));
        assert_eq!((kept.exposed_ports, kept.volumes), (strings(&["80/tcp"]), strings(&["/data"])));
        assert_eq!(kept.labels, full().labels);

        // Empty is not a wish.
        let empty = Some(String::new());
        let wishes =
            Wishes { user: empty.clone(), hostname: empty.clone(), stop_signal: empty, ..Wishes::default() };
        let kept = merge(&full(), &wishes).unwrap();
        assert_eq!((kept.user.as_str(), kept.stop_signal.as_deref()), ("7:8", Some("SIGQUIT")));
        let none = ImageConfig { stop_signal: Some(String::new()), ..ImageConfig::default() };
        assert_eq!(merge(&none, &wishes).unwrap().stop_signal, None);

        let wishes = Wishes {
            user: Some("1:2".into()),
            hostname: Some("boat".into()),
            stop_signal: Some("sigkill".into()),
            labels: [("l", "u"), ("n", "")].map(|(k, v)| (k.into(), v.into())).into(),
            ..Wishes::default()
        };
        let got = merge(&full(), &wishes).unwrap();
        assert_eq!((got.user.as_str(), got.hostname.as_str()), ("1:2", "boat"));
        assert_eq!(got.stop_signal.as_deref(), Some("sigkill"));
        assert_eq!(
            got.labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect::<Vec<_>>(),
            [("l", "u"), ("m", "i"), ("n", "")]
        );
    }

    #[test]
    fn standard_input_ends_once_when_attached() {
        for (open, attach, once) in
            [(false, false, false), (true, true, true), (true, false, false), (false, true, false)]
        {
            let wishes = Wishes { open_stdin: open, attach_stdin: attach, tty: attach, ..Wishes::default() };
            let got = merge(&full(), &wishes).unwrap();
            assert_eq!((got.open_stdin, got.stdin_once, got.tty), (open, once, attach));
        }
    }

    #[test]
    fn nul_bytes_are_refused_wherever_they_are() {
        let bad = || "a\0b".to_owned();
        let wishes = [
            ("the command", Wishes { command: vec![bad()], ..Wishes::default() }),
            ("the entry point", Wishes { entrypoint: Some(vec![bad()]), ..Wishes::default() }),
            ("the environment", Wishes { env: vec!["A=a\0b".into()], ..Wishes::default() }),
            ("the working directory", Wishes { working_dir: Some("/a\0b".into()), ..Wishes::default() }),
            ("the user", Wishes { user: Some(bad()), ..Wishes::default() }),
            ("the host name", Wishes { hostname: Some(bad()), ..Wishes::default() }),
            ("a label", Wishes { labels: [(bad(), String::new())].into(), ..Wishes::default() }),
            ("the stop signal", Wishes { stop_signal: Some(bad()), ..Wishes::default() }),
        ];
        for (part, wishes) in wishes {
            let error = merge(&full(), &wishes).unwrap_err();
            assert!(matches!(error, MergeError::Nul { what, .. } if what == part), "{part}: {error}");
        }
        let hostile = [
            ImageConfig { cmd: vec![bad()], ..ImageConfig::default() },
            ImageConfig { entrypoint: vec![bad()], ..ImageConfig::default() },
            ImageConfig { env: vec!["A=a\0b".into()], ..ImageConfig::default() },
            ImageConfig { user: bad(), ..ImageConfig::default() },
            ImageConfig { working_dir: "/a\0b".into(), ..ImageConfig::default() },
            ImageConfig { volumes: vec![bad()], ..ImageConfig::default() },
            ImageConfig { labels: [("k".into(), bad())].into(), ..ImageConfig::default() },
        ];
        for image in hostile {
            let error = merge(&image, &Wishes::default()).unwrap_err();
            assert!(matches!(error, MergeError::Nul { .. }), "{error}");
        }
        assert_eq!(
            merge(&full(), &Wishes { command: vec![bad()], ..Wishes::default() }).unwrap_err().to_string(),
            r#"the command contains a NUL byte: "a\0b""#
        );
    }
}
