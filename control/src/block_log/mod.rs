//! The block log: what a node keeps of its chain on disk, and what it asks of that.
//!
//! # What goes in
//! Every complete block, given out before this node's vote for it ([`BlockLogOrder::Hold`]), so that blocks which votes were
//! cast for outlive the process; then, as blocks are handed over in chain order, that each is final, with the certificates
//! that say so ([`BlockLogOrder::Final`]). Nobody waits for either: a driver that cannot keep up drops orders and counts
//! them, and what is missing then is fetched from others later. So a block is safe as soon as one node that holds it lives
//! on, or has written it; if all are killed in the same few milliseconds after they voted for it, it is lost.
//!
//! # What comes out
//! - Blocks that others ask for and that memory has let go ([`BlockLogOrder::Load`]), and those that this node itself
//!   lacks, before it has them from others.
//! - At start the [`ChainTip`], from which the node goes on.
//! - Blocks that should be in the log and cannot be read ([`BlockLogAnswer::Lost`]): they are fetched by repair and
//!   written anew.

mod archive;
mod record;

use std::sync::Arc;

use alpenglow_rotor::types::BlockId;

pub(crate) use self::archive::Archive;
pub use self::record::{BlockHead, BlockRecordError, decode_block, decode_head, encode_block, encoded_bytes};
use crate::block::Block;
use crate::certificate::{Certificate, Statement};
use crate::stakes::Stakes;

/// Blocks that control has asked the log for at a time, at most.
pub const LOADS_MAX: usize = 16;

/// What the log is to do.
#[derive(Clone, Debug)]
pub enum BlockLogOrder {
    /// Write a complete block. Its slices are in memory that shards need back soon.
    Hold(Arc<Block>),
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

/// Whether these certificates make `block` final: a fast one, or a finalization and a notarization. Their signatures are
/// not looked at.
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
