//! Block production by the leader of a window, without optimistic handover (paper §2.7): it starts at ParentReady,
//! then makes one block per slot, each on its predecessor, without waiting for votes.
//!
//! Deadlines are absolute: slot i of the window ends (i + 1) * delta_block after the window's start, and its last
//! slice leaves then. Shredding, sending and learning the block's hash happen after that, in the next slot's time, so
//! that lateness does not add up over a window.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use alpenglow_rotor::slice::{Slice, SliceId, SlicePayload, SliceSignature};
use alpenglow_rotor::types::{BlockId, Hash, SliceIndex, Slot, Time};

use crate::block::{ParentStatement, SliceBuilder};
use crate::transactions::{Selection, Transactions};

/// How blocks are made.
#[derive(Clone, Copy, Debug)]
pub struct ProductionConfig {
    /// Time of one slot.
    pub delta_block: Duration,
    /// A slice that is not full leaves this long after its first byte.
    pub slice_interval: Duration,
    /// Most payload bytes of one slice.
    pub slice_payload_bytes: usize,
    /// Most slices of a block: one that others have no room for would be skipped, and the next leader's, with the same
    /// transactions, too.
    pub slices_max: usize,
    /// Slices that may be on their way to being shredded at once; the next ones wait. The block's last slice does
    /// not.
    pub in_flight_max: usize,
}

/// A slice to be shredded and sent.
#[derive(Clone, Debug)]
pub struct OutgoingSlice {
    /// Where it belongs.
    pub id: SliceId,
    /// Whether it is the last of its block.
    pub is_last: bool,
    /// Its payload, which is to be kept for as long as the block is.
    pub payload: SlicePayload,
}

/// An own slice was shredded and sent.
#[derive(Clone, Copy, Debug)]
pub struct SliceSent {
    /// Which one.
    pub id: SliceId,
    /// Root of the tree over its shreds.
    pub root: Hash,
    /// Own signature over it.
    pub signature: SliceSignature,
    /// When its encoding began, in nanoseconds on this node's clock.
    pub leader_stamp_ns: u64,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Production {
    config: ProductionConfig,
    window: Option<Window>,
    in_flight: BTreeMap<SliceId, OutgoingSlice>,
    outgoing: VecDeque<OutgoingSlice>,
}

#[derive(Debug)]
struct Window {
    first: Slot,
    start: Time,
    /// The slot in production.
    slot: Slot,
    /// `None` while the predecessor's hash is not known.
    draft: Option<Draft>,
    selection: Selection,
}

/// The block in production: the slice being filled.
#[derive(Debug)]
struct Draft {
    builder: SliceBuilder,
    /// When the slice got its first byte; `None` while it is empty.
    opened: Option<Time>,
    index: usize,
}

impl Production {
    /// A leader with nothing to produce yet.
    #[must_use]
    pub const fn new(config: ProductionConfig) -> Self {
        Self { config, window: None, in_flight: BTreeMap::new(), outgoing: VecDeque::new() }
    }

    /// Begins the window whose first slot is `first`, at `start`, on `parent`; `selection` passes over the
    /// transactions on that chain. A window in production already is replaced.
    ///
    /// # Panics
    /// If `first` is not the first slot of its window.
    pub fn begin(&mut self, start: Time, first: Slot, parent: BlockId, selection: Selection) {
        assert!(first.is_window_first());
        self.stop();
        // What never came back from an earlier window must not count against this one.
        self.in_flight.retain(|id, _| id.slot >= first);
        let draft = Draft::new(parent, start, self.config.slice_payload_bytes);
        self.window = Some(Window { first, start, slot: first, draft: Some(draft), selection });
    }

    /// The slot in production.
    #[must_use]
    pub fn slot(&self) -> Option<Slot> {
        self.window.as_ref().map(|window| window.slot)
    }

