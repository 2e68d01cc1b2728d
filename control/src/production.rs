//! Block production by the leader of a window, with optimistic handover (paper §2.7): it begins on the last block it
//! holds, and makes one block per slot, each on its predecessor, without waiting for votes.
//!
//! Until ParentReady it *streams*: slices leave as ever, but the block has no end yet, and at least half of its slices
//! are kept for later. When another block turns out to be the parent, the next slice says so, and what went before it
//! counts no more: its transactions are packed again.
//!
//! From ParentReady on deadlines are absolute: slot i of the window ends (i + 1) * delta_block later, and its last
//! slice leaves then. Shredding, sending and learning the block's hash happen after that, in the next slot's time, so
//! that lateness does not add up over a window.
//!
//! A window's first slice, and the one that states another parent, leave at once with what is pending: the sooner
//! others see them, the sooner they know the leader alive and its chain.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use alpenglow_rotor::slice::{Slice, SliceId, SlicePayload, SliceSignature};
use alpenglow_rotor::types::{BlockId, Hash, SliceIndex, Slot, Time};

use crate::block::{ParentStatement, SliceBuilder, TransactionId};
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
    /// What its first block states as its parent.
    parent: BlockId,
    /// When the first slot's time begins. `None` while the parent is not ready.
    start: Option<Time>,
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
    /// When the slice is to leave even if it is not full; `None` while it is empty.
    due: Option<Time>,
    index: usize,
}

impl Production {
    /// A leader with nothing to produce yet.
    #[must_use]
    pub const fn new(config: ProductionConfig) -> Self {
        Self { config, window: None, in_flight: BTreeMap::new(), outgoing: VecDeque::new() }
    }

    /// Streams the first block of the window that begins at `first` on `parent`, which need not be ready yet;
    /// `selection` passes over the transactions on that chain. A window in production already is replaced.
    ///
    /// # Panics
    /// If `first` is not the first slot of its window.
    pub fn stream(&mut self, now: Time, first: Slot, parent: BlockId, selection: Selection) {
        assert!(first.is_window_first());
        self.stop();
        // What never came back from an earlier window must not count against this one.
        self.in_flight.retain(|id, _| id.slot >= first);
        let draft = Some(Draft::new(parent, now, self.config.slice_payload_bytes));
        self.window = Some(Window { first, parent, start: None, slot: first, draft, selection });
    }

    /// The window that is streamed, and what on.
    #[must_use]
    pub fn streaming(&self) -> Option<(Slot, BlockId)> {
        let window = self.window.as_ref().filter(|window| window.start.is_none())?;
        Some((window.first, window.parent))
    }

    /// The block that is streamed goes on from `parent` instead; `selection` passes over the transactions on that
    /// chain. Slices sent before count no more. [`Self::ready`] is to follow, so that this happens once.
    ///
    /// # Panics
    /// If nothing is streamed, or on `parent` already.
    pub fn change_parent(&mut self, now: Time, parent: BlockId, selection: Selection) {
        let bytes_max = self.config.slice_payload_bytes;
        let window = self.streamed();
        assert_ne!(window.parent, parent, "a parent changes to another one");
        let draft = window.draft.as_mut().expect("what is streamed has no end yet");
        let statement =
            if draft.index == 0 { ParentStatement::Parent(parent) } else { ParentStatement::Changed(parent) };
        draft.builder = SliceBuilder::new(statement, bytes_max);
        draft.due = Some(now);
        window.parent = parent;
        window.selection = selection;
    }

    /// The parent of the window that is streamed is ready: the time of its first slot begins at `start`.
    ///
    /// # Panics
    /// If nothing is streamed.
    pub fn ready(&mut self, start: Time) {
        self.streamed().start = Some(start);
    }

    /// The block without which it is not known which transactions are on the chain: until then none is packed.
    #[must_use]
    pub fn missing(&self) -> Option<BlockId> {
        self.window.as_ref()?.selection.missing()
    }

    /// The missing block is held: `on_chain` are its transactions and those before it, back to `missing` if another
    /// block is missing now.
    pub fn found(&mut self, on_chain: BTreeSet<TransactionId>, missing: Option<BlockId>) {
        if let Some(window) = &mut self.window {
            window.selection.extend(on_chain, missing);
        }
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
            let due = now.after(self.config.slice_interval);
            window.draft = Some(Draft::new(block, due, self.config.slice_payload_bytes));
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
        let due = draft.due.filter(|_| self.may_send_more(window, draft));
        let next = due.into_iter().chain(self.deadline(window)).min()?;
        Some(window.start.map_or(next, |start| next.max(start)))
    }

    /// The next slice to send.
    pub fn poll_slice(&mut self) -> Option<OutgoingSlice> {
        self.outgoing.pop_front()
    }

