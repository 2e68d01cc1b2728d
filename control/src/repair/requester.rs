//! Blocks that are needed, and the requests that bring them.

mod ancestors;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use alpenglow_rotor::parameters::CodingParameters;
use alpenglow_rotor::recoder::Recoder;
use alpenglow_rotor::types::{BlockId, Hash, Slot, Time, ValidatorIndex};

use super::fetch::{Fetch, Outcome, Pending, SliceSource};
use super::peers::{AskingLimits, Peers, Urgency};
use super::responder::slice_cost;
use super::wire::{
    AnswerContent, REPAIR_BODY_BYTES_MAX, RepairAnswer, RepairRequest, RequestId, SHREDS_PER_REQUEST, ShredPart, Want,
    part_bytes,
};
use super::{RepairStatistics, Repaired};
use crate::block::InvalidBlock;
use crate::counters::Counters;
use crate::stakes::Stakes;

/// Requests under way. At most [`super::wire::SHREDS_PER_REQUEST`] datagrams answer each, which the receive buffers of
/// a node have room for.
const REQUESTS_MAX: usize = 64;
/// Blocks that may be needed at a time. The Pool asks for a few in a slot, and slots past the hand-over are forgotten.
const BLOCKS_MAX: usize = 1_024;
/// Blocks that are asked for at a time.
pub const REPAIRED_AT_A_TIME_MAX: usize = 16;
/// Requests under way beyond which none leaves for what can wait.
const REQUESTS_OF_WAITING_MAX: usize = REQUESTS_MAX / 2;
/// Each attempt waits twice as long as the one before for its answer, up to so many times.
const DOUBLINGS_MAX: u8 = 3;
/// When nobody may be asked now, somebody may be after this long.
const BUSY: Duration = Duration::from_millis(20);

/// How blocks are asked for.
#[derive(Clone, Copy, Debug)]
pub struct RequestLimits {
    /// No request leaves for a block of an open slot before so much time passed without a slice of that slot: Rotor may
    /// still be bringing it.
    pub grace: Duration,
    /// How long the first request for something waits for its answer before another peer is asked.
    pub answer_timeout: Duration,
    /// Most memory of blocks on their way; a single larger one is not fetched.
    pub bytes_max: usize,
    /// What a peer is asked for.
    pub asking: AskingLimits,
}

/// A request without a full answer.
struct Open {
    block: BlockId,
    peer: ValidatorIndex,
    pending: Pending,
    due: Time,
    /// The first group of roots, if it came before the last slice's proof.
    early_roots: Option<(Vec<Hash>, Vec<Hash>)>,
    /// Parts of shreds that take more than one datagram.
    parts: BTreeMap<u16, BTreeMap<u8, Vec<u8>>>,
}

/// What an answer was.
enum Answered {
    /// Right, and more is to come.
    InPart,
    /// Right, and all there is.
    InFull,
    /// These, from the parent downwards, if it is right.
    Ancestors(Vec<BlockId>),
    /// That there is none.
    NotHeld,
    /// Something that no node that follows the protocol answers.
    Wrongly,
}

/// See the module.
pub struct Requester {
    limits: RequestLimits,
    coding: CodingParameters,
    peers: Peers,
    recoder: Recoder,
    fetches: BTreeMap<BlockId, Fetch>,
    reserved_bytes: usize,
    open: BTreeMap<RequestId, Open>,
    timers: BTreeSet<(Time, RequestId)>,
    next_id: u32,
    closed_through: Slot,
    /// Nobody needs blocks up to this slot.
    settled_through: Slot,
    /// When to look again whether anybody may be asked.
    retry_at: Option<Time>,
    /// When it was last looked what may be sent.
    advanced: Time,
    outgoing: VecDeque<(ValidatorIndex, RepairRequest)>,
    repaired: VecDeque<Repaired>,
    statistics: RepairStatistics,
}

