//! What nodes say to each other in repair, and the bodies of its datagrams: rkyv, validated, of exact length, with one
//! encoding for each message.

use alpenglow_rotor::merkle::DEPTH_MAX;
use alpenglow_rotor::parameters::{CodingParameters, DATAGRAM_BYTES_DEFAULT};
use alpenglow_rotor::types::{BlockId, Hash, ShredIndex, SliceIndex, Slot};
use rkyv::rancor;

use crate::message::MessageError;

/// Most bytes of a body: what the smallest datagram limit leaves beside a datagram's header of 32.
pub const REPAIR_BODY_BYTES_MAX: usize = DATAGRAM_BYTES_DEFAULT - 32;
/// Slice roots that are proven together: those under one inner node of the block's tree.
pub const ROOTS_PER_GROUP: usize = 16;
/// Shreds that one request can ask for.
pub const SHREDS_PER_REQUEST: usize = u32::BITS as usize;
/// Ancestors that one answer names at most: as many as fit a datagram.
pub const ANCESTORS_PER_ANSWER: usize = (REPAIR_BODY_BYTES_MAX - ANSWER_BYTES) / BLOCK_ID_BYTES;
/// A block's slot and hash.
const BLOCK_ID_BYTES: usize = 8 + 32;
/// Bytes of an answer besides its path and data.
const ANSWER_BYTES: usize = size_of::<ArchivedWireAnswer>();

/// Links an answer to its request; chosen by who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestId(pub u32);

/// One question about a block, to a node that may hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RepairRequest {
    /// Comes back with every answer.
    pub id: RequestId,
    /// The block.
    pub block: BlockId,
    /// What of it.
    pub want: Want,
}

/// A part of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Want {
    /// How many slices it has: the last one's root with its proof. The first group of roots is answered with it.
    LastSlice,
    /// [`ROOTS_PER_GROUP`] slice roots from `group * ROOTS_PER_GROUP` on, with their proof.
    Roots {
        /// Which group.
        group: u16,
    },
    /// Shreds of a slice: `first + i` for every bit `i` of `mask`. Each is an answer of its own.
    Shreds {
        /// The slice.
        slice: SliceIndex,
        /// The shred that bit 0 of `mask` stands for.
        first: u16,
        /// Which of the [`SHREDS_PER_REQUEST`] shreds.
        mask: u32,
    },
    /// Which blocks it descends from: its parent, and that one's, up to [`ANCESTORS_PER_ANSWER`].
    Ancestors,
}

/// A piece of what was asked for. Nothing in it is to be believed before its proof was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepairAnswer {
    /// The request's.
    pub id: RequestId,
    /// What it says.
    pub content: AnswerContent,
}

/// See [`RepairAnswer`]. Paths go from the leaf upwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnswerContent {
    /// The block is not held, or has no such part.
    NotHeld,
    /// The last slice, by which the block's length is known.
    LastSlice {
        /// Its place.
        index: SliceIndex,
        /// Its root.
        root: Hash,
        /// From the root to the block hash.
        path: Vec<Hash>,
    },
    /// A group of slice roots.
    Roots {
        /// Which group.
        group: u16,
        /// The roots, first slice first; 1 to [`ROOTS_PER_GROUP`].
        roots: Vec<Hash>,
        /// From the node above the group to the block hash.
        path: Vec<Hash>,
    },
    /// A shred, or a part of one that is too long for a datagram of the smallest limit.
    Shred(ShredPart),
    /// The block's ancestors, from its parent downwards, without gaps; 1 to [`ANCESTORS_PER_ANSWER`]. Nothing proves
    /// them but the blocks themselves.
    Ancestors {
        /// Their identities.
        blocks: Vec<BlockId>,
    },
}

