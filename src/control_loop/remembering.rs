//! What is written down before anything that follows from it leaves.

use alpenglow_control::block_log::BlockLogOrder;
use alpenglow_control::input::Input;
use alpenglow_control::vote_record::Entry;
use alpenglow_dataplane::clock;
use alpenglow_rotor::types::{Slot, Time};

use super::ControlLoop;
use crate::report::Stage;

impl ControlLoop {
    /// Whether the vote log lacks an entry. What follows from it must not happen, not even here: a vote that is nowhere
    /// written down may have made a block final. So nothing that control has said after it is carried out, and nothing
    /// more is decided, until it is there.
    pub(super) fn is_behind(&self) -> bool {
        self.parts.recorder.as_ref().is_some_and(|recorder| recorder.is_behind())
    }

    pub(super) fn record(&mut self, now: Time, entry: Entry) {
        let recorder = self.parts.recorder.as_mut().expect("what keeps no record records nothing");
        let begun = clock::now();
        let recorded = recorder.record(now, entry);
        let took = clock::now().since(begun);
        self.times.stages.record_ns(Stage::VoteLog, u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        if let Err(error) = recorded {
            self.count("vote_not_logged");
            tracing::error!(%error, "cannot write the vote log: this node stands still until it can; is the disk full?");
        }
    }

    pub(super) fn log_block(&mut self, now: Time, order: BlockLogOrder) {
        let Some(log) = &mut self.parts.block_log else { return };
        let is_awaited = matches!(order, BlockLogOrder::Hold { before_vote: true, .. });
        let begun = clock::now();
        log.push(now, order, |reason| *self.drops.entry(reason).or_default() += 1);
        if is_awaited {
            let took = clock::now().since(begun);
            self.times.stages.record_ns(Stage::BlockHeld, u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        }
    }

    pub(super) fn reserve(&mut self, slot: Slot) {
        let recorder = self.parts.recorder.as_mut().expect("what keeps no record reserves nothing");
        recorder.reserve(slot);
    }

    /// What the disk has done since.
    pub(super) fn take_recorded(&mut self, now: Time) -> usize {
        let mut taken = 0;
        if self.parts.recorder.as_mut().is_some_and(|recorder| recorder.catch_up(now)) {
            tracing::warn!("the vote log is complete again: this node goes on");
            taken += 1;
        }
        while self.backlog.is_empty()
            && let Some(slot) = self.parts.recorder.as_mut().and_then(|recorder| recorder.poll())
        {
            self.decide(now, Input::ReservationDurable(slot));
            taken += 1;
        }
        taken
    }
}