/// How much a block is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// When Rotor has brought nothing of its slot for a while.
    Soon,
    /// At once.
    Now,
    /// At once: it is final, and so are its ancestors.
    Final,
}

impl Requester {
    /// For validator `own`. `seed` decides whom it asks.
    #[must_use]
    pub fn new(
        limits: RequestLimits,
        coding: CodingParameters,
        recoder: Recoder,
        own: ValidatorIndex,
        stakes: &Stakes,
        seed: [u8; 32],
    ) -> Self {
        Self {
            peers: Peers::new(own, stakes, limits.asking, seed),
            limits,
            coding,
            recoder,
            fetches: BTreeMap::new(),
            reserved_bytes: 0,
            open: BTreeMap::new(),
            timers: BTreeSet::new(),
            next_id: 0,
            closed_through: Slot::GENESIS,
            settled_through: Slot::GENESIS,
            retry_at: None,
            advanced: Time(0),
            outgoing: VecDeque::new(),
            repaired: VecDeque::new(),
            statistics: RepairStatistics::default(),
        }
    }

    /// A block is needed. Whether that is news.
    pub fn need(&mut self, now: Time, block: BlockId, need: Need, counters: &mut Counters) -> bool {
        let starts = if need == Need::Soon { now.after(self.limits.grace) } else { now };
        if let Some(fetch) = self.fetches.get_mut(&block) {
            fetch.can_wait = false;
            fetch.starts = fetch.starts.min(starts);
            fetch.is_final |= need == Need::Final;
            if fetch.named_by.take().is_some()
                && let Some(outcome) = fetch.kept.take()
            {
                self.finish(now, block, outcome, counters);
            }
        } else if self.fetches.len() < BLOCKS_MAX {
            let mut fetch = Fetch::new(block, now, starts);
            fetch.is_final = need == Need::Final;
            self.fetches.insert(block, fetch);
            return true;
        } else {
            counters.count("repair_blocks_too_many");
        }
        false
    }

    /// The block log lacks a block, whose slot may be closed long since. It waits for all others, and when nobody has
    /// it, it is given up.
    pub fn need_for_log(&mut self, now: Time, block: BlockId, counters: &mut Counters) {
        let can_wait = self.fetches.get(&block).is_none_or(|fetch| fetch.can_wait);
        self.need(now, block, Need::Now, counters);
        if let Some(fetch) = self.fetches.get_mut(&block) {
            (fetch.for_log, fetch.can_wait) = (true, can_wait);
        }
    }

    /// A slice of this slot came from its leader.
    pub fn slice_came(&mut self, now: Time, slot: Slot) {
        let grace_ends = now.after(self.limits.grace);
        for fetch in self.of_slot(slot).filter(|fetch| fetch.starts > now) {
            fetch.starts = grace_ends;
        }
    }

    /// Nothing of this slot is to be waited for any more.
    pub fn hurry(&mut self, now: Time, slot: Slot) {
        for fetch in self.of_slot(slot) {
            fetch.starts = fetch.starts.min(now);
        }
    }

    fn of_slot(&mut self, slot: Slot) -> impl Iterator<Item = &mut Fetch> {
        self.fetches.range_mut(first_of(slot)..first_of(slot.next())).map(|(_, fetch)| fetch)
    }

    /// Slots up to this one are closed. Blocks of later ones are asked for first.
    pub fn close(&mut self, now: Time, through: Slot) {
        if through > self.closed_through {
            self.closed_through = through;
            for (_, fetch) in self.fetches.range_mut(..first_of(through.next())) {
                fetch.starts = fetch.starts.min(now);
            }
        }
    }

    /// A block is held now, or dead: nothing more is asked for.
    pub fn satisfied(&mut self, block: BlockId) {
        if let Some(fetch) = self.fetches.remove(&block) {
            self.release(&fetch);
        }
    }