    /// Gives up the window in production.
    pub fn stop(&mut self) {
        self.window = None;
        for unsent in self.outgoing.drain(..) {
            self.in_flight.remove(&unsent.id);
        }
    }

    /// The own block `block` is complete: if it is the predecessor of the slot in production, that one begins.
    pub fn block_complete(&mut self, now: Time, block: BlockId) {
        if let Some(window) = &mut self.window
            && window.draft.is_none()
            && window.slot.previous() == Some(block.slot)
        {
            window.draft = Some(Draft::new(block, now, self.config.slice_payload_bytes));
        }
    }

    /// Takes note that a slice was sent, and returns it as it is to be held. `None` if no such slice was under way.
    pub fn slice_sent(&mut self, sent: &SliceSent) -> Option<Slice> {
        let OutgoingSlice { id, is_last, payload } = self.in_flight.remove(&sent.id)?;
        let SliceSent { root, signature, leader_stamp_ns, .. } = *sent;
        Some(Slice { id, is_last, root, signature, leader_stamp_ns, payload })
    }

    /// Packs pending transactions and lets slices go that are full or due.
    pub fn advance(&mut self, now: Time, transactions: &Transactions) {
        while self.step(now, transactions) {}
    }

    /// When [`Self::advance`] has something to do even if nothing else happens.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Time> {
        let window = self.window.as_ref()?;
        let draft = window.draft.as_ref()?;
        let deadline = self.deadline(window);
        let due =
            draft.opened.filter(|_| self.may_send_more(draft)).map(|opened| opened.after(self.config.slice_interval));
        Some(due.map_or(deadline, |due| due.min(deadline)).max(window.start))
    }

    /// The next slice to send.
    pub fn poll_slice(&mut self) -> Option<OutgoingSlice> {
        self.outgoing.pop_front()
    }

    /// Fills the open slice and lets it go if it is time. Returns whether another slice may have to go right after
    /// it.
    fn step(&mut self, now: Time, transactions: &Transactions) -> bool {
        let Some(window) = self.window.as_ref().filter(|window| now >= window.start) else { return false };
        let past_deadline = now >= self.deadline(window);
        let may_send_more = window.draft.as_ref().is_some_and(|draft| self.may_send_more(draft));
        let Some(window) = &mut self.window else { return false };
        let Some(draft) = &mut window.draft else { return false };
        let full = draft.fill(now, transactions, &mut window.selection);
        let due = draft.opened.is_some_and(|opened| now >= opened.after(self.config.slice_interval));
        if past_deadline {
            self.send(true);
        } else if may_send_more && (full || due) {
            self.send(false);
        } else {
            return false;
        }
        !past_deadline
    }

    fn send(&mut self, is_last: bool) {
        let window = self.window.as_mut().expect("a slice leaves only within a window");
        let draft = window.draft.as_mut().expect("a slice leaves only a draft");
        let index = SliceIndex::new(draft.index).expect("room is kept for the last slice");
        let id = SliceId { slot: window.slot, index };
        let empty = SliceBuilder::new(ParentStatement::Nothing, self.config.slice_payload_bytes);
        let payload = std::mem::replace(&mut draft.builder, empty).finish().into();
        draft.opened = None;
        draft.index += 1;
        if is_last {
            window.draft = None;
            window.slot = window.slot.next();
            if window.slot > window.first.window_last() {
                self.window = None;
            }
        }
        let outgoing = OutgoingSlice { id, is_last, payload };
        self.in_flight.insert(id, outgoing.clone());
        self.outgoing.push_back(outgoing);
    }

    fn may_send_more(&self, draft: &Draft) -> bool {
        draft.index + 1 < self.config.slices_max && self.in_flight.len() < self.config.in_flight_max
    }

    fn deadline(&self, window: &Window) -> Time {
        let slots = window.slot.0 - window.first.0 + 1;
        window.start.after(self.config.delta_block * u32::try_from(slots).expect("a window has few slots"))
    }
}

