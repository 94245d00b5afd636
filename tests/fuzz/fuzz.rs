//! The targets over their seeds, as tests; and for as long as one wants, by `tests/fuzz/run`.

use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use umiak::model::Digest;
use umiak_fuzz::coverage::Coverage;
use umiak_fuzz::mutate::{Dice, mutate};
use umiak_fuzz::targets::{ALL, Target};

/// Longer than any input takes.
const HANGS: Duration = Duration::from_secs(20);

/// A folder in memory, where there is one: what is fuzzed syncs what it writes.
fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("a folder")
}

fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Every seed of a target, and so many changed ones, which are the same every time.
fn over_seeds(name: &str, changed: usize) {
    let target = ALL.iter().find(|target| target.name == name).expect("a target");
    let dir = folder();
    let mut run = (target.open)(dir.path());
    let seeds = (target.seeds)();
    let mut dice = Dice::new(1);
    for seed in &seeds {
        run(seed);
    }
    for _ in 0..changed {
        let mut input = dice.one(&seeds).clone();
        let other = dice.one(&seeds).clone();
        mutate(&mut input, &mut dice, target.words, &other);
        (target.mend)(&mut input);
        run(&input);
    }
}

#[test]
fn references() {
    over_seeds("reference", 2000);
}

#[test]
fn manifests() {
    over_seeds("manifest", 2000);
}

#[test]
fn images() {
    over_seeds("image", 2000);
}

#[test]
fn challenges() {
    over_seeds("challenge", 2000);
}

#[test]
fn credentials() {
    over_seeds("credentials", 300);
}

#[test]
fn layers() {
    over_seeds("layer", 300);
}

#[test]
fn files() {
    over_seeds("files", 300);
}

#[test]
fn archives() {
    over_seeds("load", 60);
}

/// What runs now, for the watch.
struct Running {
    since: Instant,
    input: Vec<u8>,
    folder: PathBuf,
}

static RUNNING: Mutex<Option<Running>> = Mutex::new(None);

fn keep(folder: &Path, what: &str, input: &[u8]) -> PathBuf {
    let path = folder.join(format!("{what}{}", Digest::of(input).short()));
    std::fs::write(&path, input).expect("kept");
    path
}

/// Ends the process when an input takes too long, and keeps that input.
fn watch() {
    std::thread::spawn(|| {
        loop {
            std::thread::sleep(Duration::from_secs(1));
            let running = RUNNING.lock().expect("not poisoned");
            if let Some(running) = running.as_ref().filter(|running| running.since.elapsed() > HANGS) {
                let path = keep(&running.folder, "bad-slow-", &running.input);
                say(&format!("an input takes longer than {HANGS:?}: {}", path.display()));
                std::process::abort();
            }
        }
    });
}

/// A number or a list from the environment.
fn setting(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

#[test]
#[ignore = "for as long as one wants: tests/fuzz/run"]
fn for_long() {
    let wanted = setting("FUZZ_TARGETS");
    let seconds = setting("FUZZ_SECONDS").parse().unwrap_or(180);
    let seed = setting("FUZZ_SEED").parse().unwrap_or(u64::from(std::process::id()));
    let unknown = wanted.split_whitespace().find(|name| ALL.iter().all(|target| target.name != *name));
    assert_eq!(unknown, None, "no such target");
    watch();
    let mut bad = 0;
    for target in ALL {
        if wanted.trim().is_empty() || wanted.split_whitespace().any(|name| name == target.name) {
            bad += campaign(target, Duration::from_secs(seconds), seed);
        }
    }
    assert_eq!(bad, 0, "inputs did harm; they are kept");
}

/// Fuzzes one target; how many inputs did harm.
fn campaign(target: &Target, length: Duration, seed: u64) -> usize {
    let kept = PathBuf::from(setting("FUZZ_FOLDER")).join(target.name);
    std::fs::create_dir_all(&kept).expect("a folder for what is kept");
    let dir = folder();
    let mut run = (target.open)(dir.path());
    let (mut coverage, mut dice) = (Coverage::new(), Dice::new(seed));
    let mut corpus = (target.seeds)();
    let names = std::fs::read_dir(&kept).expect("listed").flatten();
    let earlier = names.filter(|entry| !entry.file_name().to_string_lossy().starts_with("bad-"));
    corpus.extend(earlier.filter_map(|entry| std::fs::read(entry.path()).ok()));
    let mut harm = 0;
    let mut attempt = |input: &[u8], coverage: &mut Coverage| {
        *RUNNING.lock().expect("not poisoned") =
            Some(Running { since: Instant::now(), input: input.to_vec(), folder: kept.clone() });
        coverage.begin();
        let outcome = catch_unwind(AssertUnwindSafe(|| run(input)));
        *RUNNING.lock().expect("not poisoned") = None;
        let new = coverage.is_new();
        if outcome.is_err() {
            let path = keep(&kept, "bad-", input);
            say(&format!("{}: did harm: {}", target.name, path.display()));
            harm += 1;
        }
        new && outcome.is_ok()
    };
    for input in &corpus {
        attempt(input, &mut coverage);
    }
    let (begun, mut runs, at_first) = (Instant::now(), 0_u64, corpus.len());
    while begun.elapsed() < length {
        let mut input = dice.one(&corpus).clone();
        // The newest lead on more often than the others.
        if dice.below(3) == 0 {
            let back = dice.below(corpus.len().min(16));
            input.clone_from(&corpus[corpus.len() - 1 - back]);
        }
        let other = dice.one(&corpus).clone();
        mutate(&mut input, &mut dice, target.words, &other);
        if dice.below(10) > 0 {
            (target.mend)(&mut input);
        }
        runs += 1;
        if attempt(&input, &mut coverage) {
            keep(&kept, "", &input);
            corpus.push(input);
        }
    }
    let guided = if coverage.is_guided() { "edges" } else { "edges (not instrumented: blind)" };
    say(&format!(
        "{}: {runs} inputs in {} s, {} {guided}, {at_first} inputs to begin with, {} in the end, {harm} did harm",
        target.name,
        length.as_secs(),
        coverage.edges(),
        corpus.len(),
    ));
    harm
}