    /// Nobody needs blocks up to this slot any more.
    pub fn forget_through(&mut self, slot: Slot) {
        self.settled_through = self.settled_through.max(slot);
        let through = self.fetches.range(..first_of(slot.next()));
        let over = through.filter(|(_, fetch)| !fetch.for_log).map(|(id, _)| *id);
        for block in over.collect::<Vec<_>>() {
            self.satisfied(block);
        }
    }

    fn release(&mut self, fetch: &Fetch) {
        self.reserved_bytes -= fetch.reserved_bytes;
        if fetch.open > 0 {
            self.call_off(fetch.id);
        }
    }

    /// Nothing is awaited for a block any more.
    fn call_off(&mut self, block: BlockId) {
        let over: Vec<RequestId> =
            self.open.iter().filter(|(_, open)| open.block == block).map(|(id, _)| *id).collect();
        for id in over {
            let open = self.end(id).expect("it was just seen");
            self.peers.released(open.peer);
        }
    }

    const fn slice_bytes(&self) -> usize {
        self.coding.data_shreds() * self.coding.shred_bytes()
    }

    /// Takes in an answer from the validator that authenticated it.
    ///
    /// # Errors
    /// The reason to count why it was of no use.
    pub fn answer(
        &mut self,
        now: Time,
        answer: RepairAnswer,
        sender: ValidatorIndex,
        held: &dyn SliceSource,
        counters: &mut Counters,
    ) -> Result<(), &'static str> {
        let Some(open) = self.open.get_mut(&answer.id).filter(|open| open.peer == sender) else {
            return Err("repair_answer_not_awaited");
        };
        let block = open.block;
        let fetch = self.fetches.get_mut(&block).expect("requests end with their block");
        let answered = take(open, fetch, answer.content, &self.coding, &mut self.recoder, held);
        let pending = open.pending;
        // The ancestors of a final block are final: theirs is fetched beside its own slices, not after them.
        let parent = fetch.named_parent().filter(|_| fetch.is_final);
        let outcome = fetch.outcome();
        match answered {
            Ok(Answered::InPart) => {}
            Ok(Answered::InFull) => {
                self.end(answer.id);
                self.peers.answered(sender);
            }
            Ok(Answered::Ancestors(named)) => {
                self.end(answer.id);
                self.peers.answered(sender);
                self.follow_down(now, sender, &named, held);
            }
            Ok(Answered::NotHeld) => {
                fetch.lacking.insert(sender);
                fetch.pending.push_front(pending);
                self.end(answer.id);
                self.peers.released(sender);
                self.statistics.not_held += 1;
            }
            Ok(Answered::Wrongly) => {
                fetch.pending.push_front(Pending { attempts: pending.attempts.saturating_add(1), ..pending });
                self.end(answer.id);
                self.peers.lied(now, sender);
                return Err("repair_answer_wrong");
            }
            Err(defect) => self.finish(now, block, Err(defect), counters),
        }
        if let Some(outcome) = outcome {
            self.finish(now, block, outcome, counters);
        }
        if let Some(parent) = parent.filter(|parent| !held.is_settled(*parent) && !self.fetches.contains_key(parent)) {
            self.need(now, parent, Need::Final, counters);
        }
        Ok(())
    }

    fn finish(&mut self, now: Time, block: BlockId, outcome: Outcome, counters: &mut Counters) {
        let fetch = self.fetches.get_mut(&block).expect("a block ends once");
        if fetch.named_by.is_some() {
            fetch.pending.clear();
            fetch.kept = Some(outcome);
            self.call_off(block);
            return;
        }
        let fetch = self.fetches.remove(&block).expect("it was just seen");
        self.release(&fetch);
        if let Ok(block) = &outcome
            && fetch.is_final
        {
            self.compare_named(now, block.id, block.parent, counters);
        }
        self.statistics.blocks += u64::from(outcome.is_ok());
        self.repaired.push_back(Repaired {
            id: block,
            outcome: outcome.map(Arc::new),
            took: now.since(fetch.needed),
            requests: fetch.requests,
            for_log: fetch.for_log,
        });
    }

    /// A request is over.
    fn end(&mut self, id: RequestId) -> Option<Open> {
        let open = self.open.remove(&id)?;
        self.timers.remove(&(open.due, id));
        if let Some(fetch) = self.fetches.get_mut(&open.block) {
            fetch.open -= 1;
        }
        Some(open)
    }

    /// Gives up requests that were not answered in time, and sends what may be sent.
    pub fn advance(&mut self, now: Time, counters: &mut Counters) {
        while let Some(&(due, id)) = self.timers.first()
            && due <= now
        {
            let Some(Open { block, peer, pending, .. }) = self.end(id) else { continue };
            let fetch = self.fetches.get_mut(&block).expect("requests end with their block");
            fetch.pending.push_front(Pending { attempts: pending.attempts.saturating_add(1), ..pending });
            self.peers.silent(now, peer);
            counters.count("repair_request_timeout");
        }
        (self.retry_at, self.advanced) = (None, now);
        self.look_down();
        if self.open.len() < REQUESTS_MAX {
            for block in self.in_order(now) {
                self.ask_for(now, block, counters);
            }
        }
    }

    /// Blocks that something may be asked of: those whose ancestors are to be asked for, so that the way down is soon
    /// known; those of open slots, which votes wait for; then the lowest that are needed; then those that were only
    /// named, the highest first, since it is from above that they come to be needed; then those that can wait.
    fn in_order(&self, now: Time) -> Vec<BlockId> {
        let split = first_of(self.closed_through.next());
        let descending = self.fetches.iter().filter(|(_, fetch)| fetch.descends());
        let needed = self.fetches.range(split..).chain(self.fetches.range(..split));
        let needed = needed.filter(|(_, fetch)| fetch.named_by.is_none() && !fetch.can_wait);
        let named = self.fetches.iter().rev().filter(|(_, fetch)| fetch.named_by.is_some() && fetch.kept.is_none());
        let can_wait = self.fetches.iter().filter(|(_, fetch)| fetch.can_wait);
        let others = needed.chain(named).chain(can_wait).filter(|(_, fetch)| !fetch.descends());
        let active = descending
            .chain(others)
            .filter(|(_, fetch)| fetch.starts <= now && fetch.paused_until <= now)
            .take(REPAIRED_AT_A_TIME_MAX);
        active.filter(|(_, fetch)| !fetch.pending.is_empty()).map(|(&block, _)| block).collect()
    }

    fn ask_for(&mut self, now: Time, block: BlockId, counters: &mut Counters) {
        if !self.fetches.contains_key(&block) {
            // It was only named, and has just made room for one before it.
            return;
        }
        if !self.has_memory(block) {
            let bytes = self.slice_bytes() * self.fetches[&block].length();
            if bytes > self.limits.bytes_max {
                counters.count("repair_block_too_long");
                self.satisfied(block);
            }
            return;
        }
        let fetch = self.fetches.get_mut(&block).expect("it was just seen");
        let (urgency, requests_max) =
            if fetch.can_wait { (Urgency::CanWait, REQUESTS_OF_WAITING_MAX) } else { (Urgency::Now, REQUESTS_MAX) };
        while self.open.len() < requests_max
            && let Some(pending) = fetch.pending.pop_front()
        {
            let cost = match pending.want {
                Want::LastSlice | Want::Roots { .. } | Want::Ancestors => 2 * REPAIR_BODY_BYTES_MAX as u64,
                Want::Shreds { .. } => slice_cost(&self.coding),
            };
            // Of a block of an earlier epoch: those that are there now; they had to follow before.
            let epoch_of = block.slot.max(self.closed_through);
            let lacks = |peer| fetch.lacking.contains(&peer);
            let Some(peer) = self.peers.choose(now, cost, urgency, epoch_of, lacks) else {
                fetch.pending.push_front(pending);
                if fetch.lacking.len() >= self.peers.others(epoch_of) {
                    self.held_by_nobody(now, block, counters);
                } else {
                    self.retry_at = Some(now.after(BUSY));
                }
                return;
            };
            let id = RequestId(self.next_id);
            self.next_id = self.next_id.wrapping_add(1);
            let due = now.after(self.limits.answer_timeout * (1 << pending.attempts.min(DOUBLINGS_MAX)));
            let open = Open { block, peer, pending, due, early_roots: None, parts: BTreeMap::new() };
            assert!(self.open.insert(id, open).is_none(), "far fewer requests are open than there are identities");
            self.timers.insert((due, id));
            self.peers.asked(peer, cost);
            fetch.open += 1;
            fetch.requests += 1;
            self.statistics.requests += 1;
            self.outgoing.push_back((peer, RepairRequest { id, block, want: pending.want }));
        }
    }

    /// All others said that they lack a block: after a while they are asked once more, but not for the log alone.
    fn held_by_nobody(&mut self, now: Time, block: BlockId, counters: &mut Counters) {
        let fetch = self.fetches.get_mut(&block).expect("it was just seen");
        if fetch.for_log && block.slot <= self.closed_through {
            counters.count("repair_block_nowhere");
            self.satisfied(block);
        } else {
            fetch.lacking.clear();
            fetch.paused_until = now.after(2 * self.limits.answer_timeout);
        }
    }

    /// Whether there is memory for the block's slices, which are not asked for before. What was only named makes room
    /// for what is needed.
    fn has_memory(&mut self, block: BlockId) -> bool {
        let fetch = &self.fetches[&block];
        let bytes = self.slice_bytes() * fetch.length();
        if bytes == 0 || fetch.reserved_bytes > 0 {
            return true;
        }
        let can_wait = fetch.can_wait;
        if fetch.named_by.is_none() && !can_wait && bytes <= self.limits.bytes_max {
            self.make_room(bytes);
        }
        // What can wait leaves half of it, unless it takes more alone.
        let share = if can_wait && self.reserved_bytes > 0 { 2 } else { 1 };
        if self.reserved_bytes + bytes > self.limits.bytes_max / share {
            return false;
        }
        self.reserved_bytes += bytes;
        self.fetches.get_mut(&block).expect("it was just seen").reserved_bytes = bytes;
        true
    }

    /// What was done since the start.
    #[must_use]
    pub const fn statistics(&self) -> RepairStatistics {
        self.statistics
    }

    /// The next request to send.
    pub fn poll_request(&mut self) -> Option<(ValidatorIndex, RepairRequest)> {
        self.outgoing.pop_front()
    }

    /// The next block that ended.
    pub fn poll_repaired(&mut self) -> Option<Repaired> {
        self.repaired.pop_front()
    }

    /// When [`Self::advance`] has something to do next.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Time> {
        let answer = self.timers.first().map(|(due, _)| *due);
        // What could have been asked for then, and was not, waits for an answer to something else.
        let start = self.fetches.values().map(|fetch| fetch.starts.max(fetch.paused_until));
        let start = start.filter(|time| *time > self.advanced).min();
        [answer, start, self.retry_at].into_iter().flatten().min()
    }
}

