//! The block log: what a node keeps of its chain on disk, and what it asks of that.
//!
//! # What goes in
//! - Before this node votes for a block: its slices as they come ([`BlockLogOrder::HoldSlice`]), then that it is
//!   complete ([`BlockLogOrder::Hold`]). These are carried out before anything that follows, without sync, so that a
//!   block outlives the processes of all that voted for it, even if they are killed at once.
//! - As blocks are handed over in chain order, that each is final, with the certificates that say so
//!   ([`BlockLogOrder::Final`]). Nobody waits for that: a driver that cannot keep up drops orders and counts them, and
//!   what is missing then is fetched from others later.
//!
//! A disk that stalls or refuses must not keep this node from voting: then the driver drops the first two as well.
//!
//! # What comes out
//! - Blocks that others ask for and that memory has let go ([`BlockLogOrder::Load`]), and those that this node itself
//!   lacks, before it has them from others.
//! - At start the [`ChainTip`], from which the node goes on.
//! - Blocks that should be in the log and cannot be read ([`BlockLogAnswer::Lost`]): they are fetched by repair and
//!   written anew.

mod archive;
mod held;
mod record;

use std::sync::Arc;

use alpenglow_rotor::slice::Slice;
use alpenglow_rotor::types::BlockId;

pub(crate) use self::archive::Archive;
pub use self::held::{HELD_BLOCK_BYTES_MAX, HeldRecords, encode_held_block, encode_held_slice, held_slice_bytes};
pub use self::record::{BlockHead, BlockRecordError, decode_block, decode_head, encode_block, encoded_bytes};
use crate::block::Block;
use crate::certificate::{Certificate, Statement};
use crate::stakes::Stakes;

/// Blocks that control has asked the log for at a time, at most.
pub const LOADS_MAX: usize = 16;

/// What the log is to do.
#[derive(Clone, Debug)]
pub enum BlockLogOrder {
    /// Write a slice of a block that is not complete yet and that this node may vote for, before anything that follows
    /// is carried out.
    HoldSlice(Slice),
    /// Write a complete block. Its slices are in memory that shards need back soon.
    Hold {
        /// The block.
        block: Arc<Block>,
        /// Whether this node may vote for it. Then what was not written of it by [`Self::HoldSlice`] is written before
        /// anything that follows is carried out.
        before_vote: bool,
    },
    /// Write that a block is final. If the block itself is not written yet, write it too: the next one of the chain, or
    /// the answer to [`BlockLogAnswer::Lost`].
    Final {
        /// The block, in memory of its own.
        block: Arc<Block>,
        /// What makes it final; empty for one that is final as an ancestor, or was lost.
        certificates: Vec<Arc<Certificate>>,
        /// Whether it is the next one of the chain.
        in_order: bool,
    },
    /// Read a block and answer with [`BlockLogAnswer::Loaded`]. At most [`LOADS_MAX`] are unanswered at a time.
    Load(BlockId),
}

/// What the log says.
#[derive(Clone, Debug)]
pub enum BlockLogAnswer {
    /// The block, if it is there.
    Loaded {
        /// Which.
        id: BlockId,
        /// The block.
        block: Option<Arc<Block>>,
    },
    /// A final block that belongs in the log is not there, or cannot be read.
    Lost(BlockId),
}

/// The last block of the chain that the log holds with the certificates that make it final.
#[derive(Clone, Debug)]
pub struct ChainTip {
    /// The block.
    pub block: Arc<Block>,
    /// See [`finalize`].
    pub certificates: Vec<Arc<Certificate>>,
}

/// Whether these certificates make `block` final: a fast one, or a finalization and a notarization. Their signatures
/// are not looked at.
#[must_use]
pub fn finalize(block: BlockId, certificates: &[Arc<Certificate>]) -> bool {
    let has = |statement| certificates.iter().any(|certificate| certificate.statement == statement);
    has(Statement::Fast(block)) || has(Statement::Finalization(block.slot)) && has(Statement::Notarization(block))
}

impl ChainTip {
    /// Whether the certificates say what they must, by enough of the stake.
    #[must_use]
    pub fn is_final(&self, stakes: &Stakes) -> bool {
        let has_quorum = |certificate: &Arc<Certificate>| certificate.check_quorum(stakes).is_ok();
        finalize(self.block.id, &self.certificates) && self.certificates.iter().all(has_quorum)
    }
}

#[cfg(test)]
mod tests {
    use alpenglow_rotor::slice::{Slice, SliceId, SliceSignature};
    use alpenglow_rotor::types::{BlockId, Hash, SliceIndex, Slot};

    use crate::assembly::{Assembly, Verdict};
    use crate::block::{Block, ParentStatement, SliceBuilder, TransactionId};

    /// A block with slices of so many bytes.
    pub(super) fn block(slot: u64, lengths: &[usize]) -> Block {
        let parent = BlockId { slot: Slot(slot - 1), hash: Hash([5; 32]) };
        let mut assembly = Assembly::new(Slot(slot), 0);
        for (at, length) in lengths.iter().enumerate() {
            let statement = if at == 0 { ParentStatement::Parent(parent) } else { ParentStatement::Nothing };
            let mut builder = SliceBuilder::new(statement, 4_096);
            assert!(builder.push(&vec![at as u8; *length]));
            let payload = builder.finish();
            assembly.insert(Slice {
                id: SliceId { slot: Slot(slot), index: SliceIndex::new(at).unwrap() },
                is_last: at + 1 == lengths.len(),
                root: Hash(TransactionId::of(&payload).0),
                signature: SliceSignature([0; 64]),
                leader_stamp_ns: 77 + at as u64,
                payload: payload.into(),
            });
        }
        let Some(Verdict::Complete(block)) = assembly.verdict() else { panic!("no block") };
        block
    }
}
