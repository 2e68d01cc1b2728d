//! Answers to others' requests, from the blocks that are held. Only authenticated validators are answered, and at the
//! address that the genesis file or the config gives them, so nobody can have answers sent to somebody else; how much
//! each of them gets, and all together, is bounded all the same.

use std::collections::VecDeque;
use std::sync::Arc;

use alpenglow_rotor::merkle;
use alpenglow_rotor::parameters::CodingParameters;
use alpenglow_rotor::recoder::{EncodedSlice, Recoder};
use alpenglow_rotor::types::{BlockId, Hash, ShredIndex, SliceIndex, Time, ValidatorIndex};

use super::budget::{Allowance, Budget};
use super::proofs;
use super::wire::{
    ANCESTORS_PER_ANSWER, AnswerContent, REPAIR_BODY_BYTES_MAX, RepairAnswer, RepairRequest, SHREDS_PER_REQUEST,
    ShredPart, Want, part_bytes,
};
use crate::block::Block;

/// Encoded slices at hand. A slice is asked for in a burst: by one validator for all of its shreds, by several when
/// many miss the same block.
const ENCODED_MAX: usize = 16;

/// Where blocks are found by what repair asks for: in memory, or in a log.
pub trait BlockSource {
    /// The complete block of that identity, if it is at hand.
    fn block(&self, id: BlockId) -> Option<Arc<Block>>;
}

/// What others may take.
#[derive(Clone, Copy, Debug)]
pub struct ServingLimits {
    /// Requests of one validator.
    pub requests: Allowance,
    /// Bytes for one validator. A slice that must be encoded counts whole, however few of its shreds are asked for.
    pub peer_bytes: Allowance,
    /// Bytes for all.
    pub bytes: Allowance,
}

impl Default for ServingLimits {
    /// All together at most 32 MiB/s: a quarter of a gigabit, and an eighth of a core for encoding.
    fn default() -> Self {
        Self {
            requests: Allowance { per_second: 1_024, burst: 1_024 },
            peer_bytes: Allowance { per_second: 8 << 20, burst: 8 << 20 },
            bytes: Allowance { per_second: 32 << 20, burst: 32 << 20 },
        }
    }
}

struct Peer {
    requests: Budget,
    bytes: Budget,
}

/// See the module.
pub struct Responder {
    coding: CodingParameters,
    peers: Vec<Peer>,
    bytes: Budget,
    recoder: Recoder,
    encoded: VecDeque<(BlockId, SliceIndex, EncodedSlice)>,
    served: u64,
}

impl Responder {
    /// For the requests of so many validators.
    #[must_use]
    pub fn new(limits: ServingLimits, coding: CodingParameters, recoder: Recoder, validators: usize) -> Self {
        let peer = || Peer { requests: Budget::new(limits.requests), bytes: Budget::new(limits.peer_bytes) };
        Self {
            coding,
            peers: (0..validators).map(|_| peer()).collect(),
            bytes: Budget::new(limits.bytes),
            recoder,
            encoded: VecDeque::with_capacity(ENCODED_MAX),
            served: 0,
        }
    }

