//! What a pull shows while it runs: bars on a terminal, docker's plain lines otherwise.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::output::Printer;
use crate::engine::progress::{Phase, Progress};

/// Where progress goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// Standard output: `pull`.
    Out,
    /// Standard error: `run`, whose standard output is the container's.
    Err,
}

/// Shows progress.
#[derive(Debug)]
pub(super) struct Shown<'a> {
    printer: &'a Printer,
    target: Target,
    bars: Option<MultiProgress>,
    layers: Mutex<HashMap<String, (Option<ProgressBar>, &'static str)>>,
}

impl<'a> Shown<'a> {
    pub(super) fn new(printer: &'a Printer, target: Target) -> Self {
        let (terminal, draw) = match target {
            Target::Out => (printer.out_is_terminal(), ProgressDrawTarget::stdout()),
            Target::Err => (printer.err_is_terminal(), ProgressDrawTarget::stderr()),
        };
        let bars = (terminal && !printer.is_quiet()).then(|| MultiProgress::with_draw_target(draw));
        Self { printer, target, bars, layers: Mutex::default() }
    }

    fn line(&self, text: &str) {
        if self.printer.is_quiet() {
            return;
        }
        // Progress that cannot be shown stops nothing; the result of the command is checked when it is written.
        let _ = match self.target {
            Target::Out => self.printer.line(text),
            Target::Err => self.printer.line_err(text),
        };
    }

    fn bar(bars: &MultiProgress, layer: &str) -> ProgressBar {
        let bar = bars.add(ProgressBar::new(0));
        bar.set_prefix(layer.to_owned());
        bar
    }
}

/// The phase in docker's words.
fn words(phase: Phase) -> &'static str {
    match phase {
        Phase::Pulling => "Pulling fs layer",
        Phase::Waiting => "Waiting",
        Phase::Downloading { .. } => "Downloading",
        Phase::Downloaded => "Download complete",
        Phase::Extracting => "Extracting",
        Phase::Complete => "Pull complete",
        Phase::Compiling => "Compiling",
        Phase::Compiled => "Compiled",
        Phase::Exists => "Already exists",
        Phase::Preparing => "Preparing",
        Phase::Pushing { .. } => "Pushing",
        Phase::Pushed => "Pushed",
        Phase::Present => "Layer already exists",
    }
}

fn style(phase: Phase) -> ProgressStyle {
    let template = match phase {
        Phase::Downloading { .. } | Phase::Pushing { .. } => {
            "{prefix}: {msg} [{bar:40}] {bytes}/{total_bytes}"
        }
        _ => "{prefix}: {msg}",
    };
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

impl Progress for Shown<'_> {
    fn missing(&self, name: &str) {
        if !self.printer.is_quiet() {
            let _ = self.printer.line_err(format!("Unable to find image '{name}' locally"));
        }
    }

    fn pulling(&self, tag: &str, repository: &str) {
        self.line(&format!("{tag}: Pulling from {repository}"));
    }

    fn layer(&self, layer: &str, phase: Phase) {
        if self.printer.is_quiet() {
            return;
        }
        let said = words(phase);
        let mut layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        let known = layers.entry(layer.to_owned()).or_insert((None, ""));
        let changed = known.1 != said;
        known.1 = said;
        let Some(bars) = &self.bars else {
            let brief =
                matches!(phase, Phase::Downloading { .. } | Phase::Pushing { .. } | Phase::Extracting);
            if changed && !brief {
                self.line(&format!("{layer}: {said}"));
            }
            return;
        };
        let bar = known.0.get_or_insert_with(|| Self::bar(bars, layer));
        if phase == Phase::Compiling {
            // The layer was complete.
            bar.reset();
        }
        if changed {
            bar.set_style(style(phase));
            bar.set_message(said);
        }
        if let Phase::Downloading { done, total } | Phase::Pushing { done, total } = phase {
            bar.set_length(total);
            bar.set_position(done);
        }
        let last = [Phase::Complete, Phase::Compiled, Phase::Exists, Phase::Pushed, Phase::Present];
        if last.contains(&phase) {
            bar.finish();
        }
    }

    fn mounted(&self, layer: &str, from: &str) {
        let mut layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        let known = layers.entry(layer.to_owned()).or_insert((None, ""));
        let said = format!("Mounted from {from}");
        match &self.bars {
            None => self.line(&format!("{layer}: {said}")),
            Some(bars) => {
                let bar = known.0.get_or_insert_with(|| Self::bar(bars, layer));
                bar.set_style(style(Phase::Pushed));
                bar.finish_with_message(said);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::Arc;

    struct Kept(Arc<Mutex<Vec<u8>>>);
    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn plain_lines_are_said_once_each() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let printer = Printer::to_writers(Box::new(Kept(Arc::clone(&seen))), Box::new(io::sink()));
        let shown = Shown::new(&printer, Target::Out);
        shown.pulling("latest", "library/x");
        for phase in [
            Phase::Pulling,
            Phase::Downloading { done: 1, total: 2 },
            Phase::Downloading { done: 2, total: 2 },
            Phase::Downloaded,
            Phase::Extracting,
            Phase::Complete,
        ] {
            shown.layer("2d473b07cdd5", phase);
        }
        let text = String::from_utf8(seen.lock().unwrap().clone()).unwrap();
        assert_eq!(
            text,
            "latest: Pulling from library/x\n2d473b07cdd5: Pulling fs layer\n2d473b07cdd5: Download complete\n\
             2d473b07cdd5: Pull complete\n"
        );
    }
}
