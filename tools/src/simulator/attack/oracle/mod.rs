//! What must hold in any run, restated from the protocol: nothing here comes from the code that decides.

mod certificates;
mod decisions;
mod patience;
#[cfg(test)]
mod tests;
mod view;
mod votes;

use std::collections::{BTreeMap, BTreeSet};

use alpenglow_control::input::Input;
use alpenglow_control::message::Message;
use alpenglow_control::output::{Event, Output};
use alpenglow_control::production::OutgoingSlice;
use alpenglow_control::vote::VotePayload;
use alpenglow_control::vote_record::Entry;
use alpenglow_rotor::slice::SliceId;
use alpenglow_rotor::types::{BlockId, Hash, Slot, Time};

use self::patience::Patience;
use self::view::View;
use super::cluster::StakeTable;
use super::disk::Disk;
use super::fault::Nodes;
use super::happened::Happened;

/// Watches what all nodes put out.
pub(super) struct Oracle {
    table: StakeTable,
    views: Vec<View>,
    liars: BTreeSet<usize>,
    /// Who has a crashed-leader timer.
    crashed_leader_timers: Nodes,
    keeps_blocks: bool,
    /// What slots hold, by whoever said so first.
    slots: BTreeMap<Slot, Option<Hash>>,
    /// Votes that left a node, liars included.
    signed: BTreeSet<(usize, VotePayload)>,
    /// Correct nodes that held a block once.
    holders: BTreeMap<BlockId, BTreeSet<usize>>,
    /// Blocks that a correct node took for dead.
    dead: BTreeSet<BlockId>,
    slices: BTreeMap<SliceId, OutgoingSlice>,
    pub(super) happened: Happened,
    /// The first rule that was broken.
    pub(super) violation: Option<String>,
}

impl Oracle {
    pub(super) fn new(
        table: StakeTable,
        liars: BTreeSet<usize>,
        crashed_leader_timers: Nodes,
        keeps_blocks: bool,
    ) -> Self {
        Self {
            views: (0..table.nodes()).map(|_| View::default()).collect(),
            table,
            liars,
            crashed_leader_timers,
            keeps_blocks,
            slots: BTreeMap::new(),
            signed: BTreeSet::new(),
            holders: BTreeMap::new(),
            dead: BTreeSet::new(),
            slices: BTreeMap::new(),
            happened: Happened::default(),
            violation: None,
        }
    }

    pub(super) fn violated(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    pub(super) fn is_liar(&self, node: usize) -> bool {
        self.liars.contains(&node)
    }

    /// The highest slot that `node` finalized a block of.
    pub(super) fn finalized(&self, node: usize) -> Slot {
        self.views[node].finalized
    }

    /// The highest slot that `node` handed over in its present life.
    pub(super) fn handed_over(&self, node: usize) -> Slot {
        self.views[node].tip.unwrap_or(BlockId::GENESIS).slot
    }

    pub(super) fn has_restarted(&self, node: usize) -> bool {
        self.views[node].has_restarted
    }

    /// Blocks that correct nodes held once.
    pub(super) fn blocks(&self) -> impl DoubleEndedIterator<Item = BlockId> + '_ {
        self.holders.keys().copied()
    }

    /// A vote left a liar.
    pub(super) fn liar_voted(&mut self, node: usize, vote: VotePayload) {
        self.signed.insert((node, vote));
    }

    /// A vote reaches a node that runs.
    pub(super) fn told(&mut self, node: usize, voter: usize, vote: VotePayload) {
        self.views[node].first_vote(voter, vote);
    }

    /// A node starts, perhaps again, with slots reserved up to there and the chain in its log up to this block.
    pub(super) fn starts(&mut self, node: usize, now: Time, reservation: Slot, tip: Option<BlockId>) {
        self.views[node].starts(now, reservation, tip);
        if let Some(tip) = tip
            && !self.is_liar(node)
            && self.slots.get(&tip.slot) != Some(&Some(tip.hash))
        {
            self.violated(format!("node {node} goes on from {tip}, which nobody said is final"));
        }
    }

    /// A node loses what it had not synced.
    pub(super) fn loses_blocks(&mut self, node: usize) {
        self.views[node].lost_blocks = true;
    }

    /// What a node takes in, and when by its clock.
    pub(super) fn hears(&mut self, node: usize, now: Time, input: &Input) {
        let slot = match input {
            Input::LeaderSeen(slot) => *slot,
            Input::Slice(slice) => slice.id.slot,
            Input::SliceSent(sent) => sent.id.slot,
            _ => return,
        };
        if slot.is_window_first() {
            self.views[node].leaders_seen.entry(slot).or_insert(now);
        }
    }