/// Part of a shred's data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShredPart {
    /// The shred's place in its slice.
    pub index: ShredIndex,
    /// Bytes of the shred's data in all.
    pub data_bytes: u16,
    /// Which part: every part but the last is [`part_bytes`] long.
    pub part: u8,
    /// From the shred to its slice's root.
    pub path: Vec<[u8; 32]>,
    /// The part's bytes, at least one.
    pub data: Vec<u8>,
}

/// What a repair datagram carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RepairMessage {
    /// A question.
    Request(RepairRequest),
    /// An answer.
    Answer(RepairAnswer),
}

impl RepairMessage {
    /// The datagram's body, at most [`REPAIR_BODY_BYTES_MAX`] long.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Request(request) => encode_request(request),
            Self::Answer(answer) => encode_answer(answer),
        }
    }
}

/// Bytes of a shred's data that fit one answer.
///
/// # Panics
/// If the cluster's Merkle paths leave no room for any.
#[must_use]
pub const fn part_bytes(coding: &CodingParameters) -> usize {
    let around = ANSWER_BYTES + 32 * coding.path_nodes();
    assert!(around < REPAIR_BODY_BYTES_MAX, "paths leave no room for data");
    REPAIR_BODY_BYTES_MAX - around
}

#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct WireRequest {
    id: u32,
    slot: u64,
    hash: [u8; 32],
    want: u8,
    /// Group or slice.
    index: u16,
    first: u16,
    mask: u32,
}

#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct WireAnswer {
    id: u32,
    content: u8,
    /// Slice, group or shred.
    index: u16,
    data_bytes: u16,
    part: u8,
    path: Vec<[u8; 32]>,
    /// Roots one after the other, or bytes of a shred.
    data: Vec<u8>,
}

/// The body of a request's datagram. Who asks is not in it: it is the datagram's authenticated sender.
#[must_use]
pub fn encode_request(request: &RepairRequest) -> Vec<u8> {
    let (want, index, first, mask) = match request.want {
        Want::LastSlice => (1, 0, 0, 0),
        Want::Roots { group } => (2, group, 0, 0),
        Want::Shreds { slice, first, mask } => (3, slice_number(slice), first, mask),
        Want::Ancestors => (4, 0, 0, 0),
    };
    let BlockId { slot, hash } = request.block;
    let wire = WireRequest { id: request.id.0, slot: slot.0, hash: hash.0, want, index, first, mask };
    rkyv::to_bytes::<rancor::Error>(&wire).expect("a plain struct can be laid out").to_vec()
}

/// Reads the body of a request's datagram.
///
/// # Errors
/// [`MessageError`] for anything but the one encoding of a request.
pub fn decode_request(body: &[u8]) -> Result<RepairRequest, MessageError> {
    if body.len() != size_of::<ArchivedWireRequest>() {
        return Err(MessageError::Layout);
    }
    let wire = rkyv::access::<ArchivedWireRequest, rancor::Error>(body).map_err(|_| MessageError::Layout)?;
    let index = wire.index.to_native();
    let want = match wire.want {
        1 => Want::LastSlice,
        2 => Want::Roots { group: index },
        3 => Want::Shreds {
            slice: SliceIndex::new(usize::from(index)).ok_or(MessageError::Kind)?,
            first: wire.first.to_native(),
            mask: wire.mask.to_native(),
        },
        4 => Want::Ancestors,
        _ => return Err(MessageError::Kind),
    };
    let block = BlockId { slot: Slot(wire.slot.to_native()), hash: Hash(wire.hash) };
    let request = RepairRequest { id: RequestId(wire.id.to_native()), block, want };
    if encode_request(&request) == body { Ok(request) } else { Err(MessageError::NotCanonical) }
}

