//! One node as seen from outside: what it was told, what it showed that it holds, and what it said.

use std::collections::{BTreeMap, BTreeSet};

use alpenglow_control::certificate::Statement;
use alpenglow_control::vote::VotePayload;
use alpenglow_rotor::types::{BlockId, Hash, Slot, Time};

/// A validator's first vote: for a block, or to skip.
type First = Option<Hash>;

#[derive(Default)]
pub(super) struct View {
    /// Of its certificates it sends each one once, so these are all that it ever held.
    pub(super) certificates: BTreeSet<Statement>,
    /// Blocks that it held once, and their parents.
    pub(super) blocks: BTreeMap<BlockId, BlockId>,
    /// First votes that reached it, own ones included. Liars may have sent several; only one of them counts.
    pub(super) first_votes: BTreeMap<Slot, BTreeMap<usize, BTreeSet<First>>>,
    /// Votes that left it, in all its lives.
    pub(super) cast: BTreeMap<Slot, Vec<VotePayload>>,
    /// Slots whose leader it saw contradict itself, in this life.
    pub(super) equivocated: BTreeSet<Slot>,
    /// The highest slot that it finalized by certificate, in this life.
    pub(super) closed: Slot,
    /// The highest slot that it finalized a block of, in all its lives.
    pub(super) finalized: Slot,
    /// When a window was ready by its clock, by the window's first slot, in this life.
    pub(super) ready_at: BTreeMap<Slot, Time>,
    /// When a window's leader was first heard of in the window's first slot, in this life.
    pub(super) leaders_seen: BTreeMap<Slot, Time>,
    /// Up to where it had reserved slots when this life began.
    pub(super) reserved_before: Slot,
    pub(super) lost_blocks: bool,
    pub(super) has_started: bool,
    pub(super) has_restarted: bool,
    /// The last block that it handed over or passed by, in this life, or that its log ended with.
    pub(super) tip: Option<BlockId>,
}

impl View {
    pub(super) fn starts(&mut self, now: Time, reservation: Slot, tip: Option<BlockId>) {
        self.reserved_before = reservation;
        self.has_restarted = self.has_started;
        self.has_started = true;
        self.ready_at = [(Slot(1), now)].into();
        self.leaders_seen.clear();
        self.equivocated.clear();
        self.closed = Slot::GENESIS;
        self.tip = tip;
    }

    pub(super) fn first_vote(&mut self, voter: usize, vote: VotePayload) {
        let first = match vote {
            VotePayload::Notar(block) => Some(block.hash),
            VotePayload::Skip(_) => None,
            _ => return,
        };
        self.first_votes.entry(vote.slot()).or_default().entry(voter).or_default().insert(first);
    }

    pub(super) fn has_cast(&self, vote: &VotePayload) -> bool {
        self.cast.get(&vote.slot()).is_some_and(|votes| votes.contains(vote))
    }

    pub(super) fn is_notarized(&self, block: BlockId) -> bool {
        [Statement::Notarization(block), Statement::Fast(block)].iter().any(|held| self.certificates.contains(held))
    }

    pub(super) fn is_certified(&self, block: BlockId) -> bool {
        block == BlockId::GENESIS
            || self.is_notarized(block)
            || self.certificates.contains(&Statement::NotarFallback(block))
    }

    pub(super) fn is_finalized(&self, block: BlockId) -> bool {
        let slowly = self.certificates.contains(&Statement::Finalization(block.slot)) && self.is_notarized(block);
        block == BlockId::GENESIS || self.certificates.contains(&Statement::Fast(block)) || slowly
    }

    /// ParentReady: certified, and nothing but skipped slots from there to the window that begins at `slot`.
    pub(super) fn is_ready(&self, slot: Slot, parent: BlockId) -> bool {
        let mut between = (parent.slot.0 + 1..slot.0).map(Slot);
        self.is_certified(parent) && between.all(|slot| self.certificates.contains(&Statement::Skip(slot)))
    }

    /// Whether first votes that reached it allow a notar-fallback vote for a block. `stakes` are those of its slot.
    pub(super) fn is_safe_to_notar(&self, block: BlockId, stakes: &[u64]) -> bool {
        let stake_of = |counts: &dyn Fn(&BTreeSet<First>) -> bool| -> u64 {
            let votes = self.first_votes.get(&block.slot).into_iter().flatten();
            votes.filter(|(_, votes)| counts(votes)).map(|(voter, _)| stakes[*voter]).sum()
        };
        let total: u64 = stakes.iter().sum();
        let notar = stake_of(&|votes| votes.contains(&Some(block.hash)));
        let notar_or_skip = stake_of(&|votes| votes.contains(&Some(block.hash)) || votes.contains(&None));
        5 * notar >= 2 * total || 5 * notar_or_skip >= 3 * total && 5 * notar >= total
    }

    /// Whether they allow a skip-fallback vote. Of several first votes of a liar the one that allows most counts.
    pub(super) fn is_safe_to_skip(&self, slot: Slot, stakes: &[u64]) -> bool {
        let Some(votes) = self.first_votes.get(&slot) else { return false };
        let voted: u64 = votes.keys().map(|voter| stakes[*voter]).sum();
        let mut only_for: BTreeMap<Hash, u64> = BTreeMap::new();
        for (voter, votes) in votes {
            if let (Some(Some(hash)), 1) = (votes.first(), votes.len()) {
                *only_for.entry(*hash).or_default() += stakes[*voter];
            }
        }
        let most = only_for.values().max().copied().unwrap_or_default();
        5 * (voted - most) >= 2 * stakes.iter().sum::<u64>()
    }
}