    /// The answers to a request of the validator that authenticated it.
    ///
    /// # Errors
    /// The reason to count why there are none.
    pub fn answer(
        &mut self,
        now: Time,
        request: &RepairRequest,
        sender: ValidatorIndex,
        source: &dyn BlockSource,
    ) -> Result<Vec<RepairAnswer>, &'static str> {
        self.admit(now, sender)?;
        self.answer_admitted(now, request, sender, source)
    }

    /// Whether a request of the validator that authenticated it is to be answered, by [`Self::answer_admitted`], at
    /// once or later.
    ///
    /// # Errors
    /// The reason to count why it is not.
    pub fn admit(&mut self, now: Time, sender: ValidatorIndex) -> Result<(), &'static str> {
        let peer = self.peers.get_mut(sender.get()).ok_or("repair_request_sender")?;
        if !peer.requests.has(now, 1) {
            return Err("repair_request_over_budget");
        }
        peer.requests.spend(1);
        Ok(())
    }

    /// A block of so many bytes had to be read for a request that was admitted.
    pub fn charge(&mut self, sender: ValidatorIndex, bytes: usize) {
        self.peers[sender.get()].bytes.spend(bytes as u64);
        self.bytes.spend(bytes as u64);
    }

    /// The answers to a request that was admitted.
    ///
    /// # Errors
    /// The reason to count why there are none.
    pub fn answer_admitted(
        &mut self,
        now: Time,
        request: &RepairRequest,
        sender: ValidatorIndex,
        source: &dyn BlockSource,
    ) -> Result<Vec<RepairAnswer>, &'static str> {
        let contents = match source.block(request.block) {
            Some(block) => self.contents(now, request, sender, &block, source)?,
            None => {
                self.spend(now, sender, REPAIR_BODY_BYTES_MAX)?;
                vec![AnswerContent::NotHeld]
            }
        };
        self.served += 1;
        Ok(contents.into_iter().map(|content| RepairAnswer { id: request.id, content }).collect())
    }

    /// Requests answered since the start.
    #[must_use]
    pub const fn served(&self) -> u64 {
        self.served
    }

    fn contents(
        &mut self,
        now: Time,
        request: &RepairRequest,
        sender: ValidatorIndex,
        block: &Block,
        source: &dyn BlockSource,
    ) -> Result<Vec<AnswerContent>, &'static str> {
        if let Want::Shreds { slice, first, mask } = request.want {
            return self.shreds(now, sender, block, slice, first, mask);
        }
        self.spend(now, sender, 2 * REPAIR_BODY_BYTES_MAX)?;
        if request.want == Want::Ancestors {
            return Ok(vec![AnswerContent::Ancestors { blocks: ancestors(block, source) }]);
        }
        let roots: Vec<Hash> = block.slices.iter().map(|slice| slice.root).collect();
        let of_group = |group: u16| {
            let (roots, path) = proofs::prove_group(&roots, usize::from(group))?;
            Some(AnswerContent::Roots { group, roots, path })
        };
        let contents = match request.want {
            Want::Roots { group } => of_group(group).into_iter().collect(),
            _ => {
                let index = SliceIndex::new(roots.len() - 1).expect("a block has as many slices as can be");
                let path = merkle::block_path(&roots, index.get());
                let last = AnswerContent::LastSlice { index, root: roots[index.get()], path };
                std::iter::once(last).chain(of_group(0)).collect::<Vec<_>>()
            }
        };
        if contents.is_empty() { Err("repair_request_invalid") } else { Ok(contents) }
    }

    fn shreds(
        &mut self,
        now: Time,
        sender: ValidatorIndex,
        block: &Block,
        slice: SliceIndex,
        first: u16,
        mask: u32,
    ) -> Result<Vec<AnswerContent>, &'static str> {
        let held = block.slices.get(slice.get()).ok_or("repair_request_invalid")?;
        let wanted: Vec<usize> =
            (0..SHREDS_PER_REQUEST).filter(|bit| mask >> bit & 1 == 1).map(|bit| usize::from(first) + bit).collect();
        if wanted.is_empty() || wanted.iter().any(|index| *index >= self.coding.total_shreds()) {
            return Err("repair_request_invalid");
        }
        self.spend(now, sender, slice_cost(&self.coding) as usize)?;
        let at = self.encode(block.id, slice, held.leader_stamp_ns, &held.payload);
        let encoded = &self.encoded[at].2;
        let part_bytes = part_bytes(&self.coding);
        let parts = |index: usize| {
            let path: Vec<[u8; 32]> = encoded.path(index).copied().collect();
            encoded.data(index).chunks(part_bytes).enumerate().map(move |(part, data)| {
                AnswerContent::Shred(ShredPart {
                    index: ShredIndex(index as u16),
                    data_bytes: encoded.shred_bytes() as u16,
                    part: part as u8,
                    path: path.clone(),
                    data: data.to_vec(),
                })
            })
        };
        Ok(wanted.into_iter().flat_map(parts).collect())
    }

    fn spend(&mut self, now: Time, sender: ValidatorIndex, bytes: usize) -> Result<(), &'static str> {
        let cost = bytes as u64;
        let peer = &mut self.peers[sender.get()].bytes;
        if !peer.has(now, cost) || !self.bytes.has(now, cost) {
            return Err("repair_request_over_budget");
        }
        peer.spend(cost);
        self.bytes.spend(cost);
        Ok(())
    }

    /// Where the encoded slice is; the one encoded longest ago makes room.
    fn encode(&mut self, block: BlockId, slice: SliceIndex, leader_stamp_ns: u64, payload: &[u8]) -> usize {
        if let Some(at) = self.encoded.iter().position(|(id, index, _)| *id == block && *index == slice) {
            return at;
        }
        if self.encoded.len() >= ENCODED_MAX {
            self.encoded.pop_front();
        }
        self.encoded.push_back((block, slice, self.recoder.encode(leader_stamp_ns, payload)));
        self.encoded.len() - 1
    }
}

/// The blocks that this one descends from, from its parent down to the first one that is not at hand.
fn ancestors(block: &Block, source: &dyn BlockSource) -> Vec<BlockId> {
    let parent_of = |block: &BlockId| source.block(*block).map(|block| block.parent);
    std::iter::successors(Some(block.parent), parent_of).take(ANCESTORS_PER_ANSWER).collect()
}

/// What a request for shreds costs at most: both sides reckon with it.
pub(super) const fn slice_cost(coding: &CodingParameters) -> u64 {
    let parts = coding.shred_bytes().div_ceil(part_bytes(coding));
    let sent = SHREDS_PER_REQUEST * parts * REPAIR_BODY_BYTES_MAX;
    let encoded = coding.data_shreds() * coding.shred_bytes();
    (if sent > encoded { sent } else { encoded }) as u64
}
