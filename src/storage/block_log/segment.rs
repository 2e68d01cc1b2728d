//! One segment and its index, as bytes.

use std::sync::Arc;

use alpenglow_control::block::Block;
use alpenglow_control::block_log::{BlockHead, decode_head, encode_block, encoded_bytes};
use alpenglow_control::certificate::Certificate;
use alpenglow_control::vote_record::Entry;
use alpenglow_rotor::parameters::{Code, CodingParameters};
use alpenglow_rotor::types::{BlockId, ClusterId, Hash, Slot, VALIDATORS_MAX};

use crate::storage::frames::{FRAME_HEAD_BYTES, Format, FrameAt, HEADER_BYTES, HeaderError, Tail};

/// Longest block that is kept: what a node holds of repaired blocks, and some for what is around them.
pub(super) const RECORD_BYTES_MAX: usize = 80 << 20;

/// A segment. A later version of this program raises the version when it writes records that this one does not know.
pub(super) const SEGMENT: Format = Format {
    magic: *b"agblocks",
    version: 1,
    record_bytes_max: RECORD_BYTES_MAX,
    file_bytes_max: u64::MAX,
    tail: Tail::Spoilt,
};
/// Its index, which has a single record.
pub(super) const INDEX: Format = Format {
    magic: *b"agbindex",
    version: 1,
    record_bytes_max: 256 << 20,
    file_bytes_max: u64::MAX,
    tail: Tail::Spoilt,
};

const BLOCK: u8 = 1;
const FINAL: u8 = 2;
const FINAL_AGAIN: u8 = 3;
const PARAMETERS: u8 = 4;
const ID_BYTES: usize = 8 + 32;

/// What the first bytes of a record tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Head {
    /// A complete block.
    Block(BlockHead),
    /// A block is final.
    Final {
        /// Which.
        id: BlockId,
        /// Whether it was the next one of the chain when this was written.
        in_order: bool,
        /// Whether there are certificates.
        certified: bool,
    },
    /// What the segment's other records are to be read with.
    Parameters,
}

/// What must be known of a cluster to read its log. Every segment begins with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogParameters {
    /// The cluster.
    pub(crate) cluster: ClusterId,
    /// How slices are coded.
    pub(crate) coding: CodingParameters,
    /// Validators, which certificates are about.
    pub(crate) validators: usize,
}

/// A record and the place of its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) at: u64,
    pub(super) frame_bytes: u32,
    pub(super) head: Head,
}

impl Head {
    /// `None` for what no version up to this one writes.
    pub(super) fn of(record: &[u8]) -> Option<Self> {
        let (&kind, body) = record.split_first()?;
        if kind == BLOCK {
            return decode_head(body).map(Self::Block);
        }
        if kind == PARAMETERS {
            return Some(Self::Parameters);
        }
        let (id, certificates) = read_id(body)?;
        let in_order = kind == FINAL;
        let certified = !certificates.is_empty();
        (in_order || kind == FINAL_AGAIN).then_some(Self::Final { id, in_order, certified })
    }
}

impl LogParameters {
    /// The beginning of a segment.
    pub(super) fn begin_segment(&self) -> Vec<u8> {
        let coding = &self.coding;
        let code = match coding.code() {
            Code::Rs8 => 1,
            Code::Leopard16 => 2,
        };
        let numbers = [coding.data_shreds(), coding.total_shreds(), coding.shred_bytes(), coding.datagram_bytes()];
        let mut bytes = SEGMENT.header(self.cluster);
        SEGMENT.append_frame(&mut bytes, |to| {
            to.extend_from_slice(&[PARAMETERS, code]);
            let numbers = numbers.into_iter().chain([self.validators]);
            numbers.for_each(|number| to.extend_from_slice(&(number as u32).to_le_bytes()));
        });
        bytes
    }

    /// Those of a record.
    pub(super) fn of(record: &[u8], cluster: ClusterId) -> Option<Self> {
        let (&[kind, code], numbers) = record.split_first_chunk()?;
        let (numbers, []) = numbers.as_chunks::<4>() else { return None };
        let numbers: Vec<usize> = numbers.iter().map(|number| u32::from_le_bytes(*number) as usize).collect();
        let &[data, total, shred_bytes, datagram_bytes, validators] = numbers.as_slice() else { return None };
        let code = match code {
            1 => Code::Rs8,
            2 => Code::Leopard16,
            _ => return None,
        };
        let coding = CodingParameters::new(code, data, total, shred_bytes, datagram_bytes).ok()?;
        (kind == PARAMETERS && validators <= VALIDATORS_MAX).then_some(Self { cluster, coding, validators })
    }
}