/// The body of an answer's datagram.
#[must_use]
pub fn encode_answer(answer: &RepairAnswer) -> Vec<u8> {
    let id = answer.id.0;
    let bytes = |hashes: &[Hash]| hashes.iter().map(|hash| hash.0).collect::<Vec<_>>();
    let wire = match &answer.content {
        AnswerContent::NotHeld => {
            WireAnswer { id, content: 1, index: 0, data_bytes: 0, part: 0, path: Vec::new(), data: Vec::new() }
        }
        AnswerContent::LastSlice { index, root, path } => {
            let (index, path, data) = (slice_number(*index), bytes(path), root.0.to_vec());
            WireAnswer { id, content: 2, index, data_bytes: 0, part: 0, path, data }
        }
        AnswerContent::Roots { group, roots, path } => {
            let (path, data) = (bytes(path), bytes(roots).concat());
            WireAnswer { id, content: 3, index: *group, data_bytes: 0, part: 0, path, data }
        }
        AnswerContent::Shred(shred) => {
            let ShredPart { index, data_bytes, part, path, data } = shred.clone();
            WireAnswer { id, content: 4, index: index.0, data_bytes, part, path, data }
        }
        AnswerContent::Ancestors { blocks } => {
            let data =
                blocks.iter().flat_map(|block| [&block.slot.0.to_le_bytes()[..], &block.hash.0].concat()).collect();
            WireAnswer { id, content: 5, index: 0, data_bytes: 0, part: 0, path: Vec::new(), data }
        }
    };
    rkyv::to_bytes::<rancor::Error>(&wire).expect("a plain struct can be laid out").to_vec()
}

/// Reads the body of an answer's datagram.
///
/// # Errors
/// [`MessageError`] for anything but the one encoding of an answer.
pub fn decode_answer(body: &[u8]) -> Result<RepairAnswer, MessageError> {
    if body.len() > REPAIR_BODY_BYTES_MAX {
        return Err(MessageError::Layout);
    }
    let wire = rkyv::access::<ArchivedWireAnswer, rancor::Error>(body).map_err(|_| MessageError::Layout)?;
    let index = wire.index.to_native();
    let hashes = || wire.path.iter().copied().map(Hash).collect::<Vec<_>>();
    let content = match wire.content {
        1 => AnswerContent::NotHeld,
        2 | 3 if wire.path.len() > DEPTH_MAX => return Err(MessageError::Kind),
        2 => AnswerContent::LastSlice {
            index: SliceIndex::new(usize::from(index)).ok_or(MessageError::Kind)?,
            root: Hash(wire.data.as_slice().try_into().map_err(|_| MessageError::Kind)?),
            path: hashes(),
        },
        3 => {
            let (roots, rest) = wire.data.as_slice().as_chunks();
            if !rest.is_empty() || !(1..=ROOTS_PER_GROUP).contains(&roots.len()) {
                return Err(MessageError::Kind);
            }
            AnswerContent::Roots { group: index, roots: roots.iter().copied().map(Hash).collect(), path: hashes() }
        }
        4 if !wire.data.is_empty() => AnswerContent::Shred(ShredPart {
            index: ShredIndex(index),
            data_bytes: wire.data_bytes.to_native(),
            part: wire.part,
            path: wire.path.to_vec(),
            data: wire.data.to_vec(),
        }),
        5 => AnswerContent::Ancestors { blocks: block_ids(&wire.data)? },
        _ => return Err(MessageError::Kind),
    };
    let answer = RepairAnswer { id: RequestId(wire.id.to_native()), content };
    if encode_answer(&answer) == body { Ok(answer) } else { Err(MessageError::NotCanonical) }
}

fn block_ids(bytes: &[u8]) -> Result<Vec<BlockId>, MessageError> {
    let (blocks, rest) = bytes.as_chunks::<BLOCK_ID_BYTES>();
    if !rest.is_empty() || !(1..=ANCESTORS_PER_ANSWER).contains(&blocks.len()) {
        return Err(MessageError::Kind);
    }
    let block_id = |bytes: &[u8; BLOCK_ID_BYTES]| {
        let (slot, hash) = bytes.split_first_chunk().expect("a slot is shorter than a slot and a hash");
        let hash = hash.try_into().expect("a hash is what is left");
        BlockId { slot: Slot(u64::from_le_bytes(*slot)), hash: Hash(hash) }
    };
    Ok(blocks.iter().map(block_id).collect())
}

