//! `system check`: looking whether everything in the store is what it should be, and repairing what is not.
//!
//! Invariants:
//! - It works beside pulls and runs: what is found wrong is looked at once more against the records of that moment, since
//!   things may have been removed meanwhile.
//! - A repair touches only what is bad: a layer is made anew from its blob, a blob is fetched by the names of its images, and
//!   nothing that runs loses a file under its feet.
//! - What a user made is never thrown away: a volume without a record is recorded, a container's files are put aside.

mod content;
mod records;
mod refetch;
mod things;

use crate::store::Depth;

use super::{Engine, EngineError};

/// How to check.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CheckOptions {
    /// Sizes, names and times only.
    pub quick: bool,
    /// Repair what is bad.
    pub repair: bool,
}

/// What became of a finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is as it was found; why it was not repaired, where that was tried.
    Open(Option<String>),
    /// It is right again; how.
    Repaired(&'static str),
    /// It is nothing bad.
    Note,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// `database`, `blob`, `layer`, `image`, `name`, `container`, `volume`, `leftover`.
    pub kind: &'static str,
    /// Which one.
    pub subject: String,
    /// What is wrong with it.
    pub problem: String,
    /// What became of it.
    pub outcome: Outcome,
}

/// What a check looked at, and found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Blobs looked at.
    pub blobs: usize,
    /// Layers looked at.
    pub layers: usize,
    /// Images.
    pub images: usize,
    /// Containers.
    pub containers: usize,
    /// Volumes.
    pub volumes: usize,
    /// In the order in which it was found.
    pub findings: Vec<Finding>,
}

impl CheckReport {
    /// Whether nothing is wrong, or not any more.
    pub fn is_clean(&self) -> bool {
        !self.findings.iter().any(|finding| matches!(finding.outcome, Outcome::Open(_)))
    }

    fn add(&mut self, kind: &'static str, subject: &dyn ToString, problem: &dyn ToString, outcome: Outcome) {
        let (subject, problem) = (subject.to_string(), problem.to_string());
        self.findings.push(Finding { kind, subject, problem, outcome });
    }
}

/// A check under way.
struct Check<'e> {
    engine: &'e Engine,
    options: CheckOptions,
    report: CheckReport,
}

impl Engine {
    /// Checks the store, and repairs it if that is wished.
    pub fn check(&self, options: CheckOptions) -> Result<CheckReport, EngineError> {
        self.recover();
        let work = || {
            let mut check = Check { engine: self, options, report: CheckReport::default() };
            if let Some(done) = &self.rebuilt {
                let outcome =
                    Outcome::Repaired("it was made anew of what could still be read, and of what is here");
                check.report.add("database", &crate::state::Database::FILE, done, outcome);
            }
            check.database()?;
            check.images()?;
            check.containers()?;
            check.volumes()?;
            check.leftovers()?;
            Ok(check.report)
        };
        // A check that only looks leaves no mark.
        if options.repair { self.holding(&[], work) } else { work() }
    }
}

impl Check<'_> {
    fn depth(&self) -> Depth {
        if self.options.quick { Depth::Quick } else { Depth::Full }
    }

    /// The outcome of a repair, if one is wished.
    fn repaired(&self, how: &'static str, repair: impl FnOnce() -> Result<(), EngineError>) -> Outcome {
        if !self.options.repair {
            return Outcome::Open(None);
        }
        match repair() {
            Ok(()) => Outcome::Repaired(how),
            Err(error) => Outcome::Open(Some(super::error::chain(&error))),
        }
    }
}