/// The bytes of a block's record that [`alpenglow_control::block_log::decode_block`] reads.
pub(super) fn block_of(record: &[u8]) -> Option<&[u8]> {
    record.split_first().filter(|(kind, _)| **kind == BLOCK).map(|(_, body)| body)
}

/// The certificates in a record, of a set of `validators`.
pub(super) fn certificates_of(record: &[u8], validators: usize) -> Option<Vec<Arc<Certificate>>> {
    let certificates = record.get(1 + ID_BYTES..)?;
    if certificates.is_empty() {
        return Some(Vec::new());
    }
    match Entry::decode(certificates, validators) {
        Ok(Entry::Finalized(certificates)) => Some(certificates),
        _ => None,
    }
}

/// Whether a block is short enough to be kept.
pub(super) fn fits(block: &Block) -> bool {
    encoded_bytes(block) < RECORD_BYTES_MAX
}

/// Appends the frame of a block.
pub(super) fn frame_block(block: &Block, to: &mut Vec<u8>) {
    SEGMENT.append_frame(to, |to| {
        to.push(BLOCK);
        encode_block(block, to);
    });
}

/// Appends the frame that says that a block is final.
pub(super) fn frame_final(id: BlockId, certificates: &[Arc<Certificate>], in_order: bool, to: &mut Vec<u8>) {
    SEGMENT.append_frame(to, |to| {
        to.push(if in_order { FINAL } else { FINAL_AGAIN });
        write_id(id, to);
        if !certificates.is_empty() {
            to.extend(Entry::Finalized(certificates.to_vec()).encode());
        }
    });
}

fn write_id(id: BlockId, to: &mut Vec<u8>) {
    to.extend_from_slice(&id.slot.0.to_le_bytes());
    to.extend_from_slice(&id.hash.0);
}

fn read_id(bytes: &[u8]) -> Option<(BlockId, &[u8])> {
    let (slot, rest) = bytes.split_first_chunk()?;
    let (hash, rest) = rest.split_first_chunk()?;
    Some((BlockId { slot: Slot(u64::from_le_bytes(*slot)), hash: Hash(*hash) }, rest))
}

/// What is in a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Scan {
    /// Records that can be read, in order.
    pub(super) records: Vec<Placed>,
    /// What they are to be read with.
    pub(super) parameters: Option<LogParameters>,
    /// Where corruption begins that a whole frame follows.
    pub(super) corrupt: Vec<u64>,
    /// End of the last whole frame. What lies behind it was not written to its end, or is corrupt.
    pub(super) end: u64,
}

/// Looks at every frame of a segment that begins with a header of `cluster`; its cluster.
///
/// # Errors
/// [`HeaderError`] if it is none.
pub(super) fn scan(bytes: &[u8]) -> Result<(ClusterId, Scan), HeaderError> {
    let cluster = SEGMENT.read_header(bytes)?;
    let mut found = Scan { records: Vec::new(), parameters: None, corrupt: Vec::new(), end: HEADER_BYTES as u64 };
    let mut search = Search { bytes, in_vain_bytes: IN_VAIN_FILES_MAX * bytes.len() };
    let (mut at, mut spoilt) = (HEADER_BYTES, None);
    while at < bytes.len() {
        match SEGMENT.frame_at(&bytes[at..]) {
            FrameAt::Whole(record) => {
                let frame_bytes = record.len() + FRAME_HEAD_BYTES;
                let parameters = LogParameters::of(record, cluster);
                match Head::of(record) {
                    None => spoilt = spoilt.or(Some(at)),
                    Some(Head::Parameters) if parameters.is_none() => spoilt = spoilt.or(Some(at)),
                    Some(head) => {
                        found.corrupt.extend(spoilt.take().map(|at| at as u64));
                        found.parameters = parameters.or(found.parameters);
                        if head != Head::Parameters {
                            found.records.push(Placed { at: at as u64, frame_bytes: frame_bytes as u32, head });
                        }
                    }
                }
                at += frame_bytes;
                found.end = at as u64;
            }
            FrameAt::Spoilt(frame_bytes) => {
                spoilt = spoilt.or(Some(at));
                at += frame_bytes;
            }
            FrameAt::NoHead | FrameAt::CutShort => {
                spoilt = spoilt.or(Some(at));
                let Some(next) = search.next_frame(at + 1) else { break };
                at = next;
            }
        }
    }
    // A whole frame that says nothing was written all the same.
    found.corrupt.extend(spoilt.map(|at| at as u64).filter(|at| *at < found.end));
    Ok((cluster, found))
}