fn slice_number(index: SliceIndex) -> u16 {
    u16::try_from(index.get()).expect("a slice index is below 1,024")
}

#[cfg(test)]
mod tests {
    use alpenglow_rotor::parameters::Code;
    use alpenglow_rotor::types::SLICES_MAX;
    use proptest::prelude::*;

    use super::*;

    fn block() -> impl Strategy<Value = BlockId> {
        (any::<u64>(), any::<[u8; 32]>()).prop_map(|(slot, hash)| BlockId { slot: Slot(slot), hash: Hash(hash) })
    }

    fn slice() -> impl Strategy<Value = SliceIndex> {
        (0..SLICES_MAX).prop_map(|index| SliceIndex::new(index).unwrap())
    }

    fn request() -> impl Strategy<Value = RepairRequest> {
        let want = prop_oneof![
            Just(Want::LastSlice),
            any::<u16>().prop_map(|group| Want::Roots { group }),
            (slice(), any::<u16>(), any::<u32>()).prop_map(|(slice, first, mask)| Want::Shreds { slice, first, mask }),
            Just(Want::Ancestors),
        ];
        (any::<u32>(), block(), want).prop_map(|(id, block, want)| RepairRequest { id: RequestId(id), block, want })
    }

    fn hashes(count: std::ops::RangeInclusive<usize>) -> impl Strategy<Value = Vec<Hash>> {
        prop::collection::vec(any::<[u8; 32]>().prop_map(Hash), count)
    }

    fn answer() -> impl Strategy<Value = RepairAnswer> {
        let last = (slice(), any::<[u8; 32]>(), hashes(0..=DEPTH_MAX))
            .prop_map(|(index, root, path)| AnswerContent::LastSlice { index, root: Hash(root), path });
        let roots = (any::<u16>(), hashes(1..=ROOTS_PER_GROUP), hashes(0..=DEPTH_MAX))
            .prop_map(|(group, roots, path)| AnswerContent::Roots { group, roots, path });
        let shred =
            (any::<u16>(), any::<u16>(), any::<u8>(), prop::collection::vec(any::<[u8; 32]>(), 0..10), 1..800usize)
                .prop_map(|(index, data_bytes, part, path, length)| {
                    let index = ShredIndex(index);
                    AnswerContent::Shred(ShredPart { index, data_bytes, part, path, data: vec![part; length] })
                });
        let ancestors = prop::collection::vec(block(), 1..=ANCESTORS_PER_ANSWER)
            .prop_map(|blocks| AnswerContent::Ancestors { blocks });
        let content = prop_oneof![Just(AnswerContent::NotHeld), last, roots, shred, ancestors];
        (any::<u32>(), content).prop_map(|(id, content)| RepairAnswer { id: RequestId(id), content })
    }

    #[test]
    fn the_bytes_of_a_request_stay_what_they_are() {
        let block = BlockId { slot: Slot(0x0102), hash: Hash([0xab; 32]) };
        let want = Want::Shreds { slice: SliceIndex::new(0x0103).unwrap(), first: 0x0104, mask: 0x0105 };
        let body = encode_request(&RepairRequest { id: RequestId(0x0106), block, want });
        let mut golden = vec![6, 1, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0];
        golden.extend([0xab; 32]);
        golden.extend([3, 3, 1, 4, 1, 5, 1, 0, 0]);
        assert_eq!(body, golden);
    }

