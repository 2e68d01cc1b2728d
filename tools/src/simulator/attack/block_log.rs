//! A node's block log: what is written before votes, at once, and what the log's own thread writes and reads, later.

use std::collections::{BTreeSet, VecDeque};
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use alpenglow_control::block::Block;
use alpenglow_control::block_log::{
    BlockLogAnswer, BlockLogOrder, ChainTip, HeldRecords, decode_block, encode_block, encode_held_block,
    encode_held_slice,
};
use alpenglow_control::certificate::Certificate;
use alpenglow_control::input::Input;
use alpenglow_rotor::slice::{Slice, SliceId};
use alpenglow_rotor::types::{BlockId, Hash, Slot};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;

use super::world::{Happening, World};

/// Records that the thread keeps, the latest ones: more than runs take, since nobody else has what all have let go.
const RECORDS_MAX: usize = 2_048;

/// What the thread writes.
pub(super) enum Record {
    Block(BlockId, Vec<u8>),
    Final { block: BlockId, certificates: Vec<Arc<Certificate>>, in_order: bool },
}

impl Record {
    pub(super) fn block(block: &Block) -> Self {
        let mut bytes = Vec::new();
        encode_block(block, &mut bytes);
        Self::Block(block.id, bytes)
    }

    const fn id(&self) -> BlockId {
        match self {
            Self::Block(block, _) | Self::Final { block, .. } => *block,
        }
    }
}

/// Something in a file.
struct Written<W> {
    what: W,
    is_synced: bool,
}

impl<W> Written<W> {
    const fn now(what: W) -> Self {
        Self { what, is_synced: false }
    }
}

/// How many there are up to the last one that is on disk.
fn on_disk<'w, W: 'w>(mut written: impl DoubleEndedIterator<Item = &'w Written<W>> + ExactSizeIterator) -> usize {
    written.rposition(|written| written.is_synced).map_or(0, |last| last + 1)
}

/// See the module.
pub(super) struct BlockLog {
    /// Whether blocks are on disk before they are voted for, and stay there.
    synced: bool,
    /// Records of slices and blocks that may be voted for, of slots that are not final.
    held: Vec<Written<(Slot, Vec<u8>)>>,
    /// Slices among them.
    held_slices: BTreeSet<(SliceId, Hash)>,
    /// Blocks that could be made of them.
    held_blocks: BTreeSet<BlockId>,
    reader: HeldRecords,
    records: VecDeque<Written<Record>>,
}

impl BlockLog {
    /// An empty one.
    pub(super) fn new(synced: bool) -> Self {
        Self {
            synced,
            held: Vec::new(),
            held_slices: BTreeSet::new(),
            held_blocks: BTreeSet::new(),
            reader: HeldRecords::default(),
            records: VecDeque::new(),
        }
    }

    fn hold_slice(&mut self, slice: &Slice) {
        if self.held_slices.insert((slice.id, slice.root)) {
            let mut record = Vec::new();
            encode_held_slice(slice, &mut record);
            self.hold(slice.id.slot, record);
        }
    }

    fn hold_block(&mut self, block: &Block) {
        block.slices.iter().for_each(|slice| self.hold_slice(slice));
        let mut record = Vec::new();
        encode_held_block(block, &mut record);
        self.hold(block.id.slot, record);
        if self.synced {
            self.held.iter_mut().for_each(|written| written.is_synced = true);
        }
    }

    fn hold(&mut self, slot: Slot, record: Vec<u8>) {
        self.held_blocks.extend(self.reader.take(&record).map(|block| block.id));
        self.held.push(Written::now((slot, record)));
    }

    /// Drops what is of slots up to this one.
    fn release(&mut self, through: Slot) {
        if self.synced {
            self.records.iter_mut().for_each(|written| written.is_synced = true);
        }
        self.held.retain(|written| written.what.0 > through);
        self.held_slices.retain(|(slice, _)| slice.slot > through);
        self.read_held_again();
    }

    fn read_held_again(&mut self) {
        self.reader = HeldRecords::default();
        let blocks = self.held.iter().filter_map(|written| self.reader.take(&written.what.1));
        self.held_blocks = blocks.map(|block| block.id).collect();
    }

    /// Whether a block outlives the process.
    pub(super) fn holds(&self, block: BlockId) -> bool {
        self.held_blocks.contains(&block) || self.bytes(block).is_some()
    }

    /// Whether a block outlives what votes are to outlive: the process, or the power too.
    pub(super) fn keeps(&self, block: BlockId) -> bool {
        if !self.synced {
            return self.holds(block);
        }
        let (held, records) = (on_disk(self.held.iter()), on_disk(self.records.iter()));
        let mut reader = HeldRecords::default();
        let mut held = self.held[..held].iter().filter_map(|written| reader.take(&written.what.1));
        let is_it = |written: &Written<Record>| matches!(&written.what, Record::Block(id, _) if *id == block);
        held.any(|held| held.id == block) || self.records.range(..records).any(is_it)
    }