/// How many times the length of a segment is read for frames that are none.
const IN_VAIN_FILES_MAX: usize = 8;

/// Looks for frames behind a spoilt head.
struct Search<'b> {
    bytes: &'b [u8],
    /// Bytes that may still be read for a checksum that turns out to be another one. Beginnings of frames that are none are
    /// rarer than one in a segment, unless somebody made them; then what follows them is lost, rather than the time of a start.
    in_vain_bytes: usize,
}

impl Search<'_> {
    /// Where the next whole frame begins that holds something. Its head's checksum tells it from what is inside a spoilt one.
    fn next_frame(&mut self, from: usize) -> Option<usize> {
        for at in from..self.bytes.len().saturating_sub(FRAME_HEAD_BYTES) {
            // Without the checksum for most bytes that are inside a record.
            if !(BLOCK..=PARAMETERS).contains(&self.bytes[at + FRAME_HEAD_BYTES]) {
                continue;
            }
            match SEGMENT.frame_at(&self.bytes[at..]) {
                FrameAt::Whole([_, ..]) => return Some(at),
                FrameAt::Spoilt(bytes) => self.in_vain_bytes = self.in_vain_bytes.checked_sub(bytes)?,
                FrameAt::Whole([]) | FrameAt::CutShort | FrameAt::NoHead => {}
            }
        }
        None
    }
}

/// The file of an index: for a segment of `segment_bytes`.
pub(super) fn encode_index(cluster: ClusterId, segment_bytes: u64, records: &[Placed]) -> Vec<u8> {
    let mut file = INDEX.header(cluster);
    INDEX.append_frame(&mut file, |to| {
        to.extend_from_slice(&segment_bytes.to_le_bytes());
        for Placed { at, frame_bytes, head } in records {
            let (kind, id, parent) = match *head {
                Head::Parameters => continue,
                Head::Block(BlockHead { id, parent }) => (BLOCK, id, parent),
                Head::Final { id, in_order, certified } => {
                    let certified = BlockId { slot: Slot(certified.into()), ..BlockId::GENESIS };
                    (if in_order { FINAL } else { FINAL_AGAIN }, id, certified)
                }
            };
            to.push(kind);
            to.extend_from_slice(&at.to_le_bytes());
            to.extend_from_slice(&frame_bytes.to_le_bytes());
            write_id(id, to);
            write_id(parent, to);
        }
    });
    file
}

/// What an index says, if it is one of that cluster and of a segment so long.
pub(super) fn decode_index(bytes: &[u8], cluster: ClusterId, segment_bytes: u64) -> Option<Vec<Placed>> {
    if INDEX.read_header(bytes) != Ok(cluster) {
        return None;
    }
    let FrameAt::Whole(record) = INDEX.frame_at(&bytes[HEADER_BYTES..]) else { return None };
    let (of_bytes, entries) = record.split_first_chunk()?;
    if u64::from_le_bytes(*of_bytes) != segment_bytes {
        return None;
    }
    let (entries, []) = entries.as_chunks::<{ 1 + 8 + 4 + 2 * ID_BYTES }>() else { return None };
    entries.iter().map(|entry| decode_entry(entry, segment_bytes)).collect()
}

fn decode_entry(entry: &[u8], segment_bytes: u64) -> Option<Placed> {
    let (&kind, rest) = entry.split_first()?;
    let (at, rest) = rest.split_first_chunk()?;
    let (frame_bytes, rest) = rest.split_first_chunk()?;
    let (at, frame_bytes) = (u64::from_le_bytes(*at), u32::from_le_bytes(*frame_bytes));
    let (id, rest) = read_id(rest)?;
    let (parent, _) = read_id(rest)?;
    let head = match kind {
        BLOCK => Head::Block(BlockHead { id, parent }),
        FINAL | FINAL_AGAIN => Head::Final { id, in_order: kind == FINAL, certified: parent.slot.0 != 0 },
        _ => return None,
    };
    let is_inside = at.checked_add(frame_bytes.into()).is_some_and(|end| end <= segment_bytes);
    (is_inside && at >= HEADER_BYTES as u64).then_some(Placed { at, frame_bytes, head })
}
