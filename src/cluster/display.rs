//! Progress of a run, on standard error: a bar on a terminal, else a line for each slot.

use std::io::IsTerminal;

use alpenglow_rotor::types::Slot;
use indicatif::{ProgressBar, ProgressStyle};

use super::decisions::Decisions;
use crate::logging;
use crate::report::How;

/// Shows what happens.
pub(crate) enum Display {
    /// On a terminal.
    Bar(ProgressBar),
    /// Everywhere else.
    Lines,
}

impl Display {
    /// For a run of `slots` slots.
    pub(crate) fn new(slots: u64) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self::Lines;
        }
        let style = ProgressStyle::with_template("{elapsed:>5} {bar:40} {pos:>4}/{len} slots  {msg}")
            .expect("the template is well-formed");
        Self::Bar(ProgressBar::new(slots).with_style(style))
    }

    /// Tells something that happened once.
    pub(crate) fn note(&self, text: &str) {
        match self {
            Self::Bar(bar) => bar.println(text),
            Self::Lines => logging::tell(text),
        }
    }

    /// Tells that a node was the first to decide `slot`.
    pub(crate) fn decided(&self, slot: Slot, decisions: &Decisions) {
        let counts = decisions.counts();
        let how = decisions.how(slot).map_or("", name);
        match self {
            Self::Bar(bar) => {
                bar.set_position(counts.decided);
                bar.set_message(format!("{} fast, {} slow, {} skipped", counts.fast, counts.slow, counts.skipped));
            }
            Self::Lines => logging::tell(&format!("slot {slot} {how} ({} of the run's slots decided)", counts.decided)),
        }
    }

    /// Takes the bar away; nothing is shown afterwards.
    pub(crate) fn end(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

const fn name(how: How) -> &'static str {
    match how {
        How::Fast => "finalized fast",
        How::Slow => "finalized slow",
        How::Ancestor => "finalized as an ancestor",
        How::Skipped => "skipped",
    }
}
