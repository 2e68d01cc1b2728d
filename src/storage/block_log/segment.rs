//! One segment and its index, as bytes.
//!
//! ```text
//! segment:      header, then for each record: mark 8 | frame, as in `frames.rs`
//! the first:    4 | code u8 | data, total, shred bytes, datagram bytes, validators u32 | mark 8
//! index:        header and one frame: bytes of the segment u64 | for each record but the first:
//!               its first byte | where its frame begins u64 | bytes of the frame u32 | slot u64, hash 32 | parent: slot u64, hash 32
//! ```
//! **The mark** is random, another one in each segment. Behind a place that is corrupt, frames are found again by it:
//! leaders make what is in the records, and could put a frame there with checksums that are right, but never with the
//! mark, which they do not know. It stands at a fixed place and in the first record, so one of both may be spoilt. If
//! both are, or the header is, the index tells where the records are; without the index too, nothing in the segment is
//! believed.
//!
//! Segments of version 1 have no marks. They are read up to the first place where a frame's head is corrupt.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use alpenglow_control::block::Block;
use alpenglow_control::block_log::{BlockHead, decode_head, encode_block, encoded_bytes};
use alpenglow_control::certificate::Certificate;
use alpenglow_control::vote_record::Entry;
use alpenglow_rotor::parameters::{Code, CodingParameters};
use alpenglow_rotor::types::{BlockId, ClusterId, Hash, Slot, VALIDATORS_MAX};

use super::SEGMENT_BYTES_MAX;
use crate::storage::frames::{FRAME_HEAD_BYTES, Format, FrameAt, HEADER_BYTES, HeaderError, Tail};
use crate::storage::vote_log;

/// Longest block that is kept: what a node holds of repaired blocks, and some for what is around them.
pub(super) const RECORD_BYTES_MAX: usize = 80 << 20;
/// Longest record that a block is final: certificates that fit the vote log too.
const FINAL_RECORD_BYTES_MAX: usize = 1 + ID_BYTES + vote_log::FORMAT.record_bytes_max;

/// A segment. A later version of this program raises the version when it writes records that this one does not know.
pub(super) const SEGMENT: Format = Format {
    magic: *b"agblocks",
    version: 2,
    record_bytes_max: RECORD_BYTES_MAX,
    file_bytes_max: {
        let of_one_block = BEGIN_BYTES
            + (MARK_BYTES + FRAME_HEAD_BYTES + RECORD_BYTES_MAX)
            + (MARK_BYTES + FRAME_HEAD_BYTES + FINAL_RECORD_BYTES_MAX);
        if of_one_block as u64 > SEGMENT_BYTES_MAX { of_one_block as u64 } else { SEGMENT_BYTES_MAX }
    },
    tail: Tail::Spoilt,
};
/// One without marks.
pub(super) const FORMER_SEGMENT: Format = Format { version: 1, ..SEGMENT };
/// Its index, which has a single record.
pub(super) const INDEX: Format = Format {
    magic: *b"agbindex",
    version: 1,
    record_bytes_max: INDEX_RECORD_BYTES_MAX,
    file_bytes_max: (HEADER_BYTES + FRAME_HEAD_BYTES + INDEX_RECORD_BYTES_MAX) as u64,
    tail: Tail::Spoilt,
};
/// Of a segment so long as any, full of the shortest records that an index names.
const INDEX_RECORD_BYTES_MAX: usize =
    8 + SEGMENT.file_bytes_max as usize / (FRAME_HEAD_BYTES + 1 + ID_BYTES) * INDEX_ENTRY_BYTES;
const INDEX_ENTRY_BYTES: usize = 1 + 8 + 4 + 2 * ID_BYTES;

const BLOCK: u8 = 1;
const FINAL: u8 = 2;
const FINAL_AGAIN: u8 = 3;
const PARAMETERS: u8 = 4;
const ID_BYTES: usize = 8 + 32;
const PARAMETERS_BYTES: usize = 5 * 4;

pub(super) const MARK_BYTES: usize = 8;
/// How a segment begins: its header and first record.
pub(super) const BEGIN_BYTES: usize = HEADER_BYTES + MARK_BYTES + FRAME_HEAD_BYTES + 2 + PARAMETERS_BYTES + MARK_BYTES;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark(pub(super) [u8; MARK_BYTES]);

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

/// A record and the place of its frame, behind its mark.
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