    /// Fills the open slice and lets it go if it is time. Returns whether another slice may have to go right after
    /// it.
    fn step(&mut self, now: Time, transactions: &Transactions) -> bool {
        let started = |window: &&Window| window.start.is_none_or(|start| now >= start);
        let Some(window) = self.window.as_ref().filter(started) else { return false };
        let past_deadline = self.deadline(window).is_some_and(|deadline| now >= deadline);
        let may_send_more = window.draft.as_ref().is_some_and(|draft| self.may_send_more(window, draft));
        let Some(window) = &mut self.window else { return false };
        let Some(draft) = &mut window.draft else { return false };
        let full = draft.fill(now.after(self.config.slice_interval), transactions, &mut window.selection);
        let due = draft.due.is_some_and(|due| now >= due);
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
        draft.due = None;
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

    fn streamed(&mut self) -> &mut Window {
        self.window.as_mut().filter(|window| window.start.is_none()).expect("a window is streamed")
    }

    fn may_send_more(&self, window: &Window, draft: &Draft) -> bool {
        let slices_max = self.config.slices_max;
        // Room is kept for the last slice; while streaming for half of the block, should its parent change.
        let before = if window.start.is_some() { slices_max - 1 } else { slices_max / 2 };
        draft.index < before && self.in_flight.len() < self.config.in_flight_max
    }

    /// When the slot in production ends, if that is known.
    fn deadline(&self, window: &Window) -> Option<Time> {
        let slots = u32::try_from(window.slot.0 - window.first.0 + 1).expect("a window has few slots");
        Some(window.start?.after(self.config.delta_block * slots))
    }
}

impl Draft {
    fn new(parent: BlockId, due: Time, slice_payload_bytes: usize) -> Self {
        let builder = SliceBuilder::new(ParentStatement::Parent(parent), slice_payload_bytes);
        Self { builder, due: Some(due), index: 0 }
    }

    /// Packs what fits, and says whether something was left over because the slice is full. One that was empty is to
    /// leave at `due`.
    fn fill(&mut self, due: Time, transactions: &Transactions, selection: &mut Selection) -> bool {
        while let Some(transaction) = transactions.peek(selection) {
            if !self.builder.push(transaction) {
                return true;
            }
            self.due.get_or_insert(due);
            Transactions::take(selection);
        }
        false
    }
}

#[cfg(test)]
mod tests {
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

    /// The window at `first`, whose parent is ready from the start.
    fn begin(production: &mut Production, first: u64, parent: BlockId) {
        production.stream(START, Slot(first), parent, Selection::default());
        production.ready(START);
    }

    /// Of each slice that leaves: what it says of the parent, and its transactions' first bytes.
    fn contents(production: &mut Production) -> Vec<(ParentStatement, Vec<u8>)> {
        std::iter::from_fn(|| production.poll_slice())
            .map(|slice| {
                let content = SliceContent::parse(slice.id.index, &slice.payload).unwrap();
                (content.parent, content.transactions().map(|transaction| transaction[0]).collect())
            })
            .collect()
    }

    #[test]
    fn a_slice_leaves_when_due_when_full_and_the_last_at_the_deadline() {
        let (mut production, mut pool) = (Production::new(config()), pool());
        begin(&mut production, 4, block(3));
        assert_eq!(production.next_timeout(), Some(START));
        production.advance(START, &pool);
        assert_eq!(leaving(&mut production), [(4, 0, false)], "a window's first slice does not wait");
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
        assert!(production.slice_sent(&sent(4, 3)).is_some());
        production.block_complete(at(405), block(4));
        assert_eq!(production.next_timeout(), Some(at(415)), "the parent statement is the slice's first byte");
    }

    #[test]
    fn defect_19_late_sending_does_not_make_blocks_longer() {
        let (mut production, pool) = (Production::new(config()), pool());
        begin(&mut production, 4, block(3));
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
        begin(&mut production, 1, BlockId::GENESIS);
        production.advance(Time(START.0 - 1), &pool);
        assert!(leaving(&mut production).is_empty(), "the start lies ahead");
        production.advance(START, &pool);
        assert_eq!(leaving(&mut production), [(1, 0, false)]);
        for slot in 1..4 {
            production.advance(at(400 * slot), &pool);
            assert_eq!(leaving(&mut production), [(slot, usize::from(slot == 1), true)]);
            production.block_complete(at(400 * slot), block(slot));
        }
        assert_eq!(production.slot(), None);
    }

    #[test]
    fn slices_in_flight_are_bounded_and_go_on_when_some_are_sent() {
        let (mut production, mut pool) = (Production::new(config()), pool());
        (0..20).for_each(|number| add(&mut pool, number, 1_024));
        begin(&mut production, 4, block(3));
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
        begin(&mut production, 4, block(3));
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
        let on_chain = BTreeSet::from([TransactionId::of(&bytes)]);
        production.stream(START, Slot(4), block(3), Selection::excluding(on_chain, None));
        production.ready(START);
        production.advance(START, &pool);
        production.advance(at(400), &pool);
        let packed: Vec<u8> = contents(&mut production).into_iter().flat_map(|(_, packed)| packed).collect();
        assert_eq!(packed, [0, 1, 2, 4, 5, 6, 7, 8, 9]);
    }