    fn bytes(&self, id: BlockId) -> Option<&[u8]> {
        self.records.iter().find_map(|written| match &written.what {
            Record::Block(block, bytes) if *block == id => Some(&bytes[..]),
            _ => None,
        })
    }

    fn load(&self, id: BlockId) -> Option<Arc<Block>> {
        self.bytes(id).map(|bytes| Arc::new(decode_block(bytes).expect("it was written here")))
    }

    /// What the thread has got to.
    pub(super) fn write(&mut self, record: Record) {
        let released = if let Record::Final { block, in_order: true, .. } = record { Some(block.slot) } else { None };
        if !matches!(record, Record::Block(block, _) if self.bytes(block).is_some()) {
            self.records.push_back(Written::now(record));
        }
        if let Some(through) = released {
            self.release(through);
        }
        if self.records.len() > RECORDS_MAX {
            self.records.pop_front();
        }
    }

    /// At a start: what was held is found, and written. Gives how many blocks that are, and where the chain ends.
    pub(super) fn start(&mut self) -> (u64, Option<ChainTip>) {
        let mut reader = HeldRecords::default();
        let mut found = 0;
        for Written { what: (_, record), .. } in mem::take(&mut self.held) {
            if let Some(block) = reader.take(&record)
                && self.bytes(block.id).is_none()
            {
                found += 1;
                self.write(Record::block(&block));
            }
        }
        self.release(Slot(u64::MAX));
        (found, self.tip())
    }

    fn tip(&self) -> Option<ChainTip> {
        let finals = self.records.iter().filter_map(|written| match &written.what {
            Record::Final { block, certificates, .. } if !certificates.is_empty() => Some((block, certificates)),
            _ => None,
        });
        let tips = finals.filter_map(|(id, certificates)| {
            self.load(*id).map(|block| ChainTip { block, certificates: certificates.clone() })
        });
        tips.max_by_key(|tip| tip.block.id.slot)
    }

    /// The power fails: an end of what was written and not synced is gone.
    pub(super) fn lose_power(&mut self, random: &mut ChaCha8Rng) {
        let mut left =
            |on_disk: usize, all: usize| on_disk + (random.next_u64() % ((all - on_disk) as u64 + 1)) as usize;
        self.held.truncate(left(on_disk(self.held.iter()), self.held.len()));
        self.records.truncate(left(on_disk(self.records.iter()), self.records.len()));
        self.read_held_again();
    }

    /// A final block cannot be read any more.
    fn lose_one(&mut self, random: &mut ChaCha8Rng) -> Option<BlockId> {
        let finals: Vec<BlockId> = self
            .records
            .iter()
            .map(|written| &written.what)
            .filter(|record| matches!(record, Record::Final { .. }))
            .map(Record::id)
            .collect();
        let lost = *finals.get((random.next_u64() % finals.len().max(1) as u64) as usize)?;
        self.records.retain(|written| written.what.id() != lost);
        Some(lost)
    }
}

impl World {
    /// Carries out what is to be written before anything follows, and leaves the rest to the thread.
    pub(super) fn order_log(&mut self, node: usize, order: BlockLogOrder) {
        match order {
            BlockLogOrder::HoldSlice(slice) => self.disks[node].blocks.hold_slice(&slice),
            BlockLogOrder::Hold { block, before_vote } => {
                if before_vote {
                    self.disks[node].blocks.hold_block(&block);
                }
                self.leave_to_thread(node, Record::block(&block));
            }
            BlockLogOrder::Final { block, certificates, in_order } => {
                if !in_order {
                    self.oracle.happened.count("lost_blocks_found");
                }
                self.leave_to_thread(node, Record::block(&block));
                self.leave_to_thread(node, Record::Final { block: block.id, certificates, in_order });
            }
            BlockLogOrder::Load(block) => {
                let takes = self.disk_takes();
                self.queue_in(takes, node, Happening::Reads(block));
            }
        }
    }

    /// One thing after the other.
    fn leave_to_thread(&mut self, node: usize, record: Record) {
        let takes = self.disk_takes();
        let done = self.disks[node].idle_at.max(self.now.after(takes));
        self.disks[node].idle_at = done;
        self.queue_at(done, node, Happening::Writes(record));
    }

    /// How long the disk takes for something.
    pub(super) fn disk_takes(&mut self) -> Duration {
        Duration::from_micros(100 + self.random.next_u64() % self.plan.disk_us_max)
    }

    pub(super) fn read_from_log(&mut self, node: usize, id: BlockId) -> Input {
        let block = self.disks[node].blocks.load(id);
        self.oracle.happened.add("blocks_read", u64::from(block.is_some()));
        Input::BlockLog(BlockLogAnswer::Loaded { id, block })
    }

