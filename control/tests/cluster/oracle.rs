//! What must be true of any run, restated from the protocol without a look at the code under test.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use alpenglow_control::block::Block;
use alpenglow_control::certificate::{Certificate, Statement};
use alpenglow_control::consensus::Finalization;
use alpenglow_control::message::Message;
use alpenglow_control::output::{Decision, Event, Output};
use alpenglow_control::vote::VotePayload;
use alpenglow_rotor::merkle;
use alpenglow_rotor::recoder::Recoder;
use alpenglow_rotor::slice::Slice;
use alpenglow_rotor::types::{BlockId, Hash, Slot, Time};

use crate::world::recoder;

/// How a slot ended, as tests ask for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    Fast,
    Slow,
    Ancestor,
    Skipped,
}

#[derive(Clone, Default)]
struct OwnVotes {
    notar: Option<Hash>,
    skip: bool,
    fallbacks: Vec<VotePayload>,
    is_final: bool,
}

/// One node as seen from outside.
#[derive(Clone, Default)]
struct Seen {
    /// How, what, and when.
    decided: BTreeMap<Slot, (How, Option<Hash>, Time)>,
    votes: BTreeMap<Slot, OwnVotes>,
    chain: Vec<Arc<Block>>,
    tip: Option<BlockId>,
    gaps: usize,
    /// Votes of its former lives are not known here.
    restarted: bool,
}

/// Watches all outputs of all nodes, and panics when one breaks a rule.
pub(crate) struct Oracle {
    seed: u64,
    nodes: Vec<Seen>,
    /// What slots hold, by whoever said so first.
    slots: BTreeMap<Slot, Option<Hash>>,
    pub(crate) events: Vec<(usize, Time, Event)>,
    recoder: Recoder,
    /// The stakes of all nodes in a slot, where they change.
    pub(crate) stakes_at: Option<fn(u64) -> &'static [u64]>,
}

impl Oracle {
    pub(crate) fn new(nodes: usize, seed: u64) -> Self {
        Self {
            seed,
            nodes: vec![Seen::default(); nodes],
            slots: BTreeMap::new(),
            events: Vec::new(),
            recoder: recoder(),
            stakes_at: None,
        }
    }

    /// A node starts again: it decides anew, and hands over what follows `tip`.
    pub(crate) fn forget(&mut self, node: usize, tip: Option<BlockId>) {
        self.nodes[node] = Seen { restarted: true, tip, ..Seen::default() };
    }

    /// How to see the run again.
    pub(crate) fn replay(&self) -> String {
        format!("seed {0}: replay with ALPENGLOW_SEED={0}", self.seed)
    }

    pub(crate) fn see(&mut self, node: usize, now: Time, output: &Output) {
        match output {
            Output::Finalized(block) => self.handed_over(node, block),
            Output::FinalizedGap { after, through } => {
                assert_eq!(*after, self.nodes[node].tip.unwrap_or(BlockId::GENESIS), "{}", self.replay());
                self.nodes[node].tip = Some(*through);
                self.nodes[node].gaps += 1;
            }
            Output::Broadcast(Message::Certificate(certificate)) => self.certified(node, certificate),
            Output::SendSlice(slice) => assert!(self.is_member(node, slice.id.slot), "node {node}, {}", self.replay()),
            Output::Event(event) => {
                match event {
                    Event::Decided { slot, decision } => self.decided(node, now, *slot, *decision),
                    Event::VoteCast(vote) if !self.nodes[node].restarted => self.voted(node, *vote),
                    Event::Contradiction { block, other } => {
                        panic!("node {node} holds both {block} and {other} for final, {}", self.replay())
                    }
                    _ => {}
                }
                self.events.push((node, now, event.clone()));
            }
            _ => {}
        }
    }

    /// Agreement: whoever decides a slot decides the same.
    fn decided(&mut self, node: usize, now: Time, slot: Slot, decision: Decision) {
        let (how, hash) = match decision {
            Decision::Skipped => (How::Skipped, None),
            Decision::Finalized { block, how } => {
                assert_eq!(block.slot, slot);
                let how = match how {
                    Finalization::Fast => How::Fast,
                    Finalization::Slow => How::Slow,
                    Finalization::Ancestor => How::Ancestor,
                };
                (how, Some(block.hash))
            }
        };
        let agreed = *self.slots.entry(slot).or_insert(hash);
        assert_eq!(agreed, hash, "node {node} disagrees about slot {slot}, {}", self.replay());
        let before = self.nodes[node].decided.insert(slot, (how, hash, now));
        assert!(before.is_none(), "node {node} decided slot {slot} twice, {}", self.replay());
    }

