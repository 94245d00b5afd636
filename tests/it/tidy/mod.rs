//! The shape of the sources: which module may name which, how long a file is, that it says what it is.
use std::path::{Path, PathBuf};

/// Each module may name those of its own and earlier rows.
const ORDER: &[&[&str]] = &[
    &["model", "watch"],
    &["reference"],
    &["store", "registry", "state"],
    &["network", "executor"],
    &["build", "supervisor"],
    &["engine"],
    &["cli", "api"],
];
const LONGEST: usize = 700;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn sources(dir: &Path, into: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for path in entries.flatten().map(|e| e.path()) {
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push(path);
        }
    }
}

fn ours() -> Vec<PathBuf> {
    let mut files = Vec::new();
    for dir in ["src", "runtime-linux/src", "runtime-wasm/src", "tests/it", "tests/fuzz"] {
        sources(&root().join(dir), &mut files);
    }
    assert!(files.len() > 3);
    files
}

fn row(module: &str) -> Option<usize> {
    ORDER.iter().position(|row| row.contains(&module))
}

#[test]
fn imports_go_one_way() {
    let src = root().join("src");
    for file in ours() {
        let Ok(inner) = file.strip_prefix(&src) else { continue };
        let first = inner.iter().next().and_then(|p| p.to_str()).unwrap_or("").trim_end_matches(".rs");
        let Some(own) = row(first) else { continue };
        let text = std::fs::read_to_string(&file).expect("read");
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or("");
            for part in code.split("crate::").skip(1) {
                let named: String = part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                let other = row(&named);
                let allowed = named == first || other.is_none_or(|o| o < own);
                assert!(allowed, "{}:{}: `{first}` may not name `{named}`", file.display(), number + 1);
            }
        }
    }
}

#[test]
fn files_are_short_and_say_what_they_are() {
    for file in ours() {
        let text = std::fs::read_to_string(&file).expect("read");
        assert!(text.lines().count() <= LONGEST, "{} is over {LONGEST} lines", file.display());
        assert!(text.starts_with("//!"), "{} does not open with its documentation", file.display());
    }
}
