//! Nodes that keep a block log: what others repair from it, what a node goes on from, and what it finds again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use alpenglow_control::block::Block;
use alpenglow_control::block_log::{BlockLogAnswer, BlockLogOrder, ChainTip, decode_block, encode_block};
use alpenglow_control::certificate::Certificate;
use alpenglow_rotor::types::{BlockId, Slot};

use crate::restarts::Records;
use crate::world::{Setup, World};

/// A block log that never fails.
#[derive(Clone, Debug, Default)]
pub(crate) struct BlockLog {
    blocks: BTreeMap<BlockId, Arc<[u8]>>,
    finals: BTreeMap<BlockId, (Vec<Arc<Certificate>>, bool)>,
}

impl BlockLog {
    pub(crate) fn carry_out(&mut self, order: BlockLogOrder) -> Option<BlockLogAnswer> {
        match order {
            BlockLogOrder::HoldSlice(_) => {}
            BlockLogOrder::Hold { block, .. } => self.hold(&block),
            BlockLogOrder::Final { block, certificates, in_order } => {
                self.hold(&block);
                self.finals.entry(block.id).or_insert((certificates, in_order));
            }
            BlockLogOrder::Load(id) => {
                let block = self.block(id).map(Arc::new);
                return Some(BlockLogAnswer::Loaded { id, block });
            }
        }
        None
    }

    fn hold(&mut self, block: &Block) {
        let mut bytes = Vec::new();
        encode_block(block, &mut bytes);
        self.blocks.insert(block.id, bytes.into());
    }

    fn block(&self, id: BlockId) -> Option<Block> {
        self.blocks.get(&id).map(|bytes| decode_block(bytes).expect("it was written here"))
    }

    pub(crate) fn tip(&self) -> Option<ChainTip> {
        let (id, (certificates, _)) =
            self.finals.iter().rev().find(|(_, (certificates, _))| !certificates.is_empty())?;
        Some(ChainTip { block: Arc::new(self.block(*id)?), certificates: certificates.clone() })
    }

    fn lose(&mut self, id: BlockId) {
        self.blocks.remove(&id).expect("only what is there can be lost");
        self.finals.remove(&id);
    }

    /// The chain of final blocks, the lowest first, each by its slot and whether it came in order.
    fn finals(&self) -> Vec<(u64, bool)> {
        self.finals.iter().map(|(id, (_, in_order))| (id.slot.0, *in_order)).collect()
    }
}

fn submit_some(world: &mut World, from: u64) {
    let nodes = world.alive();
    for number in from..from + 200 {
        world.submit(nodes[number as usize % nodes.len()], number.to_le_bytes().repeat(80));
    }
}

#[test]
fn every_final_block_is_in_the_log_and_its_certificates_with_it() {
    let mut world = World::new(Setup { block_logs: true, records: Records::Kept, ..Setup::default() });
    submit_some(&mut world, 0);
    assert!(world.run_until_decided(19, World::at_ms(19 * 400 + 3_000)));
    for node in 0..5 {
        let log = &world.disk(node).blocks;
        let slots: Vec<(u64, bool)> = (1..=19).map(|slot| (slot, true)).collect();
        assert_eq!(log.finals()[..19], slots, "node {node}");
        assert!(log.finals.values().all(|(certificates, _)| certificates.len() == 1), "all were finalized fast");
        assert!(log.blocks.len() >= 19);
    }
}

#[test]
fn what_memory_has_let_go_is_repaired_from_the_log() {
    let mut world = World::new(Setup {
        block_logs: true,
        records: Records::Kept,
        configure: |config| config.blokstor.retained_slots = 2,
        ..Setup::default()
    });
    world.crash(4);
    for from in 0..6 {
        submit_some(&mut world, 200 * from);
        world.run_until(World::at_ms(2_000 * (from + 1)));
    }
    world.restart(4);
    world.run_until(World::at_ms(30_000));
    assert_eq!(world.oracle.gaps(4), 0, "the others have every block");
    assert_eq!(world.oracle.chain(4).first().map(|block| block.id.slot), Some(Slot(1)));
    let served: u64 = (0..4)
        .map(|node| {
            let counters = world.control(node).counters();
            counters.iter().find(|(name, _)| *name == "block_log_served").map_or(0, |(_, count)| count)
        })
        .sum();
    assert!(served >= 15, "{served} blocks were read");
}

#[test]
fn all_nodes_go_on_from_their_logs() {
    let mut world = World::new(Setup { block_logs: true, records: Records::Kept, ..Setup::default() });
    submit_some(&mut world, 0);
    assert!(world.run_until_decided(21, World::at_ms(21 * 400 + 3_000)));
    (0..5).for_each(|node| world.crash(node));
    let tips: Vec<Slot> = (0..5).map(|node| world.disk(node).blocks.tip().unwrap().block.id.slot).collect();
    assert!(tips.iter().all(|tip| *tip >= Slot(20)), "{tips:?}");
    for (node, tip) in tips.iter().enumerate() {
        assert_eq!(world.restart(node).doubt(), None);
        assert!(world.control(node).highest_finalized().slot >= *tip);
    }
    submit_some(&mut world, 1_000);
    let from = world.now;
    world.run_until(from.after(Duration::from_secs(8)));
    for (node, tip) in tips.iter().enumerate() {
        assert_eq!(world.oracle.gaps(node), 0, "node {node}");
        let chain = world.oracle.chain(node);
        assert!(chain[0].id.slot > *tip && chain[0].parent.slot <= tip.next(), "{} after {tip}", chain[0].id.slot);
        let transactions: usize = chain.iter().map(|block| block.transaction_ids.len()).sum();
        assert_eq!(transactions, 200, "node {node}: leaders have the blocks that theirs follow");
        assert!(world.control(node).highest_finalized().slot >= Slot(tip.0 + 12), "node {node}");
    }
    assert_eq!(world.left.conflicts, [""; 0]);
}

#[test]
fn a_block_that_a_log_has_lost_is_fetched_again_though_its_slot_is_closed() {
    let mut world = World::new(Setup {
        block_logs: true,
        records: Records::Kept,
        configure: |config| config.blokstor.retained_slots = 2,
        ..Setup::default()
    });
    submit_some(&mut world, 0);
    assert!(world.run_until_decided(15, World::at_ms(15 * 400 + 3_000)));
    let (lost, _) = world.disk(2).blocks.blocks.iter().find(|(id, _)| id.slot == Slot(5)).unwrap();
    let lost = *lost;
    world.disk(2).blocks.lose(lost);
    world.tell_lost(2, lost);
    let from = world.now;
    world.run_until(from.after(Duration::from_secs(1)));
    let log = &world.disk(2).blocks;
    assert!(log.blocks.contains_key(&lost) && log.finals().contains(&(5, false)));
    assert_eq!(world.oracle.gaps(2), 0);

    // Nobody has it: it is given up, and nothing else is harmed.
    let (lost, _) = world.disk(2).blocks.blocks.iter().find(|(id, _)| id.slot == Slot(7)).unwrap();
    let lost = *lost;
    (0..5).for_each(|node| world.disk(node).blocks.lose(lost));
    world.tell_lost(2, lost);
    world.run_until(from.after(Duration::from_secs(5)));
    assert!(!world.disk(2).blocks.blocks.contains_key(&lost));
    let given_up = world.control(2).counters().iter().any(|(name, count)| name == "repair_block_nowhere" && count == 1);
    assert!(given_up && world.control(2).highest_finalized().slot > Slot(20));
}