    /// What a node put out, before anything comes of it, when by its clock, and its disk.
    pub(super) fn see(&mut self, node: usize, now: Time, output: &Output, disk: &Disk) {
        if self.is_liar(node) {
            return;
        }
        match output {
            Output::Record(Entry::Vote(vote)) => self.decided_to_vote(node, now, *vote, disk),
            Output::Broadcast(Message::Vote(vote)) => self.voted(node, vote.payload, disk),
            Output::Broadcast(Message::Certificate(certificate)) => self.certified(node, certificate),
            Output::SendSlice(slice) => self.sent_slice(node, slice, disk),
            Output::Finalized(block) => self.handed(node, block),
            Output::FinalizedGap { after, through } => self.passed_by(node, *after, *through),
            Output::Event(event) => self.event(node, now, event, disk),
            _ => {}
        }
    }

    fn event(&mut self, node: usize, now: Time, event: &Event, disk: &Disk) {
        match event {
            Event::ParentReady { slot, .. } => {
                self.views[node].ready_at.entry(*slot).or_insert(now);
            }
            Event::BlockComplete { block, .. } => self.held(node, block),
            Event::Decided { slot, decision } => self.decided(node, *slot, *decision),
            Event::Equivocation(equivocation) => {
                self.happened.count("equivocations_seen");
                let slot = equivocation.first.id.slot;
                // A vote that was cast before may still wait for its reservation.
                if slot <= disk.durable.reservation {
                    self.views[node].equivocated.insert(slot);
                }
            }
            Event::BlockDead { block, .. } => self.died(node, *block),
            Event::BlockRepaired { .. } => self.happened.count("repaired_blocks"),
            Event::ParentChanged { .. } => self.happened.count("parents_changed"),
            Event::Standstill { .. } => self.happened.count("standstills"),
            Event::Evidence(_) => self.happened.count("conflicts_proven"),
            Event::Contradiction { block, other } => {
                self.violated(format!("node {node} holds both {block} and {other} for final"));
            }
            _ => {}
        }
    }

    /// A vote is written down, once and when it is cast.
    fn decided_to_vote(&mut self, node: usize, now: Time, vote: VotePayload, disk: &Disk) {
        match vote {
            VotePayload::Notar(block) | VotePayload::NotarFallback(block)
                if self.keeps_blocks && !disk.blocks.keeps(block) =>
            {
                self.violated(format!("node {node} casts {vote:?}, but the block may still be lost"));
            }
            VotePayload::Skip(first) if first.is_window_first() => self.gives_up(node, now, first),
            _ => {}
        }
    }

    fn gives_up(&mut self, node: usize, now: Time, first: Slot) {
        match patience::of(&self.views[node], now, first, self.crashed_leader_timers.contains(node)) {
            Patience::Ended => {}
            Patience::CutShort => self.happened.count("windows_given_up_early"),
            Patience::Missing(rule) => self.violated(format!("node {node} skips slot {first}, but {rule}")),
        }
    }

    /// A vote that left before may leave again; any other must be allowed now, and written down.
    fn voted(&mut self, node: usize, vote: VotePayload, disk: &Disk) {
        let view = &self.views[node];
        if view.has_cast(&vote) {
            return;
        }
        let stakes = self.table.at(vote.slot());
        let mut broken = votes::broken_rule(view, node, vote, stakes);
        if vote.slot() > disk.durable.reservation {
            broken = Some("nothing is reserved for it");
        } else if !disk.has(&Entry::Vote(vote)) {
            broken = Some("it is not written down");
        }
        if let Some(rule) = broken {
            let before = view.cast.get(&vote.slot()).cloned().unwrap_or_default();
            self.violated(format!("node {node} casts {vote:?} after {before:?}, but {rule}"));
        }
        let view = &mut self.views[node];
        if view.has_restarted && vote.slot() <= view.reserved_before {
            self.happened.count("votes_within_reservation");
        }
        view.cast.entry(vote.slot()).or_default().push(vote);
        view.first_vote(node, vote);
        self.signed.insert((node, vote));
        match vote {
            VotePayload::NotarFallback(_) => self.happened.count("notar_fallback_votes"),
            VotePayload::SkipFallback(_) => self.happened.count("skip_fallback_votes"),
            VotePayload::Skip(_) => self.happened.count("skip_votes"),
            VotePayload::Notar(_) | VotePayload::Final(_) => {}
        }
    }

    /// Nobody signs two contents of a slice.
    fn sent_slice(&mut self, node: usize, slice: &OutgoingSlice, disk: &Disk) {
        let window = slice.id.slot.window_first();
        if !disk.has(&Entry::Window(window)) || window > disk.durable.reservation {
            self.violated(format!("node {node} sends {:?} of a window that is not written down", slice.id));
        }
        let before = self.slices.entry(slice.id).or_insert_with(|| slice.clone());
        if (before.is_last, before.payload.as_ref()) != (slice.is_last, slice.payload.as_ref()) {
            self.violated(format!("node {node} signs two contents of {:?}", slice.id));
        }
    }
}