    #[test]
    fn the_longest_answers_fit_the_smallest_datagram() {
        let longest_roots = AnswerContent::Roots {
            group: u16::MAX,
            roots: vec![Hash([0xff; 32]); ROOTS_PER_GROUP],
            path: vec![Hash([0xff; 32]); DEPTH_MAX],
        };
        assert!(
            encode_answer(&RepairAnswer { id: RequestId(1), content: longest_roots }).len() <= REPAIR_BODY_BYTES_MAX
        );
        let ancestors = |count| AnswerContent::Ancestors { blocks: vec![BlockId::GENESIS; count] };
        let ancestors = |count| encode_answer(&RepairAnswer { id: RequestId(1), content: ancestors(count) });
        assert!(ancestors(ANCESTORS_PER_ANSWER).len() <= REPAIR_BODY_BYTES_MAX);
        assert!(decode_answer(&ancestors(ANCESTORS_PER_ANSWER)).is_ok());
        assert_eq!(decode_answer(&ancestors(0)), Err(MessageError::Kind));
        assert_eq!(decode_answer(&ancestors(ANCESTORS_PER_ANSWER + 1)), Err(MessageError::Layout));
        for (data_shreds, total_shreds, shred_bytes) in [(32, 64, 896), (32, 64, 928), (1, 2, 1_088), (100, 255, 800)] {
            let coding = CodingParameters::new(Code::Rs8, data_shreds, total_shreds, shred_bytes, 1_232).unwrap();
            let part = ShredPart {
                index: ShredIndex(0),
                data_bytes: 0,
                part: 0,
                path: vec![[0; 32]; coding.path_nodes()],
                data: vec![0; part_bytes(&coding)],
            };
            let answer = RepairAnswer { id: RequestId(1), content: AnswerContent::Shred(part) };
            assert_eq!(encode_answer(&answer).len(), REPAIR_BODY_BYTES_MAX);
            assert!(coding.shred_bytes() <= part_bytes(&coding), "one datagram for each shred of the smallest limit");
        }
    }

    #[test]
    fn stray_fields_and_unknown_kinds_are_refused() {
        let block = BlockId { slot: Slot(1), hash: Hash([1; 32]) };
        let body = encode_request(&RepairRequest { id: RequestId(1), block, want: Want::LastSlice });
        let with = |at: usize, byte: u8| {
            let mut body = body.clone();
            body[at] = byte;
            decode_request(&body)
        };
        assert_eq!(with(44, 0), Err(MessageError::Kind));
        assert_eq!(with(44, 5), Err(MessageError::Kind));
        assert_eq!(with(45, 1), Err(MessageError::NotCanonical));
        let not_held = encode_answer(&RepairAnswer { id: RequestId(1), content: AnswerContent::NotHeld });
        for (at, byte, error) in
            [(4, 0, MessageError::Kind), (4, 6, MessageError::Kind), (5, 1, MessageError::NotCanonical)]
        {
            let mut body = not_held.clone();
            body[at] = byte;
            assert_eq!(decode_answer(&body), Err(error));
        }
    }

    proptest! {
        #[test]
        fn requests_round_trip_and_cut_ones_are_refused(request in request(), cut in 0usize..53) {
            let body = encode_request(&request);
            prop_assert_eq!(decode_request(&body), Ok(request));
            prop_assert!(decode_request(&body[..cut]).is_err());
            prop_assert!(decode_request(&[&body[..], &[0]].concat()).is_err());
        }

        #[test]
        fn answers_round_trip_and_cut_ones_are_refused(answer in answer(), cut: prop::sample::Index) {
            let body = encode_answer(&answer);
            prop_assert_eq!(decode_answer(&body), Ok(answer));
            prop_assert!(decode_answer(&body[..cut.index(body.len())]).is_err());
            prop_assert!(decode_answer(&[&[0], &body[..]].concat()).is_err());
        }

        #[test]
        fn any_bytes_are_read_or_refused_without_a_panic(body in prop::collection::vec(prop_oneof![0..5u8, any::<u8>()], 0..200)) {
            if let Ok(request) = decode_request(&body) {
                prop_assert_eq!(encode_request(&request), body.clone());
            }
            if let Ok(answer) = decode_answer(&body) {
                prop_assert_eq!(encode_answer(&answer), body);
            }
        }
    }
}
