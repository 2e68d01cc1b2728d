//! What becomes final: the same everywhere, by certificates, held by many, and handed over as a chain.

use std::collections::{BTreeMap, BTreeSet};

use alpenglow_control::block::Block;
use alpenglow_control::consensus::Finalization;
use alpenglow_control::output::Decision;
use alpenglow_control::vote::VotePayload;
use alpenglow_rotor::merkle;
use alpenglow_rotor::types::{BlockId, Hash, Slot};

use super::super::disk::Disk;
use super::Oracle;

impl Oracle {
    /// A node holds a block: what it holds is what the hash says.
    pub(super) fn held(&mut self, node: usize, block: &Block) {
        let roots: Vec<Hash> = block.slices.iter().map(|slice| slice.root).collect();
        if merkle::block_hash(&roots) != block.id.hash {
            self.violated(format!("node {node} takes another block for {}", block.id));
        }
        self.views[node].blocks.insert(block.id, block.parent);
        self.holders.entry(block.id).or_default().insert(node);
        self.check_verdicts(block.id);
    }

    /// A node takes a slot's block for dead. Without a hash it is that of some slices only.
    pub(super) fn died(&mut self, node: usize, block: Option<BlockId>) {
        self.happened.count("dead_blocks");
        if let Some(block) = block {
            self.dead.insert(block);
            self.check_verdicts(block);
            if self.views[node].blocks.contains_key(&block) {
                self.violated(format!("node {node} takes {block} for dead, which it holds"));
            }
        }
    }

    /// A block is complete for everybody or dead for everybody.
    fn check_verdicts(&mut self, block: BlockId) {
        if self.dead.contains(&block) && self.holders.contains_key(&block) {
            self.violated(format!("{block} is dead for one node and complete for another"));
        }
    }

    pub(super) fn decided(&mut self, node: usize, slot: Slot, decision: Decision) {
        let hash = match decision {
            Decision::Skipped => {
                self.happened.count("skipped_slots");
                None
            }
            Decision::Finalized { block, how } => {
                self.finalized_by(node, block, how);
                Some(block.hash)
            }
        };
        let agreed = *self.slots.entry(slot).or_insert(hash);
        if agreed != hash {
            self.violated(format!("node {node} decides slot {slot} as {hash:?}, another did as {agreed:?}"));
        }
    }

    fn finalized_by(&mut self, node: usize, block: BlockId, how: Finalization) {
        let view = &mut self.views[node];
        view.finalized = view.finalized.max(block.slot);
        if how == Finalization::Ancestor {
            return;
        }
        view.closed = view.closed.max(block.slot);
        if !view.is_finalized(block) {
            self.violated(format!("node {node} finalizes {block} without its certificates"));
        }
        self.happened.count(if how == Finalization::Fast { "fast_finalizations" } else { "slow_finalizations" });
        // 60% voted for it, less than 20% of those lie, and a correct node holds what it votes for.
        let stakes = self.table.at(block.slot);
        let held: u64 = self.holders.get(&block).into_iter().flatten().map(|&holder| stakes[holder]).sum();
        let total: u64 = stakes.iter().sum();
        if 5 * held < 2 * total {
            self.violated(format!("{block} is final, and correct nodes with {held} of {total} ever held it"));
        }
    }

    pub(super) fn handed(&mut self, node: usize, block: &Block) {
        let tip = self.views[node].tip.replace(block.id).unwrap_or(BlockId::GENESIS);
        if block.parent != tip || self.slots.get(&block.id.slot) != Some(&Some(block.id.hash)) {
            self.violated(format!("node {node} hands over {} on {tip}, its parent is {}", block.id, block.parent));
        }
    }

    pub(super) fn passed_by(&mut self, node: usize, after: BlockId, through: BlockId) {
        self.happened.count("gaps");
        let tip = self.views[node].tip.replace(through).unwrap_or(BlockId::GENESIS);
        if after != tip {
            self.violated(format!("node {node} passes blocks by from {after} on, its tip is {tip}"));
        }
    }

    /// At the end of a run: what is final, or would be if all votes that left had arrived, is not lost, and nothing
    /// else was decided in its slot. `disks`: those of nodes that keep block logs.
    pub(in super::super) fn check_availability(&mut self, disks: Option<&Vec<Disk>>) {
        let decided = self.slots.iter().filter_map(|(&slot, hash)| hash.map(|hash| BlockId { slot, hash }));
        let mut finals: BTreeSet<BlockId> = decided.collect();
        for block in self.finalizable() {
            if self.slots.get(&block.slot).is_some_and(|hash| *hash != Some(block.hash)) {
                self.violated(format!(
                    "votes that left make {block} final, and slot {} was decided without it",
                    block.slot
                ));
            }
            self.happened.add("finalizable_only", u64::from(finals.insert(block)));
        }
        for block in finals {
            let Some(holders) = self.holders.get(&block) else {
                self.violated(format!("{block} is final, and no correct node ever held it"));
                return;
            };
            let mut keepers = holders.iter().filter(|&&holder| !self.views[holder].lost_blocks).peekable();
            if let Some(disks) = disks
                && keepers.peek().is_some()
                && !keepers.any(|&keeper| disks[keeper].blocks.holds(block))
            {
                self.violated(format!("{block} is final, and those who held it have lost it"));
            }
        }
    }

    /// Blocks that enough of the votes which left are for.
    fn finalizable(&self) -> Vec<BlockId> {
        let mut signers: BTreeMap<VotePayload, BTreeSet<usize>> = BTreeMap::new();
        for &(signer, vote) in &self.signed {
            signers.entry(vote).or_default().insert(signer);
        }
        let is_signed = |vote: VotePayload, fifths: u64| {
            let stakes = self.table.at(vote.slot());
            let signed: u64 = signers.get(&vote).into_iter().flatten().map(|&signer| stakes[signer]).sum();
            5 * signed >= fifths * stakes.iter().sum::<u64>()
        };
        let blocks = signers.keys().filter_map(|vote| match vote {
            VotePayload::Notar(block) => Some(*block),
            _ => None,
        });
        let is_final = |block: &BlockId| {
            let notar = VotePayload::Notar(*block);
            is_signed(notar, 4) || is_signed(notar, 3) && is_signed(VotePayload::Final(block.slot), 3)
        };
        blocks.filter(is_final).collect()
    }
}
