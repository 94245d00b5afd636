//! Variables and labels from the command line and from files, by docker's rules.
//!
//! `KEY=value` sets; `KEY` alone takes the value of this process's environment, and says nothing where it has none. In
//! files, lines that are empty or begin with `#` are skipped, blanks before a key go, and a value is taken as it is:
//! neither quotes nor escapes mean anything.

use std::path::PathBuf;

use crate::cli::fault::Fault;

/// The lines of some files, in order.
pub(super) fn read(files: &[PathBuf]) -> Result<Vec<String>, Fault> {
    let mut all = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(path).map_err(|source| Fault::File {
            action: "reading",
            path: path.clone(),
            source,
        })?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        for line in
            text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#'))
        {
            let key = line.split('=').next().unwrap_or_default();
            if key.is_empty() || key.contains(char::is_whitespace) {
                return Err(Fault::Flag {
                    flag: "--env-file",
                    value: line.chars().take(100).collect(),
                    rule: format!("`{}`: a name is neither empty nor has blanks in it", path.display()),
                });
            }
            all.push(line.to_owned());
        }
    }
    Ok(all)
}

/// `KEY=value` for each; names without a value are looked up.
pub(super) fn resolve(
    given: Vec<String>,
    look_up: impl Fn(&str) -> Option<String>,
) -> Result<Vec<String>, Fault> {
    let mut all = Vec::with_capacity(given.len());
    for item in given {
        let key = item.split('=').next().unwrap_or_default();
        // The host's own lookup panics or misbehaves on these, and no process can have them.
        if key.is_empty() || item.contains('\0') {
            let rule = "invalid environment variable".to_owned();
            return Err(Fault::Flag { flag: "--env", value: item, rule });
        }
        if item.contains('=') {
            all.push(item);
        } else if let Some(value) = look_up(&item) {
            all.push(format!("{item}={value}"));
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_as_docker_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("env");
        std::fs::write(&path, "\u{feff}# comment\n\n  A=\"q\" x \r\nB\nC=#1\n").unwrap();
        assert_eq!(read(std::slice::from_ref(&path)).unwrap(), ["A=\"q\" x ", "B", "C=#1"]);
        for bad in ["=x\n", "a b=c\n"] {
            std::fs::write(&path, bad).unwrap();
            assert!(matches!(read(std::slice::from_ref(&path)), Err(Fault::Flag { .. })), "{bad:?}");
        }
        std::fs::write(&path, b"\xff").unwrap();
        assert!(matches!(read(std::slice::from_ref(&path)), Err(Fault::File { .. })));
        assert!(matches!(read(&[dir.path().join("none")]), Err(Fault::File { .. })));
    }

    #[test]
    fn names_without_a_value_are_looked_up() {
        let given = ["A=1", "HERE", "GONE", "E="].map(str::to_owned).to_vec();
        let look_up = |key: &str| (key == "HERE").then(|| "v".to_owned());
        assert_eq!(resolve(given, look_up).unwrap(), ["A=1", "HERE=v", "E="]);
        for bad in ["=x", "", "A=\0"] {
            assert!(resolve(vec![bad.to_owned()], |_| None).is_err(), "{bad:?}");
        }
    }
}