impl Mark {
    /// A new one.
    ///
    /// # Errors
    /// When the operating system has no randomness.
    pub(super) fn random() -> io::Result<Self> {
        let mut bytes = [0; MARK_BYTES];
        getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
        Ok(Self(bytes))
    }

    /// That of a segment, if one of its two places is as it was written.
    fn of(segment: &[u8]) -> Option<Self> {
        let (at_front, frame) = segment[HEADER_BYTES..].split_first_chunk()?;
        let in_record = match SEGMENT.frame_at(frame) {
            FrameAt::Whole(record) => record.last_chunk(),
            _ => None,
        };
        Some(Self(*in_record.unwrap_or(at_front)))
    }

    /// Where it stands next.
    fn find(self, bytes: &[u8], from: usize) -> Option<usize> {
        bytes[from..].windows(MARK_BYTES).position(|window| window == self.0).map(|at| from + at)
    }

    /// Writes it before a frame that was appended behind room for it.
    pub(super) fn put(self, frame: &Range<usize>, to: &mut [u8]) {
        to[frame.start - MARK_BYTES..frame.start].copy_from_slice(&self.0);
    }
}

impl LogParameters {
    /// The beginning of a segment.
    pub(super) fn begin_segment(&self, mark: Mark) -> Vec<u8> {
        let coding = &self.coding;
        let code = match coding.code() {
            Code::Rs8 => 1,
            Code::Leopard16 => 2,
        };
        let numbers = [coding.data_shreds(), coding.total_shreds(), coding.shred_bytes(), coding.datagram_bytes()];
        let mut bytes = SEGMENT.header(self.cluster);
        let frame = append_frame(&mut bytes, |to| {
            to.extend_from_slice(&[PARAMETERS, code]);
            let numbers = numbers.into_iter().chain([self.validators]);
            numbers.for_each(|number| to.extend_from_slice(&(number as u32).to_le_bytes()));
            to.extend_from_slice(&mark.0);
        });
        mark.put(&frame, &mut bytes);
        assert_eq!(bytes.len(), BEGIN_BYTES);
        bytes
    }