/// Not after any block of the slot, and after all of the slots before.
const fn first_of(slot: Slot) -> BlockId {
    BlockId { slot, hash: Hash([0; 32]) }
}

/// Takes an answer to `open` to its block. An error is a defect of the block.
fn take(
    open: &mut Open,
    fetch: &mut Fetch,
    content: AnswerContent,
    coding: &CodingParameters,
    recoder: &mut Recoder,
    held: &dyn SliceSource,
) -> Result<Answered, InvalidBlock> {
    let ok = |right: bool, answered: Answered| Ok(if right { answered } else { Answered::Wrongly });
    match (open.pending.want, content) {
        (_, AnswerContent::NotHeld) => Ok(Answered::NotHeld),
        (Want::Ancestors, AnswerContent::Ancestors { blocks }) => {
            Ok(if descend(fetch.id, &blocks) { Answered::Ancestors(blocks) } else { Answered::Wrongly })
        }
        (Want::LastSlice, AnswerContent::LastSlice { index, root, path }) => {
            if !fetch.last_slice(index, root, &path) {
                return Ok(Answered::Wrongly);
            }
            // What is still to come of the answer; asked for again if it does not.
            open.pending = Pending { want: Want::Roots { group: 0 }, attempts: 0 };
            match open.early_roots.take() {
                Some((roots, path)) => ok(fetch.roots(0, &roots, &path, coding, held), Answered::InFull),
                None => Ok(Answered::InPart),
            }
        }
        (Want::LastSlice, AnswerContent::Roots { group: 0, roots, path }) => {
            open.early_roots = Some((roots, path));
            Ok(Answered::InPart)
        }
        // The network delivered it twice.
        (Want::Roots { group: 0 }, AnswerContent::LastSlice { .. }) => Ok(Answered::InPart),
        (Want::Roots { group }, AnswerContent::Roots { group: answered, roots, path }) if group == answered => {
            ok(fetch.roots(group, &roots, &path, coding, held), Answered::InFull)
        }
        (Want::Shreds { slice, first, mask }, AnswerContent::Shred(part)) => {
            let index = part.index.get();
            let Some(bit) = index.checked_sub(usize::from(first)).filter(|bit| *bit < SHREDS_PER_REQUEST) else {
                return Ok(Answered::Wrongly);
            };
            if part.path.len() != coding.path_nodes() || usize::from(part.data_bytes) > coding.shred_bytes() {
                return Ok(Answered::Wrongly);
            }
            if mask >> bit & 1 == 0 {
                // The network delivered it twice.
                return Ok(Answered::InPart);
            }
            let path = part.path.clone();
            let data = match join(open, part, coding) {
                Joined::Whole(data) => data,
                Joined::Part => return Ok(Answered::InPart),
                Joined::Wrong => return Ok(Answered::Wrongly),
            };
            if !fetch.shred(slice, index, &path, data, recoder)? {
                return Ok(Answered::Wrongly);
            }
            let mask = mask & !(1 << bit);
            open.pending.want = Want::Shreds { slice, first, mask };
            Ok(if mask == 0 { Answered::InFull } else { Answered::InPart })
        }
        _ => Ok(Answered::Wrongly),
    }
}

