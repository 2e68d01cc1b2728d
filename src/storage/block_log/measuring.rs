//! The block log's files as they are measured.

use std::io;
use std::path::Path;

use alpenglow_control::block::Block;
use alpenglow_rotor::merkle;
use alpenglow_rotor::types::{BlockId, Slot};

use super::held::HELD;
use super::log::Kept;
use super::samples::{self, CLUSTER, parameters};
use super::{BlockLog, BlockLogError, Limits};
use crate::storage::frames::FrameFile;

/// Bytes in a full slice of the default parameters.
const SLICE_BYTES: usize = 27_000;
const LIMITS: Limits = Limits { bytes_max: 1 << 30, slots_max: 100_000 };

/// A file of slices that may be voted for.
///
/// # Errors
/// When the file system refuses.
pub(crate) fn held_file(path: &Path) -> io::Result<FrameFile> {
    FrameFile::begin(HELD, path, CLUSTER)
}

/// A log in that folder.
///
/// # Errors
/// When the file system refuses.
pub(crate) fn open(folder: &Path) -> Result<BlockLog, BlockLogError> {
    BlockLog::open(folder, parameters(), LIMITS).map(|(log, _)| log)
}

/// Writes a block as the thread does.
///
/// # Errors
/// When the file system refuses.
///
/// # Panics
/// If the block is there already.
pub(crate) fn write(log: &mut BlockLog, block: &Block) -> io::Result<()> {
    log.hold(block).map(|kept| assert_eq!(kept, Kept::Written))
}

/// Bytes of all segments.
pub(crate) fn bytes(log: &BlockLog) -> u64 {
    log.bytes()
}

/// Blocks of so many full slices: one slice over and over, which is no block but as long as one.
pub(crate) fn blocks(slices: usize, count: usize) -> Vec<Block> {
    let slice = samples::block(1, BlockId::GENESIS, SLICE_BYTES).slices.remove(0);
    let block = |slot: u64| Block {
        id: BlockId { slot: Slot(slot), hash: merkle::leaf(&slot.to_le_bytes()) },
        parent: BlockId::GENESIS,
        slices: vec![slice.clone(); slices],
        first_counted: slice.id.index,
        transaction_ids: Vec::new(),
    };
    (1..=count as u64).map(block).collect()
}
