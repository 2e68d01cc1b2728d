//! What the benchmark of storage calls: the node's own files, and blocks to put into them.

use std::io;
use std::path::Path;

use alpenglow_control::block::Block;
use alpenglow_control::block_log::encode_held_slice;
use alpenglow_control::vote::VotePayload;
use alpenglow_control::vote_record::Entry;
use alpenglow_rotor::slice::Slice;
use alpenglow_rotor::types::{BlockId, ClusterId, Hash, Slot};

use crate::storage::block_log::{BlockLog, measuring};
use crate::storage::frames::{self, FrameFile};
use crate::storage::vote_log;

const CLUSTER: ClusterId = ClusterId([7; 32]);

/// What a record takes in a file beside its own bytes.
pub const FRAME_HEAD_BYTES: usize = frames::FRAME_HEAD_BYTES;

/// What control appends to a vote log for a vote.
#[must_use]
pub fn vote() -> Vec<u8> {
    Entry::Vote(VotePayload::Notar(BlockId { slot: Slot(1_000_000), hash: Hash([5; 32]) })).encode()
}

/// Blocks of so many full slices.
#[must_use]
pub fn blocks(slices: usize, count: usize) -> Vec<Block> {
    measuring::blocks(slices, count)
}

/// A file that control appends to.
pub struct ControlFile(FrameFile);

impl ControlFile {
    /// A vote log.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn vote_log(path: &Path) -> io::Result<Self> {
        FrameFile::begin(vote_log::FORMAT, path, CLUSTER).map(Self)
    }

    /// A file of slices that may be voted for.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn held_slices(path: &Path) -> io::Result<Self> {
        measuring::held_file(path).map(Self)
    }

    /// Appends a record.
    ///
    /// # Errors
    /// When the file system refuses, or the file is full.
    pub fn append(&mut self, record: &[u8]) -> io::Result<()> {
        self.0.append(record)
    }

    /// Appends a record, on disk when this returns.
    ///
    /// # Errors
    /// When the file system refuses, or the file is full.
    pub fn append_synced(&mut self, record: &[u8]) -> io::Result<()> {
        self.0.append_synced(record)
    }

    /// Appends a slice.
    ///
    /// # Errors
    /// When the file system refuses, or the file is full.
    pub fn append_slice(&mut self, slice: &Slice) -> io::Result<()> {
        self.0.append_with(|to| encode_held_slice(slice, to))
    }

    /// Bytes of the file.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.0.end()
    }
}

/// A block log, as its thread writes it.
pub struct Segments(BlockLog);

impl Segments {
    /// Makes one in a folder.
    ///
    /// # Errors
    /// When the file system refuses, in words.
    pub fn make(folder: &Path) -> Result<Self, String> {
        measuring::open(folder).map(Self).map_err(|error| error.to_string())
    }

    /// Writes a block.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn write(&mut self, block: &Block) -> io::Result<()> {
        measuring::write(&mut self.0, block)
    }

    /// Bytes of all segments.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        measuring::bytes(&self.0)
    }
}
