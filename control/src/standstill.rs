//! What to do when nothing is finalized any more (paper §3.3): say again what may not have been heard.
//!
//! Each round sends the certificates of the highest finalized block, then slot by slot the certificates held and own
//! votes cast, in small groups with pauses, so that neither this node's loop nor its peers choke on it.

use std::collections::VecDeque;
use std::time::Duration;

use alpenglow_rotor::types::{Slot, Time};

use crate::consensus::Consensus;
use crate::message::Message;

/// Pause between two groups.
const PAUSE: Duration = Duration::from_millis(10);
/// Most messages in a group.
const GROUP_MESSAGES_MAX: usize = 16;
/// Datagrams that a group may cost, as long as it has one message: every message goes to every validator.
const GROUP_DATAGRAMS: usize = 1_024;

/// What can be said again.
pub(crate) trait Held {
    /// Slots up to this one are closed.
    fn finalized(&self) -> Slot;
    /// What finalizes it; nothing for genesis.
    fn finalization_messages(&self) -> Vec<Message>;
    /// The first slot after `slot` of which there is something to say.
    fn next_open_slot(&self, slot: Slot) -> Option<Slot>;
    /// Certificates held and own votes cast in a slot.
    fn messages_of(&self, slot: Slot) -> Vec<Message>;
}

impl Held for Consensus {
    fn finalized(&self) -> Slot {
        self.highest_finalized().slot
    }

    fn finalization_messages(&self) -> Vec<Message> {
        self.finalization_messages()
    }

    fn next_open_slot(&self, slot: Slot) -> Option<Slot> {
        self.next_open_slot(slot)
    }

    fn messages_of(&self, slot: Slot) -> Vec<Message> {
        self.messages_of(slot)
    }
}

#[derive(Debug)]
struct Round {
    /// Slots up to this one are said, or in `messages`.
    through: Slot,
    messages: VecDeque<Message>,
    due: Time,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Standstill {
    interval: Duration,
    group_messages: usize,
    next_round: Time,
    round: Option<Round>,
}

impl Standstill {
    /// Counts from `start`: a cluster that never finalized anything stands still too.
    pub(crate) fn new(interval: Duration, validators: usize, start: Time) -> Self {
        let group_messages = (GROUP_DATAGRAMS / validators.max(1)).clamp(1, GROUP_MESSAGES_MAX);
        Self { interval, group_messages, next_round: start.after(interval), round: None }
    }

    /// A new slot was finalized: there is no standstill.
    pub(crate) fn progress(&mut self, now: Time) {
        self.next_round = now.after(self.interval);
        self.round = None;
    }

    /// The group of messages that is due, and whether a new round began with it.
    pub(crate) fn advance(&mut self, now: Time, held: &impl Held) -> (Vec<Message>, bool) {
        let begins = self.round.is_none() && now >= self.next_round;
        if begins {
            self.next_round = now.after(self.interval);
            let messages = held.finalization_messages().into();
            self.round = Some(Round { through: held.finalized(), messages, due: now });
        }
        let Some(round) = self.round.as_mut().filter(|round| now >= round.due) else { return (Vec::new(), begins) };
        let more = round.fill(self.group_messages, held);
        let group = round.messages.drain(..self.group_messages.min(round.messages.len())).collect();
        round.due = now.after(PAUSE);
        if !more && round.messages.is_empty() {
            self.round = None;
        }
        (group, begins)
    }