    /// A chain: each block the child of the one before, and its hash really that of its slices.
    fn handed_over(&mut self, node: usize, block: &Arc<Block>) {
        let replay = self.replay();
        let seen = &mut self.nodes[node];
        assert_eq!(block.parent, seen.tip.unwrap_or(BlockId::GENESIS), "node {node}, {replay}");
        assert!(block.parent.slot < block.id.slot, "node {node}, {replay}");
        let root = |slice: &Slice| self.recoder.root(slice.leader_stamp_ns, &slice.payload);
        let roots: Vec<Hash> = block.slices.iter().map(root).collect();
        assert_eq!(merkle::block_hash(&roots), block.id.hash, "node {node}, {replay}");
        // A payload's first byte tells what it says of the parent; 2 changes it.
        let mut changes = (0..block.slices.len()).filter(|&index| block.slices[index].payload[0] == 2);
        assert_eq!(block.first_counted.get(), changes.next().unwrap_or(0), "node {node}, {replay}");
        assert_eq!(changes.next(), None, "node {node}, a second change of parent, {replay}");
        assert!(block.first_counted.get() == 0 || block.id.slot.is_window_first(), "node {node}, {replay}");
        let decided = seen.decided.get(&block.id.slot).and_then(|(_, hash, _)| *hash);
        assert_eq!(decided, Some(block.id.hash), "node {node} handed over what is not final, {replay}");
        seen.tip = Some(block.id);
        seen.chain.push(block.clone());
    }

    fn is_member(&self, node: usize, slot: Slot) -> bool {
        self.stakes_at.is_none_or(|stakes_at| stakes_at(slot.0)[node] > 0)
    }

    /// A certificate counts the stakes of its own slot, and names nobody without.
    fn certified(&self, node: usize, certificate: &Certificate) {
        let Some(stakes_at) = self.stakes_at else { return };
        let slot = certificate.statement.slot();
        let signers: BTreeSet<usize> =
            certificate.signers.iter().chain(certificate.fallback_signers.iter()).map(|signer| signer.get()).collect();
        let replay = format!("node {node}, {:?} by {signers:?}, {}", certificate.statement, self.replay());
        assert!(signers.iter().all(|&signer| self.is_member(signer, slot)), "{replay}");
        let stakes = stakes_at(slot.0);
        let signed: u64 = signers.iter().map(|&signer| stakes[signer]).sum();
        let fifths = if matches!(certificate.statement, Statement::Fast(_)) { 4 } else { 3 };
        assert!(5 * signed >= fifths * stakes.iter().sum::<u64>(), "{replay}");
    }

    /// Votes that no correct node casts together.
    fn voted(&mut self, node: usize, vote: VotePayload) {
        let replay = format!("node {node} voted {vote:?}, {}", self.replay());
        assert!(self.is_member(node, vote.slot()), "{replay}");
        let votes = self.nodes[node].votes.entry(vote.slot()).or_default();
        let voted = votes.notar.is_some() || votes.skip;
        match vote {
            VotePayload::Notar(block) => {
                assert!(!voted, "{replay}");
                votes.notar = Some(block.hash);
            }
            VotePayload::Skip(_) => {
                assert!(!voted && !votes.is_final, "{replay}");
                votes.skip = true;
            }
            VotePayload::NotarFallback(_) | VotePayload::SkipFallback(_) => {
                assert!(voted && !votes.is_final && !votes.fallbacks.contains(&vote), "{replay}");
                assert!(vote.hash().is_none() || vote.hash() != votes.notar, "{replay}");
                votes.fallbacks.push(vote);
            }
            VotePayload::Final(_) => {
                let clean = votes.notar.is_some() && !votes.skip && votes.fallbacks.is_empty();
                assert!(clean && !votes.is_final, "{replay}");
                votes.is_final = true;
            }
        }
    }

    pub(crate) fn has_decided(&self, node: usize, slot: Slot) -> bool {
        self.nodes[node].decided.contains_key(&slot)
    }

    /// How `node` decided slots `first..=last`; panics if it has not decided one.
    pub(crate) fn how(&self, node: usize, first: u64, last: u64) -> Vec<How> {
        let decided = |slot| self.nodes[node].decided.get(&Slot(slot)).map(|(how, _, _)| *how);
        (first..=last)
            .map(|slot| decided(slot).unwrap_or_else(|| panic!("node {node}, slot {slot}, {}", self.replay())))
            .collect()
    }

    pub(crate) fn decided_count(&self, node: usize) -> usize {
        self.nodes[node].decided.len()
    }

    pub(crate) fn finalized_count(&self, node: usize) -> usize {
        self.nodes[node].decided.values().filter(|(how, _, _)| *how != How::Skipped).count()
    }

    pub(crate) fn chain(&self, node: usize) -> &[Arc<Block>] {
        &self.nodes[node].chain
    }

    pub(crate) fn gaps(&self, node: usize) -> usize {
        self.nodes[node].gaps
    }

    /// Everything that was decided and when: equal for equal runs.
    pub(crate) fn trace(&self) -> Vec<Vec<(Slot, Option<Hash>, Time)>> {
        let trace = |seen: &Seen| seen.decided.iter().map(|(&slot, &(_, hash, at))| (slot, hash, at)).collect();
        self.nodes.iter().map(trace).collect()
    }
}
