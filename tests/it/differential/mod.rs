//! The commands of a docker tutorial, typed with `umiak` and with `docker`, and what both say compared.
//!
//! The commands are in `tutorial.txt`. Ids and names of the two programs are made alike before the comparison; hints, which
//! docker has none of, are left out. A row that compares less than everything is a difference that is meant: ours says more, or
//! says it on standard error.

use std::process::Command;

use crate::support::host::{Host, Output};
use crate::support::peers::Docker;
use crate::support::pty::Typed;
use crate::support::{registry, require};

const TUTORIAL: &str = include_str!("tutorial.txt");

/// What of a row is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Status, output and errors.
    All,
    /// Status and output.
    Output,
    /// The status.
    Status,
    /// Status and output, on a terminal.
    Terminal,
}

/// The words of a line, as a shell splits them; a quoted blank and a quoted nothing are kept.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote, mut begun) = (Vec::new(), String::new(), None, false);
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (None, ' ') => {
                if std::mem::take(&mut begun) {
                    words.push(std::mem::take(&mut word));
                }
                continue;
            }
            (None, '\'' | '"') => quote = Some(letter),
            (Some(open), close) if open == close => quote = None,
            (Some('"') | None, '\\') => word.extend(letters.next()),
            _ => word.push(letter),
        }
        begun = true;
    }
    words.extend(begun.then_some(word));
    words
}

fn rows(image: &str) -> Vec<(Mode, Vec<String>)> {
    let lines = TUTORIAL.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let row = |line: &str| {
        let (mode, command) = line.split_once(' ').expect("a mode and a command");
        let mode = match mode {
            "=" => Mode::All,
            "~" => Mode::Output,
            ":" => Mode::Status,
            "t" => Mode::Terminal,
            other => panic!("no such mode: {other}"),
        };
        (mode, words(command).into_iter().map(|word| word.replace("IMAGE", image)).collect())
    };
    lines.map(row).collect()
}

/// The text with ids made alike: 64 hexadecimal digits, or the first 12 of them.
fn alike(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let hex = word.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        out.push_str(match word.len() {
            64 if hex => "<ID>",
            12 if hex => "<id>",
            _ => word,
        });
        let next = after.chars().next().map_or(0, char::len_utf8);
        out.push_str(&after[..next]);
        rest = &after[next..];
    }
    out
}

/// Errors without what each program puts around them.
fn complaint(text: &str) -> String {
    let frame = |line: &&str| !["hint: ", "See '", "Run '"].iter().any(|start| line.starts_with(start));
    let bare = |line: &str| {
        let mut line = line.trim();
        for prefix in ["docker: ", "umiak: ", "Error response from daemon: ", "Error: ", "error: "] {
            line = line.strip_prefix(prefix).unwrap_or(line);
        }
        line.replace("docker", "umiak")
    };
    let lines: Vec<_> = text.lines().filter(frame).map(bare).filter(|line| !line.is_empty()).collect();
    alike(&lines.join("\n"))
}

/// Runs a command on a terminal.
fn typed(command: Command) -> Output {
    let (status, stdout) = Typed::on(command, (24, 80)).end();
    Output { status: status.unwrap_or(-1), stdout, stderr: String::new() }
}

/// What differs.
fn differences(mode: Mode, ours: &Output, theirs: &Output) -> Vec<String> {
    let mut found = Vec::new();
    if ours.status != theirs.status {
        found.push(format!("status {}, docker {}", ours.status, theirs.status));
    }
    let (out, err) = (mode != Mode::Status, mode == Mode::All);
    if out && alike(&ours.stdout) != alike(&theirs.stdout) {
        found.push(format!("output {:?}, docker {:?}", ours.stdout, theirs.stdout));
    }
    if (err || !found.is_empty()) && complaint(&ours.stderr) != complaint(&theirs.stderr) {
        found.push(format!("errors {:?}, docker {:?}", ours.stderr, theirs.stderr));
    }
    found
}

#[test]
fn heavy_a_docker_tutorial_reads_the_same() {
    require!(root, registry, docker);
    let (host, docker) = (Host::new(), Docker::start());
    let image = registry::busybox();
    host.umiak(&["pull", "-q", &image]).exits(0);
    docker.run(&["pull", "-q", &image]).exits(0);
    let mut different = Vec::new();
    for (mode, command) in rows(&image) {
        let args: Vec<&str> = command.iter().map(String::as_str).collect();
        let (ours, theirs) = if mode == Mode::Terminal {
            (typed(host.command(&args)), typed(docker.command(&args)))
        } else {
            (host.umiak_reading(b"typed\n", &args), docker.run(&args))
        };
        let found = differences(mode, &ours, &theirs);
        if !found.is_empty() {
            different.push(format!("{}\n    {}", command.join(" "), found.join("\n    ")));
        }
    }
    // One that is left by a row that went wrong must not hold up the end.
    let left = host.umiak(&["ps", "-aq"]).stdout;
    let left: Vec<_> = left.split_whitespace().collect();
    if !left.is_empty() {
        host.umiak(&[&["rm", "-f"], &left[..]].concat());
    }
    assert!(different.is_empty(), "{} differ:\n{}", different.len(), different.join("\n"));
}

#[test]
fn rows_are_read_as_a_shell_reads_them() {
    assert_eq!(words("run  -e 'A=b c' x ''"), ["run", "-e", "A=b c", "x", ""]);
    assert_eq!(words(r#"sh -c 'sh -c "a \$$"' "b\"c""#), ["sh", "-c", r#"sh -c "a \$$""#, "b\"c"]);
    let id = "0123456789ab";
    assert_eq!(alike(&format!("a {id} ({id}{id}) é")), format!("a <id> ({id}{id}) é"));
    assert_eq!(complaint("docker: Error response from daemon: No.\n\nRun 'docker x'\n"), "No.");
    assert!(rows("image").len() > 100);
}