    /// Those of a record.
    pub(super) fn of(record: &[u8], cluster: ClusterId) -> Option<Self> {
        let (&[kind, code], rest) = record.split_first_chunk()?;
        let (numbers, mark) = rest.split_first_chunk::<PARAMETERS_BYTES>()?;
        // Version 1 has none.
        if ![0, MARK_BYTES].contains(&mark.len()) {
            return None;
        }
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

/// Appends the frame of a block behind room for its mark; where the frame is.
pub(super) fn frame_block(block: &Block, to: &mut Vec<u8>) -> Range<usize> {
    append_frame(to, |to| {
        to.push(BLOCK);
        encode_block(block, to);
    })
}

/// Appends the frame that says that a block is final behind room for its mark; where the frame is.
pub(super) fn frame_final(
    id: BlockId,
    certificates: &[Arc<Certificate>],
    in_order: bool,
    to: &mut Vec<u8>,
) -> Range<usize> {
    append_frame(to, |to| {
        to.push(if in_order { FINAL } else { FINAL_AGAIN });
        write_id(id, to);
        if !certificates.is_empty() {
            to.extend(Entry::Finalized(certificates.to_vec()).encode());
        }
    })
}

fn append_frame(to: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) -> Range<usize> {
    to.extend_from_slice(&[0; MARK_BYTES]);
    let start = to.len();
    SEGMENT.append_frame(to, write);
    start..to.len()
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
    /// Its mark; `None` if its version has none.
    pub(super) mark: Option<Mark>,
    /// Records that can be read, in order.
    pub(super) records: Vec<Placed>,
    /// What they are to be read with.
    pub(super) parameters: Option<LogParameters>,
    /// Where corruption begins that a whole frame follows.
    pub(super) corrupt: Vec<u64>,
    /// End of the last whole frame. What lies behind it was not written to its end, or is corrupt.
    pub(super) end: u64,
}

/// The cluster of a segment that begins with these bytes, [`BEGIN_BYTES`] of them or all that there are.
///
/// # Errors
/// [`HeaderError`] if it is none, or a crash cut it off while it was made.
pub(super) fn read_header(bytes: &[u8]) -> Result<ClusterId, HeaderError> {
    match SEGMENT.read_header(bytes) {
        Err(HeaderError::Version { found, .. }) if found == FORMER_SEGMENT.version => FORMER_SEGMENT.read_header(bytes),
        Ok(_) if bytes.len() < BEGIN_BYTES => Err(HeaderError::Short(bytes.len())),
        read => read,
    }
}

/// Looks at every frame of a segment; its cluster.
///
/// # Errors
/// As [`read_header`], and if nothing in it can be read.
pub(super) fn scan(bytes: &[u8]) -> Result<(ClusterId, Scan), HeaderError> {
    let cluster = read_header(bytes)?;
    let mark = SEGMENT.read_header(bytes).ok().and_then(|_| Mark::of(bytes));
    let before = mark.as_ref().map_or(&[][..], |mark| &mark.0);
    let end = HEADER_BYTES as u64;
    let mut found = Scan { mark, records: Vec::new(), parameters: None, corrupt: Vec::new(), end };
    let (mut at, mut spoilt) = (HEADER_BYTES, None);
    while at < bytes.len() {
        let frame_at = at + before.len();
        let frame = bytes[at..].strip_prefix(before);
        match frame.map_or(FrameAt::NoHead, |frame| SEGMENT.frame_at(frame)) {
            FrameAt::Whole(record) => {
                let frame_bytes = record.len() + FRAME_HEAD_BYTES;
                let parameters = LogParameters::of(record, cluster);
                match Head::of(record) {
                    None => spoilt = spoilt.or(Some(frame_at)),
                    Some(Head::Parameters) if parameters.is_none() => spoilt = spoilt.or(Some(frame_at)),
                    Some(head) => {
                        found.corrupt.extend(spoilt.take().map(|at| at as u64));
                        found.parameters = parameters.or(found.parameters);
                        if head != Head::Parameters {
                            let frame_bytes = frame_bytes as u32;
                            found.records.push(Placed { at: frame_at as u64, frame_bytes, head });
                        }
                    }
                }
                at = frame_at + frame_bytes;
                found.end = at as u64;
            }
            FrameAt::Spoilt(frame_bytes) => {
                spoilt = spoilt.or(Some(frame_at));
                at = frame_at + frame_bytes;
            }
            FrameAt::NoHead | FrameAt::CutShort => {
                spoilt = spoilt.or(Some(frame_at));
                let Some(next) = mark.and_then(|mark| mark.find(bytes, at + 1)) else { break };
                at = next;
            }
        }
    }
    if mark.is_some() && found.end == end {
        // Not even its first record: neither is the mark as it was written.
        return Err(HeaderError::Checksum);
    }
    // A whole frame that says nothing was written all the same.
    found.corrupt.extend(spoilt.map(|at| at as u64).filter(|at| *at < found.end));
    Ok((cluster, found))
}

/// Looks at the frames of a segment that its index names.
pub(super) fn scan_indexed(bytes: &[u8], indexed: &[Placed]) -> Scan {
    let is_whole = |placed: &&Placed| {
        let frame = usize::try_from(placed.at).ok().and_then(|at| bytes.get(at..));
        let is_as_told =
            |frame| matches!(SEGMENT.frame_at(frame), FrameAt::Whole(record) if Head::of(record) == Some(placed.head));
        frame.is_some_and(is_as_told)
    };
    let (records, corrupt): (Vec<Placed>, Vec<Placed>) = indexed.iter().partition(is_whole);
    let corrupt = corrupt.iter().map(|placed| placed.at).collect();
    Scan { mark: None, records, parameters: None, corrupt, end: bytes.len() as u64 }
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

/// What an index says, and of which cluster it is, if it is that of a segment so long.
pub(super) fn decode_index(bytes: &[u8], segment_bytes: u64) -> Option<(ClusterId, Vec<Placed>)> {
    let cluster = INDEX.read_header(bytes).ok()?;
    let frame = &bytes[HEADER_BYTES..];
    let FrameAt::Whole(record) = INDEX.frame_at(frame) else { return None };
    if frame.len() > FRAME_HEAD_BYTES + record.len() {
        return None;
    }
    let (of_bytes, entries) = record.split_first_chunk()?;
    if u64::from_le_bytes(*of_bytes) != segment_bytes {
        return None;
    }
    let (entries, []) = entries.as_chunks::<INDEX_ENTRY_BYTES>() else { return None };
    let records: Option<Vec<Placed>> = entries.iter().map(|entry| decode_entry(entry, segment_bytes)).collect();
    Some((cluster, records?))
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
    let is_frame = frame_bytes as usize <= FRAME_HEAD_BYTES + RECORD_BYTES_MAX;
    (is_inside && is_frame && at >= HEADER_BYTES as u64).then_some(Placed { at, frame_bytes, head })
}
