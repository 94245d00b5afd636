//! `umiak system check`: whether the store is what it should be.

use clap::Args;
use serde_json::json;

use super::Execute;
use super::fault::Fault;
use super::output::Printer;
use crate::engine::{CheckOptions, CheckReport, Engine, Finding, Outcome};

/// Check the store, and repair it
#[derive(Debug, Args)]
#[command(
    help_template = super::HELP,
    override_usage = "umiak system check [OPTIONS]",
    args_override_self = true,
    after_help = "Exit status: 0 when nothing is wrong or everything was repaired, 1 when something is wrong."
)]
pub(super) struct Check {
    /// Compare sizes, names and times only, not every byte
    #[arg(short, long)]
    quick: bool,
    /// Fetch or make anew what is bad, and remove what nothing names
    #[arg(short, long)]
    repair: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

impl Execute for Check {
    fn mends(&self) -> bool {
        self.repair
    }

    fn run(&self, engine: &Engine, printer: &Printer) -> Result<u8, Fault> {
        let report = engine.check(CheckOptions { quick: self.quick, repair: self.repair })?;
        if self.json {
            printer.line(document(&report))?;
        } else {
            for finding in &report.findings {
                printer.line(line(finding))?;
            }
            printer.line(format!(
                "Checked {} images, {} blobs, {} layers, {} containers, {} volumes: {}",
                report.images,
                report.blobs,
                report.layers,
                report.containers,
                report.volumes,
                verdict(&report)
            ))?;
        }
        Ok(u8::from(!report.is_clean()))
    }
}

fn verdict(report: &CheckReport) -> String {
    let count = |wanted: fn(&Outcome) -> bool| {
        report.findings.iter().filter(|finding| wanted(&finding.outcome)).count()
    };
    let (open, repaired) = (
        count(|outcome| matches!(outcome, Outcome::Open(_))),
        count(|outcome| matches!(outcome, Outcome::Repaired(_))),
    );
    match (open, repaired) {
        (0, 0) => "nothing is wrong".to_owned(),
        (0, _) => format!("{repaired} repaired, nothing is wrong now"),
        (_, 0) => format!("{open} wrong"),
        _ => format!("{repaired} repaired, {open} wrong still"),
    }
}

fn line(finding: &Finding) -> String {
    let Finding { kind, subject, problem, outcome } = finding;
    match outcome {
        Outcome::Open(None) => format!("wrong: {kind} {subject}: {problem}"),
        Outcome::Open(Some(why)) => format!("wrong: {kind} {subject}: {problem}; not repaired: {why}"),
        Outcome::Repaired(how) => format!("repaired: {kind} {subject}: {problem}; {how}"),
        Outcome::Note => format!("note: {kind} {subject}: {problem}"),
    }
}

fn document(report: &CheckReport) -> serde_json::Value {
    let findings: Vec<_> = report
        .findings
        .iter()
        .map(|finding| {
            let (outcome, detail) = match &finding.outcome {
                Outcome::Open(why) => ("wrong", why.clone()),
                Outcome::Repaired(how) => ("repaired", Some((*how).to_owned())),
                Outcome::Note => ("note", None),
            };
            json!({
                "Kind": finding.kind,
                "Subject": finding.subject,
                "Problem": finding.problem,
                "Outcome": outcome,
                "Detail": detail,
            })
        })
        .collect();
    json!({
        "Clean": report.is_clean(),
        "Images": report.images,
        "Blobs": report.blobs,
        "Layers": report.layers,
        "Containers": report.containers,
        "Volumes": report.volumes,
        "Findings": findings,
    })
}