impl Draft {
    fn new(parent: BlockId, now: Time, slice_payload_bytes: usize) -> Self {
        let builder = SliceBuilder::new(ParentStatement::Parent(parent), slice_payload_bytes);
        Self { builder, opened: Some(now), index: 0 }
    }

    /// Packs what fits, and says whether something was left over because the slice is full.
    fn fill(&mut self, now: Time, transactions: &Transactions, selection: &mut Selection) -> bool {
        while let Some(transaction) = transactions.peek(selection) {
            if !self.builder.push(transaction) {
                return true;
            }
            self.opened.get_or_insert(now);
            Transactions::take(selection);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::block::{SLICE_PAYLOAD_BYTES_MIN, SliceContent};
    use crate::transactions::{TransactionLimits, TransactionSource};
    use alpenglow_rotor::types::{SLICES_MAX, ValidatorIndex};

    const START: Time = Time(5_000_000_000);
    const MS: u64 = 1_000_000;

    fn config() -> ProductionConfig {
        ProductionConfig {
            delta_block: Duration::from_millis(400),
            slice_interval: Duration::from_millis(10),
            slice_payload_bytes: SLICE_PAYLOAD_BYTES_MIN,
            slices_max: SLICES_MAX,
            in_flight_max: 4,
        }
    }

    fn pool() -> Transactions {
        Transactions::new(ValidatorIndex(0), TransactionLimits::default())
    }

    fn add(pool: &mut Transactions, number: u32, length: usize) {
        let mut bytes = vec![0; length];
        bytes[..4].copy_from_slice(&number.to_le_bytes());
        pool.add(START, bytes.into(), TransactionSource::Client).unwrap();
    }

    fn at(ms: u64) -> Time {
        Time(START.0 + ms * MS)
    }

    fn leaving(production: &mut Production) -> Vec<(u64, usize, bool)> {
        std::iter::from_fn(|| production.poll_slice())
            .map(|slice| (slice.id.slot.0, slice.id.index.get(), slice.is_last))
            .collect()
    }

    fn sent(slot: u64, index: usize) -> SliceSent {
        let id = SliceId { slot: Slot(slot), index: SliceIndex::new(index).unwrap() };
        SliceSent { id, root: Hash([1; 32]), signature: SliceSignature([0; 64]), leader_stamp_ns: 7 }
    }

    fn block(slot: u64) -> BlockId {
        BlockId { slot: Slot(slot), hash: Hash([slot as u8; 32]) }
    }

    #[test]
    fn a_slice_leaves_when_due_when_full_and_the_last_at_the_deadline() {
        let (mut production, mut pool) = (Production::new(config()), pool());
        production.begin(START, Slot(4), block(3), Selection::default());
        production.advance(START, &pool);
        assert_eq!(production.next_timeout(), Some(at(10)), "the parent statement is the slice's first byte");
        production.advance(at(10), &pool);
        assert_eq!(leaving(&mut production), [(4, 0, false)]);
        assert_eq!(production.next_timeout(), Some(at(400)), "an empty slice waits for its first byte");
        add(&mut pool, 1, 600);
        production.advance(at(50), &pool);
        assert_eq!(production.next_timeout(), Some(at(60)));
        add(&mut pool, 2, 600);
        production.advance(at(51), &pool);
        assert_eq!(leaving(&mut production), [(4, 1, false)], "full before it was due");
        production.advance(at(61), &pool);
        assert_eq!(leaving(&mut production), [(4, 2, false)]);
        production.advance(at(400), &pool);
        assert_eq!(leaving(&mut production), [(4, 3, true)]);
        assert_eq!(production.next_timeout(), None, "the next slot needs this block's hash");
    }

    #[test]
    fn defect_19_late_sending_does_not_make_blocks_longer() {
        let (mut production, pool) = (Production::new(config()), pool());
        production.begin(START, Slot(4), block(3), Selection::default());
        let mut ends = Vec::new();
        let mut now = START;
        for slot in 4..8 {
            while ends.len() < (slot - 3) as usize {
                now = production.next_timeout().unwrap().max(now);
                production.advance(now, &pool);
                for (slot, index, is_last) in leaving(&mut production) {
                    production.slice_sent(&sent(slot, index)).unwrap();
                    if is_last {
                        ends.push(now.since(START).as_millis());
                    }
                }
            }
            // Shredding and sending the last slice takes 23 ms.
            now = Time(now.0 + 23 * MS);
            production.block_complete(now, block(slot));
        }
        assert_eq!(ends, [400, 800, 1_200, 1_600]);
        assert_eq!((production.slot(), production.next_timeout()), (None, None));
    }

    #[test]
    fn window_zero_has_three_slots() {
        let (mut production, pool) = (Production::new(config()), pool());
        production.begin(START, Slot(1), BlockId::GENESIS, Selection::default());
        production.advance(Time(START.0 - 1), &pool);
        assert!(leaving(&mut production).is_empty(), "the start lies ahead");
        for slot in 1..4 {
            production.advance(at(400 * slot), &pool);
            assert_eq!(leaving(&mut production), [(slot, 0, true)]);
            production.block_complete(at(400 * slot), block(slot));
        }
        assert_eq!(production.slot(), None);
    }

    #[test]
    fn slices_in_flight_are_bounded_and_go_on_when_some_are_sent() {
        let (mut production, mut pool) = (Production::new(config()), pool());
        (0..20).for_each(|number| add(&mut pool, number, 1_024));
        production.begin(START, Slot(4), block(3), Selection::default());
        production.advance(START, &pool);
        assert_eq!(leaving(&mut production).len(), 4);
        assert_eq!(production.next_timeout(), Some(at(400)), "what must wait does not wake the loop");
        production.advance(at(20), &pool);
        assert!(leaving(&mut production).is_empty());
        assert!(production.slice_sent(&sent(4, 2)).is_some() && production.slice_sent(&sent(4, 2)).is_none());
        production.advance(at(21), &pool);
        assert_eq!(leaving(&mut production), [(4, 4, false)]);
        production.advance(at(400), &pool);
        assert_eq!(leaving(&mut production), [(4, 5, true)], "the last slice never waits");
    }

    #[test]
    fn a_block_never_has_more_than_its_slices_and_the_last_one_has_room() {
        let config = ProductionConfig { in_flight_max: usize::MAX, ..config() };
        let (mut production, mut pool) = (Production::new(config), pool());
        (0..1_100).for_each(|number| add(&mut pool, number, 1_024));
        production.begin(START, Slot(4), block(3), Selection::default());
        production.advance(START, &pool);
        assert_eq!(leaving(&mut production).len(), SLICES_MAX - 1);
        production.advance(at(400), &pool);
        assert_eq!(leaving(&mut production), [(4, SLICES_MAX - 1, true)]);
    }

    #[test]
    fn every_transaction_is_packed_once_and_none_on_the_chain_already() {
        let (mut production, mut pool) = (Production::new(config()), pool());
        (0..10).for_each(|number| add(&mut pool, number, 300));
        let mut bytes = vec![0; 300];
        bytes[0] = 3;
        let on_chain = BTreeSet::from([crate::block::TransactionId::of(&bytes)]);
        production.begin(START, Slot(4), block(3), Selection::excluding(on_chain));
        production.advance(START, &pool);
        production.advance(at(400), &pool);
        let mut packed = Vec::new();
        while let Some(slice) = production.poll_slice() {
            let content = SliceContent::parse(slice.id.index, &slice.payload).unwrap();
            packed.extend(content.transactions().map(|transaction| transaction[0]));
        }
        assert_eq!(packed, [0, 1, 2, 4, 5, 6, 7, 8, 9]);
    }
}