    #[test]
    fn what_is_streamed_goes_on_when_its_parent_is_ready() {
        let (mut production, mut pool) = (Production::new(config()), pool());
        production.stream(START, Slot(4), block(3), Selection::default());
        assert_eq!(production.streaming(), Some((Slot(4), block(3))));
        production.advance(START, &pool);
        assert_eq!(leaving(&mut production), [(4, 0, false)]);
        assert_eq!(production.next_timeout(), None, "a block without an end has no deadline");
        add(&mut pool, 1, 300);
        production.advance(at(600), &pool);
        production.advance(at(610), &pool);
        assert_eq!(contents(&mut production), [(ParentStatement::Nothing, vec![1])]);
        add(&mut pool, 2, 300);
        production.advance(at(695), &pool);
        production.ready(at(700));
        assert_eq!((production.streaming(), production.next_timeout()), (None, Some(at(705))));
        production.advance(at(705), &pool);
        assert_eq!(contents(&mut production), [(ParentStatement::Nothing, vec![2])]);
        assert_eq!(production.next_timeout(), Some(at(1_100)), "from then on it takes a slot's time");
        production.advance(at(1_100), &pool);
        assert_eq!(leaving(&mut production), [(4, 3, true)]);
        production.block_complete(at(1_101), block(4));
        production.advance(at(1_500), &pool);
        assert_eq!(leaving(&mut production), [(5, 0, true)]);
    }

    #[test]
    fn another_parent_is_stated_once_and_everything_is_packed_again() {
        let (mut production, mut pool) = (Production::new(config()), pool());
        let other = BlockId { slot: Slot(2), ..block(3) };
        (0..3).for_each(|number| add(&mut pool, number, 600));
        let mut bytes = vec![0; 600];
        bytes[0] = 2;
        let on_chain = BTreeSet::from([TransactionId::of(&bytes)]);
        production.stream(START, Slot(4), block(3), Selection::excluding(on_chain, None));
        production.advance(START, &pool);
        assert_eq!(contents(&mut production), [(ParentStatement::Parent(block(3)), vec![0])]);
        production.change_parent(at(5), other, Selection::default());
        production.ready(at(5));
        production.advance(at(5), &pool);
        assert_eq!(
            contents(&mut production),
            [(ParentStatement::Changed(other), vec![0]), (ParentStatement::Nothing, vec![1]),]
        );
        production.advance(at(405), &pool);
        assert_eq!(contents(&mut production), [(ParentStatement::Nothing, vec![2])]);
        production.block_complete(at(406), block(4));
        production.advance(at(805), &pool);
        assert_eq!(contents(&mut production), [(ParentStatement::Parent(block(4)), vec![])]);
    }

    #[test]
    #[should_panic(expected = "a window is streamed")]
    fn a_parent_changes_once_at_most() {
        let mut production = Production::new(config());
        production.stream(START, Slot(4), block(3), Selection::default());
        production.change_parent(START, block(2), Selection::default());
        production.ready(START);
        production.change_parent(START, block(3), Selection::default());
    }

    #[test]
    fn before_anything_was_sent_another_parent_is_simply_the_parent() {
        let (mut production, pool) = (Production::new(config()), pool());
        production.stream(START, Slot(4), block(3), Selection::default());
        production.change_parent(START, block(2), Selection::default());
        production.ready(START);
        production.advance(START, &pool);
        assert_eq!(contents(&mut production), [(ParentStatement::Parent(block(2)), vec![])]);
    }

    #[test]
    fn half_of_the_slices_are_kept_for_after_a_change_of_parent() {
        for slices_max in [1, 2, 5, 100, SLICES_MAX] {
            let config = ProductionConfig { in_flight_max: usize::MAX, slices_max, ..config() };
            let (mut production, mut pool) = (Production::new(config), pool());
            (0..1_100).for_each(|number| add(&mut pool, number, 1_024));
            production.stream(START, Slot(4), block(3), Selection::default());
            production.advance(START, &pool);
            production.advance(at(50), &pool);
            assert_eq!(leaving(&mut production).len(), slices_max / 2, "of {slices_max}");
            assert_eq!(production.next_timeout(), None, "what must wait does not wake the loop");
            production.change_parent(at(60), block(2), Selection::default());
            production.ready(at(60));
            production.advance(at(60), &pool);
            production.advance(at(460), &pool);
            let rest = contents(&mut production);
            assert_eq!(rest.len(), slices_max - slices_max / 2, "of {slices_max}");
            let changes = |(statement, _): &&_| matches!(statement, ParentStatement::Changed(_));
            assert_eq!(rest.iter().filter(changes).count(), usize::from(slices_max > 1));
        }
    }

    #[test]
    fn a_stopped_leader_sends_nothing_more() {
        let (mut production, mut pool) = (Production::new(config()), pool());
        (0..20).for_each(|number| add(&mut pool, number, 1_024));
        production.stream(START, Slot(4), block(3), Selection::default());
        production.advance(START, &pool);
        production.stop();
        production.advance(at(500), &pool);
        assert!(leaving(&mut production).is_empty());
        assert_eq!((production.slot(), production.streaming(), production.next_timeout()), (None, None, None));
        assert!(production.slice_sent(&sent(4, 0)).is_none());
    }
}