    /// When [`Self::advance`] has something to do.
    pub(crate) fn next_timeout(&self) -> Time {
        self.round.as_ref().map_or(self.next_round, |round| round.due)
    }
}

impl Round {
    /// Gathers at least `count` messages if there are as many, and says whether slots are left.
    fn fill(&mut self, count: usize, held: &impl Held) -> bool {
        while self.messages.len() < count {
            let Some(slot) = held.next_open_slot(self.through) else { return false };
            self.messages.extend(held.messages_of(slot));
            self.through = slot;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use alpenglow_rotor::types::ValidatorIndex;

    use super::*;
    use crate::bls::SignatureBytes;
    use crate::vote::{Vote, VotePayload};

    const START: Time = Time(3_000_000_000);
    const INTERVAL: Duration = Duration::from_secs(10);

    /// Some votes in each slot of a range.
    struct Votes {
        finalized: u64,
        last: u64,
        each: usize,
    }

    fn skip(slot: u64) -> Message {
        let signature = SignatureBytes([0; 96]);
        Message::Vote(Vote { payload: VotePayload::Skip(Slot(slot)), signer: ValidatorIndex(0), signature })
    }

    impl Held for Votes {
        fn finalized(&self) -> Slot {
            Slot(self.finalized)
        }

        fn finalization_messages(&self) -> Vec<Message> {
            if self.finalized == 0 { Vec::new() } else { vec![skip(self.finalized)] }
        }

        fn next_open_slot(&self, slot: Slot) -> Option<Slot> {
            (slot.0 < self.last).then(|| slot.next())
        }

        fn messages_of(&self, slot: Slot) -> Vec<Message> {
            vec![skip(slot.0); self.each]
        }
    }

    /// Runs until the next round would begin; gives the size of every group and the slots in order.
    fn round(standstill: &mut Standstill, held: &Votes) -> (Vec<usize>, Vec<u64>, Time) {
        let (mut sizes, mut slots) = (Vec::new(), Vec::new());
        let began = standstill.next_timeout();
        let mut now = began;
        while standstill.round.is_some() || sizes.is_empty() {
            let (group, begins) = standstill.advance(now, held);
            assert_eq!(begins, sizes.is_empty());
            slots.extend(group.iter().map(|message| match message {
                Message::Vote(vote) => vote.payload.slot().0,
                Message::Certificate(_) => unreachable!(),
            }));
            sizes.push(group.len());
            now = standstill.next_timeout();
        }
        (sizes, slots, began)
    }

    #[test]
    fn defect_8_nothing_finalized_and_nothing_held_is_no_reason_to_panic() {
        let mut standstill = Standstill::new(INTERVAL, 5, START);
        let nothing = Votes { finalized: 0, last: 0, each: 0 };
        assert_eq!(standstill.next_timeout(), START.after(INTERVAL), "counted from the start");
        let (sizes, _, _) = round(&mut standstill, &nothing);
        assert_eq!(sizes, [0]);
        assert_eq!(standstill.next_timeout(), START.after(2 * INTERVAL));
    }

    #[test]
    fn defect_8_hundreds_of_messages_are_spread_out_in_slot_order() {
        let mut standstill = Standstill::new(INTERVAL, 5, START);
        let held = Votes { finalized: 7, last: 107, each: 3 };
        let (sizes, slots, began) = round(&mut standstill, &held);
        assert_eq!(slots.len(), 301);
        assert!(slots.is_sorted() && slots[0] == 7);
        assert!(sizes.iter().all(|&size| size <= 16), "{sizes:?}");
        assert_eq!(standstill.next_timeout(), began.after(INTERVAL), "repeated at the same interval");
        let mut many = Standstill::new(INTERVAL, 1_500, START);
        assert!(round(&mut many, &held).0.iter().all(|&size| size <= 1), "a message to many peers is a group");
    }

    #[test]
    fn defect_8_thousands_of_messages_leave_room_for_others_and_each_is_said_once_a_round() {
        for validators in [5, 100, 2_000] {
            let mut standstill = Standstill::new(INTERVAL, validators, START);
            let held = Votes { finalized: 7, last: 2_007, each: 3 };
            let (sizes, slots, _) = round(&mut standstill, &held);
            assert!(slots.is_sorted() && slots.len() == 1 + 3 * 2_000);
            let most = sizes.iter().max().copied().unwrap_or_default();
            assert!(most <= 16 && (most == 1 || most * validators <= 1_024), "{most} to {validators}");
            // Between two groups there is time for whatever else happens.
            let spread = PAUSE * u32::try_from(sizes.len()).unwrap();
            assert!(spread >= Duration::from_secs(3), "{validators} validators: {spread:?}");
        }
    }

    #[test]
    fn a_round_longer_than_the_interval_ends_before_the_next_one_begins() {
        let mut standstill = Standstill::new(INTERVAL, 2_000, START);
        let held = Votes { finalized: 0, last: 2_000, each: 3 };
        for _ in 0..2 {
            let (_, slots, _) = round(&mut standstill, &held);
            assert_eq!(slots.last(), Some(&2_000), "the last slots have their turn in each round");
        }
    }

    #[test]
    fn progress_ends_a_round() {
        let mut standstill = Standstill::new(INTERVAL, 5, START);
        let held = Votes { finalized: 0, last: 100, each: 2 };
        let began = standstill.next_timeout();
        assert_eq!(standstill.advance(Time(began.0 - 1), &held).0, []);
        assert_eq!(standstill.advance(began, &held).0.len(), 16);
        standstill.progress(began.after(PAUSE));
        assert_eq!(standstill.advance(began.after(2 * PAUSE), &held).0, []);
        assert_eq!(standstill.next_timeout(), began.after(PAUSE + INTERVAL));
    }
}