    /// A final block of its log cannot be read, and the thread notices.
    pub(super) fn lose_from_log(&mut self, node: usize) -> Option<Input> {
        let lost = self.disks[node].blocks.lose_one(&mut self.random)?;
        self.oracle.happened.count("logged_blocks_lost");
        self.lost_blocks.insert((node, lost));
        Some(Input::BlockLog(BlockLogAnswer::Lost(lost)))
    }
}

#[cfg(test)]
mod tests {
    use alpenglow_control::block::{ParentStatement, SliceBuilder};
    use alpenglow_rotor::merkle;
    use alpenglow_rotor::slice::SliceSignature;
    use alpenglow_rotor::types::SliceIndex;
    use rand_chacha::rand_core::SeedableRng;

    use super::*;

    fn block(slot: u64, slices: usize) -> Block {
        let parent = BlockId { slot: Slot(slot - 1), hash: Hash([5; 32]) };
        let slices: Vec<Slice> = (0..slices)
            .map(|at| {
                let statement = if at == 0 { ParentStatement::Parent(parent) } else { ParentStatement::Nothing };
                let mut builder = SliceBuilder::new(statement, 4_096);
                assert!(builder.push(b"something"));
                Slice {
                    id: SliceId { slot: Slot(slot), index: SliceIndex::new(at).expect("few slices") },
                    is_last: at + 1 == slices,
                    root: Hash([at as u8 + 1; 32]),
                    signature: SliceSignature([0; 64]),
                    leader_stamp_ns: 0,
                    payload: builder.finish().into(),
                }
            })
            .collect();
        let roots: Vec<Hash> = slices.iter().map(|slice| slice.root).collect();
        Block {
            id: BlockId { slot: Slot(slot), hash: merkle::block_hash(&roots) },
            parent,
            slices,
            first_counted: SliceIndex::default(),
            transaction_ids: Vec::new(),
        }
    }

    fn finalized(block: &Block) -> Record {
        Record::Final { block: block.id, certificates: Vec::new(), in_order: true }
    }

    #[test]
    fn what_was_held_is_found_at_a_start_and_given_up_when_a_later_slot_is_final() {
        let (first, second) = (block(1, 3), block(2, 2));
        let mut log = BlockLog::new(false);
        log.hold_slice(&first.slices[0]);
        assert!(!log.holds(first.id));
        log.hold_block(&first);
        log.hold_block(&second);
        assert!(log.holds(first.id) && log.holds(second.id) && log.load(second.id).is_none());
        log.write(finalized(&first));
        assert!(!log.holds(first.id) && log.holds(second.id));
        assert_eq!(log.start().0, 1);
        assert_eq!(log.load(second.id).expect("it was found").slices.len(), 2);
        assert_eq!(log.start().0, 0, "it is written once");
    }

    #[test]
    fn a_power_loss_takes_what_was_not_synced_and_nothing_else() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let mut lost = 0;
        for synced in [false, true] {
            for _ in 0..50 {
                let (voted_for, begun) = (block(2, 3), block(3, 2));
                let mut log = BlockLog::new(synced);
                log.write(Record::block(&block(1, 1)));
                log.write(finalized(&block(1, 1)));
                log.hold_block(&voted_for);
                log.hold_slice(&begun.slices[0]);
                assert!(log.keeps(voted_for.id));
                log.lose_power(&mut random);
                let is_whole = log.holds(block(1, 1).id) && log.holds(voted_for.id) && !log.holds(begun.id);
                assert!(is_whole || !synced);
                lost += u32::from(!is_whole);
            }
        }
        assert!(lost > 25, "lost {lost} times");
    }

    #[test]
    fn the_chain_ends_with_the_last_block_that_has_its_certificates() {
        let mut log = BlockLog::new(false);
        let certificates = vec![Arc::new(Certificate {
            statement: alpenglow_control::certificate::Statement::Skip(Slot(9)),
            signers: alpenglow_control::certificate::Signers::none(3),
            fallback_signers: alpenglow_control::certificate::Signers::none(3),
            signature: alpenglow_control::bls::SignatureBytes([0; 96]),
        })];
        for (slot, certificates) in [(1, &certificates), (2, &certificates), (3, &Vec::new())] {
            log.write(Record::block(&block(slot, 1)));
            let certificates = certificates.clone();
            log.write(Record::Final { block: block(slot, 1).id, certificates, in_order: true });
        }
        assert_eq!(log.tip().map(|tip| tip.block.id), Some(block(2, 1).id));
        let mut random = ChaCha8Rng::seed_from_u64(1);
        while log.records.len() > 3 {
            log.lose_power(&mut random);
        }
        assert_eq!(log.tip().map(|tip| tip.block.id.slot), (log.records.len() >= 2).then_some(Slot(1)));
        log.write(finalized(&block(4, 1)));
        let (before, lost) = (log.records.len(), log.lose_one(&mut random).expect("one is final"));
        assert!(log.records.len() < before && !log.holds(lost));
    }
}
