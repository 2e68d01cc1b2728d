//! What blocks a node that does not run has on disk, read from its files' bytes.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use alpenglow_control::block_log::{HeldRecords, decode_block};
use alpenglow_rotor::types::BlockId;

use super::{FRAME_HEAD_BYTES, HEADER_BYTES};

/// A segment's record of a complete block.
const BLOCK: u8 = 1;
/// Bytes before each frame of a segment.
const MARK_BYTES: usize = 8;

/// The records of a file, up to the first one that is incomplete. Before each frame there are so many bytes of
/// something else.
pub(super) fn records(file: &[u8], before_frame: usize) -> Vec<&[u8]> {
    let mut records = Vec::new();
    let mut rest = file.get(HEADER_BYTES..).unwrap_or_default();
    while let Some((head, after)) =
        rest.get(before_frame..).and_then(|rest| rest.split_first_chunk::<FRAME_HEAD_BYTES>())
    {
        let number = |at: usize| u32::from_le_bytes(*head[at..].first_chunk().unwrap());
        if crc32c::crc32c(&head[..8]) != number(8) {
            break;
        }
        let length = number(0) as usize;
        let Some((record, after)) = after.split_at_checked(length) else { break };
        if crc32c::crc32c(record) != number(4) {
            break;
        }
        records.push(record);
        rest = after;
    }
    records
}

/// The complete blocks in a data folder: in the block log, or held for it since they may be voted for.
pub(super) fn kept_blocks(data: &Path) -> BTreeSet<BlockId> {
    let mut kept = BTreeSet::new();
    let mut held = HeldRecords::default();
    let mut names: Vec<_> = fs::read_dir(data.join("blocks")).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    for path in names {
        let file = fs::read(&path).unwrap();
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("segment") => {
                let blocks = records(&file, MARK_BYTES).into_iter().filter(|record| record.first() == Some(&BLOCK));
                kept.extend(blocks.map(|record| decode_block(&record[1..]).unwrap().id));
            }
            Some("held") => {
                kept.extend(records(&file, 0).into_iter().filter_map(|record| held.take(record)).map(|block| block.id));
            }
            _ => {}
        }
    }
    kept
}
