//! The block log: complete blocks, and that they are final, in segments that are only ever appended to. See
//! [`alpenglow_control::block_log`] for what goes in and when.
//!
//! ```text
//! blocks/00000007.segment   a frame for each record ([`segment`])
//! blocks/00000007.index     where its records are; written when the segment is full
//! record:  4 | parameters                               the segment's first
//!          1 | block                                    complete, perhaps not final
//!          2 or 3 | slot u64 | hash 32 | certificates   final: the next one of the chain (2), or lost and found again (3)
//! ```
//! - **Only the last segment is written to.** At start what a crash left incomplete at its end is cut off. An index
//!   that is missing or spoilt is made anew from its segment.
//! - **Corruption costs the record it is in.** It is found when a record is read, by a look at everything once after
//!   each start, and by `alpenglow blocks verify`. What a final block's child names as its parent and what is not there
//!   is lost: it is reported to control, which fetches it from others, and written again in the last segment. The
//!   corrupt place stays as it is until its segment goes.
//! - **It stays small.** Whole segments go, the oldest first, as [`Limits`] say.
//! - **A block is written before it is voted for**, by control itself, in files beside the segments ([`held`]). Where
//!   votes are to outlive the power, it is on disk before, there or in a segment, and stays.
//! - **Segments are synced each second.** Appends outlive the process; a power loss may cost what came since. What is
//!   lost then is fetched from others like anything else.
//! - **A slow disk is left to the vote log.** Who syncs a file may have to wait for what other files have unwritten
//!   (ext4 writes data before the journal that names it). So little is left unsynced, and after a slow sync nothing is
//!   written for as long: the log lags, and leaves blocks out, rather than hold up the reservation.
//!
//! One thread does the rest, with plain files ([`writer`]), whatever engine moves datagrams.

mod files;
pub(crate) mod fuzzing;
mod held;
mod index;
mod log;
pub(crate) mod measuring;
mod reader;
mod samples;
mod segment;
#[cfg(test)]
mod tests;
mod writer;

use std::path::{Path, PathBuf};

pub(crate) use self::held::STALL;
pub(crate) use self::log::{BlockLog, BlockLogError};
pub(crate) use self::reader::{Defect, LoggedBlock, Loss, Reader, Survey, shred_again};
pub(crate) use self::segment::LogParameters;
pub(crate) use self::writer::{BlockLogHandle, BlockLogReport, BlockLogThread, Bounds, STOP_WITHIN};

/// What is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Bytes of all files.
    pub(crate) bytes_max: u64,
    /// Slots back from the last final block.
    pub(crate) slots_max: u64,
}

/// Most of a segment, unless a single block is longer: a sixteenth of all, so that retention is even.
const SEGMENT_BYTES_MAX: u64 = 64 << 20;
/// Least.
const SEGMENT_BYTES_MIN: u64 = 1 << 20;

impl Limits {
    fn segment_bytes(&self) -> u64 {
        (self.bytes_max / 16).clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX)
    }
}

/// The log's folder in a node's data folder.
pub(crate) fn folder(data: &Path) -> PathBuf {
    data.join("blocks")
}