/// Whether the blocks can be ancestors, each of those before it.
fn descend(block: BlockId, ancestors: &[BlockId]) -> bool {
    let slots = std::iter::once(block.slot).chain(ancestors.iter().map(|ancestor| ancestor.slot));
    slots.is_sorted_by(|child, parent| child > parent)
        && ancestors.iter().all(|ancestor| ancestor.slot > Slot::GENESIS || *ancestor == BlockId::GENESIS)
}

enum Joined {
    Whole(Vec<u8>),
    Part,
    Wrong,
}

/// Puts the parts of a shred together.
fn join(open: &mut Open, part: ShredPart, coding: &CodingParameters) -> Joined {
    let (total, part_bytes, at) = (usize::from(part.data_bytes), part_bytes(coding), usize::from(part.part));
    let expected = total.saturating_sub(at * part_bytes).min(part_bytes);
    if part.data.len() != expected {
        return Joined::Wrong;
    }
    if total <= part_bytes {
        return Joined::Whole(part.data);
    }
    let parts = open.parts.entry(part.index.0).or_default();
    parts.insert(part.part, part.data);
    if parts.values().map(Vec::len).sum::<usize>() < total {
        return Joined::Part;
    }
    let data = parts.values().flatten().copied().collect();
    open.parts.remove(&part.index.0);
    Joined::Whole(data)
}
